"""A patient keeps a pseudonym, whoever comes later; no two patients have one."""

from __future__ import annotations

import csv
import hashlib
import hmac
import os
import random
import signal
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import pandas as pd
import pytest

from tests.dicom.objects import Series, random_values, save
from tests.tables import read_table
from voxflow.datalist import SplitOptions, split_cases
from voxflow.dicom import ConvertOptions, convert_folder
from voxflow.dicom.mapping import BOOK, FOLDER_VARIABLE, HEADER, keep_pseudonyms, read_pseudonyms
from voxflow.images import PseudonymBook

if TYPE_CHECKING:
    from pathlib import Path

KEY = b"key"
# The first pair of "id 0", "id 1" ... whose digests with this key begin with the same 8 digits.
MEETING = ("id 25822", "id 185613")


@pytest.fixture
def mapping(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "mapping"))
    return tmp_path / "mapping/data_volumes_ws.csv"


def digest(patient: str, key: bytes = KEY) -> str:
    return hmac.new(key, patient.encode(), hashlib.sha256).hexdigest()


def write_old_mapping(path: Path, lines: list[tuple[str, str, str]]) -> None:
    """As version 0.1 wrote it: pseudonym, PatientID and study of each line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(HEADER)
        writer.writerows(
            (f"{name}_1", name, patient, study, "", "", "", 1, "converted") for name, patient, study in lines
        )


def convert_patients(source: Path, target: Path, patients: list[str], **options: object) -> dict[str, str]:
    """Convert a folder that holds these patients' series; return the pseudonyms by series."""
    for number, patient in enumerate(patients):
        series = Series(random_values()[:5], uid=f"1.2.{patient}", changes={"PatientID": patient})
        for k, dataset in enumerate(series.datasets()):
            save(dataset, source / f"{number}/{k}.dcm")
    convert_folder(source, target, ConvertOptions.model_validate({"pseudonym_key": "key", "workers": 1, **options}))
    return {row["series_uid"].split(".")[2]: row["patient"] for row in read_table(target / "cases.csv")}


def test_of_60000_patients_none_is_renamed_by_those_who_come_later() -> None:
    patients = [f"id {n}" for n in range(60_000)]
    first = PseudonymBook(KEY).assign(patients[:43_949])
    every = PseudonymBook(KEY).assign(patients)
    assert {patient: every[patient] for patient in first} == first
    assert len(set(every.values())) == len(patients)
    assert {len(name) for name in every.values()} == {16}
    assert every["id 7"] == digest("id 7")[:16]


def test_two_that_share_the_beginning_of_their_digests_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PseudonymBook, "digest_patient", lambda _, patient: ("a" * 22 + digest(patient))[:64])
    patients = ["ann", "bob", "cem"]
    book = PseudonymBook(KEY)
    first = book.assign(["ann"])
    assert first == {"ann": "a" * 16}
    names = book.assign(patients)
    assert names["ann"] == first["ann"]
    assert len(set(names.values())) == 3
    # Together, none has an older right; the order does not matter.
    orders = [random.Random(n).sample(patients, 3) for n in range(6)]
    assert len({tuple(sorted(PseudonymBook(KEY).assign(order).items())) for order in orders}) == 1


def test_the_file_keeps_who_has_which_pseudonym(mapping: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PseudonymBook, "digest_patient", lambda _, patient: ("a" * 22 + digest(patient))[:64])
    book = read_pseudonyms(KEY, mapping)
    first = book.assign(["ann", "bob"])
    keep_pseudonyms(book)
    path = mapping.parent / BOOK
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert (mapping.parent / ".gitignore").read_text() == "*\n"
    # "bob" is not in the next conversion, and "cem" would have the name of one of them.
    later = read_pseudonyms(KEY, mapping)
    names = later.assign(["cem", "ann"])
    assert names["ann"] == first["ann"]
    assert names["cem"] not in first.values()
    keep_pseudonyms(later)
    assert read_pseudonyms(KEY, mapping).assign(["bob", "cem", "ann"]) == {**names, "bob": first["bob"]}
    before = path.read_bytes()
    keep_pseudonyms(read_pseudonyms(KEY, mapping))
    assert path.read_bytes() == before


def test_half_a_line_of_a_killed_process_harms_no_other(mapping: Path) -> None:
    book = read_pseudonyms(KEY, mapping)
    book.names[digest("ann")] = digest("ann")[:8]
    keep_pseudonyms(book)
    path = mapping.parent / BOOK
    with path.open("ab") as stream:
        stream.write(digest("bob").encode()[:40])
    later = read_pseudonyms(KEY, mapping)
    names = later.assign(["ann", "bob"])
    keep_pseudonyms(later)
    assert names == {"ann": digest("ann")[:8], "bob": digest("bob")[:16]}
    assert read_pseudonyms(KEY, mapping).names == {digest("ann"): names["ann"], digest("bob"): names["bob"]}


def test_lines_that_can_not_be_true_are_passed_over(mapping: Path) -> None:
    mapping.parent.mkdir(parents=True)
    lines = [f"{digest('ann')} 0123456789abcdef", "nonsense", f"{digest('bob')} {digest('bob')[:16]}", "\x00\xff"]
    (mapping.parent / BOOK).write_bytes("\n".join(lines).encode())
    assert read_pseudonyms(KEY, mapping).names == {digest("bob"): digest("bob")[:16]}


def test_pseudonyms_of_an_earlier_version_stay(mapping: Path) -> None:
    one, other = MEETING
    assert digest(one)[:8] == digest(other)[:8]
    old = digest(one)[:8], digest("study 1.2.3")[:8], digest("file scan")[:8]
    write_old_mapping(mapping, [(old[0], one.removeprefix("id "), "9"), (old[1], "", "1.2.3"), (old[2], "", "")])
    book = read_pseudonyms(KEY, mapping)
    names = book.assign([one, other, "study 1.2.3", "file scan", "id new"])
    assert (names[one], names["study 1.2.3"], names["file scan"]) == old
    assert names[other] == digest(other)[:16]
    assert names["id new"] == digest("id new")[:16]
    keep_pseudonyms(book)
    mapping.unlink()
    assert read_pseudonyms(KEY, mapping).assign(names) == names


def test_a_mapping_of_another_key_tells_nothing(mapping: Path) -> None:
    write_old_mapping(mapping, [(digest("id 1", b"other key")[:8], "1", "9")])
    assert read_pseudonyms(KEY, mapping) == PseudonymBook(KEY)


def test_a_damaged_mapping_is_named_and_stops_nothing(mapping: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mapping.parent.mkdir(parents=True)
    mapping.write_text(",".join(HEADER) + "\n" + "x" * 200_000 + "\n")
    assert read_pseudonyms(KEY, mapping) == PseudonymBook(KEY)
    assert "can't be read, so patients of it may get other pseudonyms" in capsys.readouterr().err


def test_conversions_keep_the_names_of_an_old_mapping_also_for_those_who_were_away(
    mapping: Path, tmp_path: Path
) -> None:
    target = tmp_path / "data/volumes/ws"
    mapping = mapping.with_name(f"{str(target).strip('/').replace('/', '_')}.csv")
    write_old_mapping(mapping, [(digest(f"id {n}")[:8], str(n), "9") for n in (1, 2)])
    assert convert_patients(tmp_path / "one", target, ["1"]) == {"1": digest("id 1")[:8]}
    names = convert_patients(tmp_path / "three", target, ["1", "2", "3"])
    assert names == {"1": digest("id 1")[:8], "2": digest("id 2")[:8], "3": digest("id 3")[:16]}
    # Another conversion, and one without a mapping, know them by the same names.
    other = convert_patients(tmp_path / "other", tmp_path / "volumes", ["2"], mapping=False)
    assert other == {"2": digest("id 2")[:8]}


def test_a_conversion_without_a_mapping_leaves_nothing(mapping: Path, tmp_path: Path) -> None:
    names = convert_patients(tmp_path / "one", tmp_path / "volumes", ["1"], mapping=False)
    assert names == {"1": digest("id 1")[:16]}
    assert not mapping.parent.exists()


def test_writers_at_once_lose_no_line_and_a_kill_leaves_whole_ones(mapping: Path, tmp_path: Path) -> None:
    program = tmp_path / "writer.py"
    program.write_text(
        "import sys\nfrom voxflow.dicom.mapping import keep_pseudonyms, read_pseudonyms\n"
        "for n in range(40):\n"
        "    book = read_pseudonyms(b'key', None)\n"
        "    book.assign([f'{sys.argv[1]} {n} {k}' for k in range(50)])\n"
        "    keep_pseudonyms(book)\n    print(n, flush=True)\n"
    )
    writers = [
        subprocess.Popen([sys.executable, str(program), name], stdout=subprocess.PIPE, env=os.environ)
        for name in ("a", "b", "killed")
    ]
    assert writers[2].stdout is not None
    for _ in range(5):
        writers[2].stdout.readline()
    writers[2].send_signal(signal.SIGKILL)
    for writer in writers:
        writer.communicate()
    names = read_pseudonyms(KEY, None).names
    expected = [f"{name} {n} {k}" for name in "ab" for n in range(40) for k in range(50)]
    expected += [f"killed {n} {k}" for n in range(5) for k in range(50)]
    assert {digest(patient): digest(patient)[:16] for patient in expected}.items() <= names.items()


def test_longer_pseudonyms_change_no_split_and_old_lists_of_cases_hold() -> None:
    patients = [digest(f"id {n}") for n in range(200)]
    splits = []
    for length in (8, 16):
        names = [patient[:length] for patient in patients]
        table = pd.DataFrame({"case": [f"{name}_1" for name in names], "patient": names, "label": "mask.nii.gz"})
        splits += [list(split_cases(table, SplitOptions(folds=5))[n].values()) for n in range(6)]
        listed = SplitOptions(testing=(f"{patients[3][:8]}_1", patients[5][:8]), validation=2)
        parts = split_cases(table, listed)[0]
        assert [case for case, part in parts.items() if part == "testing"] == [f"{names[3]}_1", f"{names[5]}_1"]
    assert splits[:6] == splits[6:]
