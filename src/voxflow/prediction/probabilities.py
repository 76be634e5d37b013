"""Turns logits into probabilities: softmax or sigmoid."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from voxflow.spec import ModelSpec


def logits_to_probabilities(logits: NDArray[Any], spec: ModelSpec) -> NDArray[np.float32]:
    """Map logits (class, ...) to probabilities of the same shape."""
    if spec.activation == "sigmoid":
        probabilities: NDArray[np.float32] = logits.astype(np.float32)
        apply_sigmoid(probabilities)
        return probabilities
    probabilities = np.subtract(logits, logits.max(axis=0, keepdims=True), dtype=np.float32)
    np.exp(probabilities, out=probabilities)
    probabilities /= probabilities.sum(axis=0, keepdims=True)
    return probabilities


def apply_sigmoid(logits: NDArray[np.float32]) -> None:
    """Make probabilities of logits, in place."""
    np.multiply(logits, np.float32(0.5), out=logits)
    np.tanh(logits, out=logits)
    np.add(logits, np.float32(1), out=logits)
    np.multiply(logits, np.float32(0.5), out=logits)
