"""The tables of keys and flags in the documents hold what the code reads, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from voxflow.cli import tlt
from voxflow.cli.apps import evaluate_main, export_main, train_main
from voxflow.config import EvaluationValues, Globals, clara3, clara4, clara4_evaluation, clara4_reading, foreign
from voxflow.config.reading import SEARCH_KEYS, ComponentReader
from voxflow.config.substitution import SWITCHES, WITHOUT_MEANING
from voxflow.config.values import IGNORED

DOCS = Path(__file__).resolve().parents[2] / "docs"
VERDICTS = {"obeyed", "no meaning", "refused"}
FOREIGN = {key for keys, _ in foreign._TOPS for key in keys}


def read_table(page: str, first: str) -> dict[str, str]:
    """Each key of a page's table, by the heading of its first column, with its verdict."""
    text = (DOCS / page).read_text(encoding="utf-8")
    _, _, table = text.partition(f"| {first} | verdict | meaning |\n|---|---|---|\n")
    verdicts: dict[str, str] = {}
    for line in table.partition("\n\n")[0].splitlines():
        keys, verdict = (cell.strip() for cell in line.strip("|").split("|")[:2])
        for key in re.findall(r"`([^`]+)`", keys):
            assert key not in verdicts, f"{key} stands twice in {page}"
            verdicts[key] = verdict
    assert set(verdicts.values()) <= VERDICTS
    return verdicts


def test_keys_of_clara_3() -> None:
    table = read_table("clara.md", "key")
    values = Globals.model_fields.keys() | EvaluationValues.model_fields.keys()
    parts = {*clara3.SECTIONS, *clara3.TRAIN, *clara3.VALIDATE, *clara3.EVALUATION_SECTION, *ComponentReader.keys}
    switches = {*IGNORED, *SEARCH_KEYS, *SWITCHES, "is_key_metric"}
    assert table.keys() == values | parts | switches | FOREIGN
    assert {key for key, verdict in table.items() if verdict == "refused"} == FOREIGN
    assert {*IGNORED, *SEARCH_KEYS, *WITHOUT_MEANING} <= {k for k, verdict in table.items() if verdict == "no meaning"}


def test_keys_of_clara_4() -> None:
    table = read_table("clara4.md", "key")
    values = {*clara4.GLOBALS, *clara4_evaluation.EVALUATION_VALUES, *EvaluationValues.model_fields, *SWITCHES}
    parts = {*clara4_reading.TRAIN_KEYS, *clara4_reading.VALIDATE_KEYS, *clara4_evaluation.EVALUATION_KEYS}
    assert table.keys() == values | parts | FOREIGN | {"iteration"}
    assert {key for key, verdict in table.items() if verdict == "no meaning"} == set(WITHOUT_MEANING)
    assert read_table("clara4.md", "handler").keys() == set(clara4_reading.HANDLERS)


@pytest.mark.parametrize(
    "program", [train_main, evaluate_main, export_main, tlt.train_main, tlt.evaluate_main, tlt.tlt_export_main]
)
def test_every_flag_stands_in_a_table(program: object, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        program(["--help"])  # type: ignore[operator]
    flags = set(re.findall(r"(?<![\w-])--[a-z_-]+", capsys.readouterr().out)) - {"--help"}
    pages = "".join((DOCS / name).read_text(encoding="utf-8") for name in ("clara.md", "clara4.md"))
    rows = " ".join(line for line in pages.splitlines() if line.startswith("|"))
    stated = set(re.findall(r"--[a-z_-]+", rows))
    assert flags - stated == set()
