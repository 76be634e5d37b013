"""Whatever is sent, the answer is one line with the right status, nothing is left, and the next request is served."""

from __future__ import annotations

import errno
import gzip
import io
import struct
import time
import zipfile
import zlib
from typing import TYPE_CHECKING

import numpy as np
import pytest
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, JPEGLSLossless

from tests.dicom.hostile_frames import BIG, SOF55, make_frame, make_object, patch
from tests.dicom.objects import Series, random_values
from tests.inference.models import ThresholdEngine
from tests.serving.servers import SMALL, ask, connect, list_uploads, read_answer, run_service
from voxflow.geometry import Geometry
from voxflow.volumes import Volume, write_volume

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from voxflow.serving.app import Service

LIMITS = SMALL.model_copy(update={"header_seconds": 1.0, "unpacked_mb": 40})
HOST = b"Host: a\r\n"


@pytest.fixture(scope="module")
def service() -> Iterator[tuple[int, Service]]:
    with run_service(ThresholdEngine(), LIMITS) as running:
        yield running


@pytest.fixture(scope="module")
def good_body(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("good") / "a.nii.gz"
    write_volume(path, Volume(np.ones((16, 16, 8), np.float32), Geometry.from_parts((16, 16, 8), (1, 1, 1))))
    return path.read_bytes()


def post(body: bytes, headers: bytes = b"", path: bytes = b"/predict") -> bytes:
    return b"POST %s HTTP/1.1\r\n%s%sContent-Length: %d\r\n\r\n%s" % (path, HOST, headers, len(body), body)


def chunked(*chunks: bytes) -> bytes:
    start = b"POST /predict HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"
    return start + b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in (*chunks, b""))


def make_zip(*members: tuple[zipfile.ZipInfo | str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for member, data in members:
            if isinstance(member, zipfile.ZipInfo):
                member.compress_type = method
            archive.writestr(member, data)
    return buffer.getvalue()


def special(name: str, mode: int) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name)
    member.external_attr = mode << 16
    return member


def encrypt(archive: bytes) -> bytes:
    """Mark the members of a zip as encrypted, in both of their headers."""
    changed = bytearray(archive)
    for signature, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        changed[changed.index(signature) + offset] |= 1
    return bytes(changed)


def lie(archive: bytes, field: int, value: int) -> bytes:
    """Change a field of 4 bytes of the first member in the list of files of a zip."""
    place = archive.index(b"PK\1\2") + field
    return archive[:place] + struct.pack("<I", value) + archive[place + 4 :]


def as_zip64(archive: bytes) -> bytes:
    """Give a zip the end of one with more files than 16 bits count."""
    place = archive.rindex(b"PK\5\6")
    count, size, offset = struct.unpack("<HII", archive[place + 10 : place + 20])
    record = b"PK\6\6" + struct.pack("<QHHIIQQQQ", 44, 45, 45, 0, 0, count, count, size, offset)
    locator = b"PK\6\7" + struct.pack("<IQI", 0, place, 1)
    ending = archive[place : place + 8] + struct.pack("<HHIIH", 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    return archive[:place] + record + locator + ending


def nifti(shape: tuple[int, ...], spacing: float = 1, *, datatype: int = 4, offset: float = 352) -> bytes:
    header = struct.pack("<i", 348) + bytes(36) + struct.pack("<8h", len(shape), *shape, *(1,) * (7 - len(shape)))
    header += bytes(14) + struct.pack("<hh", datatype, 16) + bytes(2) + struct.pack("<8f", 1, *(spacing,) * 7)
    return header.ljust(108, b"\0") + struct.pack("<f", offset) + bytes(232) + b"n+1\0" + bytes(4)


def gzip_with_name(name_bytes: int) -> bytes:
    raw = zlib.compressobj(9, zlib.DEFLATED, -15)
    return b"\x1f\x8b\x08\x08" + bytes(6) + b"n" * name_bytes + b"\0" + raw.compress(bytes(1000)) + raw.flush()


def dicom_zip() -> list[tuple[str, bytes]]:
    files = []
    for k, dataset in enumerate(Series(random_values((6, 20, 24)).clip(0)).datasets()):
        buffer = io.BytesIO()
        dataset.save_as(buffer, enforce_file_format=True)
        files.append((f"{k}", buffer.getvalue()))
    return files


def deflated_bomb(byte_count: int) -> bytes:
    """A DICOM file whose pixels are deflated, in a zip that deflates them once more."""
    dataset = Series(random_values((1, 20, 24)).clip(0)).datasets()[0]
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.PixelData = bytes(byte_count)
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return make_zip(("a", buffer.getvalue()))


FEW = make_zip(("a", b"hello"))
ONE = FEW[FEW.index(b"PK\1\2") : FEW.index(b"PK\5\6")]
LONG_LIST = ONE * (3_000_000 // len(ONE))

# What is sent; the status of the answer; words of it.
REQUESTS: dict[str, tuple[bytes, int, str]] = {
    # HTTP itself.
    "no HTTP at all": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400, "no valid HTTP"),
    "a method that there is not": (b"BREW /predict HTTP/1.1\r\n" + HOST + b"\r\n", 405, "takes POST"),
    "GET of what takes POST": (b"GET /predict HTTP/1.1\r\n" + HOST + b"\r\n", 405, "takes POST"),
    "POST to what takes GET": (post(b"x", path=b"/health"), 405, "takes GET"),
    "CONNECT": (b"CONNECT a:443 HTTP/1.1\r\n" + HOST + b"\r\n", 404, "no such page"),
    "a page that there is not": (b"GET /../etc/passwd HTTP/1.1\r\n" + HOST + b"\r\n", 404, "no such page"),
    "line ends in the path": (b"GET /%0d%0aSet-Cookie:%20a HTTP/1.1\r\n" + HOST + b"\r\n", 404, "no such page"),
    "an encoding of the path that is none": (b"GET /%ff%zz HTTP/1.1\r\n" + HOST + b"\r\n", 404, "no such page"),
    "no Host": (b"GET /health HTTP/1.1\r\n\r\n", 400, "Host"),
    "a header without a name": (b"GET /health HTTP/1.1\r\n" + HOST + b": a\r\n\r\n", 400, "no valid HTTP"),
    "a header with a bare line end": (b"GET /health HTTP/1.1\r\n" + HOST + b"A: b\rc\r\n\r\n", 400, "no valid HTTP"),
    "a header too long": (b"GET /health HTTP/1.1\r\n" + HOST + b"A: " + b"a" * 70_000, 431, "32768 bytes"),
    "too many headers": (b"GET /health HTTP/1.1\r\n" + HOST + b"A: b\r\n" * 200 + b"\r\n", 431, "201 headers"),
    "an HTTP of the future": (b"GET /health HTTP/9.9\r\n" + HOST + b"\r\n", 505, "HTTP/1.1"),
    "a length that is no number": (post(b"x", b"Content-Length: ten\r\n"), 400, "no valid HTTP"),
    "a negative length": (b"POST /predict HTTP/1.1\r\n" + HOST + b"Content-Length: -1\r\n\r\n", 400, "no valid HTTP"),
    "two lengths": (post(b"x", b"Content-Length: 7\r\n"), 400, "no valid HTTP"),
    "a length of exabytes": (
        b"POST /predict HTTP/1.1\r\n" + HOST + b"Content-Length: 9999999999999999999\r\n\r\n",
        413,
        "at most 1",
    ),
    "a length and chunks": (post(b"0\r\n\r\n", b"Transfer-Encoding: chunked\r\n"), 400, "one of them"),
    "an unknown transfer encoding": (post(b"x", b"Transfer-Encoding: gzip\r\n"), 501, "no valid HTTP"),
    "a chunk without a size": (chunked(b"a").replace(b"1\r\na", b"x\r\na"), 400, "no valid HTTP"),
    "chunks above the bound": (chunked(*[bytes(60_000)] * 40), 413, "more than 1 MB"),
    "chunks of nothing": (chunked(), 400, "empty"),
    "a body that is asked to be told of, above the bound": (
        b"POST /predict HTTP/1.1\r\n" + HOST + b"Expect: 100-continue\r\nContent-Length: 9999999\r\n\r\n",
        413,
        "at most 1",
    ),
    "a WebSocket": (
        b"GET /predict HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        405,
        "takes POST",
    ),
    # What is asked for.
    "a format that there is not": (post(b"x", path=b"/predict?format=exe"), 400, "format is one of"),
    "a format that is code": (post(b"x", path=b"/predict?format=%22%3E%3Cscript%3E"), 400, "format is one of"),
    "a form": (post(b"--b\r\n\r\nx\r\n--b--", b"Content-Type: multipart/form-data; boundary=b\r\n"), 415, "form"),
    "a form without an end": (post(b"--b" * 999, b"Content-Type: multipart/form-data\r\n"), 415, "form"),
    "JSON": (post(b'{"a": 1}', b"Content-Type: application/json\r\n"), 415, "expected a NIfTI-1"),
    "three bytes": (post(b"PK\3"), 415, "expected a NIfTI-1"),
    # Zips.
    "a zip of nothing": (post(make_zip()), 415, "expected a NIfTI-1"),
    "a zip of folders": (post(make_zip(*[(f"{n}/", b"") for n in range(9)])), 400, "empty"),
    "too many folders": (post(make_zip(*[(f"{n}/", b"") for n in range(60)])), 413, "60 files"),
    "a zip of one zip": (post(make_zip(("a.zip", FEW))), 422, ""),
    "a path that leads out": (post(make_zip(("a/../../b", b""))), 400, "leads out"),
    "a path of Windows that leads out": (post(make_zip(("a\\..\\..\\b", b""))), 400, "leads out"),
    "a very deep path": (post(make_zip(("a/" * 9000 + "b", b"x"))), 422, ""),
    "a link": (post(make_zip((special("a", 0o120777), b"/etc/passwd"))), 400, "a link"),
    "a FIFO": (post(make_zip((special("a", 0o010666), b""))), 400, "no file"),
    "a device": (post(make_zip((special("a", 0o020666), b""))), 400, "no file"),
    "encrypted": (post(encrypt(FEW)), 400, "encrypted"),
    "bzip2": (post(make_zip(("a", b"x"), method=zipfile.ZIP_BZIP2)), 400, "method 12"),
    "LZMA": (post(make_zip(("a", b"x"), method=zipfile.ZIP_LZMA)), 400, "method 14"),
    "a list of files in the wrong place": (post(lie(FEW, 42, 1 << 31)), 400, "can't be unpacked"),
    "a list of files in front of the zip": (post(FEW[:-6] + struct.pack("<IH", 1 << 30, 0)), 400, "can't be unpacked"),
    "a file that says to be small": (post(lie(make_zip(("a", bytes(9_000_000))), 24, 10)), 400, "can't be unpacked"),
    "a file that says to be huge": (post(lie(FEW, 24, 1 << 31)), 413, "unpacks to"),
    "a checksum that is wrong": (post(lie(FEW, 16, 7)), 400, "file 1 of 1"),
    "a bomb": (post(make_zip(("a", bytes(60 << 20)))), 413, "unpacks to 60 MB"),
    "a bomb inside DICOM": (post(deflated_bomb(60 << 20)), 413, "deflated DICOM"),
    "a zip64": (post(as_zip64(FEW)), 422, ""),
    "a zip64 that counts exabytes": (
        post(as_zip64(FEW).replace(struct.pack("<Q", len(ONE)), struct.pack("<Q", 1 << 62))),
        400,
        "can't be unpacked",
    ),
    # Volumes.
    "a gzip whose name is long": (post(gzip_with_name(900_000)), 422, "gzip"),
    "a gzip of empty members": (post(gzip.compress(b"") * 3000), 422, "gzip"),
    "voxels that are not there": (post(nifti((64, 64, 64))), 422, ""),
    "voxels before the header": (post(nifti((4, 4, 4), offset=-999) + bytes(128)), 422, ""),
    "voxels nowhere": (post(nifti((4, 4, 4), offset=float("nan")) + bytes(128)), 422, ""),
    "a type of voxels that there is not": (post(nifti((4, 4, 4), datatype=9999) + bytes(128)), 422, ""),
    "voxels that are infinitely far apart": (post(nifti((4, 4, 4), float("inf")) + bytes(128)), 422, ""),
    "voxels that are a kilometre apart": (post(nifti((4, 4, 4), 1e6) + bytes(128)), 422, ""),
    "a small file of far too many voxels": (
        post(gzip.compress(nifti((210, 210, 210)) + bytes(210**3 * 2))),
        413,
        "for each byte",
    ),
    "a radiograph": (post(b"\x89PNG\r\n\x1a\n" + bytes(99)), 415, "received a radiograph"),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_the_answer_is_one_line_and_the_next_request_is_served(
    service: tuple[int, Service], good_body: bytes, name: str
) -> None:
    port, running = service
    request, status, words = REQUESTS[name]
    answer = ask(port, request)
    assert answer[0] == status, answer
    assert list(answer[1]) == ["error"]
    assert words in answer[1]["error"]
    assert len(answer[1]["error"].splitlines()) == 1
    assert "voxflow-serve" not in answer[1]["error"]  # no path of the server
    assert ask(port, post(good_body))[0] == 200
    wait_until_empty(running)


def wait_until_empty(service: Service) -> None:
    """An upload goes as soon as its answer was sent, which a client may see a little earlier."""
    ends = time.monotonic() + 10
    while list_uploads(service) and time.monotonic() < ends:
        time.sleep(0.01)
    assert not list_uploads(service)
    assert (service.accepted, service.upload_bytes) == (0, 0)


def test_a_list_of_files_that_is_longer_than_its_files_is_not_read() -> None:
    size = struct.pack("<HHHHIIH", 0, 0, 1, 1, len(LONG_LIST), 0, 0)
    with run_service(ThresholdEngine(), LIMITS.model_copy(update={"upload_mb": 4})) as (port, _):
        status, answer = ask(port, post(b"PK\3\4" + LONG_LIST + b"PK\5\6" + size))
    assert (status, "too long" in answer["error"]) == (400, True)


def test_one_name_twice_is_refused(service: tuple[int, Service]) -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        body = make_zip(("a", b"1"), ("a", b"2"))
    assert ask(service[0], post(body))[1] == {"error": "the zip holds one name twice"}


def test_a_damaged_file_is_not_called_by_its_name(service: tuple[int, Service]) -> None:
    archive = make_zip(("Doe^John", b"hello"))
    assert "Doe" not in ask(service[0], post(lie(archive, 16, 7)))[1]["error"]


def test_a_body_comes_in_chunks_and_after_it_was_asked_for(service: tuple[int, Service], good_body: bytes) -> None:
    assert ask(service[0], chunked(good_body[:100], good_body[100:]))[0] == 200
    with connect(service[0]) as connection:
        connection.sendall(post(good_body, b"Expect: 100-continue\r\n").removesuffix(good_body))
        assert connection.recv(1000).startswith(b"HTTP/1.1 100")
        connection.sendall(good_body)
        assert read_answer(connection)[0] == 200


def test_a_full_disk_is_said_and_leaves_nothing(
    service: tuple[int, Service], good_body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "/secret/path")

    for name in ("app.Service._count_block", "work.infer_cases"):
        with monkeypatch.context() as patches:
            patches.setattr(f"voxflow.serving.{name}", fill)
            assert ask(service[0], post(good_body)) == (507, {"error": "the disk of the service is full"})
    wait_until_empty(service[1])


def test_an_error_of_the_service_is_logged_without_its_words(
    service: tuple[int, Service], good_body: bytes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise TypeError("Doe^John")

    monkeypatch.setattr("voxflow.serving.work.infer_cases", fail)
    status, answer = ask(service[0], post(good_body))
    assert status == 500
    assert "Doe" not in answer["error"] + caplog.text
    assert "TypeError at app.py" in caplog.text
    wait_until_empty(service[1])


def test_no_part_of_an_answer_is_sent_alone(service: tuple[int, Service], good_body: bytes) -> None:
    whole = ask(service[0], post(good_body))
    assert whole[0] == 200
    assert ask(service[0], post(good_body, b"Range: bytes=0-3,5-9\r\n")) == whole


def test_head_has_no_body(service: tuple[int, Service]) -> None:
    with connect(service[0]) as connection:
        connection.sendall(b"HEAD /health HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n")
        answer = b"".join(iter(lambda: connection.recv(1000), b""))
    assert answer.startswith(b"HTTP/1.1 200")
    assert answer.endswith(b"\r\n\r\n")


def test_a_client_that_goes_in_the_middle_of_its_body_leaves_nothing(
    service: tuple[int, Service], good_body: bytes
) -> None:
    for _ in range(5):
        with connect(service[0]) as connection:
            connection.sendall(post(good_body)[:-20])
    assert ask(service[0], post(good_body))[0] == 200
    wait_until_empty(service[1])


def test_a_client_that_goes_before_its_answer_leaves_nothing(service: tuple[int, Service], good_body: bytes) -> None:
    with connect(service[0]) as connection:
        connection.sendall(post(good_body))
    time.sleep(0.05)
    wait_until_empty(service[1])


def test_many_requests_on_one_connection_each_have_their_answer(service: tuple[int, Service], good_body: bytes) -> None:
    with connect(service[0]) as connection:
        connection.sendall(post(b"hello") + post(good_body) + b"GET /health HTTP/1.1\r\n" + HOST + b"\r\n")
        with connection.makefile("rb") as stream:
            statuses: list[int] = []
            while len(statuses) < 3:
                statuses.append(int(stream.readline().split()[1]))
                length = 0
                while line := stream.readline().strip():
                    length = int(line.split()[1]) if line.lower().startswith(b"content-length") else length
                stream.read(length)
    assert statuses == [415, 200, 200]


def test_a_header_that_does_not_end_is_given_up(service: tuple[int, Service]) -> None:
    status, answer = ask(service[0], b"POST /predict HTTP/1.1\r\nHost: a\r\n")
    assert (status, answer["error"]) == (408, "the header took longer than 1 s")
    with connect(service[0]) as connection:  # one that is never begun is closed
        assert connection.recv(10) == b""


def test_frames_that_abort_a_decoder_cost_their_series_alone() -> None:
    files = dicom_zip()
    for k in range(4):
        dataset = make_object(JPEGLSLossless, patch(SOF55, 5, BIG)(make_frame(JPEGLSLossless)))
        dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = "1.2.9", "1.3.9"
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = UID(f"1.2.9.{k}")
        dataset.ImagePositionPatient, dataset.InstanceNumber = [0, 0, 2 * k], k + 1
        buffer = io.BytesIO()
        dataset.save_as(buffer, enforce_file_format=True)
        files.append((f"bad/{k}", buffer.getvalue()))
    with run_service(ThresholdEngine(threshold=300), LIMITS) as (port, _):
        status, answer = ask(port, post(make_zip(*files), path=b"/predict?format=json"))
    assert (status, len(answer["cases"]), len(answer["failures"])) == (200, 1, 1)
    assert "claims 65535 rows" in answer["failures"][0]["reason"]


def test_a_series_that_can_not_be_used_is_named_beside_the_good_one(tmp_path: Path) -> None:
    bad = Series(random_values((2, 20, 24)).clip(0), uid="1.2.9", frame="1.3.9")  # too few slices
    files = dicom_zip()
    for k, dataset in enumerate(bad.datasets()):
        buffer = io.BytesIO()
        dataset.save_as(buffer, enforce_file_format=True)
        files.append((f"bad/{k}", buffer.getvalue()))
    with run_service(ThresholdEngine(threshold=300), LIMITS) as (port, _):
        status, answer = ask(port, post(make_zip(*files)))
        single = ask(port, post(make_zip(*files), path=b"/predict?format=seg"))
    assert (status, single[0]) == (200, 200)
    with zipfile.ZipFile(io.BytesIO(answer)) as archive:
        failures = archive.read("failures.json").decode()
        assert sum(name.endswith("_seg.dcm") for name in archive.namelist()) == 1
    assert "slices" in failures
    assert "voxflow-serve" not in failures
    assert single[1][128:132] == b"DICM"
