"""Services for tests: in a thread of this process, or as a process of their own."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tests.inference.models import ThresholdEngine
from voxflow.serving import ServeLimits, make_app, make_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy as np

    from voxflow.engines import Engine
    from voxflow.serving.app import Service

SMALL = ServeLimits(upload_mb=1, unpacked_mb=4, files=50, waiting=3)


@contextmanager
def run_service(
    engine: Engine, limits: ServeLimits = SMALL, token: str | None = None, **settings: Any
) -> Iterator[tuple[int, Service]]:
    """Run a service on a free port of this machine; yields the port and the service."""
    app = make_app(engine, limits=limits, token=token, **settings)
    server = make_server(app)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        # A client that reads nothing is noticed soon.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16384)
        port = listener.getsockname()[1]
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        while not server.started:
            time.sleep(0.01)
        try:
            yield port, app.state.service
        finally:
            server.should_exit = True
            thread.join()


class SlowEngine(ThresholdEngine):
    """Takes its time, so that others wait."""

    seconds = 0.3

    def run(self, batch: np.ndarray) -> np.ndarray:
        time.sleep(self.seconds)
        return super().run(batch)


def list_uploads(service: Service) -> list[Path]:
    """The folders of the requests that a service has."""
    assert service._scratch is not None
    return list(service._scratch.path.iterdir())


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=30)


def read_answer(connection: socket.socket) -> tuple[int, Any]:
    """Status and JSON of the one answer that a server sends, interim ones left out."""
    with connection.makefile("rb") as stream:
        status = 100
        while status == 100:
            status = int(stream.readline().split()[1])
            headers = {}
            while line := stream.readline().strip():
                name, _, value = line.partition(b":")
                headers[name.lower()] = value.strip()
        body = stream.read(int(headers[b"content-length"]))
    return status, json.loads(body) if headers[b"content-type"] == b"application/json" else body


def ask(port: int, request: bytes) -> tuple[int, Any]:
    """Send bytes as they are, and read the answer."""
    with connect(port) as connection:
        connection.sendall(request)
        return read_answer(connection)


class ServiceProcess:
    """``voxflow serve`` as users run it, or another program that serves."""

    def __init__(self, command: list[str], folder: Path, **environment: str) -> None:
        self.folder = folder
        self.scratch = folder / "scratch"
        self.scratch.mkdir(parents=True, exist_ok=True)
        self.errors = folder / "errors.txt"
        with self.errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, *command],
                stderr=errors,
                env=os.environ | {"TMPDIR": str(self.scratch)} | environment,
            )
        ends = time.monotonic() + 120
        while not (match := re.search(r"http://[^:]+:(\d+)/", self.errors.read_text())):
            assert self.process.poll() is None, self.errors.read_text()
            assert time.monotonic() < ends
            time.sleep(0.05)
        self.port = int(match[1])
        while True:
            try:
                assert ask(self.port, b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")[0] == 200
                return
            except ConnectionRefusedError:
                time.sleep(0.05)

    def list_scratch(self) -> list[Path]:
        return [path for path in self.scratch.iterdir() if path.name.startswith("voxflow")]

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
