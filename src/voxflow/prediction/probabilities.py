"""Turns logits into probabilities, by a softmax over the classes or a sigmoid of each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from voxflow.spec import ModelSpec


def logits_to_probabilities(logits: NDArray[Any], spec: ModelSpec) -> NDArray[np.float32]:
    """Map logits to probabilities.

    Args:
        logits: (class, ...), of any float type.
        spec: whose activation is applied: a softmax over the first axis, or a sigmoid of each value.

    Returns:
        float32 of the same shape.

    Example:
        >>> from voxflow.spec import ModelSpec
        >>> spec = ModelSpec(task="segmentation", class_names=("background", "spleen"), activation="softmax")
        >>> logits_to_probabilities(np.array([[2.0, 0.0], [1.0, 3.0]]), spec).round(2)
        array([[0.73, 0.05],
               [0.27, 0.95]], dtype=float32)
    """
    if spec.activation == "sigmoid":
        probabilities: NDArray[np.float32] = logits.astype(np.float32)
        apply_sigmoid(probabilities)
        return probabilities
    probabilities = np.subtract(logits, logits.max(axis=0, keepdims=True), dtype=np.float32)
    np.exp(probabilities, out=probabilities)
    probabilities /= probabilities.sum(axis=0, keepdims=True)
    return probabilities


def apply_sigmoid(logits: NDArray[np.float32]) -> None:
    """Turn logits into probabilities in place; by the hyperbolic tangent, which never overflows."""
    np.multiply(logits, np.float32(0.5), out=logits)
    np.tanh(logits, out=logits)
    np.add(logits, np.float32(1), out=logits)
    np.multiply(logits, np.float32(0.5), out=logits)
