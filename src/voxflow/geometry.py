"""Owns where voxels lie in the patient: one value object, in millimetres, DICOM's LPS frame."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from voxflow.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

# LPS: +x to the patient's Left, +y to Posterior, +z to Superior (DICOM, ITK). RAS flips x and y (NIfTI).
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_TOWARDS = (("R", "L"), ("A", "P"), ("I", "S"))


@dataclass(frozen=True, eq=False)
class Geometry:
    """The grid of a 3D image.

    Attributes:
        size: number of voxels along (i, j, k).
        affine: 4×4 float64, homogeneous voxel index (i, j, k, 1) → position in mm, LPS. A voxel's index
            names its centre, so index (0, 0, 0) maps to the centre of the first voxel.
    """

    size: tuple[int, int, int]
    affine: NDArray[np.float64] = field(repr=False)

    def __post_init__(self) -> None:
        affine = np.array(self.affine, dtype=np.float64)
        if affine.shape != (4, 4) or not np.isfinite(affine).all():
            raise DataError(f"an affine is a finite 4×4 matrix, received shape {affine.shape}: {affine.tolist()}")
        if abs(np.linalg.det(affine[:3, :3])) < 1e-9:
            raise DataError(f"the affine is singular: {affine.tolist()}")
        if len(self.size) != 3 or min(self.size) < 1:
            raise DataError(f"a size is three positive voxel counts, received {self.size}")
        affine.flags.writeable = False
        object.__setattr__(self, "affine", affine)
        object.__setattr__(self, "size", tuple(int(n) for n in self.size))

    @classmethod
    def from_parts(
        cls,
        size: Sequence[int],
        spacing: Sequence[float],
        origin: Sequence[float] = (0.0, 0.0, 0.0),
        direction: Sequence[float] | NDArray[np.float64] = (1, 0, 0, 0, 1, 0, 0, 0, 1),
    ) -> Geometry:
        """Build from ITK's parts.

        Args:
            size: voxels along (i, j, k).
            spacing: mm between voxel centres along (i, j, k).
            origin: centre of the first voxel, mm, LPS.
            direction: 3×3, or its nine values row by row; column n is the unit vector of axis n in LPS.
        """
        affine = np.eye(4)
        affine[:3, :3] = np.asarray(direction, dtype=np.float64).reshape(3, 3) * np.asarray(spacing, dtype=np.float64)
        affine[:3, 3] = origin
        return cls((int(size[0]), int(size[1]), int(size[2])), affine)

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distance between voxel centres along (i, j, k), mm."""
        i, j, k = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(i), float(j), float(k)

    @property
    def origin(self) -> tuple[float, float, float]:
        """Centre of voxel (0, 0, 0), mm, LPS."""
        x, y, z = self.affine[:3, 3]
        return float(x), float(y), float(z)

    @property
    def direction(self) -> NDArray[np.float64]:
        """3×3; column n is the unit vector of axis n in LPS."""
        return np.asarray(self.affine[:3, :3] / np.asarray(self.spacing))

    @property
    def affine_ras(self) -> NDArray[np.float64]:
        """4×4, voxel index → mm in RAS, as NIfTI states it."""
        return np.asarray(LPS_TO_RAS @ self.affine)

    @property
    def orientation(self) -> str:
        """Where (i, j, k) increase to, nearest axis: "LPS" is ITK's identity, "RAS" NIfTI's."""
        letters = [""] * 3
        remaining = np.abs(self.direction)
        signs = np.sign(self.direction)
        for _ in range(3):
            world, axis = (int(n) for n in np.unravel_index(np.argmax(remaining), (3, 3)))
            letters[axis] = _TOWARDS[world][int(signs[world, axis] > 0)]
            remaining[world, :] = -1
            remaining[:, axis] = -1
        return "".join(letters)

    @property
    def extent(self) -> tuple[float, float, float]:
        """Size of the covered box along (i, j, k), mm, outer face to outer face."""
        i, j, k = (n * mm for n, mm in zip(self.size, self.spacing, strict=True))
        return i, j, k

    def to_physical(self, index: NDArray[np.float64]) -> NDArray[np.float64]:
        """Map voxel indices (..., 3) to mm in LPS."""
        return np.asarray(np.asarray(index) @ self.affine[:3, :3].T + self.affine[:3, 3])

    def to_index(self, point: NDArray[np.float64]) -> NDArray[np.float64]:
        """Map points (..., 3) in mm, LPS, to fractional voxel indices."""
        return np.asarray((np.asarray(point) - self.affine[:3, 3]) @ np.linalg.inv(self.affine[:3, :3]).T)

    def is_close(self, grid: Geometry, tolerance_mm: float = 1e-3) -> bool:
        """Whether both grids have one size and no voxel centre differs by more than ``tolerance_mm``."""
        if self.size != grid.size:
            return False
        corners = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)]) * (np.array(self.size) - 1)
        distances = np.linalg.norm(self.to_physical(corners) - grid.to_physical(corners), axis=1)
        return bool(distances.max() <= tolerance_mm)
