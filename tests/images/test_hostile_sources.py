"""A source folder with hostile files in it: a row each, none is opened that must not be, and the good ones are made."""

from __future__ import annotations

import gzip
import os
import socket
import struct
import zlib
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from tests.tables import read_table
from voxflow.dicom import ConvertOptions, convert_folder
from voxflow.errors import DataError
from voxflow.geometry import Geometry
from voxflow.images import pictures, read_findings
from voxflow.images.pictures import read_picture
from voxflow.volumes import Volume, write_volume

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(60)


def write_image(path: Path, size: tuple[int, int, int] = (5, 6, 7), spacing: float = 2.0) -> None:
    array = np.arange(np.prod(size)).reshape(size).astype(np.int16)
    write_volume(path, Volume(array, Geometry.from_parts(size, (spacing,) * 3)))


def convert(folder: Path, **options: object) -> dict[str, tuple[str, str]]:
    """Verdict and reason by source."""
    convert_folder(folder / "in", folder / "out", ConvertOptions.model_validate({"pseudonym_key": "k", **options}))
    return {row["source"]: (row["verdict"], row["reason"]) for row in read_table(folder / "out/conversion.csv")}


def test_pipes_sockets_and_devices_are_rows_and_are_never_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_image(tmp_path / "in/good.nii.gz")
    monkeypatch.chdir(tmp_path / "in")  # the path of a socket is short
    names = ("a.dcm", "b", "c.nii.gz", "d.png", "e.mha", "f.txt", "g.zip")
    for name in names:
        os.mkfifo(name)
    (tmp_path / "in/zero.nii").symlink_to("/dev/zero")
    (tmp_path / "in/tty.dcm").symlink_to("/dev/tty")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("listener.dcm")
        rows = convert(tmp_path)
    assert rows.pop("good.nii.gz") == ("converted", "")
    texts = " ".join(f"{source}: {reason}" for source, (_, reason) in rows.items())
    assert rows.pop("d.png")[0] == "skipped"  # as each picture beside volumes
    assert {verdict for verdict, _ in rows.values()} == {"quarantined"}
    for name in set(names) - {"d.png"}:
        assert name in texts
    assert texts.count("a named pipe, expected a file") >= 4
    for special in ("a socket, expected a file", "a device, expected a file"):
        assert special in texts
    assert "zero.nii" in texts
    assert "tty.dcm" in texts


def test_one_bad_file_is_one_row_and_stops_no_other(tmp_path: Path) -> None:
    source = tmp_path / "in"
    for name in ("good.nii.gz", "other.mha"):
        write_image(source / name)
    (tmp_path / "secret.raw").write_bytes(bytes(420))
    header = "ObjectType = Image\nNDims = {}\nDimSize = 5 6 7\nElementType = MET_SHORT\nElementDataFile = {}\n"
    (source / "axes.mha").write_text(header.format(1000, "LOCAL"))
    (source / "elsewhere.mhd").write_text(header.format(3, "../secret.raw"))
    (source / "printf.mhd").write_text(header.format(3, "%s%s%s%n 1 7 1"))
    content = bytearray(gzip.decompress((source / "good.nii.gz").read_bytes()))
    for name, offset, form, values in (
        ("place.nii", 108, "f", (float("nan"),)),
        ("far.nii", 292, "f", (1e30,)),
        ("bits.nii", 72, "h", (64,)),
        ("size.nii", 40, "8h", (3, 32767, 32767, 32767, 1, 1, 1, 1)),
    ):
        changed = content.copy()
        struct.pack_into(f"<{form}", changed, offset, *values)
        (source / name).write_bytes(changed)
    rows = convert(tmp_path)
    assert {name for name, (verdict, _) in rows.items() if verdict == "converted"} == {"good.nii.gz", "other.mha"}
    reasons = {name: reason for name, (verdict, reason) in rows.items() if verdict == "quarantined"}
    expected = {
        "axes.mha": "claims '1000' axes",
        "elsewhere.mhd": "names a file elsewhere",
        "printf.mhd": "names files by",
        "place.nii": "voxels begin at byte nan",
        "far.nii": "finite 4×4",
        "bits.nii": "claims 64 bits a voxel",
        "size.nii": "bytes of voxels are claimed",
    }
    assert reasons.keys() == expected.keys()
    for name, reason in expected.items():
        assert reason in reasons[name], name
        assert str(tmp_path) not in reasons[name]


def test_a_picture_that_claims_too_much_is_one_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "in"
    source.mkdir()
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(source / "good.png")
    for name, (columns, rows) in {"bomb.png": (100_000, 100_000), "large.png": (11_000, 10_000)}.items():
        Image.fromarray(np.zeros((4, 4), np.uint8)).save(source / name)
        changed = bytearray((source / name).read_bytes())
        struct.pack_into(">2I", changed, 16, columns, rows)
        struct.pack_into(">I", changed, 29, zlib.crc32(changed[12:29]))
        (source / name).write_bytes(changed)
    os.mkfifo(source / "pipe.png")
    rows_by_name = convert(tmp_path)
    assert rows_by_name["good.png"][0] == "converted"
    for name, reason in {
        "bomb.png": "limits.pixels in params.yaml",
        "large.png": "limits.pixels in params.yaml",
        "pipe.png": "a named pipe",
    }.items():
        assert rows_by_name[name][0] == "quarantined"
        assert reason in rows_by_name[name][1]


def test_a_label_of_thousands_of_values_makes_no_reason_of_thousands(tmp_path: Path) -> None:
    array = np.arange(40**3).reshape(40, 40, 40).astype(np.int32) % 60_000
    for name in ("images/a.nii.gz", "labels/a.nii.gz"):
        write_volume(tmp_path / "in" / name, Volume(array, Geometry.from_parts(array.shape, (1, 1, 1))))
    write_image(tmp_path / "in/images/b.nii.gz")
    rows = convert(tmp_path, labels={"spleen": 1})
    verdict, reason = next(row for row in rows.values() if row[0] == "quarantined")
    assert verdict == "quarantined"
    assert "have no name in the option labels" in reason
    assert len(reason) < 300


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'file,mass\na.png,"1' + b"x" * 200_000 + b'"\n', "no CSV: line 2: field larger than field limit"),
        (b'file,mass\na.png,"1\n' + b"x,y\n" * 50_000, "no CSV: line .*: field larger than field limit"),
        (b"file,mass\na.png,1\0\n", "no CSV: line 2 holds a NUL"),
        (b"," * 100_000 + b"\n" + b"a\n" * 50_000, "no CSV: 100,001 columns; at most 10,000 are read"),
        (b"x" * 200_000, "no CSV: line 1: field larger than field limit"),
        (b"\xff\xfe" + "file,mass\n".encode("utf-16-le"), "UTF-16"),
        (b"file,mass\na.png,\xff\n", "no UTF-8: line 2"),
        (b"a,b\n1,2\n", "no column names the image"),
    ],
)
def test_a_hostile_table_of_findings_is_one_line(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "findings.csv").write_bytes(content)
    with pytest.raises(DataError, match=rf"findings\.csv: .*{reason}") as caught:
        read_findings(tmp_path / "findings.csv")
    assert len(str(caught.value)) < 2500


def test_paths_without_end_and_links_in_circles_are_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "in"
    write_image(source / "good.nii.gz")
    (source / "circle").symlink_to("circle")
    (source / "circle.nii").symlink_to("circle.nii")
    (source / "up").symlink_to("..")
    (source / "nothing.dcm").symlink_to("nothing")
    monkeypatch.chdir(source)
    for _ in range(25):  # longer than any path may be
        os.mkdir("d" * 200)  # noqa: PTH102 - a path of its own would be too long
        os.chdir("d" * 200)
    rows = convert(tmp_path)
    os.chdir(source)
    reasons = {name[:20]: reason for name, (verdict, reason) in rows.items() if verdict == "quarantined"}
    assert rows["good.nii.gz"][0] == "converted"
    assert reasons["d" * 20] == "can't be read: File name too long"
    assert reasons["circle"] == "can't be read: Too many levels of symbolic links"
    assert "Too many levels of symbolic links" in reasons["circle.nii"]
    assert reasons["nothing.dcm"] == "a link to nothing"


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "LA"])
def test_colours_anywhere_in_a_large_picture_are_seen(
    tmp_path: Path, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "PIXELS_AT_A_TIME", 1000)
    grey = np.tile(np.arange(250, dtype=np.uint8), (101, 1))
    picture = Image.fromarray(grey).convert(mode)
    picture.save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_picture(tmp_path / "a.png"), grey)
    if mode in ("RGB", "RGBA"):
        picture.putpixel((7, 100), (255, 0, 0, 255)[: len(mode)])
        picture.save(tmp_path / "a.png")
        with pytest.raises(DataError, match="a picture in colour"):
            read_picture(tmp_path / "a.png")
