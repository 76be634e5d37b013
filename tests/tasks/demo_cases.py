"""A small workspace "demo" in the working directory: params.yaml and what the stage convert would have left."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import yaml

from tasks.common.stage import main
from voxflow.files import write_json
from voxflow.geometry import Geometry
from voxflow.volumes import Volume, write_radiograph, write_volume

if TYPE_CHECKING:
    from types import ModuleType

    import pytest

VOLUMES = Path("data/volumes/demo")
GRID = Geometry.from_parts((12, 10, 6), (1.0, 1.0, 3.0), (-50.0, 20.0, 7.0), (-1, 0, 0, 0, -1, 0, 0, 0, 1))


def run(program: ModuleType, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any] | None = None) -> int:
    """Run a stage's program as DVC does, in this process; options are its key of params.yaml."""
    name = program.__name__.rpartition(".")[2]
    findings = Path(VOLUMES / "images").exists() and any(VOLUMES.glob("images/*.png"))
    block = {"task": "classification" if findings else "segmentation", "source": "raw", name: options or {}}
    Path("params.yaml").write_text(yaml.safe_dump({"workspaces": {"demo": block}}))
    monkeypatch.setattr(sys, "argv", [name, "demo"])
    return main(name, program.run)


def write_volumes(folder: Path = VOLUMES, cases: int = 8, unlabelled: int = 1) -> pd.DataFrame:
    """CT cases of as many patients; the last ones have no label."""
    rows = []
    for n in range(cases):
        case = f"p{n}_1"
        values = np.random.default_rng(n).integers(-1000, 300, GRID.size).astype(np.int16)
        write_volume(folder / f"images/{case}.nii.gz", Volume(values, GRID))
        is_labelled = n < cases - unlabelled
        if is_labelled:
            mask = np.zeros(GRID.size, dtype=np.uint8)
            mask[3:8, 3:7, 2:5] = 1
            write_volume(folder / f"labels/{case}.nii.gz", Volume(mask, GRID))
        label = f"labels/{case}.nii.gz" if is_labelled else ""
        rows.append(
            {"case": case, "patient": f"p{n}", "modality": "CT", "image": f"images/{case}.nii.gz", "label": label}
        )
    table = pd.DataFrame(rows).assign(
        size="12 10 6", spacing_mm="1 1 3", orientation="RAS", study_uid="1.20", source=""
    )
    table.to_csv(folder / "cases.csv", index=False)
    write_json(folder / "labels.json", {"0": "background", "1": "spleen"})
    return table


def write_radiographs(folder: Path = VOLUMES, cases: int = 40) -> pd.DataFrame:
    """Radiographs of 20 patients, 16 bit, with the findings mass and effusion."""
    rows = []
    for n in range(cases):
        pixels = np.random.default_rng(n).integers(0, 60000, (30, 40)).astype(np.uint16)
        write_radiograph(folder / f"images/c{n}.png", pixels)
        rows.append(
            {"case": f"c{n}", "patient": f"p{n // 2}", "modality": "DX", "image": f"images/c{n}.png", "label": ""}
        )
    table = pd.DataFrame(rows).assign(size="30 40", spacing_mm="0.5 0.25", orientation="")
    table["finding:mass"] = [n % 2 for n in range(cases)]
    table["finding:effusion"] = [int(n % 12 == 0) for n in range(cases)]
    table.to_csv(folder / "cases.csv", index=False)
    write_json(folder / "labels.json", {"findings": ["mass", "effusion"]})
    return table
