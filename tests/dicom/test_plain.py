"""What is read without a parser is what pydicom reads, and what looks odd is left to it."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom
import pytest

from tests.dicom.mutations import broken, objects
from tests.dicom.objects import Series, random_values, save
from voxflow.dicom.elements import UnusualFileError
from voxflow.dicom.headers import read_dataset
from voxflow.dicom.padding import PADDING_TAGS
from voxflow.dicom.pixels import decode_stored_values
from voxflow.dicom.plain import read_header, read_plain_header, read_plain_values
from voxflow.dicom.stack import SliceStack
from voxflow.dicom.unusual_headers import parse_unusual_header
from voxflow.errors import DicomError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

    from voxflow.dicom.headers import DicomHeader

PYDICOMS_OWN = Path(pydicom.__file__).parent / "data" / "test_files"
DOUBTS = (UnusualFileError, ValueError, OverflowError)


def compare(paths: Iterable[Path]) -> tuple[int, int]:
    """How many headers, and how many of them with pixels, were read without pydicom; all equal to what it reads."""
    headers = pixels = 0
    for path in paths:
        try:
            read = read_plain_header(path)
        except DOUBTS:
            continue
        headers += 1
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # As text, since NaN is not equal to itself.
            assert repr(replace(read, pixels=None)) == repr(parse_unusual_header(path))
            if read.pixels:
                compare_pixels(read)
                pixels += 1
    return headers, pixels


def compare_pixels(read: DicomHeader) -> None:
    assert read.pixels is not None
    dataset = read_dataset(read.path, pixels=True)
    assert np.array_equal(read_plain_values(read), decode_stored_values(dataset)), read.path
    attributes = read.pixels.to_attributes(read.modality)
    for keyword in (*PADDING_TAGS, "RescaleType"):
        expected = dataset.get(keyword)
        read_values = attributes.get(keyword)
        if keyword.startswith("RescaleS") or keyword.startswith("RescaleI"):
            expected = None if expected is None else float(expected)
        elif expected is not None and keyword.startswith("PixelPadding"):
            expected = int(expected) % 2**16
        elif not keyword.startswith("PixelPadding"):
            read_values, expected = str(read_values or ""), str(expected or "").strip()
        assert str(read_values) == str(expected), (read.path, keyword)


def test_files_of_many_vendors_are_read_as_pydicom_reads_them() -> None:
    headers, pixels = compare(path for path in sorted(PYDICOMS_OWN.rglob("*")) if path.is_file())
    assert headers > 60
    assert pixels > 20


def test_real_series_are_read_without_pydicom(real_data: Callable[[str], Path]) -> None:
    files = [path for path in sorted(real_data("dicom_conversion").rglob("*")) if path.is_file()]
    headers, _ = compare(files)
    assert headers > 0.8 * sum(parse_unusual_header(path) is not None for path in files)


@pytest.mark.parametrize("seed", range(4))
def test_broken_files_are_read_as_pydicom_reads_them_or_left_to_it(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    paths = []
    for number in range(10):
        for name, data in objects():
            paths.append(tmp_path / f"{number}{name}")
            paths[-1].write_bytes(broken(data, rng)[1])
    headers, pixels = compare(paths)
    assert headers > 40
    assert pixels > 5


@pytest.mark.parametrize(
    "change",
    [
        {"PatientID": "A\\B"},
        {"AcquisitionNumber": "007"},
        {"SpecificCharacterSet": "ISO_IR 13"},
        {"PatientID": "Müller"},
        {"SOPInstanceUID": ""},
    ],
)
def test_what_may_mean_something_else_is_left_to_pydicom(tmp_path: Path, change: dict[str, str]) -> None:
    dataset = Series(random_values()).datasets()[0]
    dataset.SpecificCharacterSet = "ISO_IR 100"
    for keyword, value in change.items():
        setattr(dataset, keyword, value)
    path = save(dataset, tmp_path / "one")
    with pytest.raises(DOUBTS):
        read_plain_header(path)
    assert read_header(path) == parse_unusual_header(path)


def test_sequences_of_undefined_length_are_stepped_over(tmp_path: Path) -> None:
    dataset = Series(random_values()).datasets()[0]
    inner = pydicom.Dataset()
    inner.Rows, inner.PatientID = 99, "inner"
    outer = pydicom.Dataset()
    outer.RequestAttributesSequence = [inner, inner]
    dataset.ReferencedImageSequence = [outer, pydicom.Dataset()]
    for sequence in (dataset["ReferencedImageSequence"], outer["RequestAttributesSequence"]):
        sequence.is_undefined_length = True
        for item in sequence.value:
            item.is_undefined_length_sequence_item = True
    path = save(dataset, tmp_path / "one")
    assert b"\xff\xff\xff\xff" in path.read_bytes()
    assert compare([path]) == (1, 1)


def test_a_long_private_element_before_the_pixels_is_stepped_over(tmp_path: Path) -> None:
    dataset = Series(random_values()).datasets()[0]
    block = dataset.private_block(0x0029, "VENDOR", create=True)
    block.add_new(0x10, "OB", bytes(100_000))
    assert compare([save(dataset, tmp_path / "one")]) == (1, 1)


def test_a_file_that_shrank_since_its_header_was_read_is_an_error(tmp_path: Path) -> None:
    path = save(Series(random_values()).datasets()[0], tmp_path / "one")
    header = read_plain_header(path)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(DicomError, match="bytes of pixels are claimed"):
        read_plain_values(header)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int16, np.int32])
@pytest.mark.parametrize(
    "rescales",
    [[(1, 0)] * 3, [(1, -1024)] * 3, [(1, 30000), (2, 0), (1, 1)], [(-3, 7)] * 3, [(1, 0), (0.5, 1), (1, 0)]],
)
def test_slices_are_stacked_as_floats_would_be(dtype: type, rescales: list[tuple[float, float]]) -> None:
    info = np.iinfo(dtype)
    low, high = max(info.min, -40000), min(info.max, 65535)
    slices: NDArray[Any] = np.random.default_rng(0).integers(low, high, (3, 5, 4), endpoint=True).astype(dtype)
    stack = SliceStack(3)
    for values, rescale in zip(slices, rescales, strict=True):
        stack.add(values, (float(rescale[0]), float(rescale[1])))
    expected = np.stack([v.astype(np.float64) * s + i for v, (s, i) in zip(slices, rescales, strict=True)])
    assert np.array_equal(stack.values, expected.astype(np.float32) if stack.values.dtype == np.float32 else expected)
    whole = all(float(number).is_integer() for pair in rescales for number in pair) and slices.dtype.itemsize <= 2
    fits = expected.min() >= -(2**15) and expected.max() < 2**15
    assert stack.values.dtype == (np.float32 if not whole else np.int16 if fits else np.int32)


@pytest.mark.parametrize("rescale", [(0.0, 0.0), (float("nan"), 0.0), (1.0, float("inf")), (1e5, 0.0), (1.0, 1e7)])
def test_a_rescale_that_no_scanner_writes_is_refused(rescale: tuple[float, float]) -> None:
    with pytest.raises(DicomError, match="can't be right"):
        SliceStack(1).add(np.zeros((2, 2), np.int16), rescale)
