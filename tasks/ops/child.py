"""Runs a program of this folder as a child process that ends with its parent, and explains its exit code."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.ops import leash
from tasks.ops.repro import StageError
from voxflow.errors import EXIT_FAILURE, EXIT_OK, EXIT_SOME_FAILED, EXIT_WRONG_INPUT
from voxflow.redaction import hide_secrets

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

KILLED_FROM = 128


def run_program(module: str, arguments: Sequence[str], say: Callable[[str], None]) -> str:
    """Run ``python -m MODULE ARGUMENTS`` and wait.

    Args:
        module: such as ``tasks.ops.ingest``.
        arguments: its command line.
        say: gets every line that it writes.

    Returns:
        Its last line.

    Raises:
        StageError: it failed or was killed. That some cases failed, each reported, is no failure.
    """
    environment = os.environ | {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    }
    last = ""
    command = [sys.executable, "-m", module, *arguments]
    # Leaving the block closes the leash, so that an exception in `say` leaves no child behind.
    with leash.start(command, environment=environment, output=subprocess.PIPE) as child:
        for line in child.stdout or ():
            if line.strip():
                last = hide_secrets(line.rstrip())
                say(last)
        code = child.wait()
    if code in (EXIT_OK, EXIT_SOME_FAILED):
        return last
    if code > KILLED_FROM:
        raise StageError(f"{module}: killed by signal {code - KILLED_FROM}", code=EXIT_FAILURE, killed=True)
    exit_code = code if code in (EXIT_FAILURE, EXIT_WRONG_INPUT) else EXIT_FAILURE
    raise StageError(last or f"{module}: ended with exit code {code}", code=exit_code)
