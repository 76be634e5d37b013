"""Voxels that nobody labelled, or that some classes were not labelled in: how an array of labels says so.

A label file says it by a value of its own (nnU-Net's ``ignore``), a case by the list of the classes that were labelled
in it. Once a label is loaded, such voxels are negative, so that nothing takes them for a class: :data:`UNKNOWN` where
nothing is known; ``-2 - n`` where the voxel is background or any class of ``unlabelled_sets[n]``. Masks of regions have
UNKNOWN alone, in the channel of each region that was not labelled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from voxflow.components.transforms.base import Sample, Transform

UNKNOWN = -1
# The sample's keys: what to mark once the label is loaded, and the regions that were not labelled in the case.
MARK, UNLABELLED_REGIONS = "unlabelled_mark", "unlabelled_regions"
UNLABELLED_SETS = "unlabelled_sets"  # the same name among the outputs that metrics read

# Modules whose transforms move voxels, or make masks of them, and keep what is negative.
_FOLDERS = ("voxflow.components.transforms", "voxflow.components.tlt")
_CARRIERS = ("cropping", "spatial", "loading", "resampling", "regions", "batches", "saving")


def carries_unlabelled(transform: Transform) -> bool:
    """Whether a transform leaves voxels of the label unknown that are; one that changes no label does."""
    folder, _, module = type(transform).__module__.rpartition(".")
    is_carrier = module in _CARRIERS or type(transform).__name__ == "SplitBasedOnLabel"
    return (folder in _FOLDERS and is_carrier) or transform.for_field("label") is None


def code_of_set(number: int) -> int:
    """The label value of voxels that are background or a class of the set ``number``, from 0."""
    return -2 - number


def number_of_set(value: int) -> int:
    """The set that a label value below UNKNOWN stands for, from 0."""
    return -2 - value


def mark_unlabelled(sample: Sample) -> Sample:
    """Make the voxels negative that nobody labelled, as soon as the label is an array.

    Args:
        sample: where it has the key MARK: the value of voxels that nobody labelled, or None; the value that the
            background gets; and the classes that were not labelled, which must not occur.

    Raises:
        ValueError: the label holds a class that is said to be unlabelled, or has several channels.
    """
    label = sample.get("label")
    if MARK not in sample or not isinstance(label, np.ndarray):
        return sample
    ignore, background, absent = sample[MARK]
    present = np.intersect1d(absent, label)
    if background and len(label) > 1:
        raise ValueError(f"its label has {len(label)} channels; which classes were labelled is told of one map alone")
    if present.size:
        raise ValueError(f"its label holds the value {int(present[0])} of a class that was not labelled in it")
    is_unknown = np.zeros(label.shape, np.bool_) if ignore is None else label == ignore
    known = np.where(is_unknown, 0, label)
    marked = known.astype(np.int8 if known.max(initial=0) <= np.iinfo(np.int8).max else np.int16)
    if background:
        marked[marked == 0] = background
    marked[is_unknown] = UNKNOWN
    return {key: value for key, value in sample.items() if key != MARK} | {"label": marked}


def list_unlabelled(label: NDArray[Any], sets: Sequence[Sequence[int]]) -> set[int]:
    """List the classes that were not labelled in a case.

    Args:
        label: (...spatial) class indices, negative where unknown.
        sets: the classes that each negative value below UNKNOWN stands for, besides the background.

    Example:
        >>> list_unlabelled(np.array([-2, 1, -1]), [(2, 3)])
        {0, 2, 3}
    """
    classes = {c for number, members in enumerate(sets) for c in members if (label == code_of_set(number)).any()}
    return classes | ({0} if classes else set())
