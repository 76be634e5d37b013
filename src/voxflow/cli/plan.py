"""Runs ``voxflow plan``: measures what a training needs in memory, disk and time before it starts."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from voxflow.cli.command import Command
from voxflow.errors import EXIT_OK
from voxflow.progress import say

if TYPE_CHECKING:
    import argparse

    from voxflow.planning import Proposal, Study
    from voxflow.training import Trial


@dataclass(frozen=True)
class PlanCommand(Command):
    """Plan the training of a workspace.

    Attributes:
        workspace: the path of an MMAR's folder, or the name of a workspace of params.yaml.
        applies: write what is proposed into the configuration.
        tries: train a few steps to measure time and memory.
        as_json: write the plan for machines.
        forecasts: forecast the Dice by short trainings.
        forecast_minutes: time for them together; None: a tenth of the training's.
    """

    name: ClassVar[str] = "plan"
    help: ClassVar[str] = "propose patch and batch for a training, and measure its disk, memory and time per epoch"

    workspace: str
    applies: bool
    tries: bool
    as_json: bool
    forecasts: bool = False
    forecast_minutes: float | None = None

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """Declare the flags."""
        parser.add_argument("workspace", help="folder of an MMAR, or name of a workspace in params.yaml")
        parser.add_argument("--apply", dest="applies", action="store_true", help="write the proposed configuration")
        parser.add_argument("--quick", dest="tries", action="store_false", help="measure no time and no memory")
        parser.add_argument("--json", dest="as_json", action="store_true", help="write the result as JSON")
        parser.add_argument(
            "--forecast", dest="forecasts", action="store_true", help="forecast the Dice by short trainings"
        )
        parser.add_argument(
            "--forecast-minutes", type=float, metavar="N", help="for these N minutes together (default: a tenth)"
        )

    def run(self) -> int:
        """Study the data, apply the proposal where asked, try some steps, and print the plan.

        Raises:
            ConfigError: the configuration does not fit the data.
            DataError: the data are not there.
        """
        from voxflow.locks import hold_file, hold_workspace
        from voxflow.places import PARAMS
        from voxflow.planning import (
            apply_proposal,
            forecast_training,
            select_forecast_cases,
            study_to_json,
            study_workspace,
            try_training,
        )

        study, changed = study_workspace(self.workspace), list[str]()
        has_forecast = self.forecasts or self.forecast_minutes is not None
        if has_forecast:
            select_forecast_cases(study)  # refused before anything is written or timed
        if self.applies:
            with hold_workspace(Path(self.workspace).name, self.name, say), hold_file(PARAMS, say):
                study, changed = apply_proposal(study, self.workspace)
        trial = try_training(study) if self.tries else None
        forecast = forecast_training(study, trial, self.forecast_minutes) if has_forecast else None
        if self.as_json:
            sys.stdout.write(study_to_json(study, trial, changed, forecast) + "\n")
        else:
            rows = _make_rows(study, trial)
            if forecast:
                rows |= {"forecast": forecast.line, "advice": forecast.advice}
            width = max(map(len, rows))
            sys.stdout.writelines(f"{name:{width}}  {value}\n" for name, value in rows.items())
            sys.stdout.writelines(f"written: {path}\n" for path in changed)
        return EXIT_OK


def _make_rows(study: Study, trial: Trial | None) -> dict[str, str]:
    from voxflow.planning import RadiographProposal, describe_coverage

    proposal = study.proposal
    if isinstance(proposal, RadiographProposal):
        return proposal.rows() | _describe_costs(trial, proposal.gigabytes)
    data, layout = proposal.fingerprint, proposal.layout
    volumes = ", ".join(f"{c.value}: {c.median_ml:g} ml in {c.cases}" for c in data.classes)
    rows = {
        "cases": f"{data.cases}, {data.labelled} labelled; {data.channels} channel(s)",
        "voxels": f"{_join(data.size.median)} (median; from {_join(data.size.least)} to {_join(data.size.most)})",
        "spacing": f"{_join(data.spacing_mm.median)} mm",
        "classes": volumes or "none",
        "machine": proposal.machine.line,
        "patch": _state_both(_join(layout.patch), _join(study.configured["patch"] or ("whole image",))),
        "batch": _state_both(str(layout.batch), str(study.configured["batch"])),
        "workers": _state_both(str(proposal.workers), str(study.configured["workers"])),
    }
    previous = study.train.get("previous")
    # A slice never covers much of a volume: nnU-Net's rule is about patches of three dimensions.
    coverage = "" if layout.flat_axes else describe_coverage(math.prod(layout.patch), data.voxels)
    if previous or (coverage and study.is_auto):
        rows["stages"] = f"the second of two, after {previous}" if previous else coverage
    if study.is_auto:
        rows["configuration"] = _describe_configuration(proposal)
        rows["network"] = f"levels of {', '.join(map(str, layout.filters))} filters"
    if proposal.budget and proposal.mirror:
        budget = proposal.budget
        rows["budget"] = f"{budget.minutes:g} min, each case seen about {budget.passes:.3g} times"
        rows["variation"] = (
            f"strength {budget.strength:g} of 1, turned by up to {budget.rotation_degree:g}°, "
            f"magnified by up to {budget.scale_factor:.0%}"
            f"{f', bent by {budget.bend_mm:g} mm' if budget.bend_mm else ''}"
            f"{'; estimated, no training of this length was compared' if budget.is_estimate else ''}"
        )
        rows["mirrored"] = proposal.mirror.line
    return rows | _describe_costs(trial, data.gigabytes)


def _describe_configuration(proposal: Proposal) -> str:
    from voxflow.planning import estimate_memory

    layout, name = proposal.layout, proposal.configuration or "full"
    if layout.preset:
        memory = f"about {estimate_memory(layout):.0f} GB of a GPU by nnU-Net's estimate"
        return f"{name}: nnU-Net's preset {layout.preset}, {memory if proposal.machine.gpu else 'without a GPU'}"
    if layout.patches_a_case > 1 or layout.flat_axes:
        axes = ", ".join("ijk"[axis] for axis in layout.flat_axes)
        return f"{name}: slices across {axes}, {layout.patches_a_case} of each of {layout.cases_a_step} cases a step"
    return name


def _describe_costs(trial: Trial | None, cache: float) -> dict[str, str]:
    if trial is None:
        return {"cache": f"about {_format_gigabytes(cache)} on disk (estimated)", "time": "not measured (--quick)"}
    return {
        "cache": f"{_format_gigabytes(trial.cache_gb)} on disk",
        "memory": f"{_format_gigabytes(trial.memory_gb)}",
        "gpu memory": _format_gigabytes(trial.gpu_memory_gb) if trial.gpu_memory_gb else "none used",
        "step": f"{trial.step_seconds:.3g} s in {trial.precision} (median of {trial.steps}, measured), "
        f"{trial.parameters / 1e6:.2g} million weights",
        "epoch": f"{_format_seconds(trial.epoch_seconds)}: {trial.steps_an_epoch} steps, validation not counted",
    }


def _state_both(proposed: str, configured: str) -> str:
    return proposed if proposed == configured else f"{proposed} proposed, {configured} configured"


def _join(values: Any) -> str:
    return " × ".join(f"{value:g}" if isinstance(value, int | float) else str(value) for value in values)


def _format_gigabytes(gigabytes: float) -> str:
    return f"{gigabytes:.1f} GB" if gigabytes >= 1 else f"{gigabytes * 1000:.0f} MB"


def _format_seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 90 else f"{seconds / 60:.1f} min"
