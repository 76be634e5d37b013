"""Resampling keeps every voxel where it is in the patient: held against SimpleITK, MONAI and nibabel."""

from __future__ import annotations

from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from voxflow.errors import DataError
from voxflow.geometry import Geometry
from voxflow.volumes import Volume, isotropic_or_per_axis, resample, target_geometry

ORIENTATIONS = ["LPS", "RAS", "SPL", "AIR", "ILP"]
OBLIQUE = sitk.VersorTransform((0.2, 0.3, 0.1), 0.35).GetMatrix()


def ramp(geometry: Geometry, dtype: Any = np.float32) -> Volume:
    """Values that are linear in the position in the patient, so that interpolation is exact."""
    grid = np.stack(np.meshgrid(*map(np.arange, geometry.size), indexing="ij"), axis=-1)
    values = geometry.to_physical(grid.astype(float)) @ np.array([1.0, 2.0, -3.0]) + 500
    return Volume(values.astype(dtype), geometry)


def sitk_reference(volume: Volume, spacing: tuple[float, float, float]) -> sitk.Image:
    """SimpleITK's own way to change spacing and keep the covered box."""
    image = volume.to_sitk()
    size = [round(n * old / new) for n, old, new in zip(image.GetSize(), image.GetSpacing(), spacing, strict=True)]
    origin = image.TransformContinuousIndexToPhysicalPoint(
        [(n / o - 1) / 2 for n, o in zip(spacing, image.GetSpacing(), strict=True)]
    )
    return sitk.Resample(
        image, size, sitk.Transform(), sitk.sitkLinear, origin, spacing, image.GetDirection(), 0.0, image.GetPixelID()
    )


@pytest.mark.parametrize("spacing", [(0.5, 0.6, 1.1), (2.0, 2.0, 4.0)], ids=["finer", "coarser"])
@pytest.mark.parametrize("direction", [(1, 0, 0, 0, 1, 0, 0, 0, 1), OBLIQUE], ids=["straight", "oblique"])
def test_spacing_changes_as_simpleitk_does_it(spacing: tuple[float, float, float], direction: Any) -> None:
    geometry = Geometry.from_parts((20, 18, 13), (0.9, 1.1, 2.5), (-30, 12, 400), direction)
    volume = Volume(np.random.default_rng(0).normal(size=geometry.size).astype(np.float32), geometry)
    resampled = resample(volume, target_geometry(geometry, spacing))
    reference = sitk_reference(volume, spacing)
    assert resampled.geometry.is_close(Volume.from_sitk(reference).geometry, 1e-6)
    np.testing.assert_allclose(resampled.array, sitk.GetArrayFromImage(reference).T, atol=1e-4)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_physical_points_keep_their_values(orientation: str) -> None:
    geometry = Geometry.from_parts((20, 18, 12), (0.9, 1.1, 2.5), (-30, 12, 400), OBLIQUE)
    resampled = resample(ramp(geometry), target_geometry(geometry, (1.3, 1.3, 1.3), orientation))
    inner = (slice(3, -3),) * 3
    np.testing.assert_allclose(resampled.array[inner], ramp(resampled.geometry).array[inner], atol=1e-2)
    assert resampled.geometry.orientation == orientation


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_orientation_changes_as_simpleitk_does_it(orientation: str) -> None:
    geometry = Geometry.from_parts((7, 6, 5), (1, 2, 3), (4, 5, 6), OBLIQUE)
    volume = Volume(np.arange(210, dtype=np.int16).reshape(7, 6, 5), geometry)
    turned = resample(volume, target_geometry(geometry, None, orientation), "nearest")
    reference = sitk.DICOMOrient(volume.to_sitk(), orientation)
    np.testing.assert_array_equal(turned.array, sitk.GetArrayFromImage(reference).T)
    assert turned.geometry.is_close(Volume.from_sitk(reference).geometry, 1e-6)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_orientation_changes_as_nibabel_does_it(orientation: str) -> None:
    geometry = Geometry.from_parts((7, 6, 5), (1, 2, 3), (4, 5, 6), OBLIQUE)
    array = np.arange(210, dtype=np.int16).reshape(7, 6, 5)
    image = nibabel.Nifti1Image(array, geometry.affine_ras)
    there = nibabel.orientations.axcodes2ornt(orientation)
    turn = nibabel.orientations.ornt_transform(nibabel.io_orientation(image.affine), there)
    reference = image.as_reoriented(turn)
    turned = resample(Volume(array, geometry), target_geometry(geometry, None, orientation), "nearest")
    np.testing.assert_array_equal(turned.array, np.asarray(reference.dataobj))
    np.testing.assert_allclose(turned.geometry.affine_ras, reference.affine, atol=1e-9)


def test_values_equal_monais_at_the_same_points() -> None:
    import torch
    from monai.transforms import SpatialResample

    geometry = Geometry.from_parts((16, 14, 10), (1.0, 1.2, 2.0), (10, -20, 30), OBLIQUE)
    volume = Volume(np.random.default_rng(1).normal(size=geometry.size).astype(np.float32), geometry)
    grid = target_geometry(geometry, (1.5, 1.5, 1.5), "RAS")
    from monai.data import MetaTensor

    image = MetaTensor(torch.from_numpy(volume.array[None]), affine=torch.from_numpy(geometry.affine_ras))
    reference = SpatialResample(padding_mode="border", align_corners=True)(
        image, dst_affine=torch.from_numpy(grid.affine_ras), spatial_size=grid.size
    )
    inner = (slice(2, -2),) * 3
    np.testing.assert_allclose(resample(volume, grid).array[inner], np.asarray(reference)[0][inner], atol=1e-4)


@pytest.mark.parametrize("interpolation", ["nearest", "label"])
def test_labels_get_no_new_values(interpolation: Any) -> None:
    geometry = Geometry.from_parts((24, 24, 16), (1, 1, 2))
    distance = np.linalg.norm(np.stack(np.meshgrid(*map(np.arange, geometry.size), indexing="ij")) - 10.0, axis=0)
    mask = np.digitize(distance, (4, 7, 9)).astype(np.uint8) * 5
    back = Volume(mask, geometry)
    for spacing in ((0.7, 0.7, 0.7), (1.9, 1.7, 2.2), (1, 1, 2)):
        back = resample(back, target_geometry(back.geometry, spacing), interpolation)
        assert set(np.unique(back.array)) == {0, 5, 10, 15}
        assert back.array.dtype == np.uint8


@pytest.mark.parametrize("dtype", [np.int16, np.uint8, np.int32])
def test_integers_are_rounded_not_cut_off(dtype: Any) -> None:
    geometry = Geometry.from_parts((12, 12, 12), (1, 1, 1))
    low = 0 if dtype is np.uint8 else -900
    values = np.random.default_rng(2).integers(low, 250, geometry.size).astype(dtype)
    grid = target_geometry(geometry, (0.8, 0.8, 0.8))
    exact = resample(Volume(values.astype(np.float64), geometry), grid).array
    rounded = resample(Volume(values, geometry), grid).array
    assert rounded.dtype == dtype
    assert np.abs(rounded - exact).max() <= 0.5 + 1e-3


def test_bspline_stays_within_the_type() -> None:
    geometry = Geometry.from_parts((9, 9, 9), (1, 1, 1))
    values = np.zeros(geometry.size, dtype=np.uint8)
    values[4:] = 255
    sharp = resample(Volume(values, geometry), target_geometry(geometry, (0.5, 0.5, 0.5)), "bspline").array
    assert sharp[2, 9, 9] < 10
    assert sharp[14, 9, 9] > 245


def test_the_same_grid_changes_nothing() -> None:
    volume = ramp(Geometry.from_parts((5, 4, 3), (1, 2, 3), (9, 9, 9), OBLIQUE))
    np.testing.assert_array_equal(
        resample(volume, target_geometry(volume.geometry, (1, 2, 3), "LPS")).array, volume.array
    )


@pytest.mark.parametrize("count", range(3, 40))
def test_no_voxel_lies_on_the_outer_face_by_chance(count: int) -> None:
    geometry = Geometry.from_parts((4, 4, count), (1, 1, 2.5), (0, 0, 7), OBLIQUE)
    ones = Volume(np.ones(geometry.size, dtype=np.float32), geometry)
    assert resample(ones, target_geometry(geometry, (1, 1, 5.0))).array.min() == 1


def test_outside_the_image_is_filled() -> None:
    geometry = Geometry.from_parts((4, 4, 4), (1, 1, 1))
    shifted = Geometry.from_parts((4, 4, 4), (1, 1, 1), (100, 0, 0))
    assert set(resample(ramp(geometry), shifted, fill=-7).array.ravel()) == {-7}


@settings(deadline=None, max_examples=60)
@given(
    size=st.tuples(*[st.integers(1, 40)] * 3),
    old=st.tuples(*[st.floats(0.3, 6)] * 3),
    new=st.tuples(*[st.floats(0.3, 6)] * 3),
    orientation=st.sampled_from(ORIENTATIONS),
)
def test_the_covered_box_stays(size: Any, old: Any, new: Any, orientation: str) -> None:
    geometry = Geometry.from_parts(size, old, (3, 2, 1))
    grid = target_geometry(geometry, new, orientation)
    assert grid.orientation == orientation
    np.testing.assert_allclose(grid.spacing, new, rtol=1e-9)
    turned = target_geometry(geometry, None, orientation)
    corner = np.array([-0.5] * 3)
    np.testing.assert_allclose(grid.to_physical(corner), turned.to_physical(corner), atol=1e-6)
    assert np.all(np.abs(np.subtract(grid.extent, turned.extent)) <= np.maximum(new, 0) / 2 + np.asarray(new) * 0.51)


@pytest.mark.parametrize("spacing", [0, -1.0, (1, 2), (1, 2, 0), (1, 2, float("nan")), ()])
def test_a_spacing_is_one_or_three_positive_numbers(spacing: Any) -> None:
    with pytest.raises(DataError, match="one or three positive numbers in mm, received"):
        isotropic_or_per_axis(spacing)


@pytest.mark.parametrize("orientation", ["LLS", "LP", "XYZ", "LPSA", ""][:4])
def test_an_orientation_names_each_direction_once(orientation: str) -> None:
    with pytest.raises(DataError, match="one of each pair, received"):
        target_geometry(Geometry.from_parts((2, 2, 2), (1, 1, 1)), None, orientation)


def test_an_unknown_interpolation_names_the_known_ones() -> None:
    volume = ramp(Geometry.from_parts((4, 4, 4), (1, 1, 1)))
    with pytest.raises(DataError, match="unknown interpolation 'cubic', expected one of linear"):
        resample(volume, target_geometry(volume.geometry, (2, 2, 2)), "cubic")  # type: ignore[arg-type]
