"""DICOM SEG and RTSTRUCT against independent computations."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.dicom.objects import Series, random_values, rtstruct, save, seg
from tests.tables import read_table
from voxflow.dicom import ConvertOptions, convert_folder
from voxflow.dicom.contours import Contour, FilledContours, fill_contours, fill_outline
from voxflow.dicom.label_grid import LabelGrid
from voxflow.errors import DicomError
from voxflow.geometry import Geometry
from voxflow.volumes import read_volume

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

SHAPE = (6, 9, 7)


def masks(segments: int = 1, seed: int = 3) -> NDArray[np.uint8]:
    return (np.random.default_rng(seed).random((*SHAPE, segments)) < 0.4).astype(np.uint8)


def convert_label(tmp_path: Path, dataset: Any, series: Series, **options: Any) -> NDArray[Any]:
    """The label volume as (slices, rows, columns), in the order of the series as written."""
    series.write(tmp_path / "in/ct")
    save(dataset, tmp_path / "in/label")
    convert_folder(tmp_path / "in", tmp_path / "out", ConvertOptions(pseudonym_key="k", workers=1, **options))
    return read_volume(next((tmp_path / "out/labels").iterdir())).array.transpose(2, 1, 0)


def test_bit_packed_frames_of_odd_size_equal_numpys_unpacking(tmp_path: Path) -> None:
    series, mask = Series(random_values()), masks()
    dataset = seg(series, mask, ["Organ"], omit_empty_frames=False)
    bits = np.unpackbits(np.frombuffer(dataset.PixelData, np.uint8), bitorder="little")
    groups = dataset.PerFrameFunctionalGroupsSequence
    heights = [float(group.PlanePositionSequence[0].ImagePositionPatient[2]) for group in groups]
    expected = bits[: mask.size].reshape(SHAPE)[np.argsort(heights)]
    assert SHAPE[1] * SHAPE[2] % 8
    assert np.array_equal(expected, mask[..., 0])
    assert np.array_equal(convert_label(tmp_path, dataset, series), expected)


def test_segments_on_fewer_slices_land_on_their_own(tmp_path: Path) -> None:
    series, mask = Series(random_values(), orientation=(0, 1, 0, 0, 0, -1)), masks()
    mask[[0, 1, 4]] = 0
    dataset = seg(series, mask, ["Organ"])
    assert dataset.NumberOfFrames == 3
    assert np.array_equal(convert_label(tmp_path, dataset, series), mask[..., 0])


def test_overlapping_segments_go_by_segment_number(tmp_path: Path) -> None:
    series, mask = Series(random_values()), masks(2)
    label = convert_label(tmp_path, seg(series, mask, ["b", "a"]), series)
    assert np.array_equal(label, np.where(mask[..., 1] > 0, 1, np.where(mask[..., 0] > 0, 2, 0)))
    assert json.loads((tmp_path / "out/labels.json").read_text()) == {"0": "background", "1": "a", "2": "b"}


def test_fractions_are_inside_from_one_half(tmp_path: Path) -> None:
    series = Series(random_values())
    fractions = np.random.default_rng(1).random(SHAPE)
    dataset = seg(series, fractions, ["Organ"], "FRACTIONAL", max_fractional_value=200, fractional_type="PROBABILITY")
    stored_values = np.rint(fractions * 200)
    assert np.array_equal(convert_label(tmp_path, dataset, series), stored_values >= 100)


def test_chosen_labels_get_their_values_and_others_are_left_out(tmp_path: Path) -> None:
    series, mask = Series(random_values()), masks(3)
    dataset = seg(series, mask, ["Liver", "Spleen", "Couch"])
    label = convert_label(tmp_path, dataset, series, labels={"spleen": 5, "liver": 2})
    assert np.array_equal(label, np.where(mask[..., 1] > 0, 5, np.where(mask[..., 0] > 0, 2, 0)))
    assert json.loads((tmp_path / "out/labels.json").read_text()) == {"0": "background", "2": "Liver", "5": "Spleen"}


def test_label_values_are_the_same_in_all_cases(tmp_path: Path) -> None:
    for patient, names in (("P1", ["kidney", "spleen"]), ("P2", ["spleen"])):
        series = Series(random_values(), patient=patient, frame=f"1.2.{patient[1]}")
        series.write(tmp_path / "in" / patient)
        save(seg(series, np.ones((*SHAPE, len(names)), np.uint8), names), tmp_path / "in" / f"{patient}.dcm")
    convert_folder(tmp_path / "in", tmp_path / "out", ConvertOptions(pseudonym_key="k", workers=1))
    values = [set(np.unique(read_volume(path).array)) for path in (tmp_path / "out/labels").iterdir()]
    assert values == [{2}, {2}]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.floats(-3, 12), st.floats(-3, 14)), min_size=3, max_size=12))
def test_a_filled_outline_equals_counting_crossings_point_by_point(points: list[tuple[float, float]]) -> None:
    # Away from whole numbers and from diagonals, so that no pixel centre lies on the outline.
    outline = np.round(np.array(points), 1) + np.array([0.0371828, 0.0141421])
    expected = np.array([[crossings(outline, i, j) % 2 == 1 for j in range(11)] for i in range(9)])
    assert np.array_equal(fill_outline(outline, (9, 11)), expected)


def crossings(outline: NDArray[np.float64], i: int, j: int) -> int:
    count = 0
    for (x0, y0), (x1, y1) in zip(outline, np.roll(outline, -1, axis=0), strict=True):
        if (y0 > j) != (y1 > j):
            count += bool(x0 + (j - y0) / (y1 - y0) * (x1 - x0) < i)
    return count


def test_contours_in_patient_coordinates_equal_matplotlibs_point_test(tmp_path: Path) -> None:
    from matplotlib.path import Path as Outline

    series = Series(random_values(), orientation=(0, 1, 0, 0, 0, -1), origin=(20, -30, 12), spacing=(1.5, 0.8))
    outer = np.array([[-0.6, -0.6], [6.3, 0.4], [5.8, 8.2], [0.3, 7.6]])
    hole = np.array([[2.2, 2.3], [4.3, 2.2], [4.2, 5.7], [2.3, 5.6]])
    grid = np.array([[column, row] for row in range(9) for column in range(7)], float)
    plane = (Outline(outer).contains_points(grid) ^ Outline(hole).contains_points(grid)).reshape(9, 7)
    expected = np.zeros(SHAPE, bool)
    expected[[1, 2]] = plane
    along = np.array(series.orientation).reshape(2, 3) * np.array([[0.8], [1.5]])
    contours = [o @ along + np.array(series.origin) + k * 2 * series.normal for k in (1, 2) for o in (outer, hole)]
    label = convert_label(tmp_path, rtstruct(contours), series)
    assert np.array_equal(label > 0, expected)


def test_of_two_planes_in_one_slice_the_nearer_one_counts() -> None:
    geometry = Geometry((8, 8, 3), np.diag([1.0, 1, 5, 1]))
    near = np.array([[0.5, 0.5, 5], [3.5, 0.5, 5], [3.5, 3.5, 5], [0.5, 3.5, 5]])
    far = near + np.array([3.0, 0, 2])
    both, alone = (
        fill_contours(contours, LabelGrid(geometry)) for contours in ([Contour(near), Contour(far)], [Contour(near)])
    )
    assert np.array_equal(both.mask, alone.mask)
    assert (both.unused, alone.unused) == (1, 0)


def test_contours_outside_of_the_image_are_an_error() -> None:
    geometry = Geometry((8, 8, 3), np.diag([1.0, 1, 5, 1]))
    with pytest.raises(DicomError, match="all contours lie outside of the image"):
        fill_contours([Contour(np.array([[0.0, 0, 90], [3, 0, 90], [0, 3, 90]]))], LabelGrid(geometry))


SQUARE = np.array([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]])
FLAT = Geometry((12, 12, 9), np.eye(4))


def fill(contours: list[Contour]) -> FilledContours:
    return fill_contours(contours, LabelGrid(FLAT))


def square(side: float, corner: float, k: int = 4, *, exclusive: bool = False) -> Contour:
    return Contour(SQUARE * side + np.array([corner + 0.5, corner + 0.5, k]), exclusive)


@pytest.mark.parametrize(
    ("contours", "pixels"),
    [
        ([square(6, 1), square(2, 3)], 36 - 4),
        ([square(2, 3), square(6, 1)], 36 - 4),
        ([square(9, 0), square(5, 2), square(1, 4)], 81 - 25 + 1),
        ([square(4, 1), square(4, 3)], 16 + 16 - 4),
        ([square(4, 1), square(4, 1)], 16),
        ([square(4, 1, exclusive=True), square(4, 3, exclusive=True)], 16 + 16 - 2 * 4),
        ([square(3, 0), square(3, 6)], 18),
    ],
)
def test_holes_islands_and_overlaps_of_contours(contours: list[Contour], pixels: int) -> None:
    assert int(fill(contours).mask[:, :, 4].sum()) == pixels


def test_a_contour_between_slices_counts_for_the_nearer_one() -> None:
    moved = Contour(square(4, 1).points + np.array([0, 0, 0.4]))
    assert np.array_equal(fill([moved]).mask, fill([square(4, 1)]).mask)


def test_slices_between_sparse_contours_are_interpolated() -> None:
    contours = [square(8, 1, 1), square(6, 2, 4), square(4, 3, 7)]
    filled = fill(contours)
    assert filled.is_interpolated
    assert filled.mask.any(axis=(0, 1)).tolist() == [False] + [True] * 7 + [False]
    for contour, k in zip(contours, (1, 4, 7), strict=True):
        assert np.array_equal(filled.mask[:, :, k], fill([contour]).mask[:, :, k])
    areas = filled.mask.sum(axis=(0, 1))[1:8]
    assert (np.diff(areas) <= 0).all()


def test_contours_with_gaps_of_their_own_stay_as_they_are() -> None:
    filled = fill([square(4, 1, k) for k in (0, 1, 2, 6, 7)])
    assert not filled.is_interpolated
    assert np.flatnonzero(filled.mask.any(axis=(0, 1))).tolist() == [0, 1, 2, 6, 7]


def test_a_label_map_gives_its_segments(tmp_path: Path) -> None:
    series = Series(random_values())
    labels = np.random.default_rng(5).integers(0, 3, SHAPE).astype(np.uint8)
    dataset = seg(series, labels, ["a", "b"], "LABELMAP")
    assert dataset.SegmentationType == "LABELMAP"
    assert np.array_equal(convert_label(tmp_path, dataset, series), labels)


@pytest.mark.parametrize(
    ("options", "winner"),
    [
        ({"overlap": "last"}, 1),
        ({"overlap": "first"}, 0),
        ({"overlap": "listed", "labels": {"b": 1, "a": 2}}, 0),
        ({"overlap": "listed", "labels": {"a": 1, "b": 2}}, 1),
    ],
)
def test_overlaps_follow_the_stated_order(tmp_path: Path, options: dict[str, Any], winner: int) -> None:
    series, mask = Series(random_values()), masks(2)
    values = options.get("labels", {"a": 1, "b": 2})
    label = convert_label(tmp_path, seg(series, mask, ["a", "b"]), series, **options)
    is_shared = (mask > 0).all(axis=-1)
    assert (label[is_shared] == values["ab"[winner]]).all()
    assert f"{int(is_shared.sum())} voxels lie in several segments" in (tmp_path / "out/conversion.csv").read_text()


def test_overlapping_labels_are_whole_in_channels_of_their_own(tmp_path: Path) -> None:
    series, mask = Series(random_values()), masks(3)
    dataset = seg(series, mask, ["b", "a", "c"])
    merged = convert_label(tmp_path, dataset, series, overlap="channels", labels={"a": 1, "b": 2, "c": 2, "d": 5})
    case = read_table(tmp_path / "out/cases.csv")[0]
    channels = case["label_channels"].split(";")
    assert [path.rsplit("/", 1)[1] for path in channels] == ["1.nii.gz", "2.nii.gz", "5.nii.gz"]
    first, second, third = (read_volume(tmp_path / "out" / path) for path in channels)
    assert first.geometry.is_close(read_volume(tmp_path / "out" / case["image"]).geometry)
    # Of the SEG as highdicom got it, not of what was made of it.
    assert np.array_equal(first.array.transpose(2, 1, 0), mask[..., 1])
    assert np.array_equal(second.array.transpose(2, 1, 0), mask[..., 0] | mask[..., 2])
    assert not third.array.any()
    assert (merged[mask[..., 2] > 0] == 2).all()
    assert "each is whole in its channel" in (tmp_path / "out/conversion.csv").read_text()


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL"])
def test_a_segmentation_on_a_coarser_grid_gives_each_voxel_its_nearest_pixel(tmp_path: Path, kind: str) -> None:
    fine = Series(random_values((12, 18, 14)), uid="1.2.3", spacing=(0.75, 0.5), step=1.0, origin=(-0.25, -0.375, -0.5))
    coarse = Series(random_values(), uid="1.2.3")
    mask = masks()[..., 0]
    label = convert_label(tmp_path, seg(coarse, mask.copy(), ["Organ"], kind), fine)
    assert np.array_equal(label, mask.repeat(2, 0).repeat(2, 1).repeat(2, 2))
    assert "remedied,the segmentation lies on another grid" in (tmp_path / "out/conversion.csv").read_text()


def test_a_segmentation_far_from_its_image_is_quarantined(tmp_path: Path) -> None:
    series, away = Series(random_values(), uid="1.2.3"), Series(random_values(), uid="1.2.3", origin=(500.3, 0, 0))
    series.write(tmp_path / "in/ct")
    save(seg(away, masks()[..., 0], ["Organ"]), tmp_path / "in/seg")
    summary = convert_folder(tmp_path / "in", tmp_path / "out", ConvertOptions(pseudonym_key="k", workers=1))
    assert "nothing of the segmentation lies inside of its image" in summary.reasons[0]
