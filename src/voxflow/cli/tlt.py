"""Runs ``tlt-train``, ``tlt-export``, ``tlt-evaluate`` and ``tlt-infer`` with the flags of TLT 2.0."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from voxflow.cli.apps import add_set_flag, export_main, run_command, say_unused
from voxflow.cli.command import Command
from voxflow.errors import EXIT_INTERRUPTED, EXIT_OK
from voxflow.progress import say

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from voxflow.mmar import Mmar

IGNORED_FLAGS = {
    "metagraph_tag": "a model file holds one graph",
    "signature_tag": "a model file has one input and one output",
}
ROOT_HELP = "folder that the datalist's paths are relative to"
SET_HELP = "values that win over the configuration"


@dataclass(frozen=True)
class TltTrainCommand(Command):
    """Train with TLT 2's flags.

    Attributes:
        task: "segmentation" or "classification".
        config: the configuration.
        datalist: the cases.
        output: folder for checkpoints and event files.
        checkpoint: weights to start from; None or empty: from scratch.
        file_root: what the datalist's paths are relative to; None: the configuration's image_base_dir, else the
            datalist's folder.
        settings: ``KEY=VALUE`` as typed.
    """

    task: str
    config: Path
    datalist: Path
    output: Path
    checkpoint: str | None = None
    file_root: Path | None = None
    settings: tuple[str, ...] = ()

    def run(self) -> int:
        """Train, and say how it ended.

        Returns:
            0, or 130 when the training was interrupted.
        """
        from voxflow.mmar import train_mmar
        from voxflow.training import is_first_process

        values = {"PROCESSING_TASK": self.task, "MMAR_CKPT_DIR": _absolute(self.output)}
        if self.checkpoint:
            values["MMAR_CKPT"] = _absolute(Path(self.checkpoint))
        mmar = _open_mmar(self.config, self.datalist, self.file_root, values, self.settings)
        outcome = train_mmar(mmar, allow_repeated_cases=True)  # as TLT 2 did
        if is_first_process():
            say(f"tlt-train {self.task}: {outcome.summary()}")
        return EXIT_INTERRUPTED if outcome.result.ending == "interrupted" else EXIT_OK


@dataclass(frozen=True)
class TltEvaluateCommand(Command):
    """Judge or run a model with TLT 2's flags.

    Attributes:
        program: "tlt-evaluate" or "tlt-infer".
        model: the model file, or a name that stands for one.
        config: the configuration.
        datalist: the cases, under ``validation`` unless ``--set DATA_LIST_KEY`` says otherwise.
        output: folder for the results.
        file_root: what the datalist's paths are relative to; None: the datalist's folder.
        setup: windows over the image, or the whole image at once; None: as the model was trained.
        overwrite: replace results that are there.
        settings: ``KEY=VALUE`` as typed.
        unused: flags that were given and mean nothing here.
    """

    program: Literal["tlt-evaluate", "tlt-infer"]
    model: Path
    config: Path
    datalist: Path
    output: Path
    file_root: Path | None = None
    setup: Literal["scanning_window", "standard"] | None = None
    overwrite: bool = True
    settings: tuple[str, ...] = ()
    unused: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, arguments: argparse.Namespace) -> Command:
        """Take the parsed flags, and note those that mean nothing here."""
        arguments.unused = {flag: why for flag, why in IGNORED_FLAGS.items() if getattr(arguments, flag) is not None}
        return super().read(arguments)

    def run(self) -> int:
        """Evaluate or infer, and say what came of it.

        Returns:
            0, or 3 when some cases could not be used.
        """
        from voxflow.mmar import evaluate_mmar

        say_unused(self.unused)
        measures = self.program == "tlt-evaluate"
        values = {
            "MMAR_EVAL_OUTPUT_PATH": _absolute(self.output),
            "MMAR_CKPT_DIR": _absolute(self.model.parent),
            "do_validation": measures,
            "output_infer_result": not measures,
        }
        mmar = _open_mmar(self.config, self.datalist, self.file_root, values, self.settings)
        model = self.model.absolute()
        outcome = evaluate_mmar(
            mmar, model=model, setup=self.setup, overwrite=self.overwrite, keep_predictions=measures
        )
        say(f"{self.program}: {outcome.summary()}")
        return outcome.exit_code


def train_main(arguments: Sequence[str] | None = None) -> int:
    """Run ``tlt-train``.

    Args:
        arguments: as typed; None: those of this process.

    Returns:
        The exit code; see :mod:`voxflow.errors`.
    """
    parser = argparse.ArgumentParser(prog="tlt-train", description="Train a model.", allow_abbrev=False)
    parser.add_argument("task", choices=("segmentation", "classification"), help="task of the model")
    parser.add_argument("-e", dest="config", type=_parse_path, required=True, metavar="CONFIG", help="configuration")
    parser.add_argument("-d", dest="datalist", type=_parse_path, required=True, metavar="DATALIST", help="datalist")
    events = "folder for checkpoints and event files"
    parser.add_argument("-r", dest="output", type=_parse_path, required=True, metavar="FOLDER", help=events)
    parser.add_argument("-c", dest="checkpoint", metavar="CHECKPOINT", help="weights to start from")
    parser.add_argument("--file_root", type=_parse_path, metavar="FOLDER", help=ROOT_HELP)
    add_set_flag(parser, SET_HELP)
    return run_command("tlt-train", parser, TltTrainCommand.read, arguments)


def tlt_export_main(arguments: Sequence[str] | None = None) -> int:
    """Run ``tlt-export``."""
    return export_main(arguments, "tlt-export")


def evaluate_main(arguments: Sequence[str] | None = None) -> int:
    """Run ``tlt-evaluate``.

    Args:
        arguments: as typed; None: those of this process.

    Returns:
        The exit code; see :mod:`voxflow.errors`.
    """
    return _run_evaluate("tlt-evaluate", arguments)


def infer_main(arguments: Sequence[str] | None = None) -> int:
    """Run ``tlt-infer``.

    Args:
        arguments: as typed; None: those of this process.

    Returns:
        The exit code; see :mod:`voxflow.errors`.
    """
    return _run_evaluate("tlt-infer", arguments)


def _run_evaluate(program: Literal["tlt-evaluate", "tlt-infer"], arguments: Sequence[str] | None) -> int:
    description = "Evaluate a model on labelled cases." if program == "tlt-evaluate" else "Run a model on cases."
    parser = argparse.ArgumentParser(prog=program, description=description, allow_abbrev=False)
    parser.set_defaults(program=program)
    model = "model file, such as model.trt.pb"
    parser.add_argument("--model_save_path", dest="model", type=_parse_path, required=True, help=model)
    parser.add_argument(
        "--model_format", choices=("trtmodel",), default="trtmodel", help="accepted; the file itself shows its format"
    )
    parser.add_argument("--config", type=_parse_path, required=True, help="configuration")
    parser.add_argument("--data_file", dest="datalist", type=_parse_path, required=True, help="datalist")
    parser.add_argument("--output_path", dest="output", type=_parse_path, required=True, help="folder for the results")
    parser.add_argument("--file_root", type=_parse_path, help=ROOT_HELP)
    parser.add_argument("--setup", choices=("scanning_window", "standard"), help="windows, or the whole image at once")
    parser.add_argument("--no_overwrite", dest="overwrite", action="store_false", help="keep existing results")
    for flag, why in IGNORED_FLAGS.items():
        parser.add_argument(f"--{flag}", help=f"accepted: {why}")
    add_set_flag(parser, SET_HELP)
    return run_command(program, parser, TltEvaluateCommand.read, arguments)


def _open_mmar(
    config: Path, datalist: Path, file_root: Path | None, values: Mapping[str, Any], settings: Sequence[str]
) -> Mmar:
    """The folder of a configuration, as if it were an MMAR; what was typed after ``--set`` wins."""
    from voxflow.config import find_workspace
    from voxflow.mmar import Mmar, parse_settings

    values = {"DATASET_JSON": _absolute(datalist), **values}
    if file_root is not None:
        values["DATA_ROOT"] = _absolute(file_root)
    return Mmar.open(
        find_workspace(config), config.absolute(), None, values | parse_settings(settings), has_environment=False
    )


def _parse_path(text: str) -> Path:
    # The guide itself prints "--config =$CONFIG" once, and people copied it.
    return Path(text.removeprefix("="))


def _absolute(path: Path) -> str:
    return path.absolute().as_posix()
