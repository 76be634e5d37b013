"""Runs a command where nothing can be reached, and finds out whom it tried to reach all the same.

Two witnesses: an audit hook in every Python process (tests/offline_hook) writes down addresses and callers; and in a
network namespace without a route the kernel counts what had nowhere to go, which native code can't get around.
"""

from __future__ import annotations

import fcntl
import functools
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HOOK = Path(__file__).with_name("offline_hook")
VARIABLE = "VOXFLOW_CONNECTIONS"
# Libraries keep quiet where they see these, and would then be found innocent.
CI_VARIABLES = ("CI", "GITHUB_ACTIONS", "GITLAB_CI", "JENKINS_URL", "TF_BUILD", "PYTEST_CURRENT_TEST", "DVC_TEST")
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 0x1
# Nobody is there (RFC 5737), so that a name looked up leaves by the missing route, whatever this machine asks.
NAME_SERVER = "192.0.2.53"
# Time for what a command left running in the background to try.
LINGER_S = 1.0


@functools.cache
def _unshare_command() -> tuple[str, ...]:
    """How to get a network namespace here; empty where the system does not allow it."""
    for options in (["--net", "--mount"], ["--map-root-user", "--net", "--mount"]):
        command = ["unshare", *options]
        if (
            shutil.which("unshare")
            and subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0
        ):
            return tuple(command)
    return ()


def explain_missing_namespace() -> str:
    """A reason to skip a test; empty where namespaces are allowed."""
    return "" if _unshare_command() else "this system allows no network namespace (unshare --net)"


def namespace_command() -> tuple[str, ...]:
    """What to write before a command so that it runs with loopback alone; empty where that is not allowed."""
    return (*_unshare_command(), sys.executable, "-S", str(Path(__file__).resolve())) if _unshare_command() else ()


def record_connections(log: Path, environment: dict[str, str]) -> dict[str, str]:
    """The environment in which a command, and all that it starts, writes down whom it tries to reach into ``log``."""
    quiet = {name: value for name, value in environment.items() if name not in CI_VARIABLES}
    path = os.pathsep.join(filter(None, [str(HOOK), environment.get("PYTHONPATH", "")]))
    return quiet | {VARIABLE: str(log), "PYTHONPATH": path}


def main(command: list[str]) -> int:
    """Inside the namespace: bring loopback up, run the command, write down what the kernel counted."""
    _bring_up("lo")
    _ask_nobody_for_names()
    before = _count_unroutable()
    code = subprocess.run(command, check=False).returncode
    time.sleep(LINGER_S)
    count = _count_unroutable() - before
    if count and os.environ.get(VARIABLE):
        with Path(os.environ[VARIABLE]).open("a", encoding="utf-8") as stream:
            stream.write(f"kernel: {count} attempts had no route, in {' '.join(command[:4])!r}\n")
    return 128 - code if code < 0 else code


def _bring_up(interface: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sh14x", interface.encode(), 0)
        flags = struct.unpack("16sh14x", fcntl.ioctl(control, SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sh14x", interface.encode(), flags | IFF_UP))


def _ask_nobody_for_names() -> None:
    """In this mount namespace only. Where that is not allowed the machine's own settings stay."""
    with tempfile.NamedTemporaryFile("w", suffix=".conf") as settings:
        settings.write(f"nameserver {NAME_SERVER}\noptions timeout:1 attempts:1\n")
        settings.flush()
        target = str(Path("/etc/resolv.conf").resolve())
        subprocess.run(["mount", "--bind", settings.name, target], capture_output=True, check=False)


def _count_unroutable() -> int:
    """How often the kernel had no route in this namespace, IPv4 and IPv6."""
    names, values = [line.split() for line in Path("/proc/net/snmp").read_text().splitlines() if line.startswith("Ip:")]
    count = int(dict(zip(names, values, strict=True))["OutNoRoutes"])
    if (six := Path("/proc/net/snmp6")).is_file():
        count += sum(int(line.split()[1]) for line in six.read_text().splitlines() if line.startswith("Ip6OutNoRoutes"))
    return count


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
