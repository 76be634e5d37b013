"""Carry a workspace's data between machines: ``python -m tasks.ops.carry pull|push WORKSPACE --stages NAME,NAME``.

The data travels by DVC's remote; dvc.lock, which names the data's versions, travels by git.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.ops.backup import WRONG_SETTING
from tasks.ops.graph import read_graph, read_inputs
from tasks.ops.repro import StageError
from voxflow.errors import EXIT_FAILURE, EXIT_OK, EXIT_WRONG_INPUT, VoxflowError
from voxflow.files import write_text
from voxflow.progress import say

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

LOCK = Path("dvc.lock")
# Another machine may push between our fetch and our push.
PUSH_ATTEMPTS = 5


def pull(workspace: str, stages: Collection[str]) -> str:
    """Take over what other machines made of the stages before these; returns what was done, as one line.

    Raises:
        StageError: git or DVC could not do it.
    """
    addresses = [node.address for node in read_graph(workspace, stages)]
    with _dvc_waits():
        _meet_upstream(addresses)
    # The branch may have brought another graph along.
    inputs = read_inputs(workspace, stages)
    if inputs:
        _run_dvc("pull", *inputs)
    return f"pulled {', '.join(inputs) or 'nothing, since no other stage is needed'}"


def push(workspace: str, stages: Collection[str]) -> str:
    """Hand over what these stages made; data first, so that nobody reads of what is not there yet.

    Raises:
        StageError: git or DVC could not do it.
    """
    addresses = [node.address for node in read_graph(workspace, stages)]
    _run_dvc("push", *addresses)
    for attempt in range(1, PUSH_ATTEMPTS + 1):
        with _dvc_waits():
            _meet_upstream(addresses)
            if not _run_git("status", "--porcelain", "--", str(LOCK)):
                return f"pushed {', '.join(addresses)}; dvc.lock says so already"
            _run_git("add", "--", str(LOCK))
            _run_git("commit", "--quiet", "--message", f"Record {', '.join(addresses)}", "--", str(LOCK))
            refused = _try_push()
        if not refused:
            return f"pushed {', '.join(addresses)}"
        say(f"carry {workspace}: another machine pushed meanwhile, attempt {attempt}")
    raise StageError(f"carry {workspace}: git push was refused {PUSH_ATTEMPTS} times: {refused}", code=EXIT_FAILURE)


def _try_push() -> str:
    """Push; when that is refused, take the commit back and return the reason."""
    result = _run(["git", "push", "--quiet"])
    if result.returncode == 0:
        return ""
    _run_git("reset", "--quiet", "--mixed", "HEAD~1")
    reason = _find_last_line(result)
    if "rejected" not in result.stderr and "fetch first" not in result.stderr:
        raise StageError(f"git push: {reason}", code=EXIT_FAILURE)
    return reason


def _meet_upstream(addresses: Collection[str]) -> None:
    """Bring the branch forward; dvc.lock then has our entries for our stages, and the branch's for all others.

    Lines of dvc.lock that lie side by side would be a conflict for git, though each stage has an entry of its own.
    """
    _run_git("rev-parse", "@{upstream}", code=EXIT_WRONG_INPUT)
    _run_git("fetch", "--quiet")
    text = LOCK.read_text(encoding="utf-8") if LOCK.is_file() else None
    tracked = _run_git("ls-files", "--", str(LOCK))
    try:
        if tracked:
            _run_git("checkout", "--quiet", "HEAD", "--", str(LOCK))
        else:
            LOCK.unlink(missing_ok=True)
        _run_git("merge", "--quiet", "--ff-only", "@{upstream}", code=EXIT_WRONG_INPUT)
    except BaseException:
        if text is not None:
            write_text(LOCK, text)
        raise
    if text is not None:
        _overlay(text, addresses)


def _overlay(text: str, addresses: Collection[str]) -> None:
    """Put our entries of dvc.lock over those that the branch brought, written as DVC writes it."""
    from dvc.utils.serialize import dumps_yaml, parse_yaml

    ours = parse_yaml(text, LOCK)
    theirs = parse_yaml(LOCK.read_text(encoding="utf-8"), LOCK) if LOCK.is_file() else {}
    mine = {address: entry for address, entry in ours["stages"].items() if address in addresses}
    merged = theirs.get("stages", {}) | mine
    if merged != theirs.get("stages"):
        write_text(LOCK, dumps_yaml({"schema": "2.0"} | theirs | {"stages": merged}))


@contextlib.contextmanager
def _dvc_waits() -> Iterator[None]:
    """Keep other DVC processes of this clone away from dvc.lock for as long as the block lasts."""
    from dvc.lock import LockError
    from dvc.repo import Repo

    try:
        with Repo() as repository, repository.lock:
            yield
    except LockError as error:
        raise StageError(f"another DVC process is in the way: {error}", code=EXIT_FAILURE) from error


def _run_dvc(*arguments: str) -> None:
    result = _run([sys.executable, "-m", "dvc", *arguments])
    if result.returncode:
        cause = next((line for line in result.stderr.splitlines() if line.startswith("ERROR")), _find_last_line(result))
        is_wrong_setting = WRONG_SETTING.search(result.stderr)
        message = f"dvc {arguments[0]}: {cause.removeprefix('ERROR: ')}"
        raise StageError(message, code=EXIT_WRONG_INPUT if is_wrong_setting else EXIT_FAILURE)


def _run_git(*arguments: str, code: int = EXIT_FAILURE) -> str:
    result = _run(["git", *arguments])
    if result.returncode:
        raise StageError(f"git {arguments[0]}: {_find_last_line(result)}", code=code)
    return result.stdout.strip()


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _find_last_line(result: subprocess.CompletedProcess[str]) -> str:
    lines = [line for line in (result.stdout + result.stderr).splitlines() if line.strip()]
    return lines[-1] if lines else f"ended with exit code {result.returncode}"


def main() -> int:
    """Pull or push as a program."""
    parser = argparse.ArgumentParser(prog="python -m tasks.ops.carry", description=__doc__)
    parser.add_argument("way", choices=("pull", "push"))
    parser.add_argument("workspace", help="a key below 'workspaces' in params.yaml")
    parser.add_argument("--stages", default="", help="the stages of this machine, separated by commas (default: all)")
    arguments = parser.parse_args()
    try:
        summary = (pull if arguments.way == "pull" else push)(
            arguments.workspace, arguments.stages.split(",") if arguments.stages else ()
        )
    except VoxflowError as error:
        say(f"carry {arguments.workspace}: error: {error}")
        return error.exit_code
    say(f"carry {arguments.workspace}: {summary}")
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
