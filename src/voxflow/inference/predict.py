"""Owns one image's way through a model: preprocess, run, and back to the grid that it came from."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, PositiveInt

from voxflow.errors import DataError
from voxflow.inference.cleaning import CleaningOptions, clean
from voxflow.inference.ensemble import Ensemble, answer
from voxflow.inference.flips import Axis
from voxflow.inference.grids import WayBack, labels_to, to_network
from voxflow.inference.probabilities import probabilities_of
from voxflow.inference.windows import Blend, Plan, plan_windows
from voxflow.volumes import Volume, resample
from voxflow.volumes.dataset import resize

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from voxflow.geometry import Geometry
    from voxflow.inference.engines import Engine
    from voxflow.inference.windows import WindowPlan
    from voxflow.spec import ModelSpec

# Scores that are compared at a time: so many that they stay in the processor's cache.
AT_A_TIME = 1 << 18
# Planes of every class's probabilities that are held on the way back: two to blend, and one in the making.
PLANES_HELD = 3


class PredictOptions(BaseModel):
    """How a volume passes through the network.

    Attributes:
        plan: "whole" passes the volume in one window, "windows" in windows of the training patch. "auto" takes the
            whole volume when it fits ``memory_mb`` and the network is local; with instance norm the window's size
            changes every answer (mean Dice 0.003 to 0.12 lower on whole volumes, measured), so that windows are
            taken. A local network's windows are as large as memory allows.
        memory_mb: bound on what one volume takes from the moment it is prepared: the image on the network's grid,
            activations, logits and their sums, both masks. Windows of the training's size are the least.
        bytes_per_voxel: what they need for one voxel of input: about 130 measured for a U-Net with 16 features
            at full resolution, and in proportion with more.
        flips: axes of the network's grid along which the image is also shown mirrored; logits are averaged over
            every combination, so that three axes take eight times as long.
        blend: overlapping windows count most at their centre ("gaussian") or alike ("constant").
        skip_empty: a window that holds one value only, as air does that the intensity window cut off, is taken for
            background unseen. Right for networks that have learnt it as such; no whole volume is ever skipped.
        batch: windows that pass through the network at a time, if ``memory_mb`` allows; None: what the
            engine is fastest with: one for OpenVINO and ONNX Runtime, two for torch on a processor, four on a GPU; what
            its file allows for TensorRT, which takes no more.
        back: "labels" takes the strongest class on the network's grid and returns it by nearest neighbour;
            "probabilities" returns each class's probabilities linearly first: smoother borders, slower.
        clean: what is done to the mask on the image's own grid.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    plan: Plan = "auto"
    memory_mb: PositiveInt = 4096
    bytes_per_voxel: PositiveInt = 384
    blend: Blend = "gaussian"
    skip_empty: bool = False
    batch: PositiveInt | None = None
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
    plan = plan_of(prepared.image, engine, options, also=math.prod(prepared.native.size) * _label_type(spec)().itemsize)
    back = _by_labels if options.back == "labels" else _by_probabilities
    mask = Volume(back(engine, prepared, plan, options.flips), prepared.native)
    clean(mask, names, options.clean)
    return Prediction(mask, plan.count)


def _by_labels(engine: Engine, prepared: Prepared, plan: WindowPlan, flips: Sequence[Axis]) -> NDArray[Any]:
    """The strongest class on the network's grid, brought back by nearest neighbour."""
    spec = engine.spec
    labels = np.empty(prepared.image.shape[1:], dtype=_label_type(spec))
    for box, logits in answer(engine, prepared.image, plan, flips):
        labels[box] = labels_of(logits, spec)
        del logits  # the next block's sums take the memory of these
    return labels_to(Volume(labels, prepared.grid), prepared.native).array


def _by_probabilities(engine: Engine, prepared: Prepared, plan: WindowPlan, flips: Sequence[Axis]) -> NDArray[Any]:
    """The strongest class of the probabilities that are brought back linearly, a few planes at a time."""
    spec = engine.spec
    back = WayBack(prepared.grid, prepared.native, plan.along, plan.across)
    mask = np.empty(prepared.native.size, dtype=_label_type(spec))
    for block in plan.block_slices():
        needed, piece = back.block(block)
        for box, logits in answer(engine, prepared.image, plan, flips, block=needed):
            for part, some in _few_planes(box[plan.along], logits, plan.along):
                for here, scores in piece.planes(part, probabilities_of(some, spec)):
                    mask[here] = _strongest(scores, 0.5, spec)
            del logits, some  # the next block's sums take the memory of these
    return mask


def _few_planes(part: slice, logits: NDArray[Any], along: int) -> Iterator[tuple[slice, NDArray[Any]]]:
    """Logits (class, i, j, k) in pieces: probabilities are needed of a few planes at a time, and not all together."""
    step = max(1, AT_A_TIME * logits.shape[along + 1] // max(1, logits.size))
    for first in range(part.start, part.stop, step):
        here = slice(first, min(first + step, part.stop))
        which = [slice(None)] * 4
        which[along + 1] = slice(here.start - part.start, here.stop - part.start)
        yield here, logits[tuple(which)]


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
    image = np.stack([first.array, *others]) if others else first.array[None]
    return _preprocess(image, spec), first


def prepare_radiograph(images: Sequence[NDArray[Any]], spec: ModelSpec) -> NDArray[np.float32]:
    """The network's input (channel, rows, columns)."""
    resized = [image if spec.size is None else resize(image, spec.size) for image in images]
    return _preprocess(np.stack(resized), spec)


def plan_of(image: NDArray[np.float32], engine: Engine, options: PredictOptions, *, also: int = 0) -> WindowPlan:
    """The window plan of a prepared image (channel, i, j, k), where ``also`` bytes are held beside it.

    The models of an ensemble each hold sums of their own, and so share the memory.
    """
    models = len(engine.engines) if isinstance(engine, Ensemble) else 1
    size = image.shape[1:]
    held = image.nbytes + also + math.prod(size) * _label_type(engine.spec)().itemsize
    if options.back == "probabilities":
        held += PLANES_HELD * image.itemsize * engine.spec.out_channels * math.prod(size) // max(size)
    return plan_windows(
        size,
        engine,
        options.plan,
        memory_mb=max(1, (options.memory_mb - math.ceil(held / 2**20)) // models),
        bytes_per_voxel=options.bytes_per_voxel,
        blend=options.blend,
        skip_empty=options.skip_empty,
        batch=options.batch,
    )


def labels_of(logits: NDArray[Any], spec: ModelSpec) -> NDArray[Any]:
    """Map logits (class, ...) to label values (...): the strongest class; with a sigmoid one above one half."""
    labels = np.empty(logits.shape[1:], dtype=_label_type(spec))
    # In pieces: argmax over the first axis, or all at once, goes through memory once a class.
    step = max(1, AT_A_TIME * len(labels) // max(1, logits.size))
    for first in range(0, len(labels), step):
        part = slice(first, first + step)
        labels[part] = _strongest(logits[:, part], 0.0, spec)
    return labels


def _strongest(scores: Iterable[NDArray[Any]], half: float, spec: ModelSpec) -> NDArray[Any]:
    """The strongest of the classes, whose scores come one after the other."""
    each = iter(scores)
    best = next(each).copy()
    labels = np.zeros(best.shape, dtype=_label_type(spec))
    for value, score in enumerate(each, start=1):
        np.copyto(labels, value, where=score > best)
        np.maximum(best, score, out=best)
    if spec.activation == "sigmoid":
        labels += first_label(spec)
        labels[~(best > half)] = 0
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
