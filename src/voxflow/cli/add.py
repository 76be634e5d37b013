"""Runs ``voxflow add``: adds new patients to a workspace."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from voxflow.cli.command import Command
from voxflow.errors import EXIT_OK, ConfigError
from voxflow.progress import say

if TYPE_CHECKING:
    import argparse

MOST_REASONS = 10


@dataclass(frozen=True)
class AddCommand(Command):
    """Add patients.

    Attributes:
        folder: the images that have arrived.
        workspace: the workspace whose source they go to; None: the only one of params.yaml.
    """

    name: ClassVar[str] = "add"
    help: ClassVar[str] = "add new patients to a workspace; its test part stays as it is"

    folder: Path
    workspace: str | None = None

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """Declare the flags."""
        parser.add_argument("folder", type=Path, help="folder with the new DICOM, NIfTI or PNG files; they are copied")
        parser.add_argument("--to", dest="workspace", metavar="WORKSPACE", help="needed if params.yaml has several")

    def run(self) -> int:
        """Add, and say what was added and what comes next.

        Raises:
            ConfigError: it is not clear which workspace is meant.
        """
        from voxflow.locks import hold_file, hold_workspace
        from voxflow.places import PARAMS, Places, read_workspaces
        from voxflow.workspace import add_patients

        workspace = self.workspace
        if workspace is None:
            names = sorted(read_workspaces())
            if len(names) != 1:
                raise ConfigError(f"--to WORKSPACE is needed: {', '.join(names) or 'none'} are known", path=PARAMS)
            workspace = names[0]
        places = Places.of(workspace)
        with hold_workspace(workspace, self.name, say), hold_file(PARAMS, say):
            added = add_patients(places, self.folder)
        for reason in added.refused[:MOST_REASONS]:
            say(f"  no case: {reason}")
        if len(added.refused) > MOST_REASONS:
            say(f"  and {len(added.refused) - MOST_REASONS} more; dvc repro convert@{workspace} lists all of them")
        say(f"add {workspace}: {added.line()}")
        say(f"  git add params.yaml {places.source}.dvc; dvc repro report@{workspace}")
        return EXIT_OK
