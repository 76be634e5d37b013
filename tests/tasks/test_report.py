"""The stage report writes both files, keeps no secret, and works before anything was trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tasks.common.stage import Stage
from tasks.report import run
from tests.reporting.stages import write_segmentation
from voxflow.errors import EXIT_OK, ConfigError

if TYPE_CHECKING:
    from pathlib import Path

BLOCK = {"task": "segmentation", "source": "data/raw", "convert": {"pseudonym_key": "hush", "modalities": ["CT"]}}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_page_and_card_are_written_beside_each_other(folder: Path) -> None:
    (write_segmentation(folder).models / "train/run.json").write_text('{"run_id": "", "experiment": "spleen_demo"}')
    assert run(Stage("spleen_demo", "report", BLOCK)) == EXIT_OK
    page = (folder / "mmars/spleen_demo/eval/report.html").read_text(encoding="utf-8")
    assert "0.851" in page
    assert "hush" not in page
    assert "modalities" in page
    assert (folder / "mmars/spleen_demo/eval/model_card.md").is_file()


def test_a_flow_run_changes_no_byte(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_file = write_segmentation(folder).models / "train/run.json"
    run_file.write_text('{"run_id": "", "experiment": "spleen_demo"}')
    written = {}
    for flow_run in ("", "http://127.0.0.1:4200/runs/flow-run/1"):
        monkeypatch.setenv("VOXFLOW_FLOW_RUN_URL", flow_run)
        assert run(Stage("spleen_demo", "report", BLOCK)) == EXIT_OK
        evaluation = folder / "mmars/spleen_demo/eval"
        written[flow_run] = [(evaluation / name).read_bytes() for name in ("report.html", "model_card.md")]
    first, second = written.values()
    assert first == second


def test_an_empty_workspace_gives_a_page_of_reasons(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(Stage("spleen_demo", "report", BLOCK)) == EXIT_OK
    assert "Not available" in (folder / "mmars/spleen_demo/eval/report.html").read_text(encoding="utf-8")
    assert capsys.readouterr().err.startswith("report spleen_demo: 0.0 MB")


@pytest.mark.usefixtures("folder")
def test_a_misspelt_option_is_named() -> None:
    with pytest.raises(ConfigError, match=r"workspaces\.spleen_demo\.report\.titel"):
        run(Stage("spleen_demo", "report", {**BLOCK, "report": {"titel": "x"}}))
