"""Holds the values of a label file against those that have a name, in every layout; and proposes names and values."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from voxflow.errors import DataError, join_names
from voxflow.layouts import IGNORE, IGNORE_VALUE
from voxflow.volumes import holds_probabilities, renumber_labels, round_labels

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from numpy.typing import NDArray

    from voxflow.images.options import ImageOptions

OF_NO_CLASS = "label values [{}] are of no class; the classes have [{}]"
UNNAMED = (
    "label values [{}] have no name in the option labels, which names [{}]; name them, too, as ignore where "
    "nobody labelled these voxels"
)


@dataclass(frozen=True)
class LabelValues:
    """What the values of label files may be, and what is written for them.

    Attributes:
        allowed: values as they are written, without 0 and ``ignore``; empty: any.
        ignore: of voxels that nobody labelled, as it is written; None where there is none.
        remap: the value to write by that of the file, for all values but 0; empty: they stay.
        is_option: the option ``labels`` names them, not the data set itself.
        threshold: from which on a voxel of a probability map is of the class; None: such a map is refused.
    """

    allowed: frozenset[int] = frozenset()
    ignore: int | None = None
    remap: Mapping[int, int] = field(default_factory=dict)
    is_option: bool = False
    threshold: float | None = None

    @classmethod
    def of(cls, options: ImageOptions) -> LabelValues:
        """Those that the option ``labels`` names."""
        allowed = frozenset((options.class_labels or {}).values())
        return cls(allowed, options.ignore, options.remap, is_option=True, threshold=options.label_threshold)

    def convert(self, array: NDArray[Any]) -> tuple[NDArray[Any], tuple[int, ...], str]:
        """Turn a file's values into those that are written.

        Args:
            array: (i, j, k), of any type.

        Returns:
            uint8 or uint16; the values that occur in it; and in words what the user should know: that it was a
            probability map, how many voxels nobody labelled.

        Raises:
            DataError: a value is no whole number or has no name; the message proposes what would be right.
        """
        array, remark = cut_probabilities(array, self.threshold)
        array = round_labels(array)
        stored = [int(value) for value in np.unique(array)]
        allowed = self.remap.keys() if self.remap else self.allowed | {self.ignore} if self.allowed else set(stored)
        unknown = sorted(set(stored) - {0, *allowed})
        if unknown:
            named = sorted({value for value in allowed if value is not None})
            texts = [join_names([str(value) for value in values]) for values in (unknown, named)]
            raise DataError((UNNAMED if self.is_option else OF_NO_CLASS).format(*texts))
        if self.remap:
            array = renumber_labels(array, self.remap)
        values = tuple(int(value) for value in np.unique(array))
        return array, values, "; ".join(filter(None, (remark, describe_ignored(array, self.ignore))))


def cut_probabilities(array: NDArray[Any], threshold: float | None) -> tuple[NDArray[Any], str]:
    """Make a mask of a probability map; any other label stays as it is.

    Args:
        array: (i, j, k), of any type.
        threshold: from which on a voxel is of the class; None: leave the map, too.

    Returns:
        The label, and what was done to it in words; empty where nothing was.

    Example:
        >>> mask, text = cut_probabilities(np.array([0.0, 0.4, 0.5, 1.0]), 0.5)
        >>> mask.tolist(), text
        ([0, 0, 1, 1], 'a probability map: voxels from 0.5 on are of the class')
    """
    if threshold is None or not holds_probabilities(array):
        return array, ""
    return (array >= threshold).astype(np.uint8), f"a probability map: voxels from {threshold:g} on are of the class"


def describe_ignored(array: NDArray[Any], ignore: int | None) -> str:
    """Say how many voxels nobody labelled; empty where there are none."""
    count = 0 if ignore is None else int((array == ignore).sum())
    return f"{count} of {array.size} voxels are not labelled (ignore)" if count else ""


def propose_labels(values: Collection[int]) -> dict[int, str]:
    """Propose names for values that are not counted from 1 without a gap, as the option ``labels`` takes them.

    Returns:
        Names by the values of the files, which become 1, 2 ... then; empty where the values need no remapping.

    Example:
        >>> propose_labels([0, 255]), propose_labels([0, 1, 2])
        ({255: 'label_255'}, {})
    """
    classes = sorted(set(values) - {0})
    return {} if classes == list(range(1, len(classes) + 1)) else {value: f"label_{value}" for value in classes}


def format_proposal(proposal: Mapping[int, str]) -> str:
    """Write a proposal as it stands in params.yaml.

    Example:
        >>> format_proposal({255: "tumour"})
        'labels: {255: "tumour"}'
    """
    return f"labels: {{{', '.join(f'{value}: {json.dumps(name)}' for value, name in proposal.items())}}}"


def number_names(names: Mapping[int, str]) -> tuple[dict[str, int], dict[int, int]]:
    """Number named values from 1.

    Args:
        names: by the values of the files; values of one name become one.

    Returns:
        The value to write by name, and by the value of the files. What is called "ignore" gets the highest.

    Example:
        >>> number_names({128: "liver", 255: "tumour"})
        ({'liver': 1, 'tumour': 2}, {128: 1, 255: 2})
    """
    numbers: dict[str, int] = {}
    for value in sorted(names):
        if names[value].casefold() != IGNORE:
            numbers.setdefault(names[value], len(numbers) + 1)
    highest = max(numbers.values(), default=0)
    numbers |= {name: max(IGNORE_VALUE, highest + 1) for name in names.values() if name.casefold() == IGNORE}
    return numbers, {value: numbers[name] for value, name in names.items()}
