"""Does what TotalSegmentator does around nnU-Net: brings the image to its working grid, and the mask back and clean.

After ``nnunet.py``, ``resampling.py`` and ``postprocessing.py`` of totalsegmentator 2.18.0 (Apache-2.0, Jakob
Wasserthal). The image is turned to RAS and brought to one spacing by splines whose first and last voxels stay where
they are, and its values become whole numbers. nnU-Net segments that. Its mask is cleaned there, and brought back by the
nearest voxel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from voxflow.bounds import check_resampling
from voxflow.errors import DataError
from voxflow.geometry import Geometry
from voxflow.volumes import Volume, require_finite, target_geometry

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from numpy.typing import NDArray

    from voxflow.spec import TotalSegmentatorSteps

# An image of more voxels, and more planes, is divided in three.
MANY_VOXELS, MANY_PLANES = 512 * 512 * 900, 200
MARGIN = 20  # planes that two pieces share on either side of a cut


@dataclass(frozen=True, eq=False)
class WorkingGrid:
    """The grid that TotalSegmentator works on, and how it lies in the image.

    Attributes:
        grid: it.
        native: the grid of the image that came in.
        axes: of each axis of ``grid`` the axis of the image that it follows.
        flips: of each axis of ``grid`` whether it runs the other way.
    """

    grid: Geometry
    native: Geometry
    axes: tuple[int, int, int]
    flips: tuple[bool, bool, bool]

    def restore(self, labels: NDArray[Any]) -> NDArray[Any]:
        """Return label values (i, j, k) of the working grid on that of the image: each voxel takes the nearest one."""
        for axis, follows in enumerate(self.axes):
            labels = labels.take(find_nearest_planes(labels.shape[axis], self.native.size[follows]), axis)
        return np.ascontiguousarray(_flip(labels, self.flips).transpose(np.argsort(self.axes)))


def bring_to_working_grid(volume: Volume, steps: TotalSegmentatorSteps) -> tuple[Volume, WorkingGrid]:
    """Bring an image to the grid that TotalSegmentator shows nnU-Net.

    Returns:
        The image there, whole numbers unless nothing was resampled; and its grid.

    Raises:
        DataError: values that are no numbers, axes that can't be turned, or an image that is too small or too large for
            the spacing.
    """
    from scipy.ndimage import zoom

    require_finite(volume.array)
    canonical = target_geometry(volume.geometry, None, "RAS")
    turn = volume.geometry.find_axes(canonical)
    if turn is None:
        raise DataError("the image's axes can't be ordered as right, anterior, superior")
    axes, flips = turn
    array = _flip(volume.array.transpose(axes), flips)
    # As a NIfTI header has it: double precision would turn halves over.
    now, wanted = np.array(canonical.spacing, dtype=np.float32), np.array(steps.spacing_mm)
    if np.array_equal(now, wanted):
        return Volume(np.ascontiguousarray(array), canonical), WorkingGrid(canonical, volume.geometry, axes, flips)
    factors = now / wanted
    size = [round(count * factor) for count, factor in zip(array.shape, factors.tolist(), strict=True)]
    if min(size) < 1:
        raise DataError(f"an image of {canonical.size} voxels of {now} mm has none left at {wanted} mm")
    check_resampling(canonical.size, size)
    resampled = zoom(array, factors, output=np.float64, order=steps.order, mode="nearest").astype(np.int32)
    affine = canonical.affine.copy()
    affine[:3, :3] /= factors
    i, j, k = size
    grid = Geometry((i, j, k), affine)
    return Volume(resampled, grid), WorkingGrid(grid, volume.geometry, axes, flips)


def split_image(image: Volume, steps: TotalSegmentatorSteps) -> list[Volume]:
    """Divide a very large image in three along its last axis, as TotalSegmentator does; another one stays whole."""
    planes = image.array.shape[2]
    if not steps.splits or image.array.size <= MANY_VOXELS or planes <= MANY_PLANES:
        return [image]
    third = planes // 3
    cuts = (
        slice(0, third + MARGIN),
        slice(third + 1 - MARGIN, 2 * third + MARGIN),
        slice(2 * third + 1 - MARGIN, planes),
    )
    pieces = []
    for cut in cuts:
        array = image.array[:, :, cut]
        i, j, k = array.shape
        pieces.append(Volume(array, Geometry((i, j, k), image.geometry.affine)))
    return pieces


def join_pieces(pieces: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Join the masks (i, j, k) of what :func:`split_image` made."""
    if len(pieces) == 1:
        return pieces[0]
    first, middle, last = pieces
    return np.concatenate([first[..., :-MARGIN], middle[..., MARGIN - 1 : -MARGIN], last[..., MARGIN - 1 :]], axis=2)


def clean_on_working_grid(labels: NDArray[Any], spacing: Sequence[float], steps: TotalSegmentatorSteps) -> None:
    """Clean a mask in place as TotalSegmentator does; voxels that touch by a face are one component.

    Args:
        labels: label values (i, j, k) on the working grid.
        spacing: of that grid, mm.
        steps: what is removed.
    """
    from scipy.ndimage import label

    if steps.removed:
        labels[np.isin(labels, steps.removed)] = 0
    for value in steps.largest:
        components, count = label(labels == value)
        if count:
            sizes = np.bincount(components.ravel())[1:]
            labels[(components > 0) & (components != int(sizes.argmax()) + 1)] = 0
    voxel_mm3 = math.prod(np.float32(step) for step in spacing)
    for value, least_mm3 in steps.least_mm3:
        components, _ = label(labels == value)
        is_small = np.bincount(components.ravel()) <= least_mm3 / voxel_mm3
        is_small[0] = False
        labels[is_small[components]] = 0


def find_nearest_planes(have: int, need: int) -> NDArray[np.intp]:
    """Find of each plane of a longer or shorter axis the nearest one of an axis, whose ends lie on each other.

    Args:
        have: planes of the axis.
        need: planes that take them.

    Example:
        >>> find_nearest_planes(3, 5)
        array([0, 1, 1, 2, 2])
    """
    from scipy.ndimage import zoom

    return np.asarray(zoom(np.arange(have), need / have, order=0, mode="nearest"), dtype=np.intp)


def _flip(array: NDArray[Any], flips: Sequence[bool]) -> NDArray[Any]:
    return np.flip(array, tuple(axis for axis, is_flipped in enumerate(flips) if is_flipped))
