"""Owns one image's way through a model: preprocess, run, and back to the grid that it came from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, PositiveInt

from voxflow.errors import DataError
from voxflow.inference.cleaning import CleaningOptions, clean
from voxflow.inference.ensemble import answer
from voxflow.inference.flips import Axis
from voxflow.inference.grids import labels_to, scores_to, to_network
from voxflow.inference.probabilities import probabilities_of
from voxflow.inference.windows import Blend, Plan, plan_windows
from voxflow.volumes import Volume, resample
from voxflow.volumes.dataset import resize

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from voxflow.geometry import Geometry
    from voxflow.inference.engines import Engine
    from voxflow.inference.windows import WindowPlan
    from voxflow.spec import ModelSpec

    Slabs = Iterator[tuple[slice, NDArray[np.float32]]]


class PredictOptions(BaseModel):
    """How a volume passes through the network.

    Attributes:
        plan: "whole" passes the volume in one window, "windows" in windows of the training patch. "auto" takes the
            whole volume when it fits ``memory_mb`` and the network is local; with instance norm the window's size
            changes every answer (mean Dice 0.003 to 0.12 lower on whole volumes, measured), so that windows are
            taken.
        memory_mb: bound on what the network's activations need.
        bytes_per_voxel: what they need for one voxel of input: about 130 measured for a U-Net with 16 features
            at full resolution, and in proportion with more.
        flips: axes of the network's grid along which the image is also shown mirrored; logits are averaged over
            every combination, so that three axes take eight times as long.
        blend: overlapping windows count most at their centre ("gaussian") or alike ("constant").
        back: "labels" takes the strongest class on the network's grid and returns it by nearest neighbour;
            "probabilities" returns each class's probabilities linearly first: smoother borders, slower.
        clean: what is done to the mask on the image's own grid.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    plan: Plan = "auto"
    memory_mb: PositiveInt = 4096
    bytes_per_voxel: PositiveInt = 384
    blend: Blend = "gaussian"
    back: Literal["labels", "probabilities"] = "labels"
    flips: tuple[Axis, ...] = ()
    clean: CleaningOptions = CleaningOptions()


@dataclass(frozen=True, eq=False)
class Prepared:
    """An image as a network takes it.

    Attributes:
        image: (channel, i, j, k).
        grid: where its voxels lie.
        native: the grid of the image that came in.
    """

    image: NDArray[np.float32]
    grid: Geometry
    native: Geometry


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a model says of one volume.

    Attributes:
        mask: label values on the grid of the image that came in.
        windows: how many windows it took.
    """

    mask: Volume
    windows: int


def predict_volume(
    engine: Engine, volume: Volume | Sequence[Volume], options: PredictOptions | None = None
) -> Prediction:
    """Segment a volume, whatever its spacing and orientation.

    Args:
        engine: a segmentation model.
        volume: the image; several for a network of several channels, in the network's order.
        options: window plan and way back.

    Returns:
        Label values 0, 1, ... in the order of ``engine.spec.class_names``, on the first volume's grid.

    Raises:
        DataError: the wrong number of channels, or a model that does not segment.
    """
    volumes = (volume,) if isinstance(volume, Volume) else tuple(volume)
    return predict_prepared(engine, prepare(volumes, engine.spec), options or PredictOptions())


def prepare(volumes: Sequence[Volume], spec: ModelSpec) -> Prepared:
    """Bring an image to the network's grid and values; the part that needs no network.

    Raises:
        DataError: the wrong number of channels, or a model that does not segment.
    """
    if spec.task != "segmentation":
        raise DataError(f"the model does {spec.task}, a volume needs a segmentation model")
    image, first = prepare_volume(volumes, spec)
    return Prepared(image, first.geometry, volumes[0].geometry)


def predict_prepared(engine: Engine, prepared: Prepared, options: PredictOptions) -> Prediction:
    """Run the network over what :func:`prepare` made, and bring its answer back.

    Raises:
        DataError: the options name a class that the model does not have.
    """
    spec, names = engine.spec, label_names(engine.spec)
    unknown = options.clean.unknown(names)
    if unknown:
        raise DataError(f"clean: no class {', '.join(unknown)}; the model has {', '.join(names.values())}")
    plan = plan_of(prepared.image, engine, options)
    back = _by_labels if options.back == "labels" else _by_probabilities
    mask = Volume(back(answer(engine, prepared.image, plan, options.flips), prepared, spec), prepared.native)
    clean(mask, names, options.clean)
    return Prediction(mask, plan.count)


def _by_labels(parts: Slabs, prepared: Prepared, spec: ModelSpec) -> NDArray[Any]:
    """The strongest class on the network's grid, brought back by nearest neighbour."""
    labels = np.empty(prepared.image.shape[1:], dtype=_label_type(spec))
    for part, logits in parts:
        labels[part] = labels_of(logits, spec)
    return labels_to(Volume(labels, prepared.grid), prepared.native).array


def _by_probabilities(parts: Slabs, prepared: Prepared, spec: ModelSpec) -> NDArray[Any]:
    """The strongest class of the probabilities that are brought back linearly."""
    scores = np.empty((spec.out_channels, *prepared.image.shape[1:]), dtype=np.float32)
    for part, logits in parts:
        scores[:, part] = probabilities_of(logits, spec)
    returned = np.stack([scores_to(score, prepared.grid, prepared.native) for score in scores])
    return _strongest(returned, 0.5, spec)


def predict_radiograph(engine: Engine, image: NDArray[Any] | Sequence[NDArray[Any]]) -> dict[str, float]:
    """Classify a radiograph.

    Args:
        engine: a classification model.
        image: (rows, columns), values as stored; several for a network of several channels.

    Returns:
        Probability by class name.

    Raises:
        DataError: the wrong number of channels, or a model that does not classify.
    """
    spec = engine.spec
    if spec.task != "classification":
        raise DataError(f"the model does {spec.task}, a radiograph needs a classification model")
    images = (image,) if isinstance(image, np.ndarray) else tuple(image)
    logits = engine.run(prepare_radiograph(images, spec)[None])
    chances = probabilities_of(logits.T, spec)[:, 0]
    return {name: float(chance) for name, chance in zip(spec.class_names, chances, strict=True)}


def prepare_volume(volumes: Sequence[Volume], spec: ModelSpec) -> tuple[NDArray[np.float32], Volume]:
    """The network's input (channel, i, j, k), and the first volume on the network's grid.

    Raises:
        DataError: values that are no numbers, or the wrong number of channels.
    """
    if not all(np.isfinite(each.array).all() for each in volumes if each.array.dtype.kind == "f"):
        raise DataError("the image holds NaN or infinite values")
    first = to_network(volumes[0], spec)
    others = [resample(each, first.geometry, "linear", float(each.array.min())).array for each in volumes[1:]]
    return _preprocess(np.stack([first.array, *others]), spec), first


def prepare_radiograph(images: Sequence[NDArray[Any]], spec: ModelSpec) -> NDArray[np.float32]:
    """The network's input (channel, rows, columns)."""
    resized = [image if spec.size is None else resize(image, spec.size) for image in images]
    return _preprocess(np.stack(resized), spec)


def plan_of(image: NDArray[np.float32], engine: Engine, options: PredictOptions) -> WindowPlan:
    """The window plan of a prepared image (channel, i, j, k)."""
    return plan_windows(
        image.shape[1:],
        engine,
        options.plan,
        memory_mb=options.memory_mb,
        bytes_per_voxel=options.bytes_per_voxel,
        blend=options.blend,
    )


def labels_of(logits: NDArray[np.float32], spec: ModelSpec) -> NDArray[Any]:
    """Map logits (class, ...) to label values (...): the strongest class; with a sigmoid one above one half."""
    return _strongest(logits, 0.0, spec)


def _strongest(scores: NDArray[np.float32], half: float, spec: ModelSpec) -> NDArray[Any]:
    labels: NDArray[Any] = scores.argmax(axis=0).astype(_label_type(spec))
    if spec.activation == "sigmoid":
        labels = np.where(scores.max(axis=0) > half, labels + first_label(spec), 0).astype(_label_type(spec))
    return labels


def label_names(spec: ModelSpec) -> dict[int, str]:
    """The label values that a mask may hold, without the background, and their names."""
    numbered = enumerate(spec.class_names, start=first_label(spec))
    return {value: name for value, name in numbered if value > 0}


def first_label(spec: ModelSpec) -> int:
    """The label value of output channel 0: 1 where the network has no channel for the background."""
    return int(spec.activation == "sigmoid" and spec.class_names[0] != "background")


def _label_type(spec: ModelSpec) -> type[np.uint8] | type[np.uint16]:
    return np.uint8 if spec.out_channels < 256 else np.uint16


def _preprocess(image: NDArray[Any], spec: ModelSpec) -> NDArray[np.float32]:
    from voxflow.components import build_transform

    sample: dict[str, Any] = {"image": image.astype(np.float32)}
    for transform in spec.preprocess:
        sample = build_transform(transform)(sample)
    made = np.ascontiguousarray(sample["image"], dtype=np.float32)
    if made.shape[0] != spec.in_channels:
        raise DataError(f"the network takes {spec.in_channels} channel(s), the image has {made.shape[0]}")
    return made
