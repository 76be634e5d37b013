"""Reads the header of a DICOM object by pydicom: for those that the quick reader in ``plain`` leaves alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from voxflow.dicom.files import find_start
from voxflow.dicom.headers import (
    IMAGE_CLASSES,
    MEDIA_STORAGE_DIRECTORY,
    PARSE_ERRORS,
    VARYING,
    Concatenation,
    DicomHeader,
    Plane,
    describe_unreadable,
    explain_parse_error,
    read_dataset,
)
from voxflow.files import describe_special_file

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pydicom.dataset import Dataset

_TAGS = [
    "SOPClassUID",
    "SOPInstanceUID",
    "SeriesInstanceUID",
    "SeriesNumber",
    "StudyInstanceUID",
    "PatientID",
    "Modality",
    "ImageType",
    "FrameOfReferenceUID",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "SamplesPerPixel",
    "EchoTime",
    "AcquisitionNumber",
    "TemporalPositionIdentifier",
    "ConcatenationUID",
    "InConcatenationNumber",
    "InConcatenationTotalNumber",
]
_VARYING_TAGS = [name.split()[0] for name in VARYING]
_COUNT_TAGS = {
    "Rows": "(0028,0010)",
    "Columns": "(0028,0011)",
    "NumberOfFrames": "(0028,0008)",
    "SamplesPerPixel": "(0028,0002)",
}
# Texts with their tag and the most characters that they may have: of what reaches tables, as PS3.5 6.2 says; of others,
# what no scanner writes.
LONGEST_TEXT = 1024
_TEXT_TAGS = {
    "SOPClassUID": ("(0008,0016)", 64),
    "SOPInstanceUID": ("(0008,0018)", 64),
    "SeriesInstanceUID": ("(0020,000E)", 64),
    "StudyInstanceUID": ("(0020,000D)", 64),
    "FrameOfReferenceUID": ("(0020,0052)", 64),
    "ConcatenationUID": ("(0020,9161)", 64),
    "PatientID": ("(0010,0020)", 64),
    "Modality": ("(0008,0060)", 16),
    "SeriesNumber": ("(0020,0011)", LONGEST_TEXT),
    "EchoTime": ("(0018,0081)", LONGEST_TEXT),
    "AcquisitionNumber": ("(0020,0012)", LONGEST_TEXT),
    "TemporalPositionIdentifier": ("(0020,0100)", LONGEST_TEXT),
}
_PLANE_TAGS = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")


def parse_unusual_header(path: Path) -> DicomHeader | None:
    """Read the header of a DICOM object by pydicom, many times slower than ``read_header`` in ``plain``.

    Returns:
        The header, with its ``fault`` where it can't be trusted; None for a file that is no DICOM object, and for what
        is no file and is never opened.
    """
    if describe_special_file(path):
        return None
    start = find_start(path)
    if not start:
        return None
    if start == "cut":
        return describe_unreadable(path, "cut off in its preamble, or its first block is lost")
    try:
        header = _build_header(path, read_dataset(path, tags=[*_TAGS, *_VARYING_TAGS]))
    except PARSE_ERRORS as error:
        header = describe_unreadable(path, explain_parse_error(error))
    return None if start == "number" and not header.sop_class else header


def _build_header(path: Path, dataset: Dataset) -> DicomHeader:
    texts = {name: _read_text(dataset, name) for name in _TEXT_TAGS}
    stored_class = str(dataset.file_meta.get("MediaStorageSOPClassUID", ""))
    texts["SOPClassUID"] = texts["SOPClassUID"] or stored_class
    texts["SOPInstanceUID"] = texts["SOPInstanceUID"] or str(dataset.file_meta.get("MediaStorageSOPInstanceUID", ""))
    varying = tuple(_read_text(dataset, keyword) for keyword in _VARYING_TAGS)
    faults = _blank_long_texts(texts, max(map(len, varying)))
    counts = {name: _read_count(dataset, name) for name in _COUNT_TAGS}
    numbers = {name: _read_numbers(dataset, name) for name in _PLANE_TAGS}
    position, orientation, spacing = (values or () for values in numbers.values())
    plane = Plane(position, orientation, spacing, counts["Rows"] or 0, counts["Columns"] or 0)
    faults += _list_faults(texts, counts, numbers)
    # Where the file is cut off within the class, the file meta has it whole.
    if counts["Rows"] == 0 and {texts["SOPClassUID"], stored_class} & set(IMAGE_CLASSES):
        faults.append("Rows (0028,0010) is missing: the file is cut off")
    concatenation = Concatenation(
        texts["ConcatenationUID"],
        _read_count(dataset, "InConcatenationNumber") or 0,
        _read_count(dataset, "InConcatenationTotalNumber") or 0,
    )
    return DicomHeader(
        path=path,
        sop_class=texts["SOPClassUID"],
        sop_uid=texts["SOPInstanceUID"],
        series_uid=texts["SeriesInstanceUID"],
        study_uid=texts["StudyInstanceUID"],
        patient_id=texts["PatientID"],
        modality=texts["Modality"],
        image_type=tuple(str(part) for part in _read_values(dataset, "ImageType")),
        frame_of_reference=texts["FrameOfReferenceUID"],
        frame_count=counts["NumberOfFrames"] or 1,
        samples=counts["SamplesPerPixel"] or 1,
        plane=plane,
        echo_time=texts["EchoTime"],
        acquisition=texts["AcquisitionNumber"],
        temporal_position=texts["TemporalPositionIdentifier"],
        varying=varying,
        concatenation=concatenation if concatenation.uid else None,
        series_number=texts["SeriesNumber"],
        fault="; ".join(dict.fromkeys(faults)),
    )


def _blank_long_texts(texts: dict[str, str], longest_varying: int) -> list[str]:
    """Take out texts that are longer than their kind may be, so that no table gets them; returns a fault for each."""
    faults = []
    for name, (tag, most) in _TEXT_TAGS.items():
        if len(texts[name]) > most or not texts[name].isprintable():
            faults.append(f"{name} {tag} has {len(texts[name])} characters, at most {most} printable ones are allowed")
            texts[name] = ""
    if longest_varying > LONGEST_TEXT:
        faults.append(f"an attribute has {longest_varying} characters")
    return faults


def _list_faults(
    texts: Mapping[str, str], counts: Mapping[str, int | None], numbers: Mapping[str, tuple[float, ...] | None]
) -> list[str]:
    if texts["SOPClassUID"] == MEDIA_STORAGE_DIRECTORY:
        return ["a DICOMDIR, a list of DICOM files"]
    has_class, has_uid = texts["SOPClassUID"], texts["SOPInstanceUID"]
    return [
        *([] if has_class else ["SOPClassUID (0008,0016) is missing: nothing says what kind of object it is"]),
        *([] if has_uid else ["SOPInstanceUID (0008,0018) is missing"]),
        *(f"{name} {_COUNT_TAGS[name]} is no whole number" for name, count in counts.items() if count is None),
        *(f"{name} is no number, as with a decimal comma" for name, values in numbers.items() if values is None),
    ]


def _read_text(dataset: Dataset, keyword: str) -> str:
    try:
        value = dataset.get(keyword)
    except PARSE_ERRORS:
        # As it is written, such as a number with a decimal comma.
        value = bytes(dataset.get_item(keyword).value).decode("ascii", "replace")
    return "" if value is None else str(value).strip()


def _read_values(dataset: Dataset, keyword: str) -> list[Any]:
    value = dataset.get(keyword)
    if value is None or value == "":
        return []
    return list(value) if not isinstance(value, str) and hasattr(value, "__iter__") else [value]


def _read_count(dataset: Dataset, keyword: str) -> int | None:
    """A whole number, 0 where it is missing; None where it is none."""
    try:
        return int(dataset.get(keyword) or 0)
    except PARSE_ERRORS:
        return None


def _read_numbers(dataset: Dataset, keyword: str) -> tuple[float, ...] | None:
    """The values of an attribute; None where one is no number."""
    try:
        return tuple(float(value) for value in _read_values(dataset, keyword))
    except PARSE_ERRORS:
        return None
