"""Reading DICOM SEG: bit-packed, fractional or label-map frames (PS3.3 C.8.20) onto their image's grid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from voxflow.dicom.enhanced import find_functional_group, read_frame_planes
from voxflow.dicom.grid import compute_plane_axes
from voxflow.dicom.headers import Plane, read_dataset
from voxflow.dicom.pixels import decode_stored_values
from voxflow.dicom.seg_grid import GridMismatchError, resample_frames
from voxflow.errors import DicomError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray
    from pydicom.dataset import Dataset

    from voxflow.geometry import Geometry

# A segmentation's pixel centre this close to a voxel's centre, in voxels, is that voxel.
SAME_VOXEL_TOLERANCE = 0.1
FRACTION_THRESHOLD = 0.5


@dataclass(frozen=True)
class LabelMasks:
    """The masks of a label object on an image's grid.

    Attributes:
        masks: (i, j, k) by segment or ROI number.
        remedy: how they came onto the grid, in words, where they were not drawn on it.
    """

    masks: dict[int, NDArray[np.bool_]]
    remedy: str = ""


def read_segments(path: Path, geometry: Geometry, *, resample: bool = True) -> LabelMasks:
    """Read a DICOM SEG onto the grid of the image that it belongs to.

    Args:
        path: the SEG object; segments may cover any of the slices, and overlap.
        geometry: the image's grid.
        resample: take the nearest voxel of a SEG that lies on another grid, where that is refused else.

    Returns:
        Mask (i, j, k) by SegmentNumber (0062,0004), ascending. Fractional frames are inside from 0.5.

    Raises:
        DicomError: the frames lie on another grid than the image, or reach outside of it.
    """
    dataset = read_dataset(path, pixels=True)
    numbers = sorted(int(item.SegmentNumber) for item in dataset.SegmentSequence)
    planes = read_frame_planes(dataset)
    try:
        masks = {number: np.zeros(geometry.size, dtype=np.bool_) for number in numbers}
        for frame, number, inside in _read_frames(dataset, numbers):
            if number in masks and inside.any():
                i, j, k = _locate_voxels(inside, planes[frame], geometry)
                masks[number][i, j, k] = True
        return LabelMasks(masks)
    except GridMismatchError:
        if not resample:
            raise
    frames = [(planes[frame], number, inside) for frame, number, inside in _read_frames(dataset, numbers)]
    return LabelMasks(*resample_frames(frames, numbers, _read_slice_thickness(dataset), geometry))


def _read_slice_thickness(dataset: Dataset) -> float:
    """How far its slices reach, mm; 0 where it does not say."""
    item = find_functional_group(dataset, 0, "PixelMeasuresSequence")
    return float(item.get("SpacingBetweenSlices") or item.get("SliceThickness") or 0) if item is not None else 0.0


def _read_frames(dataset: Dataset, numbers: list[int]) -> Iterator[tuple[int, int, NDArray[np.bool_]]]:
    """Each frame's index, segment number and mask (rows, columns); a label map gives several a frame."""
    stored = decode_stored_values(dataset).reshape(-1, int(dataset.Rows), int(dataset.Columns))
    kind = str(dataset.get("SegmentationType", "BINARY"))
    # PS3.3 C.8.20.2.3: stored fractions reach up to MaximumFractionalValue (0062,000E).
    threshold = FRACTION_THRESHOLD * float(dataset.get("MaximumFractionalValue") or 1) if kind == "FRACTIONAL" else 1
    for frame, values in enumerate(stored):
        if kind == "LABELMAP":
            yield from ((frame, number, values == number) for number in numbers if number > 0)
        else:
            item = find_functional_group(dataset, frame, "SegmentIdentificationSequence")
            if item is None:
                raise DicomError(f"frame {frame + 1} names no segment", where="(0062,000A)")
            yield frame, int(item.ReferencedSegmentNumber), values >= threshold


def _locate_voxels(inside: NDArray[np.bool_], plane: Plane, geometry: Geometry) -> tuple[NDArray[np.intp], ...]:
    """Image voxels under the pixels that are inside, three index arrays."""
    if len(plane.position) != 3 or len(plane.orientation) != 6 or len(plane.spacing) != 2:
        raise DicomError("a segmentation's frame has no position, orientation or spacing", where="(0020,9113)")
    along_row, along_column, _ = compute_plane_axes(plane)
    row, column = np.nonzero(inside)
    offset = np.outer(column * plane.spacing[1], along_row) + np.outer(row * plane.spacing[0], along_column)
    index = geometry.to_index(np.array(plane.position) + offset)
    nearest = np.rint(index).astype(np.intp)
    deviation = float(np.abs(index - nearest).max())
    if deviation > SAME_VOXEL_TOLERANCE:
        raise GridMismatchError(
            f"the segmentation lies on another grid than its image: pixels are up to {deviation:.2f} voxels off "
            f"(tolerance {SAME_VOXEL_TOLERANCE})",
            where="(0020,9113)",
        )
    if (nearest < 0).any() or (nearest >= geometry.size).any():
        raise DicomError("the segmentation reaches outside of its image", where="(0020,9113)")
    return tuple(nearest.T)
