"""Decoding compressed pixels: RLE here, all else in a process of its own, which may die.

Each frame is checked before it goes there. Decoded pixels come back in a file in memory, since a pipe takes them in
many small pieces.
"""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
from contextlib import suppress
from multiprocessing import Pipe
from typing import TYPE_CHECKING, Any

import numpy as np

from voxflow.dicom.codestreams import PIXEL_DATA, RLE, PixelLayout, check_frame
from voxflow.dicom.decoder_process import PROGRAM
from voxflow.dicom.encapsulation import split_frames
from voxflow.dicom.rle import decode_rle
from voxflow.errors import DicomError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray
    from pydicom.dataset import Dataset

# What a decoder needs to know of a frame (PS3.3 C.7.6.3) as numbers; the first four are its layout.
_ATTRIBUTES = ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation")
# pydicom's words where GDCM decodes nothing, which says no more.
GDCM_GAVE_NOTHING = "'NoneType' object has no attribute 'encode'"
# Of the file in memory that stays for the next frame.
KEPT_BYTES = 32 << 20
# Decoder processes that wait, by the process that started them: a fork must not talk to its parent's.
_IDLE: dict[int, list[DecoderProcess]] = {}


class DecoderDeathError(Exception):
    """A decoder process has ended; never leaves this module."""


class DecoderProcess:
    """A process that decodes frames, one after the other."""

    def __init__(self) -> None:
        self._connection, remote_end = Pipe()
        self._pixels = os.memfd_create("pixels")
        # Not multiprocessing's: a worker of a pool may have no children of that kind.
        # -P: the current folder is no place to import from.
        command = [sys.executable, "-P", "-m", PROGRAM, str(remote_end.fileno()), str(self._pixels)]
        # Each further thread of a library takes address space, which is limited there.
        threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        environment = {**os.environ, **threads, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[remote_end.fileno(), self._pixels],
            env=environment,
        )
        remote_end.close()
        self.is_new = True

    @property
    def is_alive(self) -> bool:
        """Whether it can be asked for further frames."""
        return self._process.poll() is None

    def decode(self, attributes: dict[str, Any], layout: PixelLayout, frames: Sequence[bytes]) -> NDArray[Any]:
        """Decode the frames of an object.

        Returns:
            (rows, columns), or (frames, rows, columns) of several frames.

        Raises:
            DecoderDeathError: a frame has ended the process.
            DicomError: a frame is damaged.
        """
        array: NDArray[Any] | None = None
        try:
            for n, frame in enumerate(frames):
                # Further frames are of the same object.
                self._connection.send((None if n else (attributes, layout.frame_pixels, layout.frame_bytes), frame))
                dtype, shape, message = self._connection.recv()
                if not dtype:
                    raise DicomError(f"a frame can't be decoded: {_shorten(message)}", where=PIXEL_DATA)
                if message:
                    raise DicomError(f"a frame is damaged, its decoder says: {_shorten(message)}", where=PIXEL_DATA)
                if array is None:
                    _require_shape(shape, (layout.rows, layout.columns))
                    array = np.empty((len(frames), *shape), dtype=dtype)
                _require_shape((*shape, dtype), (*array.shape[1:], array.dtype.str))
                _read_whole(self._pixels, array[n].data.cast("B"))
        except (EOFError, OSError) as error:
            raise DecoderDeathError(self._explain_death()) from error
        if array is None:
            raise DicomError("no compressed frame is there", where=PIXEL_DATA)
        if array[0].nbytes > KEPT_BYTES:
            os.ftruncate(self._pixels, 0)
        self.is_new = False
        return array if len(frames) > 1 else array[0]

    def close(self) -> None:
        """End it."""
        self._connection.close()
        self._process.kill()
        self._process.wait()
        os.close(self._pixels)

    def _explain_death(self) -> str:
        code = self._process.wait()
        if code == -signal.SIGXCPU:
            return "a frame can't be decoded: it takes far more time than its size needs"
        cause = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return f"a frame can't be decoded: it ends the decoder ({cause}), or takes far more memory than its size needs"


def decode_frames(dataset: Dataset, frame_count: int) -> NDArray[Any]:
    """Decode the compressed pixels of an object.

    Args:
        dataset: with its pixels, grey.
        frame_count: NumberOfFrames (0028,0008).

    Returns:
        (rows, columns), or (frames, rows, columns) of several frames.

    Raises:
        DicomError: the number of frames or the size that a frame claims is not the header's, a frame is damaged, or it
            asks for more memory or time than its size needs.
    """
    syntax = str(dataset.file_meta.TransferSyntaxUID)
    attributes: dict[str, Any] = {keyword: int(dataset.get(keyword) or 0) for keyword in _ATTRIBUTES}
    attributes["SamplesPerPixel"] = attributes["SamplesPerPixel"] or 1
    attributes["PhotometricInterpretation"] = str(dataset.get("PhotometricInterpretation") or "")
    layout = PixelLayout(*(attributes[keyword] for keyword in _ATTRIBUTES[:4]))
    frames = split_frames(dataset, frame_count)
    for frame in frames:
        check_frame(frame, syntax, layout)
    if syntax == RLE and layout.samples == 1:
        is_signed = attributes["PixelRepresentation"] == 1
        arrays = [decode_rle(frame, layout, is_signed=is_signed) for frame in frames]
        return np.stack(arrays) if len(arrays) > 1 else arrays[0]
    attributes["TransferSyntaxUID"] = syntax
    idle = _IDLE.setdefault(os.getpid(), [])
    for process in _take_processes(idle):
        try:
            array = process.decode(attributes, layout, frames)
        except DecoderDeathError as error:
            # What an earlier object did to it may have shown only now.
            if process.is_new:
                raise DicomError(str(error), where=PIXEL_DATA) from error
        except DicomError:
            idle.append(process)
            raise
        except BaseException:
            # What it would send is no answer to the next question.
            process.close()
            raise
        else:
            idle.append(process)
            break
    return array


def _require_shape(shape: tuple[Any, ...], expected: tuple[Any, ...]) -> None:
    if shape != expected:
        raise DicomError(f"a frame was decoded to {shape} pixels, expected {expected}", where=PIXEL_DATA)


def _read_whole(file: int, target: memoryview) -> None:
    """Read the start of a file; at most 2 GB come at a time."""
    position = 0
    while position < len(target):
        count = os.preadv(file, [target[position:]], position)
        if not count:
            raise EOFError
        position += count


def _take_processes(idle: list[DecoderProcess]) -> Iterator[DecoderProcess]:
    """Take a process that waits, where there is one that lives; then a new one."""
    process = next((process for process in _pop_all(idle) if process.is_alive), None)
    if process is not None:
        yield process
    yield DecoderProcess()


def _pop_all(idle: list[DecoderProcess]) -> Iterator[DecoderProcess]:
    """Take processes out, one at a time; another thread may take some meanwhile."""
    with suppress(IndexError):
        while True:
            yield idle.pop()


def _shorten(message: str) -> str:
    """The end of what pydicom says, which is of the decoder that was asked last, in one line."""
    reason = message.rpartition("available plugins:")[2].replace(GDCM_GAVE_NOTHING, "refused")
    return " ".join(reason.split())[-160:]


@atexit.register
def _close_processes() -> None:
    for process in _pop_all(_IDLE.get(os.getpid(), [])):
        process.close()
