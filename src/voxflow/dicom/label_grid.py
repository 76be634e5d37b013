"""The grid that labels are drawn on: their image's, or its slices as they lay before a remedy moved them.

Plan: contours and segmentations belong to the slices that they were drawn on. Where a remedy brought those slices onto
a regular grid, a label is first drawn slice by slice, and then moved as its image was: each slice goes to the plane
nearest to it, and planes that no slice is near to are interpolated between the two slices around them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from voxflow.dicom.remedy import RemedyPlan
    from voxflow.geometry import Geometry


@dataclass(frozen=True)
class LabelMask:
    """The voxels of one segment or ROI.

    Attributes:
        array: (i, j, k), on the image's grid.
        remedy: what was changed to bring it there, in words; empty where nothing was.
        remark: what else the user should know, such as contours that were left out.
    """

    array: NDArray[np.bool_]
    remedy: str = ""
    remark: str = ""


@dataclass(frozen=True)
class LabelGrid:
    """Where labels of one image are drawn, and how they come onto its grid.

    Attributes:
        geometry: the image's grid.
        plan: how its slices were brought onto that grid, where they did not lie on it.
    """

    geometry: Geometry
    plan: RemedyPlan | None = None

    @property
    def drawn_size(self) -> tuple[int, int, int]:
        """Voxels along (i, j) of the image's grid, and the number of slices to draw on."""
        i, j, k = self.geometry.size
        return i, j, k if self.plan is None else len(self.plan.order)

    def to_index(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Map positions to voxels of the slices.

        Args:
            points: (..., 3), mm, LPS.

        Returns:
            (..., 3), fractional: (i, j) of the image's grid, and the slice from 0.
        """
        index = self.geometry.to_index(points)
        if self.plan is None:
            return index
        positions = self.plan.slice_positions
        k, first, last = index[..., 2], positions[0], positions[-1]
        index[..., 2] = np.interp(k, positions, np.arange(len(positions)))
        index[..., 2] += np.minimum(k - first, 0) / (positions[1] - first)
        index[..., 2] += np.maximum(k - last, 0) / (last - positions[-2])
        return index

    def find_nearest_voxels(self, points: NDArray[np.float64]) -> tuple[NDArray[np.intp], float]:
        """Find the voxels of the slices that pixels of a label lie on.

        Args:
            points: (points, 3), centres of pixels, mm, LPS.

        Returns:
            (points, 3) as :meth:`to_index` has them, whole; and how far the pixels are off at most, in voxels.
        """
        index = self.to_index(points)
        shift = np.zeros_like(index)
        if self.plan is not None:
            # In its own plane, a slice's pixels lie between those of the new grid.
            n = np.rint(index[:, 2]).clip(0, len(self.plan.order) - 1).astype(np.intp)
            shift[:, :2] = self.plan.shifts[n] - np.array(self.plan.corner)
        nearest = np.rint(index - shift)
        deviation = float(np.abs(index - shift - nearest).max(initial=0))
        return (nearest + np.floor(shift + 0.5)).astype(np.intp), deviation

    def move(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Move a mask as its image was moved.

        Args:
            mask: of the size :attr:`drawn_size`.

        Returns:
            (i, j, k) on the image's grid; the very mask where nothing was moved.
        """
        if self.plan is None:
            return mask
        moved = np.zeros(self.geometry.size, dtype=np.bool_)
        for k, (lower, upper, share) in enumerate(self._find_slices_of_planes()):
            if lower == upper:
                moved[:, :, k] = mask[:, :, lower]
            else:
                (moved[:, :, k],) = interpolate_masks(mask[:, :, lower], mask[:, :, upper], [share])
        return moved

    def describe_lost_slices(self, mask: NDArray[np.bool_]) -> str:
        """Say how many slices of a mask of the size :attr:`drawn_size` no plane of the image takes, if any."""
        used = {n for planes in self._find_slices_of_planes() for n in planes[:2]}
        lost = [n for n in np.flatnonzero(mask.any(axis=(0, 1))) if self.plan is not None and n not in used]
        return f"{len(lost)} slice(s) of it lie between the planes of the resampled image" if lost else ""

    def _find_slices_of_planes(self) -> Iterator[tuple[int, int, float]]:
        """Of each plane of the image, the two slices that a label is taken from, and how far it lies between them."""
        positions = np.zeros(0) if self.plan is None else self.plan.slice_positions
        for k in range(self.geometry.size[2] if len(positions) else 0):
            nearest = int(np.abs(positions - k).argmin())
            upper = int(np.searchsorted(positions, k))
            if abs(positions[nearest] - k) <= 0.5 or not 0 < upper < len(positions):
                yield nearest, nearest, 0.0
            else:
                share = (k - positions[upper - 1]) / (positions[upper] - positions[upper - 1])
                yield upper - 1, upper, float(share)


def interpolate_masks(
    lower: NDArray[np.bool_], upper: NDArray[np.bool_], shares: Sequence[float]
) -> list[NDArray[np.bool_]]:
    """Interpolate between two slices of a mask, by signed distances to its outline.

    Args:
        lower: (i, j).
        upper: (i, j); where one of the two is empty, so is all between.
        shares: how far each new slice lies on the way from the lower to the upper one, 0 to 1.

    Returns:
        One mask (i, j) for each share.
    """
    from scipy.ndimage import distance_transform_edt

    if not (lower.any() and upper.any()):
        return [np.zeros_like(lower) for _ in shares]
    below, above = (distance_transform_edt(mask) - distance_transform_edt(~mask) for mask in (lower, upper))
    return [(1 - share) * below + share * above > 0 for share in shares]
