"""Runs ``voxflow choose``: compares configurations of a workspace by cross-validation."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from voxflow.cli.command import Command
from voxflow.errors import EXIT_OK
from voxflow.progress import say

if TYPE_CHECKING:
    import argparse

    from voxflow.choosing import Candidate, Decision


@dataclass(frozen=True)
class ChooseCommand(Command):
    """Choose a workspace's configuration.

    Attributes:
        workspace: a key of params.yaml.
        candidates: names of configurations, or NAME=JSON.
        folds: how many; None: those of the workspace.
        minutes: of each training; None: those of the workspace.
        applies: write what was chosen into params.yaml.
    """

    name: ClassVar[str] = "choose"
    help: ClassVar[str] = "choose a workspace's configuration (full, 2d, residual) by cross-validation"

    workspace: str
    candidates: list[str]
    folds: int | None
    minutes: float | None
    applies: bool

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """Declare the arguments."""
        parser.add_argument("workspace", help="a key below 'workspaces' in params.yaml, with plan: auto")
        parser.add_argument(
            "candidates",
            nargs="+",
            metavar="CANDIDATE",
            help="full, 2d, residual, or NAME=JSON with values of train.set; full is always compared with",
        )
        parser.add_argument("--folds", type=int, metavar="K", help="number of folds (default: the split's, or 5)")
        parser.add_argument("--minutes", type=float, metavar="N", help="of each training (default: max_minutes)")
        parser.add_argument("--apply", dest="applies", action="store_true", help="write the choice into params.yaml")

    def run(self) -> int:
        """Train the candidates that are not trained yet, decide, and say what was chosen.

        Raises:
            ConfigError: a candidate is unknown, or the workspace is not planned by ``plan: auto``.
            DataError: the data are not there, or too few.
        """
        from voxflow.choosing import parse_candidates, plan_comparison
        from voxflow.locks import hold_workspace

        candidates = parse_candidates(self.candidates)
        comparison = plan_comparison(self.workspace, candidates, folds=self.folds, minutes=self.minutes)
        with hold_workspace(self.workspace, self.name, say):
            decision = comparison.run()
            if self.applies:
                _apply(self.workspace, next(c for c in candidates if c.name == decision.chosen))
        sys.stdout.write(_describe(decision))
        say(f"choose {self.workspace}: {decision.reason} → {comparison.folder / 'choice.md'}")
        return EXIT_OK


def _describe(decision: Decision) -> str:
    width = max(len(candidate.name) for candidate in decision.candidates)
    lines = []
    for candidate in decision.candidates:
        gain = f", {candidate.gain:+.4f} ± {candidate.standard_error:.4f}, p = {candidate.p:.2g}"
        compared = "" if candidate is decision.candidates[0] else gain
        lines.append(f"{candidate.name:{width}}  Dice {candidate.dice:.4f} of {candidate.cases} cases{compared}\n")
    return "".join(lines) + f"chosen: {decision.chosen}\n"


def _apply(workspace: str, chosen: Candidate) -> None:
    from voxflow.locks import hold_file
    from voxflow.workspace import set_configuration

    params = Path("params.yaml")
    with hold_file(params, say):
        set_configuration(params, workspace, chosen.configuration)
    if chosen.set:
        say(f"choose {workspace}: write these values below train.set in params.yaml yourself: {dict(chosen.set)}")
