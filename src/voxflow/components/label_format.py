"""Which of a classifier's logits answer which column of the labels: the meaning of ``label_format``.

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
    """Return how many logits answer all columns.

    Example:
        >>> count_logits([1, 1, 3])  # two findings, and a column of the classes 0 to 3
        6
    """
    return sum(_count_column_logits(classes) for classes in label_format)


def logit_slices(label_format: Sequence[int]) -> list[slice]:
    """Return where each column's logits stand along the last axis.

    Example:
        >>> logit_slices([1, 1, 3])
        [slice(0, 1, None), slice(1, 2, None), slice(2, 6, None)]
    """
    ends = np.cumsum([_count_column_logits(classes) for classes in label_format]).tolist()
    return [slice(end - _count_column_logits(classes), end) for classes, end in zip(label_format, ends, strict=True)]


def name_logits(names: Sequence[str], label_format: Sequence[int]) -> tuple[str, ...]:
    """Return a name for each logit; a column of several classes gives NAME_CLASS for each.

    Args:
        names: of the columns; any other number of names is returned as it is.
        label_format: of the columns.

    Example:
        >>> name_logits(["mass", "grade"], [1, 2])
        ('mass', 'grade_0', 'grade_1', 'grade_2')
    """
    if len(names) != len(label_format):
        return tuple(names)
    pairs = zip(names, map(_count_column_logits, label_format), strict=True)
    return tuple(name if width == 1 else f"{name}_{n}" for name, width in pairs for n in range(width))


def read_label_format(outputs: dict[str, Any], label: NDArray[Any]) -> tuple[int, ...]:
    """Return the label format that stands in validation's outputs.

    Args:
        outputs: of a batch; its key "label_format" may be missing.
        label: (batch, column).

    Returns:
        One number a column; where the outputs say nothing every column is a finding: 1.
    """
    return tuple(outputs.get(LABEL_FORMAT) or (1,) * label.shape[1])


def compute_probabilities(logits: NDArray[Any], label_format: Sequence[int]) -> NDArray[np.float64]:
    """Turn a classifier's logits into probabilities.

    Args:
        logits: (batch, logit).
        label_format: of the columns.

    Returns:
        (batch, logit) float64 from 0 to 1: a finding's own by the sigmoid; those of a column of several classes by the
        softmax, which sum to 1.

    Example:
        >>> compute_probabilities(np.array([[0.0, 1.0, 1.0]]), [1, 1]).shape
        (1, 3)
        >>> compute_probabilities(np.array([[0.0, 5.0, 5.0]]), [1, 1])[0, 0]
        np.float64(0.5)
    """
    values = np.empty(logits.shape, np.float64)
    for span in logit_slices(label_format):
        part = np.asarray(logits[:, span], np.float64)
        if part.shape[1] == 1:
            values[:, span] = 1 / (1 + np.exp(-part))
        else:
            # Without the largest logit, so that no exponential overflows.
            powers = np.exp(part - part.max(1, keepdims=True))
            values[:, span] = powers / powers.sum(1, keepdims=True)
    return values


def encode_one_vs_rest(label: NDArray[Any], label_format: Sequence[int]) -> NDArray[np.float64]:
    """Spread labels over the logits, so that each logit can be judged as a finding of its own.

    Args:
        label: (batch, column); negative where it is unknown.
        label_format: of the columns.

    Returns:
        (batch, logit) float64: 1 where the class is the column's, 0 where it is not, -1 where it is unknown.

    Example:
        >>> encode_one_vs_rest(np.array([[1, 2], [0, -1]]), [1, 2])
        array([[ 1.,  0.,  0.,  1.],
               [ 0., -1., -1., -1.]])
    """
    truth = np.zeros((len(label), count_logits(label_format)))
    for column, span in enumerate(logit_slices(label_format)):
        values = label[:, column]
        width = span.stop - span.start
        targets = values[:, None] == (np.arange(width) if width > 1 else np.ones(1))
        truth[:, span] = np.where(values[:, None] < 0, -1, targets)
    return truth


def predict_classes(logits: NDArray[Any], label_format: Sequence[int]) -> NDArray[np.int64]:
    """Return the likeliest class of each column.

    Args:
        logits: (batch, logit).
        label_format: of the columns.

    Returns:
        (batch, column): 0 or 1 for a finding, the class's number for a column of several.
    """
    parts = [logits[:, span] for span in logit_slices(label_format)]
    return np.stack([part.argmax(1) if part.shape[1] > 1 else (part[:, 0] > 0).astype(int) for part in parts], 1)


def _count_column_logits(classes: int) -> int:
    return 1 if classes == 1 else classes + 1
