"""The connections of the service: how many are open, and how long each may be silent before a request is there.

uvicorn limits neither the time of a header nor the number of open connections, and asyncio writes its log full once the
process has no descriptors left: here connections end sooner than descriptors do, idle ones first.
"""

from __future__ import annotations

import asyncio
import errno
import functools
import json
import resource
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from voxflow.errors import ConfigError
from voxflow.progress import say
from voxflow.serving.limits import HEADER_BYTES
from voxflow.serving.requestlog import RareNotes, RequestRecord, describe_bug

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from voxflow.serving.app import Service
    from voxflow.serving.limits import ServeLimits

# So many connections are taken from the kernel at once, before any of them is counted.
BACKLOG = 64
# Descriptors of the files that requests read and write, and of the processes that decode.
RESERVE = 48
# So long what still comes of a refused body is dropped before the connection is closed.
LINGER_SECONDS = 5.0
# An address that is none of this machine, as ::1 in a container without IPv6.
_ABSENT = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
_PHRASES = {400: "Bad Request", 408: "Request Timeout", 431: "Request Header Fields Too Large", 501: "Not Implemented"}


class ConnectionLimiter:
    """Counts the open connections of a service, and ends those that wait for nothing when there are too many.

    Args:
        limits: on number and times.
        most: what :func:`count_allowed_connections` says.
    """

    def __init__(self, limits: ServeLimits, most: int) -> None:
        self.limits = limits
        self.most = most
        self.notes = RareNotes()
        # When each idle connection became idle, in this order.
        self.idle: dict[LimitedProtocol, None] = {}
        self.open: set[LimitedProtocol] = set()

    def make_room(self, newcomer: LimitedProtocol) -> bool:
        """Whether one more connection may stay; the one that has been idle longest goes for it."""
        self.open.add(newcomer)
        if len(self.open) <= self.most:
            return True
        self.notes.add(f"warning: {self.most} connections are open, and more want to be")
        oldest = next(iter(self.idle), None)
        if oldest is not None:
            oldest.end()
        return oldest is not None


class LimitedProtocol(H11Protocol):
    """One connection, whose header must come in time."""

    def __init__(self, *arguments: Any, limiter: ConnectionLimiter, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self._limiter = limiter
        self._timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, or say that there are too many."""
        super().connection_made(transport)
        if self._limiter.make_room(self):
            self._limiter.idle[self] = None
            self._start_timer(self._limiter.limits.header_seconds, self._end_slow_header)
        else:
            self._refuse(503, "too many connections are open; come back later", "Service Unavailable")

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget a connection."""
        self._limiter.open.discard(self)
        self._limiter.idle.pop(self, None)
        self._stop_timer()
        self.resume_writing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on; until the header is whole, the clock runs."""
        is_next_request = self in self._limiter.idle and self.cycle is not None
        self._limiter.idle.pop(self, None)
        if is_next_request:
            self._start_timer(self._limiter.limits.header_seconds, self._end_slow_header)
        try:
            super().data_received(data)
        except (h11.ProtocolError, ValueError, RuntimeError):
            # As for what breaks the rules in the middle of a body whose response has begun.
            self.transport.abort()
            return
        if self._is_at_work:
            self._stop_timer()

    @property
    def _is_at_work(self) -> bool:
        """Whether a request is there that has no whole response yet."""
        return self.cycle is not None and not self.cycle.response_complete

    def shutdown(self) -> None:
        """End the connection, after the response where a request is there."""
        try:
            super().shutdown()
        except h11.ProtocolError:
            self.transport.abort()

    def send_400_response(self, msg: str) -> None:
        """Say what is wrong with a request that breaks the rules of HTTP; uvicorn calls it where that is raised."""
        error = sys.exception()
        hint = error.error_status_hint if isinstance(error, h11.RemoteProtocolError) else 400
        if self._is_at_work and self.cycle.response_started:
            self.transport.abort()
        elif hint == 431:
            self._refuse(431, f"the header has more than {HEADER_BYTES} bytes")
        else:
            self._refuse(hint if hint in _PHRASES else 400, f"no valid HTTP: {error or msg}")

    def on_response_complete(self) -> None:
        """Wait for the next request, or drop for a moment what still comes of this one."""
        super().on_response_complete()
        if self.transport.is_closing():
            return
        if self.conn.their_state is h11.IDLE:
            self._limiter.idle[self] = None
        elif self.conn.their_state is h11.SEND_BODY:
            self._unset_keepalive_if_required()
            self._start_timer(LINGER_SECONDS, self.end)

    def pause_writing(self) -> None:
        """Give a client that reads nothing some time."""
        super().pause_writing()
        self._write_timer = self.loop.call_later(self._limiter.limits.send_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on."""
        super().resume_writing()
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def end(self) -> None:
        """Close the connection."""
        self._limiter.idle.pop(self, None)
        self.transport.close()

    def _start_timer(self, seconds: float, callback: Any) -> None:
        self._stop_timer()
        self._timer = self.loop.call_later(seconds, callback)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _end_slow_header(self) -> None:
        if self in self._limiter.idle:  # nothing came: there is nothing to answer
            self.end()
            return
        self._refuse(408, f"the header took longer than {self._limiter.limits.header_seconds:g} s")

    def _refuse(self, status: int, message: str, phrase: str = "") -> None:
        """Answer without the application, and close."""
        if self.transport.is_closing():
            return
        body = json.dumps({"error": message}).encode()
        retry = "Retry-After: 5\r\n" if status == 503 else ""
        head = f"HTTP/1.1 {status} {phrase or _PHRASES[status]}\r\nContent-Type: application/json\r\n{retry}"
        self.transport.write(f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body)
        self.transport.close()
        if status != 503 and not self._is_at_work:  # the limiter notes one, the application the other
            RequestRecord(client=self.client[0] if self.client else "-", status=status).write()


class Server(uvicorn.Server):
    """A server that answers what it has accepted before it stops, and takes nothing more meanwhile."""

    def __init__(self, config: uvicorn.Config, service: Service, notes: RareNotes) -> None:
        super().__init__(config)
        self._service = service
        self._notes = notes

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say errors of connections seldom: asyncio writes each with its traceback."""
        asyncio.get_running_loop().set_exception_handler(self._note_error)
        await super().startup(sockets)

    def _note_error(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        self._notes.add(f"error: {describe_bug(error) if error else context.get('message')}")

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop within the time that is left for it."""
        self._service.begin_stop()
        await super().shutdown(sockets)
        if self._service.accepted:
            say("serve: stopped before all requests were answered; see --stop-seconds")


def make_server(app: Starlette) -> Server:
    """Make the server of an application that ``make_app`` made; ``run(sockets=...)`` starts it."""
    service: Service = app.state.service
    limits = service.limits
    limiter = ConnectionLimiter(limits, count_allowed_connections(limits.connections))
    service.connections = limiter.open
    config = uvicorn.Config(
        app,
        http=functools.partial(LimitedProtocol, limiter=limiter),  # type: ignore[arg-type]
        ws="none",
        backlog=BACKLOG,
        log_config=None,
        log_level="critical",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=limits.idle_seconds,
        timeout_graceful_shutdown=limits.stop_seconds,
        h11_max_incomplete_event_size=HEADER_BYTES,
    )
    return Server(config, service, limiter.notes)


def count_allowed_connections(connections: int) -> int:
    """How many connections may be open at once, from the descriptors that this process may have.

    The soft limit on descriptors is first raised as far as is needed and allowed.

    Raises:
        ConfigError: not even one.
    """
    used = len(list(Path("/dev/fd").iterdir())) + BACKLOG + RESERVE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < used + connections:
        soft = used + connections if hard == resource.RLIM_INFINITY else min(hard, used + connections)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    allowed = connections if soft == resource.RLIM_INFINITY else min(connections, soft - used)
    if allowed < 1:
        raise ConfigError(f"the process may have {soft} descriptors (ulimit -n); the service needs {used + 1}")
    return allowed


def open_listeners(host: str, port: int) -> list[socket.socket]:
    """Listen on every address that a host's name has, and that this machine has, too.

    Raises:
        OSError: none is left, or the port is in use at one of them.
    """
    listeners: list[socket.socket] = []
    failure = OSError(f"no address of {host}")
    for family, _, _, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE):
        place = (str(address[0]), listeners[0].getsockname()[1] if listeners else port)
        try:
            listeners.append(socket.create_server(place, family=family, backlog=BACKLOG))
        except OSError as error:
            if error.errno not in _ABSENT:
                for listener in listeners:
                    listener.close()
                raise
            failure = error
    if not listeners:
        raise failure
    return listeners
