"""Prepares images as nnU-Net v2 does, for models that were adopted from it, and places their masks back.

After nnunetv2 2.8.1 (Apache-2.0, German Cancer Research Center): ``DefaultPreprocessor``, ``cropping``,
``default_normalization_schemes`` and ``default_resampling``. The order of the steps is its own: the axes are turned,
the image is cropped to what is not zero, scaled, and only then resampled. A spline is a linear map of each axis, so
that resampling is a product with one matrix an axis; the matrices are made by SciPy from unit vectors, and give the
values that ``skimage.transform.resize`` gives.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from voxflow.bounds import check_resampling
from voxflow.errors import DataError
from voxflow.geometry import Geometry
from voxflow.volumes import Volume, require_finite, resample, target_geometry

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from numpy.typing import NDArray

    from voxflow.spec import ModelSpec, NnunetNormalisation, NnunetResampling, NnunetSteps

LEAST_STD = 1e-8
RGB_RANGE = (0, 255)
# Rows of a matrix that are multiplied at a time: a spline's row has few values that are not zero.
ROWS = 64


@dataclass(frozen=True, eq=False)
class CroppedPlace:
    """Where the part that a network was shown lies in the image.

    Attributes:
        size: of the image (i, j, k).
        axes: of each axis of the part the axis of the image that it follows.
        flips: of each axis of the part whether it runs the other way.
        box: the part, in the turned image.
    """

    size: tuple[int, int, int]
    axes: tuple[int, int, int]
    flips: tuple[bool, bool, bool]
    box: tuple[slice, slice, slice]

    def insert(self, labels: NDArray[Any]) -> NDArray[Any]:
        """Return label values (i, j, k) of the whole image: those of the part, and background around it."""
        turned = np.zeros([self.size[axis] for axis in self.axes], dtype=labels.dtype)
        turned[self.box] = labels
        return np.ascontiguousarray(_flip(turned, self.flips).transpose(np.argsort(self.axes)))

    def extract(self, labels: NDArray[Any]) -> NDArray[Any]:
        """Return the part of label values (i, j, k) of the whole image."""
        return np.ascontiguousarray(_flip(labels.transpose(self.axes), self.flips)[self.box])


@dataclass(frozen=True, eq=False)
class NnunetImage:
    """An image as an adopted network takes it.

    Attributes:
        image: (channel, i, j, k) along the network's axes, float32.
        grid: where its voxels lie.
        cropped: the grid of the part of the image that it was made of, along the same axes.
        place: where that part lies in the image.
        is_inside: whether a voxel of the part is not zero, or enclosed by such; None: all are.
    """

    image: NDArray[np.float32]
    grid: Geometry
    cropped: Geometry
    place: CroppedPlace
    is_inside: NDArray[np.bool_] | None


def prepare_nnunet(volumes: Sequence[Volume], spec: ModelSpec) -> NnunetImage:
    """Bring an image to an adopted network's grid and values.

    Args:
        volumes: the channels, in the network's order.
        spec: of a model with ``nnunet``.

    Raises:
        DataError: values that are no numbers, or that a normalisation refuses.
    """
    steps, reference = require_steps(spec), volumes[spec.reference].geometry
    oriented = target_geometry(reference, None, spec.orientation)
    axes, flips = reference.find_axes(oriented) or ((0, 1, 2), (False, False, False))
    first, second, third = steps.axes
    image_axes = (axes[first], axes[second], axes[third])
    image_flips = (flips[first], flips[second], flips[third])
    turned = _turn_geometry(oriented, steps.axes)
    image = _stack_channels(volumes, reference, image_axes, image_flips)
    is_inside = _fill_nonzero(image)
    box = find_box(is_inside)
    image, is_inside = np.ascontiguousarray(image[:, *box]), is_inside[box]
    for number, (channel, normalisation) in enumerate(zip(image, steps.normalisation, strict=True)):
        image[number] = _normalise(channel, is_inside, normalisation)
    cropped = crop_geometry(turned, box)
    now, wanted = list_spacings(spec, cropped)
    size = [round(a / b * n) for a, b, n in zip(now, wanted, cropped.size, strict=True)]
    if min(size) < 1:
        raise DataError(f"an image of {cropped.size} voxels of {now} mm has none left at the model's {wanted} mm")
    check_resampling(cropped.size, size)
    resampled = resample_channels(image, size, steps.image, find_separate_axis(now, wanted, steps.image))
    place = CroppedPlace(reference.size, image_axes, image_flips, box)
    grid = resize_geometry(cropped, size)
    return NnunetImage(resampled, grid, cropped, place, None if is_inside.all() else is_inside)


def list_positions(source: Geometry, target: Geometry, spec: ModelSpec) -> list[NDArray[np.float64]]:
    """List where the voxels of the cropped image lie on the network's grid, as nnU-Net's way back has them.

    Args:
        source: the network's grid.
        target: the cropped image's, along the same axes.
        spec: of the model.

    Returns:
        For each axis positions in voxels of ``source`` from 0; whole numbers along an axis that takes the nearest one.
    """
    steps = require_steps(spec)
    native, trained = list_spacings(spec, target)
    separate = find_separate_axis(trained, native, steps.logits)
    positions = []
    for axis, (have, need) in enumerate(zip(source.size, target.size, strict=True)):
        place = have / need * (np.arange(need) + 0.5) - 0.5
        order = steps.logits.order_z if axis == separate else steps.logits.order
        if have != need and order == 0:
            place = np.floor(place + 0.5)
        positions.append(np.clip(place, 0, have - 1))
    return positions


def require_steps(spec: ModelSpec) -> NnunetSteps:
    """Return how an adopted nnU-Net prepares images.

    Raises:
        DataError: the model is none.
    """
    if spec.nnunet is None:
        raise DataError("the model is no adopted nnU-Net")
    return spec.nnunet


def list_spacings(spec: ModelSpec, cropped: Geometry) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """List the spacing of the part of an image that a model is shown, and that of the network's grid, in mm."""
    return _read_spacing(cropped), _fill_spacing(require_steps(spec), cropped)


def find_separate_axis(now: Sequence[float], wanted: Sequence[float], resampling: NnunetResampling) -> int | None:
    """Find the one coarse axis that nnU-Net resamples by itself; None: there is none.

    Args:
        now: mm along each axis.
        wanted: mm afterwards.
        resampling: whether it is looked for, and from which ratio on.

    Example:
        >>> from voxflow.spec import NnunetResampling
        >>> find_separate_axis((5.0, 1.0, 1.0), (3.0, 1.0, 1.0), NnunetResampling(order=3))
        0
    """
    if resampling.separate_z is False:
        return None
    is_coarse = [max(spacing) / min(spacing) > resampling.threshold for spacing in (now, wanted)]
    if resampling.separate_z or is_coarse[0]:
        spacing = now
    elif is_coarse[1]:
        spacing = wanted
    else:
        return None
    coarse = [axis for axis, step in enumerate(spacing) if step == max(spacing)]
    return coarse[0] if len(coarse) == 1 else None


def compute_nnunet_importance(window: Sequence[int]) -> NDArray[np.float32]:
    """Compute how much each voxel of a window counts, as nnU-Net's ``compute_gaussian`` has it.

    Args:
        window: voxels along each axis.

    Returns:
        float32 of the window's shape: a Gaussian of an eighth of the side around the voxel behind the middle, cut off
        at four of its widths, in the steps of half precision; where it is 0, the least of the others.
    """
    weight = np.full((1,) * len(window), 10.0)
    for axis, side in enumerate(window):
        away = np.arange(side) - side // 2
        sigma = side / 8
        values = np.where(np.abs(away) <= int(4 * sigma + 0.5), np.exp(-0.5 * (away / sigma) ** 2), 0)
        shape = [1] * len(window)
        shape[axis] = side
        weight = weight * values.reshape(shape)
    half = weight.astype(np.float16)
    return np.where(half == 0, half[half > 0].min(), half).astype(np.float32)


def _stack_channels(
    volumes: Sequence[Volume], grid: Geometry, axes: Sequence[int], flips: Sequence[bool]
) -> NDArray[np.float32]:
    """The channels on one grid, with their axes turned (channel, i, j, k)."""
    channels = []
    for volume in volumes:
        require_finite(volume.array)
        is_placed = volume.geometry.is_close(grid)
        placed = volume if is_placed else resample(volume, grid, "linear", float(volume.array.min()))
        channels.append(_flip(placed.array.transpose(axes), flips))
    return np.stack(channels).astype(np.float32)


def _flip(array: NDArray[Any], flips: Sequence[bool]) -> NDArray[Any]:
    return np.flip(array, tuple(axis for axis, is_flipped in enumerate(flips) if is_flipped))


def _turn_geometry(geometry: Geometry, axes: Sequence[int]) -> Geometry:
    i, j, k = (geometry.size[axis] for axis in axes)
    return Geometry((i, j, k), geometry.affine[:, [*axes, 3]])


def crop_geometry(geometry: Geometry, box: Sequence[slice]) -> Geometry:
    """Return the grid of a part of a grid."""
    affine = geometry.affine.copy()
    affine[:3, 3] = geometry.to_physical(np.array([part.start for part in box]))
    i, j, k = (part.stop - part.start for part in box)
    return Geometry((i, j, k), affine)


def resize_geometry(geometry: Geometry, size: Sequence[int]) -> Geometry:
    """Return the grid of another size (i, j, k) that covers the same box, from outer face to outer face."""
    affine = geometry.affine.copy()
    affine[:3, :3] = geometry.affine[:3, :3] * (np.asarray(geometry.size) / np.asarray(size))
    corner = geometry.to_physical(np.array([-0.5] * 3))
    affine[:3, 3] = corner + affine[:3, :3] @ np.array([0.5] * 3)
    i, j, k = size
    return Geometry((i, j, k), affine)


def _read_spacing(geometry: Geometry) -> tuple[float, ...]:
    """The spacing as NIfTI's header has it, in single precision: what the affine adds would turn halves over."""
    return tuple(float(np.float32(step)) for step in geometry.spacing)


def _fill_spacing(steps: NnunetSteps, cropped: Geometry) -> tuple[float, ...]:
    return tuple(
        native if step is None else step for step, native in zip(steps.spacing_mm, _read_spacing(cropped), strict=True)
    )


def _fill_nonzero(image: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Whether a voxel is not zero in some channel, or enclosed by such; all, where none is."""
    from scipy.ndimage import binary_fill_holes

    is_inside: NDArray[np.bool_] = np.any(image != 0, axis=0)
    if is_inside.all():
        return is_inside
    return np.asarray(binary_fill_holes(is_inside))


def find_box(is_inside: NDArray[np.bool_]) -> tuple[slice, slice, slice]:
    """Find the box of the voxels (i, j, k) that are inside; all, where none is."""
    box = []
    for axis, side in enumerate(is_inside.shape):
        filled = np.flatnonzero(is_inside.any(axis=tuple(other for other in range(3) if other != axis)))
        box.append(slice(int(filled[0]), int(filled[-1]) + 1) if len(filled) else slice(0, side))
    i, j, k = box
    return i, j, k


def _normalise(
    channel: NDArray[np.float32], is_inside: NDArray[np.bool_], normalisation: NnunetNormalisation
) -> NDArray[np.float32]:
    """Scale one channel (i, j, k); it may be changed in place."""
    if normalisation.scheme == "CTNormalization":
        channel = np.clip(channel, normalisation.percentile_00_5, normalisation.percentile_99_5)
        channel -= np.float32(normalisation.mean)
        channel /= np.float32(max(normalisation.std, LEAST_STD))
    elif normalisation.scheme == "ZScoreNormalization" and normalisation.uses_mask:
        values = channel[is_inside]
        channel[is_inside] = (values - values.mean()) / max(values.std(), LEAST_STD) if len(values) else values
    elif normalisation.scheme == "ZScoreNormalization":
        channel = (channel - channel.mean()) / max(channel.std(), LEAST_STD)
    elif normalisation.scheme == "RescaleTo01Normalization":
        channel = channel - channel.min()
        channel /= max(channel.max(), LEAST_STD)
    elif normalisation.scheme == "RGBTo01Normalization":
        if channel.min() < RGB_RANGE[0] or channel.max() > RGB_RANGE[1]:
            raise DataError(
                f"the model takes colours from 0 to 255; the image has {channel.min():g} to {channel.max():g}"
            )
        channel = channel / np.float32(255)
    return np.asarray(channel, dtype=np.float32)


def resample_channels(
    image: NDArray[np.float32], size: Sequence[int], resampling: NnunetResampling, separate: int | None
) -> NDArray[np.float32]:
    """Resample each channel to a size.

    Args:
        image: (channel, i, j, k).
        size: voxels along i, j, k afterwards.
        resampling: the orders of the splines.
        separate: the coarse axis, which is resampled by itself; None: there is none.
    """
    if tuple(size) == image.shape[1:]:
        return image
    within = [axis for axis in range(3) if axis != separate]
    # What a spline overshoots is cut off: of the image, or of each plane where these are resampled one by one.
    bounds_axes = tuple(axis + 1 for axis in within)
    least, most = image.min(axis=bounds_axes, keepdims=True), image.max(axis=bounds_axes, keepdims=True)
    values = image
    for axis in within:
        values = _multiply_axis(values, make_spline_matrix(image.shape[axis + 1], size[axis], resampling.order), axis)
    if resampling.order > 1:
        values = np.clip(values, least, most)
    if separate is not None:
        matrix = make_spline_matrix(image.shape[separate + 1], size[separate], resampling.order_z, is_mapped=True)
        values = _multiply_axis(values, matrix, separate)
    return np.ascontiguousarray(values, dtype=np.float32)


@lru_cache(maxsize=12)
def make_spline_matrix(have: int, need: int, order: int, *, is_mapped: bool = False) -> NDArray[np.float32] | None:
    """Make the matrix (need, have) that resamples one axis; None where nothing changes.

    Args:
        have: voxels of the axis.
        need: voxels afterwards.
        order: of the spline.
        is_mapped: by ``map_coordinates``, as nnU-Net resamples a coarse axis, in the place of skimage's ``zoom``.

    Example:
        >>> make_spline_matrix(2, 4, 1)
        array([[1.  , 0.  ],
               [0.75, 0.25],
               [0.25, 0.75],
               [0.  , 1.  ]], dtype=float32)
    """
    from scipy.ndimage import map_coordinates, zoom

    if have == need:
        return None
    units = np.eye(have)
    if is_mapped:
        positions = (have / need * (np.arange(need) + 0.5) - 0.5)[None]
        columns = [map_coordinates(unit, positions, order=order, mode="nearest") for unit in units]
    else:
        factor = 1 / (have / need)
        columns = [zoom(unit, factor, order=order, mode="nearest", grid_mode=True) for unit in units]
    return np.stack(columns, axis=1).astype(np.float32)


def _multiply_axis(values: NDArray[np.float32], matrix: NDArray[np.float32] | None, axis: int) -> NDArray[np.float32]:
    """Multiply a matrix (need, have) with the axis of (channel, i, j, k), counted without the channel."""
    if matrix is None:
        return values
    moved = np.moveaxis(values, axis + 1, 0)
    lines = np.ascontiguousarray(moved).reshape(len(moved), -1)
    resampled = np.empty((len(matrix), lines.shape[1]), dtype=np.float32)
    for first in range(0, len(matrix), ROWS):
        rows = matrix[first : first + ROWS]
        columns = np.flatnonzero(np.abs(rows).max(axis=0) > np.finfo(np.float32).eps / ROWS)
        reached = slice(int(columns[0]), int(columns[-1]) + 1)
        np.matmul(rows[:, reached], lines[reached], out=resampled[first : first + ROWS])
    return np.moveaxis(resampled.reshape(len(matrix), *moved.shape[1:]), 0, axis + 1)
