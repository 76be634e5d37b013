"""Makes a model of a specification that the user writes: weights of a known network, a TorchScript or an ONNX file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError, field_validator

from voxflow.adopt.model import AdoptedModel
from voxflow.adopt.programs import is_torchscript, read_onnx, read_torchscript
from voxflow.components import Component, build_network, build_transform, complete_network, find_component, read_network
from voxflow.errors import LIBRARY_ERRORS, ConfigError, DataError, InputError, MissingDependencyError
from voxflow.files import read_text
from voxflow.findings import FindingCollector
from voxflow.spec import ModelSpec, TransformSpec
from voxflow.texts import escape, parse_yaml
from voxflow.training import load_weights, read_weights

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

# How far the sum of a voxel's probabilities may be from 1.
_ROUNDING = 1e-3
# What the model file's specification calls alike.
SHARED_KEYS = {
    "spacing_mm",
    "orientation",
    "interpolation",
    "window",
    "overlap",
    "regions",
    "activation",
    "modality",
}
Side = Annotated[int, Field(gt=0, le=1024)]
Millimetres = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class NamedArguments(BaseModel):
    """A component of the registry.

    Attributes:
        name: Voxflow's name, or MONAI's, such as "UNet".
        args: its arguments.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    args: dict[str, Any] = Field(default_factory=dict)


class PlainSpec(BaseModel):
    """What the user says of a model that says nothing of itself.

    Attributes:
        file: weights, TorchScript or ONNX; a relative path is looked for beside the specification.
        network: of a file of weights.
        output: of an ONNX file with several outputs, the logits.
        spacing_mm: along (i, j, k) that images are brought to; None: they keep theirs.
        orientation: where (i, j, k) increase to, such as "RAS"; None: as stored.
        interpolation: how images are brought to that spacing.
        intensities: transforms of the values, one after the other.
        window: voxels (i, j, k) that the network is shown at a time.
        overlap: share of a window that neighbours share.
        labels: the name of each output channel, in order.
        regions: the label values of each output channel, where these overlap.
        activation: what turns the answer into probabilities.
        modality: DICOM's word, such as "CT".
        channels: names of the images of a case, in order.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: Path
    network: NamedArguments | None = None
    output: str | None = None
    spacing_mm: tuple[Millimetres, Millimetres, Millimetres] | None = None
    orientation: str | None = None
    interpolation: Literal["linear", "nearest", "bspline"] = "linear"
    intensities: tuple[NamedArguments, ...] = ()
    window: tuple[Side, Side, Side]
    overlap: float = Field(default=0.25, ge=0, lt=1)
    labels: tuple[str, ...] = Field(min_length=1)
    regions: tuple[tuple[PositiveInt, ...], ...] = ()
    activation: Literal["softmax", "sigmoid"]
    modality: str = ""
    channels: tuple[str, ...] = ()

    @field_validator("orientation")
    @classmethod
    def _check_orientation(cls, value: str | None) -> str | None:
        axes = sorted(next((pair for pair in ("LR", "PA", "IS") if c in pair), "") for c in value or "")
        if value is not None and axes != ["IS", "LR", "PA"]:
            raise ValueError("needs three letters, one of L and R, one of P and A, one of I and S, such as RAS")
        return value

    @field_validator("labels")
    @classmethod
    def _check_labels(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) < len(value) or not all(value):
            raise ValueError("each output channel has a name of its own")
        return value


def read_plain(path: Path) -> AdoptedModel:
    """Read a specification, and the model that it names.

    Args:
        path: a YAML file, as docs/adopt.md shows it.

    Raises:
        ConfigError: the specification is wrong.
        DataError: the model's file is damaged, holds code, or is not what the specification says.
    """
    described = _read_specification(path)
    file = path.parent / described.file
    if not file.is_file():
        raise DataError("file not found", path=file)
    spec = _make_spec(described, path)
    if described.network:
        component, network = read_state(described.network, spec, file, path)
        spec = spec.model_copy(update={"divisor": read_network(component).divisor})
    else:
        kind = "TorchScriptProgram" if is_torchscript(file) else "OnnxProgram"
        component = Component(name=kind, args={"in_channels": spec.in_channels, "num_classes": spec.out_channels})
        if kind == "TorchScriptProgram":
            network = read_torchscript(file, component)
        else:
            network = read_onnx(file, component, described.window, described.output)
        spec = spec.model_copy(update={"fixed_window": True})
    check_answer(network, spec, file)
    return AdoptedModel(network, component, spec, origin=f"{file.suffix.removeprefix('.') or 'a'} file of weights"
                        if described.network else component.name.removesuffix("Program"))  # fmt: skip


def _read_specification(path: Path) -> PlainSpec:
    try:
        content = parse_yaml(read_text(path))
    except DataError as error:
        raise ConfigError(error.message, path=path) from error
    if not isinstance(content, dict):
        raise ConfigError("no specification of a model: needs keys such as file, window and labels", path=path)
    try:
        return PlainSpec.model_validate(content)
    except ValidationError as error:
        findings = FindingCollector(path)
        findings.add_validation(error, "", model=PlainSpec)
        findings.raise_errors()
        raise AssertionError from error


def _make_spec(described: PlainSpec, path: Path) -> ModelSpec:
    count = max(1, len(described.channels))
    transforms = [
        read_intensity(transform, count, described.window, path, f"intensities[{number}]")
        for number, transform in enumerate(described.intensities)
    ]
    try:
        return ModelSpec(
            task="segmentation",
            in_channels=count,
            class_names=described.labels,
            preprocess=tuple(transforms),
            channels=described.channels if count > 1 else (),
            **described.model_dump(include=SHARED_KEYS),
        )
    except ValidationError as error:
        raise ConfigError(str(error.errors()[0]["msg"]), path=path) from error


def _find_name(kind: Literal["network", "transform"], name: str, path: Path, where: str) -> str:
    """A component's name in the registry; MONAI's may stand without our prefix."""
    candidates = (name, f"monai:{name}", f"monai:{name}d")
    known = next((candidate for candidate in candidates if find_component(kind, candidate) is not None), None)
    if known is None or name.endswith("Program"):
        raise ConfigError(f"no {kind} {escape(name)!r} of Voxflow or MONAI", path=path, where=where)
    return known


def read_intensity(
    transform: NamedArguments, channels: int, window: tuple[int, int, int], path: Path, where: str
) -> TransformSpec:
    """Read a transform, and try it on noise: it must be the same every time, and leave the grid as it is.

    Args:
        transform: as the specification names it.
        channels: of an image.
        window: voxels (i, j, k) to try it on.
        path: the specification, for the message.
        where: the place in it.

    Raises:
        ConfigError: it is unknown, or no fixed change of an image's values.
    """
    name = _find_name("transform", transform.name, path, f"{where}.name")
    key = "keys" if name.startswith("monai:") else "fields"
    component = TransformSpec(name=name, args={key: ["image"], **transform.args})
    try:
        built = build_transform(component)
        if built.is_random or not built.is_preprocessing or built.for_field("image") is None:
            raise ConfigError(f"{transform.name} is no fixed change of an image's values", path=path, where=where)
        noise = _draw_noise(channels, window)
        changed = built({"image": noise})["image"]
    except InputError as error:
        raise ConfigError(error.message, path=path, where=where) from error
    except (TypeError, ValueError, RuntimeError) as error:  # MONAI's own, of arguments that it does not take
        reason = escape((str(error).splitlines() or [type(error).__name__])[0])
        raise ConfigError(f"{transform.name} can't be run: {reason}", path=path, where=where) from error
    if changed.shape[1:] != noise.shape[1:]:
        message = f"{transform.name} changes the grid from {list(noise.shape[1:])} to {list(changed.shape[1:])} voxels"
        raise ConfigError(message, path=path, where=where)
    return component


def _draw_noise(channels: int, window: tuple[int, int, int]) -> NDArray[np.float32]:
    import numpy as np

    return np.random.default_rng(0).normal(size=(channels, *window)).astype(np.float32)


def read_state(
    named: NamedArguments, spec: ModelSpec, file: Path, path: Path, where: str = "network"
) -> tuple[Component, torch.nn.Module]:
    """Build a network, and fill it with the weights of a file, each of which must fit.

    Args:
        named: the network.
        spec: gives its channels and classes.
        file: of weights.
        path: the specification, for the message.
        where: the place in it.

    Raises:
        ConfigError: the network is unknown, or its arguments are wrong.
        DataError: the file is damaged, holds code, or holds other weights.
    """
    import torch

    component = Component(name=_find_name("network", named.name, path, f"{where}.name"), args=named.args)
    try:
        component = complete_network(component, in_channels=spec.in_channels, num_classes=spec.out_channels)
        typed = read_network(component)
        network = build_network(component)
    except ConfigError as error:
        raise ConfigError(error.message, path=path, where=where) from error
    except ImportError as error:  # MONAI looks for some packages when it needs them
        missing = re.search(r"No module named '([\w.]+)'", str(error))
        hint = f"it needs a package: pip install {missing[1]}" if missing else str(error).splitlines()[0]
        raise MissingDependencyError(f"{named.name} can't be built: {hint}") from error
    except (TypeError, AttributeError, *LIBRARY_ERRORS) as error:
        message = f"{named.name} can't be built: {(str(error).splitlines() or [''])[0]}"
        raise ConfigError(message, path=path, where=f"{where}.args") from error
    counts = {"channels": (typed.in_channels, spec.in_channels), "labels": (typed.num_classes, spec.out_channels)}
    for key, (stated, expected) in counts.items():
        if stated not in (None, expected):
            message = f"the network's arguments say {stated}, and there are {expected} of these"
            raise ConfigError(message, path=path, where=key)
    if typed.spatial_dims != 3:
        raise ConfigError("a network of two dimensions can't be adopted", path=path, where=where)
    if is_torchscript(file):
        raise DataError("a TorchScript file: leave the key network out of the specification", path=file)
    weights = read_weights(file)
    report = load_weights(network, weights, file)
    if report.missing or report.mismatched or report.unused:
        raise DataError(f"not the weights of {named.name} with these arguments: {report.line()}", path=file)
    for name, value in weights.items():
        if not bool(torch.isfinite(value).all()):
            raise DataError("holds values that are no numbers", path=file, where=escape(name))
    return component, network.eval()


def check_answer(network: torch.nn.Module, spec: ModelSpec, file: Path) -> None:
    """Run the network on noise: it must answer a window with finite logits of each class.

    Raises:
        DataError: it does not.
    """
    import torch

    window = spec.window or (1, 1, 1)
    image = torch.from_numpy(_draw_noise(spec.in_channels, window))[None]
    shown = f"{spec.in_channels} × {' × '.join(map(str, window))}"
    try:
        with torch.inference_mode():
            answer = network(image)
    except Exception as error:  # a network of another's raises whatever its code leads it to
        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        raise DataError(f"it can't be run on a window of {shown}: {escape(reason)}", path=file) from error
    if not isinstance(answer, torch.Tensor):
        message = f"it answers with a {type(answer).__name__}, not one tensor; export it without deep supervision"
        raise DataError(message, path=file)
    expected = (1, spec.out_channels, *window)
    if tuple(answer.shape) != expected:
        message = f"it answers a window of {shown} with {list(answer.shape)}; "
        message += f"{spec.out_channels} labels on its grid are {list(expected)}"
        raise DataError(message, path=file)
    if not answer.is_floating_point() or not bool(torch.isfinite(answer).all()):
        raise DataError("it answers noise with values that are no numbers", path=file)
    is_share = bool((answer >= 0).all()) and bool((answer <= 1).all())
    sums = answer.sum(dim=1)
    if is_share and (spec.activation == "sigmoid" or bool((sums - 1).abs().max() < _ROUNDING)):
        message = f"it answers with probabilities; export it without its last {spec.activation}, which Voxflow applies"
        raise DataError(message, path=file)
