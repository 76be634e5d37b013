"""The log of requests: one line each, of fixed words, numbers and an address; nothing that a client wrote."""

from __future__ import annotations

import logging
import logging.handlers
import time
import warnings
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from traceback import extract_tb
from typing import TYPE_CHECKING

from voxflow.progress import say

if TYPE_CHECKING:
    from logging import Handler, LogRecord

LOG_FILES = 5
# A fault that may repeat thousands of times a second is told this often.
REPEAT_SECONDS = 60.0

logger = logging.getLogger("voxflow.serving.requests")


@dataclass
class RequestRecord:
    """What the log and the counters say of one request.

    Attributes:
        method: of those that are served; else "-".
        path: of those that are served; else "-".
        client: the address at the other end of the connection.
        status: of the response; 0 while there is none.
        received: bytes of the body.
        wait_seconds: from the body's end until the work on it began.
        inference_seconds: spent on inference.
    """

    method: str = "-"
    path: str = "-"
    client: str = "-"
    status: int = 0
    received: int = 0
    wait_seconds: float = 0.0
    inference_seconds: float = 0.0
    began: float = field(default_factory=time.perf_counter)

    def write(self) -> None:
        """Write the line."""
        logger.info(
            "%s %s %s %d received=%d waited=%.3f inference=%.3f total=%.3f",
            self.client,
            self.method,
            self.path,
            self.status,
            self.received,
            self.wait_seconds,
            self.inference_seconds,
            time.perf_counter() - self.began,
        )


class RareNotes:
    """Writes a fault that may repeat at once, and then at most once a minute with the number of times."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._last: dict[str, float] = {}

    def add(self, fault: str) -> None:
        """Note that a fault has occurred."""
        now = time.monotonic()
        self._counts[fault] = self._counts.get(fault, 0) + 1
        if now - self._last.get(fault, -REPEAT_SECONDS) >= REPEAT_SECONDS:
            times = self._counts.pop(fault)
            self._last[fault] = now
            logger.warning("%s%s", fault, f" ({times} times)" if times > 1 else "")


def describe_bug(error: BaseException) -> str:
    """Say what was raised and where, without its message, which may hold what a client sent.

    Example:
        >>> try:
        ...     raise KeyError("Doe^John")
        ... except KeyError as error:
        ...     print(describe_bug(error).split(" at ")[0])
        KeyError
    """
    frames = extract_tb(error.__traceback__)
    places = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames[-3:]]
    return f"{type(error).__name__} at {' > '.join(places)}"


def start_log(path: Path | None, megabytes: int) -> Handler:
    """Send the log to a file that is replaced when it is full, the former ones kept; else to standard error.

    Libraries no longer write anything to either: pydicom's warnings repeat what a file holds.

    Args:
        path: of the file; None: standard error.
        megabytes: of one file; there are up to five more.

    Returns:
        What :func:`stop_log` takes.

    Raises:
        OSError: the file can't be written.
    """
    handler: Handler = logging.StreamHandler() if path is None else _RotatingLog(path, megabytes << 20)
    formatter = logging.Formatter("%(asctime)sZ %(message)s", "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    warnings.simplefilter("ignore")
    logging.getLogger().addHandler(logging.NullHandler())
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    return handler


def stop_log(handler: Handler) -> None:
    """Close what :func:`start_log` opened."""
    logger.removeHandler(handler)
    with suppress(OSError):  # as of a full disk
        handler.close()


class _RotatingLog(logging.handlers.RotatingFileHandler):
    """Says once that the log can't be written, as on a full disk, and goes on."""

    def __init__(self, path: Path, most_bytes: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        super().__init__(path, maxBytes=most_bytes, backupCount=LOG_FILES, encoding="utf-8")
        self._has_failed = False

    def handleError(self, record: LogRecord) -> None:  # noqa: N802 - logging's name
        if not self._has_failed:
            self._has_failed = True
            say(f"serve: warning: the log {self.baseFilename} can't be written; requests are served all the same")
