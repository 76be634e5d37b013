"""A model of another tool as Voxflow runs it, and its model file."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from voxflow.training import save_model

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from voxflow.components import Component
    from voxflow.spec import ModelSpec


@dataclass(frozen=True, eq=False)
class AdoptedModel:
    """A model that was trained elsewhere.

    Attributes:
        network: in evaluation mode, on the CPU; of several folds the mean of their logits.
        component: it as a configuration names it.
        spec: how it is fed, and read.
        folds: of nnU-Net, names of the folds' folders.
        epochs: how many the first fold was trained; 0 where nobody knows.
        file_ending: of the images that it was trained with.
        trainer: nnU-Net's class that trained it.
        configuration: of nnU-Net's plans.
        origin: the tool or the kind of file that it comes from.
        notes: how its masks differ from the files that the original writes.
        parts: of a joined model, the models whose masks are joined, in their order.
        folder: nnU-Net's result folder; None: the model comes from elsewhere.
    """

    network: torch.nn.Module
    component: Component
    spec: ModelSpec
    folds: tuple[str, ...] = ()
    epochs: int = 0
    file_ending: str = ".nii.gz"
    trainer: str = ""
    configuration: str = ""
    origin: str = "nnU-Net v2"
    notes: tuple[str, ...] = ()
    parts: tuple[AdoptedModel, ...] = ()
    folder: Path | None = None


def write_adopted(model: AdoptedModel, path: Path) -> None:
    """Write a model file, whole or not at all.

    Raises:
        OSError: the disk is full, say; an older file stays.
    """
    save_model(path, model.network, model.component, spec=model.spec, epoch=model.epochs, metric=math.nan)
