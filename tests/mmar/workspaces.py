"""Small MMARs as Clara's users have them, with data whose answer can be learnt in seconds."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import numpy as np

from voxflow.files import write_json
from voxflow.geometry import Geometry
from voxflow.volumes import Volume, write_radiograph, write_volume
from voxflow.workspace.create import TEMPLATES

if TYPE_CHECKING:
    from pathlib import Path

PIPELINE = {"data_list_file_path": "{DATASET_JSON}", "data_file_base_dir": "{DATA_ROOT}"}
ROI = [24, 24, 24]


def component(name: str, /, **args: Any) -> dict[str, Any]:
    return {"name": name, "args": args}


def segmentation_mmar(folder: Path, cases: int = 4) -> Path:
    """A bright box on noise, 24³ voxels, in the folder layout of an MMAR."""
    for n in range(cases):
        _write_box(folder / "data", f"box{n}", n)
    items = [{"image": f"box{n}.nii.gz", "label": f"box{n}_label.nii.gz"} for n in range(cases)]
    labels = {"0": "background", "1": "box"}
    datalist = {"labels": labels, "modality": {"0": "CT"}, "training": items[:-2], "validation": items[-2:]}
    return _write(folder, datalist, _segmentation_training(), _segmentation_validation(), "segmentation")


def classification_mmar(folder: Path, cases: int = 12) -> Path:
    """A bright corner or none, 32 x 32 pixels of 16 bit, two findings that exclude each other."""
    for n in range(cases):
        image = np.random.default_rng(n).integers(0, 1000, (32, 32))
        image[:12, :12] += 3000 * (n % 2)
        write_radiograph(folder / "data" / f"x{n}.png", image.astype(np.uint16))
    items = [{"image": f"x{n}.png", "label": [n % 2, 1 - n % 2]} for n in range(cases)]
    datalist = {"label_format": [1, 1], "training": items[:-6], "validation": items[-6:]}
    return _write(folder, datalist, _classification_training(), _classification_validation(), "classification")


def _write(root: Path, datalist: dict[str, Any], train: dict[str, Any], valid: dict[str, Any], task: str) -> Path:
    shutil.copytree(TEMPLATES / "_common" / "commands", root / "commands")
    environment = {
        "DATA_ROOT": (root / "data").as_posix(),
        "DATASET_JSON": "config/dataset_0.json",
        "PROCESSING_TASK": task,
        "MMAR_EVAL_OUTPUT_PATH": "eval",
        "MMAR_CKPT_DIR": "models",
        "PRETRAIN_WEIGHTS_FILE": "",
    }
    write_json(root / "config" / "environment.json", environment)
    write_json(root / "config" / "dataset_0.json", datalist)
    write_json(root / "config" / "config_train.json", train)
    write_json(root / "config" / "config_validation.json", valid)
    return root


def _write_box(folder: Path, name: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    label = np.zeros((24, 24, 24), np.uint8)
    i, j, k = rng.integers(2, 12, 3)
    label[i : i + 9, j : j + 9, k : k + 9] = 1
    image = (label * 100 + rng.normal(50, 15, label.shape)).astype(np.float32)
    geometry = Geometry.from_parts((24, 24, 24), (1, 1, 2), (5, -7, 30))
    write_volume(folder / f"{name}.nii.gz", Volume(image, geometry))
    write_volume(folder / f"{name}_label.nii.gz", Volume(label, geometry))


def _segmentation_training() -> dict[str, Any]:
    load = [
        component("LoadNifti", fields=["image", "label"]),
        component("ConvertToChannelsFirst", fields=["image", "label"]),
        component("ScaleIntensityRange", fields="image", a_min=0, a_max=200, b_min=0.0, b_max=1.0, clip=True),
    ]
    crop = component("FastCropByPosNegRatio", fields="image", label_field="label", size=[16, 16, 16], batch_size=2)
    metric = {"name": "mean_dice", "field": "model", "label_field": "label", "is_key_metric": True}
    return {
        "epochs": 6,
        "num_training_epoch_per_valid": 3,
        "learning_rate": 0.02,
        "multi_gpu": False,
        "train": {
            "model": component("Unet", nf_enc=[4, 8], residual_units=1),
            "loss": {"name": "DiceCE"},
            "optimizer": {"name": "AdamW"},
            "pre_transforms": [*load, crop],
            "image_pipeline": component(
                "SegmentationImagePipelineWithCache",
                **PIPELINE,
                data_list_key="training",
                output_crop_size=[16, 16, 16],
                output_batch_size=2,
                batched_by_transforms=True,
            ),
        },
        "validate": {
            "metrics": [component("ComputeAverageDice", **metric)],
            "pre_transforms": load,
            "image_pipeline": component(
                "SegmentationImagePipeline", **PIPELINE, data_list_key="{DATA_LIST_KEY}", output_crop_size=[-1, -1, -1]
            ),
            "inferer": component("TFScanWindowInferer", roi_size=ROI),
        },
    }


def _segmentation_validation() -> dict[str, Any]:
    """The form of the spleen example that Clara's documents print."""
    names = ["pred_class0", "pred_class1"]
    return {
        "batch_size": 1,
        "pre_transforms": [
            component("LoadNifti", fields="image"),
            component("ConvertToChannelsFirst", fields="image"),
            component("ScaleIntensityRange", fields="image", a_min=0, a_max=200, b_min=0.0, b_max=1.0, clip=True),
        ],
        "post_transforms": [
            component("ArgmaxAcrossChannels", fields="model"),
            component("SplitBasedOnLabel", field="model", label_names=names),
            component("CopyProperties", fields=[*names, "model"], from_field="image", properties=["affine"]),
        ],
        "label_transforms": [
            component("LoadNifti", fields="label"),
            component("ConvertToChannelsFirst", fields="label"),
            component("SplitBasedOnLabel", field="label", label_names=["label_class0", "label_class1"]),
        ],
        "writers": [
            component("WriteNifti", field="model", dtype="uint8", write_path="{MMAR_EVAL_OUTPUT_PATH}"),
            component("WriteNifti", field="pred_class1", dtype="uint8", write_path="{MMAR_EVAL_OUTPUT_PATH}"),
        ],
        "val_metrics": [
            component(
                "ComputeAverageDice",
                name="mean_dice",
                field="pred_class1",
                label_field="label_class1",
                report_path="{MMAR_EVAL_OUTPUT_PATH}",
            )
        ],
        "inferer": component("TFScanWindowInferer", roi_size=ROI, batch_size=3),
        "model_loader": component("FrozenGraphModelLoader", model_file_path="{MMAR_CKPT_DIR}/model.trt.pb"),
    }


def _classification_training() -> dict[str, Any]:
    load = [component("LoadPng", fields=["image"]), component("CenterData", fields="image")]
    pipeline = {**PIPELINE, "output_crop_size": [32, 32], "output_batch_size": 4}
    preds = {"field": "binary_preds", "label_field": "binary_labels"}
    return {
        "epochs": 8,
        "num_training_epoch_per_valid": 8,
        "learning_rate": 0.01,
        "train": {
            "model": component("DenseNet", init_features=8, growth_rate=4, block_config=[1, 1]),
            "loss": {"name": "BinaryClassificationLoss"},
            "optimizer": {"name": "Adam"},
            "pre_transforms": load,
            "aux_ops": [component("ComputeBinaryPreds"), component("ComputeAccuracy", tag="accuracy")],
            "image_pipeline": component("ClassificationImagePipeline", **pipeline, data_list_key="training"),
        },
        "validate": {
            "pre_transforms": load,
            "metrics": [
                component("ComputeAUC", name="Average_AUC", auc_average="macro", is_key_metric=True, **preds),
                component("ComputeAUC", name="Nodule", class_index=0, **preds),
                component("ComputeAUC", name="Mass", class_index=1, **preds),
            ],
            "image_pipeline": component("ClassificationImagePipeline", **pipeline, data_list_key="validation"),
            "inferer": {"name": "TFSimpleInferer"},
        },
    }


def _classification_validation() -> dict[str, Any]:
    judged = {"field": "model", "label_field": "label"}
    return {
        "batch_size": 4,
        "pre_transforms": [component("LoadPng", fields=["image"]), component("CenterData", fields="image")],
        "val_metrics": [
            component("ComputeAUC", name="Average_AUC", auc_average="macro", **judged),
            component("ComputeAUC", name="Nodule", class_index=0, field="binary_preds", label_field="binary_labels"),
            component("ComputeAverage", name="mean_accuracy", field="accuracy"),
        ],
        "writers": [component("WriteClassificationResults", field="model", write_path="{MMAR_EVAL_OUTPUT_PATH}")],
        "inferer": {"name": "TFSimpleInferer"},
        "model_loader": component("FrozenGraphModelLoader", model_file_path="{MMAR_CKPT_DIR}/model.trt.pb"),
    }


def brats_experiment(folder: Path, cases: int = 3) -> Path:
    """A TLT 2 experiment in the form of the guide's BraTS tutorial: four channels in, three nested regions out."""
    data = folder / "data"
    geometry = Geometry.from_parts((16, 16, 16), (1, 1, 1), (3, 4, 5))
    for n in range(cases):
        label = np.zeros((16, 16, 16), np.uint8)
        label[3:13, 3:13, 3 + n : 13] = 2
        label[5:11, 5:11, 5:11] = 1
        label[6:10, 6:10, 6:10] = 4
        noise = np.random.default_rng(n).normal(0, 5, (4, *label.shape))
        for channel, name in enumerate(("t1c", "t1", "t2", "flair")):
            image = (label > 0) * 60 + (label == (1, 4, 2, 2)[channel]) * 60 + 50 + noise[channel]
            write_volume(data / f"p{n}" / f"p{n}_{name}.nii.gz", Volume(image.astype(np.float32), geometry))
        write_volume(data / f"p{n}" / f"p{n}_seg.nii.gz", Volume(label, geometry))
    images = [[f"p{n}/p{n}_{name}.nii.gz" for name in ("t1c", "t1", "t2", "flair")] for n in range(cases)]
    items = [{"image": image, "label": f"p{n}/p{n}_seg.nii.gz"} for n, image in enumerate(images)]
    write_json(folder / "datalist.json", {"training": items[:-1], "validation": items[-1:]})
    write_json(folder / "config_brats.json", _brats_training())
    write_json(folder / "config_validation.json", _brats_validation())
    return folder


def _brats_training() -> dict[str, Any]:
    load = [
        {"name": "transforms.LoadNifty", "fields": ["image", "label"]},
        {"name": "transforms.BratsConvertLabels", "fields": ["label"], "classes": ["TC", "WT", "ET"]},
    ]
    normalise = {"name": "transforms.NormalizeNonzeroIntensities", "fields": "image"}
    size = {"size": [16, 16, 16], "fields": ["image", "label"]}
    tags = ["dice", "dice_tc", "dice_wt", "dice_et"]
    means = [{"name": "MetricAverage", "tag": f"mean_{tag}", "applied_key": f"val_{tag}"} for tag in tags]
    return {
        "num_channels": 4,
        "num_label_channels": 3,
        "num_classes": 3,
        "batch_size": 1,
        "epochs": 8,
        "num_workers": 2,
        "network_input_size": [16, 16, 16],
        "num_training_epoch_per_valid": 4,
        "record_step": "every_epoch",
        "use_scanning_window": False,
        "continue_from_checkpoint_epoch": False,
        "multi_gpu": False,
        "net_config": {
            "name": "SegmResnet",
            "use_vae": False,
            "blocks_down": "1,1",
            "blocks_up": "1",
            "init_filters": 8,
            "use_groupnorm": True,
            "use_groupnormG": 8,
            "dropout_prob": 0.0,
            "final_activation": "sigmoid",
        },
        "auxiliary_outputs": [
            {
                "name": "common.metrics.metrics.dice_metric_masked_output",
                "is_onehot_targets": True,
                "is_independent_predictions": True,
                "tags": tags,
            }
        ],
        "train": {
            "loss": {"name": "losses.dice_loss", "squared_pred": True, "is_onehot_targets": True},
            "optimizer": {"name": "Adam", "lr": 0.01},
            "lr_policy": {"name": "lr_policy.ReduceLR_Poly", "poly_power": 0.9},
            "pre_transforms": [
                *load,
                {"name": "transforms.CropSubVolumeRandomWithinBounds", **size},
                {"name": "transforms.FlipAxisRandom", "fields": ["image", "label"], "axis": [0, 1, 2]},
                normalise,
            ],
        },
        "validate": {
            "pre_transforms": [*load, {"name": "transforms.CropSubVolumeCenter", **size}, normalise],
            "metrics": [means[0] | {"stopping_metric": True}, *means[1:]],
        },
    }


def _brats_validation() -> dict[str, Any]:
    regions = ["TC", "WT", "ET"]
    spacing = {"applied_key": "model", "resolution": [1.0, 1.0, 1.0], "target_resolution": "image_resolution"}
    return {
        "input_nodes": {"image": "NV_INPUTALL_ITERATORGETNEXT"},
        "output_nodes": {"model": "NV_OUTPUT_LABEL"},
        "batch_size": 1,
        "pre_transforms": [
            {
                "name": "transforms.LoadResolutionFromNifty",
                "applied_key": "image",
                "new_key": "image_resolution",
            },
            {"name": "transforms.LoadNifty", "fields": "image"},
            {"name": "transforms.NormalizeNonzeroIntensities", "fields": "image"},
            {
                "name": "transforms.ResampleVolume",
                "applied_key": "image",
                "resolution": "image_resolution",
                "target_resolution": [1.0, 1.0, 1.0],
            },
        ],
        "post_transforms": [
            {"name": "transforms.ThresholdValues", "applied_key": "model", "threshold": 0.5},
            {"name": "transforms.ResampleVolume", **spacing},
            {"name": "transforms.SplitAcrossChannels", "applied_key": "model", "channel_names": regions},
        ],
        "label_transforms": [
            {"name": "transforms.LoadNifty", "fields": "label"},
            {"name": "transforms.BratsConvertLabels", "fields": ["label"], "classes": regions},
            {
                "name": "transforms.SplitAcrossChannels",
                "applied_key": "label",
                "channel_names": [f"{region}_label" for region in regions],
            },
        ],
        "writers": [
            {"applied_key": region, "name": "writers.WriteNiftyResults", "dtype": "uint8"} for region in regions
        ],
        "val_metrics": [
            {
                "name": "MetricAverageFromArrayDice",
                "tag": f"mean_dice_{region.lower()}",
                "applied_key": region,
                "label_key": f"{region}_label",
            }
            for region in regions
        ],
    }
