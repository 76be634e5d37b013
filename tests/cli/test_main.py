"""The program ``voxflow``: what it says, and what it ends with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from voxflow import __version__
from voxflow.cli.main import main

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text("workspaces:\n  old: {task: segmentation}\n")
    (tmp_path / "images").mkdir()
    (tmp_path / "images/ct.nii.gz").touch()
    return tmp_path


def test_new_makes_a_workspace_and_says_what_comes_next(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new", "liver", "--source", "images", "--template", "segmentation_ct"]) == 0
    assert (root / "mmars/liver/config/config_train.json").is_file()
    assert "dvc repro report@liver" in capsys.readouterr().err


def test_new_lists_what_there_is(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("segmentation_mri_hippocampus ") for line in lines)
    assert not (root / "mmars").exists()


def test_new_makes_an_mmar_alone_outside_a_repository(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "params.yaml").unlink()
    assert main(["new", "mine", "--template", "segmentation_hippocampus", "--variant", "cpu"]) == 0
    assert "mine/commands/train.sh" in capsys.readouterr().err
    assert (root / "mine/config/dataset_0.json").is_file()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["new"], "a workspace needs a name"),
        (["new", "old", "--source", "images"], "params.yaml: workspaces: the workspace 'old' exists already"),
        (["new", "x", "--source", "images", "--template", "segmentaton"], "did you mean 'segmentation'?"),
        (["new", "x", "--source", "absent"], "absent: no such folder"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(
    root: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], line: str
) -> None:
    assert main(arguments) == 2
    output = capsys.readouterr().err
    assert line in output
    assert output.count("\n") == 1
    assert not (root / "mmars").exists()


def test_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"voxflow {__version__}\n"


def test_the_program_without_a_command_shows_how_to_use_it(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([])
    text = capsys.readouterr().err
    assert "Begin with your own images:\n  voxflow new liver" in text
    assert "error" not in text


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["tran", "liver"], "voxflow: error: no command is called 'tran'; did you mean 'train'?\n"),
        (["--debug", "infr", "liver"], "no command is called 'infr'; did you mean 'infer'?\n"),
        (["frobnicate"], "no command is called 'frobnicate'; known: add, adopt, check, "),
    ],
)
def test_a_misspelt_command_gets_a_suggestion(
    capsys: pytest.CaptureFixture[str], arguments: list[str], line: str
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert line in capsys.readouterr().err


def test_a_wrong_argument_shows_the_usage_of_its_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["infer", "mmars/liver", "images"])
    said = capsys.readouterr().err
    assert "usage: voxflow infer" in said
    assert "voxflow infer: error: unrecognized arguments: images" in said
