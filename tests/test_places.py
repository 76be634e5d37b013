"""Every workspace has folders of its own."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

from voxflow.errors import ConfigError
from voxflow.places import load_params, read_params

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(("name", "message"), [("..", "can't name a folder"), ("Spleen", "would share one folder")])
def test_a_workspace_without_folders_of_its_own_is_refused(
    name: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text("workspaces:\n  '..': {}\n  Spleen: {}\n  spleen: {}\n  liver: {task: x}\n")
    assert load_params("workspaces", "liver") == {"task": "x"}
    with pytest.raises(ConfigError, match=message):
        load_params("workspaces", name)


def test_a_folder_that_torch_would_import_is_named_before_a_stage_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "params.yaml").write_text("workspaces: {}")
    monkeypatch.chdir(tmp_path)
    # As `python -m tasks.train` does.
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    assert read_params() == {"workspaces": {}}
    (tmp_path / "triton/models").mkdir(parents=True)
    spec = find_spec("triton")
    assert spec is not None
    if spec.origin is None:
        with pytest.raises(ConfigError, match=r"^triton: torch takes a folder of this name for a package.*rename it"):
            read_params()
    else:
        assert read_params() == {"workspaces": {}}
