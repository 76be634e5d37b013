"""An asymmetric body whose every side is known: other values to the left, the back and the head."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from voxflow.geometry import Geometry
from voxflow.volumes import Volume

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Storage orders as scanners and programs write them; NIfTI of most programs is RAS, sagittal series are PIL or ASR.
ORIENTATIONS = ("LPS", "RAS", "LAS", "PIL", "ASR", "RIP", "SLP")
TOWARDS = {"L": (1, 0, 0), "R": (-1, 0, 0), "P": (0, 1, 0), "A": (0, -1, 0), "S": (0, 0, 1), "I": (0, 0, -1)}
SIZE_MM = (72.0, 60.0, 52.0)  # of the box, LPS
SPACING = {"x": 1.5, "y": 1.0, "z": 2.0}
BODY, LEFT_ARM, BACK, HEAD = 100, 250, 400, 700


def paint(points: NDArray[np.float64]) -> NDArray[np.int16]:
    """The value at points (..., 3), mm, LPS: a body with one mark at the left, one at the back, one at the head."""
    x, y, z = np.moveaxis(points, -1, 0)
    values = np.zeros(points.shape[:-1], np.int16)
    values[(abs(x) < 20) & (abs(y) < 14) & (abs(z) < 12)] = BODY
    values[(abs(x - 24) < 4) & (abs(y + 4) < 5) & (abs(z) < 6)] = LEFT_ARM
    values[(abs(x + 6) < 6) & (abs(y - 18) < 3) & (abs(z + 4) < 6)] = BACK
    values[(abs(x + 10) < 6) & (abs(y + 6) < 5) & (abs(z - 15) < 6)] = HEAD
    return values


def make_grid(orientation: str, turn_degrees: float = 0.0) -> Geometry:
    """A grid of an orientation around the patient's origin, perhaps turned about the long axis and tilted."""
    axes = np.array([TOWARDS[letter] for letter in orientation], float).T
    spacing = np.abs(axes.T) @ np.array(list(SPACING.values()))
    angle = np.radians(turn_degrees)
    about_z = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    direction = about_z @ about_x @ axes
    size = np.round(np.abs(axes.T) @ np.array(SIZE_MM) / spacing).astype(int)
    origin = -direction @ (spacing * (size - 1) / 2)
    return Geometry.from_parts(size.tolist(), spacing.tolist(), origin.tolist(), direction)


def draw_phantom(orientation: str, turn_degrees: float = 0.0) -> Volume:
    """The body as a scanner of this orientation stores it."""
    grid = make_grid(orientation, turn_degrees)
    index = np.stack(np.meshgrid(*(np.arange(n) for n in grid.size), indexing="ij"), -1)
    return Volume(paint(grid.to_physical(index.astype(float))), grid)
