"""The command ``voxflow``: finds the sub-command, runs it and returns its exit code.

Every command says what is wrong in one line, and ends with 0 when all is well, 1 for a failure while working, 2 for
wrong input, 3 when some cases failed and were reported, 4 for an alert, 130 when it was interrupted.
"""

from __future__ import annotations

import argparse
import sys
import traceback
from typing import TYPE_CHECKING, Any

from voxflow import __version__
from voxflow.cli.add import AddCommand
from voxflow.cli.adopt import AdoptCommand
from voxflow.cli.apps import EvaluateCommand, TrainCommand
from voxflow.cli.check import CheckCommand
from voxflow.cli.choose import ChooseCommand
from voxflow.cli.compare import CompareCommand
from voxflow.cli.convert import ConvertCommand
from voxflow.cli.drift import DriftCommand
from voxflow.cli.export import ExportCommand
from voxflow.cli.export_dataset import ExportDatasetCommand
from voxflow.cli.folds import FoldsCommand
from voxflow.cli.index import IndexCommand
from voxflow.cli.infer import InferCommand
from voxflow.cli.migrate import MigrateCommand
from voxflow.cli.new import NewCommand
from voxflow.cli.package import PackageCommand
from voxflow.cli.plan import PlanCommand
from voxflow.cli.profile import ProfileCommand
from voxflow.cli.promote import PromoteCommand, RollbackCommand
from voxflow.cli.serve import ServeCommand
from voxflow.cli.view import ViewCommand
from voxflow.errors import EXIT_FAILURE, EXIT_INTERRUPTED, VoxflowError
from voxflow.files import explain_os_error
from voxflow.progress import say

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

DESCRIPTION = """\
Train a model on a folder of hospital images, and use it.

Begin with your own images:
  voxflow new liver --source /data/liver   look into the folder, and make a workspace for it
  voxflow check liver                      list mistakes in its settings
  dvc repro report@liver                   convert, train, evaluate; then open mmars/liver/eval/report.html
Use a trained model:
  voxflow infer liver --images /data/new --out masks

`voxflow COMMAND --help` describes one command; docs/commands.md describes all of them."""
EXIT_CODES = """\
exit codes: 0 success; 1 failure; 2 wrong input; 3 some series were quarantined,
or some cases failed; 4 studies have drifted; 130 interrupted"""
# By what a user wants to do.
GROUPS: dict[str, tuple[Any, ...]] = {
    "data and settings": (
        *(NewCommand, AddCommand, CheckCommand, PlanCommand, ProfileCommand, FoldsCommand, ChooseCommand),
        *(ConvertCommand, ExportDatasetCommand),
    ),
    "models": (
        *(TrainCommand, ExportCommand, EvaluateCommand, InferCommand, ViewCommand, ServeCommand, PackageCommand),
        *(AdoptCommand, MigrateCommand),
    ),
    "after the first model": (CompareCommand, PromoteCommand, RollbackCommand, DriftCommand, IndexCommand),
}
COMMANDS = tuple(command for group in GROUPS.values() for command in group)


class _CommandParser(argparse.ArgumentParser):
    """The parser of one command, whose error shows this command's usage and not that of ``voxflow``."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        result, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return result, unknown


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of ``voxflow``, without importing what the commands need: ``--help`` must not wait for torch."""
    epilog = f"{_list_commands()}\n\n{EXIT_CODES}"
    plain = argparse.RawDescriptionHelpFormatter
    top = argparse.ArgumentParser(prog="voxflow", description=DESCRIPTION, epilog=epilog, formatter_class=plain)
    top.add_argument("--version", action="version", version=f"voxflow {__version__}")
    top.add_argument("--debug", action="store_true", help="show the traceback of a failure")
    commands = top.add_subparsers(
        dest="command", required=True, metavar="COMMAND", help="one of those below", parser_class=_CommandParser
    )
    for command in COMMANDS:
        command_parser = commands.add_parser(command.name, description=command.help)
        command.add_arguments(command_parser)
        command_parser.set_defaults(read=command.read)
    return top


def _list_commands() -> str:
    """The commands, one a line, in groups."""
    width = max(len(command.name) for command in COMMANDS)
    lines = []
    for title, group in GROUPS.items():
        lines += ["", f"{title}:", *(f"  {command.name:{width}}  {command.help}" for command in group)]
    return "\n".join(lines[1:])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: as typed after ``voxflow``; None: those of this process.

    Returns:
        The exit code; see :mod:`voxflow.errors`.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = make_parser()
    _refuse_unknown_command(parser, arguments)
    namespace = parser.parse_args(arguments)
    program = f"voxflow {namespace.command}"
    return run_guarded(program, lambda: int(namespace.read(namespace).run()), debug=namespace.debug)


def _refuse_unknown_command(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> None:
    """Show the whole help where nothing was typed, and the nearest command where one was misspelt.

    Raises:
        SystemExit: with 2.
    """
    if not arguments:
        parser.print_help(sys.stderr)
        parser.exit(2)
    names = [command.name for command in COMMANDS]
    name = next((argument for argument in arguments if not argument.startswith("-")), names[0])
    if name not in names:
        from voxflow.findings import suggest

        parser.error(f"no command is called {name!r}{suggest(name, names)}")


def run_guarded(program: str, run: Callable[[], int], *, debug: bool = False) -> int:
    """Run a command; what it raises on purpose becomes one line and an exit code.

    Args:
        program: stands before the line.
        run: returns the exit code.
        debug: show the traceback of such an error, too.

    Raises:
        Exception: any other error is a bug, and keeps its traceback.
    """
    # OSError too: a full disk or a missing permission is no bug, and its text names the file.
    try:
        return run()
    except (VoxflowError, OSError) as error:
        if debug:
            say(traceback.format_exc())
        say(f"{program}: error: {explain_os_error(error) if isinstance(error, OSError) else error}")
        return error.exit_code if isinstance(error, VoxflowError) else EXIT_FAILURE
    except KeyboardInterrupt:
        say(f"{program}: interrupted")
        return EXIT_INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
