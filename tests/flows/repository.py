"""A tiny repository with a DVC graph of shell commands: sample, then left and right at once, then report."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

PARAMS = "workspaces:\n  spleen_demo: {word: one}\n  chestxray_demo: {word: two}\n"

# `right` is killed in the middle of its first run; `slow` and `wrong` serve the tests of stopping and of failing.
GRAPH = """
stages:
  sample:
    foreach: ${workspaces}
    do:
      cmd: echo ${item.word} > ${key}-raw
      outs: ["${key}-raw"]
  left:
    foreach: ${workspaces}
    do:
      cmd: echo the left stage of ${key}; sleep 1; cp ${key}-raw ${key}-left
      deps: ["${key}-raw"]
      outs: ["${key}-left"]
  right:
    foreach: ${workspaces}
    do:
      cmd: "[ -e ${key}-killed ] || { touch ${key}-killed; kill -9 $$; }; cp ${key}-raw ${key}-right"
      deps: ["${key}-raw"]
      outs: ["${key}-right"]
  report:
    foreach: ${workspaces}
    do:
      cmd: >-
        mkdir -p mmars/${key}/eval; cat ${key}-left ${key}-right > mmars/${key}/eval/report.html;
        printf '{"verdict": "kept", "reasons": ["not proven"], "numbers": {"gain": 0.001, "p_value": 0.4}}'
        > mmars/${key}/eval/decision.json
      deps: ["${key}-left", "${key}-right"]
      outs: ["mmars/${key}/eval/report.html", "mmars/${key}/eval/decision.json"]
  wrong:
    foreach: [bad]
    do:
      cmd: "echo 'wrong bad: error: no such thing' >&2; exit 2"
      outs: ["${item}-wrong"]
  after:
    foreach: [bad]
    do:
      cmd: cp ${item}-wrong ${item}-after
      deps: ["${item}-wrong"]
      outs: ["${item}-after"]
  slow:
    foreach: [endless]
    do:
      cmd: "echo $$ > slow.pid.new; mv slow.pid.new slow.pid; sleep 60"
      outs: ["${item}-slow"]
"""


def environment() -> dict[str, str]:
    """What a program needs to find this project's packages and programs from another folder."""
    return os.environ | {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": str(ROOT / "src"),
    }


def make_repository(root: Path) -> Path:
    """A git and DVC repository with the graph above and this project's flows."""
    root.mkdir(exist_ok=True)
    for folder in ("flows", "tasks"):
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("prefect.yaml", "prefect.toml"):
        shutil.copy(ROOT / name, root / name)
    (root / "params.yaml").write_text(PARAMS)
    (root / "dvc.yaml").write_text(GRAPH)
    for command in (["git", "init", "--quiet"], [sys.executable, "-m", "dvc", "init", "--quiet"]):
        subprocess.run(command, cwd=root, env=environment(), check=True)
    (root / ".dvc/config").write_text("[core]\n    analytics = false\n    check_update = false\n")
    return root
