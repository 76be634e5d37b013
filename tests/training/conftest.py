"""Shared fixtures: a tiny data set whose answer can be learnt in seconds, and its configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from voxflow.config import Workflow, load_workflow
from voxflow.datalist import Case, Datalist
from voxflow.files import write_json
from voxflow.geometry import Geometry
from voxflow.training import DataFacts, TrainOptions
from voxflow.volumes import Volume, write_radiograph, write_volume

if TYPE_CHECKING:
    from pathlib import Path

DATA = {"data_list_file_path": "x", "data_file_base_dir": "y"}
PLACES = {"DATASET_JSON": "x", "DATA_ROOT": "y"}


def volume_config() -> dict[str, Any]:
    """Bright cubes on noise, 16³ patches, a network of two levels."""
    head = [{"name": "LoadNifti", "args": {"fields": ["image", "label"]}}]
    head.append({"name": "NormalizeNonzeroIntensities", "args": {"fields": "image"}})
    crop = {"fields": "image", "label_field": "label", "size": [16, 16, 16], "batch_size": 2}
    pipeline = {**DATA, "data_list_key": "training", "output_crop_size": [16, 16, 16], "output_batch_size": 2}
    whole = {**DATA, "data_list_key": "validation", "output_crop_size": [-1, -1, -1]}
    metric = {"name": "mean_dice", "field": "model", "label_field": "label", "is_key_metric": True}
    return {
        "epochs": 6,
        "num_training_epoch_per_valid": 2,
        "learning_rate": 0.02,
        "train": {
            "model": {"name": "Unet", "args": {"nf_enc": [4, 8], "residual_units": 1}},
            "loss": {"name": "DiceCE"},
            "optimizer": {"name": "AdamW"},
            "lr_policy": {"name": "OneCycle"},
            "pre_transforms": [*head, {"name": "FastCropByPosNegRatio", "args": crop}],
            "image_pipeline": {"name": "SegmentationImagePipelineWithCache", "args": pipeline},
        },
        "validate": {
            "metrics": [{"name": "ComputeAverageDice", "args": metric}],
            "pre_transforms": head,
            "image_pipeline": {"name": "SegmentationImagePipeline", "args": whole},
            "inferer": {"name": "TFScanWindowInferer", "args": {"roi_size": [16, 16, 16]}},
        },
    }


def radiograph_config() -> dict[str, Any]:
    """A bright corner or none, 32 × 32."""
    head = [{"name": "LoadPng", "args": {"fields": "image"}}, {"name": "CenterData", "args": {"fields": "image"}}]
    pipeline = {**DATA, "output_crop_size": [32, 32], "output_batch_size": 4}
    auc = {"name": "Average_AUC", "field": "binary_preds", "label_field": "binary_labels", "is_key_metric": True}
    return {
        "epochs": 8,
        "num_training_epoch_per_valid": 4,
        "learning_rate": 0.01,
        "train": {
            "model": {"name": "DenseNet", "args": {"init_features": 8, "growth_rate": 4, "block_config": [1, 1]}},
            "loss": {"name": "BinaryClassificationLoss"},
            "optimizer": {"name": "AdamW"},
            "pre_transforms": head,
            "aux_ops": [{"name": "ComputeBinaryPreds"}, {"name": "ComputeAccuracy"}],
            "image_pipeline": {
                "name": "ClassificationImagePipeline",
                "args": {**pipeline, "data_list_key": "training"},
            },
        },
        "validate": {
            "metrics": [
                {"name": "ComputeAUC", "args": auc},
                {"name": "ComputeAverage", "args": {"name": "mean_accuracy", "field": "accuracy"}},
            ],
            "pre_transforms": head,
            "image_pipeline": {
                "name": "ClassificationImagePipeline",
                "args": {**pipeline, "data_list_key": "validation"},
            },
            "inferer": {"name": "TFSimpleInferer"},
        },
    }


def workflow_of(config: dict[str, Any], folder: Path, **overrides: Any) -> Workflow:
    path = folder / "config_train.json"
    write_json(path, config)
    return load_workflow(path, overrides=PLACES | overrides)


def write_cube(folder: Path, name: str, seed: int) -> Case:
    rng = np.random.default_rng(seed)
    label = np.zeros((24, 20, 16), np.uint8)
    i, j, k = rng.integers(2, 8, 3)
    label[i : i + 9, j : j + 9, k : k + 8] = 1
    image = (label * 100 + rng.normal(50, 15, label.shape)).astype(np.float32)
    geometry = Geometry.from_parts((24, 20, 16), (1, 1, 2))
    write_volume(folder / f"{name}.nii.gz", Volume(image, geometry))
    write_volume(folder / f"{name}_label.nii.gz", Volume(label, geometry))
    return Case(name, (folder / f"{name}.nii.gz",), folder / f"{name}_label.nii.gz", name)


def write_corner(folder: Path, name: str, seed: int) -> Case:
    image = np.random.default_rng(seed).integers(0, 1000, (32, 32))
    image[:12, :12] += 3000 * (seed % 2)
    write_radiograph(folder / f"{name}.png", image.astype(np.uint16))
    return Case(name, (folder / f"{name}.png",), (seed % 2, 1 - seed % 2), name)


@pytest.fixture
def options() -> TrainOptions:
    return TrainOptions(accelerator="cpu", threads=1, workers=0, seed=3)


@pytest.fixture
def facts() -> DataFacts:
    return DataFacts(class_names=("background", "cube"), spacing_mm=(1, 1, 2), orientation="LPS", modality="CT")


@pytest.fixture(scope="session")
def cubes(tmp_path_factory: pytest.TempPathFactory) -> Datalist:
    folder = tmp_path_factory.mktemp("cubes")
    cases = tuple(write_cube(folder, f"cube{n}", n) for n in range(6))
    return Datalist(folder / "d.json", folder, {"training": cases[:4], "validation": cases[4:]})


@pytest.fixture(scope="session")
def corners(tmp_path_factory: pytest.TempPathFactory) -> Datalist:
    folder = tmp_path_factory.mktemp("corners")
    cases = tuple(write_corner(folder, f"corner{n}", n) for n in range(16))
    return Datalist(folder / "d.json", folder, {"training": cases[:10], "validation": cases[10:]}, (1, 1))
