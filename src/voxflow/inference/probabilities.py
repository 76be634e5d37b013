"""Owns how logits become probabilities."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from voxflow.spec import ModelSpec


def probabilities_of(logits: NDArray[np.float32], spec: ModelSpec) -> NDArray[np.float32]:
    """Map logits (class, ...) to probabilities of the same shape."""
    if spec.activation == "sigmoid":
        return np.asarray(0.5 * (1 + np.tanh(0.5 * logits)), dtype=np.float32)
    grown = np.exp(logits - logits.max(axis=0, keepdims=True))
    return np.asarray(grown / grown.sum(axis=0, keepdims=True), dtype=np.float32)
