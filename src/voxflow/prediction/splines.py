"""Brings arrays to another grid by splines, as nnU-Net does: logits of order 2 or more, and masks of an earlier stage.

A spline reaches across the whole axis, so that nothing can be brought back before the last window is done: all logits
are kept. Linear ones, nnU-Net's default, come back a few planes at a time (:mod:`voxflow.prediction.native_grid`).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from voxflow.prediction.labels import combine_regions, label_type
from voxflow.prediction.nnunet import find_separate_axis, list_spacings, require_steps, resample_channels
from voxflow.spec import NnunetResampling

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from voxflow.geometry import Geometry
    from voxflow.spec import ModelSpec, PreviousStage

# Maps of the target's size that are held at a time: the class at work, what it comes from, and the best so far.
MAPS_HELD = 4
# The label of what is zero around an image.
OUTSIDE = -1


def takes_splines(spec: ModelSpec) -> bool:
    """Whether an adopted model's logits are brought back by splines of order 2 or more."""
    return spec.nnunet is not None and max(spec.nnunet.logits.order, spec.nnunet.logits.order_z) > 1


def count_spline_bytes(source: Geometry, target: Geometry, spec: ModelSpec) -> int:
    """Count the bytes that the way back by splines takes beside the sums and the mask.

    Args:
        source: the network's grid.
        target: the image's, or that of the part that the network is shown.
        spec: of the model.
    """
    value = np.dtype(np.float32).itemsize
    regions = len(spec.regions) * math.prod(target.size)  # a bit of each is kept as a byte
    return value * (spec.out_channels * math.prod(source.size) + MAPS_HELD * math.prod(target.size)) + regions


def pick_labels_by_splines(logits: NDArray[np.float32], target: Geometry, spec: ModelSpec) -> NDArray[Any]:
    """Bring logits to a grid, one class after the other, and take the strongest class, or paint the regions, there.

    Args:
        logits: (class, i, j, k) on the network's grid.
        target: the grid of the part of the image that the network is shown, along the same axes.
        spec: of an adopted model.

    Returns:
        Label values (i, j, k) of ``target``.
    """
    resampling = require_steps(spec).logits
    native, trained = list_spacings(spec, target)
    separate = find_separate_axis(trained, native, resampling)
    maps = (resample_channels(part[None], target.size, resampling, separate)[0] for part in logits)
    if spec.regions:
        return np.asarray(combine_regions(np.stack([part > 0 for part in maps]), spec))
    best = next(maps)
    labels = np.zeros(target.size, dtype=label_type(spec))
    for value, scores in enumerate(maps, start=1):
        np.copyto(labels, value, where=scores > best)
        best = np.maximum(best, scores)
    return labels


def make_mask_channels(
    labels: NDArray[Any],
    is_inside: NDArray[np.bool_] | None,
    size: Sequence[int],
    spacings: tuple[Sequence[float], Sequence[float]],
    previous: PreviousStage,
) -> NDArray[np.float32]:
    """Make the channels of a cascade's network that show it the mask of the stage before.

    Args:
        labels: (i, j, k) of the part of the image that the network is shown, along its axes.
        is_inside: whether a voxel of it lies in what is not zero; None: all do.
        size: voxels of the network's grid.
        spacings: of ``labels`` and of the network's grid, as :func:`list_spacings` has them.
        previous: of the cascade.

    Returns:
        (value, i, j, k): 1 where the mask has a value, else 0.
    """
    mask = labels.astype(np.int32)
    if is_inside is not None:
        # For nnU-Net this is no background, so that it takes no share of the background's voxels.
        mask[(mask == 0) & ~is_inside] = OUTSIDE
    resampling = previous.mask or NnunetResampling(order=0)
    resampled = resample_mask(mask, size, resampling, find_separate_axis(*spacings, resampling))
    return np.stack([resampled == value for value in previous.values]).astype(np.float32)


def resample_mask(
    labels: NDArray[Any], size: Sequence[int], resampling: NnunetResampling, separate: int | None
) -> NDArray[Any]:
    """Bring a mask to another size: of each voxel the label whose share of it is the greatest.

    Of equal shares that of the nearest voxel wins where it is among them, else the least value.

    Args:
        labels: (i, j, k).
        size: voxels afterwards.
        resampling: the splines that shares are interpolated by.
        separate: the coarse axis, which is resampled by itself afterwards; None: there is none.
    """
    if tuple(size) == labels.shape:
        return labels
    planes = [have if axis == separate else need for axis, (have, need) in enumerate(zip(labels.shape, size,
                                                                                        strict=True))]  # fmt: skip
    resampled = _resample_by_shares(labels, planes, resampling.order)
    if separate is None or planes[separate] == size[separate]:
        return resampled
    along = resampling.model_copy(update={"order": resampling.order_z})
    if resampling.order_z == 0:
        whole = resample_channels(resampled[None].astype(np.float32), size, along, separate)[0]
        return np.asarray(np.rint(whole), dtype=labels.dtype)
    # Later values are written over earlier ones, and what no label has half of stays 0.
    final = np.zeros(tuple(size), dtype=labels.dtype)
    for value in np.unique(resampled):
        share = resample_channels((resampled == value)[None].astype(np.float32), size, along, separate)[0]
        final[share > 0.5] = value
    return final


def _resample_by_shares(labels: NDArray[Any], size: Sequence[int], order: int) -> NDArray[Any]:
    """Resample a mask to a size, label by label.

    A voxel half-way between two labels has equal shares up to the last bit, so that the shares are summed as nnU-Net
    sums them, by SciPy in double precision.
    """
    nearest = np.rint(_zoom(labels, size, 0)).astype(labels.dtype)
    if order == 0:
        return nearest
    values = np.unique(labels)
    winner = np.full(tuple(size), values[0], dtype=labels.dtype)
    best = _zoom(labels == values[0], size, order)
    is_nearest_best = (nearest == values[0]) & (best > 0)
    for value in values[1:]:
        share = _zoom(labels == value, size, order)
        better, is_nearest = share > best, (nearest == value) & (share > 0)
        is_nearest_best |= (share == best) & is_nearest
        np.copyto(is_nearest_best, is_nearest, where=better)
        winner[better] = value
        np.maximum(best, share, out=best)
    return np.where(is_nearest_best, nearest, winner)


def _zoom(values: NDArray[Any], size: Sequence[int], order: int) -> NDArray[np.float64]:
    """Resample (i, j, k) as ``skimage.transform.resize`` does; what a spline overshoots is cut off."""
    from scipy.ndimage import zoom

    factors = [1 / (have / need) for have, need in zip(values.shape, size, strict=True)]
    resampled = zoom(values.astype(np.float64), factors, order=order, mode="nearest", grid_mode=True)
    return np.clip(resampled, values.min(), values.max()) if order > 1 else np.asarray(resampled)
