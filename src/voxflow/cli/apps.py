"""Runs the programs of an MMAR: ``voxflow train|evaluate|infer|export MMAR`` and ``python -m nvmidl.apps.*``."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from voxflow.cli.command import Command
from voxflow.cli.mmar_path import WORKSPACE_HELP, find_mmar
from voxflow.errors import EXIT_INTERRUPTED, EXIT_OK
from voxflow.progress import say

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

# Where an MMAR has its files; the flags -c and -e name others.
TRAIN_CONFIG = "config/config_train.json"
VALIDATION_CONFIG = "config/config_validation.json"
MODELS = "models"


@dataclass(frozen=True)
class TrainCommand(Command):
    """Train an MMAR.

    Attributes:
        mmar: the folder.
        config: the training configuration, relative to the MMAR.
        environment: the environment file, relative to the MMAR; None: config/environment.json where there is one.
        settings: ``KEY=VALUE`` as typed.
        write_train_stats: leave train_stats.json beside the models.
    """

    name: ClassVar[str] = "train"
    help: ClassVar[str] = "train a workspace's model alone, without the other stages"

    mmar: Path
    config: str = TRAIN_CONFIG
    environment: str | None = None
    settings: tuple[str, ...] = ()
    write_train_stats: bool = False
    allow_repeated_cases: ClassVar[bool] = False

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """Declare the flags of ``voxflow train``."""
        parser.add_argument("mmar", type=Path, metavar="WORKSPACE", help=WORKSPACE_HELP)
        add_flags(parser, TRAIN_CONFIG)
        parser.add_argument("--write_train_stats", action="store_true", help="write models/train_stats.json")

    def run(self) -> int:
        """Train, and say how the training ended and what its best model scored.

        Returns:
            0, or 130 when the training was interrupted.
        """
        from voxflow.mmar import Mmar, parse_settings, train_mmar
        from voxflow.training import is_first_process

        mmar = Mmar.open(find_mmar(self.mmar), self.config, self.environment, parse_settings(self.settings))
        outcome = train_mmar(mmar, write_stats=self.write_train_stats, allow_repeated_cases=self.allow_repeated_cases)
        if is_first_process():
            say(f"train {mmar.name}: {outcome.summary()}")
        return EXIT_INTERRUPTED if outcome.result.ending == "interrupted" else EXIT_OK


class TrainAppCommand(TrainCommand):
    """Train as Clara's own train.sh does, which lets a case stand in two parts of a datalist that a person wrote."""

    allow_repeated_cases = True


@dataclass(frozen=True)
class EvaluateCommand(Command):
    """Judge an MMAR's model on labelled cases, or run it on any.

    Attributes:
        mmar, config, environment, settings: as of :class:`TrainCommand`.
    """

    name: ClassVar[str] = "evaluate"
    help: ClassVar[str] = "evaluate a workspace's model alone, by its validation configuration"

    mmar: Path
    config: str = VALIDATION_CONFIG
    environment: str | None = None
    settings: tuple[str, ...] = ()

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """Declare the flags."""
        parser.add_argument("mmar", type=Path, metavar="WORKSPACE", help=WORKSPACE_HELP)
        add_flags(parser, VALIDATION_CONFIG)

    def run(self) -> int:
        """Evaluate as the validation configuration says.

        Returns:
            0, or 3 when some cases could not be used.
        """
        from voxflow.mmar import Mmar, evaluate_mmar, parse_settings

        mmar = Mmar.open(find_mmar(self.mmar), self.config, self.environment, parse_settings(self.settings))
        outcome = evaluate_mmar(mmar)
        say(f"{self.name} {mmar.name}: {outcome.summary()}")
        return outcome.exit_code


class InferMmarCommand(EvaluateCommand):
    """Run an MMAR's model on cases, labels or not: what infer.sh does."""

    name = "infer"
    help = "run an MMAR's model on cases and write masks or predictions"

    @classmethod
    def read(cls, arguments: argparse.Namespace) -> InferMmarCommand:
        """Take the parsed flags; settings that were typed win over those that make this differ from evaluate."""
        settings = ("do_validation=false", "output_infer_result=true", *arguments.settings)
        return cls(arguments.mmar, arguments.config, arguments.environment, settings)


def add_flags(parser: argparse.ArgumentParser, config: str) -> None:
    """Declare the flags that training and evaluation share; ``config`` is the default configuration."""
    parser.add_argument("-c", "--config", default=config, help="configuration, relative to the MMAR (%(default)s)")
    parser.add_argument("-e", "--environment", help="environment file (default: config/environment.json if it exists)")
    add_set_flag(parser, "values that replace those of the environment and the configuration")


def add_set_flag(parser: argparse.ArgumentParser, meaning: str) -> None:
    """Declare ``--set KEY=VALUE ...``, which may be given several times."""
    parser.add_argument(
        "--set", dest="settings", nargs="*", action="extend", default=[], metavar="KEY=VALUE", help=meaning
    )


def add_rank_flag(parser: argparse.ArgumentParser) -> None:
    """Declare what torch.distributed.launch adds for each process; the ranks themselves stand in the environment."""
    parser.add_argument(
        "--local-rank", "--local_rank", dest="local_rank", type=int, help="as torch's launcher gives it"
    )


def say_unused(unused: Mapping[str, str]) -> None:
    """Say in one line which of the given flags mean nothing here, each with its reason."""
    if unused:
        reasons = ", ".join(f"--{flag} ({why})" for flag, why in unused.items())
        say(f"no meaning here: {reasons}")


def train_main(arguments: Sequence[str] | None = None) -> int:
    """Run ``python -m nvmidl.apps.train``, which Clara's train.sh calls.

    Returns:
        The exit code; see :mod:`voxflow.errors`.
    """
    return _run_app(TrainAppCommand, "train", arguments)


def evaluate_main(arguments: Sequence[str] | None = None) -> int:
    """Run ``python -m nvmidl.apps.evaluate``, which Clara's validate.sh and infer.sh call.

    Returns:
        The exit code; see :mod:`voxflow.errors`.
    """
    return _run_app(EvaluateCommand, "evaluate", arguments)


def export_main(arguments: Sequence[str] | None = None, program: str = "nvmidl.apps.export") -> int:
    """Run ``python -m nvmidl.apps.export``, or the same as ``tlt-export``.

    Args:
        arguments: as typed; None: those of this process.
        program: its name, for messages.

    Returns:
        The exit code; see :mod:`voxflow.errors`.
    """
    from voxflow.cli.export import run_export

    return run_export(arguments, program)


def _run_app(command: type[TrainCommand | EvaluateCommand], name: str, arguments: Sequence[str] | None) -> int:
    parser = argparse.ArgumentParser(prog=f"nvmidl.apps.{name}", description=command.help, allow_abbrev=False)
    config = TRAIN_CONFIG if name == "train" else VALIDATION_CONFIG
    parser.add_argument("-m", "--mmar", type=Path, required=True, help="the MMAR folder")
    add_flags(parser, config)
    add_rank_flag(parser)
    if name == "train":
        parser.add_argument("--write_train_stats", action="store_true", help="write models/train_stats.json")
    return run_command(name, parser, lambda namespace: _read_app(command, namespace), arguments)


def _read_app(command: type[TrainCommand | EvaluateCommand], namespace: argparse.Namespace) -> Command:
    """The command of one process; of several that evaluate, the first does all the work."""
    if namespace.local_rank is not None:
        os.environ.setdefault("LOCAL_RANK", str(namespace.local_rank))
    if issubclass(command, EvaluateCommand) and os.environ.get("RANK", "0") != "0":
        return IdleCommand()
    return command.read(namespace)


class IdleCommand(Command):
    """Do nothing: another process of the same job does it all."""

    name = "idle"
    help = "do nothing"

    def run(self) -> int:
        """Return success."""
        return EXIT_OK


def run_command(
    program: str,
    parser: argparse.ArgumentParser,
    read: Callable[[argparse.Namespace], Command],
    arguments: Sequence[str] | None = None,
) -> int:
    """Parse the command line of a program that is one command, and run it; what is wrong is one line.

    Args:
        program: its name, for messages.
        parser: with all flags but ``--debug``.
        read: makes the command from the parsed flags.
        arguments: as typed, without the program's name; None: those of this process.

    Returns:
        The exit code; see :mod:`voxflow.errors`.
    """
    from voxflow.cli.main import run_guarded

    parser.add_argument("--debug", action="store_true", help="show the traceback of a failure")
    namespace = parser.parse_args(sys.argv[1:] if arguments is None else list(arguments))
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    return run_guarded(program, lambda: read(namespace).run(), debug=namespace.debug)
