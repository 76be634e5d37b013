"""A mask finds its way back to the slices that its image was made of: mended stacks, and one volume of several."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import highdicom as hd
import numpy as np
import pydicom
import pytest

from tests.dicom.test_remedies import OBLIQUE, UNEVEN
from tests.dicom.test_remedies import write as write_ramp
from tests.dicom.test_several_volumes import two_in_one
from tests.dicom.test_several_volumes import write as write_several
from tests.tables import read_table
from voxflow.dicom import ConvertOptions, Origin, convert_folder, find_sources, write_segmentation
from voxflow.errors import DicomError
from voxflow.volumes import Volume, read_volume

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from voxflow.dicom import SourceFiles

OPTIONS = ConvertOptions(pseudonym_key="k", workers=1, irregular_spacing="resample")
STEPS = np.arange(9)


def cases(tmp_path: Path, options: ConvertOptions = OPTIONS) -> list[dict[str, str]]:
    convert_folder(tmp_path / "in", tmp_path / "out", options)
    return read_table(tmp_path / "out/cases.csv")


def origin(case: dict[str, str]) -> Origin:
    return Origin(case["series_uid"], int(case["volume"]), case["instance_uid"])


def ball(points: NDArray[np.float64], centre: NDArray[np.float64]) -> NDArray[np.bool_]:
    """What is drawn: an ellipsoid in the patient, mm."""
    return np.asarray(((np.asarray(points) - centre) ** 2).sum(axis=-1) < 4.0**2)


def make_ball_mask(tmp_path: Path) -> tuple[Volume, NDArray[np.float64], SourceFiles]:
    """A ball in the middle of the one volume that was converted, its centre, and the volume's files."""
    (case,) = cases(tmp_path)
    geometry = read_volume(tmp_path / "out" / case["image"]).geometry
    centre = geometry.to_physical((np.array(geometry.size) - 1) / 2)
    index = np.moveaxis(np.indices(geometry.size), 0, -1).astype(float)
    mask = Volume(ball(geometry.to_physical(index), centre).astype(np.uint8), geometry)
    return mask, centre, find_sources(tmp_path / "in", [origin(case)], OPTIONS)[origin(case)]


def pixels_at(dataset: Any) -> NDArray[np.float64]:
    """Where the pixels of a slice lie, (rows, columns, 3), by the definition in DICOM PS3.3 C.7.6.2.1.1."""
    row, column = np.array(dataset.ImageOrientationPatient, float).reshape(2, 3)
    y, x = np.mgrid[: dataset.Rows, : dataset.Columns]
    down, right = dataset.PixelSpacing
    first = np.array(dataset.ImagePositionPatient, float)
    return np.asarray(first + x[..., None] * right * row + y[..., None] * down * column)


@pytest.mark.parametrize(
    "offsets",
    [np.outer(STEPS, (0, -0.6, 2.0)), UNEVEN, UNEVEN + np.outer(UNEVEN[:, 2], (0, 0.25, 0))],
    ids=["tilted", "uneven", "both"],
)
def test_a_mask_of_a_mended_volume_lands_on_its_slices(tmp_path: Path, offsets: NDArray[np.float64]) -> None:
    write_ramp(tmp_path / "in", offsets)
    mask, centre, source_files = make_ball_mask(tmp_path)
    write_segmentation(tmp_path / "seg.dcm", mask, source_files, {1: "Spleen"})

    slices = [pydicom.dcmread(path) for path in source_files.files]
    theirs = hd.seg.segread(tmp_path / "seg.dcm").get_pixels_by_source_instance(
        [d.SOPInstanceUID for d in slices], assert_missing_frames_are_empty=True, combine_segments=True
    )
    expected = np.stack([ball(pixels_at(d), centre) for d in slices])
    # Only pixels at the border of the ball may differ: half a voxel of the mended volume, at most.
    near = [np.abs(np.linalg.norm(pixels_at(d) - centre, axis=-1) - 4.0) for d in slices]
    reach = np.linalg.norm(mask.geometry.spacing) / 2
    assert expected.sum() > 50
    assert np.array_equal(theirs[np.stack(near) > reach], expected[np.stack(near) > reach])
    assert "nearest voxel" in pydicom.dcmread(tmp_path / "seg.dcm").ContentDescription


def test_a_label_drawn_on_tilted_slices_reaches_the_straight_volume(tmp_path: Path) -> None:
    write_ramp(tmp_path / "in", np.outer(STEPS, (0, -0.6, 2.0)))
    mask, _, source_files = make_ball_mask(tmp_path)
    write_segmentation(tmp_path / "in/seg.dcm", mask, source_files, {1: "Spleen"})
    (case,) = cases(tmp_path)
    label = read_volume(tmp_path / "out" / case["label"])
    assert label.geometry.is_close(mask.geometry)
    intersection = (label.array > 0) & (mask.array > 0)
    assert 2 * intersection.sum() / ((label.array > 0).sum() + mask.array.sum()) > 0.9


def test_each_volume_of_a_series_refers_to_its_own_instances(tmp_path: Path) -> None:
    write_several(tmp_path / "in", [{"EchoTime": t} for t in (2.5, 11.0)])
    echoes = {
        pydicom.dcmread(path).SOPInstanceUID: pydicom.dcmread(path).EchoTime for path in (tmp_path / "in").iterdir()
    }
    for case, echo in zip(cases(tmp_path), (2.5, 11.0), strict=True):
        image = read_volume(tmp_path / "out" / case["image"])
        mask = Volume(np.random.default_rng(0).integers(0, 2, image.array.shape).astype(np.uint8), image.geometry)
        source_files = find_sources(tmp_path / "in", [origin(case)], OPTIONS)[origin(case)]
        write_segmentation(tmp_path / "seg.dcm", mask, source_files, {1: "Spleen"})
        series = pydicom.dcmread(tmp_path / "seg.dcm").ReferencedSeriesSequence[0]
        assert {echoes[item.ReferencedSOPInstanceUID] for item in series.ReferencedInstanceSequence} == {echo}
        theirs = hd.seg.segread(tmp_path / "seg.dcm").get_volume(combine_segments=True)
        assert int(theirs.array.sum()) == int(mask.array.sum())


def test_one_time_point_of_a_multi_frame_object_refers_to_its_own_frames(tmp_path: Path) -> None:
    two_in_one(tmp_path / "in/one")
    rows = cases(tmp_path)
    assert [case["volume"] for case in rows] == ["1", "2"]
    for time, case in enumerate(rows):
        image = read_volume(tmp_path / "out" / case["image"])
        mask = Volume((image.array > 500).astype(np.uint8), image.geometry)
        source_files = find_sources(tmp_path / "in", [origin(case)], OPTIONS)[origin(case)]
        write_segmentation(tmp_path / "seg.dcm", mask, source_files, {1: "Spleen"})
        numbers = [2 * k + time + 1 for k in range(6)]
        uid = pydicom.dcmread(tmp_path / "in/one").SOPInstanceUID
        seg = hd.seg.segread(tmp_path / "seg.dcm")
        theirs = seg.get_pixels_by_source_frame(uid, numbers, combine_segments=True)
        assert np.array_equal(theirs.transpose(2, 1, 0), mask.array)
        assert seg.NumberOfFrames == 6


def test_tables_of_older_conversions_mean_the_whole_series(tmp_path: Path) -> None:
    write_several(tmp_path / "in", [{}])
    assert len(find_sources(tmp_path / "in", [Origin("1.2.3")], OPTIONS)[Origin("1.2.3")].files) == 6
    assert not find_sources(tmp_path / "in", [Origin("1.2.3", 1, "9.9"), Origin("1.2.4")], OPTIONS)


def shift_sideways(offsets: NDArray[np.float64]) -> None:
    offsets[2, 1] += 3


def leave_one_out(offsets: NDArray[np.float64]) -> None:
    offsets[4:, 2] += 2


@pytest.mark.parametrize(
    ("spoil", "reason"), [(shift_sideways, "no tilt of a gantry explains it"), (leave_one_out, "1 slice.s. missing")]
)
def test_slices_that_make_no_volume_get_no_segmentation(
    tmp_path: Path, spoil: Callable[[NDArray[np.float64]], None], reason: str
) -> None:
    offsets = np.outer(STEPS, (0, 0, 2.0))
    write_ramp(tmp_path / "sound", offsets, OBLIQUE)
    spoil(offsets)
    write_ramp(tmp_path / "in", offsets, OBLIQUE)
    volume = Volume(np.zeros((14, 12, 9), np.uint8), _grid(tmp_path / "sound"))
    with pytest.raises(DicomError, match=reason):
        write_segmentation(tmp_path / "seg.dcm", volume, sorted((tmp_path / "in").iterdir()), {1: "Spleen"})
    assert not (tmp_path / "seg.dcm").exists()


def _grid(folder: Path) -> Any:
    convert_folder(folder, folder.parent / "grid", OPTIONS)
    return read_volume(next((folder.parent / "grid/images").iterdir())).geometry
