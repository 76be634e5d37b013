"""What exported engines are compared and calibrated on: prepared images of real cases, or noise."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from voxflow.engines import make_example_input
from voxflow.errors import DataError
from voxflow.geometry import Geometry
from voxflow.inference import read_radiographs, read_volumes
from voxflow.prediction import network_grid, prepare_radiograph, prepare_volume
from voxflow.volumes import Volume, target_geometry

# The side of a case of noise where no window was trained at.
DEFAULT_SIDE = 32
# Of a case: how many windows an axis are compared.
WINDOWS = 1.5

if TYPE_CHECKING:
    from collections.abc import Sequence

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


def read_middles(cases: Sequence[InferenceCase], spec: ModelSpec) -> list[list[Volume]]:
    """Read the images of each case, of which the middle stays: a few windows of any network of the model.

    Args:
        cases: of volumes.
        spec: of a model of several networks.

    Raises:
        DataError: there is no case, or one can't be read.
    """
    if not cases:
        raise DataError("no case to compare the exported engines on; the datalist's validation part is empty")
    return [_crop_volumes(read_volumes(case, spec), spec) for case in cases]


def make_noise_volumes(spec: ModelSpec) -> list[list[Volume]]:
    """Make one case of noise, of a few windows of a model's first network, with values as wide as a CT's."""
    unit = Geometry.from_parts((DEFAULT_SIDE,) * 3, (1, 1, 1))
    windows = _list_windows(unit, list_network_specs(spec)[0])
    size = [math.ceil(WINDOWS * side) for side, _ in windows]
    grid = Geometry.from_parts(size, [mm for _, mm in windows])
    generator = np.random.default_rng(0)
    return [[Volume(generator.normal(scale=300, size=size).astype(np.float32), grid) for _ in range(spec.image_count)]]


def list_network_specs(spec: ModelSpec) -> list[ModelSpec]:
    """List what each network of a model takes: of a cascade the last one's first, else the parts' in order."""
    if spec.parts:
        return [part.spec for part in spec.parts]
    return [spec, *([spec.previous.spec] if spec.previous else [])]


def _crop_volumes(volumes: Sequence[Volume], spec: ModelSpec) -> list[Volume]:
    """The middle of a case's images; one that has a grid of its own stays whole."""
    grid = volumes[spec.reference].geometry
    size = [
        max(sides) for sides in zip(*(_measure_windows(grid, each) for each in list_network_specs(spec)), strict=True)
    ]
    corner = [max(0, (voxels - side) // 2) for voxels, side in zip(grid.size, size, strict=True)]
    box = tuple(slice(start, start + side) for start, side in zip(corner, size, strict=True))
    return [_cut(volume, box) if volume.geometry.is_close(grid) else volume for volume in volumes]


def _cut(volume: Volume, box: tuple[slice, ...]) -> Volume:
    array = np.ascontiguousarray(volume.array[box])
    origin = volume.geometry.to_physical(np.array([part.start for part in box]))
    i, j, k = array.shape
    affine = volume.geometry.affine.copy()
    affine[:3, 3] = origin
    return Volume(array, Geometry((i, j, k), affine))


def _measure_windows(grid: Geometry, spec: ModelSpec) -> list[int]:
    """Voxels (i, j, k) of an image that one and a half windows of a network cover."""
    windows = zip(_list_windows(grid, spec), grid.spacing, strict=True)
    return [math.ceil(WINDOWS * side * mm / step) for (side, mm), step in windows]


def _list_windows(grid: Geometry, spec: ModelSpec) -> list[tuple[int, float]]:
    """List the window's voxels along each axis (i, j, k) of an image, and their size in mm."""
    if spec.window is None:
        return list(zip(grid.size, grid.spacing, strict=True))
    if spec.nnunet is None:
        network = network_grid(grid, spec)
        axes = np.abs(network.direction.T @ grid.direction).argmax(axis=0)
        return [(spec.window[axis], network.spacing[axis]) for axis in axes]
    # An adopted nnU-Net turns the axes, and has its spacing along its own.
    turned, _ = grid.find_axes(target_geometry(grid, None, spec.orientation)) or ((0, 1, 2), None)
    sides = zip(spec.window, spec.nnunet.spacing_mm, spec.nnunet.axes, strict=True)
    windows = {turned[follows]: (side, mm or grid.spacing[turned[follows]]) for side, mm, follows in sides}
    return [windows[axis] for axis in range(3)]


def _crop_middle(image: NDArray[np.float32], spec: ModelSpec) -> NDArray[np.float32]:
    """The middle of a volume, a few windows at most: a whole CT would take torch minutes and tell no more."""
    size = [side + side // 2 for side in spec.window or image.shape[1:]]
    corner = [max(0, (voxels - side) // 2) for voxels, side in zip(image.shape[1:], size, strict=True)]
    return image[:, *(slice(start, start + side) for start, side in zip(corner, size, strict=True))]
