"""A volume: an array of voxels together with its grid."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from voxflow.bounds import check_grid
from voxflow.errors import DataError
from voxflow.geometry import Geometry

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import SimpleITK as sitk
    from numpy.typing import NDArray

# Beyond, lengths along the axes would no longer give volumes and distances; 1 degree is less than 0.02 % of them.
MOST_SHEAR_DEGREES = 1.0


@dataclass(frozen=True, eq=False)
class Volume:
    """A 3D image: voxels, and where they lie.

    Attributes:
        array: voxels, axes (i, j, k), the order of NIfTI and of ``geometry.size``. SimpleITK's arrays are (k, j, i).
        geometry: where they lie, LPS, mm.

    Raises:
        DataError: the array's shape is not the grid's size.
    """

    array: NDArray[Any]
    geometry: Geometry

    def __post_init__(self) -> None:
        if self.array.shape != self.geometry.size:
            raise DataError(f"voxels have shape {self.array.shape}, their geometry says {self.geometry.size}")

    def to_sitk(self) -> sitk.Image:
        """Make a SimpleITK image with the same voxels and grid.

        The voxels are copied. SimpleITK has no boolean voxels, so these become uint8.

        Example:
            >>> volume = Volume(np.zeros((4, 3, 2), np.float32), Geometry.from_parts((4, 3, 2), (1, 1, 2.5)))
            >>> volume.to_sitk().GetSpacing()
            (1.0, 1.0, 2.5)
        """
        import SimpleITK as sitk

        array = self.array.astype(np.uint8) if self.array.dtype == np.bool_ else self.array
        # SimpleITK's arrays are (k, j, i): reversed axes in C order are the same bytes.
        image = sitk.GetImageFromArray(np.ascontiguousarray(array.transpose(2, 1, 0)))
        image.SetSpacing(self.geometry.spacing)
        image.SetOrigin(self.geometry.origin)
        image.SetDirection(self.geometry.direction.ravel().tolist())
        return image

    @classmethod
    def from_sitk(cls, image: sitk.Image) -> Volume:
        """Take over a SimpleITK image.

        Raises:
            DataError: it is not 3D, or has several values a voxel.
        """
        import SimpleITK as sitk

        geometry = read_sitk_geometry(image)
        return cls(sitk.GetArrayFromImage(image).transpose(2, 1, 0), geometry)


def require_finite(array: NDArray[Any], path: Path | None = None) -> None:
    """Refuse an image that holds NaN or infinite values; integers never do.

    Args:
        array: voxels or pixels, of any shape.
        path: the file that they come from, for the message; None where there is none.

    Raises:
        DataError: a value is not finite.
    """
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise DataError("the image holds NaN or infinite values", path=path)


def require_right_angles(geometry: Geometry) -> None:
    """Refuse a grid whose axes are far from perpendicular.

    Raises:
        DataError: two axes are more than :data:`MOST_SHEAR_DEGREES` off a right angle.
    """
    cosines = np.abs(geometry.direction.T @ geometry.direction - np.eye(3))
    shear = math.degrees(math.asin(min(1.0, float(cosines.max()))))
    if shear > MOST_SHEAR_DEGREES:
        raise DataError(
            f"the axes of its affine are {shear:.1f} degrees off a right angle, at most {MOST_SHEAR_DEGREES:g} are "
            "taken; resample it to a grid of right angles"
        )


def read_sitk_geometry(image: sitk.Image | sitk.ImageFileReader, *, has_channels: bool = False) -> Geometry:
    """Read the grid of a SimpleITK image, or of a file reader that has read its header.

    Args:
        image: the image or the reader.
        has_channels: several values a voxel, or a fourth axis, are taken, too.

    Raises:
        DataError: the image is not 3D, has several values a voxel, or its axes are far from perpendicular.
    """
    import SimpleITK as sitk

    is_image = isinstance(image, sitk.Image)
    components = image.GetNumberOfComponentsPerPixel() if is_image else image.GetNumberOfComponents()
    dimension = image.GetDimension()
    if has_channels and dimension == 4:
        direction = np.reshape(image.GetDirection(), (4, 4))[:3, :3]
        return _make_geometry(image.GetSize()[:3], image.GetSpacing()[:3], image.GetOrigin()[:3], direction)
    if dimension != 3 or (components != 1 and not has_channels):
        raise DataError(f"expected a 3D image with one value a voxel, received {dimension}D with {components}")
    return _make_geometry(image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection())


def _make_geometry(
    size: Sequence[int], spacing: Sequence[float], origin: Sequence[float], direction: Sequence[float] | NDArray[Any]
) -> Geometry:
    # An axis of negative steps is turned.
    check_grid(size, [abs(mm) for mm in spacing], origin)
    geometry = Geometry.from_parts(size, spacing, origin, direction)
    require_right_angles(geometry)
    return geometry
