"""Every voxel lies where SimpleITK's own reader of DICOM series puts it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from tests.dicom.objects import Series, pixels, random_values, save
from voxflow.dicom import ConvertOptions, convert_folder
from voxflow.dicom.pixels import read_series
from voxflow.dicom.plain import read_header
from voxflow.volumes import Volume, read_volume

if TYPE_CHECKING:
    from pathlib import Path

    from voxflow.dicom.headers import DicomHeader


def headers(paths: list[Path]) -> list[DicomHeader]:
    return [header for header in map(read_header, paths) if header is not None]


def by_simpleitk(folder: Path) -> Volume:
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    return Volume.from_sitk(reader.Execute())


def read(paths: list[Path]) -> Volume:
    return read_series(headers(paths), tolerance_mm=0.1, min_slices=3)


@settings(max_examples=25, deadline=None)
@given(
    turn=st.tuples(st.floats(-180, 180), st.floats(-80, 80), st.floats(-180, 180)),
    spacing=st.tuples(st.floats(0.3, 3), st.floats(0.3, 3), st.floats(0.5, 8)),
    origin=st.tuples(*[st.floats(-300, 300)] * 3),
    slope=st.sampled_from([1.0, 2.0, 0.5]),
    seed=st.integers(0, 99),
)
def test_any_orientation_spacing_and_order_is_read_as_simpleitk_does(
    tmp_path_factory: pytest.TempPathFactory,
    *,
    turn: tuple[float, ...],
    spacing: tuple[float, ...],
    origin: tuple[float, ...],
    slope: float,
    seed: int,
) -> None:
    folder = tmp_path_factory.mktemp("series")
    axes = Rotation.from_euler("zyx", turn, degrees=True).as_matrix()
    series = Series(
        random_values(seed=seed),
        orientation=axes[:, :2].T.ravel().tolist(),
        origin=[round(v, 3) for v in origin],
        spacing=(round(spacing[0], 3), round(spacing[1], 3)),
        step=round(spacing[2], 3),
        slopes=[slope] * 6,
    )
    mine = read(series.write(folder, np.random.default_rng(seed)))
    theirs = by_simpleitk(folder)
    assert np.array_equal(mine.array, theirs.array)
    assert mine.geometry.is_close(theirs.geometry, tolerance_mm=1e-3)


def test_each_slice_keeps_its_own_slope(tmp_path: Path) -> None:
    series = Series(random_values(), slopes=[0.25, 0.5, 1, 2, 3, 4])
    volume = read(series.write(tmp_path))
    expected = series.stored * np.array([0.25, 0.5, 1, 2, 3, 4])[:, None, None] - 100
    assert volume.array.dtype == np.float32
    assert np.allclose(volume.array.transpose(2, 1, 0), expected, rtol=1e-6)


def test_feet_first_is_a_matter_of_positions_alone(tmp_path: Path) -> None:
    head = Series(random_values(), uid="1.2.1")
    feet = Series(
        random_values()[::-1, :, ::-1],
        orientation=(-1, 0, 0, 0, 1, 0),
        origin=(6, 0, 10),
        changes={"PatientPosition": "FFS"},
    )
    feet_first, head_first = read(head.write(tmp_path / "a")), read(feet.write(tmp_path / "b"))
    assert (feet_first.geometry.orientation, head_first.geometry.orientation) == ("LPS", "RPI")
    assert np.array_equal(feet_first.array, head_first.array[::-1, :, ::-1])
    corner = feet_first.geometry.to_physical(np.zeros(3))
    assert np.allclose(corner, head_first.geometry.to_physical(np.array([6.0, 0, 5])))


def test_bits_above_the_stored_ones_are_no_pixel_values(tmp_path: Path) -> None:
    values = np.arange(63, dtype=np.uint16).reshape(9, 7)
    series = Series(np.stack([values] * 4))
    paths = []
    for k, dataset in enumerate(series.datasets()):
        pixels(dataset, values | np.uint16(0x4000), bits=12)
        paths.append(save(dataset, tmp_path / str(k)))
    assert np.array_equal(read(paths).array[:, :, 0].T, values.astype(int) - 100)


@pytest.mark.parametrize("syntax", ["JPEG2000Lossless", "RLELossless", "JPEGLSLossless"])
def test_compressed_series_equal_the_plain_one(tmp_path: Path, syntax: str) -> None:
    import pydicom.uid

    values = random_values((3, 32, 40)).clip(0).astype(np.uint16)
    plain = read(Series(values).write(tmp_path / "plain"))
    packed = Series(values).datasets()
    for k, dataset in enumerate(packed):
        dataset.compress(getattr(pydicom.uid, syntax), generate_instance_uid=False)
        save(dataset, tmp_path / "packed" / str(k))
    assert np.array_equal(read(sorted((tmp_path / "packed").iterdir())).array, plain.array)


def test_a_series_without_preamble_is_found(tmp_path: Path) -> None:
    for k, dataset in enumerate(Series(random_values()).datasets()):
        del dataset.file_meta
        dataset.save_as(tmp_path / f"old{k}", implicit_vr=True, little_endian=True, enforce_file_format=False)
    summary = convert_folder(tmp_path, tmp_path / "out", ConvertOptions(pseudonym_key="k"))
    assert summary.cases == 1
    image = next((tmp_path / "out/images").iterdir())
    assert np.array_equal(read_volume(image).array.transpose(2, 1, 0), random_values() - 100)
