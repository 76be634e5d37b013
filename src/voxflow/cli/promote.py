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

    from voxflow.places import Places
    from voxflow.promotion import Decision


@dataclass(frozen=True)
class PromoteCommand(Command):
    """Let a model become champion.

    Attributes:
        workspace: the workspace whose model is to be promoted.
        version: one of its versions; None: its present model.
        because: why it needs no comparison; empty: the rules decide.
        evaluates_champion: evaluate the champion on the present test part first.
    """

    name: ClassVar[str] = "promote"
    help: ClassVar[str] = "make a workspace's model champion if it is better than the present one, or by hand"

    workspace: str
    version: str | None = None
    because: str = ""
    evaluates_champion: bool = False

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """Declare the flags."""
        parser.add_argument("workspace", help="name of the workspace")
        parser.add_argument("--version", help="version number or alias to promote by hand (default: challenger)")
        because = "promote by hand, without a comparison; the reason is stored with the version"
        parser.add_argument("--because", default="", metavar="REASON", help=because)
        champion = "evaluate the champion on the present test part first, where it was judged on another one"
        parser.add_argument("--evaluate-champion", dest="evaluates_champion", action="store_true", help=champion)

    def run(self) -> int:
        """Decide, say why, and renew decision.json, the report and the index.

        Raises:
            ConfigError: a version was named without a reason.
        """
        from voxflow.locks import hold_workspace
        from voxflow.promotion import (
            PromoteOptions,
            evaluate_champion,
            judge_candidate,
            promote_by_hand,
            read_candidate,
        )
        from voxflow.tracking import CHALLENGER, use_store

        if self.version and not self.because:
            raise ConfigError("--version needs --because: what the rules compare is the workspace's present model")
        with hold_workspace(self.workspace, self.name, say), use_store(Path.cwd()):
            if self.because:
                decision = promote_by_hand(
                    _find_registered_name(self.workspace), self.version or CHALLENGER, self.because
                )
                _renew_pages(self.workspace, decision)
            else:
                from voxflow.places import Places

                places = Places.of(self.workspace)
                options = places.options_of("promote", PromoteOptions)
                candidate = read_candidate(places)
                if self.evaluates_champion:
                    evaluate_champion(places, candidate.judged.test_part)
                decision = judge_candidate(candidate, options, moves_alias=True)
                _write_pages(places, decision)
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
        parser.add_argument("workspace", help="name of the workspace, which the registered model has, too")
        because = "the reason, which is stored with the version that is no longer champion"
        parser.add_argument("--because", default="", metavar="REASON", help=because)

    def run(self) -> int:
        """Move the alias ``champion`` back, and say to which version.

        Raises:
            ConfigError: there is no champion, or none before it.
        """
        from voxflow.locks import hold_workspace
        from voxflow.promotion import Decision, roll_back
        from voxflow.tracking import use_store

        with hold_workspace(self.workspace, self.name, say), use_store(Path.cwd()):
            former, champion = roll_back(_find_registered_name(self.workspace), self.because)
            reason = f"by hand: version {former.number} was rolled back{f': {self.because}' if self.because else ''}"
            facts = {"challenger": champion.number, "champion": former.number}
            _renew_pages(self.workspace, Decision("promoted", (reason,), facts=facts))
        say(f"rollback {self.workspace}: version {champion.number} is champion again, version {former.number} was left")
        return EXIT_OK


def _find_registered_name(workspace: str) -> str:
    """The registered model of a workspace; what params.yaml does not have is the name of one itself."""
    from voxflow.places import Places, read_workspaces

    return Places.of(workspace).registered_name if workspace in read_workspaces() else workspace


def _renew_pages(workspace: str, decision: Decision) -> None:
    """Renew decision.json, the report and the index after a decision by hand, as far as the workspace is here."""
    from voxflow.errors import DataError
    from voxflow.places import Places, read_workspaces
    from voxflow.promotion import describe_for_present_model, digest_export
    from voxflow.tracking import CHAMPION, find_version

    champion = find_version(_find_registered_name(workspace), CHAMPION)
    if workspace not in read_workspaces() or champion is None:
        return
    places = Places.of(workspace)
    try:
        digest = digest_export(places.models / "export")
    except DataError:  # nothing was exported here, so no report is about it
        return
    _write_pages(places, describe_for_present_model(decision, champion, digest))


def _write_pages(places: Places, decision: Decision) -> None:
    """Write decision.json, and renew the pages that show it; a report that was never made is not made now."""
    from voxflow.cli.index import IndexCommand
    from voxflow.files import write_json
    from voxflow.reporting import ReportOptions, ReportSources, write_report

    write_json(places.evaluation / "decision.json", decision.as_json())
    page = places.evaluation / "report.html"
    if page.is_file():
        options = places.options_of("report", ReportOptions)
        write_report(ReportSources.of(places), page, page.with_name("model_card.md"), options)
        say(f"report {places.workspace}: shows the decision → {page}")
    IndexCommand().run()
