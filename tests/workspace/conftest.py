"""An empty repository, and what ``voxflow new`` writes in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository without a workspace, which is the present folder."""
    (tmp_path / "params.yaml").write_text("workspaces: {}\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read_convert_block(root: Path) -> dict[str, Any]:
    """The key ``convert`` of the new workspace ``mine``."""
    block: dict[str, Any] = yaml.safe_load((root / "params.yaml").read_text())["workspaces"]["mine"]["convert"]
    return block
