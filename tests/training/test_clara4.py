"""A Clara 4 configuration, from its file to an exported and evaluated model."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from voxflow.config import load_workflow
from voxflow.engines import open_engine
from voxflow.evaluation import EvaluateOptions, evaluate_segmentation
from voxflow.files import write_json
from voxflow.inference import InferenceCase
from voxflow.tracking import NullTracker
from voxflow.training import DataFacts, TrainOptions, load_model, train

if TYPE_CHECKING:
    from voxflow.config import Workflow
    from voxflow.datalist import Datalist

EXAMPLES = Path(__file__).parent.parent / "config" / "clara4"
PLACES = {"DATASET_JSON": "x", "DATA_ROOT": "y", "MMAR_CKPT_DIR": "m"}
KEYS = {"TRAIN_DATALIST_KEY": "training", "VAL_DATALIST_KEY": "validation"}
# MONAI's own modules warn of their age.
pytestmark = pytest.mark.filterwarnings("ignore")


def read(config: dict[str, Any], folder: Path, **overrides: Any) -> Workflow:
    write_json(folder / "config_train.json", config)
    return load_workflow(folder / "config_train.json", overrides={**PLACES, **overrides})


def test_the_spleen_configuration_learns_and_its_model_is_exported_and_evaluated(
    cubes: Datalist, options: TrainOptions, tmp_path: Path
) -> None:
    config = copy.deepcopy(json.loads((EXAMPLES / "segmentation_ct_spleen.json").read_text()))
    # The same file for a machine without a GPU and objects of 9 voxels.
    small = {
        "train.model.args.channels": [4, 8],
        "train.model.args.strides": [2],
        "train.pre_transforms[2].args.a_min": 0,
        "train.pre_transforms[4].args.spatial_size": [16, 16, 16],
        "validate.inferer.args.roi_size": [16, 16, 16],
        "train.lr_scheduler.args.step_size": 8,
        **KEYS,
    }
    workflow = read(config, tmp_path, epochs=10, num_interval_per_valid=5, learning_rate=0.02, **small)
    facts = DataFacts(class_names=("background", "cube"), modality="CT")
    result = train(workflow, cubes, options, tmp_path / "out", facts=facts, tracker=NullTracker())
    assert result.key_metric == "val_mean_dice"
    assert result.best_metric > 0.6
    assert {"val_mean_dice", "val_acc"} <= result.metrics.keys()
    curves = (tmp_path / "out/curves.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in curves[1:]] == ["5", "10"]
    assert [float(row.split(",")[2]) for row in curves[1:]] == [0.02, pytest.approx(0.002)]

    _, spec = load_model(tmp_path / "out/model.pt")
    assert [t.name for t in spec.preprocess] == ["monai:ScaleIntensityRanged"]
    assert spec.window == (16, 16, 16)
    assert spec.overlap == 0.5

    from voxflow.export import ExportOptions, export_model

    cases = [InferenceCase(case.id, case.image, case.label) for case in cubes.cases("validation")]
    (tmp_path / "export").mkdir()
    report = export_model(
        tmp_path / "out/model.pt", tmp_path / "export", ExportOptions(engines=("torchscript", "onnx")), cases
    )
    report.require_published()
    (tmp_path / "eval").mkdir()
    engine = open_engine(tmp_path / "export", "onnxruntime")
    evaluation = evaluate_segmentation(engine, cases, tmp_path / "eval", EvaluateOptions())
    # Inference does not crop to the foreground as validation does, so that windows lie otherwise.
    assert evaluation.metrics["mean_dice"] == pytest.approx(result.best_metric, abs=0.1)


def test_the_radiographs_configuration_trains(corners: Datalist, options: TrainOptions, tmp_path: Path) -> None:
    config = json.loads((EXAMPLES / "classification_chestxray.json").read_text())
    small = {
        "train.model": {
            "name": "DenseNet",
            "args": {"spatial_dims": 2, "in_channels": 1, "out_channels": 2, "init_features": 8, "growth_rate": 4,
                     "block_config": [1, 1]},
        },
        "train.pre_transforms[2].args.spatial_size": [24, 24],
        "train.dataloader.args.batch_size": 4,
    }  # fmt: skip
    workflow = read(config, tmp_path, epochs=2, num_interval_per_valid=1, **small)
    facts = DataFacts(class_names=("corner", "none"))
    result = train(workflow, corners, options, tmp_path / "out", facts=facts, tracker=NullTracker())
    assert result.epochs == 2
    assert 0 <= result.metrics["Average_AUC"] <= 1
    _, spec = load_model(tmp_path / "out/model.pt")
    assert (spec.size, spec.activation) == ((24, 24), "sigmoid")
    from voxflow.prediction import predict_radiograph
    from voxflow.volumes import read_radiograph

    chances = predict_radiograph(
        open_engine(tmp_path / "out/model.pt"), read_radiograph(corners.cases("training")[0].image[0])
    )
    assert np.isfinite(list(chances.values())).all()
