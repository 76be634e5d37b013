"""Suites of one's own: made from data, edited, run by modality; and the history of all runs."""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING

import pandas as pd
import pytest
import yaml

from voxflow.cli.main import main
from voxflow.errors import ConfigError, DataError
from voxflow.quality import ValidateOptions, keep_history, profile_suites, run_suites

if TYPE_CHECKING:
    from pathlib import Path


def measure_table(modality: str = "CT", cases: int = 6) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "case": [f"{modality}{n}" for n in range(cases)],
            "patient": [f"p{n}" for n in range(cases)],
            "modality": modality,
            "spacing_k": [3.0] * cases,
            "percentile_99": [200.0 + 20 * n for n in range(cases)],
            "label_voxels": [500.0 + n if n else float("nan") for n in range(cases)],
        }
    )


def test_a_profile_holds_for_the_data_that_it_was_made_of_and_little_else() -> None:
    table = measure_table()
    profiled = profile_suites(table)
    assert profiled["CT"]["spacing_k"] == {"range": [2.85, 3.15], "severity": "warning"}
    assert profiled["CT"]["percentile_99"]["range"] == [190.0, 310.0]
    assert profiled["CT"]["label_voxels"]["optional"] is True
    suites = ValidateOptions.model_validate({"suites": profiled}).suites
    assert all(outcome.success for outcome in run_suites(table, suites, docs=None))
    table.loc[2, "spacing_k"] = 1.0
    failed = [outcome for outcome in run_suites(table, suites, docs=None) if not outcome.success]
    assert [outcome.format_line() for outcome in failed] == ["spacing k is usual for CT: CT2 (1.0)"]


def test_each_modality_has_a_suite_of_its_own(tmp_path: Path) -> None:
    table = pd.concat([measure_table("CT"), measure_table("MR").assign(spacing_k=1.0)], ignore_index=True)
    profiled = profile_suites(table)
    assert profiled["MR"]["spacing_k"]["range"] == [0.95, 1.05]
    suites = ValidateOptions.model_validate({"suites": profiled}).suites
    assert all(outcome.success for outcome in run_suites(table, suites, docs=tmp_path / "docs"))
    index = (tmp_path / "docs/index.html").read_text()
    assert "results of CT" in index
    assert "results of MR" in index
    for name in re.findall(r'href="([^"#]+)"', index):
        assert (tmp_path / "docs" / name).is_file()


def test_severity_is_chosen_by_rule() -> None:
    block = {"CT": {"spacing_k": {"range": [0, 2], "severity": "critical"}, "modality": {"values": ["CT"]}}}
    outcomes = run_suites(measure_table(), ValidateOptions.model_validate({"suites": block}).suites, docs=None)
    assert [(outcome.success, outcome.check.severity) for outcome in outcomes] == [
        (False, "critical"),
        (True, "warning"),
    ]
    assert len(outcomes[0].failures) == 6


def test_a_rule_about_nothing_measured_is_wrong() -> None:
    suites = ValidateOptions.model_validate({"suites": {"CT": {"spacing_z": {"range": [0, 1]}}}}).suites
    with pytest.raises(ConfigError, match=r"validate\.suites\.CT: spacing_z is not measured; known: spacing_k"):
        run_suites(measure_table(), suites, docs=None)


@pytest.mark.parametrize("rule", [{}, {"range": [0, 1], "values": [1]}])
def test_a_rule_has_either_a_range_or_values(rule: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="either a range or values"):
        ValidateOptions.model_validate({"suites": {"CT": {"spacing_k": rule}}})


def test_a_handful_of_cases_says_nothing_of_what_is_usual() -> None:
    with pytest.raises(DataError, match="no modality has 5 cases"):
        profile_suites(measure_table(cases=4))


def test_the_command_writes_suites_that_can_be_edited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text("workspaces:\n  demo:\n    task: segmentation  # kept\n    source: raw\n")
    assert main(["profile", "demo"]) == 2
    assert "the stage validate writes it" in capsys.readouterr().err
    (tmp_path / "data/quality/demo").mkdir(parents=True)
    measure_table().to_csv(tmp_path / "data/quality/demo/measurements.csv", index=False)
    assert main(["profile", "demo"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["validate"]["suites"]["CT"]["spacing_k"]["range"] == [2.85, 3.15]
    assert main(["profile", "demo", "--write"]) == 0
    text = (tmp_path / "params.yaml").read_text()
    assert "# kept" in text
    assert "spacing_k: {range: [2.85, 3.15], severity: warning}" in text
    assert main(["profile", "demo", "--write"]) == 2
    assert "--replace overwrites what was edited" in capsys.readouterr().err


def test_history_shows_every_run_with_its_docs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("voxflow.quality.history.KEPT", 2)
    result = tmp_path / "result"
    (result / "docs").mkdir(parents=True)
    (result / "docs/index.html").write_text("docs")
    for failures in ({}, {"a": "9"}, {"a": "9", "b": "8"}):
        check = {"name": "rows <n>", "severity": "critical", "success": not failures, "failures": failures}
        (result / "report.json").write_text(json.dumps({"cases": 3, "checks": [check]}))
        page = keep_history(tmp_path / "demo.history", result, "Runs")
        time.sleep(0.001)
    text = page.read_text()
    assert re.findall(r"<td class=bad>(\d)</td>", text.split("Checks by run")[-1]) == ["2", "1"]
    assert "rows &lt;n&gt;" in text
    linked = re.findall(r'href="([^":#]+)"', text)
    assert len(linked) == 2
    assert all((tmp_path / "demo.history" / name).is_file() for name in linked)
