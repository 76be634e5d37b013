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
    """Write a workspace as a MONAI bundle.

    Attributes:
        workspace: the MMAR.
        output: the bundle's folder; beside the MMAR when left out.
        config: the training configuration below config/.
        overrides: values that win over the configuration.
        as_json: write the report to stdout as JSON instead of a table to stderr.
    """

    name: ClassVar[str] = "migrate"
    help: ClassVar[str] = "write an old Clara or TLT workspace as a MONAI bundle"

    workspace: Path
    output: Path | None = None
    config: str = "config_train.json"
    overrides: dict[str, Any] = field(default_factory=dict)
    as_json: bool = False

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """Declare the flags."""
        parser.add_argument("workspace", type=Path, metavar="MMAR", help="folder of the workspace, which holds config/")
        parser.add_argument("--to", choices=["bundle"], required=True, help="what to write: a MONAI bundle")
        parser.add_argument("--output", type=Path, metavar="DIR", help="the new folder (default: MMAR_bundle)")
        parser.add_argument("--config", default="config_train.json", help="file below config/ (default: %(default)s)")
        parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="values that replace the files'")
        parser.add_argument("--json", action="store_true", help="write the report as JSON on stdout instead of a table")

    @classmethod
    def read(cls, arguments: argparse.Namespace) -> MigrateCommand:
        """Take the parsed flags.

        Raises:
            ConfigError: a value of ``--set`` is not KEY=VALUE.
        """
        overrides = dict(_parse_pair(text) for text in arguments.set)
        return cls(arguments.workspace, arguments.output, arguments.config, overrides, arguments.json)

    def run(self) -> int:
        """Write the bundle; the report goes to the terminal and into the bundle's docs/.

        Raises:
            ConfigError: the configuration can't be read, or the folder is there already.
        """
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
