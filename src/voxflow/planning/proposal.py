"""The proposal of ``voxflow plan`` for a workspace, and what a training takes from it with ``plan: auto``."""

from __future__ import annotations

import json
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer

from voxflow.config import read_json
from voxflow.errors import ConfigError
from voxflow.images import read_regions
from voxflow.machine import Machine, read_machine
from voxflow.planning.budget import BudgetPlan, estimate_minutes, plan_budget
from voxflow.planning.layout import TrainingLayout, plan_layout
from voxflow.planning.mirroring import MirrorChoice, choose_mirror_axes
from voxflow.planning.places import place_evaluation, place_network, place_plan, place_recipe, place_regions
from voxflow.planning.previous import place_previous
from voxflow.planning.radiographs import (
    RadiographProposal,
    place_radiograph_evaluation,
    place_radiographs,
    propose_radiographs,
)
from voxflow.planning.residual import plan_residual
from voxflow.planning.slices import plan_slices
from voxflow.training import Configuration
from voxflow.volumes import FINGERPRINT, Fingerprint, read_fingerprint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

AUTO, CONFIG = "auto", "config"
RADIOGRAPHS = "ClassificationImagePipeline"
MINUTES = 60.0  # where a training has no bound
FULL: Configuration = "full"
PLANNERS: dict[Configuration, Callable[[Fingerprint, Machine], TrainingLayout]] = {
    FULL: plan_layout,
    "2d": plan_slices,
    "residual": plan_residual,
}
STEPS_OF_A_TRAINING = 250_000  # nnU-Net's: more than any training's minutes allow


class Proposal(BaseModel):
    """Data, machine, and what follows from both.

    Attributes:
        configuration: which of the layouts; None: the full one.
        budget, mirror: how images are varied, where the configuration leaves that to the plan.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    fingerprint: Fingerprint
    machine: Machine
    layout: TrainingLayout
    configuration: Configuration | None = None
    budget: BudgetPlan | None = None
    mirror: MirrorChoice | None = None

    @model_serializer(mode="wrap")
    def _leave_out_what_is_new(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # A configuration of before the recipe has the plan that it had.
        content: dict[str, Any] = serialise(self)
        return {key: value for key, value in content.items() if value is not None}

    @classmethod
    def make(
        cls, fingerprint: Fingerprint, machine: Machine | None = None, configuration: Configuration = FULL
    ) -> Proposal:
        """Choose the layout for a machine.

        Args:
            fingerprint: what the images are like.
            machine: this one when left out.
            configuration: which of the layouts.
        """
        machine = machine or read_machine()
        layout, choice = PLANNERS[configuration](fingerprint, machine), None if configuration == FULL else configuration
        return cls(fingerprint=fingerprint, machine=machine, layout=layout, configuration=choice)

    def with_recipe(self, minutes: float, names: Iterable[str], orientation: str | None) -> Proposal:
        """Choose also how images are varied.

        Args:
            minutes: that the training takes.
            names: of the classes.
            orientation: of all volumes; None: each has its own.
        """
        budget = plan_budget(minutes, self.layout, self.fingerprint, self.machine)
        mirror = choose_mirror_axes(self.fingerprint, names, orientation, all_axes=budget.strength >= 1)
        if self.layout.flat_axes:
            mirror = mirror.leave_out(self.layout.flat_axes, "patches are single slices")
        return self.model_copy(update={"budget": budget, "mirror": mirror})

    @property
    def workers(self) -> int:
        """Threads that prepare batches: a second one pays where a GPU is fed."""
        return min(4 if self.machine.gpu else 1, self.machine.cores - 1)

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        content: dict[str, Any] = json.loads(self.model_dump_json())
        return content


def plan_training(
    train: Mapping[str, Any], resampled: Path, config: Path
) -> tuple[dict[str, Any], Proposal | RadiographProposal | None]:
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
        DataError: the fingerprint is damaged, or the file of weights is of no network that is known.
    """
    if not config.is_file():
        return {}, None
    if train.get("plan") == AUTO and _is_for_radiographs(read_json(config)):
        return _plan_radiographs(train, resampled, config)
    if train.get("pretrained") is not None:
        message = "pretrained: ImageNet's weights are for radiographs with plan: auto; checkpoint takes other weights"
        raise ConfigError(message, path=config)
    regions = read_regions(resampled) if train.get("regions", True) else {}
    values = place_regions(read_json(config), regions, path=config)
    # Before the stage resample has run there is no fingerprint; the check then looks at the configuration as it is.
    place = resampled / FINGERPRINT
    if train.get("plan") != AUTO or not place.is_file():
        return values, None
    configuration = read_configuration(train, path=config)
    content, proposal = read_json(config), Proposal.make(read_fingerprint(place), configuration=configuration)
    if train.get("previous") is not None:
        values |= _place_first_stage(content, resampled, config, has_regions=bool(regions))
    # A network in the place of another one comes before whatever changes its arguments.
    values = place_network(content, proposal.layout, path=config) | values
    values |= place_plan(content, proposal.layout, proposal.fingerprint, path=config)
    if configuration != FULL and train.get("schedule") == "minutes":
        cases_a_step = proposal.layout.cases_a_step
        values["epochs"] = ceil(STEPS_OF_A_TRAINING * cases_a_step / max(1, proposal.fingerprint.labelled))
    names = [*regions, *_read_names(resampled)]
    complete = proposal.with_recipe(_read_minutes(train, proposal), names, _read_orientation(resampled))
    recipe = place_recipe(content, complete.budget, complete.mirror, path=config)
    return values | recipe, complete if recipe else proposal


def read_configuration(train: Mapping[str, Any], *, path: Path) -> Configuration:
    """Read which configuration a workspace's block asks for.

    Args:
        train: the key ``train`` of the block.
        path: of the training configuration, for errors.

    Raises:
        ConfigError: there is none of that name.
    """
    name = train.get("configuration", FULL)
    if not isinstance(name, str) or name not in PLANNERS:
        known = ", ".join(PLANNERS)
        raise ConfigError(f"no configuration {name!r} (known: {known})", path=path, where="train.configuration")
    return name


def _read_minutes(train: Mapping[str, Any], proposal: Proposal) -> float:
    """How long the training takes: what its options say, or as long as its epochs take, where they are the length."""
    most, epochs = train.get("max_minutes"), (train.get("set") or {}).get("epochs")
    if train.get("schedule", "epochs") == "epochs" and isinstance(epochs, int):
        minutes = estimate_minutes(epochs, proposal.layout, proposal.fingerprint, proposal.machine)
        return minutes if most is None else min(minutes, float(most))
    return float(most or MINUTES)


def _is_for_radiographs(content: Any) -> bool:
    section = content.get("train") if isinstance(content, dict) else None
    pipeline = section.get("image_pipeline") if isinstance(section, dict) else None
    return isinstance(pipeline, dict) and pipeline.get("name") == RADIOGRAPHS


def _plan_radiographs(
    train: Mapping[str, Any], resampled: Path, config: Path
) -> tuple[dict[str, Any], RadiographProposal | None]:
    if read_configuration(train, path=config) != FULL:
        message = "configuration: 2d and residual are for volumes, not for radiographs"
        raise ConfigError(message, path=config, where="train.configuration")
    minutes, weights = float(train.get("max_minutes") or MINUTES), train.get("pretrained")
    if weights is not None:
        # As start weights are looked for: in the MMAR first, then from the repository's root.
        below = config.parent.parent / str(weights)
        weights = below if below.is_file() else Path(str(weights))
    proposal = propose_radiographs(resampled, read_machine(), minutes, weights)
    return (place_radiographs(read_json(config), proposal, path=config), proposal) if proposal else ({}, None)


def _read_names(resampled: Path) -> list[str]:
    """The names of the label values, where the stage resample has written them."""
    path = resampled / "labels.json"
    content = read_json(path) if path.is_file() else {}
    return [str(name) for name in content.values()]


def _place_first_stage(content: Any, resampled: Path, config: Path, *, has_regions: bool) -> dict[str, Any]:
    """Whole chains, which come before single values of them."""
    if has_regions:
        message = "train.previous: two stages are for classes that exclude each other, not for regions"
        raise ConfigError(message, path=config)
    return place_previous(content, _read_values(resampled), path=config)


def _read_values(resampled: Path) -> list[int]:
    """The label values but for the background's."""
    path = resampled / "labels.json"
    content = read_json(path) if path.is_file() else {}
    return sorted(int(value) for value in content if str(value).isdecimal() and int(value) > 0)


def _read_orientation(resampled: Path) -> str | None:
    """Where the axes of all resampled volumes increase to; None where each has its own."""
    path = resampled / "resample.json"
    orientation = read_json(path).get("orientation") if path.is_file() else None
    return orientation if isinstance(orientation, str) else None


def plan_evaluation(proposal: Proposal | RadiographProposal, config: Path) -> dict[str, Any]:
    """Return what the data decide over config_validation.json, as ``--set`` takes it.

    Args:
        proposal: of :func:`plan_training`.
        config: the file.
    """
    if isinstance(proposal, RadiographProposal):
        return place_radiograph_evaluation(read_json(config), proposal)
    return place_evaluation(read_json(config), proposal.layout, proposal.fingerprint)
