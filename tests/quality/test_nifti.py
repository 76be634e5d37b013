"""NaN in a NIfTI file is seen, although SimpleITK reads zeros there."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import nibabel
import numpy as np
import pytest

from voxflow.quality.nifti import holds_only_finite_values
from voxflow.volumes import read_volume

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("code", ["f4", "f8"])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_values_that_are_no_numbers_are_found(name: str, order: str, code: str, bad: float, tmp_path: Path) -> None:
    values = np.arange(60, dtype=f"{order}{code}").reshape(3, 4, 5)
    header = nibabel.Nifti1Header(endianness=order)
    header.set_data_dtype(values.dtype)
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4), header), tmp_path / name)
    assert holds_only_finite_values(tmp_path / name)
    values[2, 3, 4] = bad
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4), header), tmp_path / name)
    assert not holds_only_finite_values(tmp_path / name)
    assert np.isfinite(read_volume(tmp_path / name).array).all(), "SimpleITK tells NaN now: this check can go"


def test_integers_and_other_files_hold_no_nan(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(np.full((2, 2, 2), -1, dtype=np.int16), np.eye(4)), tmp_path / "a.nii.gz")
    (tmp_path / "b.nii").write_bytes(b"short")
    (tmp_path / "c.mha").write_bytes(b"")
    assert all(holds_only_finite_values(tmp_path / name) for name in ("a.nii.gz", "b.nii", "c.mha"))
