"""Bundles in the forms of MONAI's model zoo, written anew, with small networks and random weights."""

from __future__ import annotations

import json
import warnings
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import monai.bundle
import monai.networks.nets
import nibabel
import numpy as np
import torch
import yaml

from tests.adopt.folders import write_image

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

Config = dict[str, Any]
ROI = (16, 16, 16)
UNET = {
    "_target_": "UNet",
    "spatial_dims": 3,
    "in_channels": 1,
    "out_channels": 2,
    "channels": [4, 8, 16],
    "strides": [2, 2],
    "num_res_units": 1,
    "norm": "batch",
}
SEGRESNET = {
    "_target_": "SegResNet",
    "spatial_dims": 3,
    "in_channels": 1,
    "out_channels": 3,
    "init_filters": 8,
    "blocks_down": [1, 1, 1],
    "blocks_up": [1, 1],
    "dropout_prob": 0.2,
}
DEVICE = "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')"
CT_RANGE = {
    "_target_": "ScaleIntensityRanged",
    "keys": "image",
    "a_min": -400,
    "a_max": 500,
    "b_min": 0.0,
    "b_max": 1.0,
    "clip": True,
}
SIDEWAYS = (0, 0, 1, 1, 0, 0, 0, -1, 0)
OBLIQUE = (0.98, -0.199, 0, 0.199, 0.98, 0, 0, 0, 1)
OTHER_WAY = (-1, 0, 0, 0, 1, 0, 0, 0, -1)


def part(target: str, keys: Any = "image", **arguments: Any) -> Config:
    """A transform."""
    return {"_target_": target, "keys": keys, **arguments}


def load(**reader: Any) -> list[Config]:
    return [part("LoadImaged", **reader), part("EnsureChannelFirstd")]


def to_grid(spacing: Any, axcodes: str = "RAS", **arguments: Any) -> list[Config]:
    return [
        part("Orientationd", axcodes=axcodes),
        part("Spacingd", pixdim=spacing, mode="bilinear", **arguments),
    ]


def activate(**kind: bool) -> Config:
    return part("Activationsd", "pred", **kind)


def invert(*, nearest: bool = False, **arguments: Any) -> Config:
    return part(
        "Invertd",
        "pred",
        transform="@preprocessing",
        orig_keys="image",
        nearest_interp=nearest,
        to_tensor=True,
        **arguments,
    )


def choose(**kind: Any) -> Config:
    return part("AsDiscreted", "pred", **kind)


def save(**arguments: Any) -> Config:
    return part("SaveImaged", "pred", output_dir="@output_dir", **arguments)


def configure(network: Config, preprocessing: list[Config], postprocessing: list[Config], **changes: Any) -> Config:
    """An inference configuration."""
    inferer = {"_target_": "SlidingWindowInferer", "roi_size": list(ROI), "sw_batch_size": 4, "overlap": 0.5}
    content = {
        "imports": ["$import glob", "$import os"],
        "bundle_root": ".",
        "output_dir": "$@bundle_root + '/eval'",
        "dataset_dir": "/workspace/data",
        "datalist": "$list(sorted(glob.glob(@dataset_dir + '/*.nii.gz')))",
        "device": DEVICE,
        "network_def": network,
        "network": "$@network_def.to(@device)",
        "preprocessing": {"_target_": "Compose", "transforms": preprocessing},
        "dataset": {"_target_": "Dataset", "data": "$[{'image': i} for i in @datalist]", "transform": "@preprocessing"},
        "dataloader": {
            "_target_": "DataLoader",
            "dataset": "@dataset",
            "batch_size": 1,
            "shuffle": False,
            "num_workers": 0,
        },
        "inferer": inferer | changes.pop("inferer", {}),
        "postprocessing": {"_target_": "Compose", "transforms": postprocessing},
        "handlers": [{"_target_": "StatsHandler", "iteration_log": False}],
        "evaluator": {
            "_target_": "SupervisedEvaluator",
            "device": "@device",
            "val_data_loader": "@dataloader",
            "network": "@network",
            "inferer": "@inferer",
            "postprocessing": "@postprocessing",
            "val_handlers": "@handlers",
            "amp": False,
        },
        "checkpointloader": {
            "_target_": "CheckpointLoader",
            "load_path": "$@bundle_root + '/models/model.pt'",
            "load_dict": {"model": "@network"},
        },
        "initialize": ["$monai.utils.set_determinism(seed=123)", "$@checkpointloader(@evaluator)"],
        "run": ["$@evaluator.run()"],
    }
    return deepcopy(content | changes)


def describe(classes: list[str], channels: list[str] | None = None, modality: str = "CT", **changes: Any) -> Config:
    """A metadata.json."""
    images = channels or ["image"]
    return {
        "schema": "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20220324.json",
        "version": "0.5.0",
        "monai_version": "1.4.0",
        "pytorch_version": "2.4.0",
        "numpy_version": "1.24.4",
        "task": "segmentation",
        "network_data_format": {
            "inputs": {
                "image": {
                    "type": "image",
                    "format": "hounsfield",
                    "modality": modality,
                    "num_channels": len(images),
                    "spatial_shape": list(ROI),
                    "dtype": "float32",
                    "is_patch_data": True,
                    "channel_def": _number(images),
                }
            },
            "outputs": {
                "pred": {
                    "type": "image",
                    "format": "segmentation",
                    "num_channels": len(classes),
                    "spatial_shape": list(ROI),
                    "dtype": "float32",
                    "is_patch_data": True,
                    "channel_def": _number(classes),
                }
            },
        },
    } | changes


def _number(names: list[str]) -> dict[str, str]:
    return {str(number): name for number, name in enumerate(names)}


def write_bundle(
    folder: Path, config: Config, metadata: Config | None, *, weights: str = "model.pt", name: str = "inference.json"
) -> Path:
    """Write a bundle, with random weights of its network."""
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    text = json.dumps(config, indent=1) if name.endswith("json") else yaml.safe_dump(config, sort_keys=False)
    (folder / "configs" / name).write_text(text)
    if metadata is not None:
        (folder / "configs/metadata.json").write_text(json.dumps(metadata))
    network = build(config)
    if network is not None:
        torch.save({"model": network.state_dict()}, folder / "models" / weights)
    return folder


def build(config: Config) -> torch.nn.Module | None:
    """The network with random weights, as MONAI builds it; None where it is none of MONAI's."""
    from monai.bundle import ConfigParser

    target = config["network_def"]["_target_"].rpartition(".")[2]
    if not hasattr(monai.networks.nets, target) or target not in (
        "UNet",
        "SegResNet",
        "DynUNet",
        "UNETR",
        "SwinUNETR",
        "BasicUNet",
        "AttentionUnet",
    ):
        return None
    torch.manual_seed(3)
    network: torch.nn.Module = ConfigParser(dict(config)).get_parsed_content("network_def")
    return network.eval()


def write_case(folder: Path, name: str, channels: int = 1, **grid: Any) -> list[Path]:
    """Write the images of a case; of several channels CASE_0.nii.gz and so on."""
    names = [name] if channels == 1 else [f"{name}_{number}" for number in range(channels)]
    return [write_image(folder / f"{file}.nii.gz", seed=seed, **grid) for seed, file in enumerate(names, 1)]


def run_original(bundle: Path, images: Path, out: Path, config: str) -> dict[str, NDArray[Any]]:
    """Run MONAI's own command, and return the masks by case."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        monai.bundle.run(
            run_id="run",
            config_file=str(bundle / "configs" / config),
            bundle_root=str(bundle),
            dataset_dir=str(images),
            output_dir=str(out),
        )
    masks = {}
    for file in sorted(out.rglob("*.nii.gz")):
        array = np.asarray(nibabel.load(file).dataobj)
        masks[file.parent.name] = array
    return masks
