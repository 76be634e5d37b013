"""RTSTRUCT that is written: its contours enclose the mask's voxels, for our reader and for others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom
import pytest
from matplotlib.path import Path as Polygon
from scipy.ndimage import label

from tests.dicom.objects import Series, random_values
from tests.dicom.test_remedies import write as write_ramp
from tests.dicom.test_seg_sources import OPTIONS, ball, cases, make_ball_mask, origin, pixels_at
from tests.dicom.test_several_volumes import two_in_one
from voxflow.colours import parse_rgb, pick_class_colour
from voxflow.dicom import (
    SegmentMeasurements,
    find_sources,
    write_measurement_report,
    write_segmentation,
    write_structure_set,
)
from voxflow.dicom.label_grid import LabelGrid
from voxflow.dicom.outlines import trace_outlines
from voxflow.dicom.pixels import read_series
from voxflow.dicom.plain import read_header
from voxflow.dicom.rtstruct import StructureSet, list_contours
from voxflow.errors import DicomError
from voxflow.volumes import Volume, read_volume

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from pydicom.dataset import Dataset

NAMES = {1: "spleen", 2: "left kidney"}
TURN = np.linalg.qr(np.random.default_rng(5).normal(size=(3, 3)))[0]
SERIES: dict[str, dict[str, Any]] = {
    "axial": {},
    "sagittal": {"orientation": (0, 1, 0, 0, 0, -1)},
    "oblique, thick": {
        "orientation": TURN[:2].ravel(),
        "spacing": (0.41, 1.9),
        "step": 7.5,
        "origin": (-312.25, 88, 1500),
    },
    "flipped": {"orientation": (-1, 0, 0, 0, 1, 0)},
}


def make_mask(series: Sequence[Path], values: NDArray[np.uint8] | None = None) -> Volume:
    headers = [header for header in map(read_header, series) if header]
    geometry = read_series(headers, tolerance_mm=0.1, min_slices=1).geometry
    if values is None:
        values = np.random.default_rng(2).integers(0, 3, geometry.size).astype(np.uint8)
    return Volume(values, geometry)


def read_masks(path: Path, mask: Volume) -> dict[str, NDArray[np.bool_]]:
    dataset, ours = pydicom.dcmread(path), StructureSet(path)
    masks = {}
    for roi in dataset.StructureSetROISequence:
        numbers = range(len(list(list_contours(dataset, roi.ROINumber))))
        masks[str(roi.ROIName)] = ours.read_mask(roi.ROINumber, numbers, LabelGrid(mask.geometry)).array
    return masks


def rasterise(contours: Sequence[Dataset], image: Dataset) -> NDArray[np.bool_]:
    """Fill contours on a slice by matplotlib: which pixels' centres lie in any of them."""
    row, column = np.array(image.ImageOrientationPatient, float).reshape(2, 3)
    centres = pixels_at(image).reshape(-1, 3) @ np.stack([row, column]).T
    inside = np.zeros(len(centres), np.bool_)
    for contour in contours:
        points = np.array(contour.ContourData, float).reshape(-1, 3)
        distance = (points - np.array(image.ImagePositionPatient, float)) @ np.cross(row, column)
        assert np.abs(distance).max() < 1e-3  # in the plane of its image
        inside ^= Polygon(points @ np.stack([row, column]).T).contains_points(centres)
    return inside.reshape(image.Rows, image.Columns)


def measure_area(contour: Dataset) -> float:
    points = np.array(contour.ContourData, float).reshape(-1, 3)
    points = points - points[0]
    return float(np.linalg.norm(np.cross(points, np.roll(points, -1, axis=0)).sum(axis=0)) / 2)


@pytest.mark.parametrize("kind", SERIES)
def test_our_reader_and_an_independent_one_find_every_voxel(tmp_path: Path, kind: str) -> None:
    series = Series(random_values(), uid="1.2.3", **SERIES[kind]).write(tmp_path / "ct")
    mask = make_mask(series)
    write_structure_set(tmp_path / "rt.dcm", mask, series[::-1], NAMES)
    masks = read_masks(tmp_path / "rt.dcm", mask)
    assert np.array_equal(masks["spleen"] + 2 * masks["left kidney"].astype(int), mask.array)
    dataset = pydicom.dcmread(tmp_path / "rt.dcm")
    images = [pydicom.dcmread(path) for path in series]
    for number in (1, 2):
        contours = list(list_contours(dataset, number))
        by_image = {image.SOPInstanceUID: rasterise(_pick(contours, image), image) for image in images}
        assert sum(int(inside.sum()) for inside in by_image.values()) == int((mask.array == number).sum())
        area = sum(map(measure_area, contours))
        voxels = area / np.prod([float(v) for v in images[0].PixelSpacing])
        assert voxels == pytest.approx((mask.array == number).sum(), rel=1e-3)


def _pick(contours: Sequence[Dataset], image: Dataset) -> list[Dataset]:
    return [c for c in contours if c.ContourImageSequence[0].ReferencedSOPInstanceUID == image.SOPInstanceUID]


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_outlines_have_the_area_of_their_pixels_one_a_part_and_holes_stay_open(share: float) -> None:
    rng = np.random.default_rng(7)
    for _ in range(100):
        mask = rng.random(rng.integers(1, 14, 2)) < share
        outlines = trace_outlines(mask)
        assert len(outlines) == label(mask)[1]
        x, y = (np.concatenate([outline[:, n] for outline in outlines] or [np.zeros(0)]) for n in (0, 1))
        assert len(x) == len(y)
        areas = [o[:, 0] @ np.roll(o[:, 1], -1) - o[:, 1] @ np.roll(o[:, 0], -1) for o in outlines]
        assert sum(areas) / 2 == mask.sum()
        centres = np.argwhere(np.ones_like(mask))
        # By the winding number, as readers do that know no even and odd.
        inside = [Polygon(np.vstack([o, o[:1]])).contains_points(centres) for o in outlines]
        assert np.array_equal(np.any(inside, axis=0).reshape(mask.shape) if inside else np.zeros_like(mask), mask)


def test_it_says_what_it_is_and_refers_to_every_image(tmp_path: Path) -> None:
    series = Series(
        random_values(), uid="1.2.3", changes={"PatientName": "Müller", "SpecificCharacterSet": "ISO_IR 100"}
    )
    files = series.write(tmp_path / "ct")
    mask = make_mask(files)
    names = NAMES | {3: "脾臓", 4: "a\\b " * 20}
    write_structure_set(tmp_path / "rt.dcm", mask, files, names)
    dataset = pydicom.dcmread(tmp_path / "rt.dcm")
    assert [roi.ROINumber for roi in dataset.StructureSetROISequence] == [1, 2, 3, 4]
    assert [roi.ROIName for roi in dataset.StructureSetROISequence][:3] == ["spleen", "left kidney", "脾臓"]
    assert all(len(roi.ROIName) <= 64 for roi in dataset.StructureSetROISequence)
    assert list(dataset.ROIContourSequence[1].ROIDisplayColor) == list(parse_rgb(pick_class_colour(2)))
    assert "ContourSequence" not in dataset.ROIContourSequence[2]  # an empty class keeps its ROI
    frame = dataset.ReferencedFrameOfReferenceSequence[0]
    referred = frame.RTReferencedStudySequence[0].RTReferencedSeriesSequence[0]
    assert referred.SeriesInstanceUID == "1.2.3"
    uids = {item.ReferencedSOPInstanceUID for item in referred.ContourImageSequence}
    assert uids == {pydicom.dcmread(path).SOPInstanceUID for path in files}
    assert str(dataset.PatientName) == "Müller"
    assert dataset.PatientID == "MARKER-ID"
    assert dataset.SeriesInstanceUID not in (*uids, "1.2.3")


JAPANESE = "Yamada^Tarou=山田^太郎=やまだ^たろう"


@pytest.mark.parametrize(
    ("character_set", "name"),
    [("ISO_IR 192", "Müller^Jörg"), ("ISO_IR 100", "Müller^Jörg"), (["", "ISO 2022 IR 87"], JAPANESE)],
    ids=["UTF-8", "Latin", "Japanese"],
)
def test_names_of_patients_and_classes_stay_in_any_alphabet(
    tmp_path: Path, character_set: str | list[str], name: str
) -> None:
    changes = {"SpecificCharacterSet": character_set, "PatientName": name}
    series = Series(random_values(), uid="1.2.3", changes=changes).write(tmp_path / "ct")
    mask, names = make_mask(series), {1: "脾臓", 2: "léber"}
    write_structure_set(tmp_path / "rt.dcm", mask, series, names)
    write_segmentation(tmp_path / "seg.dcm", mask, series, names)
    measurements = [SegmentMeasurements(name, 1.0) for name in names.values()]
    write_measurement_report(tmp_path / "sr.dcm", tmp_path / "seg.dcm", series, measurements)
    contours, segmentation, report = (pydicom.dcmread(tmp_path / f"{kind}.dcm") for kind in ("rt", "seg", "sr"))
    assert [str(d.PatientName) for d in (contours, segmentation, report)] == [name] * 3
    assert [roi.ROIName for roi in contours.StructureSetROISequence] == list(names.values())
    assert [segment.SegmentLabel for segment in segmentation.SegmentSequence] == list(names.values())
    assert all(label in str(report) for label in names.values())


def test_the_same_mask_gives_the_same_bytes_and_another_one_another_object(tmp_path: Path) -> None:
    series = Series(random_values(), uid="1.2.3").write(tmp_path / "ct")
    mask = make_mask(series)
    for name in ("a", "b"):
        write_structure_set(tmp_path / name, mask, series, NAMES)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    mask.array[0, 0, 0] = (mask.array[0, 0, 0] + 1) % 3
    write_structure_set(tmp_path / "c", mask, series, NAMES)
    first, second = (pydicom.dcmread(tmp_path / name) for name in ("a", "c"))
    assert first.SOPInstanceUID != second.SOPInstanceUID
    assert first.SeriesInstanceUID != second.SeriesInstanceUID
    write_structure_set(tmp_path / "d", mask, series, NAMES, description="AI result")
    described = pydicom.dcmread(tmp_path / "d")
    assert described.SOPInstanceUID != second.SOPInstanceUID
    assert described.StructureSetDescription == "AI result"


def test_regions_may_overlap(tmp_path: Path) -> None:
    series = Series(random_values(), uid="1.2.3").write(tmp_path / "ct")
    mask = make_mask(series)
    write_structure_set(tmp_path / "rt.dcm", mask, series, NAMES, regions={"organ": (1, 2), "tumour": (2,)})
    masks = read_masks(tmp_path / "rt.dcm", mask)
    assert np.array_equal(masks["organ"], mask.array > 0)
    assert np.array_equal(masks["tumour"], mask.array == 2)


def test_a_hole_with_an_island_in_it_reads_back(tmp_path: Path) -> None:
    series = Series(random_values((2, 15, 15)), uid="1.2.3").write(tmp_path / "ct")
    values = np.zeros((15, 15, 2), np.uint8)
    values[:, :, 0] = 1  # in one slice, to the image's border
    values[2:12, 2:12, 0] = 0
    values[4:10, 4:10, 0] = 1
    values[6, 6, 0] = 0
    values[14, 14, 1] = 1  # a single voxel
    mask = make_mask(series, values)
    write_structure_set(tmp_path / "rt.dcm", mask, series, NAMES)
    assert np.array_equal(read_masks(tmp_path / "rt.dcm", mask)["spleen"], values == 1)
    assert len(list(list_contours(pydicom.dcmread(tmp_path / "rt.dcm"), 1))) == 3


def test_contours_beyond_64_kilobytes_are_written(tmp_path: Path) -> None:
    series = Series(random_values((2, 90, 90)), uid="1.2.3").write(tmp_path / "ct")
    values = np.zeros((90, 90, 2), np.uint8)
    values[::2] = values[:, 0] = 1  # a comb
    values[::2, 1:-1:2] = 1
    values[1:-1:2, 10:-10:2] = 1
    mask = make_mask(series, values)
    write_structure_set(tmp_path / "rt.dcm", mask, series, NAMES)
    contours = list(list_contours(pydicom.dcmread(tmp_path / "rt.dcm"), 1))
    assert max(len("\\".join(map(str, c.ContourData))) for c in contours) > 2**16
    assert np.array_equal(read_masks(tmp_path / "rt.dcm", mask)["spleen"], values == 1)


def test_contours_of_a_tilted_gantry_lie_on_the_slices_as_they_were_scanned(tmp_path: Path) -> None:
    write_ramp(tmp_path / "in", np.outer(np.arange(9), (0, -0.6, 2.0)))
    mask, centre, source_files = make_ball_mask(tmp_path)
    write_structure_set(tmp_path / "rt.dcm", mask, source_files, {1: "Spleen"})
    dataset = pydicom.dcmread(tmp_path / "rt.dcm")
    assert "nearest voxel" in dataset.StructureSetDescription
    contours = list(list_contours(dataset, 1))
    slices = [pydicom.dcmread(path) for path in source_files.files]
    inside = np.stack([rasterise(_pick(contours, image), image) for image in slices])
    expected = np.stack([ball(pixels_at(image), centre) for image in slices])
    near = np.stack([np.abs(np.linalg.norm(pixels_at(image) - centre, axis=-1) - 4.0) for image in slices])
    far = near > np.linalg.norm(mask.geometry.spacing) / 2
    assert expected.sum() > 50
    assert np.array_equal(inside[far], expected[far])


def test_frames_of_a_multi_frame_object_are_named(tmp_path: Path) -> None:
    two_in_one(tmp_path / "in/one")
    for time, case in enumerate(cases(tmp_path)):
        image = read_volume(tmp_path / "out" / case["image"])
        mask = Volume(np.ones_like(image.array, np.uint8), image.geometry)
        source_files = find_sources(tmp_path / "in", [origin(case)], OPTIONS)[origin(case)]
        write_structure_set(tmp_path / "rt.dcm", mask, source_files, {1: "Spleen"})
        contours = list_contours(pydicom.dcmread(tmp_path / "rt.dcm"), 1)
        frames = [contour.ContourImageSequence[0].ReferencedFrameNumber for contour in contours]
        assert sorted(frames) == [2 * k + time + 1 for k in range(6)]
        assert np.array_equal(read_masks(tmp_path / "rt.dcm", mask)["Spleen"], mask.array == 1)


def test_images_without_a_frame_of_reference_get_none(tmp_path: Path) -> None:
    series = Series(random_values(), uid="1.2.3", changes={"FrameOfReferenceUID": ""}).write(tmp_path / "ct")
    with pytest.raises(DicomError, match="frame of reference"):
        write_structure_set(tmp_path / "rt.dcm", make_mask(series), series, NAMES)
    assert not (tmp_path / "rt.dcm").exists()
