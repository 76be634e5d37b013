"""List and fetch models: the built-in templates, and those of the MLflow model registry (``tlt-pull``)."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from voxflow.cli.apps import run_command, say_unused
from voxflow.cli.command import Command
from voxflow.errors import EXIT_OK, ConfigError
from voxflow.progress import say

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from voxflow.tracking import ModelVersion

# A template is a configuration with no weights. Older documents ask for version 1 of the models of its name.
TEMPLATE_VERSION = "1"
Rows = list[tuple[str, ...]]
IGNORED_FLAGS = {
    "key": "no account is needed",
    "org": "models are this machine's and its MLflow registry's",
    "team": "models are this machine's and its MLflow registry's",
}


@dataclass(frozen=True)
class PullCommand(Command):
    """List or fetch.

    Attributes:
        model: the model's name; empty where all are listed.
        version: the version's number or alias; the registry's, else the template's.
        folder: the folder to make; None: a folder of the model's name.
        listing: "models", "versions" or nothing: fetch.
        unused: flags that were given and mean nothing here.
    """

    model: str
    version: str
    folder: Path | None
    listing: str = ""
    unused: Mapping[str, str] = field(default_factory=dict)

    def run(self) -> int:
        """List models or versions, or fetch one.

        Raises:
            ConfigError: no such model or version, or the folder is not empty.
            VoxflowError: the registry can't be reached.
        """
        from voxflow.mmar import find_repository
        from voxflow.tracking import list_model_versions, use_store
        from voxflow.workspace import find_template, list_templates

        say_unused(self.unused)
        with use_store(find_repository(Path.cwd())) as is_there:
            registered = list_model_versions() if is_there else []
            built_in = list_templates()
            # Older documents call a model of the zoo by other names, which are as good.
            template = find_template(self.model)
            if template is not None:
                built_in[self.model] = built_in[template]
            if self.listing == "models":
                _write_columns(_list_models(built_in, registered))
                return EXIT_OK
            if self.model not in {*built_in, *(v.name for v in registered)}:
                raise ConfigError(_explain_unknown(self.model, [*built_in, *(v.name for v in registered)]))
            if self.listing == "versions":
                _write_columns(_list_versions(self.model, built_in, registered))
                return EXIT_OK
            self._fetch(built_in, registered)
        return EXIT_OK

    def _fetch(self, built_in: Mapping[str, str], registered: Sequence[ModelVersion]) -> None:
        from voxflow.tracking import download_model
        from voxflow.workspace import copy_template

        folder = self.folder or Path(self.model)
        if folder.is_dir() and any(folder.iterdir()):
            raise ConfigError("the folder is not empty; nothing is replaced", path=folder)
        match = next((v for v in registered if v.name == self.model and self.version in _version_names(v)), None)
        if match is not None:
            names = ", ".join(path.name for path in download_model(match, folder))
            say(f"tlt-pull: version {match.version} of {match.name}: {names} → {folder}")
        elif self.model in built_in and self.version == TEMPLATE_VERSION:
            copy_template(self.model, folder, _collect_words(self.model, folder, built_in[self.model]))
            say(f"tlt-pull: the template {self.model}, an MMAR without weights → {folder}")
        else:
            versions = [TEMPLATE_VERSION] if self.model in built_in else []
            versions += [v.version for v in registered if v.name == self.model]
            raise ConfigError(f"{self.model} has no version {self.version!r}; it has {', '.join(versions)}")


def read_arguments(arguments: argparse.Namespace) -> PullCommand:
    """Take the parsed flags.

    Raises:
        ConfigError: a model or a version is missing.
    """
    listing = "models" if arguments.list_models else "versions" if arguments.list_versions else ""
    if listing != "models" and not arguments.model:
        raise ConfigError("-m NAME is needed; -lm lists the models")
    if not listing and not arguments.version:
        raise ConfigError(f"-v VERSION is needed; -lv -m {arguments.model} lists the versions")
    unused = {flag: why for flag, why in IGNORED_FLAGS.items() if getattr(arguments, flag) is not None}
    return PullCommand(arguments.model or "", arguments.version or "", arguments.folder, listing, unused)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code (see :mod:`voxflow.errors`)."""
    description = "List and fetch models, from the built-in templates and the MLflow model registry."
    parser = argparse.ArgumentParser(prog="tlt-pull", description=description, allow_abbrev=False)
    parser.add_argument("-lm", "--list_models", action="store_true", help="list the models")
    parser.add_argument("-lv", "--list_versions", action="store_true", help="list the versions of the model -m")
    parser.add_argument("-m", "--model", help="the model's name")
    parser.add_argument("-v", "--version", help="its version, or an alias of the registry")
    parser.add_argument("-d", "--dir", dest="folder", type=Path, help="target folder (default: the model's name)")
    parser.add_argument("-k", "--key", help="accepted: no account is needed")
    parser.add_argument("-o", "--org", help="accepted")
    parser.add_argument("-t", "--team", help="accepted")
    return run_command("tlt-pull", parser, read_arguments, arguments)


def _version_names(version: ModelVersion) -> set[str]:
    return {version.version, *version.aliases}


def _list_models(built_in: Mapping[str, str], registered: Sequence[ModelVersion]) -> Rows:
    rows: Rows = [(name, "template", TEMPLATE_VERSION, text.splitlines()[0]) for name, text in built_in.items()]
    latest = {v.name: v for v in registered}  # the last of each name has the highest number
    return rows + [(v.name, "registry", v.version, v.description) for v in latest.values()]


def _list_versions(model: str, built_in: Mapping[str, str], registered: Sequence[ModelVersion]) -> Rows:
    rows: Rows = [(TEMPLATE_VERSION, "template", built_in[model].splitlines()[0])] if model in built_in else []
    matching = [v for v in registered if v.name == model]
    return rows + [(v.version, "registry", " ".join((*v.aliases, v.description))) for v in matching]


def _write_columns(rows: Sequence[tuple[str, ...]]) -> None:
    """Write columns to stdout, so that a list can be searched and counted."""
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))] if rows else []
    for row in rows:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        sys.stdout.write(line.rstrip() + "\n")


def _collect_words(model: str, folder: Path, description: str) -> dict[str, str]:
    return {
        "WORKSPACE": folder.resolve().name,
        "SOURCE": "",
        "SOURCE_YAML": '""',
        "FINDINGS": "null",
        "DESCRIPTION": description or model,
    }


def _explain_unknown(name: str, known_names: Sequence[str]) -> str:
    from voxflow.findings import suggest

    return f"unknown model {name!r}{suggest(name, known_names)}"


if __name__ == "__main__":
    sys.exit(main())
