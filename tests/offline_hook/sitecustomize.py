"""Loaded by every Python process that some tests start: writes down whom it tries to reach, and what it imported."""

import atexit
import json
import os
import socket
import sys
import traceback
from typing import Any

LOG = os.environ.get("VOXFLOW_CONNECTIONS", "")
MODULES = os.environ.get("VOXFLOW_MODULES", "")
EVENTS = {"socket.connect", "socket.sendto", "socket.getaddrinfo", "socket.gethostbyname"}
LOCAL = {"", "localhost", "ip6-localhost", "::1", "::", "0.0.0.0", socket.gethostname()}  # noqa: S104


def is_local(host: object) -> bool:
    return not isinstance(host, str) or host in LOCAL or host.startswith("127.")


def record(event: str, arguments: tuple[Any, ...]) -> None:
    if event not in EVENTS:
        return
    target = arguments[1] if event in ("socket.connect", "socket.sendto") else arguments[0]
    host = target[0] if isinstance(target, tuple) else target
    # A path is a Unix socket, which leaves no machine.
    if isinstance(host, bytes):
        host = host.decode(errors="replace")
    is_path = event in ("socket.connect", "socket.sendto") and not isinstance(target, tuple)
    if is_path or is_local(host):
        return
    callers = [frame.filename for frame in traceback.extract_stack()[:-1]]
    with open(LOG, "a", encoding="utf-8") as stream:  # noqa: PTH123
        stream.write(f"{event} {target!r} in {' '.join(sys.argv[:3])!r} from {' < '.join(callers[-6:][::-1])}\n")


if LOG:
    sys.addaudithook(record)


def record_modules() -> None:
    names = sorted(name for name in sys.modules if name.split(".")[0] in {"voxflow", "tasks"})
    with open(MODULES, "a", encoding="utf-8") as stream:  # noqa: PTH123
        stream.write(json.dumps([sys.orig_argv, names]) + "\n")


if MODULES:
    atexit.register(record_modules)
