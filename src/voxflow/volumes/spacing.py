"""The voxel spacing that a set of images is best resampled to, by nnU-Net's rules and a limit of memory.

Plan: the median spacing of all images; along one coarse axis the finer tenth of the images, so that these are not
blurred; and where an image of median size would have too many voxels, coarser voxels, the finest axes first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

# An axis is coarse where its voxels are three times longer than the others'; then the finer tenth of the images
# counts, so that those are not blurred (nnU-Net's rule).
COARSE_RATIO, FINE_PERCENTILE = 3.0, 10.0
# Beyond as many voxels in an image of median size no patch that a common machine trains on sees enough of it.
MAX_MEDIAN_VOXELS = 24e6
DIGITS = 3
# How nnU-Net lowers the resolution for the first stage of a cascade: step by step, axes of much finer voxels first.
STEP, ALIKE = 1.03, 2.0


def target_spacing(
    sizes: Sequence[Sequence[float]], spacings: Sequence[Sequence[float]], most_voxels: float | None = None
) -> tuple[float, float, float]:
    """Choose the spacing (i, j, k) in mm to resample a set of images to.

    Args:
        sizes: (images, 3), voxels of each image along (i, j, k) of the new orientation.
        spacings: (images, 3), its spacing in mm, likewise.
        most_voxels: of an image of median size, for the first of two stages; None: as many as are trained on anyway.

    Returns:
        mm along (i, j, k), rounded to three decimals.

    Example:
        >>> sizes = [(256, 256, 60), (256, 256, 60), (256, 256, 100)]
        >>> target_spacing(sizes, [(0.8, 0.8, 5), (0.7, 0.7, 5), (0.9, 0.9, 3)])  # k is coarse: its finer tenth
        (0.8, 0.8, 3.4)
    """
    size, spacing = np.array(sizes, dtype=np.float64), np.array(spacings, dtype=np.float64)
    target = np.median(spacing, 0)
    axis = int(target.argmax())
    finer_axes = np.delete(target, axis)
    if target[axis] > COARSE_RATIO * finer_axes.max():
        target[axis] = max(float(np.percentile(spacing[:, axis], FINE_PERCENTILE)), float(finer_axes.max()))
    voxels = float(np.prod(np.median(size * spacing / target, 0)))
    target = _coarsen(target, voxels / MAX_MEDIAN_VOXELS)
    if most_voxels is not None:
        target = _lower_resolution(target, min(voxels, MAX_MEDIAN_VOXELS) / most_voxels)
    i, j, k = (round(float(mm), DIGITS) for mm in target)
    return i, j, k


def _coarsen(target: np.ndarray, excess: float) -> np.ndarray:
    """Make voxels larger until the image has ``excess`` times fewer; the finest axes give way first."""
    while excess > 1 + 1e-9:
        finest = target.min()
        # Axes that are equally fine grow together, up to the next coarser one.
        is_finest = np.isclose(target, finest)
        coarser = target[~is_finest].min() if not is_finest.all() else np.inf
        factor = min(excess ** (1 / is_finest.sum()), coarser / finest)
        target = np.where(is_finest, target * factor, target)
        excess /= factor ** is_finest.sum()
    return target


def _lower_resolution(target: np.ndarray, excess: float) -> np.ndarray:
    """Make voxels larger, as nnU-Net does, until the image has ``excess`` times fewer."""
    while excess > 1:
        is_finer = target.max() / target > ALIKE
        grown = is_finer if is_finer.any() else np.ones(len(target), dtype=bool)
        target = np.where(grown, target * STEP, target)
        excess /= STEP ** int(grown.sum())
    return target
