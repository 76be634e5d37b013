"""Files as people save them: byte-order marks, line ends of Windows, semicolons, other encodings."""

from __future__ import annotations

import codecs
import json
from typing import TYPE_CHECKING

import pytest

from tasks.common.case_table import read_cases
from voxflow.config import read_json
from voxflow.datalist import Datalist
from voxflow.errors import DataError, InputError
from voxflow.files import read_text
from voxflow.images import read_findings
from voxflow.places import read_params
from voxflow.tables import read_rows

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CASES = 'case,patient,modality,image,label\np_1,p,CT,images/p_1.nii.gz,"a, b"\n'
DATALIST = json.dumps({"training": [{"image": "a.nii.gz"}]}, indent=1)
READERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "cases.csv": (CASES, read_rows),
    "table of a stage": (CASES, lambda path: read_cases(path).to_dict("records")),
    "findings": ("file,mass\na.png,1\n", lambda path: read_findings(path).values),
    "configuration": ('{"epochs": 20,\n "lr": 0.1}', read_json),
    "datalist": (DATALIST, lambda path: Datalist.read(path).cases("training")),
    "params.yaml": ("workspaces:\n  a:\n    train: {}\n", read_params),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8])
def test_marks_and_line_ends_change_nothing(tmp_path: Path, reader: str, line_end: bytes, mark: bytes) -> None:
    text, read = READERS[reader]
    plain, saved = tmp_path / "plain", tmp_path / "saved"
    plain.write_bytes(text.encode())
    saved.write_bytes(mark + text.encode().replace(b"\n", line_end))
    assert read(saved) == read(plain)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_another_encoding_is_named(tmp_path: Path, reader: str, encoding: str) -> None:
    text, read = READERS[reader]
    (tmp_path / "file").write_bytes(text.encode(encoding))
    with pytest.raises(InputError, match=rf"file: .*a text in {encoding.upper()}; save it as UTF-8"):
        read(tmp_path / "file")


def test_a_byte_that_is_no_utf8_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes("a\nM\u00fcller".encode("latin-1"))
    with pytest.raises(DataError, match="no UTF-8: line 2 holds the byte 0xfc; save the file as UTF-8"):
        read_text(tmp_path / "file")


@pytest.mark.parametrize("text", ["case;mass\na, b;1\n", "case\tmass\na, b\t1\n", "sep=;\ncase;mass\na, b;1\n"])
def test_semicolons_and_tabs_separate_cells_too(tmp_path: Path, text: str) -> None:
    (tmp_path / "table.csv").write_text(text)
    assert read_rows(tmp_path / "table.csv") == [{"case": "a, b", "mass": "1"}]


def test_findings_of_a_spreadsheet_are_read(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_bytes(codecs.BOM_UTF8 + b"file;mass;edema\r\na.png;1,0;0,0\r\n\r\n")
    findings = read_findings(tmp_path / "table.csv")
    assert (findings.names, findings.values) == (("mass", "edema"), {"a.png": (1, 0)})
