"""Voxflow's programs for shell scripts in tests: one process imports torch once, and forks for every call.

``python -m tests.workspace.programs SOCKET`` serves; :func:`install` starts it and writes one small script a program
of pyproject.toml. Each call has its caller's arguments, folder, environment and standard streams, as a process has.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import socket
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
CLIENT = """#!{python} -IS
import array, os, socket, sys
call = socket.socket(socket.AF_UNIX)
call.connect({socket!r})
words = [{entry!r}, os.getcwd(), *(f"{{k}}={{v}}" for k, v in os.environ.items()), "", *sys.argv]
streams = array.array("i", [0, 1, 2])
call.sendmsg([b"\\0"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, streams)])
call.sendall("\\0".join(words).encode())
call.shutdown(socket.SHUT_WR)
sys.exit(int(call.recv(8) or b"1"))
"""


@contextlib.contextmanager
def install(folder: Path) -> Iterator[Path]:
    """Write every program of pyproject.toml below ``folder`` and serve them; yields the folder for PATH."""
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    folder.mkdir()
    address = str(folder / "socket")
    for name, entry in scripts.items():
        (folder / name).write_text(CLIENT.format(python=sys.executable, socket=address, entry=entry))
        (folder / name).chmod(0o755)
    server = subprocess.Popen([sys.executable, "-m", "tests.workspace.programs", address], cwd=ROOT)
    try:
        deadline = time.monotonic() + 120
        while not Path(address).exists() and server.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        yield folder
    finally:
        server.terminate()
        server.wait()


def serve(address: str) -> None:
    """Import what is heavy, then answer calls one at a time until the process is ended."""
    for module in ("monai.networks.nets", "monai.losses", "monai.inferers", "onnx", "openvino", "mlflow", "SimpleITK"):
        importlib.import_module(module)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"{address}.new")
    listener.listen()
    Path(f"{address}.new").rename(address)
    while True:
        call, _ = listener.accept()
        with call:
            _, streams, _, _ = socket.recv_fds(call, 1, 3)
            words = _read(call).split("\0")
            child = os.fork()
            if child == 0:
                os._exit(_run(words, streams))
            for stream in streams:
                os.close(stream)
            call.sendall(str(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])).encode())


def _read(call: socket.socket) -> str:
    parts = []
    while part := call.recv(65536):
        parts.append(part)
    return b"".join(parts).decode()


def _run(words: list[str], streams: list[int]) -> int:
    """Be the caller's process, in the child."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    entry, folder, *remainder = words
    split = remainder.index("")
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(pair.partition("=")[::2] for pair in remainder[:split])
    sys.argv = remainder[split + 1 :]
    module, _, function = entry.partition(":")
    try:
        return int(getattr(importlib.import_module(module), function)() or 0)
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


if __name__ == "__main__":
    serve(sys.argv[1])
