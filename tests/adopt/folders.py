"""Result folders of nnU-Net v2, written as nnU-Net writes them, small enough for a test."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import SimpleITK as sitk
import torch

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

CT = {"mean": 60.0, "std": 200.0, "percentile_00_5": -400.0, "percentile_99_5": 500.0, "min": -900.0, "max": 900.0}
REQUIRED = ["conv_op", "norm_op", "dropout_op", "nonlin"]


def make_architecture(
    name: str = "PlainConvUNet", dimensions: int = 3, *, strides: Sequence[Sequence[int]] | None = None
) -> dict[str, Any]:
    """The network of a plans.json: three stages of few features."""
    steps = strides or [[1] * dimensions, [2] * dimensions, [2] * dimensions]
    blocks = "n_conv_per_stage" if name == "PlainConvUNet" else "n_blocks_per_stage"
    return {
        "network_class_name": f"dynamic_network_architectures.architectures.unet.{name}",
        "arch_kwargs": {
            "n_stages": 3,
            "features_per_stage": [8, 12, 16],
            "conv_op": f"torch.nn.modules.conv.Conv{dimensions}d",
            "kernel_sizes": [[3] * dimensions] * 3,
            "strides": [list(step) for step in steps],
            blocks: [2, 1, 2],
            "n_conv_per_stage_decoder": [1, 2],
            "conv_bias": True,
            "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dimensions}d",
            "norm_op_kwargs": {"eps": 1e-05, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": REQUIRED,
    }


def make_plans(
    *,
    configuration: str = "3d_fullres",
    spacing: Sequence[float] = (1.5, 1.0, 1.0),
    patch: Sequence[int] = (16, 24, 24),
    schemes: Sequence[str] = ("CTNormalization",),
    masks: Sequence[bool] = (False,),
    architecture: dict[str, Any] | None = None,
    transpose: Sequence[int] = (0, 1, 2),
    reader: str = "SimpleITKIO",
    separate_z: bool | None = None,
    back_order: int = 1,
    previous: str | None = None,
) -> dict[str, Any]:
    """A plans.json, as version 2.4 and later write it."""
    resampling = {"order_z": 0, "force_separate_z": separate_z}
    return {
        "dataset_name": "Dataset001_Test",
        "plans_name": "nnUNetPlans",
        "image_reader_writer": reader,
        "transpose_forward": list(transpose),
        "transpose_backward": [int(axis) for axis in np.argsort(transpose)],
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {str(number): CT for number in range(len(schemes))},
        "configurations": {
            "base": {
                "data_identifier": "nnUNetPlans_3d",
                "preprocessor_name": "DefaultPreprocessor",
                "batch_size": 2,
                "patch_size": list(patch),
                "spacing": list(spacing),
                "normalization_schemes": list(schemes),
                "use_mask_for_norm": list(masks),
                "resampling_fn_data": "resample_data_or_seg_to_shape",
                "resampling_fn_seg": "resample_data_or_seg_to_shape",
                "resampling_fn_data_kwargs": {"is_seg": False, "order": 3, **resampling},
                "resampling_fn_seg_kwargs": {"is_seg": True, "order": 1, **resampling},
                "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
                "resampling_fn_probabilities_kwargs": {"is_seg": False, "order": back_order, **resampling},
                "architecture": architecture or make_architecture(),
                "batch_dice": True,
            },
            configuration: {"inherits_from": "base"} | ({"previous_stage": previous} if previous else {}),
        },
    }


def make_dataset(
    labels: dict[str, Any] | None = None, channels: Sequence[str] = ("CT",), order: Sequence[int] = ()
) -> dict[str, Any]:
    """A dataset.json."""
    content: dict[str, Any] = {
        "channel_names": {str(number): name for number, name in enumerate(channels)},
        "labels": labels or {"background": 0, "liver": 1, "tumour": 2},
        "numTraining": 2,
        "file_ending": ".nii.gz",
    }
    return content | ({"regions_class_order": list(order)} if order else {})


def write_folder(folder: Path, plans: dict[str, Any], dataset: dict[str, Any]) -> Path:
    """Write the two JSON files of a result folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "plans.json").write_text(json.dumps(plans))
    (folder / "dataset.json").write_text(json.dumps(dataset))
    return folder


def write_checkpoint(
    path: Path,
    weights: dict[str, torch.Tensor],
    *,
    configuration: str = "3d_fullres",
    mirrored: Sequence[int] | None = (0, 1, 2),
    **changes: Any,
) -> Path:
    """Write a checkpoint as nnU-Net's trainer does, with NumPy's scalars in its log."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "network_weights": weights,
        "optimizer_state": {},
        "grad_scaler_state": None,
        "logging": {"ema_fg_dice": [np.float64(0.5), np.float32(0.6), np.int64(2)]},
        "_best_ema": np.float64(0.6),
        "current_epoch": 3,
        "init_args": {"plans": {}, "configuration": configuration, "fold": 0, "device": torch.device("cpu")},
        "trainer_name": "nnUNetTrainer",
        "inference_allowed_mirroring_axes": None if mirrored is None else tuple(mirrored),
    }
    torch.save(content | changes, path)
    return path


def write_image(
    path: Path,
    *,
    size: Sequence[int] = (40, 36, 22),
    spacing: Sequence[float] = (0.9, 1.1, 2.0),
    seed: int = 0,
    direction: Sequence[float] = (1, 0, 0, 0, 1, 0, 0, 0, 1),
    border: int = 3,
) -> Path:
    """Write blobs on noise, with zeros around them, as a NIfTI file.

    Args:
        path: the file.
        size: voxels (x, y, z).
        spacing: mm (x, y, z).
        seed: of the noise.
        direction: of the axes, as SimpleITK has it.
        border: voxels of zeros at the low end of each axis.
    """
    from scipy.ndimage import gaussian_filter

    noise = gaussian_filter(np.random.default_rng(seed).normal(size=size), 2.0)
    array = (300 * noise / noise.std() + 20).astype(np.float32)
    array[:border] = array[:, :border] = array[:, :, : min(border, 2)] = 0
    image = sitk.GetImageFromArray(np.ascontiguousarray(array.T))
    image.SetSpacing([float(step) for step in spacing])
    image.SetDirection([float(value) for value in direction])
    image.SetOrigin((-12.0, 7.5, 30.0))
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path))
    return path
