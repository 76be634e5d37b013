"""The proposal of ``voxflow plan`` for a workspace, and what a training takes from it with ``plan: auto``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from voxflow.config import read_json
from voxflow.images import read_regions
from voxflow.machine import Machine, read_machine
from voxflow.planning.layout import TrainingLayout, plan_layout
from voxflow.planning.places import place_evaluation, place_plan, place_regions
from voxflow.volumes import FINGERPRINT, Fingerprint, read_fingerprint

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

AUTO, CONFIG = "auto", "config"


class Proposal(BaseModel):
    """Data, machine, and what follows from both."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    fingerprint: Fingerprint
    machine: Machine
    layout: TrainingLayout

    @classmethod
    def make(cls, fingerprint: Fingerprint, machine: Machine | None = None) -> Proposal:
        """Choose the layout for a machine.

        Args:
            fingerprint: what the images are like.
            machine: this one when left out.
        """
        machine = machine or read_machine()
        return cls(fingerprint=fingerprint, machine=machine, layout=plan_layout(fingerprint, machine))

    @property
    def workers(self) -> int:
        """Threads that prepare batches: a second one pays where a GPU is fed."""
        return min(4 if self.machine.gpu else 1, self.machine.cores - 1)

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        content: dict[str, Any] = json.loads(self.model_dump_json())
        return content


def plan_training(train: Mapping[str, Any], resampled: Path, config: Path) -> tuple[dict[str, Any], Proposal | None]:
    """What the data decide over the configuration, as ``--set`` takes it.

    Args:
        train: the key ``train`` of the workspace's block.
        resampled: the folder of its resampled images, with their fingerprint.
        config: its training configuration.

    Returns:
        What the regions of the labels need, where there are any; and with ``plan: auto``, where there is a fingerprint,
        what follows from it. The proposal, or None.

    Raises:
        ConfigError: the configuration is not of the form that a plan is for, or can't learn the data's regions.
        DataError: the fingerprint is damaged.
    """
    if not config.is_file():
        return {}, None
    regions = read_regions(resampled) if train.get("regions", True) else {}
    values = place_regions(read_json(config), regions, path=config)
    # Before the stage resample has run there is no fingerprint; the check then looks at the configuration as it is.
    place = resampled / FINGERPRINT
    if train.get("plan") != AUTO or not place.is_file():
        return values, None
    proposal = Proposal.make(read_fingerprint(place))
    return values | place_plan(read_json(config), proposal.layout, proposal.fingerprint, path=config), proposal


def plan_evaluation(proposal: Proposal, config: Path) -> dict[str, Any]:
    """Return what the data decide over config_validation.json, as ``--set`` takes it.

    Args:
        proposal: of :func:`plan_training`.
        config: the file.
    """
    return place_evaluation(read_json(config), proposal.layout, proposal.fingerprint)
