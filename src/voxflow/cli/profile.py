"""Runs ``voxflow profile``: derives a suite of data checks from a workspace's own data."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from voxflow.cli.command import Command
from voxflow.errors import EXIT_OK, ConfigError, DataError
from voxflow.progress import say

if TYPE_CHECKING:
    import argparse


@dataclass(frozen=True)
class ProfileCommand(Command):
    """Make suites.

    Attributes:
        workspace: the workspace whose data are profiled.
        writes: put them into params.yaml; otherwise they are printed.
        replaces: also where there are suites already, which may have been edited.
    """

    name: ClassVar[str] = "profile"
    help: ClassVar[str] = "derive data checks for each modality from a workspace's data; you can edit them"

    workspace: str
    writes: bool = False
    replaces: bool = False

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """Declare the flags."""
        parser.add_argument("workspace", help="a key below 'workspaces' in params.yaml")
        parser.add_argument("--write", action="store_true", dest="writes", help="write the checks into params.yaml")
        parser.add_argument(
            "--replace", action="store_true", dest="replaces", help="replace the checks that params.yaml already has"
        )

    def run(self) -> int:
        """Profile what the stage validate measured.

        Raises:
            DataError: it has not run, or there are too few cases.
            ConfigError: there are suites already.
        """
        import pandas as pd

        from voxflow.files import read_text, write_text
        from voxflow.places import PARAMS, Places
        from voxflow.quality import profile_suites
        from voxflow.workspace import format_yaml, set_value

        places = Places.of(self.workspace)
        measured = places.quality / "measurements.csv"
        if not measured.is_file():
            raise DataError("file not found; the stage validate writes it", path=measured)
        suites = profile_suites(pd.read_csv(measured))
        if not self.writes:
            sys.stdout.write(format_yaml({"validate": {"suites": suites}}))
            return EXIT_OK
        json_path = f"workspaces.{self.workspace}.validate.suites"
        if (places.block.get("validate") or {}).get("suites") and not self.replaces:
            raise ConfigError(
                "there are suites already; --replace overwrites what was edited", path=PARAMS, where=json_path
            )
        keys = ("workspaces", self.workspace, "validate", "suites")
        write_text(PARAMS, set_value(read_text(PARAMS), keys, suites))
        count = sum(len(rules) for rules in suites.values())
        say(f"profile {self.workspace}: {count} rules for {', '.join(suites)} → {PARAMS}: {json_path}; edit them there")
        return EXIT_OK
