"""Owns moving voxels to another grid, with SimpleITK.

The new grid covers the same box as the old one, outer face to outer face: the first voxel's outer corner stays
where it was and the size is rounded to the nearest count of voxels (SimpleITK's convention, as its own examples
and TorchIO do it; MONAI's Spacing with ``align_corners`` keeps voxel centres instead).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from voxflow.errors import DataError
from voxflow.geometry import Geometry
from voxflow.volumes.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

Interpolation = Literal["linear", "nearest", "bspline", "label"]


def isotropic_or_per_axis(spacing_mm: float | Sequence[float]) -> tuple[float, float, float]:
    """Read a spacing given as one value (isotropic) or three (i, j, k), mm."""
    values = (spacing_mm,) * 3 if isinstance(spacing_mm, int | float) else tuple(spacing_mm)
    if len(values) == 1:
        values = values * 3
    if len(values) != 3 or not all(np.isfinite(v) and v > 0 for v in values):
        raise DataError(f"a spacing is one or three positive numbers in mm, received {spacing_mm}")
    return float(values[0]), float(values[1]), float(values[2])


def target_geometry(geometry: Geometry, spacing_mm: Sequence[float] | None, orientation: str | None = None) -> Geometry:
    """The grid that covers the same box with another spacing and, where asked, axes turned or flipped.

    Args:
        geometry: the present grid.
        spacing_mm: wanted along (i, j, k) of the new grid; None keeps the present one.
        orientation: where the new axes increase to, such as "RAS"; None keeps the present one. Axes are only
            permuted and flipped, never rotated off the old ones.
    """
    turned = _oriented(geometry, orientation) if orientation else geometry
    if spacing_mm is None:
        return turned
    spacing = np.asarray(isotropic_or_per_axis(spacing_mm))
    # Halves are rounded down: the last centre would lie on the outer face, inside or outside by chance.
    size = np.maximum(1, np.ceil(np.asarray(turned.extent) / spacing - 0.5 - 1e-4)).astype(int)
    first_centre = turned.to_physical(np.array([-0.5] * 3)) + turned.direction @ (spacing / 2)
    return Geometry.from_parts(size.tolist(), spacing.tolist(), first_centre.tolist(), turned.direction)


def resample(volume: Volume, geometry: Geometry, interpolation: Interpolation = "linear", fill: float = 0.0) -> Volume:
    """Resample onto another grid.

    Args:
        volume: the image, or a label map (any integer values).
        geometry: the grid to fill.
        interpolation: "linear" or "bspline" for images; "nearest" for labels; "label" for labels with smooth
            borders (each label interpolated by itself, the strongest wins; no new values).
        fill: the value outside the image.

    Returns:
        A volume of the same voxel type; integer images are rounded.
    """
    import SimpleITK as sitk

    if volume.geometry.is_close(geometry, tolerance_mm=1e-6):
        return Volume(volume.array, geometry)
    interpolators = {
        "linear": sitk.sitkLinear,
        "nearest": sitk.sitkNearestNeighbor,
        "bspline": sitk.sitkBSpline,
        "label": sitk.sitkLabelLinear,
    }
    if interpolation not in interpolators:
        raise DataError(f"unknown interpolation {interpolation!r}, expected one of {', '.join(interpolators)}")
    resampler = sitk.ResampleImageFilter()
    resampler.SetSize(geometry.size)
    resampler.SetOutputSpacing(geometry.spacing)
    resampler.SetOutputOrigin(geometry.origin)
    resampler.SetOutputDirection(geometry.direction.ravel().tolist())
    resampler.SetInterpolator(interpolators[interpolation])
    resampler.SetDefaultPixelValue(fill)
    blends = interpolation in ("linear", "bspline") and volume.array.dtype.kind in "iu"
    resampled = Volume.from_sitk(resampler.Execute((_as_float(volume) if blends else volume).to_sitk()))
    return Volume(_rounded(resampled.array, volume.array.dtype), geometry) if blends else resampled


def _as_float(volume: Volume) -> Volume:
    """SimpleITK cuts interpolated integers off towards zero, half a Hounsfield unit of bias; so floats go in."""
    is_exact = volume.array.dtype.itemsize <= 2
    return Volume(volume.array.astype(np.float32 if is_exact else np.float64), volume.geometry)


def _rounded(array: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    bounds = np.iinfo(dtype)
    return np.asarray(np.clip(np.rint(array), bounds.min, bounds.max).astype(dtype))


def _oriented(geometry: Geometry, orientation: str) -> Geometry:
    present = geometry.orientation
    opposite = dict(zip("LRPASI", "RLAPIS", strict=True))
    wanted = orientation.upper()
    if len(wanted) != 3 or {min(c, opposite.get(c, c)) for c in wanted} != {"L", "A", "I"}:
        raise DataError(f"an orientation is three of L/R, P/A, S/I, one of each pair, received {orientation!r}")
    columns, size = [], []
    corner = geometry.affine[:3, 3].copy()
    for letter in wanted:
        axis = next(n for n, have in enumerate(present) if have in (letter, opposite[letter]))
        column = geometry.affine[:3, axis]
        if present[axis] != letter:
            corner += column * (geometry.size[axis] - 1)
            column = -column
        columns.append(column)
        size.append(geometry.size[axis])
    affine = np.eye(4)
    affine[:3, :3] = np.stack(columns, axis=1)
    affine[:3, 3] = corner
    return Geometry((size[0], size[1], size[2]), affine)
