"""Ports of this machine that no other test gets, even when several test processes run side by side."""

from __future__ import annotations

import os
import socket

# Below the range from which Linux serves connections and port 0 (ip_local_port_range begins at 32768): what the kernel
# says is free there can be taken again before the server that is to listen on it has started.
FIRST_PORT, PORT_COUNT = 20_000, 12_000

_reservations: list[socket.socket] = []


def reserve_port() -> int:
    """Find a free port on 127.0.0.1 that stays reserved for this process until it ends.

    Each port has a name in the abstract socket namespace of Linux (``unix(7)``). Who binds the name owns the port; the
    kernel lets nobody else bind it, and frees it with the process.

    Returns:
        The port, on which nothing listens yet; also for a server that is stopped and started again.
    """
    for number in range(PORT_COUNT):
        port = FIRST_PORT + (os.getpid() * 37 + number) % PORT_COUNT
        reservation = socket.socket(socket.AF_UNIX)
        try:
            reservation.bind(f"\0voxflow-test-port-{port}")
        except OSError:
            reservation.close()
            continue
        if _is_free(port):
            _reservations.append(reservation)
            return port
        reservation.close()
    raise RuntimeError(f"no free port from {FIRST_PORT} on")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
