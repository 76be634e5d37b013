"""A small copy of this repository in which the whole DAG runs in a minute or two."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tasks.ops.reach import Code, changes_nothing

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = Path(sys.executable).parent
SPLEEN, CHEST = "spleen_demo", "chestxray_demo"


@dataclass(frozen=True)
class Repository:
    """A folder with what git tracks here, a git history and a DVC cache of its own."""

    root: Path

    @classmethod
    def copy_to(cls, root: Path) -> Repository:
        tracked = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            check=True,
        )
        for name in filter(None, tracked.stdout.decode().split("\0")):
            if (ROOT / name).is_file():
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, root / name)
        repository = cls(root)
        repository.run("git", "init", "--quiet")
        repository.commit("the copy")
        return repository

    def commit(self, message: str) -> None:
        author = ["-c", "user.name=Test", "-c", "user.email=test@localhost"]
        self.run("git", "add", "--all")
        self.run("git", *author, "commit", "--quiet", "--allow-empty", "--message", message)

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {
            "PATH": os.pathsep.join([str(PROGRAMS), os.environ["PATH"]]),
            "PYTHONPATH": os.pathsep.join([str(self.root / "src"), str(self.root)]),
        }

    def run(self, *command: str, check: bool = True, **more: Any) -> subprocess.CompletedProcess[str]:
        environment = self.environment | more.pop("env", {})
        result = subprocess.run(
            command, cwd=self.root, env=environment, capture_output=True, text=True, check=False, **more
        )
        if check and result.returncode:
            raise AssertionError(f"{' '.join(command)} ended with {result.returncode}\n{result.stdout}{result.stderr}")
        return result

    def read(self, name: str) -> str:
        return (self.root / name).read_text(encoding="utf-8")

    @property
    def params(self) -> dict[str, Any]:
        return dict(yaml.safe_load(self.read("params.yaml")))

    def set_params(self, params: dict[str, Any]) -> None:
        (self.root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")


@dataclass(frozen=True)
class FirstRun:
    """The first ``dvc repro`` of a fresh copy: what it printed, which addresses it tried to reach, what it imported.

    Attributes:
        modules: of each stage, this project's modules that its program had imported when it ended.
    """

    repository: Repository
    output: str
    connections: list[str]
    modules: dict[str, set[str]]


def imported_modules(log: Path) -> dict[str, set[str]]:
    """What tests/offline_hook wrote down: of each stage, the modules that its program had imported."""
    modules: dict[str, set[str]] = {}
    for line in log.read_text().splitlines():
        command, names = json.loads(line)
        if "-m" in command and (program := command[command.index("-m") + 1]).startswith("tasks."):
            modules.setdefault(program.removeprefix("tasks."), set()).update(names)
    return modules


def unreached_modules(modules: dict[str, set[str]]) -> dict[str, list[str]]:
    """What stages imported although their digests don't hold it, so that DVC would not see that it changed."""
    code = Code(ROOT)
    missing = {
        stage: sorted(name for name in names - code.reach(stage) if not changes_nothing(name, stage))
        for stage, names in modules.items()
    }
    return {stage: names for stage, names in missing.items() if names}
