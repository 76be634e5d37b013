"""Runs ``voxflow folds``: switches the cross-validation of a workspace on and off."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from voxflow.cli.command import Command
from voxflow.errors import EXIT_OK
from voxflow.progress import say

if TYPE_CHECKING:
    import argparse


@dataclass(frozen=True)
class FoldsCommand(Command):
    """Write a workspace's folds into params.yaml.

    Attributes:
        workspace: a key of params.yaml.
        count: how many; 0 for none.
    """

    name: ClassVar[str] = "folds"
    help: ClassVar[str] = "switch a workspace's cross-validation on or off: k trainings and an ensemble of their models"

    workspace: str
    count: int

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """Declare the arguments."""
        parser.add_argument("workspace", help="a key below 'workspaces' in params.yaml")
        parser.add_argument("count", type=int, help="number of folds, 2 or more; 0 switches the cross-validation off")

    def run(self) -> int:
        """Write the folds into params.yaml, and say what comes next.

        Raises:
            ConfigError: no such workspace, a count of 1, or a file that can't be edited line by line.
        """
        from voxflow.locks import hold_file, hold_workspace
        from voxflow.workspace import set_folds

        params = Path("params.yaml")
        with hold_workspace(self.workspace, self.name, say), hold_file(params, say):
            set_folds(params, self.workspace, self.count)
        if self.count:
            say(f"folds {self.workspace}: {self.count} in params.yaml; now run")
            say(f"  dvc repro evaluate_ensemble@{self.workspace}")
        else:
            say(f"folds {self.workspace}: none any more; what earlier ones made stays until you remove it")
        return EXIT_OK
