"""Turns logits into label values, and names the labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from voxflow.spec import ModelSpec

# Scores that are compared at a time: so many that they stay in the processor's cache.
AT_A_TIME = 1 << 18


def logits_to_labels(logits: NDArray[Any], spec: ModelSpec) -> NDArray[Any]:
    """Map logits (class, ...) to label values (...): the strongest class; with a sigmoid one above one half."""
    labels = np.empty(logits.shape[1:], dtype=label_type(spec))
    # In pieces: argmax over the first axis, or all at once, goes through memory once a class.
    step = max(1, AT_A_TIME * len(labels) // max(1, logits.size))
    for first in range(0, len(labels), step):
        part = slice(first, first + step)
        labels[part] = _pick_strongest(logits[:, part], spec)
    return labels


def label_names(spec: ModelSpec) -> dict[int, str]:
    """The label values that a mask may hold, without the background, and their names."""
    numbered = enumerate(spec.class_names, start=first_label(spec))
    return {value: name for value, name in numbered if value > 0}


def first_label(spec: ModelSpec) -> int:
    """The label value of output channel 0: 1 where the network has no channel for the background."""
    return int(spec.activation == "sigmoid" and spec.class_names[0] != "background")


def label_type(spec: ModelSpec) -> type[np.uint8] | type[np.uint16]:
    """What holds every label value."""
    return np.uint8 if spec.out_channels < 256 else np.uint16


def _pick_strongest(logits: NDArray[Any], spec: ModelSpec) -> NDArray[Any]:
    best = logits[0].copy()
    labels = np.zeros(best.shape, dtype=label_type(spec))
    for value, score in enumerate(logits[1:], start=1):
        np.copyto(labels, value, where=score > best)
        np.maximum(best, score, out=best)
    if spec.activation == "sigmoid":
        labels += first_label(spec)
        labels[~(best > 0)] = 0
    return labels
