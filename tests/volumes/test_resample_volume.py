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
from voxflow.volumes import Volume, parse_spacing, resample, target_geometry
from voxflow.volumes.resampling import smooth_for_grid
from voxflow.volumes.separable import compute_parallel_taps, resample_parallel

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
    reoriented = nibabel.orientations.axcodes2ornt(orientation)
    turn = nibabel.orientations.ornt_transform(nibabel.io_orientation(image.affine), reoriented)
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


def by_simpleitk(volume: Volume, grid: Geometry, fill: float) -> Any:
    arguments = (grid.size, sitk.Transform(), sitk.sitkLinear, grid.origin, grid.spacing, grid.direction.ravel())
    return sitk.GetArrayFromImage(sitk.Resample(volume.to_sitk(), *arguments, fill, volume.to_sitk().GetPixelID())).T


@settings(deadline=None, max_examples=60)
@given(
    size=st.tuples(*[st.integers(1, 14)] * 3),
    scale=st.tuples(*[st.floats(0.3, 4)] * 3),
    shift=st.tuples(*[st.floats(-4, 4)] * 3),
    axes=st.permutations(range(3)),
    signs=st.tuples(*[st.sampled_from([-1, 1])] * 3),
    memory=st.sampled_from("CF"),
    seed=st.integers(0, 9),
)
def test_parallel_grids_get_what_simpleitk_gives_them_borders_included(
    *, size: Any, scale: Any, shift: Any, axes: Any, signs: Any, memory: Any, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    geometry = Geometry.from_parts(size, (0.9, 1.1, 2.5), (-30, 12, 400), OBLIQUE)
    voxels = np.asarray(rng.normal(0, 500, size), np.float32, order=memory)
    turn = np.zeros((3, 3))
    turn[axes, range(3)] = np.array(signs) * scale
    # Begins beside the image at times, so that voxels of it lie outside.
    corner = np.where(turn.sum(axis=1) < 0, np.array(size) - 1, 0) + np.array(shift)
    affine = geometry.affine @ np.block([[turn, corner[:, None]], [np.zeros(3), 1]])
    grid = Geometry((9, 8, 7), affine)
    mine = resample(Volume(voxels, geometry), grid, fill=-2000).array
    theirs = by_simpleitk(Volume(voxels, geometry), grid, -2000)
    place = geometry.to_index(grid.to_physical(np.moveaxis(np.indices(grid.size), 0, -1).astype(float)))
    # On the outer face itself rounding decides; a millionth of a voxel is left to it.
    on_face = (np.abs(np.abs(place - (np.array(size) - 1) / 2) - np.array(size) / 2) < 2e-6).any(axis=-1)
    np.testing.assert_allclose(mine[~on_face], theirs[~on_face], atol=1e-3)


def test_threads_change_nothing() -> None:
    geometry = Geometry.from_parts((20, 18, 13), (0.9, 1.1, 2.5))
    volume = Volume(np.random.default_rng(0).integers(-1000, 3000, geometry.size).astype(np.int16), geometry)
    grid = target_geometry(geometry, (1.3, 0.8, 1.0))
    taps = compute_parallel_taps(geometry, grid)
    assert taps is not None
    expected = resample_parallel(volume.array, taps, 0, 1)
    np.testing.assert_array_equal(resample_parallel(volume.array, taps, 0, 5), expected)


def test_a_neighbour_of_no_weight_may_be_anything() -> None:
    geometry = Geometry.from_parts((4, 4, 4), (1, 1, 1))
    voxels = np.ones(geometry.size, np.float32)
    voxels[1::2] = np.nan
    grid = Geometry.from_parts((2, 4, 4), (2, 1, 1))
    np.testing.assert_array_equal(resample(Volume(voxels, geometry), grid).array, 1)


@pytest.mark.parametrize("spacing", [(0.5, 0.6, 1.1), (2.0, 2.3, 4.0), (1.0, 1.0, 1.0)], ids=str)
@pytest.mark.parametrize(("extent", "scales_extent"), [("centres", False), ("faces", True)])
def test_the_grid_is_monais_where_it_keeps_the_same_extent(
    spacing: tuple[float, ...], extent: Any, scales_extent: bool
) -> None:
    import torch
    from monai.data import MetaTensor
    from monai.transforms import Spacing

    geometry = Geometry.from_parts((20, 18, 13), (0.9, 1.1, 2.5), (-30, 12, 400))
    volume = Volume(np.random.default_rng(0).normal(size=geometry.size).astype(np.float32), geometry)
    grid = target_geometry(geometry, spacing, extent=extent)
    image = MetaTensor(torch.from_numpy(volume.array[None]), affine=torch.from_numpy(geometry.affine_ras))
    theirs: Any = Spacing(spacing, scale_extent=scales_extent, align_corners=True, padding_mode="border")(image)
    assert tuple(theirs.shape[1:]) == grid.size
    if extent == "centres":
        np.testing.assert_allclose(theirs.affine, grid.affine_ras, atol=1e-9)
        inner = resample(volume, grid).array
        inside = tuple(
            slice(0, int((n - 1) * a / b) + 1) for n, a, b in zip(geometry.size, geometry.spacing, spacing, strict=True)
        )
        np.testing.assert_allclose(inner[inside], theirs.numpy()[0][inside], atol=1e-4)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(("axis", "spacing_mm", "coarser_mm"), [(0, 1, 3.0), (1, 1.5, 4.0), (2, 2, 1.0)])
def test_a_wave_is_damped_as_a_gaussian_of_the_stated_width_damps_it(
    turned: bool, axis: int, spacing_mm: float, coarser_mm: float
) -> None:
    geometry = Geometry.from_parts((60, 60, 60), (1, 1.5, 2), (0, 0, 0), OBLIQUE)
    wave = np.cos(2 * np.pi * np.arange(60) / 12)
    voxels = np.broadcast_to(np.expand_dims(wave, [n for n in range(3) if n != axis]), geometry.size) * 1000
    grid = target_geometry(geometry, (3.0, 4.0, 1.0))
    if turned:
        grid = target_geometry(grid, None, "SRA")
    sigma_mm = np.sqrt(max(coarser_mm**2 - spacing_mm**2, 0)) / (2 * np.sqrt(2 * np.log(2)))
    damped = np.exp(-((2 * np.pi / 12 * sigma_mm / spacing_mm) ** 2) / 2)
    mine = smooth_for_grid(Volume(voxels.astype(np.float32), geometry), grid).array
    inner = (slice(12, -12),) * 3
    np.testing.assert_allclose(mine[inner], voxels[inner] * damped, atol=1.0)


def test_what_the_coarser_grid_cannot_hold_is_gone_only_with_antialias() -> None:
    geometry = Geometry.from_parts((64, 8, 8), (1, 1, 1))
    stripes = np.broadcast_to((np.arange(64) % 2 * 1000.0)[:, None, None], geometry.size).astype(np.float32)
    grid = Geometry.from_parts((15, 8, 8), (4, 1, 1), (2, 0, 0))
    assert resample(Volume(stripes, geometry), grid).array.max() == 0
    # Borders are continued, so that the outermost voxels see more of one stripe.
    np.testing.assert_allclose(resample(Volume(stripes, geometry), grid, antialias=True).array[1:], 500, atol=5)


def test_finer_axes_are_not_smoothed() -> None:
    volume = ramp(Geometry.from_parts((6, 6, 6), (1, 1, 1)))
    assert smooth_for_grid(volume, target_geometry(volume.geometry, (0.5, 1, 0.7))) is volume


def test_smooth_labels_are_the_strongest_of_labels_interpolated_one_by_one() -> None:
    geometry = Geometry.from_parts((16, 15, 9), (1, 1, 2))
    labels = np.random.default_rng(0).integers(0, 4, (4, 5, 3)).repeat(4, 0).repeat(3, 1).repeat(3, 2).astype(np.uint8)
    grid = target_geometry(geometry, (0.7, 0.6, 0.9))
    mine = resample(Volume(labels, geometry), grid, "label").array
    probabilities = [by_simpleitk(Volume((labels == n).astype(np.float64), geometry), grid, 0) for n in range(4)]
    best = np.sort(probabilities, axis=0)
    clear = best[-1] - best[-2] > 1e-6
    assert clear.mean() > 0.9
    np.testing.assert_array_equal(mine[clear], np.argmax(probabilities, axis=0)[clear])


@pytest.mark.parametrize("interpolation", ["nearest", "label"])
def test_labels_get_no_new_values(interpolation: Any) -> None:
    geometry = Geometry.from_parts((24, 24, 16), (1, 1, 2))
    distance = np.linalg.norm(np.stack(np.meshgrid(*map(np.arange, geometry.size), indexing="ij")) - 10.0, axis=0)
    mask = np.digitize(distance, (4, 7, 9)).astype(np.uint8) * 5
    resampled = Volume(mask, geometry)
    for spacing in ((0.7, 0.7, 0.7), (1.9, 1.7, 2.2), (1, 1, 2)):
        resampled = resample(resampled, target_geometry(resampled.geometry, spacing), interpolation)
        assert set(np.unique(resampled.array)) == {0, 5, 10, 15}
        assert resampled.array.dtype == np.uint8


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
        parse_spacing(spacing)


@pytest.mark.parametrize("orientation", ["LLS", "LP", "XYZ", "LPSA", ""][:4])
def test_an_orientation_names_each_direction_once(orientation: str) -> None:
    with pytest.raises(DataError, match="one of each pair, received"):
        target_geometry(Geometry.from_parts((2, 2, 2), (1, 1, 1)), None, orientation)


def test_an_unknown_interpolation_names_the_known_ones() -> None:
    volume = ramp(Geometry.from_parts((4, 4, 4), (1, 1, 1)))
    with pytest.raises(DataError, match="unknown interpolation 'cubic', expected one of linear"):
        resample(volume, target_geometry(volume.geometry, (2, 2, 2)), "cubic")  # type: ignore[arg-type]
