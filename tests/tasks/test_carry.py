"""Two clones hand each other what they made: the data by DVC's remote, dvc.lock by git, neither over the other's."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.flows.repository import environment, make_repository

if TYPE_CHECKING:
    from pathlib import Path

AUTHOR = {f"GIT_{who}_{what}": "test@localhost" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
MADE = ["*-raw", "*-left", "*-right", "*-killed", "mmars/", ".voxflow/", "__pycache__/"]
SPLEEN, CHEST = "spleen_demo", "chestxray_demo"


@dataclass(frozen=True)
class Clone:
    """A clone of the repository, and what a person would type there."""

    root: Path

    def run(self, *command: str, code: int = 0) -> str:
        result = subprocess.run(
            command, cwd=self.root, env=environment() | AUTHOR, capture_output=True, text=True, check=False
        )
        assert result.returncode == code, result.stdout + result.stderr
        return result.stdout + result.stderr

    def make(self, address: str) -> None:
        self.run(sys.executable, "-m", "dvc", "repro", "--quiet", "--single-item", address)

    def carry(self, *arguments: str, code: int = 0) -> str:
        return self.run(sys.executable, "-m", "tasks.ops.carry", *arguments, code=code)

    @property
    def recorded(self) -> set[str]:
        """The stages that dvc.lock knows at the branch's tip."""
        self.run("git", "fetch", "--quiet")
        return set(yaml.safe_load(self.run("git", "show", "@{upstream}:dvc.lock"))["stages"])


def make_clones(folder: Path) -> tuple[Clone, Clone]:
    """Two clones of one repository, with one remote of DVC."""
    first = Clone(make_repository(folder / "seed"))
    with (first.root / ".dvc/config").open("a") as config:
        config.write(f"    remote = shared\n['remote \"shared\"']\n    url = {folder / 'remote'}\n")
    (first.root / ".gitignore").write_text("\n".join(MADE) + "\n")
    first.run("git", "add", "--all")
    first.run("git", "commit", "--quiet", "--message", "one")
    first.run("git", "clone", "--quiet", "--bare", str(first.root), str(folder / "origin.git"))
    for name in ("cpu", "gpu"):
        first.run("git", "clone", "--quiet", str(folder / "origin.git"), str(folder / name))
    return Clone(folder / "cpu"), Clone(folder / "gpu")


@pytest.fixture
def clones(tmp_path: Path) -> tuple[Clone, Clone]:
    return make_clones(tmp_path)


def test_what_one_clone_makes_the_other_goes_on_with(clones: tuple[Clone, Clone]) -> None:
    cpu, gpu = clones
    cpu.make(f"sample@{SPLEEN}")
    output = cpu.carry("push", SPLEEN, "--stages", "sample")
    assert output.splitlines()[-1] == f"carry {SPLEEN}: pushed sample@{SPLEEN}"
    assert f"carry {SPLEEN}: pulled sample@{SPLEEN}" in gpu.carry("pull", SPLEEN, "--stages", "left,right")
    assert (gpu.root / f"{SPLEEN}-raw").read_text() == "one\n"
    gpu.make(f"left@{SPLEEN}")
    assert (gpu.root / f"{SPLEEN}-left").read_text() == "one\n"
    assert "dvc.lock says so already" in cpu.carry("push", SPLEEN, "--stages", "sample")


def test_entries_that_both_add_meet_without_a_conflict(clones: tuple[Clone, Clone]) -> None:
    cpu, gpu = clones
    cpu.make(f"sample@{SPLEEN}")
    gpu.make(f"sample@{CHEST}")
    cpu.carry("push", SPLEEN, "--stages", "sample")
    gpu.carry("push", CHEST, "--stages", "sample")
    assert cpu.recorded == {f"sample@{SPLEEN}", f"sample@{CHEST}"}
    assert "didn't change" in gpu.run(sys.executable, "-m", "dvc", "repro", "--single-item", f"sample@{CHEST}")
    assert gpu.run("git", "status", "--porcelain") == ""


def test_commits_that_only_this_clone_has_are_wrong_input_and_stay(clones: tuple[Clone, Clone]) -> None:
    cpu, gpu = clones
    cpu.make(f"sample@{SPLEEN}")
    cpu.carry("push", SPLEEN, "--stages", "sample")
    gpu.make(f"sample@{CHEST}")
    lock = (gpu.root / "dvc.lock").read_text()
    gpu.run("git", "commit", "--quiet", "--allow-empty", "--message", "mine")
    output = gpu.carry("push", CHEST, "--stages", "sample", code=2)
    assert f"carry {CHEST}: error: git merge: " in output
    assert (gpu.root / "dvc.lock").read_text() == lock


def test_an_unknown_stage_is_wrong_input(clones: tuple[Clone, Clone]) -> None:
    output = clones[0].carry("pull", SPLEEN, "--stages", "left,trian", code=2)
    assert "no stage trian for workspace 'spleen_demo'; known: sample, left, right, report" in output


def test_data_that_nobody_pushed_may_come_later(clones: tuple[Clone, Clone]) -> None:
    cpu, gpu = clones
    cpu.make(f"sample@{SPLEEN}")
    for command in (["add", "dvc.lock"], ["commit", "--quiet", "--message", "lock"], ["push", "--quiet"]):
        cpu.run("git", *command)
    assert f"carry {SPLEEN}: error: dvc pull: " in gpu.carry("pull", SPLEEN, "--stages", "left", code=1)
