"""Makes one model file of a result folder of nnU-Net v2: its plans, its labels and the checkpoints of its folds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, cast

from pydantic import ValidationError

from voxflow.adopt.checkpoint import NnunetCheckpoint, read_nnunet_checkpoint
from voxflow.adopt.labels import NnunetLabels, read_labels
from voxflow.adopt.model import AdoptedModel
from voxflow.adopt.plans import PREPROCESSOR, READERS, Plans
from voxflow.components import Component, build_network, complete_network, join_cascade, read_network
from voxflow.errors import ConfigError, DataError
from voxflow.spec import ModelSpec, NnunetSteps, PreviousStage
from voxflow.texts import escape

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import torch

PLANS, DATASET, FOLD = "plans.json", "dataset.json", "fold_"
CHECKPOINTS = ("checkpoint_final.pth", "checkpoint_best.pth")
# nnU-Net's predictor lays windows half a window apart.
OVERLAP = 0.5
MOST_FOLDERS = 20  # that one message lists
AXES: tuple[Literal["i", "j", "k"], ...] = ("i", "j", "k")


def read_nnunet(folder: Path, folds: Sequence[str] = (), checkpoint: str | None = None) -> AdoptedModel:
    """Read a result folder of nnU-Net v2, such as ``nnUNetTrainer__nnUNetPlans__3d_fullres``.

    Args:
        folder: it, or the folder of a dataset that holds one.
        folds: such as "0" or "all"; empty: all that are there, but fold_all where others are.
        checkpoint: name of the files; None: checkpoint_final.pth, else checkpoint_best.pth.

    Raises:
        DataError: a file is damaged, holds code, or asks for what Voxflow does not do.
    """
    return _read_model(find_result_folder(folder), folds, checkpoint)


def _read_model(
    folder: Path, folds: Sequence[str], checkpoint: str | None, *, is_previous: bool = False
) -> AdoptedModel:
    """Read a result folder; of a cascade both stages."""
    files = _list_checkpoints(folder, folds, checkpoint)
    labels = read_labels(folder / DATASET)
    checkpoints = [read_nnunet_checkpoint(file) for file in files]
    first = checkpoints[0]
    for later in checkpoints[1:]:
        if (later.configuration, later.mirrored) != (first.configuration, first.mirrored):
            raise DataError(f"trained otherwise than {first.path.parent.name}", path=later.path, where="init_args")
    plans = Plans(folder / PLANS, first.configuration)
    _require_preprocessor(plans)
    if is_previous and plans.configuration.get("previous_stage"):
        place = f"configurations.{plans.name}.previous_stage"
        raise DataError("a cascade of more than two stages", path=plans.path, where=place)
    previous = _read_previous(folder, plans, labels, folds, checkpoint)
    try:
        spec = _make_spec(plans, labels, first, previous)
    except ValidationError as error:
        raise DataError(error.errors()[0]["msg"], path=plans.path, where=f"configurations.{plans.name}") from error
    component = complete_network(plans.read_network(), in_channels=spec.in_channels, num_classes=len(labels.names))
    if len(checkpoints) > 1:
        component = component.model_copy(update={"args": {**component.args, "folds": len(checkpoints)}})
    network = _fill_network(component, checkpoints, plans)
    if previous:
        component, network = _join_stages(previous, component, network)
    return AdoptedModel(
        network=network,
        component=component,
        spec=spec,
        folds=tuple(file.parent.name for file in files),
        epochs=first.epochs,
        file_ending=labels.file_ending,
        trainer=first.trainer,
        configuration=first.configuration,
        folder=folder,
    )


def find_result_folder(folder: Path) -> Path:
    """Find the result folder: a folder with a plans.json, or the only one in it, or one deeper, that has one.

    Raises:
        DataError: there is none, or there are several.
    """
    if not folder.is_dir():
        raise DataError("no folder", path=folder)
    if (folder / PLANS).is_file():
        return folder
    # The folder of a data set, or that of several, as TotalSegmentator has one.
    inside = sorted(path.parent for depth in ("*", "*/*") for path in folder.glob(f"{depth}/{PLANS}"))
    if len(inside) == 1:
        return inside[0]
    if inside:
        names = ", ".join(str(path.relative_to(folder)) for path in inside[:MOST_FOLDERS])
        names += " …" if len(inside) > MOST_FOLDERS else ""
        raise DataError(f"holds several trained configurations, {names}; name one", path=folder)
    if any(folder.rglob("plans.pkl")):
        raise DataError("a result of nnU-Net v1, which can't be adopted; one of v2 has a plans.json", path=folder)
    raise DataError("no result folder of nnU-Net v2: it has no plans.json", path=folder)


def _list_checkpoints(folder: Path, folds: Sequence[str], name: str | None) -> list[Path]:
    """The checkpoint of each fold."""
    numbers = [fold.removeprefix(FOLD) for fold in folds]
    if not numbers:
        numbers_present = [path.name.removeprefix(FOLD) for path in folder.glob(f"{FOLD}*") if path.is_dir()]
        numbers = sorted((number for number in numbers_present if number.isdecimal()), key=int) or numbers_present
    files = []
    for number in numbers:
        fold = folder / f"{FOLD}{number}"
        candidates = [fold / file for file in ((name,) if name else CHECKPOINTS)]
        file = next((file for file in candidates if file.is_file()), None)
        if file is not None:
            files.append(file)
        elif folds:
            raise DataError(f"no {' or '.join(path.name for path in candidates)}", path=fold)
    if not files:
        raise DataError(f"no fold with a {name or CHECKPOINTS[0]}", path=folder)
    return files


def _require_preprocessor(plans: Plans) -> None:
    preprocessor = plans.require("preprocessor_name", str)
    if preprocessor != PREPROCESSOR:
        message = f"images are prepared by {preprocessor}; known is {PREPROCESSOR}"
        place = f"configurations.{plans.name}.preprocessor_name"
        raise DataError(message, path=plans.path, where=place)


def _read_previous(
    folder: Path, plans: Plans, labels: NnunetLabels, folds: Sequence[str], checkpoint: str | None
) -> AdoptedModel | None:
    """The first stage of a cascade, from the result folder beside the cascade's; None: it is no cascade."""
    name = plans.configuration.get("previous_stage")
    if not name:
        return None
    place = f"configurations.{plans.name}.previous_stage"
    if not isinstance(name, str) or "/" in name or "\\" in name:
        raise DataError(f"needs the name of a configuration, received {name!r}", path=plans.path, where=place)
    expected = folder.resolve().parent / f"{folder.resolve().name.removesuffix(f'__{plans.name}')}__{name}"
    if not (expected / PLANS).is_file():
        message = f"a cascade, whose network is shown the masks of {name}, which needs to lie in {expected}"
        raise DataError(message, path=plans.path, where=place)
    previous = _read_model(expected, folds, checkpoint, is_previous=True)
    if previous.configuration != name:
        raise DataError(f"{expected.name} is one of {previous.configuration}", path=plans.path, where=place)
    if read_labels(expected / DATASET) != labels:
        raise DataError(f"other channels or labels than those of {name}", path=folder / DATASET, where="labels")
    return previous


def _join_stages(
    previous: AdoptedModel, component: Component, network: torch.nn.Module
) -> tuple[Component, torch.nn.Module]:
    """Both networks of a cascade as one, each with its weights."""
    stages = {
        key: {"name": stage.name, "args": stage.args}
        for key, stage in (("previous", previous.component), ("last", component))
    }
    counts = {key: component.args[key] for key in ("in_channels", "num_classes")}
    return (
        Component(name="NnunetCascade", args={**counts, **stages}),
        join_cascade(previous.network, network),
    )


def _fill_network(component: Component, checkpoints: Sequence[NnunetCheckpoint], plans: Plans) -> torch.nn.Module:
    """The network with the weights of its folds."""
    import torch

    try:
        # Without memory, until its weights are known to fit.
        with torch.device("meta"):
            network = build_network(component)
    except (ConfigError, TypeError, ValueError, RuntimeError) as error:
        place = f"configurations.{plans.name}.architecture"
        message = error.message if isinstance(error, ConfigError) else (str(error).splitlines() or [""])[0]
        raise DataError(f"no network can be built: {message}", path=plans.path, where=place) from error
    _check_patch(component, plans)
    members: list[Any] = [network] if len(checkpoints) == 1 else list(cast("Any", network).members)
    for member, checkpoint in zip(members, checkpoints, strict=True):
        expected = member.state_dict()
        different = sorted(expected.keys() ^ checkpoint.weights.keys()) or sorted(
            name
            for name, value in expected.items()
            if value.shape != checkpoint.weights[name].shape or value.dtype != checkpoint.weights[name].dtype
        )
        if different:
            message = f"not the weights of the network in {PLANS}; trained by {escape(checkpoint.trainer)}"
            raise DataError(message, path=checkpoint.path, where=f"network_weights.{escape(different[0])}")
    for member, checkpoint in zip(members, checkpoints, strict=True):
        member.load_state_dict(checkpoint.weights, assign=True)
    return network.requires_grad_(requires_grad=True).eval()


def _check_patch(component: Component, plans: Plans) -> None:
    """Refuse windows that the network can't halve as often as it does."""
    patch, strides = plans.read_patch(), read_network(component).least_size[-len(plans.read_patch()) :]
    if any(side % stride for side, stride in zip(patch, strides, strict=True)):
        place = f"configurations.{plans.name}.patch_size"
        message = f"{patch} voxels are no multiple of the network's strides, {list(strides)} in all"
        raise DataError(message, path=plans.path, where=place)


def _require_axes(checkpoint: NnunetCheckpoint, dimensions: int) -> None:
    beyond = [axis for axis in checkpoint.mirrored if axis >= dimensions]
    if beyond:
        message = f"the network has {dimensions} axes, from 0; received {beyond[0]}"
        raise DataError(message, path=checkpoint.path, where="inference_allowed_mirroring_axes")


def _make_spec(
    plans: Plans, labels: NnunetLabels, checkpoint: NnunetCheckpoint, previous: AdoptedModel | None
) -> ModelSpec:
    window, spacing = plans.read_patch(), plans.read_numbers("spacing")
    if len(window) != len(spacing):
        place = f"configurations.{plans.name}.spacing"
        raise DataError(f"{len(spacing)} numbers for a patch of {len(window)}", path=plans.path, where=place)
    planes = 3 - len(window)  # of a network of two dimensions, which is shown each plane by itself
    steps = NnunetSteps.model_validate(
        {
            "axes": plans.read_axes(),
            "spacing_mm": (*(None,) * planes, *spacing),
            "normalisation": plans.read_normalisation(len(labels.channels)),
            "image": plans.read_resampling("data"),
            "logits": plans.read_resampling("probabilities"),
        }
    )
    i, j, k = (*(1,) * planes, *window)
    _require_axes(checkpoint, len(window))
    # Names that tell channels apart; two phases may both be called CT.
    is_named = 1 < len(labels.channels) == len(set(labels.channels))
    return ModelSpec(
        task="segmentation",
        in_channels=len(labels.channels) + (len(labels.values) if previous else 0),
        class_names=labels.names,
        activation="sigmoid" if labels.regions else "softmax",
        orientation=READERS[plans.reader],
        window=(i, j, k),
        overlap=OVERLAP,
        modality="CT" if any(name.casefold() == "ct" for name in labels.channels) else "",
        regions=labels.regions,
        region_values=labels.region_values,
        channels=labels.channels if is_named else (),
        mirrored=tuple(AXES[axis + planes] for axis in checkpoint.mirrored),
        nnunet=steps,
        previous=PreviousStage(spec=previous.spec, values=labels.values, mask=plans.read_resampling("seg"))
        if previous
        else None,
    )
