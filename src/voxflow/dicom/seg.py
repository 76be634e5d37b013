"""Reading DICOM SEG: bit-packed, fractional or label-map frames (PS3.3 C.8.20) onto their image's grid."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from voxflow.dicom.enhanced import find_functional_group, read_frame_planes
from voxflow.dicom.grid import compute_plane_axes
from voxflow.dicom.headers import Plane, read_dataset
from voxflow.dicom.label_grid import LabelGrid, LabelMask
from voxflow.dicom.pixels import decode_stored_values
from voxflow.dicom.seg_grid import PLANE_POSITION, GridMismatchError, resample_frames
from voxflow.errors import DicomError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from numpy.typing import NDArray
    from pydicom.dataset import Dataset

# A segmentation's pixel centre this close to a voxel's centre, in voxels, is that voxel.
SAME_VOXEL_TOLERANCE = 0.1
FRACTION_THRESHOLD = 0.5


class Segmentation:
    """The frames of one DICOM SEG object that belong to one image."""

    def __init__(self, path: Path, frames_by_number: Mapping[int, Collection[int]], *, resample: bool = True) -> None:
        """Read and decode the object.

        Args:
            path: the SEG object; segments may cover any of the slices, and overlap.
            frames_by_number: the frames of each segment that belong to the image, from 0, by SegmentNumber (0062,0004).
            resample: take the nearest voxel of a SEG that lies on another grid, where that is refused else.

        Raises:
            DicomError: the pixels can't be decoded, or the functional groups do not fit the frames.
        """
        dataset = read_dataset(path, pixels=True)
        self._frames, self._resample = frames_by_number, resample
        self._kind = str(dataset.get("SegmentationType") or "BINARY")
        self._threshold = _find_threshold(dataset) if self._kind == "FRACTIONAL" else 1.0
        has_frames = any(frames_by_number.values())
        self._planes = read_frame_planes(dataset) if has_frames else []
        self._stored = (
            decode_stored_values(dataset).reshape(-1, int(dataset.Rows), int(dataset.Columns)) if has_frames else None
        )
        measures = find_functional_group(dataset, 0, "PixelMeasuresSequence")
        self._spacing = _read_length(measures, "SpacingBetweenSlices")
        self._thickness = _read_length(measures, "SliceThickness")
        self._resampled: tuple[dict[int, NDArray[np.bool_]], str] | None = None

    def read_mask(self, number: int, frames: Collection[int], grid: LabelGrid) -> LabelMask:
        """Read one segment onto an image's grid. Fractional frames are inside from half of their maximum.

        Args:
            number: the segment.
            frames: those that belong to the image.
            grid: of the image.

        Raises:
            DicomError: the frames lie on another grid than the image and may not be resampled, or outside of it.
        """
        try:
            return self._read_on_grid(number, frames, grid)
        except GridMismatchError:
            if not self._resample:
                raise
        if self._resampled is None:
            # All at once: finding the nearest pixels takes far longer than looking them up.
            every_frame = [
                (self._planes[frame], n, self._read_frame(frame, n))
                for n, frames in self._frames.items()
                for frame in frames
            ]
            self._resampled = resample_frames(
                every_frame,
                sorted(self._frames),
                self._spacing or self._thickness,
                grid.geometry,
                is_spacing=self._spacing > 0,
            )
        masks, remedy = self._resampled
        if not masks[number].any():
            raise DicomError("nothing of the segmentation lies inside of its image", where=PLANE_POSITION)
        return LabelMask(masks[number], remedy)

    def _read_on_grid(self, number: int, frames: Collection[int], grid: LabelGrid) -> LabelMask:
        mask = np.zeros(grid.drawn_size, dtype=np.bool_)
        outside = 0
        for frame in sorted(frames):
            inside = self._read_frame(frame, number)
            if not inside.any():
                continue
            voxels = _locate_voxels(inside, self._planes[frame], grid)
            is_in_image = ((voxels >= 0) & (voxels < mask.shape)).all(axis=1)
            outside += int((~is_in_image).sum())
            mask[tuple(voxels[is_in_image].T)] = True
        is_empty = not mask.any()
        if outside and is_empty:
            raise DicomError("nothing of the segmentation lies inside of its image", where=PLANE_POSITION)
        remarks = [
            f"{outside} pixels lie outside of the image" if outside else "empty" if is_empty else "",
            grid.describe_lost_slices(mask),
        ]
        return LabelMask(grid.move(mask), remark=", ".join(text for text in remarks if text))

    def _read_frame(self, frame: int, number: int) -> NDArray[np.bool_]:
        """The mask (rows, columns) of a segment in one frame; a label map has several segments a frame."""
        if self._stored is None or frame >= len(self._stored):
            raise DicomError(f"frame {frame + 1} has no pixels", where="(7FE0,0010)")
        values = self._stored[frame]
        return np.asarray(values == number if self._kind == "LABELMAP" else values >= self._threshold)


def _find_threshold(dataset: Dataset) -> float:
    # PS3.3 C.8.20.2.3: stored fractions reach up to MaximumFractionalValue (0062,000E).
    highest = float(dataset.get("MaximumFractionalValue") or 0)
    if highest <= 0:
        raise DicomError(
            "a fractional segmentation states no maximum, so that half of it is unknown", where="(0062,000E)"
        )
    return FRACTION_THRESHOLD * highest


def _read_length(measures: Dataset | None, keyword: str) -> float:
    """A length of PixelMeasuresSequence (0028,9110), mm; 0 where it does not say."""
    return float(measures.get(keyword) or 0) if measures is not None else 0.0


def _locate_voxels(inside: NDArray[np.bool_], plane: Plane, grid: LabelGrid) -> NDArray[np.intp]:
    """Voxels (pixels, 3) of the image's slices under the pixels that are inside."""
    if len(plane.position) != 3 or len(plane.orientation) != 6 or len(plane.spacing) != 2:
        raise DicomError("a segmentation's frame has no position, orientation or spacing", where=PLANE_POSITION)
    along_row, along_column, _ = compute_plane_axes(plane)
    row, column = np.nonzero(inside)
    offset = np.outer(column * plane.spacing[1], along_row) + np.outer(row * plane.spacing[0], along_column)
    voxels, deviation = grid.find_nearest_voxels(np.array(plane.position) + offset)
    if deviation > SAME_VOXEL_TOLERANCE:
        raise GridMismatchError(
            f"the segmentation lies on another grid than its image: pixels are up to {deviation:.2f} voxels off "
            f"(tolerance {SAME_VOXEL_TOLERANCE})",
            where=PLANE_POSITION,
        )
    return voxels
