"""What MONAI takes of scikit-image to clean masks; a slow test holds it against scikit-image itself."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import ndimage


def label_components(mask: Any, **_: Any) -> Any:
    """``skimage.measure.label``, where voxels touch by corners, too."""
    return ndimage.label(mask, np.ones((3, 3, 3)))


def remove_small_objects(labels: Any, min_size: int = 64, connectivity: int = 1) -> Any:
    """``skimage.morphology.remove_small_objects``: numbers are taken for components already."""
    out = labels.copy()
    structure = ndimage.generate_binary_structure(labels.ndim, connectivity)
    components = ndimage.label(labels, structure)[0] if labels.dtype == bool else labels
    out[(np.bincount(components.ravel()) < min_size)[components]] = 0
    return out
