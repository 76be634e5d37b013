"""Notes Ctrl-C and termination, so that the training loop can stop cleanly at its next step."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, Any, Self

from voxflow.progress import say

if TYPE_CHECKING:
    from types import FrameType, TracebackType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """While entered, the first SIGINT or SIGTERM sets ``is_requested``; a second one interrupts at once."""

    def __init__(self) -> None:
        self.is_requested = False
        self._former_handlers: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        # Python allows signal handlers in the main thread only; elsewhere nobody can interrupt this way.
        if threading.current_thread() is threading.main_thread():
            self._former_handlers = {number: signal.signal(number, self._request) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._former_handlers.items():
            signal.signal(number, handler)

    def _request(self, number: int, frame: FrameType | None) -> None:
        if self.is_requested:
            raise KeyboardInterrupt
        self.is_requested = True
        say(f"{signal.Signals(number).name}: ending after this step, the final checkpoint is written (again: at once)")
