"""A ramp through the patient stays the same ramp, however its slices lay and were mended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.dicom.objects import Series, save
from tests.tables import read_table
from voxflow.dicom import ConvertOptions, convert_folder
from voxflow.errors import DataError
from voxflow.volumes import read_volume

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from voxflow.volumes import Volume

OBLIQUE = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
RAMP = np.array([31.0, -17.0, 23.0])


def write(folder: Path, offsets: NDArray[np.float64], orientation: tuple[float, ...] = OBLIQUE) -> Series:
    """Slices of a ramp; ``offsets`` (slices, 3) are mm along the row, the column and the normal."""
    series = Series(np.zeros((len(offsets), 12, 14), np.int16), orientation=orientation, spacing=(1.5, 0.8))
    row, column = np.array(orientation).reshape(2, 3)
    y, x = np.mgrid[:12, :14]
    for k, (dataset, offset) in enumerate(zip(series.datasets(), offsets, strict=True)):
        position = offset @ np.array([row, column, series.normal])
        points = position + x[..., None] * 0.8 * row + y[..., None] * 1.5 * column
        dataset.ImagePositionPatient = [f"{v:.10g}"[:16] for v in position]
        dataset.PixelData = np.rint(points @ RAMP * 10).astype("<i2").tobytes()
        dataset.RescaleSlope, dataset.RescaleIntercept = 0.1, 0
        save(dataset, folder / f"{97 - k}")
    return series


def convert(tmp_path: Path, **options: Any) -> tuple[Volume, dict[str, str], dict[str, str]]:
    """The volume, its row in conversion.csv and its row in cases.csv."""
    convert_folder(tmp_path / "in", tmp_path / "out", ConvertOptions(pseudonym_key="k", workers=1, **options))
    rows = []
    for name in ("conversion.csv", "cases.csv"):
        rows.append(read_table(tmp_path / "out" / name)[0])
    return read_volume(next((tmp_path / "out/images").iterdir())), rows[0], rows[1]


def off_ramp(volume: Volume) -> NDArray[np.float64]:
    """How far each voxel is from the ramp at the point that it claims to lie at."""
    index = np.stack(np.meshgrid(*map(np.arange, volume.geometry.size), indexing="ij"), axis=-1)
    return np.asarray(np.abs(volume.array - volume.geometry.to_physical(index.astype(float)) @ RAMP))


@pytest.mark.parametrize("lean", [(0.0, 0.35, 2.0), (0.0, -0.6, 2.0), (0.25, 0.4, 3.0), (0.0, 1.5, 4.0)])
def test_a_tilted_stack_is_sheared_onto_a_straight_grid(tmp_path: Path, lean: tuple[float, float, float]) -> None:
    write(tmp_path / "in", np.outer(np.arange(6), lean))
    volume, row, case = convert(tmp_path)
    degrees = np.degrees(np.arctan(np.hypot(lean[0], lean[1]) / lean[2]))
    assert row["verdict"] == "remedied"
    assert f"gantry tilt of {degrees:.2f} degrees corrected by shear" in row["reason"]
    assert case["remedy"] == row["reason"]
    assert volume.geometry.spacing == pytest.approx((0.8, 1.5, lean[2]))
    inside = volume.array > volume.array.min() + 1e-3
    # All of the 12 × 14 pixels of each slice are there, less a rim that blends with what lies outside.
    assert inside.sum() >= 6 * 11 * 13
    near = off_ramp(volume) < 0.2
    assert near.sum() >= 6 * 11 * 13 - 6
    assert np.allclose(off_ramp(volume)[1:-1, 1:-1, 0][near[1:-1, 1:-1, 0]], 0, atol=0.2)


def test_a_tilted_stack_is_quarantined_where_params_say_so(tmp_path: Path) -> None:
    write(tmp_path / "in", np.outer(np.arange(6), (0, 0.3, 2)))
    with pytest.raises(DataError, match=r"slices shifted sideways by up to 1\.50 mm, as with a tilted gantry"):
        convert(tmp_path, gantry_tilt="quarantine")


def test_slices_shifted_here_and_there_are_no_tilt(tmp_path: Path) -> None:
    write(tmp_path / "in", np.outer(np.arange(6), (0, 0, 2)) + np.outer([0, 0, 3, 0, 0, 0], (0, 1, 0)))
    with pytest.raises(DataError, match="no tilt of a gantry explains it"):
        convert(tmp_path)


UNEVEN = np.outer([0, 1, 2, 3, 6, 9, 12], (0, 0, 1.0))


def test_changing_spacing_is_resampled_when_params_allow(tmp_path: Path) -> None:
    write(tmp_path / "in", UNEVEN)
    volume, row, _ = convert(tmp_path, irregular_spacing="resample")
    assert row["verdict"] == "remedied"
    assert row["reason"] == "7 slices, 1.000 to 3.000 mm apart, resampled to 2.000 mm"
    assert volume.geometry.size == (14, 12, 7)
    assert off_ramp(volume).max() < 0.2


def test_changing_spacing_and_tilt_are_mended_together(tmp_path: Path) -> None:
    write(tmp_path / "in", UNEVEN * (1, 1, 1) + np.outer(UNEVEN[:, 2], (0, 0.25, 0)))
    volume, row, _ = convert(tmp_path, irregular_spacing="resample")
    assert "gantry tilt of 14.04 degrees" in row["reason"]
    assert "resampled to 2.000 mm" in row["reason"]
    assert off_ramp(volume)[:, 3:-3].max() < 0.2


def test_changing_spacing_is_quarantined_by_default(tmp_path: Path) -> None:
    write(tmp_path / "in", UNEVEN)
    with pytest.raises(DataError, match=r"irregular spacing: slices lie 1\.000 to 3\.000 mm apart"):
        convert(tmp_path)


def test_a_missing_slice_is_never_made_up(tmp_path: Path) -> None:
    write(tmp_path / "in", np.outer([0, 1, 2, 4, 5, 6], (0, 0, 2.0)))
    with pytest.raises(DataError, match=r"1 slice\(s\) missing: a gap of 4\.00 mm after slice 3 of 6"):
        convert(tmp_path, irregular_spacing="resample")
