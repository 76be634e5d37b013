"""Prepares images as an adopted MONAI bundle does, and brings the answer of a cropped image back.

Images are floats before they are resampled, and what lies outside continues their outermost values; MONAI's Spacing
keeps the first voxel's centre where it is. Where a bundle crops, resizes or pads the image, its Invertd undoes that
first: the answer is put into the whole grid before it is brought back, one class after the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from voxflow.errors import DataError
from voxflow.prediction.grids import network_grid, resample_clamped, resample_labels, resample_to_network
from voxflow.prediction.labels import combine_regions, label_type, logits_to_labels, single_value
from voxflow.prediction.monai_cleaning import clean_as_monai
from voxflow.prediction.monai_grid import find_torch_nearest
from voxflow.prediction.monai_size import Foreground, pad_image, resize_image
from voxflow.prediction.nnunet import find_box
from voxflow.prediction.probabilities import logits_to_probabilities
from voxflow.volumes import Volume, require_finite, target_geometry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from voxflow.geometry import Geometry
    from voxflow.prediction.blending import Box
    from voxflow.prediction.preparation import PreparedImage
    from voxflow.spec import ModelSpec, MonaiSteps, TransformSpec


@dataclass(frozen=True, eq=False)
class MonaiImage:
    """An image as an adopted bundle takes it.

    Attributes:
        image: (channel, i, j, k), float32.
        grid: where its voxels lie.
        foreground: None: nothing was cropped away.
    """

    image: NDArray[np.float32]
    grid: Geometry
    foreground: Foreground | None = None


def prepare_monai(volumes: Sequence[Volume], spec: ModelSpec) -> MonaiImage:
    """Bring an image to an adopted network's grid and values.

    Args:
        volumes: the channels, in the network's order.
        spec: of a model with ``monai``.

    Raises:
        DataError: values that are no numbers.
    """
    steps = require_monai(spec)
    for volume in volumes:
        require_finite(volume.array)
    reference = volumes[spec.reference].geometry
    channels = [Volume(volume.array.astype(np.float32), volume.geometry) for volume in volumes]
    if steps.before:
        placed = [channel if channel.geometry.is_close(reference) else resample_clamped(channel, reference)
                  for channel in channels]  # fmt: skip
        changed = _run_transforms(np.stack([channel.array for channel in placed]), steps.before)
        channels = [Volume(array, reference) for array in changed]
    grid = network_grid(reference, spec)
    image = np.stack([resample_to_network(channel, spec, grid).array for channel in channels])
    if not steps.changes_size:
        return MonaiImage(_run_transforms(image, spec.preprocess), grid)
    return _change_size(image, grid, spec)


def _change_size(image: NDArray[np.float32], grid: Geometry, spec: ModelSpec) -> MonaiImage:
    """Crop, resize and pad an image (channel, i, j, k), and run the transforms of the values in between."""
    steps, done = require_monai(spec), 0
    box = _whole(grid.size)
    if steps.crops_after is not None:
        image, done = _run_transforms(image, spec.preprocess[: steps.crops_after]), steps.crops_after
        box = find_box(np.asarray((image > 0).any(axis=0)))
        image = np.ascontiguousarray(image[:, *box])
    if steps.resize is not None:
        image = resize_image(_run_transforms(image, spec.preprocess[done : steps.resize.after]), steps.resize)
        done = steps.resize.after
    inside = _whole(image.shape[1:])
    if steps.pad is not None:
        image, inside = pad_image(_run_transforms(image, spec.preprocess[done : steps.pad.after]), steps.pad)
        done = steps.pad.after
    foreground = Foreground(grid, box, inside, steps.resize)
    image = _run_transforms(image, spec.preprocess[done:])
    return MonaiImage(image, foreground.place(image.shape[1:]), foreground)


def _whole(size: Sequence[int]) -> Box:
    i, j, k = (slice(0, side) for side in size)
    return i, j, k


def restore_cropped(logits: NDArray[np.float32], prepared: PreparedImage, spec: ModelSpec, back: str) -> NDArray[Any]:
    """Bring the answer for an image of another size to the image's own grid.

    Args:
        logits: (class, i, j, k) of the part.
        prepared: the image; says where the part lies.
        spec: of the model.
        back: what is brought back: "labels", "probabilities" or "logits".

    Returns:
        Label values (i, j, k).
    """
    foreground, native = prepared.foreground, prepared.native
    if foreground is None:
        raise DataError("the image is whole")
    if back == "labels":
        labels = logits_to_labels(logits, spec)
        clean_as_monai(Volume(labels, prepared.grid), spec, is_before=True)
        return _take_nearest(foreground.restore(labels, is_nearest=True), foreground.grid, native, spec)
    scores = logits_to_probabilities(logits, spec) if back == "probabilities" else logits
    threshold = 0.5 if back == "probabilities" else 0.0

    def bring_back(score: NDArray[np.float32]) -> NDArray[Any]:
        return resample_clamped(Volume(foreground.restore(score), foreground.grid), native).array

    if spec.activation == "sigmoid":
        is_inside = np.stack([bring_back(score) > threshold for score in scores])
        if spec.regions:
            return np.asarray(combine_regions(is_inside, spec))
        return np.asarray(is_inside[0] * label_type(spec)(single_value(spec)))
    best = bring_back(scores[0])
    labels = np.zeros(best.shape, dtype=label_type(spec))
    # One class at a time: all of them on the image's grid would be far larger than the image.
    for value, score in enumerate(scores[1:], start=1):
        restored = bring_back(score)
        np.copyto(labels, value, where=restored > best)
        np.maximum(best, restored, out=best)
    return labels


def restore_labels(labels: NDArray[Any], grid: Geometry, native: Geometry, spec: ModelSpec) -> NDArray[Any]:
    """Bring label values of the network's grid to the image's own, after they are cleaned where the bundle does so."""
    clean_as_monai(Volume(labels, grid), spec, is_before=True)
    return _take_nearest(labels, grid, native, spec)


def _take_nearest(labels: NDArray[Any], grid: Geometry, native: Geometry, spec: ModelSpec) -> NDArray[Any]:
    oriented = target_geometry(native, None, spec.orientation)
    taken = np.ascontiguousarray(labels[np.ix_(*find_torch_nearest(grid, oriented))])
    return resample_labels(Volume(taken, oriented), native).array


def require_monai(spec: ModelSpec) -> MonaiSteps:
    """Return the steps of an adopted bundle.

    Raises:
        DataError: the model is none.
    """
    if spec.monai is None:
        raise DataError("the model is no adopted MONAI bundle")
    return spec.monai


def _run_transforms(image: NDArray[np.float32], transforms: Sequence[TransformSpec]) -> NDArray[np.float32]:
    from voxflow.components import build_transform

    sample: dict[str, Any] = {"image": image}
    for transform in transforms:
        sample = build_transform(transform)(sample)
    return np.ascontiguousarray(sample["image"], dtype=np.float32)
