"""Prepares images as an adopted MONAI bundle does, and brings the answer of a cropped image back.

Images are floats before they are resampled, and what lies outside continues their outermost values; MONAI's Spacing
keeps the first voxel's centre where it is. Where a bundle crops to the foreground, its Invertd fills the probabilities
outside with zeros: the answer is then put into the whole grid before it is brought back, one class after the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from voxflow.errors import DataError
from voxflow.prediction.grids import network_grid, resample_clamped, resample_labels, resample_to_network
from voxflow.prediction.labels import combine_regions, label_type, logits_to_labels, single_value
from voxflow.prediction.monai_grid import find_torch_nearest
from voxflow.prediction.nnunet import crop_geometry, find_box
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
class Foreground:
    """The part of an image that a network is shown, where the rest was cropped away.

    Attributes:
        grid: the network's grid of the whole image.
        box: the part.
    """

    grid: Geometry
    box: Box


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
    if steps.crops_after is None:
        return MonaiImage(_run_transforms(image, spec.preprocess), grid)
    image = _run_transforms(image, spec.preprocess[: steps.crops_after])
    box = find_box(np.asarray((image > 0).any(axis=0)))
    cropped = _run_transforms(np.ascontiguousarray(image[:, *box]), spec.preprocess[steps.crops_after :])
    return MonaiImage(cropped, crop_geometry(grid, box), Foreground(grid, box))


def restore_cropped(logits: NDArray[np.float32], prepared: PreparedImage, spec: ModelSpec, back: str) -> NDArray[Any]:
    """Bring the answer for a cropped image to the image's own grid.

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
        labels = np.zeros(foreground.grid.size, dtype=label_type(spec))
        labels[foreground.box] = logits_to_labels(logits, spec)
        return restore_labels(labels, foreground.grid, native, spec)
    scores = logits_to_probabilities(logits, spec) if back == "probabilities" else logits
    threshold = 0.5 if back == "probabilities" else 0.0
    whole = np.zeros(foreground.grid.size, dtype=np.float32)

    def bring_back(score: NDArray[np.float32]) -> NDArray[Any]:
        whole[foreground.box] = score
        return resample_clamped(Volume(whole, foreground.grid), native).array

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
    mask = Volume(labels, grid)
    keep_largest(mask, spec, is_before=True)
    oriented = target_geometry(native, None, spec.orientation)
    taken = np.ascontiguousarray(labels[np.ix_(*find_torch_nearest(grid, oriented))])
    return resample_labels(Volume(taken, oriented), native).array


def keep_largest(mask: Volume, spec: ModelSpec, *, is_before: bool) -> None:
    """Keep the largest component of the labels that the bundle names, in place.

    Args:
        mask: label values (i, j, k).
        spec: of the model.
        is_before: whether this is the network's grid; nothing is done where the bundle cleans the other one.
    """
    steps = spec.monai
    if steps is None or not steps.largest or steps.cleans_before != is_before:
        return
    from scipy.ndimage import label

    for value in steps.largest:
        components, _ = label(mask.array == value, np.ones((3, 3, 3)))
        sizes = np.bincount(components.ravel())
        sizes[0] = 0
        # Of components of one size MONAI takes the one that NumPy sorts to the end.
        mask.array[(components > 0) & (components != np.argsort(sizes)[-1])] = 0


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
