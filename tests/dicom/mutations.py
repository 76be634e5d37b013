"""Breaks DICOM files in the ways that disks, networks and archives do, always the same way for one seed."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom
from pydicom.tag import Tag

from tests.dicom.objects import Series, random_values, rtstruct, seg

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydicom.dataset import Dataset

    Random = np.random.Generator

LIES: dict[str, list[Any]] = {
    "Rows": [0, 1, 8, 10, 65535],
    "Columns": [0, 1, 6, 8, 65535],
    "NumberOfFrames": [-1, 0, 2, 100000, 2147483647],
    "BitsAllocated": [1, 8, 12, 32, 64],
    "BitsStored": [0, 1, 12, 17],
    "PixelRepresentation": [0, 3],
    "SamplesPerPixel": [0, 3],
    "PixelSpacing": [[0, 0], [-1, 1], [1e30, 1e30], ["nan", "1"], [1]],
    "ImagePositionPatient": [[0, 0], ["nan", "0", "0"], [1e30, 0, 0], ["inf", "1", "1"], [0, 0, 7.3]],
    "ImageOrientationPatient": [[0] * 6, [1, 0, 0, 1, 0, 0], [1, 0, 0], ["nan"] * 6, [0, 1, 0, 1, 0, 0]],
    "RescaleSlope": [0, 1e300, "nan", -1],
    "RescaleIntercept": [-1e300, "inf", ""],
    "SeriesInstanceUID": ["", "1.2.999", "x" * 64],
    "SOPClassUID": ["", "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.481.3"],
    "SOPInstanceUID": ["", "1.2.3"],
    "Modality": ["", "PT", "MR", "CR", "SEG"],
    "PhotometricInterpretation": ["RGB", "MONOCHROME1", "PALETTE COLOR", ""],
    "PixelPaddingRangeLimit": [0, 30, 65535],
    "PixelPaddingValue": [0, 200, 65535],
    "ImageType": [["ORIGINAL"], "", ["DERIVED", "SECONDARY", "LOCALIZER"]],
    "PatientID": ["", "A\\B", "\x00"],
}


def objects() -> list[tuple[str, bytes]]:
    """Whole files to break: a CT, plain and compressed, its SEG, and its RTSTRUCT."""
    series = Series(random_values().clip(0), uid="1.2.3", frame="1.2.31")
    wide = random_values((6, 36, 40)).clip(0).astype(np.uint16)
    pet = Series(wide, uid="1.2.4", frame="1.2.41", changes={"Modality": "PT", "Units": "BQML"})
    files = [(f"ct{k}", _bytes(d)) for k, d in enumerate(series.datasets())]
    compressed = pet.datasets()
    for k, dataset in enumerate(compressed):
        dataset.compress(
            pydicom.uid.RLELossless if k % 2 else pydicom.uid.JPEG2000Lossless, generate_instance_uid=False
        )
    files += [(f"pt{k}", _bytes(d)) for k, d in enumerate(compressed)]
    files.append(("seg", _bytes(seg(series, np.ones((6, 9, 7), np.uint8), ["Organ"]))))
    files.append(("rt", _bytes(rtstruct([np.array([[1.0, 1, 2], [5, 1, 2], [3, 8, 2]])], frame="1.2.31"))))
    return files


def broken(data: bytes, rng: Random) -> tuple[str, bytes]:
    """What was done to a file, and what it is now."""
    name = str(rng.choice(list(WAYS)))
    return name, WAYS[name](data, rng)


def _truncate(data: bytes, rng: Random) -> bytes:
    return data[: int(rng.integers(0, len(data)))]


def _flip_bytes(data: bytes, rng: Random) -> bytes:
    out = bytearray(data)
    for at in rng.integers(0, len(out), int(rng.integers(1, 40))):
        out[at] ^= int(rng.integers(1, 256))
    return bytes(out)


def _flip_header_bytes(data: bytes, rng: Random) -> bytes:
    out = bytearray(data)
    for at in rng.integers(128, min(len(out), 1200), int(rng.integers(1, 12))):
        out[at] = int(rng.choice([0, 255, int(rng.integers(0, 256))]))
    return bytes(out)


def _cut_hole(data: bytes, rng: Random) -> bytes:
    start, length = int(rng.integers(0, len(data))), int(rng.integers(1, 300))
    return data[:start] + data[start + length :]


def _zero_bytes(data: bytes, rng: Random) -> bytes:
    start, length = int(rng.integers(0, len(data))), int(rng.integers(1, 300))
    return data[:start] + bytes(len(data[start : start + length])) + data[start + length :]


def _remove_elements(data: bytes, rng: Random) -> bytes:
    dataset = _read(data)
    for tag in rng.choice(list(dataset.keys()), int(rng.integers(1, 4))):
        if Tag(int(tag)) in dataset:
            del dataset[Tag(int(tag))]
    return _bytes(dataset)


def _change_values(data: bytes, rng: Random) -> bytes:
    dataset = _read(data)
    for keyword in rng.choice(list(LIES), int(rng.integers(1, 4))):
        choices = LIES[str(keyword)]
        value = choices[int(rng.integers(0, len(choices)))]
        if str(keyword).startswith("PixelPadding"):
            dataset.add_new(str(keyword), "US", value)
        else:
            setattr(dataset, str(keyword), value)
    return _bytes(dataset)


def _change_pixels(data: bytes, rng: Random) -> bytes:
    dataset = _read(data)
    if "PixelData" in dataset:
        length = int(rng.integers(0, 3 * len(dataset.PixelData))) // 2 * 2
        dataset.PixelData = (dataset.PixelData * 3)[:length]
    return _bytes(dataset)


def _change_syntax(data: bytes, rng: Random) -> bytes:
    names = ["ExplicitVRBigEndian", "JPEGBaseline8Bit", "JPEG2000Lossless", "RLELossless", "ImplicitVRLittleEndian"]
    syntax = str(getattr(pydicom.uid, str(rng.choice(names)))).encode()
    present = str(_read(data).file_meta.TransferSyntaxUID).encode()
    return data.replace(present, syntax.ljust(len(present), b"\0")[: len(present)], 1)


WAYS: dict[str, Callable[[bytes, Random], bytes]] = {
    "truncated": _truncate,
    "flipped": _flip_bytes,
    "flipped header": _flip_header_bytes,
    "hole": _cut_hole,
    "zeroed": _zero_bytes,
    "removed": _remove_elements,
    "lying": _change_values,
    "wrong pixels": _change_pixels,
    "wrong syntax": _change_syntax,
}


def _read(data: bytes) -> Dataset:
    return pydicom.dcmread(io.BytesIO(data))


def _bytes(dataset: Dataset) -> bytes:
    stream = io.BytesIO()
    dataset.preamble = bytes(128)
    dataset.save_as(stream, enforce_file_format=False)
    return stream.getvalue()
