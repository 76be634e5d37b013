"""Crafted image files: what a header claims or names is refused in one line, before memory is taken."""

from __future__ import annotations

import gzip
import io
import os
import resource
import socket
import struct
import subprocess
import sys
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from voxflow.errors import DataError
from voxflow.geometry import Geometry
from voxflow.volumes import (
    Volume,
    read_channels,
    read_geometry,
    read_radiograph,
    read_volume,
    resample,
    target_geometry,
    write_volume,
)

if TYPE_CHECKING:
    from pathlib import Path

META = {
    "ObjectType": "Image",
    "NDims": "3",
    "BinaryData": "True",
    "CompressedData": "False",
    "TransformMatrix": "1 0 0 0 1 0 0 0 1",
    "Offset": "0 0 0",
    "ElementSpacing": "1 1 1",
    "DimSize": "4 4 4",
    "ElementType": "MET_UCHAR",
    "ElementDataFile": "LOCAL",
}
NRRD = {
    "type": "uint8",
    "dimension": "3",
    "space": "left-posterior-superior",
    "sizes": "4 4 4",
    "space directions": "(1,0,0) (0,1,0) (0,0,1)",
    "endian": "little",
    "encoding": "raw",
    "space origin": "(0,0,0)",
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret.raw").write_bytes(bytes(range(64)))
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


def write_header(path: Path, changes: dict[str, str], voxels: bytes = bytes(64)) -> Path:
    if path.suffix in (".mha", ".mhd"):
        fields = {**META, **changes}
        order = sorted(fields, key=lambda key: key == "ElementDataFile")
        text = "".join(f"{key} = {fields[key]}\n" for key in order)
    else:
        fields = {**NRRD, **changes}
        text = "NRRD0004\n" + "".join(f"{key}: {value}\n" for key, value in fields.items())
        text += "\n" if voxels else ""
    path.write_bytes(text.encode("latin-1") + voxels)
    return path


def write_nifti(path: Path, *changes: tuple[int, str, tuple[Any, ...]], voxels: bytes = bytes(64)) -> Path:
    """A NIfTI of 4 × 4 × 4 bytes, with values of its header changed: offset, form, values."""
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    for offset, form, values in (
        (40, "8h", (3, 4, 4, 4, 1, 1, 1, 1)),
        (70, "2h", (2, 8)),
        (76, "8f", (1, 1, 1, 1, 1, 1, 1, 1)),
        (108, "f", (352,)),
        (252, "2h", (0, 1)),
        (280, "12f", (1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0)),
        (344, "4s", (b"n+1\0",)),
        *changes,
    ):
        struct.pack_into(f"<{form}", header, offset, *values)
    content = bytes(header) + voxels
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ((40, "8h", (3, 32767, 32767, 32767, 1, 1, 1, 1)), r"ends early: .* bytes of voxels are claimed"),
        ((40, "8h", (7, 4, 4, 4, 32767, 32767, 32767, 32767)), r"ends early: .* bytes of voxels are claimed"),
        ((40, "8h", (3, -4, 4, 4, 1, 1, 1, 1)), r"claims the size \[3, -4"),
        ((40, "8h", (-3, 4, 4, 4, 1, 1, 1, 1)), r"claims the size \[-3"),
        ((40, "8h", (32767, 4, 4, 4, 1, 1, 1, 1)), r"claims the size \[32767"),
        ((72, "h", (16,)), "claims 16 bits a voxel, its type 2 has another size"),
        ((72, "h", (-32768,)), "claims -32768 bits a voxel"),
        ((70, "2h", (64, 8)), "claims 8 bits a voxel, its type 64 has another size"),
        ((108, "f", (np.nan,)), "voxels begin at byte nan"),
        ((108, "f", (np.inf,)), "voxels begin at byte inf"),
        ((108, "f", (-np.inf,)), "voxels begin at byte -inf"),
        ((108, "f", (3e38,)), r"voxels begin at byte 3e\+38"),
        ((108, "f", (1e9,)), r"voxels begin at byte 1e\+09"),
        ((108, "f", (-352.0,)), "voxels begin at byte -352"),
        ((108, "f", (5000.0,)), "64 bytes of voxels are claimed and at most 0"),
        ((112, "2f", (np.inf, np.nan)), None),
        ((280, "f", (np.nan,)), "its affine holds NaN or infinite values"),
        ((292, "f", (np.inf,)), "its affine holds NaN or infinite values"),
        ((280, "f", (3e38,)), "an affine is a finite 4×4 matrix"),
        ((280, "f", (1e6,)), r"voxels are 1e\+06 × 1 × 1 mm apart: at most 100 mm are taken \(limits\.spacing_mm"),
        ((280, "f", (1e-30,)), "voxels are 1e-30 × 1 × 1 mm apart"),
        ((292, "f", (1e7,)), r"the image begins at \(-1e\+07, .*limits\.position_mm"),
        ((252, "12f", (0,) * 12), None),
    ],
)
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_a_nifti_header_that_lies_is_refused(
    folder: Path, name: str, change: tuple[int, str, tuple[Any, ...]], reason: str | None
) -> None:
    path = write_nifti(folder / name, change)
    if reason is None:  # no scale, and no affine: what NIfTI's rules allow
        assert read_volume(path).array.shape == (4, 4, 4)
        return
    if name.endswith(".gz") and "at most 0" in reason:
        reason = "at most"
    with pytest.raises(DataError, match=rf"{name}: .*{reason}"):
        read_volume(path)


def test_a_nifti_of_absurd_steps_is_refused_where_no_affine_is_stated(folder: Path) -> None:
    for steps in ((np.inf, 1, 1), (np.nan, 1, 1), (1e20, 1, 1)):
        path = write_nifti(folder / "a.nii", (76, "4f", (1, *steps)), (252, "2h", (0, 0)))
        with pytest.raises(DataError, match=r"NaN or infinite|finite 4×4|mm apart"):
            read_geometry(path)


def test_numbers_that_a_nifti_header_does_not_use_do_not_reach_a_mask(folder: Path) -> None:
    path = write_nifti(folder / "a.nii", (76, "4f", (np.nan,) * 4), (256, "6f", (np.nan,) * 6))
    volume = read_volume(path)
    write_volume(folder / "mask.nii", volume)
    header = (folder / "mask.nii").read_bytes()[:348]
    assert np.isfinite(struct.unpack_from("<8f", header, 76) + struct.unpack_from("<18f", header, 256)).all()
    assert read_geometry(folder / "mask.nii").is_close(volume.geometry)


def test_a_gzip_is_not_inflated_beyond_what_its_header_says(folder: Path) -> None:
    path = folder / "a.nii.gz"
    content = gzip.decompress(write_nifti(path).read_bytes())
    path.write_bytes(gzip.compress(content + bytes(1 << 20)))
    assert read_volume(path).array.shape == (4, 4, 4)  # a little padding
    path.write_bytes(gzip.compress(content + bytes(80 << 20), compresslevel=1))
    with pytest.raises(DataError, match=r"a\.nii\.gz: unreadable image: it unpacks to 64 MB more than its header says"):
        read_volume(path)
    # Rubbish behind makes a reader look at each member.
    path.write_bytes(gzip.compress(content + bytes(80 << 20), compresslevel=1) + b"rubbish")
    with pytest.raises(DataError, match=r"a\.nii\.gz: unreadable image"):
        read_volume(path)


def test_thousands_of_empty_gzip_members_are_no_work(folder: Path) -> None:
    path = folder / "a.nii.gz"
    path.write_bytes(gzip.compress(b"") * 20_000 + write_nifti(folder / "b.nii.gz").read_bytes() + b"rubbish")
    assert read_volume(path).array.shape == (4, 4, 4)


def test_a_compressed_claim_beyond_the_limits_names_its_key(folder: Path) -> None:
    path = write_nifti(folder / "a.nii.gz", (40, "8h", (3, 4, 1024, 1024, 1, 1, 1, 1)), voxels=bytes(4 << 20))
    (folder.parent / "params.yaml").write_text("limits: {voxels: 4000000}\n")
    with pytest.raises(DataError, match=r"4 × 1024 × 1024 voxels: 4,194,304, at most 4,000,000 .*limits\.voxels"):
        read_volume(path)
    with pytest.raises(DataError, match=r"limits\.voxels"):
        read_geometry(path)
    (folder.parent / "params.yaml").write_text("limits: {voxels: 5000000, image_mb: 4}\n")
    assert read_volume(path).array.shape == (4, 1024, 1024)


@pytest.mark.parametrize(
    ("name", "changes", "reason"),
    [
        ("a.mha", {"NDims": "1000"}, "claims '1000' axes"),
        ("a.mha", {"NDims": "-1"}, "claims '-1' axes"),
        ("a.mha", {"NDims": "2147483648"}, "claims '2147483648' axes"),
        ("a.mha", {"DimSize": "100000 100000 100000"}, r"limits\.voxels"),
        ("a.mha", {"DimSize": "400 400 400"}, "64000000 bytes of voxels are claimed"),
        ("a.mha", {"DimSize": "-4 4 4"}, r"limits\.voxels"),
        ("a.mha", {"ElementNumberOfChannels": "1000000000"}, r"limits\.image_mb"),
        ("a.mha", {"ElementType": "MET_DOUBLE", "DimSize": "8 8 8"}, "4096 bytes of voxels are claimed"),
        ("a.mha", {"ElementSpacing": "1e300 1 1"}, "ElementSpacing in its header holds 1e300"),
        ("a.mha", {"ElementSpacing": "nan 1 1"}, "ElementSpacing in its header holds nan"),
        ("a.mha", {"ElementSpacing": "500 1 1"}, r"limits\.spacing_mm"),
        ("a.mha", {"Offset": "inf 0 0"}, "Offset in its header holds inf"),
        ("a.mha", {"Offset": "1e9 0 0"}, r"limits\.position_mm"),
        ("a.mha", {"TransformMatrix": "nan 0 0 0 1 0 0 0 1"}, "TransformMatrix in its header holds nan"),
        ("a.mha", {"ElementDataFile": "../secret.raw"}, r"names a file elsewhere \('secret.raw'\)"),
        ("a.mhd", {"ElementDataFile": "/etc/hostname"}, r"names a file elsewhere \('hostname'\)"),
        ("a.mhd", {"ElementDataFile": "sub/../../secret.raw"}, "names a file elsewhere"),
        ("a.mhd", {"ElementDataFile": "..\\secret.raw"}, "names a file elsewhere"),
        ("a.mhd", {"ElementDataFile": "link.raw"}, "names a file elsewhere"),
        ("a.mhd", {"ElementDataFile": "folder/secret.raw"}, "names a file elsewhere"),
        ("a.mhd", {"ElementDataFile": "LIST\n../secret.raw"}, "names a file elsewhere"),
        ("a.mhd", {"ElementDataFile": "../secret%d.raw 1 4 1"}, "names a file elsewhere"),
        ("a.mhd", {"ElementDataFile": "%s%s%n 1 4 1"}, "names files by '%s%s%n 1 4 1'"),
        ("a.mhd", {"ElementDataFile": "a%03d.raw 1 4 0"}, "names files by"),
        ("a.mhd", {"ElementDataFile": "a%03d.raw 1 99999999 1"}, "names 99999999 files of voxels"),
        ("a.mhd", {"ElementDataFile": "a%999999999d.raw 1 1 1"}, "names files by"),
        ("a.mhd", {"ElementDataFile": "a.mhd"}, "names itself"),
        ("a.mhd", {"ElementDataFile": "A" * 5000}, "names a file of 5000 characters"),
        ("a.mhd", {"ElementDataFile": "pipe.raw"}, "names a named pipe, expected a file of voxels"),
        ("a.mhd", {"Comment": "ElementDataFile = LOCAL", "ElementDataFile": "../secret.raw"}, "a file elsewhere"),
        ("a.nrrd", {"sizes": "100000 100000 100000"}, r"limits\.voxels"),
        ("a.nrrd", {"sizes": "400 400 400"}, "64000000 bytes of voxels are claimed"),
        ("a.nrrd", {"sizes": "4294967296 4294967296 4"}, "unreadable image"),
        ("a.nrrd", {"dimension": "99"}, "unreadable image"),
        ("a.nrrd", {"space directions": "(1e300,0,0) (0,1,0) (0,0,1)"}, "space directions in its header holds 1e300"),
        ("a.nrrd", {"space directions": "(900,0,0) (0,1,0) (0,0,1)"}, r"limits\.spacing_mm"),
        ("a.nrrd", {"space origin": "(nan,nan,nan)"}, "space origin in its header holds nan"),
        ("a.nrrd", {"kinds": "x" * 5000}, "a line of its header has more than 500 characters"),
        ("a.nrrd", {"data file": "../secret.raw"}, "names a file elsewhere"),
        ("a.nrrd", {"Data File": "/etc/hostname"}, "names a file elsewhere"),
        ("a.nhdr", {"datafile": "LIST\n../secret.raw"}, "names a file elsewhere"),
        ("a.nhdr", {"data file": "../secret%d.raw 1 2 1"}, "names a file elsewhere"),
        ("a.nhdr", {"data file": "-"}, "names a file elsewhere"),
        ("a.nhdr", {"#data file": "inside.raw", "data file": "../secret.raw"}, "names a file elsewhere"),
    ],
)
def test_a_header_for_itk_is_checked_before_itk_opens_anything(
    folder: Path, name: str, changes: dict[str, str], reason: str
) -> None:
    (folder / "inside.raw").write_bytes(bytes(64))
    (folder / "link.raw").symlink_to(folder.parent / "secret.raw")
    (folder / "folder").symlink_to(folder.parent)
    os.mkfifo(folder / "pipe.raw")
    path = write_header(folder / name, changes)
    with pytest.raises(DataError, match=rf"{name}: .*{reason}") as caught:
        read_volume(path)
    assert len(str(caught.value)) < 1000


def test_voxels_beside_a_header_and_below_it_are_read(folder: Path) -> None:
    voxels = bytes(range(64))
    (folder / "sub").mkdir()
    for name in ("inside.raw", "sub/inside.raw"):
        (folder / name).write_bytes(voxels)
    for number in range(4):
        (folder / f"slice{number:02d}.raw").write_bytes(voxels[16 * number : 16 * number + 16])
    expected = np.arange(64, dtype=np.uint8).reshape(4, 4, 4).transpose(2, 1, 0)
    slices = "\n".join(f"slice{number:02d}.raw" for number in range(4))
    for name, changes in (
        ("a.mhd", {"ElementDataFile": "inside.raw"}),
        ("b.mhd", {"ElementDataFile": "sub/inside.raw"}),
        ("c.mhd", {"ElementDataFile": "slice%02d.raw 0 3 1"}),
        ("d.mhd", {"ElementDataFile": f"LIST\n{slices}"}),
        ("e.nhdr", {"data file": "inside.raw"}),
        ("f.nhdr", {"data file": "slice%02d.raw 0 3 1"}),
        ("g.nhdr", {"data file": f"LIST\n{slices}"}),
    ):
        path = write_header(folder / name, changes, voxels=b"")
        np.testing.assert_array_equal(read_volume(path).array, expected, name)


@pytest.mark.parametrize(("name", "key"), [("a.mha", "CompressedData"), ("a.nrrd", "encoding")])
def test_compressed_voxels_for_itk_do_not_unpack_to_more_than_is_claimed(folder: Path, name: str, key: str) -> None:
    pack = zlib.compress if name == "a.mha" else gzip.compress
    changes = {key: "True" if name == "a.mha" else "gzip"}
    assert read_volume(write_header(folder / name, changes, pack(bytes(64)))).array.shape == (4, 4, 4)
    with pytest.raises(DataError, match="it unpacks to more than the 64 bytes that it claims"):
        read_volume(write_header(folder / name, changes, pack(bytes(80 << 20))))


def test_thousands_of_channels_take_no_time(folder: Path) -> None:
    changes = {
        "NDims": "4",
        "DimSize": "2 2 2 60000",
        "ElementSpacing": "1 1 1 1",
        "Offset": "0 0 0 0",
        "TransformMatrix": "1 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1",
    }
    voxels = np.arange(8 * 60_000, dtype=np.uint32).astype(np.uint8)
    channels = read_channels(write_header(folder / "a.mha", changes, voxels.tobytes()))
    assert len(channels) == 60_000
    np.testing.assert_array_equal(channels[7].array.ravel(order="F"), voxels[56:64])


@pytest.mark.parametrize("suffix", [".gipl", ".vtk", ".mrc", ".tif"])
def test_formats_that_itk_reads_beyond_their_end_are_not_read(folder: Path, suffix: str) -> None:
    volume = Volume(np.zeros((5, 6, 7), dtype=np.int16), Geometry.from_parts((5, 6, 7), (1, 1, 2)))
    sitk.WriteImage(volume.to_sitk(), str(folder / f"a{suffix}"))
    for read in (read_volume, read_channels, read_geometry):
        with pytest.raises(DataError, match=rf"a{suffix}: .* of no format that is read here; save it as NIfTI"):
            read(folder / f"a{suffix}")


@pytest.mark.parametrize("name", ["a.dcm", "a.h5", "a.xyz", "a"])
def test_formats_that_lead_elsewhere_are_not_read(folder: Path, name: str) -> None:
    (folder / name).write_bytes(bytes(128) + b"DICM" + bytes(100))
    with pytest.raises(DataError, match="of no format that is read here; save it as NIfTI"):
        read_volume(folder / name)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.mha", "a.nrrd", "a.png"])
def test_what_is_no_file_is_never_opened(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    read = read_radiograph if name.endswith(".png") else read_volume
    os.mkfifo(folder / name)
    with pytest.raises(DataError, match=rf"{name}: a named pipe, expected a file; it is not opened"):
        read(folder / name)
    (folder / name).unlink()
    monkeypatch.chdir(folder)  # the path of a socket is short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(name)
        with pytest.raises(DataError, match="a socket, expected a file"):
            read(folder / name)
    (folder / name).unlink()
    (folder / name).symlink_to("/dev/zero")
    with pytest.raises(DataError, match="a device, expected a file"):
        read(folder / name)


def write_png_bomb(path: Path, rows: int, columns: int) -> None:
    """A grey PNG of zeros, of a few kilobytes."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    packer = zlib.compressobj(9)
    lines = b"".join(packer.compress(bytes(columns + 1)) for _ in range(min(rows, 2000))) + packer.flush()
    header = struct.pack(">2I5B", columns, rows, 8, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", lines) + chunk(b"IEND", b""))


@pytest.mark.parametrize(("rows", "columns"), [(20_000, 20_000), (2**31 - 1, 2**31 - 1), (11_000, 10_000)])
def test_a_picture_that_claims_too_many_pixels_is_refused(folder: Path, rows: int, columns: int) -> None:
    write_png_bomb(folder / "a.png", rows, columns if columns < 2**31 - 1 else 100)
    content = bytearray((folder / "a.png").read_bytes())
    struct.pack_into(">I", content, 16, columns)
    struct.pack_into(">I", content, 29, zlib.crc32(content[12:29]))
    (folder / "a.png").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.png: .*(limits\.pixels|decompression bomb)"):
        read_radiograph(folder / "a.png")


@pytest.mark.parametrize("size", [(2**31 - 1, 1), (65535, 65535)])
def test_a_bitmap_or_tiff_that_claims_too_much_is_refused(folder: Path, size: tuple[int, int]) -> None:
    stream = io.BytesIO()
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(stream, format="BMP")
    content = bytearray(stream.getvalue())
    struct.pack_into("<2i", content, 18, *size)
    (folder / "a.bmp").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.bmp: .*(limits\.pixels|decompression bomb)"):
        read_radiograph(folder / "a.bmp")


def test_a_picture_that_starts_another_program_is_none(folder: Path) -> None:
    (folder / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
    with pytest.raises(DataError, match="damaged, cut off, or no picture"):
        read_radiograph(folder / "a.png")


@pytest.mark.parametrize(
    ("size", "spacing", "key"),
    [
        ((32, 32, 32), (25, 25, 25), "upsampling"),
        ((32, 32, 32), (60, 60, 60), "voxels"),
        ((512, 512, 100), (4, 4, 40), "voxels"),
        ((2, 2, 2), (1e9, 1e9, 1e9), "voxels"),
    ],
)
def test_a_grid_far_finer_than_its_image_is_refused(
    size: tuple[int, int, int], spacing: tuple[float, float, float], key: str
) -> None:
    geometry = Geometry.from_parts(size, spacing)
    for extent in ("faces", "centres"):
        with pytest.raises(DataError, match=rf"voxels would become .*limits\.{key} in params\.yaml"):
            target_geometry(geometry, 1.0, extent=extent)


def test_an_image_is_refused_before_memory_is_taken(folder: Path) -> None:
    """Each of these asked for gigabytes; the process may take one."""
    write_nifti(folder / "a.nii.gz", (40, "8h", (3, 32767, 32767, 4, 1, 1, 1, 1)), voxels=bytes(8 << 20))
    write_header(folder / "b.nrrd", {"sizes": "30000 30000 30", "encoding": "gzip"}, gzip.compress(bytes(30 << 20)))
    write_header(
        folder / "c.mha", {"DimSize": "30000 30000 30", "CompressedData": "True"}, zlib.compress(bytes(30 << 20))
    )
    write_png_bomb(folder / "d.png", 60_000, 60_000)
    program = f"""
import sys
from pathlib import Path
from voxflow.errors import DataError
from voxflow.volumes import read_radiograph, read_volume
for name in ("a.nii.gz", "b.nrrd", "c.mha", "d.png"):
    try:
        (read_radiograph if name == "d.png" else read_volume)(Path({str(folder)!r}) / name)
    except DataError:
        print("refused", name)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (1 << 30, 1 << 30)),
    )
    assert done.stdout.split("\n")[:4] == ["refused a.nii.gz", "refused b.nrrd", "refused c.mha", "refused d.png"], (
        done.stderr[-500:]
    )


def test_a_file_whose_image_is_honest_is_read_as_before(folder: Path) -> None:
    array = np.random.default_rng(0).integers(0, 1000, (5, 6, 7)).astype(np.int16)
    volume = Volume(array, Geometry.from_parts(array.shape, (0.7, 0.7, 5), (-200, 100, 1500)))
    for suffix in (".nii", ".nii.gz", ".mha", ".mhd", ".nrrd"):
        write_volume(folder / f"a{suffix}", volume)
        np.testing.assert_array_equal(read_channels(folder / f"a{suffix}")[0].array, array)
    assert resample(volume, target_geometry(volume.geometry, 1)).array.shape == (3, 4, 35)


NRRD_KEYS = (
    *("type: short", "dimension: 3", "space: left-posterior-superior", "sizes: 4 4 4", "encoding: raw"),
    *("space directions: (1,0,0) (0,1,0) (0,0,1)", "endian: little", "space origin: (0,0,0)"),
)
META_KEYS = ("ObjectType = Image", "NDims = 3", "DimSize = 4 4 4", "ElementType = MET_SHORT", "ElementSpacing = 1 1 1")


def make_nrrd(*lines: str) -> bytes:
    return "\n".join(["NRRD0004", *NRRD_KEYS, *lines, "\n"]).encode() + bytes(128)


def make_meta_image(*lines: str) -> bytes:
    return "\n".join([*META_KEYS, *lines, "ElementDataFile = LOCAL\n"]).encode() + bytes(128)


# Each keeps ITK busy for minutes, or raised an error that nobody expected.
SLOW = {
    "keys.nrrd": (make_nrrd(*(f"k{n}:={n}" for n in range(50_000))), "50009 lines, at most 5000"),
    "values.seg.nrrd": (make_nrrd(*(f"Segment{n}_LabelValue:={n}" for n in range(20_000))), "20009 lines"),
    "comments.nrrd": (make_nrrd(*("# none" for _ in range(30_000))), "30009 lines"),
    "long.nrrd": (make_nrrd("# " + "a" * (2 << 20)), "more than 1024 kB"),
    "endless.nrrd": (b"NRRD0004\n" + b"type: short\n" * 200_000, "more than 1024 kB"),
    "keys.mha": (make_meta_image(*(f"k{n} = {n}" for n in range(20_000))), "20005 lines"),
    "name.nii.gz": (b"\x1f\x8b\x08\x08" + bytes(6) + b"a" * (2 << 20), "damaged, or it ends early"),
    "members.nii.gz": (gzip.compress(b"") * 50_000, "no NIfTI-1 header"),
}


@pytest.mark.parametrize("name", SLOW)
def test_a_header_of_endless_lines_or_names_is_refused_at_once(tmp_path: Path, name: str) -> None:
    content, reason = SLOW[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=reason):
        read_volume(tmp_path / name)


def test_headers_of_many_segments_are_read(tmp_path: Path) -> None:
    lines = [f"Segment{n}_{key}:={n}" for n in range(120) for key in ("ID", "Name", "Color", "Extent", "Layer", "Tags")]
    (tmp_path / "total.seg.nrrd").write_bytes(make_nrrd(*lines))
    (tmp_path / "many.mha").write_bytes(make_meta_image(*(f"k{n} = {n}" for n in range(500))))
    assert read_volume(tmp_path / "total.seg.nrrd").array.shape == (4, 4, 4)
    assert read_volume(tmp_path / "many.mha").array.shape == (4, 4, 4)
