"""Owns what every stage program shares: its parameters, its paths, its last line, its exit code."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from voxflow.errors import EXIT_FAILURE, EXIT_INTERRUPTED, EXIT_OK, ConfigError, VoxflowError
from voxflow.progress import say

if TYPE_CHECKING:
    from collections.abc import Callable

Options = TypeVar("Options", bound=BaseModel)
AnyStage = TypeVar("AnyStage", bound="Stage")

PARAMS_FILE = Path("params.yaml")


@dataclass(frozen=True)
class Stage:
    """One stage of one workspace, run from the repository's root.

    Attributes:
        workspace: the key of the workspace in params.yaml.
        name: the stage, as dvc.yaml names it.
        block: the workspace's whole block of params.yaml.
    """

    workspace: str
    name: str
    block: dict[str, Any]

    def options(self, model: type[Options]) -> Options:
        """Parse this stage's own key of the block into ``model``; every fault is reported at once."""
        return self.options_of(self.name, model)

    def options_of(self, key: str, model: type[Options]) -> Options:
        """Parse another key of the block, as :meth:`options` does."""
        try:
            return model.model_validate(self.block.get(key) or {})
        except ValidationError as error:
            place = f"workspaces.{self.workspace}.{key}"
            findings = [
                f"{PARAMS_FILE}: {'.'.join([place, *map(str, fault['loc'])])}: {fault['msg']}, got {fault['input']!r}"
                for fault in error.errors()
            ]
            raise ConfigError(f"{len(findings)} wrong parameter(s)", findings=findings) from error

    @property
    def title(self) -> str:
        """What the stage's lines call its work."""
        return self.workspace

    @property
    def run_name(self) -> str | None:
        """What the run of a training is called; None leaves it to the tracker."""
        return None

    @property
    def task(self) -> str:
        """What the workspace's model does: "segmentation" or "classification"."""
        return str(self.block["task"])

    @property
    def source(self) -> Path:
        """The folder that the images come from."""
        return Path(self.block["source"])

    @property
    def raw(self) -> Path:
        """What sample makes: DICOM as a hospital would send it."""
        return Path("data/raw") / self.workspace

    @property
    def mmar(self) -> Path:
        """The workspace's MMAR folder."""
        return Path("mmars") / self.workspace

    @property
    def volumes(self) -> Path:
        """What convert makes: images/, labels/, cases.csv, conversion.csv."""
        return Path("data/volumes") / self.workspace

    @property
    def quality(self) -> Path:
        """What validate makes: report.json, docs/."""
        return Path("data/quality") / self.workspace

    @property
    def resampled(self) -> Path:
        """What resample makes: images/, labels/, cases.csv; the root that datalists refer to."""
        return Path("data/resampled") / self.workspace

    @property
    def datalists(self) -> Path:
        """What split makes: dataset_0.json and one file a fold."""
        return Path("data/datalists") / self.workspace

    @property
    def datalist(self) -> Path:
        """The datalist that the stage reads."""
        return self.datalists / "dataset_0.json"

    @property
    def models(self) -> Path:
        """What train and export make."""
        return self.mmar / "models"

    @property
    def evaluation(self) -> Path:
        """What evaluate, infer and report make."""
        return self.mmar / "eval"

    @property
    def metrics(self) -> Path:
        """The stage's numbers, a flat JSON file that ``dvc metrics show`` reads."""
        return Path("data/metrics") / self.workspace / f"{self.name}.json"


def load_params(key: str, workspace: str) -> dict[str, Any]:
    """Read ``key.workspace`` of params.yaml."""
    import yaml

    if not PARAMS_FILE.is_file():
        raise ConfigError("file not found; run stages from the root of the repository", path=PARAMS_FILE)
    try:
        params = yaml.safe_load(PARAMS_FILE.read_text(encoding="utf-8")) or {}
    except yaml.YAMLError as error:
        raise ConfigError(f"not valid YAML: {error}", path=PARAMS_FILE) from error
    blocks = params.get(key) or {}
    if workspace not in blocks:
        known = ", ".join(sorted(blocks)) or "none"
        raise ConfigError(f"no workspace {workspace!r}; known: {known}", path=PARAMS_FILE, where=key)
    return dict(blocks[workspace])


def main(name: str, run: Callable[[Stage], int], *, key: str = "workspaces") -> int:
    """Run one stage as a program and return its exit code; see :func:`program`.

    Args:
        name: the stage, as dvc.yaml names it.
        run: the work; returns the exit code, says its own last line.
        key: the block of params.yaml that holds the workspace.
    """
    return program(name, run, lambda workspace: Stage(workspace, name, load_params(key, workspace)), key=key)


def program(name: str, run: Callable[[AnyStage], int], load: Callable[[str], AnyStage], *, key: str) -> int:
    """Run one stage as a program and return its exit code (see ``voxflow.errors``).

    Args:
        name: the stage, as dvc.yaml names it.
        run: the work; returns the exit code, says its own last line.
        load: makes the stage of the command line's argument.
        key: the block of params.yaml that the argument is a key of.
    """
    parser = argparse.ArgumentParser(prog=f"python -m tasks.{name}", description=(sys.modules["__main__"].__doc__))
    parser.add_argument("workspace", help=f"a key below {key!r} in params.yaml")
    parser.add_argument("--debug", action="store_true", help="show the traceback of a failure")
    arguments = parser.parse_args()
    # A scheduler's SIGTERM ends a stage as Ctrl-C does: what is half done is cleared away.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        return run(load(arguments.workspace)) or EXIT_OK
    except VoxflowError as error:
        if arguments.debug:
            traceback.print_exc()
        say(f"{name} {arguments.workspace}: error: {error}")
        return error.exit_code
    except OSError as error:
        if arguments.debug:
            traceback.print_exc()
        say(f"{name} {arguments.workspace}: error: {error}")
        return EXIT_FAILURE
    except KeyboardInterrupt:
        say(f"{name} {arguments.workspace}: interrupted, nothing half done was left")
        return EXIT_INTERRUPTED
