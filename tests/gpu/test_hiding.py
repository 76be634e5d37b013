"""Tests see no GPU but those that are marked so."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from tests.gpu.hiding import VISIBLE, HiddenGpu
from voxflow import machine


def test_a_gpu_is_hidden_from_tests_and_shown_to_those_that_need_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine that seems to have one, with a torch that sees it."""
    monkeypatch.setattr(machine, "_GPU_DEVICES", ("/dev/null",))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv(VISIBLE, "3")
    gpu = HiddenGpu()
    gpu.hide()
    assert (machine.has_gpu(), torch.cuda.is_available(), os.environ[VISIBLE]) == (False, False, "")
    code = "import os, sys; sys.exit(os.environ['CUDA_VISIBLE_DEVICES'] or 5)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 5
    with gpu.shown():
        assert (machine.has_gpu(), torch.cuda.is_available(), os.environ[VISIBLE]) == (True, True, "3")
    assert (machine.has_gpu(), os.environ[VISIBLE]) == (False, "")


@pytest.mark.gpu
def test_a_marked_test_sees_the_gpu() -> None:
    assert machine.has_gpu()
    assert torch.zeros(1, device="cuda").sum().item() == 0


def test_an_unmarked_test_sees_none() -> None:
    assert not machine.has_gpu()
