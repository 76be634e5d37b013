"""Outlines of masks, along the borders of their pixels: each voxel's centre lies on one side of them for any reader.

Plan: every border between a pixel inside and one outside is an edge, directed so that the inside is on its left. Edges
are followed to loops; where pixels touch by a corner alone, a loop stays with its pixel, so that loops never cross. A
hole is joined to the loop around it by a channel of no width (keyhole), so that a part with holes is one outline.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

Vertex = tuple[int, int]
# Directions of an edge, each the left turn of the one before it.
_STEPS = np.array([(1, 0), (0, 1), (-1, 0), (0, -1)])


def trace_outlines(mask: NDArray[np.bool_]) -> list[NDArray[np.float64]]:
    """Trace one closed outline around each part of a mask whose pixels touch by their sides.

    Args:
        mask: (columns, rows).

    Returns:
        Of each part (points, 2), in pixels: whole numbers are pixels' centres, the outlines lie half a pixel off them.

    Example:
        >>> mask = np.zeros((4, 3), bool)
        >>> mask[1:3, 1] = True
        >>> trace_outlines(mask)[0].tolist()
        [[0.5, 0.5], [2.5, 0.5], [2.5, 1.5], [0.5, 1.5]]
    """
    if not mask.any():
        return []
    columns, rows = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    box = mask[columns[0] : columns[-1] + 1, rows[0] : rows[-1] + 1]
    loops = _follow_edges(box)
    outer = [loop for loop in loops if _measure_area(loop) > 0]
    holes = sorted((loop for loop in loops if _measure_area(loop) < 0), key=min)
    offset = np.array([columns[0], rows[0]]) - 0.5
    return [_drop_straight(np.array(outline)) + offset for outline in _join_holes(outer, holes)]


def _follow_edges(mask: NDArray[np.bool_]) -> list[list[Vertex]]:
    """All loops, with every vertex on their way; anticlockwise around pixels and clockwise around holes."""
    padded = np.pad(mask, 1)
    right_side = padded[1:, :-1] != padded[1:, 1:]  # horizontal edges: (column of the pixels, vertex row)
    up_side = padded[:-1, 1:] != padded[1:, 1:]
    height = mask.shape[1] + 1
    has_edge = np.zeros(((mask.shape[0] + 1) * height, 4), np.bool_)
    column, row = np.nonzero(right_side)
    above = padded[column + 1, row + 1]  # the pixel on the left of an edge that goes to higher columns
    has_edge[(column + ~above) * height + row, np.where(above, 0, 2)] = True
    column, row = np.nonzero(up_side)
    before = padded[column, row + 1]
    has_edge[column * height + row + ~before, np.where(before, 1, 3)] = True
    start, direction = np.nonzero(has_edge)
    number = np.full(has_edge.shape, -1)
    number[start, direction] = np.arange(len(start))
    end = start + (_STEPS @ np.array([height, 1]))[direction]
    # The first that there is of: to the left (around the same pixel), straight on, to the right.
    following = np.full(len(start), -1)
    for turn in (1, 0, 3):
        candidates = number[end, (direction + turn) % 4]
        following = np.where(following < 0, candidates, following)
    vertices = list(zip((start // height).tolist(), (start % height).tolist(), strict=True))
    return _collect_loops(vertices, following.tolist())


def _collect_loops(vertices: list[Vertex], following: list[int]) -> list[list[Vertex]]:
    loops = []
    is_new = [True] * len(vertices)
    for first in range(len(vertices)):
        loop = []
        edge = first
        while is_new[edge]:
            is_new[edge] = False
            loop.append(vertices[edge])
            edge = following[edge]
        if loop:
            loops.append(loop)
    return loops


def _join_holes(outer: list[list[Vertex]], holes: list[list[Vertex]]) -> list[list[Vertex]]:
    """Join each hole, from its leftmost vertex straight to the left, to the loop that it meets first.

    Between the two lie pixels that are inside alone. What is met is the loop around the part, or a hole farther to the
    left, which is joined already.
    """
    joined = {vertex for loop in outer for vertex in loop}
    detours: dict[Vertex, list[Vertex]] = {}
    for hole in holes:
        column, row = corner = min(hole)
        column -= 1
        while (column, row) not in joined:
            column -= 1
        first = hole.index(corner)
        detours.setdefault((column, row), []).extend([*hole[first:], *hole[:first], corner, (column, row)])
        joined.update(hole)
    return [_insert_detours(loop, detours) for loop in outer]


def _insert_detours(loop: list[Vertex], detours: dict[Vertex, list[Vertex]]) -> list[Vertex]:
    """Take each detour where its vertex is first met, on the loop or on another detour."""
    outline = []
    ways = [iter(loop)]
    while ways:
        vertex = next(ways[-1], None)
        if vertex is None:
            ways.pop()
            continue
        outline.append(vertex)
        if vertex in detours:
            ways.append(iter(detours.pop(vertex)))
    return outline


def _drop_straight(points: NDArray[np.intp]) -> NDArray[np.intp]:
    """Keep the vertices at which an outline turns."""
    before, after = points - np.roll(points, 1, axis=0), np.roll(points, -1, axis=0) - points
    lengths = np.abs(before).sum(axis=1) * np.abs(after).sum(axis=1)
    return np.asarray(points[(before * after).sum(axis=1) != lengths])


def _measure_area(loop: list[Vertex]) -> int:
    """Twice the signed area, positive where anticlockwise."""
    points = np.array(loop)
    x, y = points.T
    return int(x @ np.roll(y, -1) - y @ np.roll(x, -1))
