"""Several series of a study become one case: images, label, tables, and a reason where there is none."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import SimpleITK as sitk
from pydicom.uid import MRImageStorage, PositronEmissionTomographyImageStorage, generate_uid

from tests.case_losing_executor import CaseLosingExecutor
from tests.dicom.objects import Series, contour, random_values, save, seg, structure_set
from tests.tables import read_table
from voxflow.dicom import ConvertOptions, convert_folder, find_sources, list_origins
from voxflow.errors import DataError
from voxflow.files import read_text
from voxflow.synthetic import write_brain_mr
from voxflow.texts import parse_json

if TYPE_CHECKING:
    from pathlib import Path

BRAIN = {
    "T1": {"modality": "MR", "description": "t1", "contrast": False},
    "T1c": {"modality": "MR", "description": "t1", "contrast": True},
    "T2": {"modality": "MR", "description": "t2", "not": "flair"},
    "FLAIR": {"modality": "MR", "description": "flair"},
}
PET_CT = {"CT": {"modality": "CT"}, "PET": {"modality": "PT"}}


def options(rules: Any, **more: Any) -> ConvertOptions:
    values = {"channels": rules, "workers": 1, "mapping": False, "pseudonym_key": "key"} | more
    return ConvertOptions.model_validate(values)


def convert(source: Path, rules: Any, **more: Any) -> tuple[list[dict[str, str]], list[dict[str, str]], Path]:
    """Rows of cases.csv and of conversion.csv, and the folder."""
    target = source.parent / "out"
    convert_folder(source, target, options(rules, **more))
    return read_table(target / "cases.csv"), read_table(target / "conversion.csv"), target


def make_study(folder: Path, number: int = 1, pet_frame: str = "", **changes: Any) -> dict[str, Series]:
    """A CT and a PET of one patient, on grids of their own."""
    frame, study = str(generate_uid()), generate_uid()
    common = {"StudyInstanceUID": study} | changes
    ct = Series(
        random_values((6, 9, 7), number), patient=f"P{number}", frame=frame, changes=common | {"SeriesNumber": 2}
    )
    pt = Series(
        np.abs(random_values((4, 5, 6), number)),
        patient=f"P{number}",
        frame=pet_frame or frame,
        spacing=(3.0, 3.0),
        step=4.0,
        changes=common
        | {
            "SeriesNumber": 3,
            "Modality": "PT",
            "SOPClassUID": PositronEmissionTomographyImageStorage,
            "Units": "BQML",
            "RescaleIntercept": 0,
        },
    )
    for name, series in {"CT": ct, "PET": pt}.items():
        series.write(folder / f"p{number}" / name)
    return {"CT": ct, "PET": pt}


@pytest.fixture(scope="module")
def brain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("brain") / "in"
    write_brain_mr(folder, 6, 3)
    return folder


def read_series(folder: Path, uid: str) -> sitk.Image:
    """SimpleITK's reading of one series of a folder whose files lie in disorder."""
    reader = sitk.ImageFileReader()
    positions = {}
    for path in folder.rglob("I*"):
        reader.SetFileName(str(path))
        reader.SetImageIO("GDCMImageIO")
        reader.ReadImageInformation()
        if reader.GetMetaData("0020|000e").strip(" \0") == uid:
            positions[float(reader.GetMetaData("0020|0032").split("\\")[2])] = str(path)
    return sitk.ReadImage([positions[z] for z in sorted(positions)])


def test_a_study_of_four_contrasts_is_one_case(brain: Path) -> None:
    cases, rows, target = convert(brain, BRAIN, overlap="regions")
    assert len(cases) == 6
    assert parse_json(read_text(target / "case_form.json"))["channels"] == list(BRAIN)
    for row in cases:
        names = row["image"].split(";")
        assert names == [f"images/{row['case']}_{n:04d}.nii.gz" for n in range(4)]
        assert len(set(row["series_uid"].split(";"))) == 4
        assert row["volume"] == "1;1;1;1"
        assert row["modality"] == "MR"
    labelled = [row for row in cases if row["label"]]
    assert len(labelled) == 4
    for name, uid in zip(labelled[0]["image"].split(";"), labelled[0]["series_uid"].split(";"), strict=True):
        ours, reference = sitk.ReadImage(str(target / name)), read_series(brain, uid)
        np.testing.assert_array_equal(sitk.GetArrayFromImage(ours), sitk.GetArrayFromImage(reference))
        np.testing.assert_allclose(ours.GetOrigin(), reference.GetOrigin(), atol=1e-4)
        np.testing.assert_allclose(ours.GetSpacing(), reference.GetSpacing(), atol=1e-5)
    lacking = [row for row in rows if row["verdict"] == "quarantined"]
    assert {row["reason"] for row in lacking} == {
        "no case: lacks the channel FLAIR of T1, T1c, T2, FLAIR: no series fits its rule"
    }
    assert len(lacking) == 3
    assert sum(int(row["files"]) for row in rows) == sum(path.is_file() for path in brain.rglob("*"))


def test_the_series_of_each_channel_are_found_again(brain: Path) -> None:
    cases, rows, _ = convert(brain, BRAIN)
    origins = [origin for row in cases for origin in list_origins(row)]
    assert len(origins) == 24
    sources = find_sources(brain, origins, options(BRAIN))
    assert len(sources) == 24
    sizes = [
        int(row["files"]) for row in rows if row["verdict"] == "converted" and row["case"] and row["modality"] == "MR"
    ]
    assert sorted(len(files.files) for files in sources.values()) == sorted(sizes)


def test_channels_keep_their_own_grids_and_the_label_lies_on_that_of_its_series(tmp_path: Path) -> None:
    study = make_study(tmp_path / "in")
    masks = np.zeros((4, 5, 6, 1), np.uint8)
    masks[1:3, 2:4, 1:4] = 1
    save(seg(study["PET"], masks, ["tumour"]), tmp_path / "in/p1/seg.dcm")
    (case,), rows, target = convert(tmp_path / "in", PET_CT)
    ct, pet = (sitk.ReadImage(str(target / name)) for name in case["image"].split(";"))
    label = sitk.ReadImage(str(target / case["label"]))
    assert ct.GetSize() == (7, 9, 6)
    assert pet.GetSize() == label.GetSize() == (6, 5, 4)
    assert pet.GetSpacing() == label.GetSpacing()
    np.testing.assert_array_equal(sitk.GetArrayFromImage(label), masks[..., 0])
    np.testing.assert_array_equal(sitk.GetArrayFromImage(ct), study["CT"].stored - 100)
    assert case["modality"] == "CT;PT"
    assert case["units"].split(";")[0] == "HU"
    assert {row["case"] for row in rows} == {case["case"]}


@pytest.mark.parametrize("labels_on", [None, "PET", "CT"])
def test_labels_on_several_channels_are_the_user_s_to_choose(tmp_path: Path, labels_on: str | None) -> None:
    study = make_study(tmp_path / "in")
    for name, shape in {"CT": (6, 9, 7, 1), "PET": (4, 5, 6, 1)}.items():
        save(seg(study[name], np.ones(shape, np.uint8), ["tumour"]), tmp_path / f"in/p1/{name}.dcm")
    (case,), rows, target = convert(tmp_path / "in", PET_CT, labels_on=labels_on)
    segs = [row for row in rows if row["modality"] == "SEG"]
    assert len(segs) == 2
    if labels_on is None:
        assert case["label"] == ""
        assert all(row["verdict"] == "quarantined" and "`labels_on` names" in row["reason"] for row in segs)
    else:
        assert sorted(row["verdict"] for row in segs) == ["converted", "skipped"]
        image = case["image"].split(";")[list(PET_CT).index(labels_on)]
        label = sitk.ReadImage(str(target / case["label"]))
        assert label.GetSize() == sitk.ReadImage(str(target / image)).GetSize()


def test_labels_on_channels_of_one_grid_are_merged(tmp_path: Path) -> None:
    study, frame = generate_uid(), str(generate_uid())
    rules = {"T1": {"description": "t1"}, "T2": {"description": "t2"}}
    for n, name in enumerate(rules):
        changes = {"SeriesDescription": name, "Modality": "MR", "SOPClassUID": MRImageStorage}
        series = Series(random_values(seed=n), frame=frame, changes=changes | {"StudyInstanceUID": study})
        series.write(tmp_path / "in" / name)
        masks = np.zeros((6, 9, 7, 1), np.uint8)
        masks[n] = 1
        save(seg(series, masks, [f"organ{n}"]), tmp_path / f"in/{name}.dcm")
    (case,), _, target = convert(tmp_path / "in", rules)
    label = sitk.GetArrayFromImage(sitk.ReadImage(str(target / case["label"])))
    np.testing.assert_array_equal(label[:3, 0, 0], [1, 2, 0])


@pytest.mark.parametrize("labels_on", [None, "PET"])
def test_contours_that_name_no_image_go_to_the_channel_that_the_user_names(
    tmp_path: Path, labels_on: str | None
) -> None:
    study = make_study(tmp_path / "in")
    square = [[2, 2, 4], [8, 2, 4], [8, 8, 4], [2, 8, 4]]
    rtstruct = structure_set({"GTV": [contour(square)]}, frames=[study["PET"].frame])
    rtstruct.PatientID = "P1"
    save(rtstruct, tmp_path / "in/p1/rs.dcm")
    (case,), rows, target = convert(tmp_path / "in", PET_CT, labels_on=labels_on)
    (row,) = [row for row in rows if row["modality"] == "RTSTRUCT"]
    if labels_on:
        assert sitk.ReadImage(str(target / case["label"])).GetSize() == (6, 5, 4)
        assert row["verdict"] == "converted"
    else:
        assert row["verdict"] == "quarantined"
        assert "2 image series share its frame of reference" in row["reason"]
        assert "`labels_on`" in row["reason"]


def test_one_bad_study_never_stops_the_others(tmp_path: Path) -> None:
    source = tmp_path / "in"
    make_study(source, 1)
    other_frame = make_study(source, 2, pet_frame=str(generate_uid()))
    damaged = make_study(source, 3)
    path = sorted((source / "p3/PET").iterdir())[1]
    path.write_bytes(path.read_bytes()[:-20])
    twice = make_study(source, 4)
    again = Series(random_values(), patient="P4", frame=twice["CT"].frame, changes=dict(twice["CT"].changes))
    again.changes["SeriesNumber"] = 9
    again.write(source / "p4/again")
    cases, rows, target = convert(source, PET_CT)
    assert len(cases) == 1
    assert len(list((target / "images").iterdir())) == 2
    reasons = {row["series_uid"]: (row["verdict"], row["reason"]) for row in rows}
    assert "PET and CT have different frames" in reasons[other_frame["CT"].uid][1]
    assert "whose series is quarantined" in reasons[damaged["CT"].uid][1]
    assert reasons[damaged["PET"].uid][0] == "quarantined"
    assert "2 series fit the channel CT (series 2, series 9)" in reasons[again.uid][1]
    assert reasons[twice["PET"].uid][0] == "quarantined"
    accepted, _, _ = convert(source, PET_CT, frame_of_reference="any")
    assert len(accepted) == 2


def test_descriptions_reach_no_output(tmp_path: Path) -> None:
    source = tmp_path / "in"
    make_study(source, 1)
    make_study(source, 2, SeriesDescription="MARKER", ProtocolName="MARKER", pet_frame="1.2.3")
    _, _, target = convert(source, PET_CT)
    texts = [path.read_text("utf-8") for path in target.iterdir() if path.is_file()]
    assert not any("MARKER" in text for text in texts)


def test_studies_of_a_patient_are_joined_where_the_user_says_so(tmp_path: Path) -> None:
    frame = str(generate_uid())
    for name, modality in (("CT", "CT"), ("PET", "PT")):
        changes = {"StudyInstanceUID": generate_uid(), "Modality": modality, "Units": "BQML", "RescaleIntercept": 0}
        Series(np.abs(random_values()), frame=frame, changes=changes).write(tmp_path / "in" / name)
    with pytest.raises(DataError, match="lacks the channel"):
        convert(tmp_path / "in", PET_CT)
    (case,), _, _ = convert(tmp_path / "in", PET_CT, channels_of="patient")
    assert len(case["study_uid"].split(";")) == 2


def test_one_rule_chooses_a_series(brain: Path) -> None:
    cases, rows, target = convert(brain, {"FLAIR": {"description": "flair"}})
    assert len(cases) == 6
    assert not any(";" in row["image"] for row in cases)
    rule = {"channels": {"FLAIR": {"description": ["flair"]}}}
    assert parse_json(read_text(target / "case_form.json")) == {"convert": rule}
    assert sum(row["reason"] == "fits the rule of no channel" for row in rows) == 18


def test_single_image_files_are_no_cases_of_several_channels(tmp_path: Path) -> None:
    make_study(tmp_path / "in")
    sitk.WriteImage(sitk.GetImageFromArray(random_values()), str(tmp_path / "in/scan.nii.gz"))
    cases, rows, _ = convert(tmp_path / "in", PET_CT)
    assert len(cases) == 1
    assert [row["verdict"] for row in rows if "one image, where a case has CT, PET" in row["reason"]] == ["quarantined"]


def test_a_label_file_of_a_study_takes_the_channel_whose_grid_it_has(tmp_path: Path) -> None:
    make_study(tmp_path / "in")
    (tmp_path / "in/labels").mkdir()
    mask = np.zeros((4, 5, 6), np.uint8)
    mask[1, 2, 3] = 1
    image = sitk.GetImageFromArray(mask)
    image.SetSpacing((3.0, 3.0, 4.0))
    sitk.WriteImage(image, str(tmp_path / "in/labels/p1.nii.gz"))
    (case,), _, target = convert(tmp_path / "in", PET_CT)
    label = sitk.ReadImage(str(target / case["label"]))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(label), mask)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"modalities": ["CT"]}, "the channel PET is of PT, which is not among"),
        ({"labels_on": "PT"}, "did you mean 'PET'"),
    ],
)
def test_options_that_contradict_each_other(values: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        options(PET_CT, **values)


def write_table(source: Path, *lines: str) -> None:
    (source / "cases.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_a_table_names_the_series_of_each_case(tmp_path: Path) -> None:
    source = tmp_path / "in"
    first, second, third = (make_study(source, n) for n in (1, 2, 3))
    masks = np.ones((6, 9, 7, 1), np.uint8)
    for name in ("a", "b"):
        save(seg(first["CT"], masks, [name]), source / f"p1/{name}.dcm")
    write_table(
        source,
        "case,PET,CT,label",
        f"one,{first['PET'].uid},p1/CT,p1/a.dcm",
        f"two,p2\\PET,{second['CT'].uid}#1,",
        "three,p3/PET,,",
        f"four,{third['CT'].uid},p9/CT,",
        "five,../out,p3,nothing",
    )
    cases, rows, target = convert(source, None, cases="cases.csv", keep_names=True)
    assert [(row["case"], row["modality"], bool(row["label"])) for row in cases] == [
        ("one", "PT;CT", True),
        ("two", "PT;CT", False),
    ]
    assert parse_json(read_text(target / "case_form.json"))["channels"] == ["PET", "CT"]
    ct = sitk.GetArrayFromImage(sitk.ReadImage(str(target / "images/one_0001.nii.gz")))
    np.testing.assert_array_equal(ct, first["CT"].stored - 100)
    assert parse_json(read_text(target / "labels.json")) == {"0": "background", "1": "a"}
    reasons = [row["reason"] for row in rows if row["modality"] == "table"]
    assert len(reasons) == 3
    assert reasons[0].startswith("line 4: channel CT: its cell is empty")
    assert "names no CT, MR or PET series here" in reasons[1]
    assert "leads out of the source" in reasons[2]
    assert "names 2 volumes" in reasons[2]
    assert "no SEG or RTSTRUCT" in reasons[2]
    assert any("names another label for its case" in row["reason"] for row in rows)
    assert not any("no image (.csv)" in row["reason"] for row in rows)
    assert {row["verdict"] for row in rows if row["series_uid"] == third["PET"].uid} == {"quarantined"}


@pytest.mark.parametrize("overlap", ["last", "channels", "regions"])
def test_a_table_says_which_classes_were_labelled(tmp_path: Path, overlap: str) -> None:
    source = tmp_path / "in"
    lines = ["case,CT,PET,label,labelled"]
    texts = ["Liver", "", "kidney", "spine", "kidney; liver"]
    for n, text in enumerate(texts, start=1):
        study = make_study(source, n)
        masks = np.zeros((6, 9, 7, 2), np.uint8)
        masks[1:3, 2:4, 2:4, 0] = 1
        save(seg(study["CT"], masks, ["liver", "kidney"]), source / f"p{n}/label.dcm")
        lines.append(f"case{n},p{n}/CT,p{n}/PET,p{n}/label.dcm,{text}")
    lines.append("case6,p1/CT,p1/PET,,liver")
    write_table(source, *lines)
    cases, rows, target = convert(source, None, cases="cases.csv", keep_names=True, overlap=overlap)
    # The sixth shares its series with the first.
    assert {row["case"]: row.get("labelled", "") for row in cases} == {"case2": "", "case5": ""}
    write_table(source, *lines[:-1])
    shutil.rmtree(target)
    cases, rows, target = convert(source, None, cases="cases.csv", keep_names=True, overlap=overlap)
    assert {row["case"]: row["labelled"] for row in cases} == {"case1": "liver", "case2": "", "case5": ""}
    reasons = "\n".join(row["reason"] for row in rows if row["verdict"] == "quarantined")
    assert "its label holds liver, which `labelled` in the table does not name" in reasons
    assert "labelled names spine; the classes are kidney, liver" in reasons
    assert len(list((target / "images").iterdir())) == 6


def test_classes_that_were_labelled_need_the_label_that_they_are_about(tmp_path: Path) -> None:
    source = tmp_path / "in"
    make_study(source, 1)
    write_table(source, "case,CT,PET,labelled", "case1,p1/CT,p1/PET,liver")
    with pytest.raises(DataError, match=r"cases\.csv: the column 'labelled' needs the column 'label'"):
        convert(source, None, cases="cases.csv")


def test_rows_without_a_name_of_their_own_make_no_case_and_the_others_do(tmp_path: Path) -> None:
    source = tmp_path / "in"
    for n in (1, 2, 3, 4):
        make_study(source, n)
    lines = ["a,p1/CT,p1/PET", "b,p2/CT,p2/PET", "b,p3/CT,p3/PET", ",p4/CT,p4/PET"]
    write_table(source, "case,CT,PET", *lines)
    cases, rows, _ = convert(source, None, cases="cases.csv", keep_names=True)
    assert [row["case"] for row in cases] == ["a"]
    assert [row["reason"] for row in rows if row["modality"] == "table"] == [
        "line 3: 2 rows have the case 'b'; each needs a name of its own",
        "line 4: 2 rows have the case 'b'; each needs a name of its own",
        "line 5: its cell of 'case' is empty",
    ]


def test_a_table_joins_no_two_patients_and_uses_no_series_twice(tmp_path: Path) -> None:
    source = tmp_path / "in"
    for n in (1, 2, 3, 4):
        make_study(source, n)
    write_table(source, "case,CT,PET", "a,p1/CT,p2/PET", "b,p3/CT,p3/PET", "c,p3/CT,p1/PET", "d,p4/CT,p4/PET")
    cases, rows, _ = convert(source, None, cases="cases.csv")
    assert len(cases) == 1
    reasons = {row["reason"].split(":")[0]: row["reason"] for row in rows if row["modality"] == "table"}
    assert "of different patients" in reasons["line 2"]
    assert "several cells" in reasons["line 3"]
    assert "several cells" in reasons["line 4"]


@pytest.mark.parametrize(
    ("lines", "rules", "message"),
    [
        (["name,CT", "a,p1"], None, "expected a column 'case'"),
        (["case", "a"], None, "no column for the channel"),
        (["case,CT,PTE", "a,x,y"], PET_CT, "no column for the channel 'PET'; did you mean 'PTE'"),
        (["case,CT,PET,X", "a,x,y,z"], PET_CT, "'X' is none of `channels`"),
        (["case,CT,ct", "a,x,y"], None, "differ in upper and lower case alone"),
        (["case,CT,P/T", "a,x,y"], None, "none of ; /"),
    ],
)
def test_a_table_that_can_t_be_followed_is_refused(tmp_path: Path, lines: list[str], rules: Any, message: str) -> None:
    make_study(tmp_path / "in")
    write_table(tmp_path / "in", *lines)
    with pytest.raises(DataError, match=message):
        convert(tmp_path / "in", rules, cases="cases.csv")


def write_contrasts(folder: Path, **changes: Any) -> list[Series]:
    """A T1 and a T2 of one study; a change may be a pair, of which each gets one."""
    contrasts = []
    common = {"Modality": "MR", "SOPClassUID": MRImageStorage, "StudyInstanceUID": generate_uid()}
    for n, name in enumerate(CONTRASTS):
        own = {key: value[n] if isinstance(value, tuple) else value for key, value in changes.items()}
        fields = {key: own.pop(key) for key in ("frame", "patient", "uid") if key in own}
        series = Series(random_values(seed=n), **fields, changes=common | {"SeriesDescription": name} | own)
        for k, dataset in enumerate(series.datasets()):
            dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
            save(dataset, folder / name / f"{k}.dcm")
        contrasts.append(series)
    return contrasts


CONTRASTS = {"T1": {"description": "t1"}, "T2": {"description": "t2"}}


@pytest.mark.parametrize(
    ("changes", "count"),
    [
        ({"patient": "", "frame": "1.2.3"}, 1),
        ({"patient": "", "frame": "1.2.3", "StudyInstanceUID": ""}, 1),
        # Nothing at all says that these are of one patient.
        ({"patient": "", "frame": "", "StudyInstanceUID": ""}, 0),
        ({"patient": ("A", "B")}, 0),
        ({"uid": "1.2.3.4", "SeriesNumber": (1, 2)}, 1),
        ({"SpecificCharacterSet": "ISO_IR 100", "SeriesDescription": ("Schädel T1", "Schädel T2")}, 1),
        ({"SeriesDescription": "", "ProtocolName": ("T1 brain", "T2 brain")}, 1),
    ],
)
def test_series_without_ids_are_joined_only_where_something_says_so(
    tmp_path: Path, changes: dict[str, Any], count: int
) -> None:
    write_contrasts(tmp_path / "in", **changes)
    if count:
        (case,), _, target = convert(tmp_path / "in", CONTRASTS)
        for n, name in enumerate(case["image"].split(";")):
            values = sitk.GetArrayFromImage(sitk.ReadImage(str(target / name)))
            np.testing.assert_array_equal(values, random_values(seed=n) - 100)
    else:
        with pytest.raises(DataError, match="lacks the channel"):
            convert(tmp_path / "in", CONTRASTS)


def test_two_echoes_of_one_series_are_two_channels(tmp_path: Path) -> None:
    rules = {
        "PD": {"sequence": {"echo_time_ms": [None, 30]}},
        "T2": {"sequence": {"echo_time_ms": [60, None]}},
    }
    write_contrasts(tmp_path / "in", uid="1.2.3.4", EchoTime=(11, 90))
    (case,), _, _ = convert(tmp_path / "in", rules)
    assert case["volume"] == "1;2"
    assert len(find_sources(tmp_path / "in", list_origins(case), options(rules))) == 2


def test_a_case_whose_worker_dies_leaves_no_file(tmp_path: Path) -> None:
    write_contrasts(tmp_path / "in/a", patient="A", frame="1.2.3")
    write_contrasts(tmp_path / "in/b", patient="B", frame="1.2.4")
    target = tmp_path / "out"

    class DyingExecutor(CaseLosingExecutor):
        """Whose workers die when the images of the case are written."""

        def run(self, work: Any, items: Any, lost: Any, *, into: Path) -> Any:
            for item in items[:1]:
                work(item)
            return super().run(work, items, lost, into=into)

    convert_folder(tmp_path / "in", target, options(CONTRASTS), DyingExecutor(0))
    assert len(read_table(target / "cases.csv")) == 1
    assert len(list((target / "images").iterdir())) == 2
    assert sum(row["verdict"] == "quarantined" for row in read_table(target / "conversion.csv")) == 2
