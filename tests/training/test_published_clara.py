"""Clara 3 configurations in the form that NVIDIA published them: references, aliases, smart cache, AutoML's base."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.training.conftest import workflow_of
from voxflow.tracking import NullTracker
from voxflow.training import DataFacts, TrainOptions, load_model, train

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from voxflow.datalist import Datalist

BOTH = ["image", "label"]
PATCH = [16, 16, 16]
PLACES = {"data_list_file_path": "{DATASET_JSON}", "data_file_base_dir": "{DATA_ROOT}", "output_crop_size": PATCH}
RANGE = {"a_min": -57, "a_max": 164, "b_min": 0.0, "b_max": 1.0, "clip": True}


def step(name: str, fields: Any, **args: Any) -> dict[str, Any]:
    return {"name": name, "args": {"fields": fields, **args}}


def head() -> list[dict[str, Any]]:
    return [
        step("LoadNifti", BOTH),
        step("ConvertToChannelsFirst", BOTH),
        step("ScaleByResolution#ScaleImg", ["image"], target_resolution=[1.0, 1.0, 1.0]),
        step("ScaleByResolution#ScaleLb", ["label"], is_label=True, target_resolution=[1.0, 1.0, 1.0]),
        step("ScaleIntensityRange", "image", **RANGE),
    ]


def base() -> dict[str, Any]:
    """What the configurations share."""
    metric = {"name": "val_mean_dice", "is_key_metric": True, "field": "model", "label_field": "label"}
    names = ("LoadNifti", "ConvertToChannelsFirst", "ScaleImg", "ScaleLb", "ScaleIntensityRange")
    whole = {**PLACES, "data_list_key": "validation", "output_batch_size": 1, "num_workers": 2, "prefetch_size": 2}
    return {
        "epochs": 1,
        "num_training_epoch_per_valid": 1,
        "learning_rate": 0.002,
        "multi_gpu": False,
        "dynamic_input_shape": False,
        "use_amp": False,
        "train": {
            "loss": {"name": "Dice"},
            "optimizer": {"name": "Adam"},
            "model": {"name": "Unet", "args": {"num_classes": 2, "nf_enc": "4,8,8,8", "nf_dec": "8,8,8,8,8,4,4"}},
            "pre_transforms": head(),
            "image_pipeline": {
                "name": "SegmentationImagePipeline",
                "args": {**PLACES, "data_list_key": "training", "output_batch_size": 2, "batched_by_transforms": False},
            },
        },
        "validate": {
            "metrics": [{"name": "ComputeAverageDice", "args": metric}],
            "pre_transforms": [{"ref": name} for name in names],
            "image_pipeline": {"name": "SegmentationImagePipeline", "args": whole},
            "inferer": {"name": "TFScanWindowInferer", "args": {"roi_size": PATCH}},
        },
    }


def smart_cache() -> dict[str, Any]:
    """Batches by transforms, a cache of Keras's loader, NovoGrad."""
    config = base()
    crop = {"size": PATCH, "label_field": "label", "pos": 1, "neg": 1, "batch_size": 3, "batches_to_gen_at_once": 48}
    train = config["train"]
    train["optimizer"] = {"name": "NovoGrad"}
    train["pre_transforms"] += [
        step("FastCropByPosNegRatio", "image", **crop),
        step("ScaleIntensityOscillation", "image", magnitude=0.10),
    ]
    train["batch_transforms"] = [step("MergeBatchDims", BOTH)]
    train["image_pipeline"]["name"] = "SegmentationKerasImagePipelineWithCache"
    train["image_pipeline"]["args"] |= {"num_cache_objects": 3, "replace_percent": 0.25, "multiprocessing": True}
    return config


def automl_base() -> dict[str, Any]:
    """A sigmoid over index masks, an auxiliary Dice as key metric, a random crop in validation."""
    config = base()
    network = {"num_classes": 2, "use_vae": False, "blocks_down": "1,1,1", "blocks_up": "1,1", "init_filters": 2}
    norm = {"use_group_norm": True, "use_group_normG": 8, "reg_weight": 1e-5, "dropout_prob": 0.2}
    train, validate = config["train"], config["validate"]
    train["model"] = {"name": "SegResnet", "args": {**network, **norm, "final_activation": "sigmoid"}}
    train["loss"]["args"] = {"squared_pred": True, "is_onehot_targets": False, "skip_background": True}
    train["aux_ops"] = [{"name": "DiceMaskedOutput", "args": {"skip_background": True, "tags": ["val_mean_dice_tc"]}}]
    train["lr_policy"] = {"name": "ReducePoly", "args": {"poly_power": 0.99}}
    train["pre_transforms"] += [
        step("CropFixedSizeRandomCenter", BOTH, size=PATCH),
        step("RandomSpatialFlip", BOTH),
        step("ScaleShiftIntensity", "image", scale=0.1, shift=0.1),
        step("ScaleIntensityOscillation", "image", magnitude=0.10, probability=0.1),
        step("AddGaussianNoise", "image", probability=0.10),
    ]
    train["image_pipeline"]["args"] |= {"output_image_channels": 1, "output_label_channels": 1}
    average = {"name": "val_mean_dice", "is_key_metric": True, "field": "val_mean_dice_tc"}
    validate["metrics"] = [{"name": "ComputeAverage", "args": average}]
    validate["pre_transforms"].append({"ref": "CropFixedSizeRandomCenter"})
    validate["inferer"] = {"name": "TFSimpleInferer"}
    return config


def federated_base() -> dict[str, Any]:
    """The focal loss, a handler, a zoom and a crop that name an image field."""
    config = base()
    fields = {"image_field": "image", "label_field": "label"}
    limits = {"lower_limits": [0.9, 0.9, 0.9], "upper_limits": [1.1, 1.1, 1.1]}
    turned = {"deform": False, "rotation": False, "rotation_degree": 20, "scale": False, "scale_factor": 0.1}
    config["train"]["handlers"] = [{"name": "StatsHandler"}]
    config["train"]["loss"] = {"name": "Focal"}
    config["train"]["pre_transforms"] += [
        {"name": "RandomZoom", "args": {**fields, **limits}},
        {"name": "FastPosNegRatioCropROI", "args": {"size": PATCH, **fields, **turned, "pos": 1, "neg": 1}},
        step("RandomSpatialFlip", BOTH),
    ]
    return config


@pytest.mark.parametrize("make", [smart_cache, automl_base, federated_base])
def test_published_configurations_train(
    make: Callable[[], dict[str, Any]], cubes: Datalist, options: TrainOptions, tmp_path: Path
) -> None:
    workflow = workflow_of(make(), tmp_path)
    facts = DataFacts(class_names=("background", "cube"))
    result = train(workflow, cubes, options, tmp_path, facts=facts, tracker=NullTracker())
    assert (result.ending, result.key_metric) == ("finished", "val_mean_dice")
    assert 0 <= result.best_metric <= 1
    network, spec = load_model(tmp_path / "model.pt")
    assert spec.spacing_mm == (1.0, 1.0, 1.0)
    assert [transform.name for transform in spec.preprocess] == ["ScaleIntensityRange"]
    assert not network.training
