"""Finds the first step at which an adopted model and its original part: grid, intensities, logits, or the way back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from voxflow.prediction import PredictOptions, predict_logits, predict_prepared, prepare_image

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from voxflow.adopt.original import OriginalArrays
    from voxflow.engines import Engine
    from voxflow.prediction import PreparedImage
    from voxflow.volumes import Volume

StepName = Literal["grid", "intensities", "logits", "way back"]
# How far arrays may differ: splines are computed otherwise, and weights of windows are rounded.
INTENSITY_TOLERANCE = 0.01  # of the standard deviation of the original's values
LOGIT_TOLERANCE = 0.01  # of the original's greatest logit


@dataclass(frozen=True)
class StepComparison:
    """One step of both tools.

    Attributes:
        step: its name.
        differs: whether it differs by more than the tolerance.
        numbers: what was measured, for a person.
    """

    step: StepName
    differs: bool
    numbers: str


def compare_steps(
    engine: Engine, volumes: Sequence[Volume], original: OriginalArrays, mask: Volume
) -> tuple[StepComparison, ...]:
    """Compare the steps of one case, in their order, up to the first that differs.

    Args:
        engine: the adopted model.
        volumes: the images of the case.
        original: what the original had on the way.
        mask: what the original made of them.
    """
    prepared = prepare_image(volumes, engine.spec)
    image = np.asarray(prepared.image)
    steps = [_compare_grids(prepared, original)]
    if not steps[-1].differs:
        steps.append(_compare_intensities(image, original.image))
    if not steps[-1].differs:
        logits = predict_logits(engine, image, PredictOptions())
        steps.append(_compare_logits(logits, original.logits))
    if not steps[-1].differs:
        ours = predict_prepared(engine, prepared, PredictOptions()).mask.array
        differing = int(np.count_nonzero(ours != mask.array))
        numbers = f"{differing} voxels of the masks differ, though the logits agree"
        steps.append(StepComparison("way back", bool(differing), numbers))
    return tuple(steps)


def find_first_difference(steps: Sequence[StepComparison]) -> StepComparison | None:
    """Find the step where both tools part; None: none was compared, or all agree."""
    return next((step for step in steps if step.differs), None)


def _compare_grids(prepared: PreparedImage, original: OriginalArrays) -> StepComparison:
    ours, theirs = prepared.image.shape, original.image.shape
    place = prepared.place
    box = tuple((part.start, part.stop) for part in place.box) if place and original.box else original.box
    if ours != theirs:
        numbers = f"the network is shown {_format_shape(ours)} here, {_format_shape(theirs)} by the original"
        return StepComparison("grid", differs=True, numbers=numbers)
    if box and original.box and box != original.box:
        numbers = f"of the image it is shown the voxels {_format_box(box)} here, {_format_box(original.box)} there"
        return StepComparison("grid", differs=True, numbers=numbers)
    return StepComparison("grid", differs=False, numbers=f"{_format_shape(ours)} on both sides")


def _compare_intensities(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> StepComparison:
    deviation = float(theirs.std())
    channel, *place = _find_greatest(ours, theirs)
    greatest = float(abs(ours[channel, *place] - theirs[channel, *place]))
    numbers = (
        f"the greatest difference is {greatest:.3g} in channel {channel} at voxel {tuple(place)}; "
        f"the original's values have a standard deviation of {deviation:.3g}"
    )
    return StepComparison("intensities", greatest > INTENSITY_TOLERANCE * max(deviation, 1e-6), numbers)


def _compare_logits(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> StepComparison:
    if ours.shape != theirs.shape:
        numbers = f"{_format_shape(ours.shape)} here, {_format_shape(theirs.shape)} by the original"
        return StepComparison("logits", differs=True, numbers=numbers)
    channel, *place = _find_greatest(ours, theirs)
    greatest, most = float(abs(ours[channel, *place] - theirs[channel, *place])), float(abs(theirs).max())
    numbers = (
        f"the greatest difference is {greatest:.3g} in class {channel} at voxel {tuple(place)}; "
        f"the original's greatest logit is {most:.3g}"
    )
    return StepComparison("logits", greatest > LOGIT_TOLERANCE * max(most, 1e-6), numbers)


def _find_greatest(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> list[int]:
    flat = int(np.argmax(np.abs(ours - theirs)))
    return [int(part) for part in np.unravel_index(flat, ours.shape)]


def _format_shape(shape: Sequence[int]) -> str:
    return f"{shape[0]} × ({' × '.join(map(str, shape[1:]))}) voxels"


def _format_box(box: Sequence[tuple[int, int]]) -> str:
    return " × ".join(f"{first}:{behind}" for first, behind in box)
