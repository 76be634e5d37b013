"""Moving voxels to another grid, as SimpleITK does it, and by SimpleITK itself wherever the axes are turned.

By default the new grid covers the same box as the old one, outer face to outer face: the first voxel's outer corner
stays where it was and the size is rounded to the nearest count of voxels (``faces``: SimpleITK's convention, as its own
examples and TorchIO do it, and MONAI's Spacing with ``scale_extent=True``). ``centres`` keeps the first voxel's centre
instead and rounds the distance to the last one, as MONAI's Spacing does by default.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from voxflow.bounds import check_resampling
from voxflow.errors import DataError
from voxflow.geometry import Geometry
from voxflow.volumes.separable import compute_parallel_taps, resample_parallel
from voxflow.volumes.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

Interpolation = Literal["linear", "nearest", "bspline", "label"]
Extent = Literal["faces", "centres"]
# Full width at half maximum of a Gaussian of standard deviation 1.
FWHM = 2 * np.sqrt(2 * np.log(2))


def parse_spacing(spacing_mm: float | Sequence[float]) -> tuple[float, float, float]:
    """Read a spacing given as one value (isotropic) or three (i, j, k), mm.

    Raises:
        DataError: neither one nor three values, or one that is not positive and finite.

    Example:
        >>> parse_spacing(1.5)
        (1.5, 1.5, 1.5)
        >>> parse_spacing([0.8, 0.8, 3])
        (0.8, 0.8, 3.0)
    """
    values = (spacing_mm,) * 3 if isinstance(spacing_mm, int | float) else tuple(spacing_mm)
    if len(values) == 1:
        values = values * 3
    if len(values) != 3 or not all(np.isfinite(v) and v > 0 for v in values):
        raise DataError(f"a spacing is one or three positive numbers in mm, received {spacing_mm}")
    return float(values[0]), float(values[1]), float(values[2])


def target_geometry(
    geometry: Geometry,
    spacing_mm: float | Sequence[float] | None,
    orientation: str | None = None,
    extent: Extent = "faces",
) -> Geometry:
    """The grid that covers the same box with another spacing and, where asked, axes permuted or flipped.

    Args:
        geometry: the present grid.
        spacing_mm: along (i, j, k) of the new grid, or one value for all; None keeps the present one.
        orientation: where the new axes increase to, such as "RAS"; None keeps the present one. Axes are only
            permuted and flipped, never rotated off the old ones.
        extent: what of the box stays: the first voxel's outer corner ("faces"), or its centre ("centres").

    Raises:
        DataError: no spacing, no orientation, or a grid of far more voxels than the image has.

    Example:
        >>> old = Geometry.from_parts(size=(10, 10, 5), spacing=(1, 1, 4))
        >>> new = target_geometry(old, 2)
        >>> new.size, new.origin  # the outer corner stays at -0.5, -0.5, -2 mm
        ((5, 5, 10), (0.5, 0.5, -1.0))
        >>> target_geometry(old, 2, extent="centres").origin
        (0.0, 0.0, 0.0)
        >>> target_geometry(old, None, orientation="RAS").origin
        (9.0, 9.0, 0.0)
    """
    reoriented = _reorient(geometry, orientation) if orientation else geometry
    if spacing_mm is None:
        return reoriented
    spacing = np.asarray(parse_spacing(spacing_mm))
    if extent == "centres":
        size = np.round((np.asarray(reoriented.size) - 1) * reoriented.spacing / spacing + 1)
        check_resampling(reoriented.size, size.tolist())
        return Geometry.from_parts(size.astype(int).tolist(), spacing.tolist(), reoriented.origin, reoriented.direction)
    # Halves are rounded down: the last centre would lie on the outer face, inside or outside by chance.
    size = np.maximum(1, np.ceil(np.asarray(reoriented.extent) / spacing - 0.5 - 1e-4))
    check_resampling(reoriented.size, size.tolist())
    first_centre = reoriented.to_physical(np.array([-0.5] * 3)) + reoriented.direction @ (spacing / 2)
    return Geometry.from_parts(size.astype(int).tolist(), spacing.tolist(), first_centre.tolist(), reoriented.direction)


def resample(
    volume: Volume,
    geometry: Geometry,
    interpolation: Interpolation = "linear",
    fill: float = 0.0,
    *,
    antialias: bool = False,
) -> Volume:
    """Resample an image or a label map onto another grid.

    Args:
        volume: the image, or a label map of any integer values.
        geometry: the grid to fill.
        interpolation: "linear" or "bspline" for images; "nearest" for labels; "label" for labels with smooth
            borders (each label interpolated by itself, the strongest wins; no new values).
        fill: the value outside the image.
        antialias: smooth "linear" and "bspline" with a Gaussian along the axes that get coarser, see
            :func:`smooth_for_grid`.

    Returns:
        A volume of the same voxel type; integer images are rounded.

    Raises:
        DataError: the interpolation is unknown.

    Example:
        >>> ramp = Volume(np.array([[[0.0]], [[1]], [[2]]]), Geometry.from_parts((3, 1, 1), (2, 1, 1)))
        >>> resample(ramp, Geometry.from_parts((5, 1, 1), (1, 1, 1))).array.ravel().tolist()
        [0.0, 0.5, 1.0, 1.5, 2.0]
    """
    if volume.geometry.is_close(geometry, tolerance_mm=1e-6):
        return Volume(volume.array, geometry)
    interpolations = get_args(Interpolation)
    if interpolation not in interpolations:
        raise DataError(f"unknown interpolation {interpolation!r}, expected one of {', '.join(interpolations)}")
    dtype = volume.array.dtype
    if interpolation not in ("linear", "bspline") or dtype.kind not in "iuf":
        return Volume(_resample_by_simpleitk(volume, geometry, interpolation, fill), geometry)
    blended = _blend_voxels(smooth_for_grid(volume, geometry) if antialias else volume, geometry, interpolation, fill)
    return Volume(_convert_to_dtype(blended, dtype), geometry)


def _blend_voxels(volume: Volume, geometry: Geometry, interpolation: Interpolation, fill: float) -> NDArray[Any]:
    """Interpolate an image: axis by axis where that is linear and the axes are parallel, else by SimpleITK."""
    taps = compute_parallel_taps(volume.geometry, geometry) if interpolation == "linear" else None
    if taps is not None:
        return resample_parallel(volume.array, taps, fill, count_threads())
    return _resample_by_simpleitk(_convert_to_float(volume), geometry, interpolation, fill)


def smooth_for_grid(volume: Volume, geometry: Geometry) -> Volume:
    """Smooth an image so that a coarser grid can hold it, before it is sampled; axes that get finer stay as they are.

    A voxel of the old grid stands for its spacing, one of the new grid for its own: the Gaussian's width at half
    maximum is what, added to the first in squares, gives the second (Cardoso et al. 2015). Borders are continued.

    Returns:
        Floats on the volume's own grid, where any axis gets coarser; else the volume itself.
    """
    from scipy.ndimage import gaussian_filter1d

    # How far apart the new centres lie along each old axis, in old voxels, whichever way they are turned.
    factors = np.linalg.norm((np.linalg.inv(volume.geometry.affine) @ geometry.affine)[:3, :3], axis=1)
    coarser = [(axis, float(factor)) for axis, factor in enumerate(factors) if factor > 1 + 1e-3]
    if not coarser:
        return volume
    array = _convert_to_float(volume).array
    for axis, factor in coarser:
        array = gaussian_filter1d(array, np.sqrt(factor**2 - 1) / FWHM, axis=axis, mode="nearest")
    return Volume(array, volume.geometry)


def _resample_by_simpleitk(
    volume: Volume, geometry: Geometry, interpolation: Interpolation, fill: float
) -> NDArray[Any]:
    import SimpleITK as sitk

    interpolators = {
        "linear": sitk.sitkLinear,
        "nearest": sitk.sitkNearestNeighbor,
        "bspline": sitk.sitkBSpline,
        "label": sitk.sitkLabelLinear,
    }
    resampler = sitk.ResampleImageFilter()
    resampler.SetSize(geometry.size)
    resampler.SetOutputSpacing(geometry.spacing)
    resampler.SetOutputOrigin(geometry.origin)
    resampler.SetOutputDirection(geometry.direction.ravel().tolist())
    resampler.SetInterpolator(interpolators[interpolation])
    resampler.SetDefaultPixelValue(fill)
    return Volume.from_sitk(resampler.Execute(volume.to_sitk())).array


def count_threads() -> int:
    """Count the threads that SimpleITK would take.

    It is a setting of the process: whoever works on several cases at a time lowers it, and all resampling keeps to it.
    """
    import SimpleITK as sitk

    return int(sitk.ProcessObject.GetGlobalDefaultNumberOfThreads())


def _convert_to_float(volume: Volume) -> Volume:
    """SimpleITK cuts interpolated integers off towards zero, half a Hounsfield unit of bias; so floats go in."""
    is_exact = volume.array.dtype.itemsize <= 2 or volume.array.dtype == np.float32
    return Volume(volume.array.astype(np.float32 if is_exact else np.float64), volume.geometry)


def _convert_to_dtype(array: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Of the type asked for; whole numbers are rounded, and cut at its bounds."""
    if array.dtype == dtype or dtype.kind not in "iu":
        return array.astype(dtype, copy=False)
    bounds = np.iinfo(dtype)
    return np.asarray(np.clip(np.rint(array), bounds.min, bounds.max).astype(dtype))


def _reorient(geometry: Geometry, orientation: str) -> Geometry:
    present = geometry.orientation
    opposite = dict(zip("LRPASI", "RLAPIS", strict=True))
    letters = orientation.upper()
    if len(letters) != 3 or {min(c, opposite.get(c, c)) for c in letters} != {"L", "A", "I"}:
        raise DataError(f"an orientation is three of L/R, P/A, S/I, one of each pair, received {orientation!r}")
    columns, size = [], []
    corner = geometry.affine[:3, 3].copy()
    for letter in letters:
        axis = next(n for n, current in enumerate(present) if current in (letter, opposite[letter]))
        column = geometry.affine[:3, axis]
        if present[axis] != letter:
            # The last voxel of a flipped axis becomes its first.
            corner += column * (geometry.size[axis] - 1)
            column = -column
        columns.append(column)
        size.append(geometry.size[axis])
    affine = np.eye(4)
    affine[:3, :3] = np.stack(columns, axis=1)
    affine[:3, 3] = corner
    return Geometry((size[0], size[1], size[2]), affine)
