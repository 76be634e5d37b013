"""Hides a machine's GPU from tests, and from processes that they start, and shows it to those that need one.

What a test of a processor expects would be something else on a GPU: another engine, and rounding of its own.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from voxflow import machine

if TYPE_CHECKING:
    from collections.abc import Iterator

VISIBLE = "CUDA_VISIBLE_DEVICES"


class HiddenGpu:
    """The GPU of the machine that the tests run on; where there is none, nothing is done and torch is not imported."""

    def __init__(self) -> None:
        self._devices = machine._GPU_DEVICES
        self._visible = os.environ.get(VISIBLE)
        self._is_there = any(Path(device).exists() for device in self._devices)

    def hide(self) -> None:
        """Let no test see the GPU.

        CUDA itself is not asked meanwhile, since it would keep to what it saw first for as long as the process lives.
        """
        if not self._is_there:
            return
        import torch

        self._is_available = torch.cuda.is_available
        torch.cuda.is_available = lambda: False
        machine._GPU_DEVICES = ()  # type: ignore[assignment]
        os.environ[VISIBLE] = ""

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Let the GPU be seen within the block."""
        if not self._is_there:
            yield
            return
        import torch

        torch.cuda.is_available = self._is_available
        machine._GPU_DEVICES = self._devices
        os.environ.pop(VISIBLE, None)
        if self._visible is not None:
            os.environ[VISIBLE] = self._visible
        try:
            yield
        finally:
            self.hide()


GPU = HiddenGpu()
