"""Runs the programs of an MMAR: ``voxflow train|evaluate|infer|export MMAR`` and ``python -m nvmidl.apps.*``."""

from __future__ import annotations

import argparse
import logging
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from voxflow.cli.command import Command
from voxflow.cli.options import parse_options
from voxflow.errors import EXIT_INTERRUPTED, EXIT_OK, DataError
from voxflow.progress import say

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from voxflow.mmar import ExportNames

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
    help: ClassVar[str] = "train the model of an MMAR's training configuration"

    mmar: Path
    config: str = TRAIN_CONFIG
    environment: str | None = None
    settings: tuple[str, ...] = ()
    write_train_stats: bool = False

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """Declare the flags of ``voxflow train``."""
        parser.add_argument("mmar", type=Path, help="the MMAR folder")
        add_flags(parser, TRAIN_CONFIG)
        parser.add_argument("--write_train_stats", action="store_true", help="write models/train_stats.json")

    def run(self) -> int:
        """Train, and say how the training ended and what its best model scored.

        Returns:
            0, or 130 when the training was interrupted.
        """
        from voxflow.mmar import Mmar, parse_settings, train_mmar
        from voxflow.training import is_first_process

        mmar = Mmar.open(self.mmar, self.config, self.environment, parse_settings(self.settings))
        outcome = train_mmar(mmar, write_stats=self.write_train_stats)
        if is_first_process():
            say(f"train {mmar.root.name}: {outcome.summary()}")
        return EXIT_INTERRUPTED if outcome.result.ending == "interrupted" else EXIT_OK


@dataclass(frozen=True)
class EvaluateCommand(Command):
    """Judge an MMAR's model on labelled cases, or run it on any.

    Attributes:
        mmar, config, environment, settings: as of :class:`TrainCommand`.
    """

    name: ClassVar[str] = "evaluate"
    help: ClassVar[str] = "evaluate an MMAR's model with its validation configuration"

    mmar: Path
    config: str = VALIDATION_CONFIG
    environment: str | None = None
    settings: tuple[str, ...] = ()

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """Declare the flags."""
        parser.add_argument("mmar", type=Path, help="the MMAR folder")
        add_flags(parser, VALIDATION_CONFIG)

    def run(self) -> int:
        """Evaluate as the validation configuration says.

        Returns:
            0, or 3 when some cases could not be used.
        """
        from voxflow.mmar import Mmar, evaluate_mmar, parse_settings

        mmar = Mmar.open(self.mmar, self.config, self.environment, parse_settings(self.settings))
        outcome = evaluate_mmar(mmar)
        say(f"{self.name} {mmar.root.name}: {outcome.summary()}")
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


# Flags of the old export that speak of TensorFlow's graphs or of what is always so here.
IGNORED_FLAGS = {
    "input_node_names": "an exported model's input is called 'image'",
    "output_node_names": "its output is called 'logits'",
    "checkpoint_ext": "a checkpoint ends in .pt",
    "meta_file_ext": "a checkpoint is one file",
    "trt_min_seg_size": "an engine takes the network whole",
    "trt_dynamic_mode": "sizes are always open",
}


@dataclass(frozen=True)
class ExportCommand(Command):
    """Export a checkpoint.

    Attributes:
        folder: the models folder.
        names: which checkpoint, and what the files are called.
        precision: "FP16": OpenVINO's weights, and TensorRT's arithmetic, in half precision.
        batch: greatest batch of a TensorRT engine.
        settings: fields of ``ExportOptions``, which win.
        unused: flags that were given and mean nothing here, with the reason.
    """

    name: ClassVar[str] = "export"
    help: ClassVar[str] = "export an MMAR's checkpoint as a regular and an optimised model"

    folder: Path
    names: ExportNames
    precision: str = "FP32"
    batch: int = 5
    settings: Mapping[str, Any] = field(default_factory=dict)
    unused: Mapping[str, str] = field(default_factory=dict)

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """Declare the flags of ``voxflow export``."""
        parser.add_argument("mmar", type=Path, help="the MMAR folder, a folder of checkpoints, or one checkpoint (.pt)")
        parser.add_argument("--model_name", default="model", help="base name of the checkpoint (default: %(default)s)")
        add_export_flags(parser)
        parser.add_argument(
            "--openvino_precision",
            choices=("fp32", "bf16", "int8"),
            help="precision of the OpenVINO model; bf16, int8: only if the masks stay the same (default: fp32)",
        )
        keys = "keys of 'export' in params.yaml, such as engines='[\"onnx\"]' or tensorrt_precision=fp16"
        add_set_flag(parser, keys)

    @classmethod
    def read(cls, arguments: argparse.Namespace) -> ExportCommand:
        """Take the parsed flags of ``voxflow export`` or of the old programs, which name the folder by another flag.

        Raises:
            DataError: a file that is no checkpoint was named.
        """
        from voxflow.mmar import ExportNames, parse_settings

        name, folder = arguments.model_name, getattr(arguments, "model_file_path", None)
        if folder is None:
            folder, name = _find_checkpoint(arguments.mmar, name)
        names = ExportNames(name, arguments.regular_frozen_file_ext, arguments.trt_file_ext)
        unused = {flag: why for flag, why in IGNORED_FLAGS.items() if getattr(arguments, flag) not in (None, False)}
        settings = dict(parse_settings(getattr(arguments, "settings", ())))
        if getattr(arguments, "openvino_precision", None) is not None:
            settings["openvino_precision"] = arguments.openvino_precision
        return cls(folder, names, arguments.trt_precision_mode, arguments.max_batch_size, settings, unused)

    def run(self) -> int:
        """Export, and say which files were made.

        Raises:
            ConfigError: a setting that there is not, or a wrong value.
            DataError: no checkpoint is there.
        """
        from voxflow.export import ExportOptions
        from voxflow.mmar import export_checkpoint

        say_unused(self.unused)
        half = self.precision == "FP16"
        values = {"fp16_weights": half, "tensorrt_precision": "fp16" if half else "fp32", "tensorrt_batch": self.batch}
        options = parse_options(ExportOptions, values | dict(self.settings))
        outcome = export_checkpoint(self.folder, self.names, options)
        say(f"export: {outcome.summary()} → {self.folder}")
        return EXIT_OK


def _find_checkpoint(path: Path, name: str) -> tuple[Path, str]:
    """The folder and the base name of the checkpoint that a path stands for."""
    from voxflow.mmar import Mmar

    if path.is_file():
        if path.suffix != ".pt":
            raise DataError("only a checkpoint (.pt) can be exported", path=path)
        return path.parent, path.stem
    return (path if (path / f"{name}.pt").is_file() else Mmar.open(path).models), name


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


def add_export_flags(parser: argparse.ArgumentParser) -> None:
    """Declare every flag that Clara's export had beside path and name of the model; some have no meaning here."""
    parser.add_argument(
        "--model_file_format", choices=("CKPT",), default="CKPT", help="kind of the exported file: always a checkpoint"
    )
    regular = "the regular model's suffix (default: %(default)s)"
    parser.add_argument("--regular_frozen_file_ext", default=".fzn.pb", help=regular)
    parser.add_argument("--trt_file_ext", default=".trt.pb", help="the optimised model's suffix (default: %(default)s)")
    parser.add_argument("--trt_precision_mode", choices=("FP32", "FP16"), default="FP32", help="of the optimised model")
    parser.add_argument("--max_batch_size", type=_parse_positive, default=5, help="largest TensorRT batch (default: 5)")
    for flag, why in IGNORED_FLAGS.items():
        action = "store_true" if flag == "trt_dynamic_mode" else "store"
        parser.add_argument(f"--{flag}", action=action, help=f"accepted: {why}")


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
    return _run_app(TrainCommand, "train", arguments)


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
    parser = argparse.ArgumentParser(prog=program, description=ExportCommand.help, allow_abbrev=False)
    parser.add_argument("--model_file_path", type=Path, required=True, help="the folder of models")
    parser.add_argument("--model_name", default="model", help="base name of the checkpoint (default: %(default)s)")
    add_export_flags(parser)
    return run_command("export", parser, ExportCommand.read, arguments)


def _run_app(command: type[TrainCommand | EvaluateCommand], name: str, arguments: Sequence[str] | None) -> int:
    parser = argparse.ArgumentParser(prog=f"nvmidl.apps.{name}", description=command.help, allow_abbrev=False)
    config = TRAIN_CONFIG if name == "train" else VALIDATION_CONFIG
    parser.add_argument("-m", "--mmar", type=Path, required=True, help="the MMAR folder")
    add_flags(parser, config)
    if name == "train":
        parser.add_argument("--write_train_stats", action="store_true", help="write models/train_stats.json")
    return run_command(name, parser, command.read, arguments)


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


def _parse_positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more, received {text}")
    return value
