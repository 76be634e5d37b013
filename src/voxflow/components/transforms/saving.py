"""Transforms that write a case's fields as NIfTI on their way through a chain, and writing one field."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from voxflow.components.registry import register
from voxflow.components.transforms.base import FieldNames, Sample, Transform, get_field
from voxflow.components.transforms.grids import read_geometry
from voxflow.errors import DataError
from voxflow.progress import say

VoxelType = Literal["uint8", "int8", "int16", "uint16", "int32", "uint32", "float32", "float64"]
# One count for the whole process: several chains may write into one folder.
_numbers = itertools.count()


@register("transform")
class SaveAsNifti(Transform):
    """Write what a chain has made of a case, to look at: ``out_dir``/CASE_NUMBER_FIELD.nii.gz.

    Attributes:
        interrupt: wait for the enter key after each case; without a terminal the work goes on.
    """

    TYPES: ClassVar[dict[str, VoxelType]] = {"f": "float32", "i": "int32", "u": "uint16", "b": "uint8"}
    is_preprocessing: ClassVar[bool] = False

    fields: FieldNames
    out_dir: str
    interrupt: bool = False

    def makes(self) -> tuple[str, ...]:
        """Nothing new."""
        return ()

    def __call__(self, sample: Sample) -> Sample:
        """Return the sample as it is."""
        from voxflow.volumes import Volume, write_volume

        number = next(_numbers)
        for name in self.fields:
            array = get_field(sample, name, self)
            voxels = array.astype(self.TYPES[array.dtype.kind])
            for channel, volume in enumerate(voxels):
                suffix = f"_{channel}" if len(voxels) > 1 else ""
                path = Path(self.out_dir) / f"{sample.get('case', 'case')}_{number:04d}_{name}{suffix}.nii.gz"
                write_volume(path, Volume(volume, read_geometry(sample, name)))
        # A scheduled run has no terminal, and would wait for ever.
        if self.interrupt and sys.stdin.isatty():
            say(f"wrote {', '.join(self.fields)} to {self.out_dir}; press enter to go on")
            sys.stdin.readline()
        return sample


@register("transform", dialect="tlt2", name="WriteNiftyResults")
class WriteNiftyTransform(Transform):
    """Write a field where the chain has brought it, as CASE/CASE_FIELD.nii.gz below ``write_path``."""

    is_preprocessing: ClassVar[bool] = False

    field: str = Field(alias="applied_key")
    write_path: str
    dtype: VoxelType = "float32"

    def __call__(self, sample: Sample) -> Sample:
        """Return the sample as it is."""
        get_field(sample, self.field, self)
        write_field(sample, self.field, Path(self.write_path), self.dtype)
        return sample


def write_field(sample: Sample, name: str, folder: Path, dtype: VoxelType) -> Path:
    """Write a field of one channel as FOLDER/CASE/CASE_NAME.nii.gz, where it lies in the patient.

    Args:
        sample: holds the field (1, i, j, k), its affine, and the case's name under "case".
        name: the field.
        folder: made where it is missing.
        dtype: the file's voxel type; whole numbers are rounded to.

    Returns:
        The file.

    Raises:
        DataError: it has several channels, or values that the type can't hold.
    """
    from voxflow.volumes import Volume, write_volume

    case, array = str(sample.get("case", "case")), sample[name]
    path = folder / case / f"{case}_{name}.nii.gz"
    if len(array) != 1:
        raise DataError(f"{name!r} has {len(array)} channels, a file holds one; split them first", path=path)
    write_volume(path, Volume(_as_type(array[0], dtype, path), read_geometry(sample, name)))
    return path


def _as_type(array: Any, dtype: VoxelType, path: Path) -> Any:
    target = np.dtype(dtype)
    if target.kind == "f" or array.dtype == target:
        return array.astype(target)
    bounds, whole = np.iinfo(target), np.rint(array)
    if array.size and (whole.min() < bounds.min or whole.max() > bounds.max):
        raise DataError(f"values from {whole.min():g} to {whole.max():g} don't fit {dtype}", path=path)
    return whole.astype(target)
