"""Owns writing DICOM SEG: masks that any viewer lays over the series that they were made from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

import voxflow
from voxflow.dicom.enhanced import frame_planes
from voxflow.dicom.grid import slice_grid
from voxflow.dicom.headers import Plane, read_dataset
from voxflow.errors import DicomError
from voxflow.files import atomic_path

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from pydicom.dataset import Dataset

    from voxflow.volumes.volume import Volume

# Attributes that a SEG takes over from its images and may leave empty, but not leave out.
_MAY_BE_EMPTY = (
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "ReferringPhysicianName",
    "PositionReferenceIndicator",
)


@dataclass(frozen=True)
class Author:
    """What made a mask.

    Attributes:
        algorithm: its name, for Segmentation Algorithm Identification (0062,0007).
        version: its version.
        series_number: SeriesNumber (0020,0011) of the new series.
    """

    algorithm: str = "Voxflow"
    version: str = voxflow.__version__
    series_number: int = 900


def write_segmentation(
    path: Path, mask: Volume, source_files: Sequence[Path], names: Mapping[int, str], *, author: Author | None = None
) -> None:
    """Write a binary DICOM SEG that refers to the images it was made from.

    Args:
        path: the file to write, whole or not at all.
        mask: label values (i, j, k) on the grid of the series, in its own order of slices.
        source_files: the DICOM files of the series, in any order; or one multi-frame file.
        names: name by label value; every name becomes a segment, numbered from 1 in the order of the values.
        author: what made the mask.

    Raises:
        DicomError: the files make no volume, or the mask lies on another grid or has a value without a name.
    """
    author = author or Author()
    images = [_complete(read_dataset(file)) for file in source_files]
    order = _order(images, mask)
    values = sorted(value for value in names if value != 0)
    unnamed = sorted({int(value) for value in np.unique(mask.array)} - {0, *values})
    if unnamed or not values:
        raise DicomError(f"label values {unnamed} have no name; named are {values}", path=path)
    dataset = _segmentation(images, _frames(mask, order, values), [names[value] for value in values], author)
    with atomic_path(path) as temporary:
        dataset.save_as(temporary, enforce_file_format=True)


def _order(images: Sequence[Dataset], mask: Volume) -> list[int]:
    """Slice k of the mask belongs to image (or frame) ``order[k]``."""
    planes = frame_planes(images[0]) if _multiframe(images) else [_plane(image) for image in images]
    geometry, order = slice_grid(planes, tolerance_mm=0.1, min_slices=1 if len(planes) == 1 else 2)
    if not geometry.is_close(mask.geometry, tolerance_mm=0.1):
        raise DicomError(
            f"the mask lies on another grid than the series: {mask.geometry.size} and {geometry.size} voxels, "
            f"origin {_mm(mask.geometry.origin)} and {_mm(geometry.origin)} mm"
        )
    return order


def _frames(mask: Volume, order: Sequence[int], values: Sequence[int]) -> NDArray[np.uint8]:
    """Segment numbers (frame, row, column), frames in the order of the images."""
    numbers = np.zeros(max(values) + 1, dtype=np.uint8)
    numbers[list(values)] = np.arange(1, len(values) + 1)
    frames = np.empty((len(order), mask.array.shape[1], mask.array.shape[0]), dtype=np.uint8)
    for k, index in enumerate(order):
        frames[index] = numbers[mask.array[:, :, k].T]
    return frames


def _segmentation(
    images: Sequence[Dataset], frames: NDArray[np.uint8], names: Sequence[str], author: Author
) -> Dataset:
    import highdicom as hd

    dataset: Dataset = hd.seg.Segmentation(
        source_images=images,
        pixel_array=frames,
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[_description(number, name, author) for number, name in enumerate(names, start=1)],
        series_instance_uid=hd.UID(),
        series_number=author.series_number,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer="Voxflow",
        manufacturer_model_name=author.algorithm,
        software_versions=voxflow.__version__,
        device_serial_number="0",
        omit_empty_frames=bool(frames.any()),
        content_label="SEGMENTATION",
        series_description=f"{author.algorithm} {author.version}"[:64],
    )
    return dataset


def _description(number: int, name: str, author: Author) -> Any:
    import highdicom as hd
    from pydicom.sr.codedict import codes

    return hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=name[:64],
        segmented_property_category=codes.SCT.AnatomicalStructure,
        segmented_property_type=_code(name),
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            name=author.algorithm, family=codes.DCM.ArtificialIntelligence, version=author.version
        ),
    )


def _code(name: str) -> Any:
    """The SNOMED CT code whose meaning is the name, such as "Spleen", else the one for any anatomical structure."""
    from pydicom.sr.codedict import codes

    keyword = "".join(word.capitalize() for word in name.replace("_", " ").split())
    try:
        return getattr(codes.SCT, keyword)
    except AttributeError:
        return codes.SCT.AnatomicalStructure


def _complete(image: Dataset) -> Dataset:
    for keyword in _MAY_BE_EMPTY:
        if keyword not in image:
            setattr(image, keyword, "")
    return image


def _multiframe(images: Sequence[Dataset]) -> bool:
    return len(images) == 1 and int(images[0].get("NumberOfFrames") or 1) > 1


def _plane(image: Dataset) -> Plane:
    position, orientation, spacing = (
        tuple(float(value) for value in image.get(keyword) or ())
        for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
    )
    return Plane(position, orientation, spacing, int(image.Rows), int(image.Columns))


def _mm(values: Sequence[float]) -> str:
    return " ".join(f"{value:.2f}" for value in values)
