"""Cleans a mask as an adopted MONAI bundle does: the largest component, holes, and what is small.

After MONAI 1.6 (Apache-2.0) and scikit-image: ``KeepLargestConnectedComponent``, ``FillHoles`` and
``RemoveSmallObjects`` on a map of labels. What they do may surprise, and is kept: a hole takes all that is enclosed,
also another label; where a mask has labels above 1, small objects are counted by label, and not by component.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from voxflow.spec import ModelSpec, MonaiCleaning
    from voxflow.volumes import Volume


def clean_as_monai(mask: Volume, spec: ModelSpec, *, is_before: bool) -> None:
    """Clean a mask in place by the steps of a bundle; a model of other origin has none.

    Args:
        mask: label values (i, j, k).
        spec: of the model.
        is_before: whether this is the network's grid; only steps of this grid are done.
    """
    for step in spec.monai.cleaning if spec.monai else ():
        if step.is_before != is_before:
            continue
        if step.kind == "largest":
            _keep_largest(mask.array, step)
        elif step.kind == "fill_holes":
            _fill_holes(mask.array, step)
        else:
            _remove_small(mask.array, step, math.prod(mask.geometry.spacing))


def _keep_largest(labels: NDArray[Any], step: MonaiCleaning) -> None:
    from scipy.ndimage import label

    for value in step.values:
        components, _ = label(labels == value, _touch(step))
        sizes = np.bincount(components.ravel())
        sizes[0] = 0
        # Of components of one size MONAI takes the one that NumPy sorts to the end.
        labels[(components > 0) & (components != np.argsort(sizes)[-1])] = 0


def _fill_holes(labels: NDArray[Any], step: MonaiCleaning) -> None:
    """Give each label all that can't be reached from the border of the image but through it."""
    from scipy.ndimage import binary_dilation

    values = set(step.values) or set(np.unique(labels).tolist())  # a set, since its order is MONAI's
    values.discard(0)
    for value in values:
        nothing = np.zeros(labels.shape, dtype=bool)
        is_open = binary_dilation(nothing, _touch(step), iterations=-1, mask=labels != value, border_value=1)
        labels[~is_open] = value


def _remove_small(labels: NDArray[Any], step: MonaiCleaning, voxel_mm3: float) -> None:
    from scipy.ndimage import label

    highest = labels.max(initial=0)
    if labels.min(initial=highest) == highest:
        return
    least = math.ceil(step.least / voxel_mm3) if step.in_mm3 else step.least
    parts = label(labels, _touch(step))[0] if step.is_joint or highest <= 1 else labels
    labels[(np.bincount(parts.ravel()) < least)[parts]] = 0


def _touch(step: MonaiCleaning) -> NDArray[np.bool_]:
    from scipy.ndimage import generate_binary_structure

    return np.asarray(generate_binary_structure(3, step.connectivity))
