"""tlt-pull serves the built-in templates; flags of accounts mean nothing and are never shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from voxflow.cli.pull import main
from voxflow.config import load_workflow
from voxflow.workspace import list_templates

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)


def test_models_and_versions_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-lm", "-k", "SECRET", "-o", "nvtltea", "-t", "med"]) == 0
    output = capsys.readouterr()
    assert {line.split()[0] for line in output.out.splitlines()} == set(list_templates())
    assert output.err.startswith("no meaning here: --key (no account is needed), --org")
    assert "SECRET" not in output.err
    assert main(["-lv", "-m", "segmentation_ct"]) == 0
    assert capsys.readouterr().out.startswith("1  template  3D segmentation of CT")


def test_a_template_becomes_a_complete_mmar(tmp_path: Path) -> None:
    assert main(["-m", "segmentation_ct", "-v", "1", "-d", "mine/ct"]) == 0
    folder = tmp_path / "mine" / "ct"
    assert len(list((folder / "commands").glob("*.sh"))) == 8
    environment = folder / "config" / "environment.json"
    assert load_workflow(folder / "config" / "config_train.json", environment=environment).task == "segmentation"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "-m NAME is needed; -lm lists the models"),
        (["-m", "segmentation_ct"], "-v VERSION is needed; -lv -m segmentation_ct lists the versions"),
        (["-m", "segmentation_cct", "-v", "1"], "unknown model 'segmentation_cct'; did you mean 'segmentation_ct'?"),
        (["-m", "segmentation_ct", "-v", "7"], "segmentation_ct has no version '7'; it has 1"),
        (["-m", "segmentation_ct", "-v", "1", "-d", "full"], "full: the folder is not empty; nothing is replaced"),
    ],
)
def test_wrong_flags_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], message: str
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    assert main(flags) == 2
    assert capsys.readouterr().err == f"tlt-pull: error: {message}\n"
