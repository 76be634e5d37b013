"""No compressed frame harms the process that reads it, nor takes more than its size needs, nor passes damaged."""

from __future__ import annotations

import os
import signal
import struct
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from pydicom.uid import JPEG2000Lossless, JPEGBaseline8Bit, JPEGLosslessSV1, JPEGLSLossless, RLELossless

from tests.dicom.hostile_frames import (
    FRAMES,
    make_claims,
    make_encapsulations,
    make_frame,
    make_object,
    make_picture,
)
from tests.dicom.objects import Series
from voxflow.dicom import decoders
from voxflow.dicom.pixels import decode_stored_values
from voxflow.errors import DicomError

if TYPE_CHECKING:
    from pydicom.uid import UID

# Of this process: nothing is decoded here.
MOST_MB = 150


def read_peak_mb() -> int:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0]) // 1024


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLosslessSV1, JPEGLSLossless, RLELossless])
def test_a_sound_frame_is_decoded(syntax: UID) -> None:
    assert np.array_equal(decode_stored_values(make_object(syntax)), make_picture())


def test_a_sound_lossy_frame_is_decoded() -> None:
    stored = decode_stored_values(make_object(JPEGBaseline8Bit)).astype(int)
    assert np.abs(stored - (make_picture() >> 4)).max() <= 8


@pytest.mark.parametrize("name", FRAMES)
def test_a_frame_that_lies_or_is_damaged_is_refused(name: str) -> None:
    syntax, change, reason = FRAMES[name]
    changed = change(make_frame(syntax))
    before = read_peak_mb()
    with pytest.raises(DicomError, match=reason):
        decode_stored_values(make_object(syntax, changed))
    assert read_peak_mb() - before < MOST_MB


@pytest.mark.parametrize("name", make_encapsulations())
def test_fragments_and_tables_that_lie_are_refused(name: str) -> None:
    dataset, reason = make_encapsulations()[name]
    with pytest.raises(DicomError) as caught:
        decode_stored_values(dataset)
    assert reason in str(caught.value)


@pytest.mark.parametrize("name", make_claims())
def test_a_header_that_claims_what_is_not_there_is_refused(name: str) -> None:
    dataset, reason = make_claims()[name]
    before = read_peak_mb()
    with pytest.raises(DicomError, match=reason):
        decode_stored_values(dataset)
    assert read_peak_mb() - before < MOST_MB


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("frames", [1, 3])
def test_rle_is_decoded_as_by_pydicom(bits: int, signed: bool, frames: int) -> None:
    rng = np.random.default_rng(bits)
    limits = np.iinfo(f"{'i' if signed else 'u'}{bits // 8}")
    values = rng.integers(limits.min, limits.max, (frames, 30, 41), dtype=limits.dtype, endpoint=True)
    values[:, 5:20, 3:30] = limits.min  # runs, too
    dataset = Series(make_picture()[None]).datasets()[0]
    dataset.Rows, dataset.Columns, dataset.NumberOfFrames = 30, 41, frames
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = bits, bits, bits - 1
    dataset.PixelRepresentation = int(signed)
    dataset.PixelData = values.tobytes()
    dataset.compress(RLELossless)
    decoded = decode_stored_values(dataset)
    assert decoded.dtype == dataset.pixel_array.dtype
    assert np.array_equal(decoded, dataset.pixel_array)
    assert np.array_equal(decoded, values.squeeze())


def test_zeros_behind_plain_pixels_are_padding() -> None:
    dataset = Series(make_picture()[None]).datasets()[0]
    dataset.PixelData += bytes(9000)
    assert np.array_equal(decode_stored_values(dataset), make_picture())


def test_two_frames_in_fragments_are_joined_by_their_table() -> None:
    frame = make_frame(RLELossless)
    frame += bytes(len(frame) % 2)
    items = [b"", frame[:1000], frame[1000:], frame]
    items[0] = struct.pack("<2I", 0, len(frame) + 16)
    dataset = make_object(RLELossless)
    dataset.PixelData = b"".join(struct.pack("<HHI", 0xFFFE, 0xE000, len(item)) + item for item in items)
    dataset.NumberOfFrames = 2
    assert np.array_equal(decode_stored_values(dataset), np.stack([make_picture()] * 2))


def test_a_decoder_that_was_killed_while_it_waited_is_replaced() -> None:
    decode_stored_values(make_object(JPEG2000Lossless))
    (process,) = decoders._IDLE[os.getpid()]
    os.kill(process._process.pid, signal.SIGKILL)
    assert np.array_equal(decode_stored_values(make_object(JPEG2000Lossless)), make_picture())


def test_threads_decode_at_the_same_time() -> None:
    results = []
    threads = [
        threading.Thread(target=lambda: results.append(decode_stored_values(make_object(JPEG2000Lossless))))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    assert all(np.array_equal(result, make_picture()) for result in results)
