"""Moves images and masks between an image's native grid and the network's: same box, axes turned, spacing changed.

Both grids have parallel axes, so that the way back needs one table of indices an axis; a voxel beyond the last
centre takes the nearest one, and no border is lost to rounding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from voxflow.errors import DataError
from voxflow.prediction.monai_grid import compute_monai_grid
from voxflow.volumes import Taps, Volume, count_threads, resample, resample_parallel, target_geometry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from voxflow.geometry import Geometry
    from voxflow.spec import ModelSpec

# A position this close to a voxel's centre is the centre, in voxels.
CENTRE = 1e-6


def network_grid(native: Geometry, spec: ModelSpec) -> Geometry:
    """Compute the grid on which the network is shown an image.

    Args:
        native: the grid that the image came on.
        spec: spacing, orientation and extent that the network was trained at.

    Example:
        >>> from voxflow.geometry import Geometry
        >>> from voxflow.spec import ModelSpec
        >>> spec = ModelSpec(
        ...     task="segmentation", class_names=("background", "spleen"), activation="softmax", spacing_mm=(1, 1, 1)
        ... )
        >>> network_grid(Geometry.from_parts((4, 4, 4), (1, 1, 2)), spec).size
        (4, 4, 8)
    """
    if spec.monai:
        return compute_monai_grid(native, spec)
    return target_geometry(native, spec.spacing_mm, spec.orientation, spec.extent)


def resample_to_network(volume: Volume, spec: ModelSpec, grid: Geometry | None = None) -> Volume:
    """Bring an image to the orientation and spacing that the network was trained at, as the stage resample does.

    Args:
        volume: the image on its native grid.
        spec: of the model; says the grid, the interpolation and whether the image is smoothed first.
        grid: where voxels are wanted, for a channel that follows another one; None: :func:`network_grid`.

    Returns:
        The image on that grid; what lies outside it is filled with its least value.
    """
    grid = grid or network_grid(volume.geometry, spec)
    if spec.monai:
        return resample_clamped(volume, grid, is_nearest=spec.interpolation == "nearest")
    fill = float(volume.array.min())
    return resample(volume, grid, spec.interpolation, fill, antialias=spec.antialias)


def resample_clamped(volume: Volume, geometry: Geometry, *, is_nearest: bool = False) -> Volume:
    """Bring an image to a grid with parallel axes as MONAI does: in floats, and its outermost values go on outside.

    Args:
        volume: the image.
        geometry: the grid that is filled.
        is_nearest: take the nearest voxel in the place of linear interpolation.

    Raises:
        DataError: the grids are rotated against each other.
    """
    array = volume.array.astype(np.float32)
    order, positions = map_positions(volume.geometry, geometry)
    clipped = [np.clip(place, 0, n - 1) for place, n in zip(positions, array.shape, strict=True)]
    rounded = [np.rint(place) for place in clipped]
    if is_nearest or all(np.allclose(place, whole, atol=CENTRE) for place, whole in zip(clipped, rounded, strict=True)):
        resampled = array[np.ix_(*(place.astype(np.intp) for place in rounded))]
    else:
        taps = [make_taps(place, axis) for axis, place in enumerate(clipped)]
        resampled = resample_parallel(array, taps, 0.0, count_threads())
    return Volume(np.ascontiguousarray(resampled.transpose(order)), geometry)


def make_taps(positions: NDArray[np.float64], axis: int) -> Taps:
    """Make the taps of an axis of positions that all lie on the old grid; what is as good as a centre is the centre."""
    whole = np.rint(positions)
    snapped = np.where(abs(positions - whole) < CENTRE, whole, positions)
    low = np.floor(snapped).astype(np.intp)
    weight: NDArray[np.float64] = snapped - low
    return Taps(low, low + (weight > 0), weight, 0, len(positions), axis)


def resample_labels(labels: Volume, geometry: Geometry) -> Volume:
    """Bring a label map to a grid with parallel axes; each voxel takes the nearest one.

    Args:
        labels: label values (i, j, k).
        geometry: the grid that is filled.

    Raises:
        DataError: the grids are rotated against each other.

    Example:
        >>> from voxflow.geometry import Geometry
        >>> coarse = Volume(np.array([[[1, 2]]], dtype=np.uint8), Geometry.from_parts((1, 1, 2), (1, 1, 2)))
        >>> fine = Geometry.from_parts((1, 1, 4), (1, 1, 1), (0, 0, -0.5))
        >>> resample_labels(coarse, fine).array.ravel()
        array([1, 1, 2, 2], dtype=uint8)
    """
    order, nearest = find_nearest(labels.geometry, geometry)
    return Volume(np.ascontiguousarray(labels.array[np.ix_(*nearest)].transpose(order)), geometry)


def find_nearest(source: Geometry, target: Geometry) -> tuple[Sequence[int], list[NDArray[np.intp]]]:
    """Find the nearest voxels of one grid for those of another one with parallel axes.

    Args:
        source: the grid that is read.
        target: the grid that is filled.

    Returns:
        How to order the axes of what was read, as of :func:`map_positions`; and for each axis of ``source`` the numbers
        of the voxels that ``target`` takes.

    Raises:
        DataError: the grids are rotated against each other.
    """
    order, positions = map_positions(source, target)
    return order, [
        np.clip(np.floor(place + 0.5).astype(np.intp), 0, n - 1)
        for place, n in zip(positions, source.size, strict=True)
    ]


def map_positions(source: Geometry, target: Geometry) -> tuple[Sequence[int], list[NDArray[np.float64]]]:
    """Find where the voxels of one grid lie on another one with parallel axes.

    Args:
        source: the grid that is read.
        target: the grid that is filled.

    Returns:
        How to order the axes of what was read along those of ``source``, so that they are those of ``target``; and for
        each axis of ``source`` the positions, in its voxels from 0, that ``target`` reads.

    Raises:
        DataError: the grids are rotated against each other.
    """
    matrix = np.linalg.solve(source.affine, target.affine)
    turn = matrix[:3, :3]
    axes = np.argmax(np.abs(turn), axis=1)
    aligned = np.zeros((3, 3))
    aligned[range(3), axes] = turn[range(3), axes]
    # What the other axes would add across the whole image must stay well below one voxel.
    drift = np.abs(turn - aligned) @ np.asarray(target.size)
    if sorted(axes) != [0, 1, 2] or drift.max() > 0.1:
        raise DataError("the two grids are rotated against each other")
    axis_positions = [matrix[n, 3] + turn[n, axes[n]] * np.arange(target.size[axes[n]]) for n in range(3)]
    return [int(n) for n in np.argsort(axes)], axis_positions
