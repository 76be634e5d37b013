"""Geometry is the same as SimpleITK's and nibabel's, whatever the grid."""

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


@st.composite
def geometries(draw: Any) -> Geometry:
    """Any grid: turned, flipped, anisotropic, far from the origin."""
    axis = draw(st.tuples(*[st.floats(-1, 1)] * 3).filter(lambda v: np.linalg.norm(v) > 0.1))
    turn = np.reshape(sitk.VersorTransform(axis, draw(st.floats(-3, 3))).GetMatrix(), (3, 3))
    flip = np.diag(draw(st.tuples(*[st.sampled_from((-1.0, 1.0))] * 3)))
    return Geometry.from_parts(
        draw(st.tuples(*[st.integers(1, 64)] * 3)),
        draw(st.tuples(*[st.floats(0.1, 10)] * 3)),
        draw(st.tuples(*[st.floats(-1000, 1000)] * 3)),
        turn @ flip,
    )


points = st.lists(st.tuples(*[st.floats(-100, 100)] * 3), min_size=1, max_size=5)


def to_sitk(geometry: Geometry) -> sitk.Image:
    image = sitk.Image(geometry.size, sitk.sitkUInt8)
    image.SetSpacing(geometry.spacing)
    image.SetOrigin(geometry.origin)
    image.SetDirection(geometry.direction.ravel().tolist())
    return image


@settings(deadline=None)
@given(geometry=geometries(), indices=points)
def test_positions_equal_simpleitks(geometry: Geometry, indices: list[tuple[float, ...]]) -> None:
    image = to_sitk(geometry)
    expected = [image.TransformContinuousIndexToPhysicalPoint(index) for index in indices]
    np.testing.assert_allclose(geometry.to_physical(np.array(indices)), expected, atol=1e-6)


@settings(deadline=None)
@given(geometry=geometries(), indices=points)
def test_there_and_back_is_the_same_index(geometry: Geometry, indices: list[tuple[float, ...]]) -> None:
    np.testing.assert_allclose(geometry.to_index(geometry.to_physical(np.array(indices))), indices, atol=1e-6)
    grid = np.array(indices)[:, None, None]
    np.testing.assert_allclose(geometry.to_index(geometry.to_physical(grid)), grid, atol=1e-6)


@settings(deadline=None)
@given(geometry=geometries())
def test_orientation_equals_nibabels_and_simpleitks(geometry: Geometry) -> None:
    # Where two axes are equally near a direction, each library may choose as it likes.
    ranked = np.sort(np.abs(geometry.direction), axis=None)
    if np.min(np.diff(ranked)) < 1e-3 and not np.isclose(ranked[-1], 1):
        return
    assert geometry.orientation == "".join(nibabel.aff2axcodes(geometry.affine_ras))
    name = sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(geometry.direction.ravel().tolist())
    if np.min(np.max(np.abs(geometry.direction), axis=0)) > 0.8:
        assert geometry.orientation == name


def test_the_affine_is_nibabels_after_a_trip_through_a_file(tmp_path: Any) -> None:
    geometry = Geometry.from_parts((5, 6, 7), (0.7, 0.8, 2.5), (-11, 22, 33), (0, 1, 0, 0, 0, -1, -1, 0, 0))
    sitk.WriteImage(to_sitk(geometry), str(tmp_path / "a.nii.gz"))
    np.testing.assert_allclose(geometry.affine_ras, nibabel.load(tmp_path / "a.nii.gz").affine, atol=1e-5)


def test_names_and_units_of_a_plain_grid() -> None:
    geometry = Geometry.from_parts((10, 20, 30), (1, 2, 3), (4, 5, 6))
    assert geometry.orientation == "LPS"
    assert geometry.spacing == (1.0, 2.0, 3.0)
    assert geometry.origin == (4.0, 5.0, 6.0)
    assert geometry.extent == (10.0, 40.0, 90.0)
    np.testing.assert_array_equal(geometry.affine_ras[:, 3], (-4, -5, 6, 1))


def test_nobody_can_change_it_from_outside() -> None:
    affine = np.eye(4)
    geometry = Geometry((2, 2, 2), affine)
    affine[0, 3] = 7
    assert geometry.origin == (0.0, 0.0, 0.0)
    with pytest.raises(ValueError, match="read-only"):
        np.copyto(geometry.affine, 7)


def test_closeness_is_measured_at_the_far_corners() -> None:
    geometry = Geometry.from_parts((101, 101, 101), (1, 1, 1))
    stretched = Geometry.from_parts((101, 101, 101), (1, 1, 1.0001))
    assert geometry.is_close(stretched, 0.011)
    assert not geometry.is_close(stretched, 0.009)
    assert not geometry.is_close(Geometry.from_parts((101, 101, 100), (1, 1, 1)))


@pytest.mark.parametrize(
    ("size", "affine", "message"),
    [
        ((2, 2, 2), np.eye(3), r"finite 4×4 matrix, received shape \(3, 3\)"),
        ((2, 2, 2), np.diag([1, 1, np.nan, 1]), "finite 4×4 matrix"),
        ((2, 2, 2), np.diag([1, 1, 0, 1]), "singular"),
        ((2, 0, 2), np.eye(4), r"three positive voxel counts, received \(2, 0, 2\)"),
        ((2, 2), np.eye(4), "three positive voxel counts"),
    ],
)
def test_an_impossible_grid_is_refused(size: Any, affine: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Geometry(size, affine)
