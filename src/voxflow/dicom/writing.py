"""Writing DICOM SEG: masks that any viewer lays over the series that they were made from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

import voxflow
from voxflow.colours import parse_rgb, pick_class_colour
from voxflow.dicom.seg_source import place_on_slices
from voxflow.dicom.source_images import join_description, read_source_images, silence_highdicom, use_utf8
from voxflow.dicom.sources import SourceFiles
from voxflow.errors import DicomError
from voxflow.files import atomic_path
from voxflow.naming import make_distinct_names

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from pydicom.dataset import Dataset

    from voxflow.volumes import Volume

SEGMENT_LABEL = 54  # characters; a digest that keeps two labels apart needs ten of the 64


@dataclass(frozen=True)
class SegmentationAlgorithm:
    """The program that made a mask, as the SEG names it.

    Attributes:
        algorithm: its name, for Segmentation Algorithm Identification (0062,0007).
        version: its version.
        series_number: SeriesNumber (0020,0011) of the new series.
    """

    algorithm: str = "Voxflow"
    version: str = voxflow.__version__
    series_number: int = 900


def write_segmentation(
    path: Path,
    mask: Volume,
    source: Sequence[Path] | SourceFiles,
    names: Mapping[int, str],
    *,
    regions: Mapping[str, Sequence[int]] | None = None,
    algorithm: SegmentationAlgorithm | None = None,
    description: str = "",
) -> None:
    """Write a binary DICOM SEG that refers to the images it was made from.

    Where the image was mended on its way (a tilted gantry, uneven spacing) the mask is brought back onto its slices,
    and the SEG's description (0070,0081) says so.

    Args:
        path: the file to write, whole or not at all.
        mask: label values (i, j, k) on the grid of the volume that was converted.
        source: the DICOM files of the volume, in any order; or one multi-frame file, with the frames that are its.
        names: name by label value; every name becomes a segment, numbered from 1 in the order of the values.
        regions: label values by the name of each region; then these become the segments, in their order, and a voxel
            may lie in several.
        algorithm: what made the mask.
        description: what SeriesDescription (0008,103E) adds to the algorithm, and ContentDescription (0070,0081) says.

    Raises:
        DicomError: the files make no volume or are a concatenation, or the mask lies on another grid or has a value
            without a name.
    """
    source = source if isinstance(source, SourceFiles) else SourceFiles(tuple(source))
    images, planes = read_source_images(source, "DICOM SEG")
    values, remark = place_on_slices(mask, planes)
    label_values = check_names(mask, names, path)
    if regions:
        segments = np.stack([np.isin(values, members) for members in regions.values()], axis=-1).astype(np.uint8)
    else:
        segments = _number_segments(label_values)[values]
    segment_names = list(regions or [names[value] for value in label_values])
    if not "".join(segment_names).isascii():
        for image in images:
            use_utf8(image)
    numbers = range(1, len(segment_names) + 1) if regions else label_values
    colours = [pick_class_colour(number) for number in numbers]
    with silence_highdicom():
        dataset = _build_segmentation(images, segments, segment_names, colours, algorithm or SegmentationAlgorithm())
    if source.frames:
        _restore_frame_numbers(dataset, source.frames)
    dataset.SeriesDescription = join_description(dataset.SeriesDescription, description)
    if description or remark:
        dataset.ContentDescription = (f"Mask {remark}" if remark else description)[:64]
    with atomic_path(path) as temporary:
        dataset.save_as(temporary, enforce_file_format=True)


def check_names(mask: Volume, names: Mapping[int, str], path: Path) -> list[int]:
    """Give the label values that have a name, ascending, once every value of the mask is among them."""
    named_values = sorted(value for value in names if value != 0)
    unnamed_values = sorted({int(value) for value in np.unique(mask.array)} - {0, *named_values})
    if unnamed_values or not named_values:
        raise DicomError(f"label values {unnamed_values} have no name; named are {named_values}", path=path)
    return named_values


def _number_segments(values: Sequence[int]) -> NDArray[np.uint8]:
    """Segment number by label value."""
    numbers = np.zeros(max(values) + 1, dtype=np.uint8)
    numbers[list(values)] = np.arange(1, len(values) + 1)
    return numbers


def _restore_frame_numbers(dataset: Dataset, frames: Sequence[int]) -> None:
    """Let references to the frames of :func:`read_source_images` name those of the whole object, which count from 1."""
    for group in dataset.PerFrameFunctionalGroupsSequence:
        for derivation in group.get("DerivationImageSequence") or []:
            for image in derivation.get("SourceImageSequence") or []:
                image.ReferencedFrameNumber = frames[int(image.ReferencedFrameNumber) - 1] + 1


def _build_segmentation(
    images: Sequence[Dataset],
    frames: NDArray[np.uint8],
    names: Sequence[str],
    colours: Sequence[str],
    algorithm: SegmentationAlgorithm,
) -> Dataset:
    import highdicom as hd

    dataset: Dataset = hd.seg.Segmentation(
        source_images=images,
        pixel_array=frames,
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[
            _describe_segment(number, name, label, colour, algorithm)
            for number, (name, label, colour) in enumerate(
                zip(names, label_segments(names), colours, strict=True), start=1
            )
        ],
        series_instance_uid=hd.UID(),
        series_number=algorithm.series_number,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer="Voxflow",
        manufacturer_model_name=algorithm.algorithm,
        software_versions=voxflow.__version__,
        device_serial_number="0",
        omit_empty_frames=bool(frames.any()),
        content_label="SEGMENTATION",
        series_description=f"{algorithm.algorithm} {algorithm.version}"[:64],
    )
    return dataset


def label_segments(names: Sequence[str]) -> list[str]:
    """SegmentLabel (0062,0005) of each name: LO, at most 64 characters, where a backslash parts values (PS3.5 6.2)."""
    distinct = make_distinct_names(names, lambda name: name.replace("\\", "_").strip()[:SEGMENT_LABEL] or "_")
    return [distinct[name] for name in names]


def _describe_segment(number: int, name: str, label: str, colour: str, algorithm: SegmentationAlgorithm) -> Any:
    import highdicom as hd
    from pydicom.sr.codedict import codes

    return hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=label,
        segmented_property_category=codes.SCT.AnatomicalStructure,
        segmented_property_type=find_code(name),
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            name=algorithm.algorithm, family=codes.DCM.ArtificialIntelligence, version=algorithm.version
        ),
        # Recommended Display CIELab Value (0062,000D).
        display_color=hd.color.CIELabColor.from_rgb(*parse_rgb(colour)),
    )


def find_code(name: str) -> Any:
    """The SNOMED CT code whose meaning is the name, such as "Spleen", else the one for any anatomical structure."""
    from pydicom.sr.codedict import codes

    keyword = "".join(word.capitalize() for word in name.replace("_", " ").split())
    try:
        return getattr(codes.SCT, keyword)
    except AttributeError:
        return codes.SCT.AnatomicalStructure
