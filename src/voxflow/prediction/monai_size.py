"""Brings images to the size that an adopted MONAI bundle's network takes, and its answer back: crop, resize, pad.

The steps are undone in the opposite order, as MONAI's Invertd does: what was padded is cut off, the rest is resized to
the part that was cropped, and that is put into the whole grid, with zeros around it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from voxflow.prediction.nnunet import crop_geometry, resize_geometry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from voxflow.geometry import Geometry
    from voxflow.prediction.blending import Box
    from voxflow.spec import MonaiPad, MonaiResize


@dataclass(frozen=True, eq=False)
class Foreground:
    """The part of an image that a network is shown, and how it became the network's image.

    Attributes:
        grid: the network's grid of the whole image.
        box: the part of it; the rest was cropped away.
        inside: the part of the network's image that is no padding.
        resize: how the part was brought to the size of ``inside``; None: it has it.
    """

    grid: Geometry
    box: Box
    inside: Box
    resize: MonaiResize | None = None

    @property
    def size(self) -> tuple[int, int, int]:
        """Voxels of the part on the network's grid."""
        i, j, k = (side.stop - side.start for side in self.box)
        return i, j, k

    def place(self, size: Sequence[int]) -> Geometry:
        """Return the grid of the network's image.

        Args:
            size: its voxels, with padding.
        """
        resized = resize_geometry(crop_geometry(self.grid, self.box), [side.stop - side.start for side in self.inside])
        padded = [slice(-side.start, total - side.start) for side, total in zip(self.inside, size, strict=True)]
        return crop_geometry(resized, padded)

    def restore(self, values: NDArray[Any], *, is_nearest: bool = False) -> NDArray[Any]:
        """Bring values of the network's image to the whole grid; what was cropped away is 0.

        Args:
            values: (i, j, k), scores of one class or label values.
            is_nearest: take the nearest voxel, for label values, in the place of the way that the image was resized.
        """
        part = values[self.inside]
        if self.resize is not None and part.shape != self.size:
            mode, aligned = ("nearest", None) if is_nearest else (self.resize.mode, self.resize.align_corners)
            part = _interpolate(part[None].astype(np.float32), self.size, mode=mode, align_corners=aligned)[0]
        whole = np.zeros(self.grid.size, dtype=values.dtype)
        whole[self.box] = part
        return whole


def resize_image(image: NDArray[np.float32], step: MonaiResize) -> NDArray[np.float32]:
    """Resize an image (channel, i, j, k) as MONAI's Resize does."""
    size: Any = step.size
    return _interpolate(
        image,
        size,
        mode=step.mode,
        align_corners=step.align_corners,
        size_mode="longest" if isinstance(size, int) else "all",
        anti_aliasing=step.antialias,
    )


def pad_image(image: NDArray[np.float32], step: MonaiPad) -> tuple[NDArray[np.float32], Box]:
    """Pad an image as MONAI's SpatialPad does.

    Args:
        image: (channel, i, j, k).
        step: the least size, and what is put around the image.

    Returns:
        The image, and the part of it that is no padding.
    """
    widths = [max(least - side, 0) for least, side in zip(step.size, image.shape[1:], strict=True)]
    before = [0 if step.at_end else width // 2 for width in widths]
    pairs = [(0, 0), *((low, width - low) for low, width in zip(before, widths, strict=True))]
    if step.mode == "constant":
        padded = np.pad(image, pairs, constant_values=step.value)
    else:
        padded = np.pad(image, pairs, mode=step.mode)
    i, j, k = (slice(low, low + side) for low, side in zip(before, image.shape[1:], strict=True))
    return np.ascontiguousarray(padded, dtype=np.float32), (i, j, k)


def _interpolate(image: NDArray[np.float32], size: Any, **arguments: Any) -> NDArray[np.float32]:
    """Resize (channel, i, j, k) by MONAI's own class, which chooses among torch's kinds of interpolation."""
    import torch
    from monai.transforms import Resize

    resize: Any = Resize(size, **arguments)
    return np.ascontiguousarray(resize(torch.from_numpy(image)).numpy(), dtype=np.float32)
