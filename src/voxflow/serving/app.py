"""The routes of the HTTP service, its queue, which works on one request at a time, and its counters."""

from __future__ import annotations

import asyncio
import logging
import shutil
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

# FastAPI reads the routes' annotations at run time.
from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.background import BackgroundTask
from starlette.requests import ClientDisconnect

from voxflow.inference import InferOptions
from voxflow.serving.limits import MB, RefusedError, ServeLimits
from voxflow.serving.work import Answer, Format, answer_request

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from voxflow.engines import Engine

logger = logging.getLogger(__name__)

RETRY_AFTER_S = 5


class Service:
    """An engine, the requests that wait for it, and what became of those that did."""

    def __init__(self, engine: Engine, options: InferOptions, limits: ServeLimits) -> None:
        self.engine = engine
        self.options = options
        self.limits = limits
        self.began = time.time()
        self.answered: Counter[int] = Counter()
        self.seconds = 0.0
        self.accepted = 0
        # One at a time: an engine holds the memory of one volume, and takes all cores.
        self.at_work = ThreadPoolExecutor(1, thread_name_prefix="infer")

    async def predict(self, request: Request, response_format: Format) -> Response:
        """Take a request in and answer it once the engine is free.

        Args:
            request: whose body is the file itself.
            response_format: what is sent back.

        Raises:
            RefusedError: 503 where too many wait, 400 or 413 for a body that is empty or too large, 408 for one that
                is too slow, 415 or 422 for one that can't be used.
        """
        if self.accepted > self.limits.waiting:
            raise RefusedError(503, f"{self.accepted} requests are waiting; come back later")
        self.accepted += 1
        folder = Path(tempfile.mkdtemp(prefix="voxflow-"))
        try:
            await self._receive(request, folder / "upload")
            began = time.perf_counter()
            # Accepted work is done to its end, also when the client is gone.
            file = await asyncio.shield(
                asyncio.get_running_loop().run_in_executor(self.at_work, self._answer, folder, response_format)
            )
            self.seconds += time.perf_counter() - began
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        finally:
            self.accepted -= 1
        forget = BackgroundTask(shutil.rmtree, folder, ignore_errors=True)
        return FileResponse(file.path, media_type=file.media_type, filename=file.name, background=forget)

    async def _receive(self, request: Request, target: Path) -> None:
        most = self.limits.upload_mb * MB
        claimed = request.headers.get("content-length", "0")
        if claimed.isdecimal() and int(claimed) > most:
            raise RefusedError(413, f"the body has {int(claimed) // MB} MB, at most {self.limits.upload_mb} are taken")
        received = 0
        try:
            async with asyncio.timeout(self.limits.upload_seconds):
                with target.open("wb") as stream:
                    async for block in request.stream():
                        received += len(block)
                        if received > most:
                            raise RefusedError(413, f"the body has more than {self.limits.upload_mb} MB")
                        stream.write(block)
        except TimeoutError as error:
            raise RefusedError(408, f"the body took longer than {self.limits.upload_seconds:g} s") from error
        if not received:
            raise RefusedError(400, "the body is empty; send the file itself, as with curl --data-binary @FILE")

    def _answer(self, folder: Path, response_format: Format) -> Answer:
        return answer_request(self.engine, folder, self.options, self.limits, response_format)

    def metrics(self) -> str:
        """Counters as Prometheus reads them."""
        lines = ["# TYPE voxflow_requests_total counter"]
        lines += [f'voxflow_requests_total{{status="{status}"}} {n}' for status, n in sorted(self.answered.items())]
        lines += ["# TYPE voxflow_inference_seconds_total counter"]
        lines += [f"voxflow_inference_seconds_total {self.seconds:.6f}"]
        lines += ["# TYPE voxflow_requests_waiting gauge", f"voxflow_requests_waiting {self.accepted}"]
        return "\n".join(lines) + "\n"


def make_app(engine: Engine, options: InferOptions | None = None, limits: ServeLimits | None = None) -> FastAPI:
    """Build the service.

    Args:
        engine: the loaded model.
        options: window plan, way back, cleaning; no pictures are drawn.
        limits: on what is taken.

    Returns:
        An ASGI application with ``POST /predict``, ``GET /health`` and ``GET /metrics``.
    """
    options = (options or InferOptions()).model_copy(update={"overlays": 0})
    service = Service(engine, options, limits or ServeLimits())

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        service.at_work.shutdown(wait=True)

    # The pages that FastAPI could show load scripts from outside.
    app = FastAPI(title="Voxflow", docs_url=None, redoc_url=None, lifespan=lifespan)
    _add_responses(app, service)
    _add_routes(app, service)
    return app


def _add_responses(app: FastAPI, service: Service) -> None:
    """Count every answer, and say in JSON why a request is not served."""

    @app.middleware("http")
    async def count_response(request: Request, call_next: Any) -> Response:
        response: Response = await call_next(request)
        if request.url.path == "/predict":
            service.answered[response.status_code] += 1
        return response

    @app.exception_handler(RefusedError)
    async def report_refusal(_: Request, error: RefusedError) -> Response:
        headers = {"Retry-After": str(RETRY_AFTER_S)} if error.status == 503 else None
        return JSONResponse({"error": str(error)}, error.status, headers)

    @app.exception_handler(ClientDisconnect)
    async def report_disconnect(_: Request, __: ClientDisconnect) -> Response:
        return JSONResponse({"error": "the body ended early"}, 400)


def _add_routes(app: FastAPI, service: Service) -> None:
    @app.get("/health")
    async def health() -> dict[str, Any]:
        spec = service.engine.spec
        return {
            "status": "ok",
            "engine": service.engine.name,
            "task": spec.task,
            "classes": list(spec.class_names),
            "waiting": service.accepted,
            "uptime_s": round(time.time() - service.began, 1),
        }

    @app.get("/metrics")
    async def metrics() -> Response:
        return PlainTextResponse(service.metrics())

    @app.post("/predict")
    async def predict(request: Request, format: Format = "auto") -> Response:
        return await service.predict(request, format)
