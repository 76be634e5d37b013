"""A DICOM SEG that was written reads back as the same voxels, and says where it came from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import highdicom as hd
import numpy as np
import pydicom
import pytest

from tests.dicom.objects import Series, random_values, save
from voxflow.colours import parse_rgb, pick_class_colour
from voxflow.dicom import ConvertOptions, convert_folder, write_segmentation
from voxflow.dicom.label_grid import LabelGrid
from voxflow.dicom.pixels import read_series
from voxflow.dicom.plain import read_header
from voxflow.dicom.references import read_segment_references
from voxflow.dicom.seg import Segmentation
from voxflow.errors import DicomError
from voxflow.volumes import Volume

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


@pytest.fixture
def series(tmp_path: Path) -> list[Path]:
    return Series(random_values(), uid="1.2.3", orientation=(0, 1, 0, 0, 0, -1)).write(tmp_path / "ct")


@pytest.fixture
def mask(series: list[Path]) -> Volume:
    headers = [header for header in map(read_header, series) if header]
    geometry = read_series(headers, tolerance_mm=0.1, min_slices=3).geometry
    return Volume(np.random.default_rng(2).integers(0, 3, geometry.size).astype(np.uint8), geometry)


def read_masks(path: Path, image: Volume) -> dict[int, NDArray[np.bool_]]:
    dataset = pydicom.dcmread(path)
    references = read_segment_references(dataset, [item.SegmentNumber for item in dataset.SegmentSequence])
    frames = {number: segment.items for number, segment in references.items()}
    segmentation, grid = Segmentation(path, frames), LabelGrid(image.geometry)
    return {number: segmentation.read_mask(number, items, grid).array for number, items in frames.items()}


def test_what_is_written_reads_back_voxel_by_voxel(tmp_path: Path, series: list[Path], mask: Volume) -> None:
    write_segmentation(tmp_path / "seg.dcm", mask, series[::-1], {1: "spleen", 2: "left kidney"})
    masks = read_masks(tmp_path / "seg.dcm", mask)
    assert np.array_equal(masks[1] + 2 * masks[2].astype(int), mask.array)


def test_highdicom_finds_the_same_masks_by_source_image(tmp_path: Path, series: list[Path], mask: Volume) -> None:
    write_segmentation(tmp_path / "seg.dcm", mask, series, {1: "spleen", 2: "left kidney"})
    uids = [pydicom.dcmread(path).SOPInstanceUID for path in series]
    theirs = hd.seg.segread(tmp_path / "seg.dcm").get_pixels_by_source_instance(uids, combine_segments=True)
    headers = [header for header in map(read_header, series) if header]
    order = np.argsort([np.dot(h.plane.position, (-1, 0, 0)) for h in headers])
    assert np.array_equal(theirs[order].transpose(2, 1, 0), mask.array)


def test_regions_become_segments_that_overlap(tmp_path: Path, series: list[Path], mask: Volume) -> None:
    regions = {"organ": (1, 2), "tumour": (2,)}
    write_segmentation(tmp_path / "seg.dcm", mask, series, {1: "organ", 2: "tumour"}, regions=regions)
    masks = read_masks(tmp_path / "seg.dcm", mask)
    assert np.array_equal(masks[1], mask.array > 0)
    assert np.array_equal(masks[2], mask.array == 2)
    uids = [pydicom.dcmread(path).SOPInstanceUID for path in series]
    theirs = hd.seg.segread(tmp_path / "seg.dcm").get_pixels_by_source_instance(uids)
    assert [int(theirs[..., n].sum()) for n in range(2)] == [int(masks[1].sum()), int(masks[2].sum())]


def test_it_names_algorithm_segment_and_series(tmp_path: Path, series: list[Path], mask: Volume) -> None:
    write_segmentation(tmp_path / "seg.dcm", mask, series, {1: "spleen", 2: "thing without a code"})
    dataset = pydicom.dcmread(tmp_path / "seg.dcm")
    spleen, second_segment = dataset.SegmentSequence
    assert spleen.SegmentedPropertyTypeCodeSequence[0].CodeValue == "78961009"
    assert second_segment.SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "Anatomical Structure"
    assert spleen.SegmentationAlgorithmIdentificationSequence[0].AlgorithmName == "Voxflow"
    assert dataset.ReferencedSeriesSequence[0].SeriesInstanceUID == "1.2.3"
    assert dataset.PatientID == "MARKER-ID"


def test_its_descriptions_say_whether_a_review_is_advised(tmp_path: Path, series: list[Path], mask: Volume) -> None:
    write_segmentation(tmp_path / "plain.dcm", mask, series, {1: "a", 2: "b"})
    write_segmentation(tmp_path / "seg.dcm", mask, series, {1: "a", 2: "b"}, description="AI result, review advised")
    plain, dataset = pydicom.dcmread(tmp_path / "plain.dcm"), pydicom.dcmread(tmp_path / "seg.dcm")
    assert dataset.SeriesDescription == f"{plain.SeriesDescription}: AI result, review advised"
    assert dataset.ContentDescription == "AI result, review advised"
    assert "review" not in str(plain.get("ContentDescription"))


def test_segments_whose_labels_would_meet_are_told_apart(tmp_path: Path, series: list[Path], mask: Volume) -> None:
    write_segmentation(tmp_path / "seg.dcm", mask, series, {1: "lobe of liver " * 6 + "left", 2: "lobe of liver " * 6})
    labels = [item.SegmentLabel for item in pydicom.dcmread(tmp_path / "seg.dcm").SegmentSequence]
    assert len(set(labels)) == 2
    assert max(map(len, labels)) <= 64
    write_segmentation(tmp_path / "seg.dcm", mask, series, {1: "a\\b", 2: "a_b"})
    labels = [item.SegmentLabel for item in pydicom.dcmread(tmp_path / "seg.dcm").SegmentSequence]
    assert labels[1] == "a_b"
    assert labels[0].startswith("a_b-")


def test_segments_have_the_colours_of_their_classes_everywhere(
    tmp_path: Path, series: list[Path], mask: Volume
) -> None:
    write_segmentation(tmp_path / "seg.dcm", mask, series, {1: "spleen", 2: "liver", 3: "kidney"})
    segments = pydicom.dcmread(tmp_path / "seg.dcm").SegmentSequence
    for segment, number in zip(segments, (1, 2, 3), strict=True):
        colour = hd.color.CIELabColor.from_dicom_value(segment.RecommendedDisplayCIELabValue).to_rgb()
        assert np.abs(np.subtract(colour, parse_rgb(pick_class_colour(number)))).max() <= 2


def test_an_empty_mask_can_be_written(tmp_path: Path, series: list[Path], mask: Volume) -> None:
    empty = Volume(np.zeros_like(mask.array), mask.geometry)
    write_segmentation(tmp_path / "seg.dcm", empty, series, {1: "spleen"})
    assert not read_masks(tmp_path / "seg.dcm", mask)[1].any()


def test_values_need_not_follow_each_other(tmp_path: Path, series: list[Path], mask: Volume) -> None:
    sparse = Volume((mask.array > 1).astype(np.uint8) * 7, mask.geometry)
    write_segmentation(tmp_path / "seg.dcm", sparse, series, {3: "liver", 7: "spleen"})
    masks = read_masks(tmp_path / "seg.dcm", mask)
    assert not masks[1].any()
    assert np.array_equal(masks[2], sparse.array == 7)


def test_it_becomes_the_label_when_it_is_converted(tmp_path: Path, series: list[Path], mask: Volume) -> None:
    write_segmentation(tmp_path / "ct/seg.dcm", mask, series, {1: "a", 2: "b"})
    summary = convert_folder(tmp_path / "ct", tmp_path / "out", ConvertOptions(pseudonym_key="k", workers=1))
    assert summary.labelled == 1


def test_a_mask_on_another_grid_is_refused(tmp_path: Path, series: list[Path], mask: Volume) -> None:
    shifted = Volume(
        mask.array[1:], type(mask.geometry)((mask.geometry.size[0] - 1, *mask.geometry.size[1:]), mask.geometry.affine)
    )
    with pytest.raises(DicomError, match="the mask lies on another grid than the series"):
        write_segmentation(tmp_path / "seg.dcm", shifted, series, {1: "spleen", 2: "b"})


def test_a_value_without_a_name_is_refused(tmp_path: Path, series: list[Path], mask: Volume) -> None:
    with pytest.raises(DicomError, match=r"label values \[2\] have no name; named are \[1\]"):
        write_segmentation(tmp_path / "seg.dcm", mask, series, {1: "spleen"})


@pytest.mark.parametrize(
    ("charset", "name", "expected"),
    [
        ("", "DOE^JANE", None),
        (None, "DOE^JANE", None),
        ("ISO_IR 100", "MÜLLER^JÖRG", "ISO_IR 100"),
        ("ISO_IR 192", "山田^太郎", "ISO_IR 192"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎", "ISO_IR 192"),
        ("ISO_IR_100", "MÜLLER^JÖRG", "ISO_IR 192"),
    ],
)
def test_the_patients_name_is_kept_in_any_character_set(
    charset: str | list[str] | None, name: str, expected: str | None, tmp_path: Path
) -> None:
    datasets = Series(random_values(), uid="1.2.3").datasets()
    files = []
    for number, dataset in enumerate(datasets):
        if charset is not None:
            dataset.SpecificCharacterSet = charset
        dataset.PatientName = name
        files.append(save(dataset, tmp_path / "ct" / str(number)))
    headers = [header for header in map(read_header, files) if header]
    geometry = read_series(headers, tolerance_mm=0.1, min_slices=3).geometry
    blank = Volume(np.zeros(geometry.size, np.uint8), geometry)
    write_segmentation(tmp_path / "seg.dcm", blank, files, {1: "spleen"})
    dataset = pydicom.dcmread(tmp_path / "seg.dcm")
    assert str(dataset.PatientName) == name
    assert dataset.get("SpecificCharacterSet") == expected


def test_odd_values_of_a_patient_become_empty_and_are_told_to_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = {"PatientName": "MARKER", "PatientSex": "unknown", "PatientBirthDate": "MARKER", "StudyTime": "noon"}
    files = Series(random_values(), uid="1.2.3", changes=odd).write(tmp_path / "ct")
    headers = [header for header in map(read_header, files) if header]
    geometry = read_series(headers, tolerance_mm=0.1, min_slices=3).geometry
    blank = Volume(np.zeros(geometry.size, np.uint8), geometry)
    write_segmentation(tmp_path / "seg.dcm", blank, files, {1: "spleen"})
    dataset = pydicom.dcmread(tmp_path / "seg.dcm")
    assert dataset.PatientName == "MARKER"
    assert [str(dataset[name].value or "") for name in ("PatientSex", "PatientBirthDate", "StudyTime")] == ["", "", ""]
    assert "MARKER" not in caplog.text + "".join(capsys.readouterr())
