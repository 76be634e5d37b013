"""Rules of which objects make one volume."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from pydicom.uid import EnhancedCTImageStorage, generate_uid

from tests.conversion_rules.rule import Rule
from tests.dicom.objects import FRAME, IDENTITY, Series, item, new, random_values, save

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from pydicom.dataset import Dataset

SERIES, HALF = "1.2.3", slice(6, 12)


def write_slices(change: Callable[[list[Dataset], bool], Any], count: int = 6) -> Callable[[Path, bool], None]:
    """Write one series whose slices are changed first."""

    def write(folder: Path, is_inside: bool) -> None:
        datasets = Series(random_values((count, 9, 7)), uid=SERIES).datasets()
        change(datasets, is_inside)
        for k, dataset in enumerate(datasets):
            save(dataset, folder / f"{k:03d}")

    return write


def set_upper_half(
    keyword: str, lower: object, inside: object, outside: object
) -> Callable[[list[Dataset], bool], None]:
    """Give the upper six of twelve slices another value, near the lower ones' or not."""

    def change(datasets: list[Dataset], is_inside: bool) -> None:
        for k, dataset in enumerate(datasets):
            value = lower if k < len(datasets) // 2 else inside if is_inside else outside
            setattr(dataset, keyword, value)

    return change


def repeat_places(
    keyword: str, first: object, inside: object, outside: object
) -> Callable[[list[Dataset], bool], None]:
    """Let the upper six slices lie where the lower ones do, with another value: two volumes, or nothing tells which."""
    set_value = set_upper_half(keyword, first, inside, outside)

    def change(datasets: list[Dataset], is_inside: bool) -> None:
        set_value(datasets, is_inside)
        for lower, upper in zip(datasets[:6], datasets[6:], strict=True):
            upper.ImagePositionPatient = lower.ImagePositionPatient

    return change


def shift_slice(datasets: list[Dataset], is_inside: bool) -> None:
    datasets[2].ImagePositionPatient = [0, 0, 4.09 if is_inside else 4.15]


def shrink(datasets: list[Dataset], is_inside: bool) -> None:
    """A micro-CT: 0.02 mm from slice to slice, one of them a sixth or a third of it off."""
    for k, dataset in enumerate(datasets):
        shift = (0.0033 if is_inside else 0.0066) * (k == 2)
        dataset.PixelSpacing, dataset.ImagePositionPatient = [0.02, 0.02], [0, 0, round(0.02 * k + shift, 6)]


def widen_gap(datasets: list[Dataset], is_inside: bool) -> None:
    if not is_inside:
        del datasets[3]


def drop_slices(datasets: list[Dataset], is_inside: bool) -> None:
    del datasets[3 if is_inside else 2 :]


def move_close(datasets: list[Dataset], is_inside: bool) -> None:
    """Two slices at one place, or all at their own."""
    if not is_inside:
        datasets[3].ImagePositionPatient = [0, 0, 4.0005]


def turn(datasets: list[Dataset], is_inside: bool) -> None:
    sine = 0.0009 if is_inside else 0.005
    datasets[3].ImageOrientationPatient = [1, 0, 0, 0, float(f"{(1 - sine**2) ** 0.5:.10f}"), sine]


def write_decimal_comma(folder: Path, is_inside: bool) -> None:
    Series(random_values(), spacing=(0.9765625, 0.9765625), uid=SERIES).write(folder)
    for path in [] if is_inside else folder.iterdir():
        path.write_bytes(path.read_bytes().replace(b"0.9765625\\0.9765625", b"0,9765625\\0,9765625"))


def write_patients(folder: Path, is_inside: bool) -> None:
    """Two patients of one SeriesInstanceUID, or of one each."""
    for n, patient in enumerate(("A", "B")):
        uid = f"1.2.{n}" if is_inside else SERIES
        Series(random_values(seed=n), uid=uid, patient=patient).write(folder / patient)


def write_same_instances(folder: Path, is_inside: bool) -> None:
    """The same UIDs twice: a copy, or other pixels."""
    Series(random_values(), uid=SERIES).write(folder / "a")
    Series(random_values(seed=0 if is_inside else 1), uid=SERIES, patient="MARKER-ID" if is_inside else "B").write(
        folder / "b"
    )


def write_concatenation(folder: Path, is_inside: bool) -> None:
    """One multi-frame CT in two objects, of which one may be missing."""
    values = random_values((8, 9, 7))
    Series(random_values(), uid="1.2.9", frame="1.2.8").write(folder / "other")
    for number, frames in enumerate((range(4), range(4, 8)), start=1):
        if is_inside or number == 1:
            save(make_concatenation_part(values, frames, number), folder / f"part{number}")


def make_concatenation_part(values: np.ndarray, frames: Sequence[int], number: int) -> Dataset:
    d = new(EnhancedCTImageStorage, "CT", SERIES)
    d.SOPInstanceUID = d.file_meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[str(number)])
    d.FrameOfReferenceUID, d.ImageType, d.ConcatenationUID = FRAME, ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"], "1.2.7"
    d.InConcatenationNumber, d.InConcatenationTotalNumber, d.NumberOfFrames = number, 2, len(frames)
    d.Rows, d.Columns, d.SamplesPerPixel, d.PhotometricInterpretation = 9, 7, 1, "MONOCHROME2"
    d.BitsAllocated, d.BitsStored, d.HighBit, d.PixelRepresentation = 16, 16, 15, 1
    measures = item(PixelSpacing=[1.5, 1], SliceThickness=2)
    rescale = item(RescaleSlope=1, RescaleIntercept=-100, RescaleType="HU")
    d.SharedFunctionalGroupsSequence = [
        item(
            PixelMeasuresSequence=[measures],
            PlaneOrientationSequence=[item(ImageOrientationPatient=list(IDENTITY))],
            PixelValueTransformationSequence=[rescale],
        )
    ]
    d.PerFrameFunctionalGroupsSequence = [
        item(PlanePositionSequence=[item(ImagePositionPatient=[0, 0, 2 * k])]) for k in frames
    ]
    d.PixelData = np.ascontiguousarray(values[list(frames)]).astype("<i2").tobytes()
    return d


def add_scout(folder: Path, is_inside: bool) -> None:
    """A slice of another orientation beside the series; outside of the rule, the rest lacks a slice."""
    datasets = Series(random_values((7, 9, 7)), uid=SERIES).datasets()
    datasets[6 if is_inside else 3].ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
    for k, dataset in enumerate(datasets):
        save(dataset, folder / str(k))


def write_mosaic(folder: Path, is_inside: bool) -> None:
    kind = ["ORIGINAL", "PRIMARY", "M", "ND", *([] if is_inside else ["MOSAIC"])]
    Series(random_values(), uid=SERIES, changes={"Modality": "MR", "ImageType": kind}).write(folder)


TWO = ("converted", "converted")
RULES = [
    Rule("regular spacing", write_slices(shift_slice), "irregular spacing: slices lie 1.850 to 2.150 mm apart"),
    Rule("regular spacing of fine slices", write_slices(shrink), "(tolerance 0.004 mm)"),
    Rule("no slice missing", write_slices(widen_gap), "1 slice(s) missing: a gap of 4.00 mm"),
    Rule("enough slices", write_slices(drop_slices), "too few slices: 2, a volume needs at least 3"),
    Rule("one slice a place", write_slices(move_close), "1 slice(s) at the same position as another"),
    Rule("one orientation", write_slices(turn), "mixed orientation"),
    Rule(
        "one pixel spacing",
        write_slices(set_upper_half("PixelSpacing", [0.9765625] * 2, [0.976562] * 2, [0.99] * 2), 12),
        "volume 1 of 2 in its series, by matrix",
        "converted",
    ),
    Rule(
        "echo time",
        write_slices(repeat_places("EchoTime", "4.60", "9.2", "4.6"), 12),
        "6 slice(s) at the same position as another",
        inside=TWO,
        inside_reason="volume 1 of 2 in its series, by EchoTime (0018,0081)",
    ),
    Rule(
        "b value",
        write_slices(repeat_places("DiffusionBValue", 0.0, 50.0, 0.5), 12),
        "6 slice(s) at the same position as another",
        inside=TWO,
        inside_reason="by DiffusionBValue (0018,9087)",
    ),
    Rule(
        "one frame of reference",
        write_slices(set_upper_half("FrameOfReferenceUID", FRAME, FRAME, "1.2.99"), 12),
        "volume 1 of 2 in its series, by FrameOfReferenceUID (0020,0052)",
        "converted",
    ),
    Rule(
        "one study",
        write_slices(set_upper_half("StudyInstanceUID", "1.2.5", "1.2.5", "1.2.6"), 12),
        "volume 1 of 2 in its series, by StudyInstanceUID (0020,000D)",
        "converted",
    ),
    Rule(
        "one patient",
        write_patients,
        "objects of another patient or modality have the same SeriesInstanceUID",
        "converted",
        inside=TWO,
    ),
    Rule(
        "one object a SOPInstanceUID",
        write_same_instances,
        "other objects have the same SOPInstanceUID (0008,0018) and another content",
        "converted",
        inside=("converted", "skipped"),
    ),
    Rule(
        "whole concatenation",
        write_concatenation,
        "a concatenation, one image in 2 objects, of which number 1 is here",
        inside=TWO,
    ),
    Rule(
        "scout in a series",
        add_scout,
        "mixed orientation",
        inside=("converted", "skipped"),
        inside_reason="1 slice(s) of another orientation than the other 6 of the series, as of a scout",
    ),
    Rule("numbers with a decimal point", write_decimal_comma, "decimal comma"),
    Rule("no mosaic", write_mosaic, "a Siemens mosaic"),
]
