"""Small models that the tests of export, inference and the stages share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from voxflow.components import Component, build_network
from voxflow.engines import Engine
from voxflow.geometry import Geometry
from voxflow.inference import InferenceCase
from voxflow.spec import ModelSpec
from voxflow.training import save_model
from voxflow.volumes import Volume, write_volume

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from numpy.typing import NDArray


UNET = Component(name="Unet", args={"nf_enc": [4, 8], "residual_units": 1, "in_channels": 1, "num_classes": 2})
DENSENET = Component(
    name="DenseNet",
    args={"init_features": 4, "growth_rate": 4, "block_config": [2, 2], "in_channels": 1, "num_classes": 2},
)


GRID = Geometry.from_parts((24, 20, 10), (1, 1, 5))


def write_block_case(folder: Path) -> InferenceCase:
    """An image on :data:`GRID`: a block of ones, 8 by 8 by 4 voxels, in zeros."""
    image = np.zeros(GRID.size, np.float32)
    image[6:14, 5:13, 3:7] = 1
    write_volume(folder / "a.nii.gz", Volume(image, GRID))
    return InferenceCase("a", (folder / "a.nii.gz",))


def volume_spec(**changes: object) -> ModelSpec:
    """A segmentation of one organ on small windows."""
    values: dict[str, object] = {
        "task": "segmentation",
        "class_names": ("background", "organ"),
        "activation": "softmax",
        "window": (16, 16, 8),
        "divisor": 2,
    }
    return ModelSpec.model_validate(values | changes)


def radiograph_spec(**changes: object) -> ModelSpec:
    """Two findings on small radiographs."""
    values: dict[str, object] = {
        "task": "classification",
        "class_names": ("mass", "nodule"),
        "activation": "sigmoid",
        "size": (32, 32),
    }
    return ModelSpec.model_validate(values | changes)


def build_seeded(component: Component) -> torch.nn.Module:
    """The network with weights that are random but always the same."""
    import torch

    torch.manual_seed(0)
    return build_network(component).eval()


def save_unet(path: Path, spec: ModelSpec | None = None) -> Path:
    """Write model.pt of a small U-Net."""
    save_model(path, build_seeded(UNET), UNET, spec=spec or volume_spec(), epoch=1, metric=0.5)
    return path


def save_densenet(path: Path) -> Path:
    """Write model.pt of a small classifier."""
    save_model(path, build_seeded(DENSENET), DENSENET, spec=radiograph_spec(), epoch=1, metric=0.5)
    return path


class ThresholdEngine(Engine):
    """An engine whose organ is everything brighter than a threshold: its right answer is known for any image."""

    name = "torch"
    is_local = True

    def __init__(self, spec: ModelSpec | None = None, threshold: float = 0.5) -> None:
        self.spec = spec or volume_spec()
        self.threshold = threshold
        self.shapes: list[tuple[int, ...]] = []

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        self.shapes.append(batch.shape)
        organ = batch[:, :1] - np.float32(self.threshold)
        return np.concatenate([np.zeros_like(organ), organ], axis=1)


class BrightnessEngine(Engine):
    """A classifier whose first finding is brightness; the second never is."""

    name = "torch"
    is_local = False

    def __init__(self) -> None:
        self.spec = radiograph_spec()

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        bright = batch.mean(axis=(1, 2, 3))
        return np.stack([(bright - 100) / 20, np.full_like(bright, -3)], axis=1).astype(np.float32)
