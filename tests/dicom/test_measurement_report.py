"""Structured Reports read back by highdicom: volumes of the SEG's segments, coded, with what they refer to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import highdicom as hd
import numpy as np
import pydicom
import pytest

from tests.dicom.objects import Series, random_values
from tests.dicom.test_structure_set import NAMES, make_mask
from voxflow.dicom import SegmentMeasurements, write_measurement_report, write_segmentation
from voxflow.errors import DicomError

if TYPE_CHECKING:
    from pathlib import Path

HOUNSFIELD = {"HU": {"mean": 41.123456789012, "std": 9.5, "min": -3.0, "max": 120.0}}


@pytest.fixture
def written(tmp_path: Path) -> tuple[Path, Path, list[Path]]:
    """A report, its SEG of three classes of which the last is empty, and their series."""
    series = Series(random_values(), uid="1.2.3").write(tmp_path / "ct")
    mask = make_mask(series)
    write_segmentation(tmp_path / "seg.dcm", mask, series, NAMES | {3: "tumour"})
    voxel_ml = float(np.prod(mask.geometry.spacing)) / 1000
    rows = [SegmentMeasurements(name, (mask.array == n).sum() * voxel_ml, HOUNSFIELD) for n, name in NAMES.items()]
    write_measurement_report(
        tmp_path / "sr.dcm", tmp_path / "seg.dcm", series, [*rows, SegmentMeasurements("脾臓", 0.0)]
    )
    return tmp_path / "sr.dcm", tmp_path / "seg.dcm", series


def test_volumes_are_those_of_the_segs_segments(written: tuple[Path, Path, list[Path]]) -> None:
    report, segmentation, series = written
    groups = hd.sr.srread(report).content.get_volumetric_roi_measurement_groups()
    seg = hd.seg.segread(segmentation)
    uids = [pydicom.dcmread(path).SOPInstanceUID for path in series]
    pixels = seg.get_pixels_by_source_instance(uids, assert_missing_frames_are_empty=True)
    voxel_ml = 1.5 * 1.0 * 2.0 / 1000
    for number, group in enumerate(groups):
        (volume,) = [m for m in group.get_measurements() if m.name.value == "118565006"]
        assert (volume.unit.scheme_designator, volume.unit.value) == ("UCUM", "ml")
        assert volume.value == pytest.approx(float(pixels[..., number].sum()) * voxel_ml, rel=1e-9)
    assert [group.tracking_identifier for group in groups] == ["spleen", "left kidney", "脾臓"]
    assert groups[0].finding_type.value == "78961009"


def test_intensities_have_their_quantity_and_unit(written: tuple[Path, Path, list[Path]]) -> None:
    first, _, empty = hd.sr.srread(written[0]).content.get_volumetric_roi_measurement_groups()
    values = {m.derivation.meaning: m for m in first.get_measurements() if m.derivation is not None}
    assert values["Mean"].value == pytest.approx(41.123456789012, rel=1e-9)
    assert values["Maximum"].value == 120
    assert {m.unit.value for m in values.values()} == {"[hnsf'U]"}
    assert {m.name.meaning for m in values.values()} == {"Attenuation Coefficient"}
    assert len(empty.get_measurements()) == 1


def test_suv_is_named_as_such(tmp_path: Path) -> None:
    series = Series(random_values(), uid="1.2.3").write(tmp_path / "ct")
    write_segmentation(tmp_path / "seg.dcm", make_mask(series), series, NAMES)
    values = {"SUVbw g/ml": {"mean": 4.5, "max": 12.25}, "furlongs": {"mean": 1.0}}
    rows = [SegmentMeasurements(name, 1.0, values) for name in NAMES.values()]
    write_measurement_report(tmp_path / "sr.dcm", tmp_path / "seg.dcm", series, rows)
    group = hd.sr.srread(tmp_path / "sr.dcm").content.get_volumetric_roi_measurement_groups()[0]
    suv = [(m.name.value, m.unit.value, m.derivation.meaning, m.value) for m in group.get_measurements()[1:]]
    assert suv == [("126401", "g/ml{SUVbw}", "Mean", 4.5), ("126401", "g/ml{SUVbw}", "Maximum", 12.25)]


def test_it_refers_to_the_seg_by_segment_and_to_its_images(written: tuple[Path, Path, list[Path]]) -> None:
    report, segmentation, series = written
    dataset, seg = hd.sr.srread(report), pydicom.dcmread(segmentation)
    for number, group in enumerate(dataset.content.get_volumetric_roi_measurement_groups(), start=1):
        (item,) = [i for i in group[0].ContentSequence if i.ValueType == "IMAGE"]
        reference = item.ReferencedSOPSequence[0]
        assert reference.ReferencedSOPInstanceUID == seg.SOPInstanceUID
        assert reference.ReferencedSegmentNumber == number
        uids = [i.UID for i in group[0].ContentSequence if i.ValueType == "UIDREF"]
        assert "1.2.3" in uids
    evidence = {
        item.ReferencedSOPInstanceUID
        for study in dataset.CurrentRequestedProcedureEvidenceSequence
        for part in study.ReferencedSeriesSequence
        for item in part.ReferencedSOPSequence
    }
    assert evidence == {pydicom.dcmread(path).SOPInstanceUID for path in series} | {seg.SOPInstanceUID}
    assert dataset.PatientID == "MARKER-ID"
    assert "Voxflow" in str(dataset)


def test_the_same_seg_gives_the_same_bytes(written: tuple[Path, Path, list[Path]], tmp_path: Path) -> None:
    _, segmentation, series = written
    rows = [SegmentMeasurements(name, 1.0) for name in ("a", "b", "c")]
    for name in ("a", "b"):
        write_measurement_report(tmp_path / name, segmentation, series, rows)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    write_measurement_report(tmp_path / "d", segmentation, series, rows, description="AI result")
    plain, described = (pydicom.dcmread(tmp_path / name) for name in ("a", "d"))
    assert described.SeriesDescription == f"{plain.SeriesDescription}: AI result"
    assert described.SOPInstanceUID != plain.SOPInstanceUID
    with pytest.raises(DicomError, match="2 classes were measured, the SEG has 3"):
        write_measurement_report(tmp_path / "c", segmentation, series, rows[:2])
