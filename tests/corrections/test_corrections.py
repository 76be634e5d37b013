"""Corrections are recognised by UIDs, compared, and become labels without moving a patient of the split."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pydicom
import pytest
import yaml

from tests.corrections.clinic import SHAPE, WORKSPACE, Clinic, edit, make_masks, shave
from tests.dicom.objects import Series, contour, random_values, refer, save, seg, structure_set
from voxflow.corrections import CorrectionTable, list_due
from voxflow.datalist import SplitOptions, split_cases
from voxflow.dicom import ConvertOptions, convert_folder
from voxflow.tables import read_rows
from voxflow.volumes import read_volume


@pytest.fixture
def clinic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clinic:
    monkeypatch.chdir(tmp_path)
    return Clinic()


def list_labels() -> list[Path]:
    return sorted(Path("data/raw").rglob("label_*.dcm"))


def convert() -> dict[str, np.ndarray[Any, Any]]:
    """The label of each case by class, as the conversion reads the source: (slices, rows, columns)."""
    convert_folder(Path("data/raw"), Path("volumes"), ConvertOptions(pseudonym_key="key", workers=1, mapping=False))
    (row,) = read_rows(Path("volumes/cases.csv")) or []
    array = read_volume(Path("volumes") / row["label"]).array.transpose(2, 1, 0)
    names = json.loads(Path("volumes/labels.json").read_text())
    return {name.casefold(): array == int(value) for value, name in names.items() if value.isdigit() and int(value)}


def test_an_edited_seg_becomes_the_label_of_its_image(clinic: Clinic) -> None:
    series = clinic.make_image(1)
    row = clinic.take(edit(clinic.find_mask(series), shave, ContentCreatorName="MARKER^NAME"))
    assert (row.state, row.link, row.role, row.version) == ("label", "refers to our image", "radiologist", "1")
    changes = {row["class"]: row for row in clinic.classes()}
    assert (changes["Liver"]["dice"], changes["Liver"]["slices"]) == ("1.0", "")
    spleen = changes["Spleen"]
    # 4 slices of 5 rows of 8 voxels (1.5 mm x 1 mm x 2 mm), of which one row went.
    assert float(spleen["dice"]) == pytest.approx(2 * 128 / (160 + 128))
    assert float(spleen["removed_ml"]) == pytest.approx(0.096)
    assert float(spleen["added_ml"]) == 0
    assert spleen["slices"] == "3-6"
    assert (float(spleen["inward_mm"]), float(spleen["outward_mm"])) == (1.5, 0)
    labels = convert()
    expected = make_masks()
    expected["Spleen"][:, 11] = False
    assert {name: np.array_equal(labels[name.casefold()], mask) for name, mask in expected.items()} == {
        "Liver": True,
        "Spleen": True,
    }
    tables = "".join(path.read_text() for path in clinic.places.corrections.glob("*.csv"))
    assert "MARKER" not in tables
    assert row.author
    assert "1939" not in tables


def test_what_nobody_changed_is_no_correction(clinic: Clinic) -> None:
    series = clinic.make_image(1)
    mask = clinic.find_mask(series)
    assert clinic.open_desk().take(mask) is None, "our own object, as we sent it"
    assert clinic.take(edit(mask)).state == "unchanged"
    touched = pydicom.dcmread(mask)
    touched.PatientComments = "a PACS adds what it likes"
    assert clinic.take(touched).state == "unchanged"
    assert not list_labels()
    assert clinic.take(edit(mask), "again.dcm").state == "unchanged"


def test_our_object_with_other_pixels_under_its_own_uids_is_a_correction(clinic: Clinic) -> None:
    mask = clinic.find_mask(clinic.make_image(1))
    changed = edit(mask, shave)
    original = pydicom.dcmread(mask)
    changed.SOPInstanceUID = changed.file_meta.MediaStorageSOPInstanceUID = original.SOPInstanceUID
    changed.SeriesInstanceUID = original.SeriesInstanceUID
    row = clinic.take(changed)
    assert (row.state, row.link) == ("label", "same object")


def test_the_latest_version_wins_and_the_history_stays(clinic: Clinic) -> None:
    mask = clinic.find_mask(clinic.make_image(1))
    first = clinic.take(edit(mask, shave, minutes=10, ContentCreatorName="A"), "1.dcm")

    def remove_liver(frames: Any, numbers: list[int]) -> None:
        for frame, number in zip(frames, numbers, strict=True):
            frame[:] = frame if number == 2 else 0

    second = clinic.take(edit(mask, remove_liver, minutes=20, ContentCreatorName="B"), "2.dcm")
    late = clinic.take(edit(mask, lambda frames, _: frames.fill(0), minutes=5), "3.dcm")
    assert (second.state, second.version, late.state) == ("label", "2", "superseded")
    assert first.author != second.author
    rows = clinic.open_desk().table.rows
    assert [row.state for row in rows] == ["superseded", "label", "superseded"]
    assert len(list_labels()) == 1
    spleen = [row for row in clinic.classes() if row["class"] == "Spleen"]
    assert float(spleen[1]["earlier_dice"]) == pytest.approx(2 * 128 / (160 + 128))
    labels = convert()
    assert not labels["liver"].any()
    assert np.array_equal(labels["spleen"], make_masks()["Spleen"])
    assert (
        clinic.take(edit(mask, remove_liver, minutes=30), "4.dcm").reason
        == "as the correction that is the label already"
    )


def test_a_clock_that_is_years_ahead_does_not_stop_later_versions(clinic: Clinic) -> None:
    mask = clinic.find_mask(clinic.make_image(1))
    assert clinic.take(edit(mask, shave, ContentDate="20991231"), "1.dcm").state == "label"
    later = clinic.take(edit(mask, lambda frames, _: frames.fill(0)), "2.dcm")
    assert (later.state, later.version) == ("label", "2")
    assert clinic.take(edit(mask, shave, minutes=2), "3.dcm").state == "superseded"


def test_a_label_whose_run_was_ended_before_the_table_is_a_label_in_the_next(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = save(edit(clinic.find_mask(clinic.make_image(1)), shave), Path("drop/sent.dcm"))
    with monkeypatch.context() as patch:
        patch.setattr(CorrectionTable, "write", lambda _: (_ for _ in ()).throw(OSError("no space left")))
        with pytest.raises(OSError, match="no space left"):
            clinic.open_desk().take(sent)
    assert len(list_labels()) == 1
    desk = clinic.open_desk()
    row = desk.take(sent)
    assert row is not None
    assert (row.state, row.version, list_due(desk.table)) == ("label", "1", [row.sop_uid])
    assert clinic.take(edit(clinic.find_mask(Series(random_values(SHAPE), uid=row.unit)), shave)).state == "unchanged"


def test_another_vendors_numbers_names_and_codes_are_matched(clinic: Clinic) -> None:
    series = clinic.make_image(1)
    masks = make_masks()
    masks["Spleen"][:, 11] = False
    other = np.zeros(SHAPE, dtype=bool)
    other[0, 0, 0] = True
    # The vendor's first segment is coded as spleen and called otherwise; the second lies where our liver does.
    stack = np.stack([masks["Spleen"], masks["Liver"], other], axis=-1)
    dataset = seg(series, stack, ["Milz", "MARKER^NAME", "Niere"])
    for segment, code in zip(dataset.SegmentSequence, ("T-C3000", "91723000", "91723000"), strict=True):
        segment.SegmentedPropertyTypeCodeSequence[0].CodeValue = code
        segment.SegmentedPropertyTypeCodeSequence[0].CodingSchemeDesignator = "SRT" if code[0] == "T" else "SCT"
    row = clinic.take(dataset)
    assert row.state == "label", row.reason
    assert row.reason == (
        "segment 1 is Spleen by its code; segment 2 is Liver by its place: it is called otherwise; "
        "segment 3 is no class of the model, and is left out"
    )
    labels = convert()
    assert sorted(labels) == ["liver", "spleen"]
    assert np.array_equal(labels["spleen"], masks["Spleen"])


@pytest.mark.parametrize("absent", ["empty", "unlabelled"])
def test_a_class_that_was_taken_out_counts_as_the_conversion_counts_it(clinic: Clinic, absent: str) -> None:
    clinic.block = clinic.block | {"convert": {"pseudonym_key": "key", "workers": 1, "absent_labels": absent}}
    clinic.write_params()
    series = clinic.make_image(1)
    only_spleen = seg(series, make_masks()["Spleen"][..., None].astype(np.uint8), ["spleen"])
    row = clinic.open_desk("empty").take(save(only_spleen, Path("only-spleen.dcm")))
    assert row is not None
    words = {"empty": "taken as empty", "unlabelled": "not labelled"}[absent]
    assert (row.state, row.reason) == ("label", f"Liver is missing in it: {words} (convert.absent_labels)")
    assert [str(s.SegmentLabel) for s in pydicom.dcmread(list_labels()[0]).SegmentSequence] == (
        ["Liver", "Spleen"] if absent == "empty" else ["Spleen"]
    )


def test_a_correction_that_lacks_a_class_of_ours_is_held(clinic: Clinic) -> None:
    clinic.write_params()
    series = clinic.make_image(1)
    row = clinic.take(seg(series, make_masks()["Spleen"][..., None].astype(np.uint8), ["spleen"]))
    reason = "Liver: in our mask, missing in it; send all classes, or set corrections.absent to empty"
    assert (row.state, row.reason) == ("held", reason)
    assert not list_labels()
    assert [row["class"] for row in clinic.classes()] == ["Spleen"], "nobody said that the liver was taken out"


def test_a_held_correction_is_taken_when_its_reason_is_gone(clinic: Clinic) -> None:
    clinic.write_params()
    series = clinic.make_image(1)
    held = clinic.take(seg(series, make_masks()["Spleen"][..., None].astype(np.uint8), ["spleen"]))
    still = clinic.open_desk()
    still.reconsider_held()
    assert (still.decisions, [row.state for row in still.table.rows]) == ([], ["held"])
    desk = clinic.open_desk(absent="empty")
    desk.reconsider_held()
    [row] = desk.table.rows
    assert (row.state, row.received, row.version, row.sop_uid) == ("label", held.received, "1", held.sop_uid)
    assert [path.parent.name for path in list_labels()] == [series.uid]
    assert sorted(row["class"] for row in clinic.classes()) == ["Liver", "Spleen"]


def test_an_empty_segment_says_that_nothing_is_there(clinic: Clinic) -> None:
    mask = clinic.find_mask(clinic.make_image(1))
    assert clinic.take(edit(mask, lambda frames, _: frames.fill(0))).state == "label"
    assert {row["class"]: row["dice"] for row in clinic.classes()} == {"Liver": "0.0", "Spleen": "0.0"}
    convert_folder(Path("data/raw"), Path("volumes"), ConvertOptions(pseudonym_key="key", workers=1, mapping=False))
    (case,) = read_rows(Path("volumes/cases.csv")) or []
    assert not read_volume(Path("volumes") / case["label"]).array.any()


def test_a_seg_on_another_grid_is_brought_onto_the_image(clinic: Clinic) -> None:
    series = clinic.make_image(1)
    masks = make_masks()
    masks["Spleen"][:, 11:13] = False
    stack = np.stack(list(masks.values()), axis=-1)[:, ::-1, ::-1]  # rows and columns turned by 180 degrees
    turned = Series(
        series.stored,
        orientation=(-1, 0, 0, 0, -1, 0),
        origin=(23.0, 28.5, 0.0),
        uid=series.uid,
        patient=series.patient,
        frame=series.frame,
        changes=series.changes,
    )
    dataset = seg(turned, np.ascontiguousarray(stack), ["Liver", "Spleen"])
    row = clinic.take(dataset)
    assert row.state == "label", row.reason
    assert np.array_equal(convert()["spleen"], masks["Spleen"])


def square(series: Series, k: int, rows: tuple[int, int], columns: tuple[int, int]) -> Any:
    """A contour around the voxels of one slice, at the middle of the voxels outside."""
    (y0, y1), (x0, x1) = ((a - 0.5, b - 0.5) for a, b in (rows, columns))
    dy, dx = series.spacing
    z = k * series.step
    points = [(x0 * dx, y0 * dy, z), (x1 * dx, y0 * dy, z), (x1 * dx, y1 * dy, z), (x0 * dx, y1 * dy, z)]
    return contour(points, series.datasets()[k])


def test_contours_are_compared_within_their_rounding(clinic: Clinic) -> None:
    series = clinic.make_image(1)

    def draw(first_row: int) -> Any:
        rois = {
            "Liver": [square(series, k, (3, 9), (3, 9)) for k in range(2, 6)],
            "Spleen": [square(series, k, (first_row, 16), (12, 20)) for k in range(2, 6)],
        }
        dataset = structure_set(rois, series.datasets(), PatientID=series.patient)
        dataset.StudyInstanceUID = series.changes["StudyInstanceUID"]
        return dataset

    for first_row in (11, 12):
        row = clinic.take(draw(first_row), f"{first_row}.dcm")
        assert (row.kind, row.state) == ("RTSTRUCT", "unchanged"), row.reason
    row = clinic.take(draw(14), "14.dcm")
    assert row.state == "label", row.reason
    assert convert()["spleen"].sum() == 4 * 2 * 8
    rejected = draw(15)
    rejected.ApprovalStatus = "REJECTED"
    assert clinic.take(rejected, "r.dcm").state == "quarantined"


def test_what_belongs_to_no_mask_of_ours_is_named_with_its_reason(clinic: Clinic) -> None:
    series = clinic.make_image(1)
    foreign = Series(random_values(SHAPE, 5), uid="1.2.840.99.77.1", patient=series.patient, frame=series.frame)
    stack = np.stack(list(make_masks().values()), axis=-1)
    row = clinic.take(seg(foreign, stack, ["Liver", "Spleen"]), "foreign.dcm")
    assert (row.state, row.reason) == (
        "quarantined",
        "neither its study nor a series that it refers to has a mask of ours here",
    )
    # Of another series of the same study, which shares the frame of reference.
    foreign.changes = series.changes
    row = clinic.take(seg(foreign, stack, ["Liver", "Spleen"]), "phase.dcm")
    assert row.reason == "it refers to a series of its study that has no mask of ours here"
    stranger = edit(clinic.find_mask(series), shave, PatientID="somebody else")
    assert "another patient" in clinic.take(stranger, "stranger.dcm").reason
    nothing = seg(series, stack[..., :1] & False, ["MARKER^NAME"])
    del nothing.SegmentSequence[0].SegmentedPropertyTypeCodeSequence
    row = clinic.take(nothing, "none.dcm")
    assert row.reason == "none of its 1 segments is a class of the model"
    (Path("drop") / "cut.dcm").write_bytes(clinic.find_mask(series).read_bytes()[:900])
    cut = clinic.open_desk().take(Path("drop/cut.dcm"))
    assert cut is not None
    assert cut.state == "quarantined"
    assert clinic.open_desk().take(Path("drop/cut.dcm")) is None
    assert not list_labels()
    assert "MARKER" not in (clinic.places.corrections / "corrections.csv").read_text()


def test_what_a_program_made_is_no_correction(clinic: Clinic) -> None:
    series = clinic.make_image(1)
    mask = clinic.find_mask(series)

    def automatic(dataset: Any, name: str) -> Any:
        for segment in dataset.SegmentSequence:
            segment.SegmentAlgorithmType, segment.SegmentAlgorithmName = "AUTOMATIC", name
        return dataset

    other = automatic(edit(mask, shave, Manufacturer="other"), "OtherNet")
    assert clinic.take(other, "1.dcm").state == "other"
    assert clinic.take(automatic(edit(mask, shave), "Voxflow"), "2.dcm").state == "other", "another run of ours"
    assert clinic.take(edit(mask, shave, minutes=-50), "3.dcm").reason == "it is older than the mask"
    assert not list_labels()
    # A viewer that leaves the type alone, but puts its user's name on it.
    named = automatic(edit(mask, shave, ContentCreatorName="A"), "Voxflow")
    assert clinic.take(named, "4.dcm").state == "label"
    # One that refers to our mask is a version of it, whatever else it says.
    derived = automatic(edit(mask, shave, minutes=9, Manufacturer="other"), "OtherNet")
    derived.ReferencedSeriesSequence[0].ReferencedInstanceSequence.append(refer(pydicom.dcmread(mask)))
    assert clinic.take(derived, "5.dcm").link == "refers to our mask"


def write_split(parts: dict[str, str], clinic: Clinic, cases: dict[str, str]) -> None:
    """Write the split of patients by pseudonym, and the series and label of each case."""
    clinic.places.datalists.mkdir(parents=True, exist_ok=True)
    lines = [f"{patient}_1,{patient},{part}" for patient, part in parts.items()]
    (clinic.places.datalists / "split.csv").write_text("\n".join(["case,patient,part", *lines, ""]))
    clinic.places.volumes.mkdir(parents=True, exist_ok=True)
    lines = [f"{patient}_1,{patient},CT,i.nii.gz,l.nii.gz,{uid}" for patient, uid in cases.items()]
    table = "\n".join(["case,patient,modality,image,label,series_uid", *lines, ""])
    (clinic.places.volumes / "cases.csv").write_text(table)


def test_no_patient_leaves_its_part(clinic: Clinic) -> None:
    images = [clinic.make_image(number) for number in (1, 2, 3)]
    patients = [clinic.take(edit(clinic.find_mask(s)), f"{n}.dcm").patient for n, s in enumerate(images)]
    write_split(
        {patients[0]: "testing", "v": "validation", patients[1]: "training"}, clinic, {patients[1]: images[1].uid}
    )
    rows = [clinic.take(edit(clinic.find_mask(s), shave), f"x{n}.dcm") for n, s in enumerate(images)]
    assert [(row.state, row.part) for row in rows] == [("held", "testing"), ("held", "training"), ("label", "")]
    assert rows[0].reason == "its patient is in the test part, whose labels stay as they are"
    assert rows[1].reason == "its case has a label of its own, which stays"
    assert [path.parent.name for path in list_labels()] == [images[2].uid]
    split = yaml.safe_load(Path("params.yaml").read_text())["workspaces"][WORKSPACE]["split"]
    assert split == {"testing": [patients[0]], "validation": ["v"]}
    assert {row["class"] for row in clinic.classes()} == {"Liver", "Spleen"}, "held ones are compared, too"


def test_new_patients_validate_where_a_share_is_written_again(clinic: Clinic) -> None:
    """The split draws the part anew, as ``dvc repro`` does, and the next correction lists what was drawn."""
    old = [f"p{number}" for number in range(8)]
    images = [clinic.make_image(number) for number in range(8)]
    clinic.block = clinic.block | {"split": {"testing": old[:1], "validation": 0.4}}
    clinic.write_params()
    corrected = [clinic.take(edit(clinic.find_mask(s)), f"{n}.dcm").patient for n, s in enumerate(images[:6])]
    table = pd.DataFrame({"case": old + corrected, "patient": old + corrected, "label": "mask.nii.gz"})
    (parts,) = split_cases(table, SplitOptions(testing=tuple(old[:1]), validation=0.4, seed=7))
    validating = sorted(patient for patient, part in parts.items() if part == "validation")
    assert set(validating) & set(corrected), "new patients validate"
    assert parts[old[0]] == "testing"
    write_split(parts, clinic, {})
    assert clinic.take(edit(clinic.find_mask(images[7]), shave), "last.dcm").state == "label"
    split = yaml.safe_load(Path("params.yaml").read_text())["workspaces"][WORKSPACE]["split"]
    assert split == {"testing": old[:1], "validation": validating}


def test_a_source_that_takes_no_dicom_is_left_as_it_is(clinic: Clinic) -> None:
    clinic.block = clinic.block | {"convert": {"pseudonym_key": "key", "layout": "nnunet"}}
    clinic.write_params()
    row = clinic.take(edit(clinic.find_mask(clinic.make_image(1)), shave))
    assert (row.state, "takes no DICOM" in row.reason) == ("held", True)
    assert not list_labels()


def test_uids_that_are_none_lead_to_no_path(clinic: Clinic) -> None:
    evil = edit(clinic.find_mask(clinic.make_image(1)), shave)
    pydicom.config.settings.writing_validation_mode = pydicom.config.IGNORE
    evil.SOPInstanceUID = "../../evil"
    evil.save_as("drop/evil.dcm", enforce_file_format=False)
    row = clinic.open_desk().take(Path("drop/evil.dcm"))
    assert row is not None
    assert row.state == "quarantined"
    assert not list(Path().rglob("*evil*.dcm"))[1:]
