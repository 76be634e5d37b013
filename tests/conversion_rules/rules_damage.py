"""Rules of files that are damaged, or claim what can't be."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydicom.uid import JPEG2000Lossless, JPEGBaseline8Bit, JPEGLSLossless, generate_uid

from tests.conversion_rules.rule import Rule
from tests.dicom.hostile_files import overwrite
from tests.dicom.hostile_frames import make_frame, make_object, make_picture, patch, shorts
from tests.dicom.objects import Series, contour, random_values, save, structure_set

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pydicom.dataset import Dataset
    from pydicom.uid import UID

SOUND, SERIES = "1.2.1", "1.2.3"


def write_beside_sound(change: Callable[[list[Dataset], bool], None]) -> Callable[[Path, bool], None]:
    """Write a series that is changed first, and a sound one in another folder."""

    def write(folder: Path, is_inside: bool) -> None:
        Series(random_values(seed=3), uid=SOUND, frame="1.2.11").write(folder / "sound")
        datasets = Series(random_values(), uid=SERIES).datasets()
        change(datasets, is_inside)
        for k, dataset in enumerate(datasets):
            save(dataset, folder / f"series/{k}")

    return write


def write_cut_file(folder: Path, is_inside: bool) -> None:
    """A file that is cut off behind its study beside a series; that of a structure set is no slice."""
    Series(random_values(), uid=SERIES).write(folder)
    slices = Series(random_values(), uid=SERIES, origin=(0, 0, -2)).datasets()
    slices[0].SOPInstanceUID = slices[0].file_meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset = structure_set({"Organ": []}, slices) if is_inside else slices[0]
    path = save(dataset, folder / "lost")
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"\x20\x00\x0d\x00")])


def write_frames(change: Callable[[bytes], bytes], syntax: UID) -> Callable[[Path, bool], None]:
    """Write a compressed series; outside, a frame is changed."""

    def write(folder: Path, is_inside: bool) -> None:
        for k, dataset in enumerate(Series(np.stack([make_picture()] * 4), uid=SERIES).datasets()):
            frame = make_frame(syntax)
            compressed = make_object(syntax, frame if is_inside or k else change(frame))
            for keyword in ("SOPInstanceUID", "SeriesInstanceUID", "ImagePositionPatient"):
                setattr(compressed, keyword, dataset[keyword].value)
            compressed.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
            save(compressed, folder / str(k))

    return write


def count_frames(datasets: list[Dataset], is_inside: bool) -> None:
    picture = random_values()[0].astype("<i2").tobytes()
    datasets[0].PixelData = picture + (bytes(40) if is_inside else picture)


def write_long_uid(folder: Path, is_inside: bool) -> None:
    Series(random_values(), uid="1." * 31 + ("22" if is_inside else "2222"), frame="1.2.31").write(folder / "series")
    Series(random_values(seed=3), uid=SOUND, frame="1.2.11").write(folder / "sound")


def move_far(datasets: list[Dataset], is_inside: bool) -> None:
    for k, dataset in enumerate(datasets):
        dataset.ImagePositionPatient = [0, 0, (99_980 if is_inside else 99_999) + 2 * k]


def widen_pixels(datasets: list[Dataset], is_inside: bool) -> None:
    for dataset in datasets:
        dataset.PixelSpacing = [99, 99] if is_inside else [101, 101]


def turn_orientation(folder: Path, is_inside: bool) -> None:
    """One slice of another orientation, or of none: the scout of a series, or a damaged slice."""
    Series(random_values(seed=3), uid=SOUND, frame="1.2.11").write(folder / "sound")
    datasets = Series(random_values(), uid=SERIES).datasets()
    for k, dataset in enumerate(datasets[1:]):
        save(dataset, folder / f"series/{k}")
    orientation = b"0\\0\\1\\0\\1\\0 " if is_inside else b"9\\9\\9\\9\\9\\9 "
    (folder / "series/first").write_bytes(overwrite((0x20, 0x37), orientation)(datasets[0]))


def write_rois(names: Callable[[bool], list[str]]) -> Callable[[Path, bool], None]:
    def write(folder: Path, is_inside: bool) -> None:
        series = Series(random_values(), uid=SERIES)
        images = series.datasets()
        series.write(folder / "ct")
        box = np.array([[1.0, 1, 2], [5, 1, 2], [5, 9, 2], [1, 9, 2]])
        rois = {name: [contour(box, images[1])] * (n == 0) for n, name in enumerate(names(is_inside))}
        save(structure_set(rois, images), folder / "rt")

    return write


RULES = [
    Rule(
        "files beside a series",
        write_cut_file,
        "a slice may be missing: 1 DICOM file(s) beside it",
        inside=("converted", "quarantined"),
    ),
    Rule(
        "size of a compressed frame",
        write_frames(patch(b"\xff\xf7", 5, shorts(65535)), JPEGLSLossless),
        "a frame of JPEG-LS claims 65535 rows, 60 columns and 1 sample(s) a pixel, and the header 64, 60 and 1",
    ),
    Rule(
        "whole compressed frame",
        write_frames(lambda frame: frame[:-200], JPEG2000Lossless),
        "a compressed frame is cut off",
    ),
    Rule(
        "damage that a decoder reports",
        write_frames(lambda frame: frame[:-100] + bytes(40) + frame[-60:], JPEGBaseline8Bit),
        "a frame is damaged, its decoder says: Corrupt JPEG data",
    ),
    Rule(
        "length of uncompressed pixels",
        write_beside_sound(count_frames),
        "126 bytes of pixels are claimed and 252 are there: the size is wrong",
        inside=("converted", "converted"),
    ),
    Rule(
        "length of a text",
        write_long_uid,
        "SeriesInstanceUID (0020,000E) has 66 characters, at most 64",
        inside=("converted", "converted"),
    ),
    Rule(
        "place of a volume",
        write_beside_sound(move_far),
        "at most 100000 mm are taken (limits.position_mm",
        inside=("converted", "converted"),
    ),
    Rule(
        "distance of voxels",
        write_beside_sound(widen_pixels),
        "at most 100 mm are taken (limits.spacing_mm",
        inside=("converted", "converted"),
    ),
    Rule(
        "orientation of a scout",
        turn_orientation,
        "(0020,0037)",
        inside=("converted", "converted", "skipped"),
    ),
    Rule(
        "name of a label",
        write_rois(lambda is_inside: ["Organ", "x" * (64 if is_inside else 65)]),
        "its name has 65 characters, at most 64 are allowed",
        inside=("converted", "converted"),
    ),
    Rule(
        "number of labels",
        write_rois(lambda is_inside: [f"Organ {n}" for n in range(1024 if is_inside else 1025)]),
        "it names 1025 ROIs, at most 1024 are taken",
        inside=("converted", "converted"),
    ),
]
