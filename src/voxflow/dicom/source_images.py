"""The images that an object about a mask refers to: headers that are fit to be copied, and where their slices lie."""

from __future__ import annotations

import contextlib
import logging
import warnings
from typing import TYPE_CHECKING

from voxflow.dicom.enhanced import read_frame_planes
from voxflow.dicom.headers import Plane, read_dataset
from voxflow.errors import DicomError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pydicom.dataset import Dataset

    from voxflow.dicom.sources import SourceFiles

UTF_8 = "ISO_IR 192"
# Attributes that an object takes over from its images and may leave empty, but not leave out.
MAY_BE_EMPTY = (
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


def read_source_images(source: SourceFiles, kind: str) -> tuple[list[Dataset], list[Plane]]:
    """Read the headers of a volume's files, complete and without what can't be copied, and where each slice lies.

    Args:
        source: the volume's files, and its frames of a multi-frame one.
        kind: what is written about them, for messages.

    Returns:
        Images, and the plane of each; of a multi-frame object one image with the volume's frames, and their planes.

    Raises:
        DicomError: the volume is a concatenation.
    """
    images = [_complete_attributes(read_dataset(file)) for file in source.files]
    if len(images) > 1 and any(int(image.get("NumberOfFrames") or 1) > 1 for image in images):
        raise DicomError(f"no {kind} is written for a concatenation, one image in {len(images)} multi-frame objects")
    if source.frames:
        images = [_select_frames(images[0], source.frames)]
    return images, read_frame_planes(images[0]) if is_multiframe(images) else [_read_plane(image) for image in images]


@contextlib.contextmanager
def silence_highdicom() -> Iterator[None]:
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


def use_utf8(image: Dataset) -> None:
    """Let the texts of a header be UTF-8, so that others of any alphabet can stand beside them."""
    if image.get("SpecificCharacterSet") != UTF_8:
        # Decoded first, else pydicom would take the bytes for UTF-8 already; and once, since it would not do it twice.
        image.decode()
        image.SpecificCharacterSet = UTF_8


def join_description(text: str, description: str) -> str:
    """Add what a mask's reader should know to a text; LO has at most 64 characters (PS3.5 6.2)."""
    return (f"{text}: {description}" if description else text)[:64]


def is_multiframe(images: Sequence[Dataset]) -> bool:
    """Whether the images of a volume are one multi-frame object."""
    return len(images) == 1 and int(images[0].get("NumberOfFrames") or 1) > 1


def _select_frames(image: Dataset, frames: Sequence[int]) -> Dataset:
    """A multi-frame object's header with some of its frames; highdicom takes no two frames at one place."""
    groups = image.PerFrameFunctionalGroupsSequence
    image.PerFrameFunctionalGroupsSequence = [groups[frame] for frame in frames]
    image.NumberOfFrames = len(frames)
    return image


def _complete_attributes(image: Dataset) -> Dataset:
    """Leave nothing out, or in, that highdicom would refuse a whole SEG for: what can't be kept becomes empty."""
    from pydicom.valuerep import DA, TM

    for keyword in MAY_BE_EMPTY:
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
    use_utf8(image)


def _read_plane(image: Dataset) -> Plane:
    position, orientation, spacing = (
        tuple(float(value) for value in image.get(keyword) or ())
        for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
    )
    return Plane(position, orientation, spacing, int(image.Rows), int(image.Columns))
