"""Every workspace has folders of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from voxflow.errors import ConfigError
from voxflow.places import load_params

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
