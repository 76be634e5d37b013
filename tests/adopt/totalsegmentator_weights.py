"""Folders of weights under TotalSegmentator's names with small networks of random weights, and images like a CT."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import SimpleITK as sitk

from tests.adopt.folders import make_dataset, make_plans, write_checkpoint, write_folder
from tests.adopt.test_nnunet import make_weights
from voxflow.adopt.weights import repeat_weights
from voxflow.components import Component

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

BACKGROUND_BIAS = 2.0  # so that a part leaves something of those before it
AIR = -1000


def write_weights(
    root: Path,
    name: str,
    classes: int,
    *,
    spacing: float = 1.5,
    trainer: str = "nnUNetTrainerNoMirroring",
    seed: int = 0,
    mirrored: Sequence[int] | None = None,
) -> Path:
    """A data set's folder with a network of random weights.

    Args:
        root: the folder of all.
        name: of the data set's folder.
        classes: how many, without the background.
        spacing: of the plans, mm.
        trainer: in the name of the result folder, as TotalSegmentator looks for it.
        seed: of the weights.
        mirrored: axes that the trainer allows to mirror, which TotalSegmentator never does.
    """
    plans = make_plans(reader="NibabelIOWithReorient", spacing=(spacing,) * 3, patch=(24, 24, 24))
    labels = {"background": 0, **{f"class_{value}": value for value in range(1, classes + 1)}}
    folder = write_folder(root / name / f"{trainer}__nnUNetPlans__3d_fullres", plans, make_dataset(labels))
    once = {key: value for key, value in make_weights(folder, seed).items() if not key.startswith("decoder.encoder.")}
    plain = {key: value for key, value in once.items() if ".all_modules." not in key}
    weights = repeat_weights(plain, Component(name="PlainConvUNet", args={}))  # all that nnU-Net's own network has
    for key in [key for key in weights if "seg_layers" in key and key.endswith("bias")]:
        weights[key][0] = BACKGROUND_BIAS
    write_checkpoint(folder / "fold_0/checkpoint_final.pth", weights, mirrored=mirrored, trainer_name=trainer)
    return root / name


def write_ct(
    path: Path,
    *,
    size: Sequence[int] = (40, 36, 22),
    spacing: Sequence[float] = (0.9, 1.1, 2.0),
    seed: int = 0,
    direction: Sequence[float] = (1, 0, 0, 0, 1, 0, 0, 0, 1),
) -> Path:
    """Write tissue and air, whole numbers, as a NIfTI file; size, spacing and direction are SimpleITK's (x, y, z)."""
    from scipy.ndimage import gaussian_filter

    noise = gaussian_filter(np.random.default_rng(seed).normal(size=size), 2.0)
    array = np.rint(250 * noise / noise.std() + 40).astype(np.int16)
    array[:3] = array[:, :4] = AIR
    image = sitk.GetImageFromArray(np.ascontiguousarray(array.T))
    image.SetSpacing([float(step) for step in spacing])
    image.SetDirection([float(value) for value in direction])
    image.SetOrigin((-12.0, 7.5, 30.0))
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path))
    return path
