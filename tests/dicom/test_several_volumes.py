"""A series that holds several volumes is taken apart, and no volume is dealt out over others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from pydicom.uid import EnhancedMRImageStorage, generate_uid

from tests.dicom.objects import FRAME, IDENTITY, Series, item, new, random_values, save
from tests.tables import read_table
from voxflow.dicom import ConvertOptions, convert_folder
from voxflow.errors import DataError
from voxflow.volumes import read_volume

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray


def write(folder: Path, volumes: Sequence[dict[str, Any]]) -> list[NDArray[np.int16]]:
    """One series of as many volumes as there are changes; gives their voxels, each (slices, rows, columns)."""
    order = np.random.default_rng(1).permutation(6 * len(volumes))
    for n, changes in enumerate(volumes):
        for k, dataset in enumerate(Series(random_values(seed=n), uid="1.2.3", changes=changes).datasets()):
            dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
            save(dataset, folder / f"{order[n * 6 + k]:03d}")
    return [random_values(seed=n) - 100 for n in range(len(volumes))]


def convert_arrays(tmp_path: Path, **options: Any) -> list[NDArray[Any]]:
    """The volumes in the order of the case table."""
    convert_folder(tmp_path / "in", tmp_path / "out", ConvertOptions(pseudonym_key="k", workers=1, **options))
    return [read_volume(tmp_path / "out" / row["image"]).array.transpose(2, 1, 0) for row in table(tmp_path, "cases")]


def table(tmp_path: Path, name: str) -> list[dict[str, str]]:
    return read_table(tmp_path / f"out/{name}.csv")


def equal_arrays(mine: list[NDArray[Any]], expected: list[NDArray[Any]]) -> bool:
    return len(mine) == len(expected) and all(map(np.array_equal, mine, expected))


@pytest.mark.parametrize(
    ("volumes", "by"),
    [
        (
            [{"TemporalPositionIdentifier": n} for n in (2, 10)],
            ["TemporalPositionIdentifier (0020,0100) {}", "2", "10"],
        ),
        ([{"EchoTime": t} for t in (2.5, 11.0, 100.0)], ["EchoTime (0018,0081) {} ms", "2.5", "11", "100"]),
        ([{"AcquisitionNumber": n} for n in (1, 2)], ["AcquisitionNumber (0020,0012) {}", "1", "2"]),
        (
            [{"DiffusionBValue": float(b)} for b in (0, 50, 800)],
            ["DiffusionBValue (0018,9087) {} s/mm2", "0", "50", "800"],
        ),
        ([{"TriggerTime": t} for t in (0, 40.5, 300)], ["TriggerTime (0018,1060) {} ms", "0", "40.5", "300"]),
        (
            [{"AcquisitionTime": t} for t in ("075950", "080002.5")],
            ["AcquisitionTime (0008,0032) {} s after the first", "0", "12.5"],
        ),
        (
            [{"EchoTime": e, "TemporalPositionIdentifier": t} for e in (2, 4) for t in (1, 2)],
            [
                "EchoTime (0018,0081) {} ms and TemporalPositionIdentifier (0020,0100) {}",
                *("2 1", "2 2", "4 1", "4 2"),
            ],
        ),
    ],
)
def test_each_volume_is_a_case_in_the_order_of_what_varies(
    tmp_path: Path, volumes: list[dict[str, Any]], by: list[str]
) -> None:
    expected = write(tmp_path / "in", volumes)
    assert equal_arrays(convert_arrays(tmp_path), expected)
    reasons = [row["reason"] for row in table(tmp_path, "conversion")]
    attribute, *values = by
    assert reasons == [
        f"volume {n} of {len(volumes)} in its series, by {attribute.format(*value.split())}"
        for n, value in enumerate(values, start=1)
    ]


def test_the_first_alone_is_converted_when_params_say_so(tmp_path: Path) -> None:
    expected = write(tmp_path / "in", [{"TemporalPositionIdentifier": n} for n in (9, 10, 11)])
    assert equal_arrays(convert_arrays(tmp_path, several_volumes="first"), expected[:1])
    rows = table(tmp_path, "conversion")
    assert sorted(row["verdict"] for row in rows) == ["converted", "skipped", "skipped"]
    assert rows[-1]["reason"].endswith("only the first is asked for")


def test_volumes_that_nothing_tells_apart_are_quarantined(tmp_path: Path) -> None:
    write(tmp_path / "in", [{}, {}])
    with pytest.raises(DataError, match=r"6 slice\(s\) at the same position as another"):
        convert_arrays(tmp_path)


def test_a_time_point_that_lacks_a_slice_is_quarantined_and_the_other_goes_on(tmp_path: Path) -> None:
    expected = write(tmp_path / "in", [{"TemporalPositionIdentifier": n} for n in (1, 2)])
    lost = next(path for path in sorted((tmp_path / "in").iterdir()) if _is(path, place=3, time=2))
    lost.unlink()
    assert equal_arrays(convert_arrays(tmp_path), expected[:1])
    assert (
        "1 slice(s) missing" in table(tmp_path, "conversion")[0]["reason"] + table(tmp_path, "conversion")[1]["reason"]
    )


def _is(path: Path, place: int, time: int) -> bool:
    import pydicom

    d = pydicom.dcmread(path)
    return bool(d.ImagePositionPatient[2] == 2 * place and d.TemporalPositionIdentifier == time)


def test_slices_are_not_dealt_out_by_a_time_that_alternates(tmp_path: Path) -> None:
    # Places 0 2 4 at one time and 0 1 2 3 ... at another: two plain halves, and neither is the volume.
    for n, (places, time) in enumerate([((0, 2, 4), "1"), ((0, 1, 2, 3, 4, 5), "2")]):
        datasets = Series(random_values(seed=n), uid="1.2.3", changes={"TriggerTime": time}).datasets()
        for k in places:
            datasets[k].SOPInstanceUID = datasets[k].file_meta.MediaStorageSOPInstanceUID = generate_uid()
            save(datasets[k], tmp_path / "in" / f"{n}{k}")
    with pytest.raises(DataError, match="same position as another"):
        convert_arrays(tmp_path)


def test_the_time_points_of_a_multi_frame_object_are_volumes(tmp_path: Path) -> None:
    values = two_in_one(tmp_path / "in/one")
    assert equal_arrays(convert_arrays(tmp_path), list(values))


def two_in_one(path: Path) -> NDArray[np.int16]:
    """A multi-frame object of two time points, whose frames take turns; gives (times, slices, rows, columns)."""
    values = np.stack([random_values(seed=n) for n in range(2)])
    d = new(EnhancedMRImageStorage, "MR", str(generate_uid()))
    d.FrameOfReferenceUID, d.ImageType = FRAME, ["ORIGINAL", "PRIMARY", "M", "NONE"]
    d.NumberOfFrames, d.Rows, d.Columns, d.SamplesPerPixel = 12, 9, 7, 1
    d.PhotometricInterpretation, d.BitsAllocated, d.BitsStored, d.HighBit = "MONOCHROME2", 16, 16, 15
    d.PixelRepresentation = 1
    shared = item(
        PixelMeasuresSequence=[item(PixelSpacing=[1.5, 1], SliceThickness=2)],
        PlaneOrientationSequence=[item(ImageOrientationPatient=list(IDENTITY))],
    )
    d.SharedFunctionalGroupsSequence = [shared]
    order = [(t, k) for k in range(6) for t in range(2)]
    d.PerFrameFunctionalGroupsSequence = [
        item(
            FrameContentSequence=[item(TemporalPositionIndex=t + 1)],
            PlanePositionSequence=[item(ImagePositionPatient=[0, 0, 2 * k])],
        )
        for t, k in order
    ]
    d.PixelData = np.stack([values[t, k] for t, k in order]).astype("<i2").tobytes()
    save(d, path)
    return values
