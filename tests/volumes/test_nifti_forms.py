"""Where NIfTI places voxels: nibabel's rule, both ways kept, and what can't be read is refused with its reason."""

from __future__ import annotations

import gzip
import struct
from typing import TYPE_CHECKING, Any

import nibabel
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from voxflow.errors import DataError
from voxflow.geometry import Geometry
from voxflow.volumes import Volume, describe_forms, read_channels, read_geometry, read_volume, write_volume

if TYPE_CHECKING:
    from pathlib import Path

STATED = (
    *("qform_code", "sform_code", "srow_x", "srow_y", "srow_z", "pixdim", "xyzt_units"),
    *("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"),
)


def random_affine(rng: np.random.Generator) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = np.linalg.qr(rng.normal(size=(3, 3)))[0] * rng.uniform(0.005, 6, 3)
    affine[:3, 3] = rng.uniform(-300, 300, 3)
    return affine


def make_image(seed: int, codes: tuple[int, int], order: str = "<") -> nibabel.Nifti1Image:
    """An image of random size whose qform and sform are any, with the codes given (qform first)."""
    rng = np.random.default_rng(seed)
    array = rng.normal(size=tuple(rng.integers(1, 7, 3))).astype(np.float32)
    header = nibabel.Nifti1Header(endianness=order)
    header.set_qform(random_affine(rng), codes[0])
    header.set_sform(random_affine(rng), codes[1])
    header.set_xyzt_units(["unknown", "mm"][seed % 2])
    return nibabel.Nifti1Image(array, None, header)


@example(seed=8575, codes=(1, 0), order="<")  # all but half a turn, where single precision takes the rest
@given(seed=st.integers(0, 10**6), codes=st.tuples(*[st.integers(0, 5)] * 2), order=st.sampled_from("<>"))
def test_voxels_lie_where_nibabel_places_them_and_what_is_written_states_the_same(
    tmp_path_factory: pytest.TempPathFactory, seed: int, codes: tuple[int, int], order: str
) -> None:
    folder = tmp_path_factory.mktemp("forms")
    nibabel.save(make_image(seed, codes, order), folder / "a.nii")
    image = nibabel.Nifti1Image.from_filename(folder / "a.nii")
    np.testing.assert_allclose(read_geometry(folder / "a.nii").affine_ras, image.affine, atol=1e-4)
    volume = read_volume(folder / "a.nii")
    np.testing.assert_array_equal(volume.array, image.get_fdata(dtype=np.float32))
    write_volume(folder / "mask.nii.gz", Volume((volume.array > 0).astype(np.uint8), volume.geometry))
    mask = nibabel.Nifti1Image.from_filename(folder / "mask.nii.gz")
    np.testing.assert_array_equal(mask.affine, image.affine)
    for key in STATED:
        np.testing.assert_array_equal(mask.header[key], image.header[key], key)


@pytest.mark.parametrize(("unit", "millimetres"), [("micron", 0.001), ("mm", 1), ("meter", 1000)])
def test_the_unit_of_length_counts(tmp_path: Path, unit: str, millimetres: float) -> None:
    image = nibabel.Nifti1Image(np.zeros((3, 3, 3), np.uint8), np.diag([0.02, 0.03, 0.04, 1]))
    image.header.set_xyzt_units(unit)
    nibabel.save(image, tmp_path / "a.nii")
    assert read_geometry(tmp_path / "a.nii").spacing == pytest.approx([n * millimetres for n in (0.02, 0.03, 0.04)])


def test_two_places_are_told_and_one_is_not(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.zeros((4, 4, 4), np.uint8), np.eye(4))
    image.header.set_qform(np.eye(4), 1)
    for shift, note in ((0.4, ""), (0.6, r"its qform (code 1) and sform (code 4) place it up to 0.60 mm apart")):
        image.header.set_sform(np.eye(4) + np.pad([[shift]], [(0, 3), (3, 0)]), 4)
        nibabel.save(nibabel.Nifti1Image(image.dataobj, None, image.header), tmp_path / "a.nii")
        assert describe_forms(read_geometry(tmp_path / "a.nii")).startswith(note)
        assert bool(describe_forms(read_geometry(tmp_path / "a.nii"))) is bool(note)


@pytest.mark.parametrize("name", ["A.NII", "A.Nii.Gz", "A.NII.GZ"])
def test_endings_are_read_in_any_case(tmp_path: Path, name: str) -> None:
    array = np.random.default_rng(0).normal(size=(4, 5, 6)).astype(np.float32)
    write_volume(tmp_path / name, Volume(array, Geometry.from_parts(array.shape, (1, 1, 1))))
    assert (tmp_path / name).read_bytes().startswith(b"\x1f\x8b") is name.lower().endswith(".gz")
    np.testing.assert_array_equal(read_volume(tmp_path / name).array, array)
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:300])
    with pytest.raises(DataError, match=r"damaged, or it ends early|no NIfTI-1 header"):
        read_volume(tmp_path / name)


def store_bytes(folder: Path) -> bytes:
    array = np.random.default_rng(0).integers(0, 999, (9, 8, 7)).astype(np.int16)
    write_volume(folder / "a.nii", Volume(array, Geometry.from_parts(array.shape, (1, 1, 1))))
    return (folder / "a.nii").read_bytes()


@pytest.mark.parametrize("wrap", [
    lambda data: data,  # not compressed, whatever the name says
    lambda data: gzip.compress(data[:500]) + gzip.compress(data[500:]),
    lambda data: gzip.compress(data) + bytes(512),
    lambda data: gzip.compress(data) + b"rubbish",
    lambda data: gzip.compress(data + b"rubbish"),
])  # fmt: skip
def test_a_whole_image_is_read_whatever_follows_it(tmp_path: Path, wrap: Any) -> None:
    (tmp_path / "b.nii.gz").write_bytes(wrap(store_bytes(tmp_path)))
    np.testing.assert_array_equal(read_volume(tmp_path / "b.nii.gz").array, read_volume(tmp_path / "a.nii").array)


@pytest.mark.parametrize("wrap", [
    lambda data: gzip.compress(data)[:-1],
    lambda data: gzip.compress(data)[:-9] + b"rubbish and more",
    lambda data: gzip.compress(data[:500]) + gzip.compress(data[500:])[:-1],
    lambda data: gzip.compress(data[:500]) + b"rubbish",
    lambda data: gzip.compress(data[:500])[:-5] + b"x" + gzip.compress(data[:500])[-4:] + gzip.compress(data[500:]),
    lambda data: data[:-1],
])  # fmt: skip
def test_an_image_that_is_not_whole_is_refused(tmp_path: Path, wrap: Any) -> None:
    (tmp_path / "b.nii.gz").write_bytes(wrap(store_bytes(tmp_path)))
    with pytest.raises(DataError, match=r"b\.nii\.gz: unreadable image: damaged, or it ends early"):
        read_volume(tmp_path / "b.nii.gz")


def change_header(folder: Path, offset: int, form: str, *values: Any) -> Path:
    data = bytearray(store_bytes(folder))
    struct.pack_into(f"<{form}", data, offset, *values)
    (folder / "b.nii").write_bytes(data)
    return folder / "b.nii"


@pytest.mark.parametrize(("offset", "form", "values", "reason"), [
    (40, "8h", (3, 9, 0, 7, 1, 1, 1, 1), r"its header claims the size \[3, 9, 0, 7"),
    (40, "8h", (3, 9000, 9000, 9000, 1, 1, 1, 1), "damaged, or it ends early: 1458000000000 bytes of voxels"),
    (40, "8h", (2, 9, 8, 1, 1, 1, 1, 1), "expected a 3D image with one value a voxel, received 2D"),
    (70, "h", (32,), "a voxel holds a complex number"),
    (70, "h", (1536,), "it holds 128-bit floats"),
    (70, "h", (7,), "voxels of the unknown type 7"),
    (108, "f", (0.0,), "its header claims that the voxels begin at byte 0"),
    (112, "2f", (2.0, np.nan), "its values are scaled by 2 and moved by nan"),
    (280, "4f", (0.0, 0.0, 0.0, 1.0), "the affine is singular"),
    (280, "4f", (-1.0, 0.5, 0.0, 1.0), "26.6 degrees off a right angle, at most 1 are taken"),
    (344, "4s", (b"n+2\0",), "no NIfTI-1 header"),
])  # fmt: skip
def test_a_header_that_can_not_be_meant_is_refused(
    tmp_path: Path, offset: int, form: str, values: Any, reason: str
) -> None:
    path = change_header(tmp_path, offset, form, *values)
    with pytest.raises(DataError, match=rf"b\.nii: .*{reason}"):
        read_volume(path)


@pytest.mark.parametrize("slope", [0.0, np.nan, np.inf])
def test_a_slope_that_is_none_scales_nothing(tmp_path: Path, slope: float) -> None:
    path = change_header(tmp_path, 112, "2f", slope, np.nan)
    np.testing.assert_array_equal(read_volume(path).array, read_volume(tmp_path / "a.nii").array)


def test_micrometres_are_no_singular_grid() -> None:
    grid = Geometry.from_parts((5, 5, 5), (5e-4, 5e-4, 5e-4))
    assert grid.spacing == pytest.approx((5e-4,) * 3)


def test_a_pair_of_files_is_read_and_refused_where_one_ends_early(tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 999, (9, 8, 7)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Pair(array, np.diag([2.0, 3, 4, 1])), tmp_path / "a.img")
    for name in ("a.img", "a.hdr"):
        np.testing.assert_array_equal(read_volume(tmp_path / name).array, array)
    (tmp_path / "a.img").write_bytes((tmp_path / "a.img").read_bytes()[:-2])
    with pytest.raises(DataError, match="ends early"):
        read_volume(tmp_path / "a.hdr")
    (tmp_path / "a.img").unlink()
    with pytest.raises(DataError, match=r"a\.img: file not found"):
        read_volume(tmp_path / "a.hdr")


def test_channels_of_one_file_are_read_as_nibabel_has_them(tmp_path: Path) -> None:
    array = np.random.default_rng(0).normal(size=(4, 5, 6, 3)).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(array, np.diag([2.0, 3, 4, 1])), tmp_path / "four.nii.gz")
    colours = np.random.default_rng(0).integers(0, 255, (4, 5, 6, 3)).astype(np.uint8)
    rgb = np.ascontiguousarray(colours).view([("R", "u1"), ("G", "u1"), ("B", "u1")])[..., 0]
    nibabel.save(nibabel.Nifti1Image(rgb, np.diag([2.0, 3, 4, 1])), tmp_path / "rgb.nii")
    for name, expected in (("four.nii.gz", array), ("rgb.nii", colours)):
        channels = read_channels(tmp_path / name)
        np.testing.assert_array_equal(np.stack([channel.array for channel in channels], -1), expected)
        assert channels[0].geometry.spacing == pytest.approx((2, 3, 4))
        with pytest.raises(DataError, match="expected a 3D image with one value a voxel"):
            read_volume(tmp_path / name)
