"""Transforms that bring images to another voxel spacing, by SimpleITK."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
from pydantic import BeforeValidator, Field, PositiveFloat

from voxflow.components.registry import register
from voxflow.components.transforms.base import FieldNames, Sample, Transform, get_field, is_mask
from voxflow.components.transforms.grids import SPACING, affine_entries, affine_key, read_geometry
from voxflow.geometry import Geometry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from voxflow.components.fields import GridShape

Resolution = Annotated[
    tuple[PositiveFloat, PositiveFloat, PositiveFloat],
    BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else value),
]


@register("transform")
class ScaleByResolution(Transform):
    """Resample to a voxel spacing; the new grid covers the same box.

    Attributes:
        target_resolution: mm along (i, j, k).
        is_label: take the nearest voxel; masks of integers are taken so in any case.
    """

    is_preprocessing: ClassVar[bool] = False

    fields: FieldNames
    target_resolution: Resolution
    is_label: bool = False

    def grid_after(self, grid: GridShape) -> GridShape | None:
        """Return the voxels and spacing of the same box at the new spacing.

        Example:
            >>> scale = ScaleByResolution(fields=("image",), target_resolution=(2.0, 2.0, 2.0))
            >>> scale.grid_after(((100, 100, 50), (1.0, 1.0, 4.0)))
            ((50, 50, 100), (2.0, 2.0, 2.0))
        """
        size, spacing = grid
        return _grid_after(size, spacing, self.target_resolution)

    def __call__(self, sample: Sample) -> Sample:
        """Return the sample with every field resampled."""
        for name in self.fields:
            get_field(sample, name, self)
            grid = _same_box(read_geometry(sample, name), self.target_resolution)
            sample = resample_field(sample, name, grid, nearest=self.is_label)
        return sample | {SPACING: self.target_resolution}


@register("transform", dialect="tlt2")
class ResampleVolume(Transform):
    """Resample from one voxel spacing to another; masks of integers take the nearest voxel.

    Attributes:
        resolution: mm along (i, j, k) that the array has, or the name of the note that holds it.
        target_resolution: what it is brought to, or the name of a note: then to just the voxels that the note is of.
    """

    is_preprocessing: ClassVar[bool] = False

    field: str = Field(alias="applied_key")
    resolution: Resolution | str
    target_resolution: Resolution | str

    def reads(self) -> tuple[str, ...]:
        """The array, and the notes."""
        notes_read = (value for value in (self.resolution, self.target_resolution) if isinstance(value, str))
        return (self.field, *notes_read)

    def makes(self) -> tuple[str, ...]:
        """The array."""
        return (self.field,)

    def grid_after(self, grid: GridShape) -> GridShape | None:
        """Return the voxels and spacing of the same box at the new spacing.

        Returns:
            None where a field of the sample says the spacing, which only the data can tell.
        """
        size, spacing = grid
        return None if isinstance(self.target_resolution, str) else _grid_after(size, spacing, self.target_resolution)

    def __call__(self, sample: Sample) -> Sample:
        """Return the sample with the field resampled."""
        array = get_field(sample, self.field, self)
        present = self._read_spacing(sample, self.resolution)
        grid = read_geometry(sample, self.field)
        # The configuration's word counts where it contradicts the file; NIfTI's float32 differs in the last digits.
        if not np.allclose(grid.spacing, present, rtol=1e-3):
            grid = Geometry.from_parts(array.shape[1:], present, grid.origin, grid.direction)
        target = self._target_grid(sample, grid)
        resampled = resample_field(sample | affine_entries([self.field], grid), self.field, target)
        return resampled | {SPACING: target.spacing}

    def _read_spacing(self, sample: Sample, resolution: tuple[float, ...] | str) -> tuple[float, ...]:
        values = get_field(sample, resolution, self) if isinstance(resolution, str) else resolution
        return tuple(float(mm) for mm in values)

    def _target_grid(self, sample: Sample, grid: Geometry) -> Geometry:
        """The grid that a note is of, where it covers what the array covers; else the same box."""
        key = self.target_resolution
        spacing = self._read_spacing(sample, key)
        if isinstance(key, str) and f"{key}_size" in sample:
            noted = Geometry(tuple(int(n) for n in sample[f"{key}_size"]), sample[affine_key(key)])  # type: ignore[arg-type]
            # Within a voxel: rounding to whole voxels changes the extent by up to that much.
            if np.allclose(noted.extent, grid.extent, atol=max(*grid.spacing, *noted.spacing)):
                return noted
        return _same_box(grid, spacing)


def resample_field(sample: Sample, name: str, grid: Geometry, *, nearest: bool = False) -> Sample:
    """Resample one field onto a grid; outside of its own box is 0.

    Args:
        sample: holds the field (channel, i, j, k) and, beside it, its affine.
        name: the field.
        grid: the target.
        nearest: take the nearest voxel; masks of integers are taken so in any case.

    Returns:
        The sample with the field (channel, *grid.size) and its new affine.
    """
    from voxflow.volumes import Volume, resample

    array, present = sample[name], read_geometry(sample, name)
    method = "nearest" if nearest or is_mask(array) else "linear"
    channels = [resample(Volume(channel, present), grid, method).array for channel in array]  # type: ignore[arg-type]
    return sample | {name: np.stack(channels)} | affine_entries([name], grid)


def _same_box(grid: Geometry, spacing: Sequence[float]) -> Geometry:
    from voxflow.volumes import target_geometry

    return target_geometry(grid, spacing)


def _grid_after(size: Sequence[int], spacing: Sequence[float], target: tuple[float, ...]) -> GridShape:
    return _same_box(Geometry.from_parts(size, spacing), target).size, target
