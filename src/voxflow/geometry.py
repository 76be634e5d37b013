"""Where the voxels of an image lie in the patient: one value object, :class:`Geometry`, in millimetres.

Positions are in DICOM's patient coordinate system (PS3.3 C.7.6.2.1.1), which ITK uses too: LPS. NIfTI files state RAS;
only reading and writing NIfTI converts.
"""

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
# Of a voxel along each axis: far below what an outline is off by, and above what rounding in headers makes (spacings of
# four digits, single precision).
GRID_TOLERANCE = 0.05
# The least sine of the angle between an axis and the plane of the other two; whatever a voxel's size is.
FLATTEST = 1e-6
LARGEST_MM = 1e12  # far beyond any place; the limits of params.yaml are narrower
_TOWARDS = (("R", "L"), ("A", "P"), ("I", "S"))


@dataclass(frozen=True)
class NiftiForms:
    """The two ways in which a NIfTI header states one grid, as they stand in it (RAS).

    They go with the grid, so that a mask on an image's own grid can state both as its image does.

    Attributes:
        qform_code, sform_code: what each way is relative to; 0: it is not stated.
        pixdim: qfac, then the steps along (i, j, k).
        quaternion: b, c, d, then the offset (x, y, z) of the qform.
        rows: the first three rows of the sform's affine, row by row.
        units: NIfTI's code of the unit of length.
    """

    qform_code: int
    sform_code: int
    pixdim: tuple[float, ...]
    quaternion: tuple[float, ...]
    rows: tuple[float, ...]
    units: int


@dataclass(frozen=True, eq=False)
class Geometry:
    """The grid of a 3D image: how many voxels it has, and where they lie in the patient.

    Two grids are compared with :meth:`is_close` or :meth:`find_axes`, never with ``==``: affines from two files differ
    in the last digits.

    Attributes:
        size: number of voxels along (i, j, k).
        affine: 4×4 float64, homogeneous voxel index (i, j, k, 1) → position in mm, LPS. A voxel's index
            names its centre, so index (0, 0, 0) maps to the centre of the first voxel. Read-only.
        forms: how the NIfTI file that the grid was read from states it; None where there was none.

    Raises:
        DataError: the affine is not a finite, invertible 4×4 matrix, or the size is not three positive counts.
    """

    size: tuple[int, int, int]
    affine: NDArray[np.float64] = field(repr=False)
    forms: NiftiForms | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        affine = np.array(self.affine, dtype=np.float64)
        if affine.shape != (4, 4):
            raise DataError(f"an affine is a finite 4×4 matrix, received shape {affine.shape}: {affine.tolist()}")
        # NaN is not smaller than anything. Squares of larger numbers overflow.
        if not np.abs(affine).max() < LARGEST_MM:
            raise DataError(
                f"an affine is a finite 4×4 matrix of at most {LARGEST_MM:g} mm, received {affine.tolist()}"
            )
        steps = np.linalg.norm(affine[:3, :3], axis=0)
        if not steps.all() or abs(np.linalg.det(affine[:3, :3] / steps)) < FLATTEST:
            raise DataError(f"the affine is singular: {affine.tolist()}")
        if len(self.size) != 3 or min(self.size) < 1:
            raise DataError(f"a size is three positive voxel counts, received {self.size}")
        # Frozen as the rest: a shared grid must not change under one of its users.
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
        """Build a grid from the four parts that ITK and SimpleITK keep.

        Args:
            size: voxels along (i, j, k).
            spacing: mm between voxel centres along (i, j, k).
            origin: centre of the first voxel, mm, LPS.
            direction: 3×3, or its nine values row by row; column n is the unit vector of axis n in LPS.

        Example:
            >>> grid = Geometry.from_parts(size=(4, 3, 2), spacing=(0.5, 0.5, 3), origin=(-10, 20, 30))
            >>> grid.spacing, grid.extent
            ((0.5, 0.5, 3.0), (2.0, 1.5, 6.0))
            >>> grid.to_physical([2, 0, 1]).tolist()
            [-9.0, 20.0, 33.0]
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
        """The axes as unit vectors: 3×3, column n is the direction of axis n in LPS, as ITK has it."""
        return np.asarray(self.affine[:3, :3] / np.asarray(self.spacing))

    @property
    def affine_ras(self) -> NDArray[np.float64]:
        """The affine as NIfTI states it: 4×4, voxel index (i, j, k, 1) → position in mm, RAS."""
        return np.asarray(LPS_TO_RAS @ self.affine)

    @property
    def orientation(self) -> str:
        """Three letters that say where (i, j, k) increase to: "LPS" is ITK's identity, "RAS" is NIfTI's.

        An axis that lies between two directions of the patient gets the nearer one, and no direction is given twice.

        Example:
            >>> Geometry.from_parts((4, 4, 4), (1, 1, 1)).orientation
            'LPS'
            >>> sagittal = [[0, 0, 1], [1, 0, 0], [0, -1, 0]]  # columns: to the back, to the feet, to the left
            >>> Geometry.from_parts((4, 4, 4), (1, 1, 1), direction=sum(sagittal, [])).orientation
            'PIL'
        """
        letters = [""] * 3
        remaining = np.abs(self.direction)
        signs = np.sign(self.direction)
        # The largest cosine first, so that an oblique grid still gives each direction once.
        for _ in range(3):
            world, axis = (int(n) for n in np.unravel_index(np.argmax(remaining), (3, 3)))
            letters[axis] = _TOWARDS[world][int(signs[world, axis] > 0)]
            remaining[world, :] = -1
            remaining[:, axis] = -1
        return "".join(letters)

    @property
    def extent(self) -> tuple[float, float, float]:
        """Size of the box that the voxels cover along (i, j, k), mm, from outer face to outer face."""
        i, j, k = (n * mm for n, mm in zip(self.size, self.spacing, strict=True))
        return i, j, k

    def to_physical(self, index: NDArray[np.float64]) -> NDArray[np.float64]:
        """Map voxel indices to positions.

        Args:
            index: (..., 3), voxel indices (i, j, k) from 0; fractions lie between voxel centres.

        Returns:
            (..., 3), positions (x, y, z) in mm, LPS.
        """
        return np.asarray(np.asarray(index) @ self.affine[:3, :3].T + self.affine[:3, 3])

    def to_index(self, point: NDArray[np.float64]) -> NDArray[np.float64]:
        """Map positions to voxel indices, the inverse of :meth:`to_physical`.

        Args:
            point: (..., 3), positions (x, y, z) in mm, LPS.

        Returns:
            (..., 3), fractional voxel indices (i, j, k); they may lie outside of the grid.

        Example:
            >>> grid = Geometry.from_parts((4, 3, 2), (0.5, 0.5, 3), origin=(-10, 20, 30))
            >>> grid.to_index([-9.75, 20.0, 33.0]).tolist()
            [0.5, 0.0, 1.0]
        """
        return np.asarray((np.asarray(point) - self.affine[:3, 3]) @ np.linalg.inv(self.affine[:3, :3]).T)

    def is_close(self, grid: Geometry, tolerance_mm: float = 1e-3) -> bool:
        """Whether both grids have one size and no voxel centre differs by more than ``tolerance_mm``.

        The eight corner voxels are compared: an affine map differs nowhere more than at a corner.

        Example:
            >>> grid = Geometry.from_parts((100, 100, 100), (1, 1, 1))
            >>> grid.is_close(Geometry.from_parts((100, 100, 100), (1.00001, 1, 1)))
            True
            >>> grid.is_close(Geometry.from_parts((100, 100, 100), (1.001, 1, 1)))  # 0.1 mm off at the last voxel
            False
        """
        if self.size != grid.size:
            return False
        corners = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)]) * (np.array(self.size) - 1)
        distances = np.linalg.norm(self.to_physical(corners) - grid.to_physical(corners), axis=1)
        return bool(distances.max() <= tolerance_mm)

    def find_axes(self, grid: Geometry) -> tuple[tuple[int, int, int], tuple[bool, bool, bool]] | None:
        """Find how to order and flip this grid's axes so that its voxels become those of another grid.

        No voxel centre may be farther off than :data:`GRID_TOLERANCE` of the other grid's voxel along any axis.

        Returns:
            For each axis of ``grid`` the axis of this one, and whether it runs the other way; None where the voxels
            are others. ((0, 1, 2), (False, False, False)) says that both are one grid.

        Example:
            >>> grid = Geometry.from_parts((4, 3, 2), (1, 1, 2))
            >>> Geometry.from_parts((4, 3, 2), (1, 1, 2), (3, 0, 0), (-1, 0, 0, 0, 1, 0, 0, 0, 1)).find_axes(grid)
            ((0, 1, 2), (True, False, False))
            >>> Geometry.from_parts((4, 3, 2), (1, 1, 2), (0.5, 0, 0)).find_axes(grid) is None
            True
        """
        matrix = np.linalg.solve(grid.affine, self.affine)
        turn = matrix[:3, :3]
        largest = np.argmax(np.abs(turn), axis=1)
        order = (int(largest[0]), int(largest[1]), int(largest[2]))
        if sorted(order) != [0, 1, 2] or tuple(self.size[axis] for axis in order) != grid.size:
            return None
        # How each axis is stepped along by the other grid's: backwards where the cosine is negative.
        signs = np.array([turn[row, axis] for row, axis in enumerate(order)])
        corners = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)]) * (np.array(self.size) - 1)
        matches = corners[:, order]
        matches = np.where(signs < 0, np.array(grid.size) - 1 - matches, matches)
        distances = np.abs(corners @ turn.T + matrix[:3, 3] - matches)
        if distances.max() > GRID_TOLERANCE:
            return None
        # An axis of one voxel runs nowhere.
        flips = [bool(sign < 0) and count > 1 for sign, count in zip(signs, grid.size, strict=True)]
        return order, (flips[0], flips[1], flips[2])
