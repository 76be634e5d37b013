"""A git and DVC repository with one stage, the real training, for small workspaces that are learnt in seconds."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING

import yaml

from tests.flows.repository import environment, make_repository
from tests.tasks.cubes import write_cubes

if TYPE_CHECKING:
    from pathlib import Path

GRAPH = """
stages:
  train:
    foreach: ${workspaces}
    do:
      cmd: python -m tasks.train ${key}
      deps: ["mmars/${key}/config", "data/resampled/${key}", "data/datalists/${key}"]
      params: ["workspaces.${key}.train"]
      outs:
        - mmars/${key}/models/train: {persist: true}
        - mmars/${key}/models/curves.csv
        - mmars/${key}/models/train.json
"""


def make_cubes_repository(root: Path, *names: str) -> Path:
    """The repository, with everything committed; each workspace has images of its own."""
    make_repository(root)
    blocks = {name: write_cubes(root, name, first_seed=100 * number) for number, name in enumerate(names)}
    (root / "params.yaml").write_text(yaml.safe_dump({"workspaces": blocks}))
    (root / "dvc.yaml").write_text(GRAPH)
    (root / ".gitignore").write_text("__pycache__/\n/mlflow.db*\n/mlartifacts/\n/.voxflow/\n")
    commit(root)
    return root


def commit(root: Path) -> None:
    """Commit all that there is."""
    author = ("-c", "user.name=Test", "-c", "user.email=test@localhost")
    run(root, "git", "add", "--all")
    run(root, "git", *author, "commit", "--quiet", "--allow-empty", "--message", "all")


def run(root: Path, *command: str) -> str:
    """Run a program in the repository; what it said."""
    variables = [sys.executable, "-m", "dvc", *command[1:]] if command[0] == "dvc" else list(command)
    # Into a file: a worker of DVC's queue may outlive the command, and a pipe would be open until it ends.
    with tempfile.TemporaryFile("w+") as said:
        status = subprocess.run(
            variables, cwd=root, env=environment(), stdout=said, stderr=said, check=False
        ).returncode
        said.seek(0)
        output = said.read()
    assert status == 0, output
    return output
