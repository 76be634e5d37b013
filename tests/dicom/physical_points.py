"""Whether each pixel of a slice became the voxel at its place in the patient, by the definitions of the standards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from hypothesis import strategies as st

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

# Angles about z, y and x, degrees.
RIGHT_ANGLES = st.tuples(*[st.sampled_from([-180.0, -90.0, 0.0, 90.0])] * 3)
ANY_ANGLES = st.tuples(st.floats(-180, 180), st.floats(-85, 85), st.floats(-180, 180))
ANGLES = st.one_of(RIGHT_ANGLES, ANY_ANGLES)


def assert_pixels_are_voxels(
    image: Any, position: ArrayLike, orientation: ArrayLike, spacing: tuple[float, float], expected: NDArray[Any]
) -> None:
    """Look each pixel of a slice up in a volume by its physical point.

    Args:
        image: the volume, read by nibabel: its affine leads from voxels to mm in RAS.
        position: of the slice, as DICOM PS3.3 C.7.6.2.1.1 has it, mm in LPS.
        orientation: the same.
        spacing: between rows and between columns, mm.
        expected: values of the slice, (rows, columns).
    """
    row, column = np.array(orientation, float).reshape(2, 3)
    down, right = spacing
    y, x = np.mgrid[: expected.shape[0], : expected.shape[1]]
    points = np.array(position, float) + x[..., None] * right * row + y[..., None] * down * column
    to_voxel = np.linalg.inv(np.diag([-1.0, -1.0, 1.0, 1.0]) @ image.affine)
    index = points @ to_voxel[:3, :3].T + to_voxel[:3, 3]
    nearest = np.rint(index).astype(int)
    assert np.abs(index - nearest).max() < 0.01
    assert np.allclose(np.asarray(image.dataobj)[tuple(np.moveaxis(nearest, -1, 0))], expected, atol=1e-3)
