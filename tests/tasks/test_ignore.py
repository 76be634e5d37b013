"""Voxels and classes that nobody labelled, from nnU-Net's folder through all stages to masks and scores."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.layouts.datasets import Patient, write_nnunet
from tests.tables import read_table
from tests.tasks.stage_runs import STAGES, new_workspace, read_array, run_stages

if TYPE_CHECKING:
    from pathlib import Path

IGNORE = 3


def make_patients() -> list[Patient]:
    """Seven patients with a bright ball (1) around a dark one (2); the lowest slices were not labelled."""
    patients = []
    for seed in range(7):
        generator = np.random.default_rng(seed)
        centre = np.array([8, 8, 8]) + generator.integers(-1, 2, 3)
        distance = np.sqrt(((np.indices((16, 16, 16)) - centre[:, None, None, None]) ** 2).sum(0))
        label = np.select([distance < 3, distance < 6], [2, 1]).astype(np.uint8)
        image = generator.normal(100, 5, label.shape) + 80 * (label == 1) - 80 * (label == 2)
        if seed != 3:
            label[:, :, :4] = IGNORE
        patients.append(Patient(f"p{seed}", (image.astype(np.int16),), label))
    return patients


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository in which all stages have run."""
    root = tmp_path_factory.mktemp("ignore")
    (root / "params.yaml").write_text("workspaces: {}\n")
    write_nnunet(root / "raw", make_patients(), ("MR",))
    description = root / "raw" / "Dataset001_TUMOUR" / "dataset.json"
    content = json.loads(description.read_text())
    content["labels"] = {"background": 0, "shell": 1, "core": 2, "ignore": IGNORE}
    del content["regions_class_order"]
    description.write_text(json.dumps(content))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        run_stages(STAGES, new_workspace("ball", 12, 12, ["torchscript"]), patch, "ball")
    return root


def test_ignore_value_is_no_class_of_the_model(stages: Path) -> None:
    import torch

    spec = json.loads(torch.load(stages / "mmars/ball/models/train/model.pt", weights_only=True)["spec"])
    assert spec["class_names"] == ["background", "shell", "core"]
    fingerprint = json.loads((stages / "data/resampled/ball/fingerprint.json").read_text())
    assert [item["value"] for item in fingerprint["classes"]] == [1, 2]
    datalist = json.loads((stages / "data/datalists/ball/dataset_0.json").read_text())
    assert datalist["ignore"] == IGNORE


def test_validation_takes_the_value_and_counts_its_voxels(stages: Path) -> None:
    truth = {patient.name: patient.label for patient in make_patients()}
    for row in read_table(stages / "data/quality/ball/measurements.csv"):
        label = truth[row["case"]]
        assert int(float(row["ignored_voxels"])) == (label == IGNORE).sum()
        assert int(float(row["label_voxels"])) == ((label == 1) | (label == 2)).sum()


def test_scores_are_of_the_labelled_voxels_as_numpy_counts_them(stages: Path) -> None:
    out = stages / "mmars/ball/eval/test"
    truth = {patient.name: patient.label for patient in make_patients()}
    rows = read_table(out / "per_case.csv")
    assert len(rows) == 2
    for row in rows:
        mask, label = read_array(out / "masks" / f"{row['case']}.nii.gz"), truth[row["case"]]
        known = label != IGNORE
        assert int(row["ignored_voxels"]) == (~known).sum()
        for value, name in ((1, "shell"), (2, "core")):
            predicted, true = (mask == value)[known], (label == value)[known]
            dice = 2 * (predicted & true).sum() / (predicted.sum() + true.sum())
            assert float(row[f"dice_{name}"]) == pytest.approx(dice, abs=1e-6)  # the table has six digits
    numbers = json.loads((stages / "data/metrics/ball/evaluate.json").read_text())
    assert numbers["ignored_voxels"] == sum(int(row["ignored_voxels"]) for row in rows)
    assert numbers["dice_shell"] > 0.7


def test_masks_never_hold_the_value_and_the_network_judges_what_nobody_labelled(stages: Path) -> None:
    out = stages / "mmars/ball/eval/infer"
    for row in read_table(out / "preds_outputs.csv"):
        mask = read_array(out / row["mask"])
        assert set(np.unique(mask)) <= {0, 1, 2}
        # The ball goes on below the slices that were labelled, and no background was learnt there.
        assert (mask[:, :, 2:4] > 0).any()
