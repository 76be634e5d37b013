"""The program of a process that decodes compressed frames, so that no frame can harm the process that asks for it.

Decoders are written in C and C++: a damaged frame may make them abort, take all memory or never end. Here the kernel
ends them: memory and time are limited by what an honest frame of this size needs. What decoders print is kept, since
GDCM says there alone that pixels are damaged; and the next decoder is not asked where one that can read this
compression refused the frame, since libjpeg fills what is missing with grey and says nothing.
"""

from __future__ import annotations

import logging
import math
import os
import re
import resource
import signal
import sys
import warnings
from functools import cache, lru_cache
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pydicom.dataset import Dataset

# What Python runs to start it.
PROGRAM = "voxflow.dicom.decoder_process"
# Beside the frame, and for each of its pixels: openjpeg computes in 32 bits, and keeps a copy.
FREE_BYTES, BYTES_A_PIXEL = 512 << 20, 16
# Of processor time for an object, and how many bytes are decoded in each further second: JPEG 2000 makes 20 MB.
FREE_SECONDS, BYTES_A_SECOND = 5, 4 << 20
PRINTED_BYTES = 1 << 20
# What decoders print of damage; IJG's remark on the parameters of a scan is none.
_DAMAGE = re.compile(r"corrupt|premature|truncat|inconsisten|extraneous|bad |fail|error|short|expected|missing", re.I)
# pydicom compares the compressed length with the decoded one; that they are equal may well be.
_HARMLESS = "The number of bytes of compressed pixel data matches"
# Decoders that are not asked once another one has refused a frame.
LENIENT, LENIENT_OF_JPEG_2000 = ("pillow", "pylibjpeg"), ("pillow",)
JPEG_2000 = ("1.2.840.10008.1.2.4.9", "1.2.840.10008.1.2.4.20")
# What pydicom says where a decoder does not know this kind of pixels, and was not asked.
_UNABLE = ("does not support", "Unable to decode signed", "Unable to decode unsigned")


def decode_frame(attributes: dict[str, Any], frame: bytes) -> tuple[NDArray[Any], str]:
    """Decode one compressed frame.

    Args:
        attributes: of the Image Pixel module by keyword, and TransferSyntaxUID.
        frame: its bytes.

    Returns:
        (rows, columns), and what the decoders say of damage; empty where they say nothing.
    """
    # Of a frame before, which can't be decoded anyway.
    _read_printed()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        array = _decode(_build_dataset(attributes, frame))
    complaints = [text for item in caught if not (text := str(item.message)).startswith(_HARMLESS)]
    printed = [line for line in _read_printed().splitlines() if _DAMAGE.search(line)]
    return array, "; ".join([*complaints, *printed][:1])


def import_decoders() -> None:
    """Import all that decodes, so that no import falls into the limits of an object."""
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.uid import HTJ2KLossless, JPEG2000Lossless, JPEGBaseline8Bit, JPEGLSLossless, RLELossless

    for syntax in (HTJ2KLossless, JPEG2000Lossless, JPEGBaseline8Bit, JPEGLSLossless, RLELossless):
        get_decoder(syntax)


def _build_dataset(attributes: dict[str, Any], frame: bytes) -> Dataset:
    from pydicom.encaps import encapsulate

    dataset = _build_frameless(tuple(attributes.items()))
    dataset.PixelData = encapsulate([frame], has_bot=False)
    dataset["PixelData"].VR = "OB"
    return dataset


# The slices of a series have the same attributes.
@lru_cache(maxsize=4)
def _build_frameless(attributes: tuple[tuple[str, Any], ...]) -> Dataset:
    from pydicom.dataset import Dataset, FileMetaDataset

    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    for keyword, value in attributes:
        setattr(dataset.file_meta if keyword == "TransferSyntaxUID" else dataset, keyword, value)
    return dataset


def _decode(dataset: Dataset) -> NDArray[Any]:
    """Decode by the first of pydicom's decoders that can read this syntax; see the module's docstring."""
    from pydicom.pixels.decoders.base import get_decoder

    syntax = dataset.file_meta.TransferSyntaxUID
    decoder = get_decoder(syntax)
    failure, is_refused = RuntimeError("no decoder is there for this compression"), False
    for plugin in decoder.available_plugins:
        if is_refused and plugin in (LENIENT_OF_JPEG_2000 if syntax.startswith(JPEG_2000) else LENIENT):
            continue
        try:
            return decoder.as_array(dataset, decoding_plugin=plugin)[0]
        except RuntimeError as error:
            failure = error
            is_refused = is_refused or not any(text in str(error) for text in _UNABLE)
    raise failure


def _read_printed() -> str:
    """What was printed to standard error since the last call; it is not buffered, as standard output is."""
    length = min(os.fstat(2).st_size, PRINTED_BYTES)
    if not length:
        return ""
    text = os.pread(2, length, 0).decode("ascii", "replace")
    os.ftruncate(2, 0)
    os.lseek(2, 0, os.SEEK_SET)
    return text


class ResourceLimits:
    """The memory and the time that the frames of one object may take of this process.

    Args:
        frame_pixels: of one frame.
        frame_bytes: of one decoded frame.
    """

    def __init__(self, frame_pixels: int, frame_bytes: int) -> None:
        used = resource.getrusage(resource.RUSAGE_SELF)
        self._seconds = used.ru_utime + used.ru_stime + FREE_SECONDS
        self._seconds_a_frame = frame_bytes / BYTES_A_SECOND
        pages = int(os.pread(_open_memory_status(), 64, 0).split()[0])
        most = pages * resource.getpagesize() + FREE_BYTES + BYTES_A_PIXEL * frame_pixels
        resource.setrlimit(resource.RLIMIT_AS, (most, resource.RLIM_INFINITY))
        # Of the decoded frame; nor may a decoder print for ever.
        resource.setrlimit(resource.RLIMIT_FSIZE, (64 * PRINTED_BYTES + frame_bytes, resource.RLIM_INFINITY))

    def add_frame(self) -> None:
        """Allow the time of one more frame; beyond it, the kernel ends the process by SIGXCPU."""
        self._seconds += self._seconds_a_frame
        resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(self._seconds), resource.RLIM_INFINITY))


@cache
def _open_memory_status() -> int:
    """The file of the kernel whose first number is how many pages this process has taken."""
    return os.open("/proc/self/statm", os.O_RDONLY)


def serve(connection: Connection, pixels: int) -> None:
    """Decode what comes until the process that asks is gone.

    It sends (object, bytes) for each frame; object is (attributes, pixels and bytes of a frame), or None where it is
    the one before. An answer is (type of the array, its shape, what the decoder says of damage); or ("", (), error).

    Args:
        connection: to that process.
        pixels: descriptor of the file in memory that takes the decoded frame.
    """
    limits, attributes = ResourceLimits(0, 0), {}
    while True:
        try:
            described, frame = connection.recv()
        except EOFError:
            return
        if described:
            attributes, frame_pixels, frame_bytes = described
            limits = ResourceLimits(frame_pixels, frame_bytes)
        limits.add_frame()
        try:
            array, complaint = decode_frame(attributes, frame)
            if not complaint:
                _write_whole(pixels, array.data.cast("B"))
        except Exception as error:  # noqa: BLE001 - of whatever kind, the frame can't be decoded
            connection.send(("", (), str(error)))
            continue
        connection.send((array.dtype.str, array.shape, complaint))


def _write_whole(file: int, data: memoryview) -> None:
    """Write to the start of a file; at most 2 GB go at a time."""
    position = 0
    while position < len(data):
        position += os.pwrite(file, data[position:], position)


def main() -> None:
    """Serve the process at the other end of the first file descriptor; the second is of the file for pixels."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A crash is an answer, and needs no dump.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    printed = os.memfd_create("printed")
    os.dup2(printed, 2)
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    import_decoders()
    serve(Connection(int(sys.argv[1])), int(sys.argv[2]))


if __name__ == "__main__":
    main()
