"""Brings a mask from its volume's grid back onto the slices that the volume was made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from voxflow.dicom.grid import IrregularSlicesError, compute_plane_axes, fit_slice_grid
from voxflow.dicom.remedy import plan_remedy
from voxflow.errors import DicomError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from voxflow.dicom.headers import Plane
    from voxflow.geometry import Geometry
    from voxflow.volumes import Volume

TOLERANCE_MM = 0.1


def place_on_slices(mask: Volume, planes: Sequence[Plane]) -> tuple[NDArray[Any], str]:
    """Bring a mask onto the slices of its image.

    A volume that lies on its slices is taken as it is. One that was mended (a tilted gantry sheared straight, uneven
    spacing resampled) lies where its slices lie in the patient: each pixel takes the voxel nearest to it.

    Args:
        mask: label values (i, j, k).
        planes: where each slice lies, in any order.

    Returns:
        Label values (slices, rows, columns) in the order of ``planes``, and what was done, in words, if anything.

    Raises:
        DicomError: the slices make no volume, or another one than the mask's.
    """
    try:
        geometry, order = fit_slice_grid(planes, tolerance_mm=TOLERANCE_MM, min_slices=1 if len(planes) == 1 else 2)
    except IrregularSlicesError:
        mending = plan_remedy(planes, tolerance_mm=TOLERANCE_MM, tilt=True, irregular=True)
        if mending is None:
            raise
        _check_same_grid(mask.geometry, mending.target)
        values = np.stack([_sample_plane(mask, plane) for plane in planes])
        return values, f"brought back onto the slices, nearest voxel: {mending.description}"
    _check_same_grid(mask.geometry, geometry)
    values = np.empty((len(planes), mask.array.shape[1], mask.array.shape[0]), dtype=mask.array.dtype)
    values[order] = mask.array.transpose(2, 1, 0)
    return values, ""


def _sample_plane(mask: Volume, plane: Plane) -> NDArray[Any]:
    """The voxel nearest to each pixel, (rows, columns); 0 beyond the volume."""
    along_row, along_column, _ = compute_plane_axes(plane)
    columns, rows = np.meshgrid(np.arange(plane.columns), np.arange(plane.rows))
    points = np.array(plane.position) + (columns * plane.spacing[1])[..., None] * along_row
    points = points + (rows * plane.spacing[0])[..., None] * along_column
    index = np.rint(np.round(mask.geometry.to_index(points), 6)).astype(np.intp)
    inside = ((index >= 0) & (index < mask.geometry.size)).all(axis=-1)
    values = np.zeros(inside.shape, dtype=mask.array.dtype)
    values[inside] = mask.array[tuple(index[inside].T)]
    return values


def _check_same_grid(mask: Geometry, series: Geometry) -> None:
    if not series.is_close(mask, tolerance_mm=TOLERANCE_MM):
        raise DicomError(
            f"the mask lies on another grid than the series: {mask.size} and {series.size} voxels, "
            f"origin {_format_mm(mask.origin)} and {_format_mm(series.origin)} mm"
        )


def _format_mm(values: Sequence[float]) -> str:
    return " ".join(f"{value:.2f}" for value in values)
