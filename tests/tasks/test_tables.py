"""The case table is read as it is written."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tasks.common.case_table import read_cases
from voxflow.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

HEAD = "case,patient,modality,image,label"


def test_text_is_kept_and_findings_are_numbers(tmp_path: Path) -> None:
    (tmp_path / "cases.csv").write_text(f"{HEAD},study_uid,finding:mass\n007,NA,,a.png,,1.20,1\n008,1e5,CT,b.png,,,\n")
    first, second = read_cases(tmp_path / "cases.csv").to_dict("records")
    assert (first["case"], first["patient"], first["modality"], first["study_uid"]) == ("007", "NA", "", "1.20")
    assert (second["patient"], second["label"], first["finding:mass"]) == ("1e5", "", 1.0)
    assert second["finding:mass"] != second["finding:mass"], "an unknown finding is NaN"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "file not found; the stage before writes it"),
        ("", "not a CSV table"),
        (HEAD + "\n", "holds no case"),
        ("case,patient,image\na,b,c\n", r"lacks the column\(s\) modality, label"),
        (f"{HEAD},finding:mass\na,b,DX,c.png,,maybe\n", "finding:mass: expected 0, 1 or nothing: .*maybe"),
    ],
)
def test_what_is_no_case_table_is_wrong_input(text: str | None, message: str, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "cases.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        read_cases(tmp_path / "cases.csv")
