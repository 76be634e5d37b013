"""Exports checkpoints: ``voxflow export MMAR``, and the export of Clara 3, Clara 4 and TLT 2 with their flags."""

from __future__ import annotations

import argparse
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from voxflow.cli.apps import (
    TRAIN_CONFIG,
    IdleCommand,
    add_flags,
    add_rank_flag,
    add_set_flag,
    run_command,
    say_unused,
)
from voxflow.cli.command import Command
from voxflow.cli.mmar_path import WORKSPACE_HELP, find_mmar
from voxflow.cli.options import parse_options
from voxflow.errors import EXIT_OK, ConfigError, DataError
from voxflow.progress import say

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from voxflow.mmar import ExportNames

# Numbers of a shape, with commas or blanks between them, and with or without brackets.
_SHAPE = re.compile(r"\s*[\[(]?\s*\d+(?:[\s,]+\d+)*\s*,?\s*[\])]?\s*")
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
        triton: what Triton's configuration says; None: none is written.
    """

    name: ClassVar[str] = "export"
    help: ClassVar[str] = "export a trained model as TorchScript, ONNX, OpenVINO and TensorRT files"

    folder: Path
    names: ExportNames
    precision: str = "FP32"
    batch: int = 5
    settings: Mapping[str, Any] = field(default_factory=dict)
    unused: Mapping[str, str] = field(default_factory=dict)
    triton: TritonNames | None = None

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """Declare the flags of ``voxflow export``."""
        word = f"{WORKSPACE_HELP}, a folder of checkpoints, or one checkpoint (.pt)"
        parser.add_argument("mmar", type=Path, metavar="WORKSPACE", help=word)
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
        settings = dict(parse_settings(getattr(arguments, "settings", ())))
        variables = {key: settings.pop(key) for key in list(settings) if key.isupper()}
        if folder is None:
            folder, name = _find_checkpoint(find_mmar(arguments.mmar), name, variables)
        names = ExportNames(name, arguments.regular_frozen_file_ext, arguments.trt_file_ext)
        unused = {flag: why for flag, why in IGNORED_FLAGS.items() if getattr(arguments, flag) not in (None, False)}
        if getattr(arguments, "openvino_precision", None) is not None:
            settings["openvino_precision"] = arguments.openvino_precision
        triton = TritonNames(arguments.trtis_model_name, tuple(arguments.trtis_input_shape))
        is_for_triton = arguments.trtis_export or triton != TritonNames()
        precision, batch = arguments.trt_precision_mode, arguments.max_batch_size
        return cls(folder, names, precision, batch, settings, unused, triton if is_for_triton else None)

    def run(self) -> int:
        """Export, and say which files were made.

        Raises:
            ConfigError: a setting that there is not, or a wrong value.
            DataError: no checkpoint is there.
        """
        from voxflow.export import ExportOptions
        from voxflow.mmar import configure_triton, export_checkpoint

        say_unused(self.unused)
        half = self.precision == "FP16"
        values = {"fp16_weights": half, "tensorrt_precision": "fp16" if half else "fp32", "tensorrt_batch": self.batch}
        options = parse_options(ExportOptions, values | dict(self.settings))
        outcome = export_checkpoint(self.folder, self.names, options)
        say(f"export: {outcome.summary()} → {self.folder}")
        if self.triton is not None:
            path = configure_triton(self.folder, self.names, self.triton.name, self.triton.shape, self.batch)
            say(f"export: {path.name} describes the ONNX file for Triton; put that into NAME/1/ of its repository")
        return EXIT_OK


@dataclass(frozen=True)
class TritonNames:
    """What ``--trtis_model_name`` and ``--trtis_input_shape`` say.

    Attributes:
        name: of the model; empty: as the checkpoint.
        shape: (channel, *space); () leaves the sizes open.
    """

    name: str = ""
    shape: tuple[int, ...] = ()


@dataclass(frozen=True)
class ExportFileCommand(Command):
    """Export one checkpoint to one file, as Clara 4's export.sh does.

    Attributes:
        mmar: the MMAR folder; None: none is needed, since the checkpoint is named.
        config, environment, settings: as of :class:`TrainCommand`.
        model: the checkpoint; None: the trained model of the MMAR.
        output: the file; None: model.ts beside the checkpoint.
        shape: (batch, channel, *space) that it must take; () any.
    """

    name: ClassVar[str] = "export"
    help: ClassVar[str] = "export a checkpoint to one file"

    mmar: Path | None
    config: str
    environment: str | None
    settings: tuple[str, ...]
    model: Path | None
    output: Path | None
    shape: tuple[int, ...] = ()

    def run(self) -> int:
        """Export, and say which file was made.

        Raises:
            ConfigError: the output's ending is of no format, or the shape does not fit the network.
            DataError: no checkpoint is there.
        """
        from voxflow.export import ExportOptions
        from voxflow.mmar import Mmar, export_file, parse_settings

        model, mmar = self.model, None
        if self.mmar is not None:
            is_named = self.config != TRAIN_CONFIG
            values = parse_settings(self.settings)
            mmar = Mmar.open(self.mmar, self.config, self.environment, values, needs_config=is_named)
            model = mmar.find_checkpoint() if model is None else mmar.input_path(model)
        if model is None:
            raise DataError("no checkpoint: name it with --model_path, or its MMAR with -m")
        output = self.output or model.with_suffix(".ts")
        outcome = export_file(model, output, ExportOptions(), self.shape, mmar)
        say(f"export: {outcome.summary()} → {output}")
        return EXIT_OK


def _find_checkpoint(path: Path, name: str, values: Mapping[str, Any]) -> tuple[Path, str]:
    """The folder and the base name of the checkpoint that a path stands for; ``values`` are variables of an MMAR."""
    from voxflow.mmar import Mmar

    if path.is_file():
        if path.suffix != ".pt":
            raise DataError("only a checkpoint (.pt) can be exported", path=path)
        return path.parent, path.stem
    if (path / f"{name}.pt").is_file() and not values:
        return path, name
    mmar = Mmar.open(path, values=values, needs_config=False)
    if name != "model":
        return mmar.models, name
    checkpoint = mmar.find_checkpoint()
    # What a pipeline's stage has trained is exported beside it, under Clara's names.
    is_staged = checkpoint.parent == mmar.models / "train"
    return (mmar.models, name) if is_staged else (checkpoint.parent, checkpoint.stem)


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
    parser.add_argument("--trtis_export", action="store_true", help="write config.pbtxt for Triton")
    parser.add_argument("--trtis_model_name", default="", metavar="NAME", help="what Triton calls the model")
    shape = "channels and sizes of Triton's input, such as 1 64 64 64"
    parser.add_argument("--trtis_input_shape", nargs="+", type=int, default=[], metavar="N", help=shape)
    for flag, why in IGNORED_FLAGS.items():
        action = "store_true" if flag == "trt_dynamic_mode" else "store"
        parser.add_argument(f"--{flag}", action=action, help=f"accepted: {why}")


def run_export(arguments: Sequence[str] | None, program: str) -> int:
    """Run an export program.

    Args:
        arguments: as typed; None: those of this process.
        program: its name, "tlt-export" or "nvmidl.apps.export".

    Returns:
        The exit code; see :mod:`voxflow.errors`.
    """
    parser = argparse.ArgumentParser(prog=program, description=ExportCommand.help, allow_abbrev=False)
    parser.add_argument("--model_file_path", type=Path, help="the folder of models (Clara 3, TLT 2)")
    parser.add_argument("--model_name", default="model", help="base name of the checkpoint (default: %(default)s)")
    add_export_flags(parser)
    if program != "tlt-export":
        add_file_flags(parser)
    return run_command("export", parser, _read_export, arguments)


def add_file_flags(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of Clara 4's export, which makes one file of one checkpoint."""
    parser.add_argument("-m", "--mmar", type=Path, help="the MMAR folder (Clara 4)")
    add_flags(parser, TRAIN_CONFIG)
    parser.add_argument("--model_path", type=Path, help="the checkpoint (default: the MMAR's trained model)")
    parser.add_argument(
        "--output_path", type=Path, help="the file to write, .ts or .onnx (default: model.ts beside it)"
    )
    parser.add_argument("--input_shape", default="", help='what the file must take, such as "[1, 1, 160, 160, 160]"')
    add_rank_flag(parser)


def _read_export(arguments: argparse.Namespace) -> Command:
    """Clara 4's export where one of its flags is given, else that of Clara 3 and TLT 2.

    Raises:
        ConfigError: neither names a model, or the shape is none.
    """
    values = vars(arguments)
    if values.get("local_rank") is not None and os.environ.get("RANK", "0") != "0":
        return IdleCommand()
    if any(values.get(key) is not None for key in ("mmar", "model_path", "output_path")):
        shape = _parse_shape(values["input_shape"])
        settings, model = tuple(values["settings"]), values["model_path"]
        places = (values["mmar"], values["config"], values["environment"], settings)
        return ExportFileCommand(*places, model, values["output_path"], shape)
    if arguments.model_file_path is None:
        raise ConfigError("no model: give --model_file_path FOLDER, or -m MMAR with --model_path FILE as Clara 4 does")
    return ExportCommand.read(arguments)


def _parse_shape(text: str) -> tuple[int, ...]:
    if text and not _SHAPE.fullmatch(text):
        raise ConfigError(f"--input_shape is a list such as [1, 1, 160, 160, 160], not {text!r}")
    return tuple(int(number) for number in re.findall(r"\d+", text))


def _parse_positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more, received {text}")
    return value
