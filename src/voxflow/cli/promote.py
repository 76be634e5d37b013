"""Runs ``voxflow promote`` and ``voxflow rollback``: choose the champion, by rules or by a person's decision."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from voxflow.cli.command import Command
from voxflow.errors import EXIT_OK, ConfigError
from voxflow.progress import say

if TYPE_CHECKING:
    import argparse


@dataclass(frozen=True)
class PromoteCommand(Command):
    """Let a model become champion.

    Attributes:
        workspace: the workspace whose model is to be promoted.
        version: one of its versions; None: its present model.
        because: why it needs no comparison; empty: the rules decide.
    """

    name: ClassVar[str] = "promote"
    help: ClassVar[str] = "make a workspace's model champion if it is better than the present one, or by hand"

    workspace: str
    version: str | None = None
    because: str = ""

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """Declare the flags."""
        parser.add_argument("workspace", help="a key below 'workspaces' in params.yaml")
        parser.add_argument("--version", help="version number or alias to promote by hand (default: challenger)")
        because = "promote by hand, without a comparison; the reason is stored with the version"
        parser.add_argument("--because", default="", metavar="REASON", help=because)

    def run(self) -> int:
        """Decide, and say why.

        Raises:
            ConfigError: a version was named without a reason.
        """
        from voxflow.locks import hold_workspace
        from voxflow.promotion import PromoteOptions, judge_candidate, promote_by_hand, read_candidate
        from voxflow.tracking import CHALLENGER, use_store

        if self.version and not self.because:
            raise ConfigError("--version needs --because: what the rules compare is the workspace's present model")
        with hold_workspace(self.workspace, self.name, say), use_store(Path.cwd()):
            if self.because:
                decision = promote_by_hand(self.workspace, self.version or CHALLENGER, self.because)
            else:
                from voxflow.places import Places

                places = Places.of(self.workspace)
                options = places.options_of("promote", PromoteOptions)
                decision = judge_candidate(read_candidate(places), options, moves_alias=True)
        say(f"promote {self.workspace}: {decision.line()}")
        return EXIT_OK


@dataclass(frozen=True)
class RollbackCommand(Command):
    """Make the champion before this one champion again.

    Attributes:
        workspace: the workspace whose champion goes back.
        because: why; stands on the version that is left.
    """

    name: ClassVar[str] = "rollback"
    help: ClassVar[str] = "make the previous champion the champion again"

    workspace: str
    because: str = ""

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """Declare the flags."""
        parser.add_argument("workspace", help="the workspace, which is also the name of the registered model")
        because = "the reason, which is stored with the version that is no longer champion"
        parser.add_argument("--because", default="", metavar="REASON", help=because)

    def run(self) -> int:
        """Move the alias ``champion`` back, and say to which version.

        Raises:
            ConfigError: there is no champion, or none before it.
        """
        from voxflow.locks import hold_workspace
        from voxflow.promotion import roll_back
        from voxflow.tracking import use_store

        with hold_workspace(self.workspace, self.name, say), use_store(Path.cwd()):
            former, champion = roll_back(self.workspace, self.because)
        say(f"rollback {self.workspace}: version {champion.number} is champion again, version {former.number} was left")
        return EXIT_OK
