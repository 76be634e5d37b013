"""Images are read as they were written, and what is no image is wrong input that names the file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from voxflow.errors import DataError
from voxflow.geometry import Geometry
from voxflow.volumes import (
    VOLUME_SUFFIXES,
    Volume,
    read_geometry,
    read_radiograph,
    read_volume,
    write_radiograph,
    write_volume,
)

if TYPE_CHECKING:
    from pathlib import Path

OBLIQUE = sitk.VersorTransform((0.2, 0.3, 0.1), 0.35).GetMatrix()
GRID = Geometry.from_parts((5, 4, 3), (0.7, 0.8, 2.5), (-11.0, 22.0, 33.0), OBLIQUE)


@pytest.mark.parametrize("suffix", VOLUME_SUFFIXES)
@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
def test_voxels_and_geometry_survive_the_trip(suffix: str, dtype: str, tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 200, GRID.size).astype(dtype)
    write_volume(tmp_path / f"a{suffix}", Volume(array, GRID))
    again = read_volume(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(again.array, array)
    assert again.array.dtype.name == dtype
    assert again.geometry.is_close(GRID)
    assert read_geometry(tmp_path / f"a{suffix}").is_close(again.geometry, 1e-9)


def test_a_mask_of_truth_values_becomes_0_and_1(tmp_path: Path) -> None:
    write_volume(tmp_path / "a.nii.gz", Volume(np.ones(GRID.size, dtype=bool), GRID))
    assert set(np.unique(read_volume(tmp_path / "a.nii.gz").array)) == {1}


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_radiographs_keep_their_bits(dtype: str, tmp_path: Path) -> None:
    array = np.arange(12, dtype=dtype).reshape(3, 4) * 20
    write_radiograph(tmp_path / "a.png", array)
    again = read_radiograph(tmp_path / "a.png")
    np.testing.assert_array_equal(again, array)
    assert again.dtype.name == dtype


def test_colour_and_alpha_are_dropped(tmp_path: Path) -> None:
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
    Image.fromarray(np.dstack([grey, grey, grey, np.full_like(grey, 255)])).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_radiograph(tmp_path / "a.png"), grey)


def test_what_is_no_volume_is_wrong_input(tmp_path: Path) -> None:
    (tmp_path / "text.nii.gz").write_text("no image")
    sitk.WriteImage(sitk.Image(4, 4, sitk.sitkUInt8), str(tmp_path / "flat.mha"))
    sitk.WriteImage(sitk.Image([4, 4, 4], sitk.sitkVectorUInt8, 3), str(tmp_path / "colour.mha"))
    for read in (read_volume, read_geometry):
        for name, message in (
            ("absent.nii", "file not found"),
            ("text.nii.gz", "unreadable image"),
            ("flat.mha", "expected a 3D image with one value a voxel, received 2D with 1"),
            ("colour.mha", "expected a 3D image with one value a voxel, received 3D with 3"),
        ):
            with pytest.raises(DataError, match=rf"{name}: {message}"):
                read(tmp_path / name)


def test_what_is_no_radiograph_is_wrong_input(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no image")
    write_radiograph(tmp_path / "half.png", np.random.default_rng(0).integers(0, 255, (64, 64)).astype(np.uint8))
    (tmp_path / "half.png").write_bytes((tmp_path / "half.png").read_bytes()[:600])
    for name, message in (("absent.png", "file not found"), ("text.png", "unreadable"), ("half.png", "unreadable")):
        with pytest.raises(DataError, match=rf"{name}: {message}"):
            read_radiograph(tmp_path / name)


def test_what_can_not_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"unknown image format, expected one of \.nii\.gz"):
        write_volume(tmp_path / "a.jpg", Volume(np.zeros(GRID.size), GRID))
    with pytest.raises(DataError, match=r"received \(2, 2\) float64"):
        write_radiograph(tmp_path / "a.png", np.zeros((2, 2)))
    with pytest.raises(DataError, match=r"voxels have shape \(2, 2, 2\), their geometry says \(5, 4, 3\)"):
        Volume(np.zeros((2, 2, 2)), GRID)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".mha", ".nrrd"])
@pytest.mark.parametrize("share", [0.999, 0.5, 0.1])
def test_a_file_that_ends_early_is_no_volume(tmp_path: Path, suffix: str, share: float) -> None:
    array = np.random.default_rng(0).normal(size=(20, 20, 20)).astype(np.float32)
    path = tmp_path / f"a{suffix}"
    write_volume(path, Volume(array, Geometry.from_parts(array.shape, (1, 1, 1))))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(DataError, match=r"ends early|unreadable image"):
        read_volume(path)


@pytest.mark.parametrize("at", [0.3, 0.6, 0.9])
def test_a_flipped_bit_in_a_compressed_volume_is_found(tmp_path: Path, at: float) -> None:
    array = np.random.default_rng(0).integers(0, 999, (20, 20, 20)).astype(np.int16)
    path = tmp_path / "a.nii.gz"
    write_volume(path, Volume(array, Geometry.from_parts(array.shape, (1, 1, 1))))
    data = bytearray(path.read_bytes())
    data[int(len(data) * at)] ^= 4
    path.write_bytes(bytes(data))
    with pytest.raises(DataError, match="damaged, or it ends early"):
        read_volume(path)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("scale", [(1, 0), (0.5, -3)])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_nifti_of_both_byte_orders_is_read_as_nibabel_does(
    tmp_path: Path, order: str, scale: tuple[float, float], suffix: str
) -> None:
    array = np.random.default_rng(0).integers(-900, 999, (7, 6, 5)).astype(np.int16)
    affine = np.array([[0.0, -2, 0, 4], [1, 0, 0, -5], [0, 0, 3, 6], [0, 0, 0, 1]])
    image = nibabel.Nifti1Image(array, affine, nibabel.Nifti1Header(endianness=order))
    image.header.set_slope_inter(*scale)
    nibabel.save(image, tmp_path / f"a{suffix}")
    read = read_volume(tmp_path / f"a{suffix}")
    loaded = nibabel.Nifti1Image.from_filename(tmp_path / f"a{suffix}")
    assert np.allclose(read.array, np.asarray(loaded.dataobj), atol=1e-4)
    assert np.allclose(read.geometry.affine_ras, affine, atol=1e-5)
    assert read.array.dtype.isnative
    assert read.array.dtype == sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / f"a{suffix}"))).dtype


def test_nifti_2_is_named(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti2Image(np.zeros((3, 3, 3), np.int16), np.eye(4)), tmp_path / "a.nii")
    with pytest.raises(DataError, match="NIfTI-2"):
        read_volume(tmp_path / "a.nii")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".mha", ".nrrd"])
def test_values_that_are_no_numbers_stay_so(tmp_path: Path, bad: float, suffix: str) -> None:
    array = np.zeros((3, 4, 5), np.float32)
    array[2, 3, 4] = bad
    write_volume(tmp_path / f"a{suffix}", Volume(array, Geometry.from_parts(array.shape, (1, 1, 1))))
    assert np.array_equal(read_volume(tmp_path / f"a{suffix}").array, array, equal_nan=True)


def test_a_fourth_axis_of_one_is_none(tmp_path: Path) -> None:
    array = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    nibabel.save(nibabel.Nifti1Image(array[..., None], np.eye(4)), tmp_path / "a.nii")
    assert np.array_equal(read_volume(tmp_path / "a.nii").array, array)
