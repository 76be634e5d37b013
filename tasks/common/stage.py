"""What every stage program shares: its command line, its parameters, its folders, its exit code."""

from __future__ import annotations

import argparse
import contextlib
import logging
import signal
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel

from voxflow.errors import (
    EXIT_FAILURE,
    EXIT_INTERRUPTED,
    EXIT_OK,
    EXIT_WRONG_INPUT,
    ConfigError,
    VoxflowError,
)
from voxflow.files import explain_os_error
from voxflow.leftovers import remove_leftovers
from voxflow.locks import hold_workspace
from voxflow.places import PARAMS, WorkspaceLayout, load_params, read_params
from voxflow.progress import say
from voxflow.redaction import SecretFilter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Options = TypeVar("Options", bound=BaseModel)
ROOT = Path(sys.modules["tasks"].__path__[0]).absolute().parent

BEFORE_CASES = ("sample", "convert")  # stages that read no converted case


@dataclass(frozen=True)
class Stage(WorkspaceLayout):
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
        """Parse this stage's own key of the block into ``model``.

        Raises:
            ConfigError: it does not fit; every fault is reported at once.
        """
        return self.options_of(self.name, model)

    @property
    def title(self) -> str:
        """What the stage's lines call its work."""
        return self.workspace

    @property
    def run_name(self) -> str | None:
        """What the run of a training is called; None leaves it to the tracker."""
        return None

    @property
    def datalist(self) -> Path:
        """The datalist that the stage reads."""
        return self.datalists / "dataset_0.json"

    @property
    def metrics(self) -> Path:
        """The stage's numbers, a flat JSON file that ``dvc metrics show`` reads."""
        return Path("data/metrics") / self.workspace / f"{self.name}.json"


def main(name: str, run: Callable[[Stage], int], *, key: str = "workspaces", lock: str = "") -> int:
    """Run one stage as a program and return its exit code (see ``voxflow.errors``).

    Args:
        name: the stage, as dvc.yaml names it.
        run: the work; returns the exit code, says its own last line.
        key: the block of params.yaml that holds the workspace.
        lock: of a program that may run beside a training: what it locks instead of the whole workspace.
    """
    arguments = stage_parser(name, key).parse_args()
    workspace = arguments.workspace

    def work() -> int:
        stage = Stage(workspace, name, load_params(key, workspace))
        with hold_workspace(f"{workspace}.{lock}", name, say) if lock else own_workspace(stage):
            return run(stage)

    return run_guarded(f"{name} {workspace}", work, arguments.debug)


@contextlib.contextmanager
def own_workspace(stage: Stage, fold: int | None = None) -> Iterator[None]:
    """Be the only one that writes to a workspace inside the block, once what killed processes left is cleared away.

    Args:
        stage: whose workspace; a second process waits, and says for whom.
        fold: the only fold that is written to; None: all of the workspace may be.
    """
    with hold_workspace(stage.workspace, stage.name, say, fold=fold):
        for output in (stage.raw, stage.volumes, stage.quality, stage.resampled, stage.datalists):
            remove_leftovers(output.parent)
        for tree in (stage.mmar / "models", stage.mmar / "eval", Path("data/metrics") / stage.workspace):
            for folder in (tree, *tree.glob("*/"), *tree.glob("folds/*/"), *tree.glob("folds/*/*/")):
                remove_leftovers(folder)
        if stage.name not in BEFORE_CASES:
            require_channel_order(stage)
        yield


def require_channel_order(places: WorkspaceLayout) -> None:
    """Refuse to go on with cases whose channels are in another order than params.yaml has now.

    DVC compares the keys of a mapping without their order, so that it would not convert again.

    Args:
        places: of the workspace.

    Raises:
        ConfigError: the order is another one.
    """
    rules = (places.block.get("convert") or {}).get("channels")
    if not isinstance(rules, dict):
        return
    from voxflow.images import describe_reordered_channels  # which most stages do without

    message = describe_reordered_channels(list(rules), places.volumes)
    if message:
        fix = f"run dvc repro --force convert@{places.workspace}, or write them in that order again"
        raise ConfigError(f"{message}: {fix}", path=PARAMS, where=f"workspaces.{places.workspace}.convert.channels")


def check_channel_order(workspace: str) -> None:
    """Refuse to go on where DVC would not see that channels were reordered; see :func:`require_channel_order`.

    Args:
        workspace: a key of params.yaml; nothing is known of another one.
    """
    block = (read_params().get("workspaces") or {}).get(workspace)
    if isinstance(block, dict):
        require_channel_order(Stage(workspace, "convert", block))


def stage_parser(name: str, key: str = "workspaces") -> argparse.ArgumentParser:
    """The command line that every stage has.

    Args:
        name: the stage, as dvc.yaml names it.
        key: the block of params.yaml that holds the workspace.
    """
    program = getattr(sys.modules["__main__"].__spec__, "name", f"tasks.{name}")  # tasks.ops.ingest for ``ingest``
    parser = argparse.ArgumentParser(prog=f"python -m {program}", description=sys.modules["__main__"].__doc__)
    parser.add_argument("workspace", help=f"a key below {key!r} in params.yaml")
    parser.add_argument("--debug", action="store_true", help="show the traceback of a failure")
    return parser


def is_in_root(title: str) -> bool:
    """Whether the present folder is a repository's; where it is none, a line says where to go.

    Args:
        title: begins that line.
    """
    if PARAMS.is_file():
        return True
    say(f"{title}: error: {PARAMS} is not here; go to the root of the repository first: cd {ROOT}")
    return False


def run_guarded(title: str, work: Callable[[], int], debug: bool) -> int:
    """Run a stage's work; what can be expected to fail ends with one line.

    Args:
        title: begins that line: the stage's address without DVC's ``@``, by which a flow finds the line again.
        work: returns the exit code.
        debug: show the traceback of a failure, too.

    Returns:
        The exit code (see ``voxflow.errors``).
    """
    # A scheduler's SIGTERM ends a stage as Ctrl-C does: what is half done is cleared away.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    for handler in logging.getLogger().handlers:
        handler.addFilter(SecretFilter())
    try:
        return work() or EXIT_OK
    except (VoxflowError, OSError) as error:
        if debug:
            say(traceback.format_exc())
        if getattr(error, "path", None) == PARAMS and not is_in_root(title):
            return EXIT_WRONG_INPUT
        say(f"{title}: error: {explain_os_error(error) if isinstance(error, OSError) else error}")
        return error.exit_code if isinstance(error, VoxflowError) else EXIT_FAILURE
    except KeyboardInterrupt:
        say(f"{title}: interrupted, nothing half done was left")
        return EXIT_INTERRUPTED
