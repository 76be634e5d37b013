"""Runs ``voxflow check``: lists all faults of a workspace before a training starts."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from voxflow.cli.command import Command
from voxflow.errors import EXIT_OK, EXIT_WRONG_INPUT, ConfigError

if TYPE_CHECKING:
    import argparse

    from pydantic import BaseModel

    from voxflow.lint import CheckReport


@dataclass(frozen=True)
class CheckCommand(Command):
    """Check a workspace.

    Attributes:
        workspace: the path of an MMAR's or a bundle's folder, or the name of a workspace of params.yaml.
        config: one configuration instead of both.
        environment: the environment file.
        overrides: values that win over both.
        as_json: write the report for machines.
    """

    name: ClassVar[str] = "check"
    help: ClassVar[str] = "list all mistakes of a workspace's settings and files, with what to write instead"

    workspace: str
    config: str | None
    environment: str | None
    overrides: dict[str, Any]
    as_json: bool

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """Declare the flags, those of training among them."""
        parser.add_argument("workspace", help="folder of an MMAR or a bundle, or name of a workspace in params.yaml")
        parser.add_argument("-c", "--config", metavar="FILE", help="check only this configuration")
        parser.add_argument("-e", "--environment", metavar="FILE", help="default: config/environment.json")
        values = "values that replace those of the files, as in training"
        parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help=values)
        parser.add_argument("--json", action="store_true", help="write the result as JSON; see docs/check.md")

    @classmethod
    def read(cls, arguments: argparse.Namespace) -> CheckCommand:
        """Take the parsed flags.

        Raises:
            ConfigError: a value of ``--set`` is not KEY=VALUE.
        """
        overrides = dict(_parse_override(text) for text in arguments.set)
        return cls(arguments.workspace, arguments.config, arguments.environment, overrides, arguments.json)

    def run(self) -> int:
        """Write the report.

        Returns:
            0, or 2 when the report holds an error.
        """
        from voxflow.lint import check_params, render_report

        report = self._check()
        if self.config is None:
            from voxflow.corrections import CorrectionOptions
            from voxflow.drift import MonitorOptions
            from voxflow.pacs import AnswerOptions, IngestOptions

            models: dict[str, type[BaseModel]] = {
                "ingest": IngestOptions,
                "answer": AnswerOptions,
                "corrections": CorrectionOptions,
                "monitor": MonitorOptions,
            }
            check_params(self.workspace, report, models)
        if self.as_json:
            sys.stdout.write(json.dumps(report.to_json(), indent=2, ensure_ascii=False) + "\n")
        else:
            # https://no-color.org: the variable counts whatever its value is.
            sys.stdout.write(render_report(report, colours=sys.stdout.isatty() and "NO_COLOR" not in os.environ))
        return EXIT_WRONG_INPUT if report.errors else EXIT_OK

    def _check(self) -> CheckReport:
        from voxflow.adopt import check_adopted
        from voxflow.bundle import check_bundle, find_bundle
        from voxflow.lint import check_workspace
        from voxflow.planning import find_target

        bundle = find_bundle(self.workspace)
        adopted = check_adopted(self.workspace) if bundle is None else None
        if adopted is not None:
            return adopted
        if bundle is None:
            return check_workspace(
                find_target(self.workspace, config=self.config, environment=self.environment, overrides=self.overrides)
            )
        if self.environment:
            raise ConfigError("-e: a bundle has no environment file; --set replaces values by their ids")
        return check_bundle(replace(bundle, config=self.config or "", overrides=self.overrides))


def _parse_override(text: str) -> tuple[str, Any]:
    """``epochs=20`` as a number, ``name=x`` as text, as in JSON."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set: expected KEY=VALUE, received {text!r}")
    try:
        return key, json.loads(value)
    except (ValueError, RecursionError):
        return key, value
