"""Contours are filled by a stated rule wherever they lie, and none is lost without a count."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from matplotlib.path import Path as Outline

from tests.dicom.objects import Series, contour, random_values, save, structure_set
from tests.tables import read_table
from voxflow.dicom import ConvertOptions, convert_folder
from voxflow.dicom.contours import Contour, FilledContours, fill_contours
from voxflow.dicom.label_grid import LabelGrid
from voxflow.errors import DataError, DicomError
from voxflow.geometry import Geometry
from voxflow.volumes import read_volume

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from pydicom.dataset import Dataset

SQUARE = np.array([[0.5, 0.5, 0.0], [4.5, 0.5, 0], [4.5, 4.5, 0], [0.5, 4.5, 0]])
FLAT = Geometry((12, 12, 9), np.eye(4))
TILTED = Geometry.from_parts(
    (14, 11, 9), (0.8, 1.1, 2.0), (-7, 3, 20), [0.8, -0.6, 0, 0.48, 0.64, -0.6, 0.36, 0.48, 0.8]
)


def shift(x: float, y: float, z: float, size: float = 1) -> NDArray[np.float64]:
    return np.asarray(SQUARE * size + np.array([x, y, z]))


def fill(points: Sequence[NDArray[np.float64]], geometry: Geometry = FLAT) -> FilledContours:
    return fill_contours([Contour(outline) for outline in points], LabelGrid(geometry))


def at(*heights: float) -> list[NDArray[np.float64]]:
    return [shift(0, 0, height) for height in heights]


def slices(filled: FilledContours) -> list[int]:
    return [int(k) for k in np.flatnonzero(filled.mask.any(axis=(0, 1)))]


@pytest.mark.parametrize(
    ("heights", "expected", "unused"),
    [
        ((2.5, 3.5, 4.5), [3, 4, 5], 0),
        ((1.5, 2.5), [2, 3], 0),
        ((2.4999999, 3.5000001, 4.4999999), [3, 4, 5], 0),
        ((6.5, 7.5, 8.5), [7, 8, 6], 0),
        ((2.5, 3.4), [2, 3], 0),
        ((4.0, 4.3), [4], 1),
        ((2.0, 2.5, 3.0, 3.5), [2, 3, 4], 1),
        ((-0.5, 0.5), [0, 1], 0),
    ],
)
def test_each_plane_takes_a_slice_of_its_own(heights: tuple[float, ...], expected: list[int], unused: int) -> None:
    filled = fill(at(*heights))
    assert slices(filled) == sorted(expected)
    assert (filled.unused, filled.outside) == (unused, 0)
    assert (filled.mask.sum(axis=(0, 1))[expected] == 16).all()


@pytest.mark.parametrize("seed", range(8))
def test_contours_a_few_hundredths_of_a_slice_off_are_one_plane(seed: int) -> None:
    rng = np.random.default_rng(seed)
    offset = rng.uniform(-0.45, 0.45)
    ring = [(10, 0), (6, 2), (2, 4)]
    outlines = [
        np.column_stack([corner + SQUARE[:, :2] / 4 * side, np.full(4, k + offset + rng.uniform(-0.03, 0.03))])
        for k in range(2, 7)
        for side, corner in ring
    ]
    filled = fill([outlines[n] for n in rng.permutation(len(outlines))])
    assert filled.mask.sum(axis=(0, 1)).tolist() == [0, 0, *[100 - 36 + 4] * 5, 0, 0]
    assert not filled.unused


def test_planes_of_a_thinner_image_are_not_taken_for_one() -> None:
    """Ten planes a slice, ever smaller: joined, the smaller ones would read as holes."""
    outlines = [shift(0, 0, 2 + n / 10, size=1 - n / 100) for n in range(21)]
    filled = fill(outlines)
    assert filled.mask.sum(axis=(0, 1))[2:5].tolist() == [16, 16, 9]
    assert filled.unused == 18


def test_planes_a_little_farther_apart_than_slices_leave_no_gap() -> None:
    filled = fill(at(*np.arange(0.2, 8.5, 1.2)))
    assert slices(filled) == list(range(8))
    assert filled.is_interpolated


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("geometry", [FLAT, TILTED], ids=["flat", "tilted"])
def test_contours_across_the_slices_equal_matplotlibs_point_test(axis: int, geometry: Geometry) -> None:
    plane_axes = [n for n in range(3) if n != axis]
    outline = np.array([[0.7, 0.6], [7.4, 1.2], [6.2, 6.7], [2.3, 7.1]])
    outlines = []
    for position in (2, 3, 4):
        index = np.empty((4, 3))
        index[:, plane_axes], index[:, axis] = outline, position
        outlines.append(geometry.to_physical(index))
    filled = fill(outlines, geometry)
    grid = np.moveaxis(np.indices(geometry.size), 0, -1).reshape(-1, 3)
    inside = Outline(outline).contains_points(grid[:, plane_axes]) & np.isin(grid[:, axis], (2, 3, 4))
    assert np.array_equal(filled.mask, inside.reshape(geometry.size))
    assert filled.across == 3


@pytest.mark.parametrize("geometry", [FLAT, TILTED], ids=["flat", "tilted"])
def test_oblique_contours_give_the_voxels_between_their_planes(geometry: Geometry) -> None:
    """A ball, drawn in oblique planes that are nearer to each other than slices."""
    centre = geometry.to_physical((np.array(geometry.size) - 1) / 2)
    radius, angle = 4.0, np.linspace(0, 2 * np.pi, 72, endpoint=False)
    normal = np.array([1.0, 2, 2]) / 3
    u, v = np.array([2.0, 1, -2]) / 3, np.array([2.0, -2, 1]) / 3
    circle = np.cos(angle)[:, None] * u + np.sin(angle)[:, None] * v
    heights = np.arange(-3.75, 4, 0.5)
    outlines = [centre + h * normal + np.sqrt(radius**2 - h**2) * circle for h in heights]
    filled = fill(outlines, geometry)
    grid = geometry.to_physical(np.moveaxis(np.indices(geometry.size), 0, -1).astype(float))
    away = np.linalg.norm(grid - centre, axis=-1)
    # A quarter of a voxel to the nearest pixel, and a quarter of a millimetre to the nearest plane.
    certain = np.abs(away - radius) > np.hypot(np.linalg.norm([min(geometry.spacing) / 4] * 2), 0.25)
    assert np.array_equal(filled.mask[certain], (away < radius)[certain])
    assert (filled.across, filled.outside) == (len(heights), 0)


def test_a_small_contour_across_thick_slices_is_not_taken_for_a_line_in_one() -> None:
    thick = Geometry.from_parts((12, 12, 9), (1, 1, 10))
    filled = fill([np.array([[5.0, 2.6, 48], [5, 6.4, 48], [5, 6.4, 52], [5, 2.6, 52]])], thick)
    assert np.argwhere(filled.mask).tolist() == [[5, j, 5] for j in range(3, 7)]


def test_a_contour_that_is_not_planar_is_an_error() -> None:
    bent = np.array([[0.0, 0, 0], [8, 0, 6], [8, 8, 0], [0, 8, 6]])
    with pytest.raises(DicomError, match=r"a closed contour is not planar: points are 3\.00 mm off"):
        fill([bent])


def test_a_contour_beyond_the_image_is_cut_off_and_one_outside_is_counted() -> None:
    beyond, outside = shift(6, 6, 3, size=2), shift(40, 0, 3)
    filled = fill([beyond, outside, shift(0, 0, 60)])
    assert int(filled.mask.sum()) == 5 * 5
    assert filled.outside == 2


def convert(folder: Path, rois: dict[str, list[Dataset]], **options: Any) -> tuple[NDArray[Any], list[dict[str, str]]]:
    """The label (slices, rows, columns) of a small CT, and the rows of its structure set."""
    series = Series(random_values(), uid="1.2.1", spacing=(1.0, 1.0))
    series.write(folder / "in/ct")
    save(structure_set(rois, series.datasets()), folder / "in/rt")
    convert_folder(folder / "in", folder / "out", ConvertOptions(pseudonym_key="k", workers=1, **options))
    rows = [row for row in read_table(folder / "out/conversion.csv") if row["modality"] == "RTSTRUCT"]
    return read_volume(next((folder / "out/labels").iterdir())).array.transpose(2, 1, 0), rows


ORGAN = [contour(shift(0, 0, 4))]


@pytest.mark.parametrize(
    ("roi", "reason"),
    [
        ([contour(shift(0, 0, 80))], "all contours lie outside of the image"),
        ([contour(SQUARE * 1e7)], r"a contour reaches 4\.5e\+07 mm from the origin"),
        ([contour([[0, 0, 0], [8, 0, 6], [8, 8, 0], [0, 8, 6]])], "not planar"),
        ([contour(SQUARE.ravel()[:11])], "a contour's points are no numbers in threes"),
    ],
)
def test_a_bad_roi_is_named_and_the_others_are_kept(tmp_path: Path, roi: list[Dataset], reason: str) -> None:
    label, rows = convert(tmp_path, {"Organ": ORGAN, "Couch": roi})
    assert int((label == 2).sum()) == 16
    assert [row["verdict"] for row in rows] == ["converted", "quarantined"]
    assert rows[1]["reason"].startswith("ROI 2 (Couch): (3006,0050): ")
    assert np.any([part in rows[1]["reason"] for part in (reason, "4.5e+07 mm from the origin")])


def test_what_encloses_nothing_is_counted(tmp_path: Path) -> None:
    contours = [
        *ORGAN,
        contour([[3, 3, 4]], kind="POINT"),
        contour(shift(0, 0, 6), kind="OPEN_PLANAR"),
        contour(shift(0, 0, 6), kind="OPEN_NONPLANAR"),
        contour([[3, 3, 4], [3, 4, 4]]),
        contour([[1, 1, 4], [2, 2, 4], [4, 4, 4]]),
    ]
    label, (row,) = convert(tmp_path, {"Organ": contours, "Empty": []})
    assert int((label > 0).sum()) == 16
    assert row["reason"] == (
        "ROI 1 (Organ): 3 of 6 point or open contour(s) enclose nothing, 2 of 6 contour(s) of fewer than three "
        "points, or of no extent, enclose nothing; ROI 2 (Empty): no contours"
    )


@pytest.mark.parametrize(
    ("contours", "reason"),
    [
        ([contour([[3, 3, 4]], kind="POINT")], "1 of 1 point or open contour(s) enclose nothing"),
        ([contour(SQUARE / 9 + 0.1)], "no voxel's centre lies inside"),
        ([], "no contours"),
    ],
)
def test_a_structure_set_that_encloses_nothing_is_no_empty_label(
    tmp_path: Path, contours: list[Dataset], reason: str
) -> None:
    with pytest.raises((FileNotFoundError, StopIteration)):
        convert(tmp_path, {"Centre": contours})
    assert f"quarantined,ROI 1 (Centre): {reason}" in (tmp_path / "out/conversion.csv").read_text()


def test_contours_without_a_name_are_counted(tmp_path: Path) -> None:
    series = Series(random_values(), uid="1.2.1")
    series.write(tmp_path / "in/ct")
    dataset = structure_set({"Organ": ORGAN, "Lost": ORGAN}, series.datasets())
    del dataset.ROIContourSequence[1].ReferencedROINumber
    save(dataset, tmp_path / "in/rt")
    convert_folder(tmp_path / "in", tmp_path / "out", ConvertOptions(pseudonym_key="k", workers=1))
    text = (tmp_path / "out/conversion.csv").read_text()
    assert "converted,1 contour(s) of an ROI without a name are left out; ROI 2 (Lost): no contours" in text


def test_two_rois_of_one_number_are_refused(tmp_path: Path) -> None:
    series = Series(random_values(), uid="1.2.1")
    dataset = structure_set({"a": ORGAN, "b": ORGAN}, series.datasets())
    dataset.StructureSetROISequence[1].ROINumber = 1
    save(dataset, tmp_path / "in/rt")
    with pytest.raises(DataError, match="several of its ROIs have one number"):
        convert_folder(tmp_path / "in", tmp_path / "out", ConvertOptions(pseudonym_key="k", workers=1))
