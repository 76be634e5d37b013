"""Writing DICOM SEG: masks that any viewer lays over the series that they were made from."""

from __future__ import annotations

import contextlib
import logging
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

import voxflow
from voxflow.colours import parse_rgb, pick_class_colour
from voxflow.dicom.enhanced import read_frame_planes
from voxflow.dicom.headers import Plane, read_dataset
from voxflow.dicom.seg_source import place_on_slices
from voxflow.dicom.sources import SourceFiles
from voxflow.errors import DicomError
from voxflow.files import atomic_path
from voxflow.naming import make_distinct_names

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from pydicom.dataset import Dataset

    from voxflow.volumes import Volume

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

    Raises:
        DicomError: the files make no volume or are a concatenation, or the mask lies on another grid or has a value
            without a name.
    """
    source = source if isinstance(source, SourceFiles) else SourceFiles(tuple(source))
    images = [_complete_attributes(read_dataset(file)) for file in source.files]
    if len(images) > 1 and any(int(image.get("NumberOfFrames") or 1) > 1 for image in images):
        raise DicomError(f"no DICOM SEG is written for a concatenation, one image in {len(images)} multi-frame objects")
    if source.frames:
        images = [_select_frames(images[0], source.frames)]
    planes = read_frame_planes(images[0]) if _is_multiframe(images) else [_read_plane(image) for image in images]
    values, remark = place_on_slices(mask, planes)
    label_values = _check_names(mask, names, path)
    if regions:
        segments = np.stack([np.isin(values, members) for members in regions.values()], axis=-1).astype(np.uint8)
    else:
        segments = _number_segments(label_values)[values]
    segment_names = list(regions or [names[value] for value in label_values])
    numbers = range(1, len(segment_names) + 1) if regions else label_values
    colours = [pick_class_colour(number) for number in numbers]
    with _silence_highdicom():
        dataset = _build_segmentation(images, segments, segment_names, colours, algorithm or SegmentationAlgorithm())
    if source.frames:
        _restore_frame_numbers(dataset, source.frames)
    if remark:
        # LO: at most 64 characters (PS3.5 6.2).
        dataset.ContentDescription = f"Mask {remark}"[:64]
    with atomic_path(path) as temporary:
        dataset.save_as(temporary, enforce_file_format=True)


def _check_names(mask: Volume, names: Mapping[int, str], path: Path) -> list[int]:
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


def _select_frames(image: Dataset, frames: Sequence[int]) -> Dataset:
    """A multi-frame object's header with some of its frames; highdicom takes no two frames at one place."""
    groups = image.PerFrameFunctionalGroupsSequence
    image.PerFrameFunctionalGroupsSequence = [groups[frame] for frame in frames]
    image.NumberOfFrames = len(frames)
    return image


def _restore_frame_numbers(dataset: Dataset, frames: Sequence[int]) -> None:
    """Let references to the frames of :func:`_select_frames` name those of the whole object, which count from 1."""
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
                zip(names, _label_segments(names), colours, strict=True), start=1
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


def _label_segments(names: Sequence[str]) -> list[str]:
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
        segmented_property_type=_find_code(name),
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            name=algorithm.algorithm, family=codes.DCM.ArtificialIntelligence, version=algorithm.version
        ),
        # Recommended Display CIELab Value (0062,000D).
        display_color=hd.color.CIELabColor.from_rgb(*parse_rgb(colour)),
    )


def _find_code(name: str) -> Any:
    """The SNOMED CT code whose meaning is the name, such as "Spleen", else the one for any anatomical structure."""
    from pydicom.sr.codedict import codes

    keyword = "".join(word.capitalize() for word in name.replace("_", " ").split())
    try:
        return getattr(codes.SCT, keyword)
    except AttributeError:
        return codes.SCT.AnatomicalStructure


def _complete_attributes(image: Dataset) -> Dataset:
    """Leave nothing out, or in, that highdicom would refuse a whole SEG for: what can't be kept becomes empty."""
    from pydicom.valuerep import DA, TM

    for keyword in _MAY_BE_EMPTY:
        if keyword not in image:
            setattr(image, keyword, "")
    for keyword, kind in (("PatientBirthDate", DA), ("StudyDate", DA), ("StudyTime", TM)):
        try:
            kind(image.get(keyword))
        except (ValueError, TypeError):
            setattr(image, keyword, "")
    if image.PatientSex not in ("M", "F", "O"):
        image.PatientSex = ""
    _convert_to_utf8(image)
    return image


def _convert_to_utf8(image: Dataset) -> None:
    """Let text be UTF-8 where its character set is none that highdicom takes, as with Japanese code extensions."""
    from highdicom import SpecificCharacterSetValues

    character_sets = image.get("SpecificCharacterSet")
    if not character_sets:
        image.pop("SpecificCharacterSet", None)
        return
    supported = {character_set.value for character_set in SpecificCharacterSetValues}
    if isinstance(character_sets, str) and character_sets in supported and not character_sets.startswith("ISO 2022"):
        return
    # Decoded first, else pydicom would take the bytes for UTF-8 already.
    image.decode()
    image.SpecificCharacterSet = "ISO_IR 192"


@contextlib.contextmanager
def _silence_highdicom() -> Iterator[None]:
    """Keep what highdicom has to say of a patient's name to itself: it quotes the name."""
    logger = logging.getLogger("highdicom")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _is_multiframe(images: Sequence[Dataset]) -> bool:
    return len(images) == 1 and int(images[0].get("NumberOfFrames") or 1) > 1


def _read_plane(image: Dataset) -> Plane:
    position, orientation, spacing = (
        tuple(float(value) for value in image.get(keyword) or ())
        for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
    )
    return Plane(position, orientation, spacing, int(image.Rows), int(image.Columns))
