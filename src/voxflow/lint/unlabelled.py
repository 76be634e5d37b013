"""Checks that a training can leave out the voxels and the classes that nobody labelled, where its cases have such."""

from __future__ import annotations

from typing import TYPE_CHECKING

from voxflow.components import AuxiliaryOperation, Loss, Metric, Transform
from voxflow.training import note_carriers, note_losses, note_metrics

if TYPE_CHECKING:
    from voxflow.components import ComponentModel
    from voxflow.lint.data import WorkspaceData
    from voxflow.lint.reading import ConfigReading


def check_unlabelled(reading: ConfigReading, data: WorkspaceData) -> None:
    """Note components that would take such voxels for background, as the training does when it begins.

    Args:
        reading: the training configuration; nothing of a user's own classes is known.
        data: the workspace's cases.
    """
    if not any(case.is_partial for section in ("train", "validate") for case in data.items(section)):
        return
    notes = reading.notes
    loss = next((model for model in _list_models(reading, "train", "loss") if isinstance(model, Loss)), None)
    operations = [m for m in _list_models(reading, "train", "aux_ops") if isinstance(m, AuxiliaryOperation)]
    note_losses(notes, loss, operations)
    for section in ("train", "validate"):
        transforms = [m for m in _list_models(reading, section, "pre_transforms") if isinstance(m, Transform)]
        note_carriers(notes, f"{section}.pre_transforms", transforms)
    note_metrics(notes, "validate.metrics", [m for m in _list_models(reading, "validate", "metrics")
                                             if isinstance(m, Metric)])  # fmt: skip


def _list_models(reading: ConfigReading, section: str, key: str) -> list[ComponentModel]:
    return [part.model for part in reading.parts_of(section, key) if part.model and not part.component.path]
