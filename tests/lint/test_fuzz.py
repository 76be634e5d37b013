"""However a workspace is broken, the check reports: mutated at random, it never ends in a traceback."""

from __future__ import annotations

import json
import random
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from tests.lint.workspace import GOOD, write_files, write_images
from voxflow.lint import check_workspace, render_report
from voxflow.planning import find_target

if TYPE_CHECKING:
    from pathlib import Path

ODD: tuple[Any, ...] = (
    *(None, True, -1, 0, 1e300, 10**30, "", "image", "{DATA_ROOT}", "{NO}", "a/../b", "x" * 300, "\x00", "é\ud7ff"),
    *([], {}, [None], [[]], {"name": "Unet"}, {"ref": "Unet"}, {"path": "custom.x.Y"}, [1, "2", None], [0, 0, 0]),
)
RUNS = 300


@pytest.fixture(scope="module")
def mmar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fuzz") / "broken"
    write_images(folder / "data")
    return folder


@pytest.mark.parametrize("task", GOOD)
def test_a_mutated_workspace_is_reported_without_a_traceback(mmar: Path, task: str) -> None:
    rng = random.Random(task)
    changed = 0
    for _ in range(RUNS):
        shutil.rmtree(mmar / "config", ignore_errors=True)
        write_files(mmar, GOOD[task]())
        for _ in range(rng.randint(1, 3)):
            mutate(mmar / "config", rng)
        report = check_workspace(find_target(str(mmar)))
        assert render_report(report, colours=False)
        assert json.dumps(report.to_json())
        assert all(finding.message and "Traceback" not in finding.message for finding in report.findings)
        changed += bool(report.findings)
    assert changed > RUNS / 2


def mutate(folder: Path, rng: random.Random) -> None:
    path = rng.choice(sorted(folder.iterdir()))
    text = path.read_text(encoding="utf-8")
    if rng.random() < 0.2:
        place = rng.randrange(len(text) + 1)
        path.write_text(rng.choice([text[:place], text[:place] + rng.choice(',}]"{:\\\x00/') + text[place:]]))
        return
    try:
        content = json.loads(text)
    except ValueError:
        return
    holders = list(_holders(content))
    if not holders:
        return
    holder = rng.choice(holders)
    key = rng.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
    deed = rng.choice(["delete", "replace", "rename", "wrap"])
    if deed == "delete":
        del holder[key]
    elif deed == "rename" and isinstance(holder, dict):
        holder[key[:-1] + rng.choice("xs_")] = holder.pop(key)
    else:
        holder[key] = [holder[key]] if deed == "wrap" else rng.choice(ODD)
    path.write_text(json.dumps(content))


def _holders(value: Any) -> list[Any]:
    """Every object and list of a document that is not empty."""
    if not isinstance(value, dict | list) or not value:
        return []
    inner = value.values() if isinstance(value, dict) else value
    return [value, *(holder for item in inner for holder in _holders(item))]
