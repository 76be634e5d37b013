"""Owns what ``label_format`` means: which of a classifier's logits answer which column of the labels.

A column of format 1 is a finding that is there or not, values 0 and 1, answered by one logit. A column of format C
holds one of the classes 0 to C, answered by C + 1 logits of which the largest wins.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

LABEL_FORMAT = "label_format"  # the key of validation's outputs


def count_logits(label_format: Sequence[int]) -> int:
    """How many logits answer all columns."""
    return sum(_count_column_logits(classes) for classes in label_format)


def logit_slices(label_format: Sequence[int]) -> list[slice]:
    """The logits of each column."""
    ends = np.cumsum([_count_column_logits(classes) for classes in label_format]).tolist()
    return [slice(end - _count_column_logits(classes), end) for classes, end in zip(label_format, ends, strict=True)]


def name_logits(names: Sequence[str], label_format: Sequence[int]) -> tuple[str, ...]:
    """A name for each logit, where names of the columns are given: a column of several classes gets NAME_CLASS."""
    if len(names) != len(label_format):
        return tuple(names)
    pairs = zip(names, map(_count_column_logits, label_format), strict=True)
    return tuple(name if width == 1 else f"{name}_{n}" for name, width in pairs for n in range(width))


def read_label_format(outputs: dict[str, Any], label: NDArray[Any]) -> tuple[int, ...]:
    """The label format that validation knows; without one every column is a finding."""
    return tuple(outputs.get(LABEL_FORMAT) or (1,) * label.shape[1])


def compute_probabilities(logits: NDArray[Any], label_format: Sequence[int]) -> NDArray[np.float64]:
    """Probabilities (batch, logit): each finding's own, and those of a column's classes, which sum to 1."""
    values = np.empty(logits.shape, np.float64)
    for span in logit_slices(label_format):
        part = np.asarray(logits[:, span], np.float64)
        if part.shape[1] == 1:
            values[:, span] = 1 / (1 + np.exp(-part))
        else:
            powers = np.exp(part - part.max(1, keepdims=True))
            values[:, span] = powers / powers.sum(1, keepdims=True)
    return values


def encode_one_vs_rest(label: NDArray[Any], label_format: Sequence[int]) -> NDArray[np.float64]:
    """Labels (batch, column) as (batch, logit): 1 where the class is the column's, 0 else, -1 where it is unknown."""
    truth = np.zeros((len(label), count_logits(label_format)))
    for column, span in enumerate(logit_slices(label_format)):
        values = label[:, column]
        width = span.stop - span.start
        targets = values[:, None] == (np.arange(width) if width > 1 else np.ones(1))
        truth[:, span] = np.where(values[:, None] < 0, -1, targets)
    return truth


def predict_classes(logits: NDArray[Any], label_format: Sequence[int]) -> NDArray[np.int64]:
    """The likeliest class of each column (batch, column)."""
    parts = [logits[:, span] for span in logit_slices(label_format)]
    return np.stack([part.argmax(1) if part.shape[1] > 1 else (part[:, 0] > 0).astype(int) for part in parts], 1)


def _count_column_logits(classes: int) -> int:
    return 1 if classes == 1 else classes + 1
