"""Runs ``voxflow infer``: an MMAR's model as its configuration says, or any model on any images."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from voxflow.cli.apps import EvaluateCommand, InferMmarCommand
from voxflow.cli.command import Command
from voxflow.cli.mmar_path import find_mmar
from voxflow.cli.options import nest_settings, parse_options
from voxflow.errors import ConfigError
from voxflow.progress import say

if TYPE_CHECKING:
    import argparse


@dataclass(frozen=True)
class InferCommand(Command):
    """Run a model on images.

    Attributes:
        model: a model file, or a folder of exported models, or an MMAR.
        images: a file, a folder, a datalist, or DICOM.
        out: the folder for the results.
        key, root: the datalist's key, and what its paths are relative to.
        overwrite: make masks anew that are there.
        settings: fields of ``InferOptions``.
    """

    name: ClassVar[str] = "infer"
    help: ClassVar[str] = "run a model on images, and write masks or predictions"

    model: Path
    images: Path
    out: Path
    key: str = "inference"
    root: Path | None = None
    overwrite: bool = True
    settings: dict[str, Any] = field(default_factory=dict)

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """Declare the flags: those of an MMAR, and those that go with --images."""
        EvaluateCommand.add_arguments(parser)
        images = parser.add_argument_group(
            "any model on any images",
            "With --images, WORKSPACE may also be a model file or a folder of exported models, and --set takes the "
            "keys of 'infer' in params.yaml, such as back=probabilities or clean.fill_holes='[\"all\"]'.",
        )
        images.add_argument("--images", type=Path, help="a volume, a radiograph, a folder of them, a datalist or DICOM")
        images.add_argument("--out", type=Path, help="the folder for the results")
        images.add_argument("--key", default="inference", help="the datalist's key (default: %(default)s)")
        images.add_argument("--root", type=Path, help="what the datalist's paths are relative to (default: its folder)")
        keep = "keep existing results, and continue an earlier run"
        images.add_argument("--no_overwrite", dest="overwrite", action="store_false", help=keep)

    @classmethod
    def read(cls, arguments: argparse.Namespace) -> Command:
        """Take the parsed flags.

        Raises:
            ConfigError: flags that go together, one without the other.
        """
        if arguments.images is None and arguments.out is None and arguments.overwrite:
            return InferMmarCommand.read(arguments)
        from voxflow.mmar import parse_settings

        if arguments.images is None or arguments.out is None:
            raise ConfigError("--images and --out go together")
        arguments.model, arguments.settings = arguments.mmar, nest_settings(parse_settings(arguments.settings))
        return super().read(arguments)

    def run(self) -> int:
        """Infer; exit code 3 when some cases could not be used.

        Raises:
            ConfigError: a setting that there is not, or a wrong value.
            DataError: no model, or nothing to infer on.
        """
        from voxflow.engines import open_engine
        from voxflow.files import temporary_folder
        from voxflow.inference import (
            InferOptions,
            ResultLedger,
            compute_maker_digest,
            find_cases,
            infer_cases,
            open_any_reviewer,
        )
        from voxflow.locks import hold_outputs
        from voxflow.mmar import resolve_model

        if self.out.exists() and not self.out.is_dir():
            raise ConfigError("--out is to be a folder, and a file is there", path=self.out)
        options = parse_options(InferOptions, self.settings | {"overwrite": self.overwrite, "key": self.key})
        models = resolve_model(find_mmar(self.model))
        engine = open_engine(models, options.engine, options.device)
        reviewer = open_any_reviewer(engine, [models], options)
        ledger = ResultLedger(self.out, compute_maker_digest(engine, [models], options, reviewer=reviewer))
        # Beside the results: converted DICOM may be large, and /tmp may be small.
        with hold_outputs(self.out, self.name, say), temporary_folder(self.out) as work:
            inputs = find_cases(self.images, work, engine.spec, key=self.key, root=self.root)
            inference = infer_cases(
                engine, inputs.cases, self.out, options, refused=inputs.refused, ledger=ledger, reviewer=reviewer
            )
        count = int(inference.metrics["cases"])
        total = len(inputs.cases) + len(inputs.refused)
        say(f"infer: {count} of {total} cases ({engine.name}){inference.failures.summary()} → {self.out}")
        return inference.failures.exit_code(count)
