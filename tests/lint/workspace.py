"""Two good workspaces to break: volumes and radiographs, small, complete, without a finding."""

from __future__ import annotations

import json
import re
import struct
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from voxflow.geometry import Geometry
from voxflow.volumes import Volume, write_radiograph, write_volume

if TYPE_CHECKING:
    from pathlib import Path

Json = dict[str, Any]
PLACES = {"data_list_file_path": "{DATASET_JSON}", "data_file_base_dir": "{DATA_ROOT}"}
SIZE = (24, 20, 16)


def component(name: str, /, **args: Any) -> Json:
    return {"name": name, "args": args}


def segmentation() -> dict[str, Json]:
    """The files of a segmentation's config/ and its datalist."""
    fields = ["image", "label"]
    window = {"a_min": -57, "a_max": 164, "b_min": 0.0, "b_max": 1.0, "clip": True}
    head = [component("LoadNifti", fields=fields), component("ScaleIntensityRange", fields="image", **window)]
    crop = component("FastCropByPosNegRatio", fields="image", label_field="label", size=[16, 16, 8], batch_size=2)
    flip = component("RandomAxisFlip", fields=fields, probability=0.5)
    dice = component("ComputeAverageDice", name="mean_dice", field="model", label_field="label")
    whole = {**PLACES, "data_list_key": "validation", "output_crop_size": [-1, -1, -1]}
    patches = {**PLACES, "data_list_key": "training", "output_crop_size": [16, 16, 8], "output_batch_size": 2}
    roi = component("TFScanWindowInferer", roi_size=[16, 16, 8])
    train: Json = {
        "epochs": 6,
        "num_training_epoch_per_valid": 2,
        "learning_rate": 0.02,
        "determinism": {"python_seed": "7", "random_seed": 7, "numpy_seed": 7, "tf_seed": 7},
        "train": {
            "model": component("Unet", nf_enc=[4, 8, 16], residual_units=1, num_classes=2),
            "loss": component("DiceCE"),
            "optimizer": component("AdamW"),
            "pre_transforms": [*head, crop, flip],
            "image_pipeline": component("SegmentationImagePipelineWithCache", **patches),
        },
        "validate": {
            "metrics": [{**dice, "args": {**dice["args"], "is_key_metric": True}}],
            "pre_transforms": head,
            "image_pipeline": component("SegmentationImagePipeline", **whole),
            "inferer": roi,
        },
    }
    image_head = [component("LoadNifti", fields="image"), component("ScaleIntensityRange", fields="image", **window)]
    validation: Json = {
        "batch_size": 1,
        "pre_transforms": image_head,
        "label_transforms": [component("LoadNifti", fields="label")],
        "val_metrics": [dice],
        "inferer": roi,
    }
    environment = {
        "DATA_ROOT": "data",
        "DATASET_JSON": "config/dataset_0.json",
        "PROCESSING_TASK": "segmentation",
        "MMAR_EVAL_OUTPUT_PATH": "eval",
        "MMAR_CKPT_DIR": "models",
        "PRETRAIN_WEIGHTS_FILE": "",
    }
    cases = [
        {"image": f"image{n}.nii.gz", "label": f"label{n}.nii.gz", "case": f"case{n}", "patient": f"p{n}"}
        for n in range(5)
    ]
    datalist: Json = {
        "name": "cubes",
        "labels": {"0": "background", "1": "cube"},
        "modality": {"0": "CT"},
        "numTraining": 3,
        "training": cases[:3],
        "validation": cases[3:],
    }
    return {
        "config_train.json": train,
        "config_validation.json": validation,
        "environment.json": environment,
        "dataset_0.json": datalist,
    }


def classification() -> dict[str, Json]:
    """The files of a classification's config/ and its datalist."""
    head = [component("LoadPng", fields="image"), component("CenterData", fields="image")]
    pipeline = {**PLACES, "output_crop_size": [32, 32], "output_batch_size": 2, "output_image_channels": 1}
    preds = component("ComputeBinaryPreds", binary_preds_name="binary_preds", binary_labels_name="binary_labels")
    auc = {"field": "binary_preds", "label_field": "binary_labels"}
    train: Json = {
        "epochs": 4,
        "learning_rate": 0.01,
        "train": {
            "model": component("DenseNet", init_features=8, growth_rate=4, block_config=[1, 1]),
            "loss": component("BinaryClassificationLoss"),
            "optimizer": component("AdamW"),
            "pre_transforms": [*head, component("RandomRotate2D", fields="image", angle=7)],
            "aux_ops": [component("ComputeAccuracy", tag="accuracy", use_sigmoid=True), preds],
            "image_pipeline": component("ClassificationImagePipeline", **pipeline, data_list_key="training"),
        },
        "validate": {
            "metrics": [
                component("ComputeAUC", name="Average_AUC", is_key_metric=True, **auc),
                component("ComputeAUC", name="mass", class_index=1, **auc),
                component("ComputeAverage", name="mean_accuracy", field="accuracy"),
            ],
            "pre_transforms": head,
            "image_pipeline": component("ClassificationImagePipeline", **pipeline, data_list_key="validation"),
            "inferer": component("TFSimpleInferer"),
        },
    }
    validation: Json = {
        "batch_size": 2,
        "pre_transforms": head,
        "val_metrics": [component("ComputeAUC", name="Average_AUC", **auc)],
        "inferer": component("TFSimpleInferer"),
    }
    environment = {
        "DATA_ROOT": "data",
        "DATASET_JSON": "config/dataset_0.json",
        "PROCESSING_TASK": "classification",
        "MMAR_CKPT_DIR": "models",
    }
    cases = [{"image": f"chest{n}.png", "label": [n % 2, 1 - n % 2], "patient": f"p{n}"} for n in range(5)]
    datalist: Json = {"label_format": [1, 1], "training": cases[:3], "validation": cases[3:]}
    return {
        "config_train.json": train,
        "config_validation.json": validation,
        "environment.json": environment,
        "dataset_0.json": datalist,
    }


GOOD = {"segmentation": segmentation, "classification": classification}


def write_images(folder: Path) -> None:
    """The images of both workspaces."""
    folder.mkdir(parents=True, exist_ok=True)
    for n in range(5):
        write_size(folder / f"image{n}.nii.gz", SIZE)
        write_size(folder / f"label{n}.nii.gz", SIZE)
        write_radiograph(folder / f"chest{n}.png", np.zeros((32, 32), np.uint16))


def write_size(path: Path, size: tuple[int, ...], spacing: tuple[float, ...] = (1.0, 1.0, 2.0)) -> None:
    """An empty volume of a size."""
    grid = Geometry.from_parts((size[0], size[1], size[2]), (spacing[0], spacing[1], spacing[2]))
    write_volume(path, Volume(np.zeros(size, np.uint8), grid))


def write_png(path: Path, bits: int, colour: int) -> None:
    """A PNG of 32 × 32 whose header says so many bits and such a colour type; what follows is not read."""
    body = b"IHDR" + struct.pack(">IIBBBBB", 32, 32, bits, colour, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body)))


def write_files(mmar: Path, files: dict[str, Json]) -> None:
    """Write config/ of an MMAR."""
    (mmar / "config").mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (mmar / "config" / name).write_text(json.dumps(content, indent=1), encoding="utf-8")


def put(content: Any, path: str, value: Any) -> None:
    """Put a value at a JSON path; None as a value removes what is there."""
    *parents, last = (int(part) if part.isdecimal() else part for part in re.split(r"[.\[\]]+", path.rstrip("]")))
    for part in parents:
        content = content[part]
    if value is None:
        del content[last]
    elif isinstance(content, list) and last == len(content):
        content.append(value)
    else:
        content[last] = value
