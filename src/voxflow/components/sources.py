"""The modules that hold the components of each dialect and kind; a look-up of a kind imports no others.

Adding a module of components means adding it here. The table is plain literals, so that it can be read without
importing anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from voxflow.components.registry import Dialect, Kind

MODULES: Mapping[Dialect, Mapping[Kind, tuple[str, ...]]] = {
    "clara3": {
        "transform": (
            "voxflow.components.transforms.loading",
            "voxflow.components.transforms.resampling",
            "voxflow.components.transforms.spatial",
            "voxflow.components.transforms.intensity",
            "voxflow.components.transforms.cropping",
            "voxflow.components.transforms.batches",
            "voxflow.components.transforms.answers",
            "voxflow.components.transforms.nested",
            "voxflow.components.writers",
        ),
        "network": (
            "voxflow.components.networks.unets",
            "voxflow.components.networks.plain_unet",
            "voxflow.components.networks.radiographs",
            "voxflow.components.networks.ahnet",
        ),
        "loss": ("voxflow.components.losses.base",),
        "optimizer": ("voxflow.components.learning.optimizers",),
        "lr_policy": ("voxflow.components.learning.optimizers",),
        "metric": ("voxflow.components.metrics.base",),
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
            "voxflow.components.transforms.answers",
            "voxflow.components.transforms.brats",
            "voxflow.components.writers",
        ),
        "network": ("voxflow.components.networks.unets", "voxflow.components.networks.radiographs"),
        "loss": ("voxflow.components.losses.base",),
        "optimizer": ("voxflow.components.learning.optimizers",),
        "lr_policy": ("voxflow.components.learning.optimizers",),
        "metric": ("voxflow.components.tlt.metrics",),
        "aux_op": ("voxflow.components.metrics.aux_ops",),
        "writer": ("voxflow.components.writers",),
    },
    "clara4": {
        "transform": ("voxflow.components.monai.transforms",),
        "metric": ("voxflow.components.monai.metrics",),
    },
}
