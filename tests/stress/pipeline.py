"""A small workspace whose stages run as programs, one after the other, as DVC would run them."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).resolve().parents[2]
WORKSPACE = "spleen_demo"
STAGES = (
    *("sample", "convert", "validate", "resample", "split", "train"),
    *("export", "evaluate", "infer", "promote", "report"),
)
LEFTOVERS = (".partial-*", ".replaced-*", ".unfinished-*")
BLOCK = {
    "task": "segmentation",
    "source": f"data/raw/{WORKSPACE}",
    "convert": {"modalities": ["CT"], "pseudonym_key": "synthetic"},
    "resample": {"spacing_mm": [6, 6, 10], "orientation": "LPS"},
    "split": {"seed": 7, "testing": 0.25, "validation": 0.2, "folds": 0},
    "train": {"threads": 1, "workers": 0, "precision": "fp32", "set": {"epochs": 2}},
    "export": {"engines": ["torchscript", "onnx", "openvino"], "parity_cases": 1},
    "evaluate": {"engine": "torchscript"},
    "infer": {"engine": "torchscript", "dicom_seg": True},
}
# What is the same in two runs, byte for byte; the rest holds times, random names or the run's id.
SAME_BYTES = re.compile(
    r"^data/(raw|volumes|resampled|datalists)/.*|.*/(masks/.*|.*_1)\.nii\.gz$|.*/models/train/model.*\.pt$"
)
# Pages of one run, and what MLflow and the system keep.
VARIES = re.compile(r"\.history/|/docs/|/events/|\.lock$|^(mlflow\.db|mlartifacts|\.voxflow|cache)")


@dataclass(frozen=True)
class Pipeline:
    """The workspace.

    Attributes:
        root: its repository, which is not under git or DVC.
        workspace: its name.
    """

    root: Path
    workspace: str = WORKSPACE

    @classmethod
    def make(cls, root: Path) -> Pipeline:
        """Write params.yaml and the MMAR's configuration."""
        shutil.copytree(ROOT / "mmars" / WORKSPACE / "config", root / "mmars" / WORKSPACE / "config")
        samples = {WORKSPACE: {"kind": "abdominal_ct", "patients": 6, "seed": 7}}
        (root / "params.yaml").write_text(yaml.safe_dump({"samples": samples, "workspaces": {WORKSPACE: BLOCK}}))
        return cls(root)

    def run(self, stage: str, moment: int | None = None) -> subprocess.CompletedProcess[str]:
        """Run a stage; with a moment, under a killer (see ``tests.stress.doomed``)."""
        doom = [] if moment is None else ["tests.stress.doomed", str(moment)]
        return subprocess.run(
            [sys.executable, "-m", *doom, f"tasks.{stage}", self.workspace],
            cwd=self.root,
            env=os.environ
            | {
                "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}",
                "OMP_NUM_THREADS": "1",
                "MLFLOW_TRACKING_URI": f"sqlite:///{self.root}/mlflow.db",
                "XDG_CACHE_HOME": str(self.root / "cache"),
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=900,
        )

    def outputs(self) -> dict[str, str]:
        """Digest by path of what stages have made; of those files that differ each time, only that they are there."""
        found = {}
        for path in sorted(self.root.rglob("*")):
            name = path.relative_to(self.root).as_posix()
            if path.is_file() and not VARIES.search(name) and not any(path.match(f"*/{p}/**") for p in LEFTOVERS):
                is_same = SAME_BYTES.match(name)
                found[name] = hashlib.sha256(path.read_bytes()).hexdigest()[:12] if is_same else "there"
        return found

    def leftovers(self) -> list[str]:
        """What is half written, anywhere."""
        return sorted(path.relative_to(self.root).as_posix() for p in LEFTOVERS for path in self.root.rglob(p))


def drop_own(stage: str, outputs: dict[str, str]) -> dict[str, str]:
    """Without what a stage takes away when it begins: a training that begins anew clears its own folder."""
    own = re.compile(r"/models/train/|/curves\.csv$" if stage == "train" else r"^$")
    return {name: digest for name, digest in outputs.items() if not own.search(name)}


def describe_table(title: str, rows: Sequence[Sequence[str]]) -> str:
    """Lay rows out for a person; the first holds the heads."""
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(["", title, *lines, ""])
