"""A label or channel with its image's voxels is turned onto the image's grid; any other is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st

from voxflow.errors import DataError
from voxflow.geometry import Geometry
from voxflow.volumes import Volume, align, describe_turn, read_image, read_label, write_volume

if TYPE_CHECKING:
    from pathlib import Path

TURN = sitk.VersorTransform((0.2, 0.3, 0.1), 0.35).GetMatrix()


def grid(spacing: float = 1.0, origin: tuple[float, float, float] = (5.0, -6.0, 7.0)) -> Geometry:
    return Geometry.from_parts((4, 5, 6), (spacing, spacing, 2 * spacing), origin, TURN)


@given(order=st.permutations(range(3)), flips=st.tuples(*[st.booleans()] * 3), seed=st.integers(0, 999))
def test_turned_axes_come_back_as_nibabel_turns_them(order: list[int], flips: tuple[bool, ...], seed: int) -> None:
    image = Geometry.from_parts((4, 5, 6), (0.7, 0.8, 2.5), (11, -12, 13), TURN)
    array = np.random.default_rng(seed).integers(0, 9, image.size)
    turn = np.array([[axis, -1 if flip else 1] for axis, flip in zip(order, flips, strict=True)])
    turned = nibabel.Nifti1Image(array.astype(np.int16), image.affine_ras).as_reoriented(turn)
    stored = Geometry(turned.shape, np.diag([-1.0, -1, 1, 1]) @ turned.affine)
    aligned = align(Volume(np.asarray(turned.dataobj), stored), image)
    np.testing.assert_array_equal(aligned.array, array)
    assert aligned.geometry is image
    assert bool(describe_turn(stored, image)) is (order != [0, 1, 2] or any(flips))


@pytest.mark.parametrize("spacing", [0.002, 1.0, 6.0])
def test_the_tolerance_grows_with_the_voxel(spacing: float) -> None:
    image, volume = grid(spacing), np.zeros((4, 5, 6), np.uint8)
    for share, is_taken in ((0.04, True), (0.06, False)):
        moved = Geometry(image.size, image.affine + np.outer([*image.direction[:, 0], 0], [0, 0, 0, share * spacing]))
        if is_taken:
            assert align(Volume(volume, moved), image).geometry is image
            continue
        with pytest.raises(DataError, match="its grid is not the image's, they lie on different grids: size 4 × 5 × 6"):
            align(Volume(volume, moved), image)


def test_axes_of_one_voxel_run_nowhere() -> None:
    image = Geometry.from_parts((4, 5, 1), (1, 1, 2))
    flipped = Geometry.from_parts((4, 5, 1), (1, 1, 2), direction=(1, 0, 0, 0, 1, 0, 0, 0, -1))
    assert flipped.find_axes(image) == ((0, 1, 2), (False, False, False))


def test_a_channel_on_another_grid_names_its_file(tmp_path: Path) -> None:
    paths = tmp_path / "t1.nii.gz", tmp_path / "t2.nii.gz"
    for path, geometry in zip(paths, (grid(), grid(origin=(6, -6, 7))), strict=True):
        write_volume(path, Volume(np.zeros((4, 5, 6), np.float32), geometry))
    with pytest.raises(DataError, match=r"t2\.nii\.gz: its grid is not the image's"):
        read_image(paths)


@pytest.mark.parametrize(("value", "is_taken"), [(0.9999, True), (1.0009, True), (0.99, False), (np.nan, False)])
def test_label_values_are_whole_within_a_thousandth(tmp_path: Path, value: float, is_taken: bool) -> None:
    array = np.zeros((4, 5, 6), np.float32)
    array[1, 2, 3] = value
    write_volume(tmp_path / "label.nii.gz", Volume(array, grid()))
    if is_taken:
        label = read_label(tmp_path / "label.nii.gz", grid())
        assert label.array.dtype == np.uint8
        assert (label.array.sum(), label.array[1, 2, 3]) == (1, 1)
        return
    with pytest.raises(DataError, match=r"label\.nii\.gz: label values are no whole numbers from 0"):
        read_label(tmp_path / "label.nii.gz", grid())
