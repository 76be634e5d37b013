"""New workspaces: complete, checked, and careful with params.yaml."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from voxflow.config import load_workflow, read_json
from voxflow.errors import ConfigError, DataError
from voxflow.workspace import create_workspace, list_templates
from voxflow.workspace.zoo import read_zoo

PARAMS = """# Tunables
workspaces:
  first:  # kept
    task: segmentation

# what follows
other: 1
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "params.yaml").write_text(PARAMS)
    (tmp_path / "images of mine").mkdir()
    return tmp_path


@pytest.mark.parametrize("template", sorted(list_templates().keys() - read_zoo().keys()))
def test_every_template_makes_a_workspace_that_checks_clean(root: Path, template: str) -> None:
    folder = create_workspace("mine", Path("images of mine"), template, root=root)
    assert folder == root / "mmars" / "mine"
    config = folder / "config"
    workflow = load_workflow(config / "config_train.json", environment=config / "environment.json")
    assert workflow.train.image_pipeline.args["data_file_base_dir"] == "data/resampled/mine"
    assert read_json(config / "config_validation.json")["inferer"]
    for name in ("docs/Readme.md", "docs/license.txt", "resources/log.config"):
        assert "@" not in (folder / name).read_text().replace("report@mine", "")
    block = yaml.safe_load((root / "params.yaml").read_text())["workspaces"]["mine"]
    assert (block["task"], block["source"]) == (workflow.task, "images of mine")
    stages = {"convert", "validate", "resample", "split", "train", "export", "evaluate", "infer", "promote", "report"}
    assert stages <= block.keys()


@pytest.mark.parametrize(("table", "findings"), [(True, "findings.csv"), (False, None)])
def test_findings_come_from_a_table_where_there_is_one(root: Path, table: bool, findings: str | None) -> None:
    if table:
        (root / "images of mine" / "findings.csv").write_text("file,mass\n")
    create_workspace("mine", Path("images of mine"), "classification", root=root)
    block = yaml.safe_load((root / "params.yaml").read_text())["workspaces"]["mine"]
    assert block["convert"]["findings"] == findings


def test_params_keep_their_comments_and_the_keys_that_follow(root: Path) -> None:
    create_workspace("mine", Path("images of mine"), root=root)
    text = (root / "params.yaml").read_text()
    assert text.startswith("# Tunables\nworkspaces:\n  first:  # kept\n    task: segmentation\n\n  mine:\n")
    assert text.endswith("\n\n# what follows\nother: 1\n")
    assert yaml.safe_load(text)["other"] == 1


@pytest.mark.parametrize("text", ["", "samples: {}\n", "workspaces: {}\n", "workspaces:\n", "workspaces:\n  a: {}"])
def test_params_without_workspaces_get_them(root: Path, text: str) -> None:
    (root / "params.yaml").write_text(text)
    create_workspace("mine", Path("images of mine"), root=root)
    assert "mine" in yaml.safe_load((root / "params.yaml").read_text())["workspaces"]


@pytest.mark.parametrize(
    ("name", "template", "message"),
    [
        ("first", "segmentation", "workspaces: the workspace 'first' exists already"),
        ("9lives", "segmentation", "a letter first, received '9lives'"),
        ("../up", "segmentation", "letters, digits"),
        ("mine", "segmentation_cct", "unknown template 'segmentation_cct'; did you mean 'segmentation_ct'"),
    ],
)
def test_wrong_names_change_nothing(root: Path, name: str, template: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        create_workspace(name, Path("images of mine"), template, root=root)
    assert (root / "params.yaml").read_text() == PARAMS
    assert not (root / "mmars").exists()


def test_a_taken_folder_and_a_missing_source_are_said(root: Path) -> None:
    with pytest.raises(DataError, match="nowhere: no such folder"):
        create_workspace("mine", Path("nowhere"), root=root)
    (root / "mmars" / "mine").mkdir(parents=True)
    with pytest.raises(ConfigError, match="'mine' exists already"):
        create_workspace("mine", Path("images of mine"), root=root)


def test_outside_a_repository_it_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"params.yaml: file not found; make workspaces from the root"):
        create_workspace("mine", tmp_path, root=tmp_path)
