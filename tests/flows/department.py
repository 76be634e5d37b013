"""Everything that ``make serve`` starts, in a repository, with what it needs to be killed and started again."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import psutil

from tests.flows.conftest import PATIENCE_S, Server, until
from tests.ports import reserve_port

if TYPE_CHECKING:
    from pathlib import Path


class Department:
    """``make serve`` in a repository, with what it needs to be killed and started again."""

    def __init__(self, repository: Path, variables: dict[str, str]) -> None:
        self.repository, self.variables = repository, variables
        self.ports = [reserve_port(), reserve_port()]
        address = f"http://127.0.0.1:{self.ports[0]}/api"
        self.server = Server(address, variables | {"PREFECT_API_URL": address})
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "tasks.ops.serve"]
        command += ["--prefect-port", str(self.ports[0]), "--mlflow-port", str(self.ports[1])]
        log = self.repository.parent / f"serve-{time.monotonic_ns()}.log"
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                command, cwd=self.repository, env=self.variables, stdout=out, stderr=subprocess.STDOUT
            )
        until(lambda: "Ctrl-C ends" in log.read_text() or self.has_ended, "the start of everything")
        assert not self.has_ended, log.read_text()
        until(lambda: self.server.post("/work_pools/filter"), "the worker's pool")

    @property
    def has_ended(self) -> bool:
        return self.process is None or self.process.poll() is not None

    def kill_worker(self) -> None:
        """Kill the worker and what it runs, without a word; the others end, as ``make serve`` says."""
        assert self.process is not None
        for child in psutil.Process(self.process.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                command = child.cmdline()
                if "worker" in command and "leash.py" not in " ".join(command):
                    for process in [*child.children(recursive=True), child]:
                        process.kill()
        assert self.process.wait(PATIENCE_S) != 0

    def stop(self) -> None:
        if self.process is not None and not self.has_ended:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(PATIENCE_S)
