"""Reads and writes state.pt: everything that a killed training needs to go on as if nothing had happened."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import numpy as np

from voxflow.errors import DataError
from voxflow.progress import say
from voxflow.torch_files import read_torch, save_torch
from voxflow.training.digests import list_differences

if TYPE_CHECKING:
    from pathlib import Path

STATE = "state.pt"
FORMAT = 1


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write a state whole or not at all.

    Args:
        path: usually state.pt beside model.pt.
        state: tensors and plain values.

    Raises:
        OSError: the disk is full, say; the older file stays.
    """
    save_torch(path, {"format": FORMAT, **state})


def read_state(path: Path) -> dict[str, Any] | None:
    """Read a state onto the CPU without running any code that it holds.

    Returns:
        The state as :func:`save_state` took it; None when there is no file, or, with a warning, when it is damaged or
        of another format: a training that can't be continued begins afresh.
    """
    if not path.is_file():
        return None
    try:
        # Mapped: with Adam's moments a state is three times the model, and each tensor is copied out of it only once.
        content = read_torch(path, "state of a training", mmap=True)
    except DataError as error:
        say(f"warning: {path} can't be read, so the run is not continued: {error.message}")
        return None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        say(f"warning: {path} is of another version, so the run is not continued")
        return None
    return content


def find_matching_state(path: Path, identity: dict[str, str]) -> tuple[dict[str, Any] | None, str]:
    """Read the state of an unfinished run if it computes the same as the training that begins.

    Args:
        path: the file.
        identity: digests of the training that begins, as ``digest_training`` returns them.

    Returns:
        The state, and an empty reason; or None, and a reason that is empty when there simply was no run.
    """
    state = read_state(path)
    if state is None:
        return None, ""
    parts = list_differences(state["fingerprint"], identity)
    if parts:
        return None, f"the unfinished run in {path.parent} had different {' and '.join(parts)}"
    return state, ""


def get_random_state() -> dict[str, Any]:
    """Return the state of every random generator of this process, as plain values and tensors.

    Returns:
        "python", "numpy", "torch" and, with a GPU, "cuda"; what :func:`restore_random_state` takes.
    """
    import torch

    kind, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    # torch.load(weights_only=True) takes no NumPy array, and torch before 2.3 has no unsigned 32-bit integers.
    state = {
        "python": random.getstate(),
        "numpy": (kind, torch.from_numpy(np.asarray(keys, dtype=np.int64)), position, has_gauss, gauss),
        "torch": torch.get_rng_state(),
    }
    return state | ({"cuda": torch.cuda.get_rng_state()} if torch.cuda.is_available() else {})


def restore_random_state(state: dict[str, Any]) -> None:
    """Set every random generator of this process to what ``random_state`` returned."""
    import torch

    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    kind, keys, *remainder = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *remainder))
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
