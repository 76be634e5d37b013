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
    """Map logits to label values: the strongest class; with a sigmoid only where its probability is above one half.

    Args:
        logits: (class, ...), of any float type.
        spec: activation and class names of the model.

    Returns:
        Label values (...), uint8, or uint16 of a model with 256 classes or more. Of equal logits the first class wins.

    Example:
        >>> from voxflow.spec import ModelSpec
        >>> spec = ModelSpec(task="segmentation", class_names=("liver", "spleen"), activation="sigmoid")
        >>> logits_to_labels(np.array([[0.5, -1.5, -2.0], [-0.5, 1.5, -3.0]]), spec)
        array([1, 2, 0], dtype=uint8)
    """
    labels = np.empty(logits.shape[1:], dtype=label_type(spec))
    # In pieces: argmax over the first axis, or all at once, goes through memory once a class.
    step = max(1, AT_A_TIME * len(labels) // max(1, logits.size))
    for first in range(0, len(labels), step):
        part = slice(first, first + step)
        labels[part] = _pick_strongest(logits[:, part], spec)
    return labels


def label_names(spec: ModelSpec) -> dict[int, str]:
    """List the label values that a mask may hold, without the background, and their names.

    Example:
        >>> from voxflow.spec import ModelSpec
        >>> label_names(ModelSpec(task="segmentation", class_names=("background", "spleen"), activation="softmax"))
        {1: 'spleen'}
        >>> label_names(ModelSpec(task="segmentation", class_names=("liver", "spleen"), activation="sigmoid"))
        {1: 'liver', 2: 'spleen'}
    """
    numbered = enumerate(spec.class_names, start=first_label(spec))
    return {value: name for value, name in numbered if value > 0}


def first_label(spec: ModelSpec) -> int:
    """Tell the label value of output channel 0: 0 for the background, 1 where the network has no channel for it."""
    return int(spec.activation == "sigmoid" and spec.class_names[0] != "background")


def label_type(spec: ModelSpec) -> type[np.uint8] | type[np.uint16]:
    """Tell the integer type that holds every label value of a model: uint8 up to 255 classes, else uint16."""
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
