"""Turns volumes upright: columns to the patient's left, rows to the back, slices to the head (LPS).

An axial slice ``array[:, :, k].T`` then shows the patient as radiologists look: from below, the right side at the left.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from voxflow.geometry import Geometry
from voxflow.volumes import resample, target_geometry

if TYPE_CHECKING:
    from voxflow.volumes import Volume

STRAIGHT_DEGREES = 1.0  # a grid that is turned less is shown as it is: letters and lengths are true to 0.02 %


def orient_for_viewing(volume: Volume) -> Volume:
    """Turn a volume to LPS; axes are only ordered and flipped, so that no voxel changes."""
    return resample(volume, target_geometry(volume.geometry, None, "LPS"), "nearest")


def plan_upright_grid(geometry: Geometry) -> Geometry:
    """Plan the grid on which a viewer shows an image: LPS, and along the patient's axes where the image is oblique.

    Returns:
        The image's own voxels in another order; of an oblique image, a grid that holds all of it, in steps of its own
        spacing.

    Example:
        >>> plan_upright_grid(Geometry.from_parts((4, 3, 2), (1, 1, 2), direction=(0, 1, 0, 1, 0, 0, 0, 0, 1))).size
        (3, 4, 2)
    """
    turned = target_geometry(geometry, None, "LPS")
    if not is_oblique(turned):
        return turned
    corners = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)]) * turned.size - 0.5
    places = turned.to_physical(corners)
    low, high = places.min(axis=0), places.max(axis=0)
    spacing = np.array(turned.spacing)
    size = np.maximum(1, np.ceil((high - low) / spacing - 1e-6)).astype(int)
    return Geometry.from_parts(size.tolist(), spacing.tolist(), (low + spacing / 2).tolist())


def is_oblique(geometry: Geometry) -> bool:
    """Whether an axis lies more than a degree off the patient's."""
    return bool(np.abs(geometry.direction).max(axis=0).min() < np.cos(np.radians(STRAIGHT_DEGREES)))
