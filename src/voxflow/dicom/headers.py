"""The header of a DICOM file as one typed record; and reading of whole data sets by pydicom, for files of any kind."""

from __future__ import annotations

import os
import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from voxflow.dicom.elements import UNDEFINED
from voxflow.dicom.files import UnfitFileError, open_dataset
from voxflow.dicom.quick_pickle import QuickPickle

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from pydicom.dataset import Dataset

SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
LABEL_MAP_SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.7"
RT_STRUCTURE_SET = "1.2.840.10008.5.1.4.1.1.481.3"
LABEL_CLASSES = (SEGMENTATION, LABEL_MAP_SEGMENTATION, RT_STRUCTURE_SET)
# CT, MR and PET, each enhanced and converted from single-frame objects.
ENHANCED_CLASSES = tuple(f"1.2.840.10008.5.1.4.1.1.{end}" for end in ("2.1", "2.2", "4.1", "4.4", "130", "128.1"))
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
MEDIA_STORAGE_DIRECTORY = "1.2.840.10008.1.3.10"
# CR, DX for presentation and for processing, CT, MR, PET: the images that are converted.
IMAGE_CLASSES = (
    *(f"1.2.840.10008.5.1.4.1.1.{end}" for end in ("1", "1.1", "1.1.1", "2", "4", "128")),
    *ENHANCED_CLASSES,
)

# What pydicom raises at values that make no sense; its readers document none of them.
PARSE_ERRORS = (
    OSError,
    EOFError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    ArithmeticError,
    RuntimeError,
    MemoryError,
    struct.error,
    zlib.error,
)

# Further attributes that may tell the volumes of one series apart, each with its tag.
VARYING = (
    "InversionTime (0018,0082)",
    "FlipAngle (0018,1314)",
    "DiffusionBValue (0018,9087)",
    "TriggerTime (0018,1060)",
    "FrameReferenceTime (0054,1300)",
    "AcquisitionTime (0008,0032)",
    "ContentTime (0008,0033)",
)


@dataclass(frozen=True, slots=True)
class Plane(QuickPickle):
    """Where one slice lies in the patient (PS3.3 C.7.6.2).

    Attributes:
        position: ImagePositionPatient (0020,0032), centre of the first pixel, mm, LPS.
        orientation: ImageOrientationPatient (0020,0037), the directions in which the column index and the row
            index grow, as unit vectors one after the other.
        spacing: PixelSpacing (0028,0030), mm between rows, mm between columns.
        rows, columns: the matrix.
    """

    position: tuple[float, ...]
    orientation: tuple[float, ...]
    spacing: tuple[float, ...]
    rows: int
    columns: int


@dataclass(frozen=True, slots=True)
class PlainPixels(QuickPickle):
    """Where the pixels of one uncompressed grey frame of 16 bits lie, and what they mean.

    Attributes:
        offset: of the first pixel in the file, bytes.
        signed: PixelRepresentation (0028,0103) is 1.
        bits_stored: (0028,0101).
        slope, intercept: RescaleSlope (0028,1053) and RescaleIntercept (0028,1052); None where there are none.
        rescale_type: (0028,1054).
        padding, padding_limit: PixelPaddingValue (0028,0120) and PixelPaddingRangeLimit (0028,0121), as unsigned.
        lossy: LossyImageCompression (0028,2110).
    """

    offset: int
    signed: bool
    bits_stored: int
    slope: float | None = None
    intercept: float | None = None
    rescale_type: str = ""
    padding: int | None = None
    padding_limit: int | None = None
    lossy: str = ""

    def to_attributes(self, modality: str) -> dict[str, Any]:
        """Give the attributes that a pydicom data set with these pixels would hold, by keyword.

        Args:
            modality: Modality (0008,0060), which stands in the header.
        """
        return {
            "Modality": modality,
            "PixelRepresentation": int(self.signed),
            "BitsAllocated": 16,
            "BitsStored": self.bits_stored,
            "RescaleSlope": self.slope,
            "RescaleIntercept": self.intercept,
            "RescaleType": self.rescale_type,
            "PixelPaddingValue": self.padding,
            "PixelPaddingRangeLimit": self.padding_limit,
            "LossyImageCompression": self.lossy,
        }


@dataclass(frozen=True, slots=True)
class Concatenation(QuickPickle):
    """Of which image an object is one part, where a multi-frame image is cut into several (PS3.3 C.7.6.16.2.2.4).

    Attributes:
        uid: ConcatenationUID (0020,9161).
        number: InConcatenationNumber (0020,9162), from 1.
        total: InConcatenationTotalNumber (0020,9163); 0 where it is missing.
    """

    uid: str
    number: int
    total: int


class DicomAttributes(Protocol):
    """Anything that gives the values of DICOM attributes by their keyword: a pydicom data set, or a dictionary."""

    def get(self, keyword: str, /) -> Any:
        """Give the value of an attribute; None where it is not there."""


@dataclass(frozen=True, slots=True)
class DicomHeader(QuickPickle):
    """The header of one DICOM object, as far as conversion needs it.

    UIDs and texts that are not there are empty; ``varying`` follows :data:`VARYING`. ``pixels`` is known where they can
    be read without a parser. ``fault`` says why nothing can be made of the object, though it is DICOM.
    """

    path: Path
    sop_class: str
    sop_uid: str
    series_uid: str
    study_uid: str
    patient_id: str
    modality: str
    image_type: tuple[str, ...]
    frame_of_reference: str
    frame_count: int
    samples: int
    plane: Plane
    echo_time: str
    acquisition: str
    temporal_position: str
    varying: tuple[str, ...]
    pixels: PlainPixels | None = None
    concatenation: Concatenation | None = None
    series_number: str = ""
    fault: str = ""

    @property
    def is_multiframe(self) -> bool:
        """Whether its frames are told apart by functional groups; a part of a concatenation may have one alone."""
        return self.frame_count > 1 or self.concatenation is not None

    @property
    def patient(self) -> str:
        """A text that tells patients apart: PatientID (0010,0020), or the study's UID where there is none."""
        return f"id {self.patient_id}" if self.patient_id else f"study {self.study_uid}"


def read_dataset(path: Path, *, pixels: bool = False, tags: list[str] | None = None) -> Dataset:
    """Read a DICOM file by pydicom; values that break their rules stay as they are, since hospitals send them.

    Args:
        path: the file; one without preamble and meta information is read too.
        pixels: read the pixels as well.
        tags: keywords of the only attributes to read; None reads all.

    Raises:
        ValueError: it is cut off within an element, or asks for more than is taken.
        pydicom.errors.InvalidDicomError: no DICOM file.
    """
    import pydicom
    from pydicom import config

    # Reading is lazy, so that this can't be undone after the call.
    config.settings.reading_validation_mode = config.IGNORE
    # A number of a wrong length stays bytes; else it raises an error that is no ValueError.
    config.convert_wrong_length_to_UN = True
    # Forced, since old exports have neither preamble nor meta information.
    stream = open_dataset(path)
    dataset = pydicom.dcmread(stream, stop_before_pixels=not pixels, specific_tags=tags, force=True)
    # Of a structure set, contours would be lost; of a header, the rest is still worth something.
    cut_tag = _drop_cut_element(dataset)
    if cut_tag and tags is None:
        raise UnfitFileError(f"cut off within {cut_tag}")
    # pydicom decodes no pixels without it.
    if "TransferSyntaxUID" not in dataset.file_meta:
        dataset.file_meta.add_new(0x00020010, "UI", _detect_transfer_syntax(dataset))
    return dataset


def _drop_cut_element(dataset: Dataset) -> str:
    """Drop an element that the file ends in, of which pydicom gives what is there; returns its tag, or nothing."""
    from pydicom.dataelem import RawDataElement

    last: Any = dataset.get_item(max(dataset.keys())) if len(dataset) else None
    if not isinstance(last, RawDataElement) or last.length == UNDEFINED or len(last.value or b"") >= last.length:
        return ""
    del dataset[last.tag]
    return str(last.tag)


def read_concatenation(paths: Sequence[Path], decode: Callable[[Dataset], NDArray[Any]]) -> Dataset:
    """Read a multi-frame image that is cut into several objects as one object, with its pixels.

    Args:
        paths: of the objects, in the order of InConcatenationNumber (0020,9162); one path is read as it is.
        decode: decodes the compressed pixels of one of several.
    """
    datasets = [read_dataset(path, pixels=True) for path in paths]
    if len(datasets) == 1:
        return datasets[0]
    for dataset in datasets:
        if dataset.file_meta.TransferSyntaxUID.is_encapsulated:
            dataset.PixelData = decode(dataset).tobytes()
            dataset.file_meta.add_new(0x00020010, "UI", "1.2.840.10008.1.2.1")
            # Decoders give the sample as it is, wherever its bits were.
            dataset.HighBit = int(dataset.BitsStored) - 1
    joined = datasets[0]
    frame_counts = [int(dataset.get("NumberOfFrames") or 1) for dataset in datasets]
    frame_bytes = int(joined.Rows) * int(joined.Columns) * int(joined.BitsAllocated) // 8
    pixels = [dataset.PixelData[: count * frame_bytes] for dataset, count in zip(datasets, frame_counts, strict=True)]
    groups = [group for dataset in datasets for group in dataset.PerFrameFunctionalGroupsSequence]
    joined.PerFrameFunctionalGroupsSequence, joined.NumberOfFrames = groups, sum(frame_counts)
    joined.PixelData = b"".join(pixels)
    return joined


def _detect_transfer_syntax(dataset: Dataset) -> str:
    """The syntax that a file without meta header turned out to have; such files are never compressed."""
    implicit, little = dataset.original_encoding
    if implicit:
        return "1.2.840.10008.1.2"
    return "1.2.840.10008.1.2.1" if little else "1.2.840.10008.1.2.2"


def explain_parse_error(error: BaseException) -> str:
    """Say in words why an object can't be read; what the error itself says may hold values of the patient's."""
    if isinstance(error, UnfitFileError):
        return f"unreadable: {error}"
    if isinstance(error, MemoryError):
        return "unreadable: it asks for more memory than there is"
    if isinstance(error, OSError) and not isinstance(error, EOFError) and error.errno is not None:
        return f"unreadable: {os.strerror(error.errno)}"
    return "unreadable: the file is damaged or cut off, or one of its values is not of the kind that DICOM asks for"


def describe_unreadable(path: Path, fault: str) -> DicomHeader:
    """Give the header of an object of which nothing can be read, with the reason."""
    plane = Plane((), (), (), 0, 0)
    return DicomHeader(path, "", "", "", "", "", "", (), "", 1, 1, plane, "", "", "", ("",) * len(VARYING), fault=fault)
