"""Runs ``voxflow migrate``: writes a workspace in another tool's form."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from voxflow.cli.command import Command
from voxflow.errors import EXIT_OK, ConfigError
from voxflow.progress import say

if TYPE_CHECKING:
    import argparse


@dataclass(frozen=True)
class MigrateCommand(Command):
    """Write a workspace as a MONAI bundle, or its model as a result folder of nnU-Net.

    Attributes:
        workspace: the MMAR; for nnU-Net also a workspace of params.yaml, or one model file.
        output: the new folder; beside the MMAR when left out.
        config: the training configuration below config/.
        overrides: values that win over the configuration.
        as_json: write the report to stdout as JSON instead of a table to stderr.
        target: "bundle" or "nnunet".
        images: for nnU-Net: a folder of images on which the written folder must give the model's masks; None: none.
        least_equal: the share of equal voxels that each of these needs.
    """

    name: ClassVar[str] = "migrate"
    help: ClassVar[str] = "write a workspace as a MONAI bundle, or its model as a result folder of nnU-Net"

    workspace: Path
    output: Path | None = None
    config: str = "config_train.json"
    overrides: dict[str, Any] = field(default_factory=dict)
    as_json: bool = False
    target: str = "bundle"
    images: Path | None = None
    least_equal: float = 0.9999

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """Declare the flags."""
        parser.add_argument("workspace", type=Path, metavar="MMAR", help="folder of the workspace, which holds config/")
        target = "what to write: a MONAI bundle, or a result folder of nnU-Net v2"
        parser.add_argument("--to", choices=["bundle", "nnunet"], required=True, help=target)
        parser.add_argument(
            "--output", type=Path, metavar="DIR", help="the new folder (default: MMAR_bundle, MMAR_nnunet)"
        )
        images = "nnunet: images, CASE_0000.nii.gz and so on, on which the folder must give the model's masks"
        parser.add_argument("--images", type=Path, metavar="DIR", help=images)
        least = "nnunet: share of equal voxels below which nothing is written (default: %(default)s)"
        parser.add_argument("--least-equal", type=float, default=0.9999, metavar="SHARE", help=least)
        parser.add_argument("--config", default="config_train.json", help="file below config/ (default: %(default)s)")
        parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="values that replace the files'")
        parser.add_argument("--json", action="store_true", help="write the report as JSON on stdout instead of a table")

    @classmethod
    def read(cls, arguments: argparse.Namespace) -> MigrateCommand:
        """Take the parsed flags.

        Raises:
            ConfigError: a value of ``--set`` is not KEY=VALUE, or a flag is of the other target.
        """
        overrides = dict(_parse_pair(text) for text in arguments.set)
        if arguments.images and arguments.to != "nnunet":
            raise ConfigError("--images goes with --to nnunet")
        if arguments.to == "nnunet" and (overrides or arguments.json or arguments.config != cls.config):
            raise ConfigError("--set, --config and --json go with --to bundle")
        return cls(
            workspace=arguments.workspace,
            output=arguments.output,
            config=arguments.config,
            overrides=overrides,
            as_json=arguments.json,
            target=arguments.to,
            images=arguments.images,
            least_equal=arguments.least_equal,
        )

    def run(self) -> int:
        """Write the folder; the report of a bundle goes to the terminal and into the bundle's docs/.

        Raises:
            ConfigError: the configuration can't be read, the folder is there already, or nnU-Net has no word for it.
            ParityError: nnU-Net's folder would give other masks.
        """
        return self._write_nnunet() if self.target == "nnunet" else self._write_bundle()

    def _write_nnunet(self) -> int:
        from voxflow.adopt import write_nnunet
        from voxflow.cli.mmar_path import find_mmar
        from voxflow.mmar import Mmar

        path = find_mmar(self.workspace)
        model = path if path.is_file() else Mmar.open(path, needs_config=False).find_checkpoint()
        name = (path.parent / path.stem if path.is_file() else path.resolve()).name
        target = self.output or path.resolve().with_name(f"{name}_nnunet")
        written = write_nnunet(model, target, name, images=self.images, least_equal=self.least_equal)
        compared = f"the same masks in {len(written.cases)} cases" if written.cases else "not compared, give --images"
        remark = f"; its masks are close, not equal: {written.remark}" if written.remark and not written.cases else ""
        say(f"migrate {name}: {compared}{remark} → {target}")
        return EXIT_OK

    def _write_bundle(self) -> int:
        from voxflow.migrate import migrate_to_bundle

        folder = self.workspace.resolve()
        target = self.output or folder.with_name(f"{folder.name}_bundle")
        migration = migrate_to_bundle(folder, target, config=self.config, overrides=self.overrides)
        if self.as_json:
            sys.stdout.write(json.dumps(migration.report.as_json(), indent=2) + "\n")
        else:
            for line in migration.report.lines():
                say(line)
        weights = migration.weights_line
        if migration.logit_difference is not None:
            weights = f"weights with the same logits (difference {migration.logit_difference:.1g}) of {migration.model}"
        say(f"migrate {folder.name}: {migration.report.summary()}; {weights} → {target}")
        return EXIT_OK


def _parse_pair(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ConfigError(f"expected KEY=VALUE, received {text!r}", where="--set")
    try:
        return key, json.loads(value)
    except (ValueError, RecursionError):
        return key, value
