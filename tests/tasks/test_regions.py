"""Nested regions and two channels, from nnU-Net's folder through all stages to masks and scores."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
import yaml

from tests.layouts.datasets import REGIONS, TWO, Patient, write_nnunet
from tests.tables import read_table
from tests.tasks.stage_runs import STAGES, new_workspace, read_array, run_stages
from voxflow.engines import open_engine
from voxflow.geometry import Geometry
from voxflow.inference import InferOptions, find_cases, infer_cases
from voxflow.prediction import PredictOptions, open_ensemble, predict_volume
from voxflow.volumes import Volume

if TYPE_CHECKING:
    from pathlib import Path

    from voxflow.engines import EngineChoice


def make_patients() -> list[Patient]:
    """Eight patients with a round tumour of three nested parts, which differ in two contrasts."""
    patients = []
    for seed in range(8):
        generator = np.random.default_rng(seed)
        centre = np.array([10, 10, 8]) + generator.integers(-2, 3, 3)
        distance = np.sqrt(((np.indices((20, 20, 16)) - centre[:, None, None, None]) ** 2).sum(0))
        label = np.select([distance < 2, distance < 4, distance < 7], [4, 1, 2]).astype(np.uint8)
        first = generator.normal(100, 10, label.shape) + 80 * (label > 0)
        second = generator.normal(100, 10, label.shape) + 80 * (label == 1) - 80 * (label == 4)
        patients.append(Patient(f"p{seed}", (first.astype(np.int16), second.astype(np.int16)), label))
    return patients


PATIENT = make_patients()[0]


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository in which all stages have run."""
    root = tmp_path_factory.mktemp("regions")
    (root / "params.yaml").write_text("workspaces: {}\n")
    write_nnunet(root / "raw", make_patients(), TWO)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        run_stages(STAGES, new_workspace("brain", 40, 20, ["torchscript", "onnx", "openvino"]), patch)
    return root


def test_model_file_knows_its_regions(stages: Path) -> None:
    import torch

    spec = json.loads(torch.load(stages / "mmars/brain/models/train/model.pt", weights_only=True)["spec"])
    assert spec["class_names"] == list(REGIONS)
    assert spec["regions"] == [list(values) for values in REGIONS.values()]
    assert (spec["activation"], spec["in_channels"]) == ("sigmoid", 2)
    assert spec["channels"] == list(TWO)
    assert "rules" not in spec


def test_scores_are_of_regions_as_numpy_counts_them(stages: Path) -> None:
    out = stages / "mmars/brain/eval/test"
    truth = {patient.name: patient.label for patient in make_patients()}
    rows = read_table(out / "per_case.csv")
    assert len(rows) == 2
    for row in rows:
        mask = read_array(out / "masks" / f"{row['case']}.nii.gz")
        for name, values in REGIONS.items():
            predicted, true = np.isin(mask, values), np.isin(truth[row["case"]], values)
            dice = 2 * (predicted & true).sum() / (predicted.sum() + true.sum())
            assert float(row[f"dice_{name}"]) == pytest.approx(dice, abs=1e-6)  # the table has six digits
    numbers = json.loads((stages / "data/metrics/brain/evaluate.json").read_text())
    assert numbers["dice_whole tumour"] > 0.8


def test_every_engine_agrees_by_region(stages: Path) -> None:
    parity = json.loads((stages / "mmars/brain/models/parity.json").read_text())
    for engine in ("torchscript", "onnxruntime", "openvino"):
        assert parity[engine]["published"] == 1
        assert parity[engine]["min_dice"] > 0.99


def test_masks_hold_the_values_of_the_data_set_and_the_table_the_regions(stages: Path) -> None:
    out = stages / "mmars/brain/eval/infer"
    rows = read_table(out / "preds_outputs.csv")
    assert len(rows) == 2
    for row in rows:
        mask = read_array(out / row["mask"])
        assert set(np.unique(mask)) <= {0, 1, 2, 4}
        for name, values in REGIONS.items():
            assert float(row[f"{name}_ml"]) == pytest.approx(np.isin(mask, values).sum() * 3 / 1000)


def test_datalist_names_the_regions(stages: Path) -> None:
    content = json.loads((stages / "data/datalists/brain/dataset_0.json").read_text())
    assert content["regions"] == {name: list(values) for name, values in REGIONS.items()}


def test_command_makes_the_stages_masks_of_the_data_sets_own_folder(stages: Path, tmp_path: Path) -> None:
    """Channels of nnU-Net's folder are found by their names; the stage read the converted ones."""
    engine = open_engine(stages / "mmars/brain/models/export")
    inputs = find_cases(stages / "raw", tmp_path, engine.spec)
    expected = sorted((stages / "mmars/brain/eval/infer").glob("*/*.nii.gz"))
    names = {path.parent.name for path in expected}
    cases = [case for case in inputs.cases if case.id in names]
    assert len(cases) == len(expected) == 2
    block = yaml.safe_load((stages / "params.yaml").read_text())["workspaces"]["brain"]
    infer_cases(engine, cases, tmp_path, InferOptions.model_validate(block["infer"]))
    for path in expected:
        np.testing.assert_array_equal(read_array(tmp_path / path.parent.name / path.name), read_array(path))


@pytest.mark.parametrize("name", ["torchscript", "onnxruntime", "openvino"])
def test_engines_agree_mirrored_and_in_an_ensemble(stages: Path, name: EngineChoice) -> None:
    folder = stages / "mmars/brain/models"
    torch_engine, engine = open_engine(folder / "train/model.pt", "torch"), open_engine(folder / "export", name)
    assert engine.spec == torch_engine.spec
    assert engine.spec.channels == TWO
    volumes = [
        Volume(image.astype(np.float32), Geometry.from_parts(image.shape, (1, 1, 3))) for image in PATIENT.images
    ]
    options = PredictOptions(flips=("i", "j"))
    expected = predict_volume(torch_engine, volumes, options).mask.array
    assert (predict_volume(engine, volumes, options).mask.array == expected).mean() > 0.999
    ensemble = open_ensemble([folder / "export", folder / "export"], name)
    assert (predict_volume(ensemble, volumes, options).mask.array == expected).mean() > 0.999
    swapped = predict_volume(engine, volumes[::-1], options).mask.array
    assert (swapped == expected).mean() < 0.99
