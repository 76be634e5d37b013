"""Names, ids and dates stay behind; pseudonyms need a key."""

from __future__ import annotations

import csv
import gzip
import stat
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from dvc.fs import LocalFileSystem
from dvc.ignore import DvcIgnoreFilter
from pydantic import ValidationError
from pydicom._dicom_dict import DicomDictionary
from pydicom.tag import Tag
from pydicom.uid import ComprehensiveSRStorage, ComputedRadiographyImageStorage

from tests.dicom.objects import Series, new, pixels, random_values, rtstruct, save, seg
from voxflow.dicom import ConvertOptions, convert_folder
from voxflow.dicom.mapping import FOLDER_VARIABLE, choose_mapping_path
from voxflow.errors import ConfigError
from voxflow.images import KEY_VARIABLE, PseudonymBook, load_pseudonym_key, number_cases

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

MARKERS = (b"MARKER", b"19390713", b"20180317")
TEXTS = {
    **dict.fromkeys(("LO", "SH", "ST", "LT", "UT", "UC", "PN", "UR"), "MARKER"),
    **{"DA": "19390713", "DT": "20180317110000"},
}
# A label's name becomes the label's name, by design. The rest would make another kind of object.
NOT_PLANTED = {"SegmentLabel", "ROIName", "PixelDataProviderURL", "RetrieveURL", "CodeMeaning", "CodeValue"}


def mark_dataset(dataset: Dataset) -> Dataset:
    """The same object with a marker in every text and date of the dictionary, and in what it has of them within."""
    for tag, (vr, multiplicity, _, _, keyword) in DicomDictionary.items():
        is_free = vr in TEXTS and keyword and keyword not in NOT_PLANTED and not multiplicity.startswith("2")
        if is_free and Tag(tag).group >= 0x0008:
            dataset.add_new(tag, vr, TEXTS[vr])
    for element in list(dataset.iterall()):
        if element.VR in TEXTS and element.keyword not in NOT_PLANTED:
            element.value = TEXTS[element.VR]
    dataset.private_block(0x0009, "MARKER", create=True).add_new(1, "LO", "MARKER")
    return dataset


def plant(folder: Path) -> None:
    """Sound and spoilt series of several kinds, an RTSTRUCT and a SEG; names of folders and files say MARKER, too."""
    ct = Series(random_values(), uid="1.2.1")
    whole = {
        "ct": ct.datasets(),
        "few": Series(random_values()[:2], uid="1.2.3").datasets(),
        "broken": Series(random_values()[:4], uid="1.2.4", changes={"PixelData": b"12"}).datasets(),
        "pt": Series(random_values().clip(0), uid="1.2.5", changes={"Modality": "PT", "Units": "MARKER"}).datasets(),
        "mr": Series(random_values(), uid="1.2.6", frame="1.2.9", changes={"Modality": "MR"}).datasets(),
        "sr": [new(ComprehensiveSRStorage, "SR", "1.2.7")],
        "cr": [new(ComputedRadiographyImageStorage, "CR", "1.2.8")],
        "seg": [seg(ct, (random_values() > 0).astype(np.uint8), ["Organ"])],
        "rt": [rtstruct([np.array([[1.0, 1, 2], [5, 1, 2], [5, 5, 2]])], frame="1.2.9", name="Part")],
    }
    pixels(whole["cr"][0], np.arange(60, dtype=np.uint16).reshape(6, 10), 12)
    for kind, datasets in whole.items():
        for k, dataset in enumerate(datasets):
            save(mark_dataset(dataset), folder / f"MARKER^NAME/{kind}/MARKER{k}")
    (folder / "MARKER-19390713.txt").write_text("MARKER")


def traces(folder: Path) -> list[Path]:
    """The files below whose name or content, deflated or not, holds a marker."""
    paths = []
    for path in folder.rglob("*"):
        content = str(path.relative_to(folder)).encode()
        if path.is_file():
            raw = path.read_bytes()
            content += gzip.decompress(raw) if path.suffix == ".gz" else raw
        paths += [path] if any(marker in content for marker in MARKERS) else []
    return paths


@pytest.mark.parametrize("options", [{}, {"volume_format": ".nrrd", "window": (500, 900), "overlap": "channels"}])
def test_no_text_or_date_is_left_in_any_output_but_the_mapping(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "kept/mapping"))
    plant(tmp_path / "in")
    assert len(traces(tmp_path / "in")) > 30
    summary = convert_folder(
        tmp_path / "in", tmp_path / "kept/out", ConvertOptions(pseudonym_key="k", workers=1, **options)
    )
    assert (summary.cases, summary.labelled, summary.quarantined) == (4, 2, 2)
    (mapping,) = [path for path in (tmp_path / "kept/mapping").iterdir() if path.suffix == ".csv"]
    assert traces(tmp_path / "kept") == [mapping]
    printed = "".join(capfd.readouterr()) + "".join(summary.format_lines(tmp_path))
    assert not [marker for marker in MARKERS if marker.decode() in printed.replace(str(tmp_path), "")]


def test_the_mapping_leads_back_and_is_for_its_owner_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(FOLDER_VARIABLE)
    subprocess.run(["git", "init", "-q"], check=True)
    Series(random_values(), uid="1.2.1", patient="P1").write(tmp_path / "in/a")
    Series(random_values(), uid="1.2.2", patient="P2").write(tmp_path / "in/b")
    for _ in range(2):
        convert_folder(Path("in"), Path("data/volumes/ws"), ConvertOptions(pseudonym_key="k", workers=1))
    mapping = Path(".voxflow/mapping/data_volumes_ws.csv")
    assert stat.S_IMODE(mapping.stat().st_mode) == 0o600
    assert stat.S_IMODE(mapping.parent.stat().st_mode) == 0o700
    with mapping.open(encoding="utf-8") as stream, Path("data/volumes/ws/cases.csv").open(encoding="utf-8") as table:
        mapping_rows = {row["case"]: row for row in csv.DictReader(stream)}
        cases = {row["case"]: row for row in csv.DictReader(table)}
    assert mapping_rows.keys() == cases.keys()
    assert {mapping_rows[case]["series_uid"]: mapping_rows[case]["patient_id"] for case in cases} == {
        "1.2.1": "P1",
        "1.2.2": "P2",
    }
    assert all(mapping_rows[case]["patient"] == cases[case]["patient"] for case in cases)
    git_status = subprocess.run(
        ["git", "status", "--porcelain", "-uall"], check=True, capture_output=True, text=True
    ).stdout
    assert ".voxflow" not in git_status
    assert DvcIgnoreFilter(LocalFileSystem(), str(tmp_path)).is_ignored_file(str(mapping.resolve()))


def test_targets_whose_names_meet_have_two_mappings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(FOLDER_VARIABLE)
    targets = [Path(name) for name in ("a_b", "a b", "\u60a3", "\u75c5", "x" * 250)]
    mappings = {choose_mapping_path(target) for target in targets}
    assert len(mappings) == len(targets)
    assert max(len(mapping.name) for mapping in mappings) < 220


def test_no_mapping_is_written_where_params_say_so_or_into_what_is_passed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "out/mapping"))
    Series(random_values()).write(tmp_path / "in")
    with pytest.raises(ConfigError, match=r"the mapping of pseudonyms would lie in .*out, which is passed on"):
        convert_folder(tmp_path / "in", tmp_path / "out", ConvertOptions(pseudonym_key="k", workers=1))
    convert_folder(tmp_path / "in", tmp_path / "out", ConvertOptions(pseudonym_key="k", workers=1, mapping=False))
    assert not (tmp_path / "out/mapping").exists()


def test_the_key_file_is_made_once_and_is_for_its_owner_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    file = tmp_path / "hidden/pseudonym.key"
    key = load_pseudonym_key(None, file)
    assert load_pseudonym_key(None, file) == key
    assert len(key) == 64
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_an_experiment_in_a_copy_takes_the_repositorys_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)
    key = load_pseudonym_key(None)
    (tmp_path / "copy").mkdir()
    monkeypatch.chdir(tmp_path / "copy")
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setenv("DVC_EXP_NAME", "calm-copy")
    assert load_pseudonym_key(None) == key
    assert not (tmp_path / "copy/.voxflow").exists()


def test_options_come_before_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "environment")
    assert load_pseudonym_key("given") == b"given"
    assert load_pseudonym_key(None, tmp_path / "no.key") == b"environment"
    assert not (tmp_path / "no.key").exists()


def test_pseudonyms_depend_on_the_key_and_on_nothing_else() -> None:
    assert PseudonymBook(b"1").assign(["a", "b"]) == PseudonymBook(b"1").assign(["b", "a"])
    assert PseudonymBook(b"1").assign(["a"]) != PseudonymBook(b"2").assign(["a"])


def test_cases_are_numbered_within_a_patient() -> None:
    assert number_cases(["x", "y", "x"], {"x": "aa", "y": "bb"}) == ["aa_1", "bb_1", "aa_2"]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"modalities": ["CT", "XX"]}, "unknown modality XX; known: CT, MR, PT, CR, DX"),
        ({"patient_pattern": "^abc"}, "the pattern needs a group"),
        ({"patient_pattern": "("}, "not a regular expression"),
        ({"labels": {"a": 0}}, "greater than or equal to 1"),
        ({"labels": {"Liver": 1, "liver": 2}}, "'Liver' and 'liver' differ in upper and lower case alone"),
        ({"modality": "CT"}, "Extra inputs are not permitted"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, object], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        ConvertOptions.model_validate(options)
