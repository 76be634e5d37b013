"""What every request passes before and after the routes: limits, token, counting, and one line for each refusal."""

from __future__ import annotations

import asyncio
import errno
from contextlib import suppress
from typing import TYPE_CHECKING

from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse

from voxflow.serving.limits import HEADERS, RefusedError
from voxflow.serving.requestlog import RareNotes, RequestRecord, describe_bug
from voxflow.serving.tokens import has_token

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

ROUTES = {"/predict": ("POST",), "/health": ("GET", "HEAD"), "/ready": ("GET", "HEAD"), "/metrics": ("GET", "HEAD")}
# What a probe or a load balancer asks, which has no token.
OPEN = ("/health", "/ready")
RECORD = "voxflow.record"
# So long the rest of a refused body is read before the answer: many clients read none before they have sent all.
DRAIN_SECONDS = 2.0
MOST_WORDS = 1000
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
# Of a request that is answered with a file, and would make parts of it.
_RANGES = (b"range", b"if-range")


class Guard:
    """The outermost layer of the application.

    Args:
        app: the routes.
        token: what clients must show; None: nothing.
        count: gets the record of every request when its answer begins.
    """

    def __init__(self, app: ASGIApp, token: str | None, count: Callable[[RequestRecord], None]) -> None:
        self._app = app
        self._token = token
        self._count = count
        self._notes = RareNotes()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or say in JSON why not."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close"})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path, method = str(scope["path"]), str(scope["method"])
        record = RequestRecord(client=str((scope.get("client") or ("-",))[0]))
        record.path = path if path in ROUTES else "-"
        record.method = method if any(method in methods for methods in ROUTES.values()) else "-"
        body = _Body(receive)

        async def send_noted(message: Message) -> None:
            # Before it is sent, so that who has an answer finds it counted.
            if message["type"] == "http.response.start":
                record.status = message["status"]
                self._count(record)
            await send(message)

        headers = [item for item in scope["headers"] if item[0] not in _RANGES]
        scope = {**scope, "headers": headers, RECORD: record}
        try:
            await self._answer(scope, body, send_noted)
        finally:
            record.received = body.received
            record.write()

    async def _answer(self, scope: Scope, body: _Body, send: Send) -> None:
        record: RequestRecord = scope[RECORD]
        try:
            self._check(scope)
            await self._app(scope, body.receive, send)
            return
        except RefusedError as error:
            refusal = error
        except ClientDisconnect:
            refusal = RefusedError(400, "the body ended early")
        except asyncio.CancelledError:  # by the server, whose time to stop is over
            refusal = RefusedError(503, "the service was stopped")
        except Exception as error:  # noqa: BLE001 - a traceback would hold what a client sent
            refusal = self._explain_failure(error)
        if record.status:  # too late for another answer; the connection is closed
            raise ConnectionAbortedError from None
        await body.drain(scope)
        await _make_response(refusal)(scope, body.receive, send)

    def _check(self, scope: Scope) -> None:
        """Refuse what is no request of this service, before its body is read."""
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        if scope["http_version"] not in ("1.0", "1.1"):
            raise RefusedError(505, "send HTTP/1.1")
        if len(headers) > HEADERS:
            raise RefusedError(431, f"the request has {len(headers)} headers, at most {HEADERS} are taken")
        names = [name for name, _ in headers]
        if b"content-length" in names and b"transfer-encoding" in names:
            raise RefusedError(400, "the request has a Content-Length and a Transfer-Encoding; send one of them")
        path, method = scope["path"], scope["method"]
        if self._token is not None and path not in OPEN:
            credentials = [value for name, value in headers if name == b"authorization"]
            if len(credentials) != 1 or not has_token(credentials[0], self._token):
                text = "send the token of this service, as with the header Authorization: Bearer TOKEN"
                raise RefusedError(401, text, {"WWW-Authenticate": 'Bearer realm="voxflow"'})
        if path not in ROUTES:
            raise RefusedError(404, f"no such page; there are POST /predict, GET {', GET '.join(list(ROUTES)[1:])}")
        if method not in ROUTES[path]:
            allowed = ", ".join(ROUTES[path])
            raise RefusedError(405, f"{path} takes {allowed}", {"Allow": allowed})

    def _explain_failure(self, error: Exception) -> RefusedError:
        self._notes.add(f"error: {describe_bug(error)}")
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            return RefusedError(507, "the disk of the service is full", {"Retry-After": "60"})
        if isinstance(error, MemoryError):
            return RefusedError(413, "the request needs more memory than the service has")
        return RefusedError(500, "an error of the service itself; its log has the kind and the place")


class _Body:
    """The body of one request: counts what comes of it, and knows whether all has come."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._is_over = False
        self.received = 0

    async def receive(self) -> Message:
        message = await self._receive()
        self._is_over = message["type"] != "http.request" or not message.get("more_body", False)
        self.received += len(message.get("body", b""))
        return message

    async def drain(self, scope: Scope) -> None:
        """Read and drop the rest for a moment, unless the client waits to be told to send it."""
        names = {name for name, _ in scope["headers"]}
        if not names & {b"content-length", b"transfer-encoding"} or (b"expect" in names and not self.received):
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_SECONDS):
                while not self._is_over:
                    await self.receive()


def _make_response(refusal: RefusedError) -> JSONResponse:
    text = " ".join(str(refusal).split())
    text = text if len(text) <= MOST_WORDS else f"{text[:MOST_WORDS]} ..."
    return JSONResponse({"error": text}, refusal.status, refusal.headers)
