"""Folds are written into params.yaml line by line: everything else in the file stays as it was."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from voxflow.cli.main import main
from voxflow.errors import ConfigError
from voxflow.workspace import create_workspace
from voxflow.workspace.folds import set_folds

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def params(tmp_path: Path) -> Path:
    path = tmp_path / "params.yaml"
    path.write_text((ROOT / "params.yaml").read_text())
    return path


def test_folds_are_listed_and_all_else_is_kept(params: Path) -> None:
    before = params.read_text()
    set_folds(params, "spleen_demo", 3)
    content = yaml.safe_load(params.read_text())
    assert content["workspaces"]["spleen_demo"]["split"]["folds"] == 3
    assert content["workspaces"]["chestxray_demo"]["split"]["folds"] == 0
    assert content["folds"] == {f"spleen_demo-{n}": {"workspace": "spleen_demo", "fold": n} for n in (1, 2, 3)}
    assert content["ensembles"] == {"spleen_demo": {"folds": [1, 2, 3]}}
    lost = set(before.splitlines()) - set(params.read_text().splitlines())
    assert lost <= {"folds: {}", "ensembles: {}"}
    set_folds(params, "spleen_demo", 0)
    assert yaml.safe_load(params.read_text()) == yaml.safe_load(before) | {"folds": {}, "ensembles": {}}


def test_another_count_takes_the_place_of_the_first(params: Path) -> None:
    set_folds(params, "chestxray_demo", 2)
    set_folds(params, "spleen_demo", 5)
    set_folds(params, "spleen_demo", 2)
    content = yaml.safe_load(params.read_text())
    assert list(content["folds"]) == ["chestxray_demo-1", "chestxray_demo-2", "spleen_demo-1", "spleen_demo-2"]
    assert content["ensembles"] == {"chestxray_demo": {"folds": [1, 2]}, "spleen_demo": {"folds": [1, 2]}}


@pytest.mark.parametrize("template", ["segmentation", "segmentation_ct", "classification", "segmentation_ct_spleen"])
def test_a_new_workspace_can_be_folded_and_another_be_made_after(params: Path, template: str) -> None:
    (params.parent / "images").mkdir()
    create_workspace("mine", Path("images"), template, root=params.parent)
    set_folds(params, "mine", 5)
    create_workspace("later", Path("images"), template, root=params.parent)
    content = yaml.safe_load(params.read_text())
    assert content["workspaces"]["mine"]["split"]["folds"] == 5
    assert set(content["workspaces"]) == {"spleen_demo", "chestxray_demo", "mine", "later"}
    assert len(content["folds"]) == 5


@pytest.mark.parametrize(
    "split", ["", "    split:\n      seed: 3\n", "    split:\n      seed: 3\n\n      folds: 0  # none\n"]
)
def test_a_block_with_or_without_the_key_is_edited(tmp_path: Path, split: str) -> None:
    params = tmp_path / "params.yaml"
    params.write_text(
        f"workspaces:\n  a:\n    task: segmentation\n{split}    train: {{}}\n  ab:\n    split:\n      folds: 0\n"
    )
    if not split:
        with pytest.raises(ConfigError, match=r"write workspaces.a.split.folds: 4 in lines of its own"):
            set_folds(params, "a", 4)
        return
    set_folds(params, "a", 4)
    content = yaml.safe_load(params.read_text())["workspaces"]
    assert (content["a"]["split"], content["ab"]["split"]) == ({"seed": 3, "folds": 4}, {"folds": 0})
    assert ("# none" in params.read_text()) == ("# none" in split)


def test_a_file_that_another_program_wrote_is_edited(params: Path) -> None:
    params.write_text(yaml.safe_dump(yaml.safe_load(params.read_text())))
    set_folds(params, "chestxray_demo", 2)
    set_folds(params, "spleen_demo", 3)
    content = yaml.safe_load(params.read_text())
    assert [block["split"]["folds"] for block in content["workspaces"].values()] == [2, 3]


def test_wrong_input_is_one_line(
    params: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(params.parent)
    before = params.read_text()
    assert main(["folds", "spleen_dem", "5"]) == 2
    assert "no workspace 'spleen_dem'; did you mean 'spleen_demo'?" in capsys.readouterr().err
    assert main(["folds", "spleen_demo", "1"]) == 2
    assert "folds: 0, or 2 or more, received 1" in capsys.readouterr().err
    assert params.read_text() == before
    assert main(["folds", "spleen_demo", "2"]) == 0
    assert "dvc repro evaluate_ensemble@spleen_demo" in capsys.readouterr().err
