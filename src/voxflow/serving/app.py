"""The routes of the HTTP service, its queue, which works on one request at a time, and its counters."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, get_args

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from voxflow.engines import describe_device
from voxflow.inference import InferOptions
from voxflow.serving.channels import name_channels
from voxflow.serving.forms import parse_form_boundary
from voxflow.serving.guard import RECORD, Guard
from voxflow.serving.limits import GRACE_SECONDS, LEAST_RATE, MB, RefusedError, ServeLimits
from voxflow.serving.scratch import ScratchFolder
from voxflow.serving.work import Answer, Format, answer_request

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sized
    from pathlib import Path

    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

    from voxflow.engines import Engine
    from voxflow.serving.requestlog import RequestRecord
    from voxflow.spec import ModelSpec
    from voxflow.trust import AnyReviewer

RETRY_AFTER = {"Retry-After": "5"}


@dataclass
class Upload:
    """One request's folder, what its body takes on the disk, and what separates the parts of a form."""

    folder: Path
    boundary: bytes | None
    bytes: int = 0


class Service:
    """An engine, the requests that wait for it, and what became of those that did."""

    def __init__(
        self,
        engine: Engine,
        options: InferOptions,
        limits: ServeLimits,
        reviewer: AnyReviewer | None = None,
    ) -> None:
        self.engine = engine
        self.reviewer = reviewer
        self.options = options
        self.limits = limits
        self.began = time.time()
        self.answered: Counter[int] = Counter()
        self.inference_seconds = 0.0
        self.wait_seconds = 0.0
        self.accepted = 0
        self.upload_bytes = 0
        self.is_stopping = False
        self.connections: Sized = ()
        self._receiving: set[asyncio.Timeout] = set()
        # One at a time: an engine holds the memory of one volume, and takes all cores.
        self._at_work = ThreadPoolExecutor(1, thread_name_prefix="infer")
        self._scratch: ScratchFolder | None = None

    def open(self) -> ScratchFolder:
        """Make the folder of the uploads, where it is not there yet."""
        self._scratch = self._scratch or ScratchFolder()
        return self._scratch

    def close(self) -> None:
        """Remove the folder of the uploads; work that is still going on is left alone."""
        self.is_stopping = True
        self._at_work.shutdown(wait=not self.accepted, cancel_futures=True)
        if self._scratch is not None:
            self._scratch.close()
            self._scratch = None

    def begin_stop(self) -> None:
        """Accept nothing more; bodies that are still coming are refused."""
        self.is_stopping = True
        for timeout in self._receiving:
            with suppress(RuntimeError):  # its time is over already
                timeout.reschedule(asyncio.get_running_loop().time())

    def explain_unready(self) -> str:
        """Why no further request would be accepted at this moment; empty where one would."""
        if self.is_stopping:
            return "the service is stopping"
        if self.accepted > self.limits.waiting:
            return f"{self.accepted} requests are waiting; come back later"
        return ""

    async def predict(self, request: Request) -> Response:
        """Take a request in and answer it once the engine is free.

        A body is read before its request takes a place in the queue, so that slow senders keep nobody waiting.

        Args:
            request: whose body is the file itself, or a form of several; its ``format`` says what is sent back.

        Raises:
            RefusedError: 503 where too many wait, 400 or 413 for a body that is empty or too large, 408 for one that
                is too slow, 415 or 422 for one that can't be used.
        """
        response_format = _parse_format(request)
        boundary = _parse_boundary(request, self.engine.spec)
        self._require_room()
        upload = Upload(self.open().make_folder(), boundary)
        try:
            await self._receive(request, upload)
            self._require_room()
            answer = await self._work(upload, response_format, request.scope[RECORD])
        except BaseException:
            self._forget(upload)
            raise
        return _FileAnswer(answer, partial(self._forget, upload))

    def _require_room(self) -> None:
        reason = self.explain_unready()
        if reason:
            raise RefusedError(503, reason, RETRY_AFTER)

    async def _work(self, upload: Upload, response_format: Format, record: RequestRecord) -> Answer:
        began = time.perf_counter()

        def work() -> Answer:
            record.wait_seconds = time.perf_counter() - began
            return answer_request(
                self.engine,
                upload.folder,
                self.options,
                self.limits,
                response_format,
                boundary=upload.boundary,
                record=record,
                reviewer=self.reviewer,
            )

        self.accepted += 1
        future = asyncio.get_running_loop().run_in_executor(self._at_work, work)
        future.add_done_callback(self._count_work)
        # Accepted work is done to its end, also when the client is gone.
        return await asyncio.shield(future)

    def _count_work(self, future: asyncio.Future[Answer]) -> None:
        self.accepted -= 1
        if not future.cancelled():
            future.exception()  # nobody asks for it where the client is gone

    async def _receive(self, request: Request, upload: Upload) -> None:
        """Write the body to the disk, within the limits of size and time."""
        most = self.limits.upload_mb * MB
        claimed = request.headers.get("content-length", "0")
        if claimed.isdecimal() and int(claimed) > most:
            raise RefusedError(413, f"the body has {int(claimed) // MB} MB, at most {self.limits.upload_mb} are taken")
        began = asyncio.get_running_loop().time()
        last = began + self.limits.upload_seconds
        try:
            async with asyncio.timeout_at(min(last, began + GRACE_SECONDS)) as timeout:
                self._receiving.add(timeout)
                with (upload.folder / "upload").open("wb") as stream:
                    async for block in request.stream():
                        stream.write(block)
                        self._count_block(upload, len(block))
                        if not self.is_stopping:
                            timeout.reschedule(min(last, began + GRACE_SECONDS + upload.bytes / LEAST_RATE))
        except TimeoutError as error:
            if self.is_stopping:
                raise RefusedError(503, "the service is stopping", RETRY_AFTER) from error
            seconds = asyncio.get_running_loop().time() - began
            raise RefusedError(408, f"the body has {upload.bytes} bytes after {seconds:.0f} s: too slow") from error
        finally:
            self._receiving.discard(timeout)
        if not upload.bytes:
            raise RefusedError(400, "the body is empty; send the file itself, as with curl --data-binary @FILE")

    def _count_block(self, upload: Upload, byte_count: int) -> None:
        upload.bytes += byte_count
        self.upload_bytes += byte_count
        if upload.bytes > self.limits.upload_mb * MB:
            raise RefusedError(413, f"the body has more than {self.limits.upload_mb} MB")
        if self.upload_bytes > (self.limits.waiting + 1) * self.limits.upload_mb * MB:
            raise RefusedError(503, "the uploads of all clients together are too large; come back later", RETRY_AFTER)

    def _forget(self, upload: Upload) -> None:
        self.upload_bytes -= upload.bytes
        upload.bytes = 0
        shutil.rmtree(upload.folder, ignore_errors=True)

    def count(self, record: RequestRecord) -> None:
        """Count an answer to ``POST /predict``."""
        if record.path == "/predict":
            self.answered[record.status] += 1
            self.inference_seconds += record.inference_seconds
            self.wait_seconds += record.wait_seconds

    def describe_metrics(self) -> str:
        """Counters as Prometheus reads them."""
        lines = _describe_metric("requests_total", "counter", "Answers of /predict by status.")
        lines += [f'voxflow_requests_total{{status="{status}"}} {n}' for status, n in sorted(self.answered.items())]
        for name, kind, text, value in (
            ("inference_seconds_total", "counter", "Time that inference took.", f"{self.inference_seconds:.6f}"),
            ("wait_seconds_total", "counter", "Time that whole bodies waited for it.", f"{self.wait_seconds:.6f}"),
            ("requests_waiting", "gauge", "Accepted requests, the one at work too.", self.accepted),
            ("requests_receiving", "gauge", "Requests whose body is coming.", len(self._receiving)),
            ("upload_bytes", "gauge", "Bytes of the bodies on the disk.", self.upload_bytes),
            ("connections", "gauge", "Open connections.", len(self.connections)),
        ):
            lines += [*_describe_metric(name, kind, text), f"voxflow_{name} {value}"]
        return "\n".join(lines) + "\n"


def make_app(
    engine: Engine,
    options: InferOptions | None = None,
    limits: ServeLimits | None = None,
    token: str | None = None,
    reviewer: AnyReviewer | None = None,
) -> Starlette:
    """Build the service.

    Args:
        engine: the loaded model.
        options: window plan, way back, cleaning; no pictures are drawn.
        limits: on what is taken.
        token: what clients must show; None: nothing.
        reviewer: who sorts the cases, where the options ask for it.

    Returns:
        An ASGI application with ``POST /predict``, ``GET /health``, ``GET /ready`` and ``GET /metrics``. Limits on
        connections and headers are the server's: :func:`voxflow.serving.make_server`.
    """
    options = (options or InferOptions()).model_copy(update={"overlays": 0})
    service = Service(engine, options, limits or ServeLimits(), reviewer)

    @asynccontextmanager
    async def run_service(_: Starlette) -> AsyncIterator[None]:
        service.open()
        yield
        service.close()

    guard = Middleware(Guard, token=token, count=service.count)
    app = Starlette(routes=_make_routes(service), middleware=[guard], lifespan=run_service)
    app.state.service = service
    return app


def _make_routes(service: Service) -> list[Route]:
    async def health(_: Request) -> Response:
        spec = service.engine.spec
        content = {
            "status": "ok",
            "engine": service.engine.name,
            "device": describe_device(service.engine),
            "task": spec.task,
            "classes": list(spec.class_names),
            **({"channels": name_channels(spec)} if spec.has_several_images else {}),
            "waiting": service.accepted,
            "uptime_s": round(time.time() - service.began, 1),
        }
        return JSONResponse(content)

    async def ready(_: Request) -> Response:
        reason = service.explain_unready()
        if reason:
            return JSONResponse({"error": reason}, 503, RETRY_AFTER)
        return JSONResponse({"status": "ready", "waiting": service.accepted})

    async def metrics(_: Request) -> Response:
        return PlainTextResponse(service.describe_metrics())

    return [
        Route("/health", health),
        Route("/ready", ready),
        Route("/metrics", metrics),
        Route("/predict", service.predict, methods=["POST"]),
    ]


class _FileAnswer(FileResponse):
    """Sends a file, and forgets the upload whatever becomes of that."""

    def __init__(self, answer: Answer, forget: Callable[[], None]) -> None:
        headers = {"X-Voxflow-Failed": str(answer.failed), **answer.trust}
        super().__init__(answer.path, media_type=answer.media_type, filename=answer.name, headers=headers)
        self._forget = forget

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._forget()


def _parse_boundary(request: Request, spec: ModelSpec) -> bytes | None:
    """What separates the parts of a form; None where the body is the file itself."""
    content_type = request.headers.get("content-type", "").strip()
    if not content_type.lower().startswith("multipart/"):
        return None
    if not spec.has_several_images:
        text = "the body is a form (multipart); send the file itself, as with curl --data-binary @FILE"
        raise RefusedError(415, text)
    return parse_form_boundary(content_type)


def _parse_format(request: Request) -> Format:
    """Read what is sent back."""
    response_format: Any = request.query_params.get("format", "auto")
    if response_format not in get_args(Format):
        raise RefusedError(400, f"format is one of {', '.join(get_args(Format))}")
    return response_format  # type: ignore[no-any-return]


def _describe_metric(name: str, kind: str, text: str) -> list[str]:
    return [f"# HELP voxflow_{name} {text}", f"# TYPE voxflow_{name} {kind}"]
