"""Every broken workspace of tests/config/broken gives the findings that its file expects, and no other.

A file there says what it changes in a good workspace (see ``workspace.py``): ``change`` puts values at JSON paths (null
removes), ``text`` replaces words of a file as they stand, ``write`` gives a whole file, ``volumes``, ``pngs`` and
``delete`` change images. ``expect`` lists findings: severity, code, JSON path, words of the message and of the fix.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.lint.workspace import GOOD, put, write_files, write_images, write_png, write_size
from voxflow.lint import check_workspace
from voxflow.planning import find_target

if TYPE_CHECKING:
    from voxflow.findings import Finding

ROOT = Path(__file__).resolve().parents[2]
BROKEN = sorted((ROOT / "tests/config/broken").glob("*.json"))


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    write_images(folder)
    return folder


@pytest.fixture
def mmar(tmp_path: Path, images: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(images, tmp_path / "broken/data")
    return Path("broken")


@pytest.mark.parametrize("task", GOOD)
def test_a_good_workspace_has_no_finding(mmar: Path, task: str) -> None:
    write_files(mmar, GOOD[task]())
    assert check_workspace(find_target("broken")).findings == []


@pytest.mark.parametrize("case", BROKEN, ids=lambda path: path.stem)
def test_a_broken_workspace_gives_the_expected_findings(mmar: Path, case: Path) -> None:
    changes = json.loads(case.read_text(encoding="utf-8"))
    break_workspace(mmar, changes)
    findings = check_workspace(find_target("broken", overrides=changes.get("set"))).findings
    assert sorted(map(_key, findings)) == sorted(tuple(expected[:3]) for expected in changes["expect"]), _lines(
        findings
    )
    for severity, code, place, words, fix in changes["expect"]:
        alike = [finding for finding in findings if _key(finding) == (severity, code, place)]
        assert any(words in finding.message and fix in finding.fix for finding in alike), _lines(alike)


def test_there_are_broken_workspaces_enough() -> None:
    assert len(BROKEN) >= 60


def test_the_documentation_names_every_code() -> None:
    documented = set(re.findall(r"`([a-z-]+)`", (ROOT / "docs/check.md").read_text(encoding="utf-8")))
    expected = {finding[1] for case in BROKEN for finding in json.loads(case.read_text(encoding="utf-8"))["expect"]}
    assert expected <= documented


def break_workspace(mmar: Path, instructions: dict[str, Any]) -> None:
    files = json.loads(json.dumps(GOOD[instructions.get("task", "segmentation")]()))
    for name, changes in instructions.get("change", {}).items():
        for path, value in changes.items():
            put(files[name], path, value)
    write_files(mmar, files)
    for name, (before, after) in instructions.get("text", {}).items():
        path = mmar / "config" / name
        text = path.read_text(encoding="utf-8")
        assert before in text
        path.write_text(text.replace(before, after, 1), encoding="utf-8")
    for name, text in instructions.get("write", {}).items():
        (mmar / name).write_text(text, encoding="latin-1")
    for name in instructions.get("delete", []):
        (mmar / name).unlink()
    for name, (size, spacing) in instructions.get("volumes", {}).items():
        write_size(mmar / "data" / name, tuple(size), tuple(spacing))
    for name, (bits, colour) in instructions.get("pngs", {}).items():
        write_png(mmar / "data" / name, bits, colour)


def _key(finding: Finding) -> tuple[str, str, str]:
    return finding.severity, finding.code, finding.where


def _lines(findings: list[Finding]) -> str:
    return "\n" + "\n".join(f"{finding.severity} {finding.code} {finding.line}" for finding in findings)
