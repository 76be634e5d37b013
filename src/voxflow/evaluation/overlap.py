"""Measures how far a mask is from its reference: Dice, Jaccard, surface Dice, 95 % Hausdorff distance, volume error.

Empty masks: where the reference and the mask are both empty, nothing is measured (NaN, said in ``remark``, left out
of means). Where only one is empty, the three Dice-like ones are 0 and count; a distance to nothing stays NaN.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from voxflow.prediction import select_values
from voxflow.volumes import align

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from voxflow.volumes import Volume

NAN = math.nan
TOLERANCE_MM = 2.0
NEAR_UNLABELLED = "surfaces not measured: voxels that nobody labelled lie too near"
NOT_LABELLED = "not labelled"


@dataclass(frozen=True)
class Overlap:
    """One class of one case.

    Attributes:
        dice: 2 |A∩B| / (|A| + |B|).
        jaccard: |A∩B| / |A∪B|.
        surface_dice: share of both surfaces that lies within a tolerance of the other one.
        hd95_mm: the 95th percentile of the distances from one surface to the other, the greater direction.
        volume_error_ml: volume of the mask less that of the reference.
        remark: why a value is missing; empty when none is.
    """

    dice: float
    jaccard: float
    surface_dice: float
    hd95_mm: float
    volume_error_ml: float
    remark: str = ""


def measure_overlap(
    mask: Volume,
    reference: Volume,
    label: int | Sequence[int],
    tolerance_mm: float = TOLERANCE_MM,
    *,
    ignore: int | None = None,
) -> Overlap:
    """Compare one class of two label maps.

    Args:
        mask: what the model found.
        reference: what it should have found, on the same grid.
        label: the value of the class; several where it is a region.
        tolerance_mm: how far surfaces may lie apart for surface Dice.
        ignore: the reference's value of voxels that nobody labelled; they are left out of every measure. Distances of
            surfaces are given only where none of these voxels could change one of them.

    Raises:
        DataError: the reference's voxels are not the mask's.

    Example:
        >>> from voxflow.geometry import Geometry
        >>> from voxflow.volumes import Volume
        >>> grid = Geometry.from_parts((4, 4, 4), (1, 1, 2))
        >>> mask, reference = np.zeros((2, 4, 4, 4), dtype=np.uint8)
        >>> mask[1:3, 1:3, 1:3] = 1
        >>> reference[1:3, 1:3, :3] = 1
        >>> overlap = measure_overlap(Volume(mask, grid), Volume(reference, grid), 1)
        >>> overlap.dice, overlap.hd95_mm, overlap.volume_error_ml
        (0.8, 2.0, -0.008)
    """
    values = (label,) if isinstance(label, int) else label
    reference = align(reference, mask.geometry)
    predicted, true = (select_values(volume.array, values) for volume in (mask, reference))
    unknown = None if ignore is None else reference.array == ignore
    if unknown is not None:
        predicted, true = predicted & ~unknown, true & ~unknown
    spacing = reference.geometry.spacing
    sizes = int(predicted.sum()), int(true.sum())
    volume_error = (sizes[0] - sizes[1]) * math.prod(spacing) / 1000
    if unknown is not None and unknown.all():
        return Overlap(NAN, NAN, NAN, NAN, NAN, NOT_LABELLED)
    if not any(sizes):
        return Overlap(NAN, NAN, NAN, NAN, 0.0, "empty in reference and mask")
    if not all(sizes):
        return Overlap(0.0, 0.0, 0.0, NAN, volume_error, "empty in the mask" if sizes[1] else "empty in the reference")
    common = int((predicted & true).sum())
    # From surface voxel to surface voxel, as MONAI's metrics measure.
    distances = measure_surface_distances(predicted, true, spacing)
    dice, jaccard = 2 * common / sum(sizes), common / (sum(sizes) - common)
    if unknown is not None and not _are_distances_certain(predicted, true, unknown, spacing):
        return Overlap(dice, jaccard, NAN, NAN, volume_error, NEAR_UNLABELLED)
    return Overlap(
        dice,
        jaccard,
        float(np.mean(np.concatenate(distances) <= tolerance_mm)),
        float(max(np.percentile(directed, 95) for directed in distances)),
        volume_error,
    )


def _are_distances_certain(
    first: NDArray[np.bool_], second: NDArray[np.bool_], unknown: NDArray[np.bool_], spacing: Sequence[float]
) -> bool:
    """Whether no distance between two surfaces could be another one if the unknown voxels were labelled.

    Each surface voxel must lie nearer to the other surface than to any unknown voxel, and touch none.
    """
    if not unknown.any():
        return True
    from scipy.ndimage import binary_dilation, distance_transform_edt

    surfaces = _find_surface(first), _find_surface(second)
    if (binary_dilation(unknown) & (surfaces[0] | surfaces[1])).any():
        return False
    to_unknown = distance_transform_edt(~unknown, sampling=spacing)
    pairs = ((surfaces[0], surfaces[1]), (surfaces[1], surfaces[0]))
    return all(bool((_measure_distances(a, b, spacing) <= to_unknown[a]).all()) for a, b in pairs)


def measure_surface_distances(
    first: NDArray[np.bool_], second: NDArray[np.bool_], spacing: Sequence[float]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Measure the distance of every surface voxel to the other mask's surface, mm, in both directions.

    Args:
        first: mask (i, j, k), not empty.
        second: mask of the same shape, not empty.
        spacing: mm along each axis.

    Returns:
        The distances from the first surface to the second, and from the second to the first; one a surface voxel.

    Example:
        >>> line = np.zeros((2, 1, 1, 5), dtype=bool)
        >>> line[0, ..., 1], line[1, ..., 3] = True, True
        >>> measure_surface_distances(*line, spacing=(1, 1, 2))
        (array([4.]), array([4.]))
    """
    box = _find_bounding_box(first | second)
    first_surface, second_surface = _find_surface(first[box]), _find_surface(second[box])
    return _measure_distances(first_surface, second_surface, spacing), _measure_distances(
        second_surface, first_surface, spacing
    )


def _measure_distances(surface: NDArray[Any], target: NDArray[Any], spacing: Sequence[float]) -> NDArray[np.float64]:
    from scipy.ndimage import distance_transform_edt

    return np.asarray(distance_transform_edt(~target, sampling=spacing)[surface])


def _find_surface(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Voxels of the mask with a face neighbour outside it; beyond the image is outside."""
    from scipy.ndimage import binary_erosion

    return np.asarray(mask & ~binary_erosion(mask))


def _find_bounding_box(mask: NDArray[np.bool_]) -> tuple[slice, ...]:
    from scipy.ndimage import find_objects

    return tuple(find_objects(mask.astype(np.uint8))[0])
