"""Turns logits into label values, and names the labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from voxflow.spec import ModelSpec

# Scores that are compared at a time: so many that they stay in the processor's cache.
AT_A_TIME = 1 << 18


def logits_to_labels(logits: NDArray[Any], spec: ModelSpec) -> NDArray[Any]:
    """Map logits to label values: the strongest class; with a sigmoid only where its probability is above one half.

    Of regions each is judged by itself; see :func:`combine_regions`.

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

    A value of several regions is called after the smallest of them.

    Example:
        >>> from voxflow.spec import ModelSpec
        >>> label_names(ModelSpec(task="segmentation", class_names=("background", "spleen"), activation="softmax"))
        {1: 'spleen'}
        >>> label_names(ModelSpec(task="segmentation", class_names=("liver", "spleen"), activation="sigmoid"))
        {1: 'liver', 2: 'spleen'}
    """
    if spec.regions:
        by_size = sorted(zip(spec.class_names, spec.regions, strict=True), key=lambda item: -len(item[1]))
        names = {value: name for name, values in by_size for value in values}
        return {value: names[value] for value in sorted(names)}
    numbered = enumerate(spec.class_names, start=first_label(spec))
    return {value: name for value, name in numbered if value > 0}


def class_values(spec: ModelSpec) -> dict[str, tuple[int, ...]]:
    """List the label values of each class in a mask, without the background: several where it is a region.

    Example:
        >>> from voxflow.spec import ModelSpec
        >>> spec = ModelSpec(
        ...     task="segmentation", class_names=("organ", "tumour"), activation="sigmoid", regions=((1, 2), (2,))
        ... )
        >>> class_values(spec)
        {'organ': (1, 2), 'tumour': (2,)}
        >>> class_values(spec.model_copy(update={"regions": ()}))
        {'organ': (1,), 'tumour': (2,)}
    """
    if spec.regions:
        return dict(zip(spec.class_names, spec.regions, strict=True))
    return {name: (value,) for value, name in label_names(spec).items()}


def select_values(labels: NDArray[Any], values: Sequence[int]) -> NDArray[np.bool_]:
    """Select the voxels of a class.

    Args:
        labels: label values, of any shape.
        values: those of the class.
    """
    return np.asarray(labels == values[0] if len(values) == 1 else np.isin(labels, values))


def first_label(spec: ModelSpec) -> int:
    """Tell the label value of output channel 0: 0 for the background, 1 where the network has no channel for it."""
    return int(spec.activation == "sigmoid" and spec.class_names[0] != "background")


def single_value(spec: ModelSpec) -> int:
    """Tell the label value that the one map writes where one map tells the label of every voxel."""
    if spec.region_values:
        return spec.region_values[0]
    return spec.regions[0][0] if spec.regions else first_label(spec) + spec.out_channels - 1


def label_type(spec: ModelSpec) -> type[np.uint8] | type[np.uint16]:
    """Tell the integer type that holds every label value of a model: uint8 up to 255, else uint16."""
    highest = max(
        (value for values in (*spec.regions, spec.region_values) for value in values), default=spec.out_channels - 1
    )
    return np.uint8 if highest < 256 else np.uint16


def combine_regions(is_inside: Any, spec: ModelSpec) -> Any:
    """Make one label map of regions.

    Args:
        is_inside: (region, ...): whether a voxel belongs to it; an array, or a tensor of any device.
        spec: of the model, for the values of its regions.

    Returns:
        Label values (...): where the model says which value each region writes, that of the last one; else the value
        that belongs to these regions and no others. Where the data have no such value,
        that of the smallest region; of equal ones the last.

    Example:
        >>> from voxflow.spec import ModelSpec
        >>> spec = ModelSpec(
        ...     task="segmentation", class_names=("organ", "tumour"), activation="sigmoid", regions=((1, 2), (2,))
        ... )
        >>> combine_regions(np.array([[False, True, True, False], [False, False, True, True]]), spec)
        array([0, 1, 2, 2], dtype=uint8)
    """
    if isinstance(is_inside, np.ndarray):
        labels: Any = np.zeros(is_inside.shape[1:], dtype=label_type(spec))
    else:
        from voxflow.prediction.tensors import mask_type

        labels = is_inside.new_zeros(is_inside.shape[1:], dtype=mask_type(spec))
    if spec.region_values:
        for inside, value in zip(is_inside, spec.region_values, strict=True):
            labels[inside] = value
        return labels
    order = sorted(range(len(spec.regions)), key=lambda number: -len(spec.regions[number]))
    for number in order:
        later = {value for other in order[order.index(number) + 1 :] for value in spec.regions[other]}
        values = spec.regions[number]
        labels[is_inside[number]] = next((value for value in values if value not in later), values[0])
    for value in sorted({value for values in spec.regions for value in values}):
        members = [value in values for values in spec.regions]
        if sum(members) > 1:
            is_member = is_inside[0] == members[0]
            for inside, is_in in zip(is_inside[1:], members[1:], strict=True):
                is_member &= inside == is_in
            labels[is_member] = value
    return labels


def _pick_strongest(logits: NDArray[Any], spec: ModelSpec) -> NDArray[Any]:
    if spec.regions:
        return np.asarray(combine_regions(logits > 0, spec))
    best = logits[0].copy()
    labels = np.zeros(best.shape, dtype=label_type(spec))
    for value, score in enumerate(logits[1:], start=1):
        np.copyto(labels, value, where=score > best)
        np.maximum(best, score, out=best)
    if spec.activation == "sigmoid":
        labels += first_label(spec)
        labels[~(best > 0)] = 0
    return labels
