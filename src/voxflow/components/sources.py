"""The modules that hold each dialect's components of each kind; looking one up imports no others.

A new module of components gets its line here. The table is one literal, so that a program that asks which code a
stage can reach reads it without importing anything. ``custom`` are the classes that fit a user's own class to its kind.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from voxflow.components.registry import Dialect, Kind

MODULES: Mapping[Dialect | Literal["custom"], Mapping[Kind, tuple[str, ...]]] = {
    "clara3": {
        "transform": (
            "voxflow.components.transforms.loading",
            "voxflow.components.transforms.resampling",
            "voxflow.components.transforms.spatial",
            "voxflow.components.transforms.intensity",
            "voxflow.components.transforms.appearance",
            "voxflow.components.transforms.cropping",
            "voxflow.components.transforms.batches",
            "voxflow.components.transforms.postprocessing",
            "voxflow.components.transforms.nested",
            "voxflow.components.transforms.regions",
            "voxflow.components.transforms.previous",
            "voxflow.components.transforms.saving",
        ),
        "network": (
            "voxflow.components.networks.unets",
            "voxflow.components.networks.plain_unet",
            "voxflow.components.networks.dynamic_unet",
            "voxflow.components.networks.programs",
            "voxflow.components.networks.cascade",
            "voxflow.components.networks.radiographs",
            "voxflow.components.networks.ahnet",
        ),
        "loss": ("voxflow.components.losses.overlap", "voxflow.components.losses.classification"),
        "optimizer": ("voxflow.components.learning.optimizers",),
        "lr_policy": ("voxflow.components.learning.optimizers",),
        "metric": (
            "voxflow.components.metrics.overlap",
            "voxflow.components.metrics.roc",
            "voxflow.components.metrics.average",
        ),
        "aux_op": ("voxflow.components.metrics.aux_ops",),
        "pipeline": ("voxflow.components.learning.pipelines",),
        "inferer": ("voxflow.components.learning.inferers",),
        "writer": ("voxflow.components.writers",),
        "model_loader": ("voxflow.components.learning.model_loaders",),
        "handler": ("voxflow.components.learning.handlers", "voxflow.components.learning.model_loaders"),
    },
    "tlt2": {
        "transform": (
            "voxflow.components.tlt.loading",
            "voxflow.components.tlt.spatial",
            "voxflow.components.tlt.intensity",
            "voxflow.components.tlt.cropping",
            "voxflow.components.transforms.resampling",
            "voxflow.components.transforms.postprocessing",
            "voxflow.components.transforms.brats",
            "voxflow.components.transforms.saving",
        ),
        "network": ("voxflow.components.networks.unets", "voxflow.components.networks.radiographs"),
        "loss": ("voxflow.components.tlt.losses",),
        "optimizer": ("voxflow.components.learning.optimizers",),
        "lr_policy": ("voxflow.components.learning.optimizers",),
        "metric": ("voxflow.components.tlt.metrics",),
        "aux_op": ("voxflow.components.tlt.metrics",),
        "writer": ("voxflow.components.tlt.writers",),
    },
    "clara4": {
        "transform": ("voxflow.components.monai.transforms",),
        "network": ("voxflow.components.monai.networks",),
        "loss": ("voxflow.components.monai.learning",),
        "optimizer": ("voxflow.components.monai.learning",),
        "lr_policy": ("voxflow.components.monai.learning",),
        "inferer": ("voxflow.components.monai.learning",),
        "metric": ("voxflow.components.monai.metrics",),
        "writer": ("voxflow.components.monai.writers",),
    },
    "custom": {
        "transform": ("voxflow.components.custom.transforms",),
        "network": ("voxflow.components.custom.networks",),
        "loss": ("voxflow.components.custom.learning",),
        "optimizer": ("voxflow.components.custom.learning",),
        "lr_policy": ("voxflow.components.custom.learning",),
        "inferer": ("voxflow.components.custom.learning",),
        "metric": ("voxflow.components.custom.metrics",),
        "aux_op": ("voxflow.components.custom.metrics",),
        "writer": ("voxflow.components.custom.writers",),
    },
}
