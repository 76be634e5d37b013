"""Names, ids and dates stay behind; pseudonyms need a key."""

from __future__ import annotations

import gzip
import stat
from typing import TYPE_CHECKING

import pytest
from pydantic import ValidationError

from tests.dicom.objects import Series, stored
from voxflow.dicom import ConvertOptions, convert_folder
from voxflow.dicom.pseudonyms import KEY_VARIABLE, find_key, number_cases, pseudonyms

if TYPE_CHECKING:
    from pathlib import Path

MARKERS = (b"MARKER", b"19390713", b"20180317")


def test_no_name_id_or_date_is_left_in_any_output(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    Series(stored()).write(tmp_path / "in/MARKER^NAME")
    Series(stored()[:2], uid="1.2.3").write(tmp_path / "in/MARKER-ID")
    Series(stored()[:4], uid="1.2.4", changes={"PixelData": b"12"}).write(tmp_path / "in/MARKER")
    summary = convert_folder(tmp_path / "in", tmp_path / "out", ConvertOptions(pseudonym_key="k", workers=1))
    assert (summary.cases, summary.quarantined) == (1, 2)
    for path in (tmp_path / "out").rglob("*"):
        content = path.name.encode()
        if path.is_file():
            raw = path.read_bytes()
            content += gzip.decompress(raw) if path.suffix == ".gz" else raw
        assert not [marker for marker in MARKERS if marker in content], path
    printed = "".join(capfd.readouterr())
    assert "MARKER" not in printed


def test_the_key_file_is_made_once_and_is_for_its_owner_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    file = tmp_path / "hidden/pseudonym.key"
    key = find_key(None, file)
    assert find_key(None, file) == key
    assert len(key) == 64
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_options_come_before_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "environment")
    assert find_key("given") == b"given"
    assert find_key(None, tmp_path / "no.key") == b"environment"
    assert not (tmp_path / "no.key").exists()


def test_pseudonyms_depend_on_the_key_and_on_nothing_else() -> None:
    assert pseudonyms(["a", "b"], b"1") == pseudonyms(["b", "a"], b"1")
    assert pseudonyms(["a"], b"1") != pseudonyms(["a"], b"2")


def test_pseudonyms_grow_rather_than_join_two_patients() -> None:
    patients = [f"id {n}" for n in range(300_000)]
    names = pseudonyms(patients, b"key")
    assert len(set(names.values())) == len(patients)
    assert {len(name) for name in names.values()} == {12}


def test_cases_are_numbered_within_a_patient() -> None:
    assert number_cases(["x", "y", "x"], {"x": "aa", "y": "bb"}) == ["aa_1", "bb_1", "aa_2"]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"modalities": ["CT", "XX"]}, "unknown modality XX; known: CT, MR, PT, CR, DX"),
        ({"patient_pattern": "^abc"}, "the pattern needs a group"),
        ({"patient_pattern": "("}, "not a regular expression"),
        ({"labels": {"a": 0}}, "greater than or equal to 1"),
        ({"modality": "CT"}, "Extra inputs are not permitted"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, object], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        ConvertOptions.model_validate(options)
