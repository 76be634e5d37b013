"""What exported engines are compared and calibrated on: prepared images of real cases, or noise."""

from __future__ import annotations

from typing import TYPE_CHECKING

from voxflow.engines import make_example_input
from voxflow.errors import DataError
from voxflow.inference import read_radiographs, read_volumes
from voxflow.prediction import prepare_radiograph, prepare_volume

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from voxflow.inference import InferenceCase
    from voxflow.spec import ModelSpec


def prepare_images(cases: Sequence[InferenceCase], spec: ModelSpec) -> list[NDArray[np.float32]]:
    """Prepare each case as the network takes it: of a volume the middle, of a few windows at most.

    Returns:
        (channel, i, j, k) or (channel, rows, columns), one a case.

    Raises:
        DataError: there is no case, or one can't be read.
    """
    if not cases:
        raise DataError("no case to compare the exported engines on; the datalist's validation part is empty")
    if spec.task == "segmentation":
        return [_crop_middle(prepare_volume(read_volumes(case, spec), spec)[0], spec) for case in cases]
    return [prepare_radiograph(read_radiographs(case), spec) for case in cases]


def make_noise(spec: ModelSpec) -> list[NDArray[np.float32]]:
    """Make two images (channel, *space) of noise, of the training window's size and a little more."""
    return [make_example_input(spec)[0].numpy(), make_example_input(spec, larger=1)[0].numpy()]


def _crop_middle(image: NDArray[np.float32], spec: ModelSpec) -> NDArray[np.float32]:
    """The middle of a volume, a few windows at most: a whole CT would take torch minutes and tell no more."""
    size = [side + side // 2 for side in spec.window or image.shape[1:]]
    corner = [max(0, (voxels - side) // 2) for voxels, side in zip(image.shape[1:], size, strict=True)]
    return image[:, *(slice(start, start + side) for start, side in zip(corner, size, strict=True))]
