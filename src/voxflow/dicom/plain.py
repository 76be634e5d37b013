"""Reading header and uncompressed pixels of DICOM files that keep every rule, many times faster than pydicom."""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from voxflow.dicom.elements import EXPLICIT_VR, IMPLICIT_VR, Elements, UnusualFileError, read_elements
from voxflow.dicom.headers import (
    IMAGE_CLASSES,
    VARYING,
    Concatenation,
    DicomHeader,
    PlainPixels,
    Plane,
)
from voxflow.dicom.unusual_headers import parse_unusual_header
from voxflow.errors import DicomError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

# The charsets whose ASCII half is ASCII; others may mean something else by a byte.
_CHARSETS = ("", "ISO_IR 6", "ISO_IR 100", "ISO_IR 192")
_ELEMENTS = {
    "SpecificCharacterSet": (0x00080005, b"CS"),
    "ImageType": (0x00080008, b"CS"),
    "SOPClassUID": (0x00080016, b"UI"),
    "SOPInstanceUID": (0x00080018, b"UI"),
    "AcquisitionTime": (0x00080032, b"TM"),
    "ContentTime": (0x00080033, b"TM"),
    "Modality": (0x00080060, b"CS"),
    "PatientID": (0x00100020, b"LO"),
    "EchoTime": (0x00180081, b"DS"),
    "InversionTime": (0x00180082, b"DS"),
    "TriggerTime": (0x00181060, b"DS"),
    "FlipAngle": (0x00181314, b"DS"),
    "DiffusionBValue": (0x00189087, b"FD"),
    "StudyInstanceUID": (0x0020000D, b"UI"),
    "SeriesInstanceUID": (0x0020000E, b"UI"),
    "SeriesNumber": (0x00200011, b"IS"),
    "AcquisitionNumber": (0x00200012, b"IS"),
    "ImagePositionPatient": (0x00200032, b"DS"),
    "ImageOrientationPatient": (0x00200037, b"DS"),
    "FrameOfReferenceUID": (0x00200052, b"UI"),
    "TemporalPositionIdentifier": (0x00200100, b"IS"),
    "ConcatenationUID": (0x00209161, b"UI"),
    "InConcatenationNumber": (0x00209162, b"US"),
    "InConcatenationTotalNumber": (0x00209163, b"US"),
    "SamplesPerPixel": (0x00280002, b"US"),
    "PhotometricInterpretation": (0x00280004, b"CS"),
    "NumberOfFrames": (0x00280008, b"IS"),
    "Rows": (0x00280010, b"US"),
    "Columns": (0x00280011, b"US"),
    "PixelSpacing": (0x00280030, b"DS"),
    "BitsAllocated": (0x00280100, b"US"),
    "BitsStored": (0x00280101, b"US"),
    "HighBit": (0x00280102, b"US"),
    "PixelRepresentation": (0x00280103, b"US"),
    "RescaleIntercept": (0x00281052, b"DS"),
    "RescaleSlope": (0x00281053, b"DS"),
    "RescaleType": (0x00281054, b"LO"),
    "LossyImageCompression": (0x00282110, b"CS"),
    "FrameReferenceTime": (0x00541300, b"DS"),
}
# PS3.5 6.2: of a UID and of a PatientID. Numbers are often written with more digits than 16.
LONGEST_UID, LONGEST_RAW_TEXT = 64, 255
# US or SS, as the pixels are: both are taken.
_PADDING = {"PixelPaddingValue": (0x00280120, b""), "PixelPaddingRangeLimit": (0x00280121, b"")}
_TAGS = {name: tag for name, (tag, _) in (_ELEMENTS | _PADDING).items()}
# By these, pixels mean something else than slope and intercept at the top level say: PixelPresentation,
# ModalityLUTSequence, SharedFunctionalGroupsSequence.
_UNPLAIN = {0x00089205: b"", 0x00283000: b"SQ", 0x52009229: b"SQ"}
_VRS = dict((*_ELEMENTS.values(), *_PADDING.values())) | _UNPLAIN
# In the order of VARYING, as DicomHeader.varying has them.
_VARYING = tuple(name.split()[0] for name in VARYING)


def read_header(path: Path) -> DicomHeader | None:
    """Read the header of a DICOM object: fast where the file keeps every rule, by pydicom otherwise.

    Returns:
        The header; None for a file that is no DICOM object, and for what is no file and is never opened.
    """
    try:
        return read_plain_header(path)
    except (UnusualFileError, ValueError, OverflowError, OSError):
        return parse_unusual_header(path)


def read_plain_header(path: Path) -> DicomHeader:
    """Read the header of a DICOM file whose every element is as it should be.

    Raises:
        UnusualFileError, ValueError, OverflowError: it is not; pydicom may read it or refuse it.
        OSError: the file can't be read.
    """
    elements = read_elements(path, _VRS)
    fields = _HeaderFields(elements)
    sop_class, sop_uid = fields.read_text("SOPClassUID"), fields.read_text("SOPInstanceUID")
    if not sop_class or not sop_uid or fields.read_text("SpecificCharacterSet") not in _CHARSETS:
        raise UnusualFileError
    plane = Plane(
        position=fields.read_numbers("ImagePositionPatient"),
        orientation=fields.read_numbers("ImageOrientationPatient"),
        spacing=fields.read_numbers("PixelSpacing"),
        rows=fields.read_count("Rows"),
        columns=fields.read_count("Columns"),
    )
    if not plane.rows and sop_class in IMAGE_CLASSES:
        raise UnusualFileError
    return DicomHeader(
        path=path,
        sop_class=sop_class,
        sop_uid=sop_uid,
        series_uid=fields.read_text("SeriesInstanceUID"),
        study_uid=fields.read_text("StudyInstanceUID"),
        patient_id=fields.read_text("PatientID"),
        modality=fields.read_text("Modality"),
        image_type=fields.read_texts("ImageType"),
        frame_of_reference=fields.read_text("FrameOfReferenceUID"),
        frame_count=int(fields.read_text("NumberOfFrames") or 1) or 1,
        samples=fields.read_count("SamplesPerPixel") or 1,
        plane=plane,
        echo_time=fields.read_text("EchoTime"),
        acquisition=fields.read_text("AcquisitionNumber"),
        temporal_position=fields.read_text("TemporalPositionIdentifier"),
        varying=tuple(fields.read_text(name) for name in _VARYING),
        pixels=_locate_pixels(fields, plane),
        concatenation=_read_concatenation(fields),
        series_number=fields.read_text("SeriesNumber"),
    )


def read_plain_values(header: DicomHeader) -> NDArray[Any]:
    """Read the stored values of an object with plain pixels, the unused high bits cleared.

    Returns:
        (rows, columns), int16 or uint16, before rescale.

    Raises:
        DicomError: the file has become shorter since its header was read, or its pixels are not plain.
    """
    plane, pixels = header.plane, header.pixels
    if pixels is None:
        raise DicomError("pixels are not plain", path=header.path)
    values = np.empty((plane.rows, plane.columns), dtype="<i2" if pixels.signed else "<u2")
    with header.path.open("rb", buffering=0) as stream:
        stream.seek(pixels.offset)
        byte_count = stream.readinto(values.data.cast("B")) or 0
    if byte_count != values.nbytes:
        raise DicomError(f"{values.nbytes} bytes of pixels are claimed and {byte_count} are there", where="(7FE0,0010)")
    unused = 16 - pixels.bits_stored
    if 0 < unused < 15:
        values <<= unused
        values >>= unused
    return values


class _HeaderFields:
    """The values of the elements that were read; what pydicom might read in another way raises UnusualFileError."""

    def __init__(self, elements: Elements) -> None:
        self.elements = elements
        self._values = elements.values

    def read_texts(self, name: str) -> tuple[str, ...]:
        """Read the values of a text attribute, which a backslash separates; none where it is missing or empty.

        Args:
            name: keyword of the attribute.

        Raises:
            UnusualFileError: pydicom might read another text.
        """
        tag, vr = _ELEMENTS[name]
        raw = self._values.get(tag)
        return _parse_texts(vr, raw) if raw else ()

    def read_text(self, name: str) -> str:
        """Read the only value of a text attribute; empty where there is none.

        Raises:
            UnusualFileError: there are several.
        """
        tag, vr = _ELEMENTS[name]
        raw = self._values.get(tag)
        if not raw:
            return ""
        values = _parse_texts(vr, raw)
        if len(values) > 1:
            raise UnusualFileError
        return values[0] if values else ""

    def read_numbers(self, name: str) -> tuple[float, ...]:
        """Read the values of a decimal string."""
        tag, vr = _ELEMENTS[name]
        raw = self._values.get(tag)
        return _parse_numbers(vr, raw) if raw else ()

    def read_count(self, name: str) -> int:
        """Read an unsigned short; 0 where it is missing."""
        return self.read_short(name) or 0

    def read_short(self, name: str) -> int | None:
        """Read an unsigned short; None where it is missing."""
        raw = self._values.get(_TAGS[name])
        if raw is None:
            return None
        if len(raw) != 2:
            raise UnusualFileError
        return int.from_bytes(raw, "little")


# The slices of a series hold the same texts, but for a few.
@lru_cache(maxsize=1024)
def _parse_texts(vr: bytes, raw: bytes) -> tuple[str, ...]:
    if vr == b"FD":
        return tuple(str(value) for (value,) in struct.iter_unpack("<d", raw))
    if len(raw) > LONGEST_UID and (vr in (b"UI", b"LO") or len(raw) > LONGEST_RAW_TEXT):
        raise UnusualFileError
    # PS3.5 6.2: UIDs are padded by a zero byte, other text by a blank.
    text = raw.rstrip(b"\0" if vr == b"UI" else b" ").decode("latin-1")
    if not text:
        return ()
    if not text.isascii() or not text.isprintable():
        raise UnusualFileError
    values = tuple(text.split("\\"))
    # Blanks within and numbers such as "+1" or "007" are for pydicom to understand.
    if " " in text and any(value != value.strip() for value in values):
        raise UnusualFileError
    if vr == b"IS" and any(str(int(value)) != value for value in values):
        raise UnusualFileError
    return values


@lru_cache(maxsize=1024)
def _parse_numbers(vr: bytes, raw: bytes) -> tuple[float, ...]:
    return tuple(map(float, _parse_texts(vr, raw)))


def _read_concatenation(fields: _HeaderFields) -> Concatenation | None:
    uid = fields.read_text("ConcatenationUID")
    if not uid:
        return None
    return Concatenation(
        uid, fields.read_count("InConcatenationNumber"), fields.read_count("InConcatenationTotalNumber")
    )


def _locate_pixels(fields: _HeaderFields, plane: Plane) -> PlainPixels | None:
    """Where one uncompressed grey frame of 16 bits lies; None for all that is less plain."""
    elements, bits, sign = fields.elements, fields.read_count("BitsStored"), fields.read_short("PixelRepresentation")
    is_plain = (
        elements.transfer_syntax in (EXPLICIT_VR, IMPLICIT_VR)
        and elements.pixels is not None
        and elements.pixels[1] == 2 * plane.rows * plane.columns > 0
        and sum(elements.pixels) <= elements.size
        and fields.read_count("BitsAllocated") == 16
        and 0 < bits <= 16
        and fields.read_short("HighBit") in (None, bits - 1)
        and _UNPLAIN.keys().isdisjoint(elements.values)
        and sign in (0, 1)
        and fields.read_count("SamplesPerPixel") == 1
        and fields.read_text("NumberOfFrames") in ("", "1")
        and fields.read_text("PhotometricInterpretation") in ("MONOCHROME1", "MONOCHROME2")
    )
    if not is_plain or elements.pixels is None:
        return None
    slope, intercept = fields.read_numbers("RescaleSlope"), fields.read_numbers("RescaleIntercept")
    return PlainPixels(
        offset=elements.pixels[0],
        signed=sign == 1,
        bits_stored=bits,
        slope=slope[0] if slope else None,
        intercept=intercept[0] if intercept else None,
        rescale_type=fields.read_text("RescaleType"),
        padding=fields.read_short("PixelPaddingValue"),
        padding_limit=fields.read_short("PixelPaddingRangeLimit"),
        lossy=fields.read_text("LossyImageCompression"),
    )
