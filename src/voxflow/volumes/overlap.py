"""Where the channels of a case lie: how much of one image's box another one reaches, and whether that is enough."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from voxflow.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from voxflow.geometry import Geometry

# Of the smaller image's box. Channels of one examination show one place; a chest and an abdomen share some centimetres.
LEAST_OVERLAP = 0.25
LEAST_COVER = 0.05  # of the grid that a channel is brought to; below, the channel says nothing of nearly all voxels
VOXELS_AT_A_TIME = 4_000_000
MOST_POINTS = 64  # along an axis: an overlap is known to one or two percent


def has_overlap(image: Geometry, grid: Geometry) -> bool:
    """Whether the centre of any voxel of ``grid`` lies inside of the box that ``image`` covers.

    Example:
        >>> from voxflow.geometry import Geometry
        >>> image = Geometry.from_parts((10, 10, 10), (1, 1, 1))
        >>> has_overlap(image, Geometry.from_parts((4, 4, 4), (2, 2, 2), origin=(8, 8, 8)))
        True
        >>> has_overlap(image, Geometry.from_parts((4, 4, 4), (2, 2, 2), origin=(40, 0, 0)))
        False
    """
    return bool(np.any(_find_inside(image, grid, [np.arange(n, dtype=np.float64) for n in grid.size])))


def measure_outside(image: Geometry, grid: Geometry) -> float:
    """Measure which share of the voxels of ``grid`` lies outside of the box that ``image`` covers.

    Example:
        >>> from voxflow.geometry import Geometry
        >>> grid = Geometry.from_parts((10, 10, 10), (1, 1, 1))
        >>> measure_outside(Geometry.from_parts((10, 10, 5), (1, 1, 1)), grid)
        0.5
    """
    i, j, k = (np.arange(n, dtype=np.float64) for n in grid.size)
    # A piece of the slices at a time: of turned grids a whole body's positions would take gigabytes.
    pieces = np.array_split(k, min(len(k), -(-int(np.prod(grid.size)) // VOXELS_AT_A_TIME)))
    counts = [np.broadcast_to(_find_inside(image, grid, [i, j, p]), (len(i), len(j), len(p))).sum() for p in pieces]
    return 1 - float(sum(counts)) / float(np.prod(grid.size))


def measure_overlap(first: Geometry, second: Geometry) -> float:
    """Measure which share of the smaller image's box the larger one covers, to one or two percent.

    Example:
        >>> from voxflow.geometry import Geometry
        >>> body = Geometry.from_parts((100, 100, 100), (4, 4, 4))
        >>> measure_overlap(body, Geometry.from_parts((50, 50, 50), (1, 1, 1), origin=(20, 20, 20)))
        1.0
    """
    return max(_measure_share(first, second), _measure_share(second, first))


def require_overlap(grids: Mapping[str, Geometry]) -> None:
    """Refuse channels that show different places.

    Args:
        grids: of the channels, by name.

    Raises:
        DataError: two of them share less than :data:`LEAST_OVERLAP` of the smaller one's box.
    """
    for (name, grid), (other_name, other_grid) in combinations(grids.items(), 2):
        if grid.is_close(other_grid):
            continue
        share = measure_overlap(grid, other_grid)
        if share < LEAST_OVERLAP:
            how_much = f"share {share:.0%} of the smaller one's box" if share else "lie beside each other"
            raise DataError(
                f"the channels {name} and {other_name} {how_much}, at least {LEAST_OVERLAP:.0%} are needed: their "
                f"centres are at {_format_centre(grid)} and {_format_centre(other_grid)} mm"
            )


def require_cover(name: str, channel: Geometry, grid: Geometry) -> None:
    """Refuse a channel that hardly reaches the grid that it would be brought to.

    Args:
        name: of the channel.
        channel: its own grid.
        grid: that of the channel that decides.

    Raises:
        DataError: it covers less than :data:`LEAST_COVER` of it.
    """
    if channel.is_close(grid):
        return
    cover = _measure_share(channel, grid)
    if cover < LEAST_COVER:
        raise DataError(
            f"the channel {name} covers {cover:.0%} of the grid that it would be brought to, at least "
            f"{LEAST_COVER:.0%} are needed; name a channel of a smaller field of view in resample.onto"
        )


def require_place(grid: Geometry, path: Path) -> None:
    """Refuse a channel of another grid whose file does not say where it lies.

    Args:
        grid: of the channel.
        path: its file.

    Raises:
        DataError: it is a NIfTI file that states neither qform nor sform.
    """
    if grid.forms is not None and not (grid.forms.qform_code or grid.forms.sform_code):
        raise DataError("its grid is not the image's, and its header does not say where it lies", path=path)


def _measure_share(image: Geometry, grid: Geometry) -> float:
    """Measure which share of the box of ``grid`` the box of ``image`` covers."""
    # The middles of equal pieces of each axis, so that a grid of a few voxels is cut as finely as a large one.
    points = [(np.arange(MOST_POINTS) + 0.5) / MOST_POINTS * n - 0.5 for n in grid.size]
    return float(np.mean(np.broadcast_to(_find_inside(image, grid, points), (MOST_POINTS,) * 3)))


def _find_inside(image: Geometry, grid: Geometry, points: list[NDArray[np.float64]]) -> Any:
    """Which points of ``grid``, by their index along each axis, lie in the image's box, faces included."""
    indices = np.meshgrid(*points, indexing="ij", sparse=True)
    matrix = np.linalg.inv(image.affine) @ grid.affine
    # A sum of three small arrays an axis, compared where they meet: no array of points is made.
    inside: Any = True
    for axis in range(3):
        position = sum(matrix[axis, n] * indices[n] for n in range(3)) + matrix[axis, 3]
        inside = inside & (position >= -0.5) & (position <= image.size[axis] - 0.5)
    return inside


def _format_centre(geometry: Geometry) -> str:
    centre = geometry.to_physical((np.array(geometry.size) - 1) / 2)
    return " ".join(f"{mm:.0f}" for mm in centre)
