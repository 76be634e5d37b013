"""The hippocampus workspace on real images, by its own scripts: as good as what was published, on a CPU."""

from __future__ import annotations

import json
import random
import re
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.workspace.test_zoo_training import run_script
from voxflow.volumes import read_volume
from voxflow.workspace import create_workspace

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SEED = 4
PUBLISHED = {"head": 0.858, "body": 0.846}


def split(source: Path) -> dict[str, Any]:
    """80 of the 100 to learn from, 8 of them to choose the best model by; the other 20 nobody sees before the end."""
    names = sorted(path.name for path in (source / "labels").glob("*.nii.gz"))
    random.Random(SEED).shuffle(names)
    items = [{"image": f"images/{name}", "label": f"labels/{name}"} for name in names]
    labels = {"0": "background", "1": "head", "2": "body"}
    return {"labels": labels, "training": items[:72], "validation": items[72:80], "testing": items[80:]}


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_the_scripts_reach_the_published_dice(tmp_path: Path, real_data: Callable[[str], Path]) -> None:
    source = real_data("hippocampus")
    mmar = create_workspace("hippo", source, "segmentation_hippocampus", root=tmp_path, variant="cpu")
    (mmar / "config/dataset_0.json").write_text(json.dumps(split(source)))
    began = time.monotonic()
    run_script(mmar, "train.sh", limit=2000)
    run_script(mmar, "export.sh")
    run_script(mmar, "validate.sh", "DATA_LIST_KEY=testing")
    run_script(mmar, "infer.sh", "DATA_LIST_KEY=testing")
    minutes = (time.monotonic() - began) / 60
    scores = json.loads((mmar / "eval/metrics.json").read_text())
    measured = {name: scores[f"mean_dice_{name}"] for name in PUBLISHED}
    dice_text = ", ".join(f"{name} {value:.4f}" for name, value in measured.items())
    assert minutes < 30, f"{minutes:.1f} minutes, Dice {dice_text}"
    assert np.mean(list(measured.values())) >= 0.86, dice_text
    # The masks that were written say the same, by their own count.
    assert _dice_of_masks(mmar, source) == pytest.approx(measured, abs=1e-4)
    report = (mmar / "eval/mean_dice_head_dice_report.txt").read_text()
    assert len(re.findall(r"^hippocampus_\d+", report, re.MULTILINE)) == 20


def _dice_of_masks(mmar: Path, source: Path) -> dict[str, float]:
    """Mean Dice of each class over the test cases, from the files alone."""
    dice: dict[str, list[float]] = {name: [] for name in PUBLISHED}
    for item in split(source)["testing"]:
        name = item["image"].removeprefix("images/").removesuffix(".nii.gz")
        predicted = read_volume(mmar / "eval" / name / f"{name}_model.nii.gz").array
        truth = read_volume(source / item["label"]).array
        for value, scores in enumerate(dice.values(), start=1):
            overlap = np.logical_and(predicted == value, truth == value).sum()
            scores.append(2 * overlap / ((predicted == value).sum() + (truth == value).sum()))
    return {name: float(np.mean(scores)) for name, scores in dice.items()}
