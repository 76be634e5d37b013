"""What can't be trusted is named with its reason, and stops nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from pydicom.uid import SecondaryCaptureImageStorage, generate_uid

from tests.dicom.objects import Series, new, pixels, random_values, rtstruct, save, seg
from tests.tables import read_table
from voxflow.dicom import ConvertOptions, convert_folder
from voxflow.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

OPTIONS = ConvertOptions(pseudonym_key="key", workers=1, gantry_tilt="quarantine", label_grid="quarantine")


def drop_middle(datasets: list[Any]) -> None:
    del datasets[3]


def repeat_position(datasets: list[Any]) -> None:
    datasets[2].ImagePositionPatient = datasets[1].ImagePositionPatient


def shift_one_slice(datasets: list[Any]) -> None:
    datasets[2].ImagePositionPatient = [0, 0, 4.6]


def tilt_gantry(datasets: list[Any]) -> None:
    for k, dataset in enumerate(datasets):
        dataset.ImagePositionPatient = [0, 0.3 * k, 2 * k]


def turn_one(datasets: list[Any]) -> None:
    datasets[4].ImageOrientationPatient = [1, 0, 0, 0, 0, -1]


def keep_two(datasets: list[Any]) -> None:
    del datasets[2:]


def remove_position(datasets: list[Any]) -> None:
    del datasets[0].ImagePositionPatient


def change_size(datasets: list[Any]) -> None:
    pixels(datasets[0], np.zeros((4, 4), np.int16))


def cut_pixels(datasets: list[Any]) -> None:
    datasets[5].PixelData = datasets[5].PixelData[:20]


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (drop_middle, "1 slice(s) missing: a gap of 4.00 mm after slice 3 of 5 at 4.00 mm"),
        (repeat_position, "1 slice(s) at the same position as another, first at 2.00 mm"),
        (shift_one_slice, "irregular spacing: slices lie 1.400 to 2.600 mm apart, one of them 0.600 mm off"),
        (tilt_gantry, "slices shifted sideways by up to 1.50 mm"),
        (turn_one, "(0020,0037): mixed orientation"),
        (keep_two, "too few slices: 2, a volume needs at least 3"),
        (remove_position, "(0020,0032): the position is missing or no 3 numbers in 1 of 6"),
        (change_size, "slices of different size (rows, columns): (4, 4), (9, 7)"),
        (cut_pixels, "(7FE0,0010): pixels can't be decoded"),
    ],
)
def test_a_bad_series_is_quarantined_with_its_reason(
    tmp_path: Path, spoil: Callable[[list[Any]], None], reason: str
) -> None:
    good, bad = Series(random_values(), uid="1.2.3"), Series(random_values(), uid="1.2.4", frame="1.2.5")
    good.write(tmp_path / "in/good")
    datasets = bad.datasets()
    spoil(datasets)
    for k, dataset in enumerate(datasets):
        save(dataset, tmp_path / "in/bad" / str(k))
    summary = convert_folder(tmp_path / "in", tmp_path / "out", OPTIONS)
    row = next(row for row in table(tmp_path / "out") if row["series_uid"] == "1.2.4")
    assert (summary.converted, summary.quarantined, summary.cases) == (1, 1, 1)
    assert row["verdict"] == "quarantined"
    assert reason in row["reason"]


def test_localizers_captures_and_other_modalities_are_skipped_by_kind(tmp_path: Path) -> None:
    Series(random_values()).write(tmp_path / "in/ct")
    Series(random_values(), changes={"Modality": "MR"}).write(tmp_path / "in/mr")
    Series(random_values()[:1], changes={"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}).write(tmp_path / "in/l")
    capture = new(SecondaryCaptureImageStorage, "OT", str(generate_uid()))
    pixels(capture, np.zeros((4, 4), np.uint16))
    save(capture, tmp_path / "in/sc")
    save(new("1.2.840.10008.5.1.4.1.1.88.11", "SR", str(generate_uid())), tmp_path / "in/report")
    (tmp_path / "in/notes.txt").write_text("no image")
    summary = convert_folder(tmp_path / "in", tmp_path / "out", ConvertOptions(modalities=("CT",), pseudonym_key="k"))
    reasons = sorted(row["reason"] for row in table(tmp_path / "out") if row["verdict"] == "skipped")
    assert reasons == [
        "localizer",
        "modality MR is not among CT",
        "no image (.txt)",
        "no image (SR)",
        "secondary capture",
    ]
    assert (summary.cases, summary.skipped, summary.quarantined) == (1, 5, 0)


def test_magnitude_and_phase_in_one_series_become_two_cases(tmp_path: Path) -> None:
    for kind, seed in (("M", 1), ("P", 2)):
        datasets = Series(random_values(seed=seed), uid="1.2.3").datasets()
        for k, dataset in enumerate(datasets):
            dataset.ImageType = ["ORIGINAL", "PRIMARY", kind]
            dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
            save(dataset, tmp_path / "in" / kind / str(k))
    summary = convert_folder(tmp_path / "in", tmp_path / "out", OPTIONS)
    assert (summary.series, summary.cases, summary.patients) == (2, 2, 1)


def test_copies_of_a_file_count_once(tmp_path: Path) -> None:
    series = Series(random_values())
    series.write(tmp_path / "in/a")
    series.write(tmp_path / "in/b")
    assert convert_folder(tmp_path / "in", tmp_path / "out", OPTIONS).quarantined == 0
    image, copies = table(tmp_path / "out")
    assert (image["verdict"], copies["verdict"], image["files"]) == ("converted", "skipped", copies["files"])
    assert copies["reason"] == "a copy of a DICOM object that another file holds"


def test_labels_without_their_image_are_quarantined_and_the_image_goes_on(tmp_path: Path) -> None:
    triangle = np.array([[1.0, 1, 2], [5, 1, 2], [3, 8, 2]])
    Series(random_values()).write(tmp_path / "in/ct")
    save(rtstruct([triangle], frame="1.2.99"), tmp_path / "in/lost")
    bent = np.vstack([triangle, [[1.0, 8, 6]]])
    save(rtstruct([bent], name="bent"), tmp_path / "in/bent")
    summary = convert_folder(tmp_path / "in", tmp_path / "out", OPTIONS)
    assert (summary.cases, summary.labelled, summary.quarantined) == (1, 0, 2)
    assert "shares its frame of reference" in " ".join(summary.reasons)
    assert "a closed contour is not planar" in " ".join(summary.reasons)


def test_two_series_in_one_frame_of_reference_leave_a_label_undecided(tmp_path: Path) -> None:
    Series(random_values()).write(tmp_path / "in/a")
    Series(random_values(seed=1)).write(tmp_path / "in/b")
    save(rtstruct([np.array([[1.0, 1, 2], [5, 1, 2], [3, 8, 2]])]), tmp_path / "in/rt")
    summary = convert_folder(tmp_path / "in", tmp_path / "out", OPTIONS)
    assert summary.labelled == 0
    assert "2 image series share its frame of reference" in summary.reasons[0]


def test_a_label_on_another_grid_is_quarantined(tmp_path: Path) -> None:
    series = Series(random_values(), uid="1.2.3")
    series.write(tmp_path / "in/ct")
    moved = Series(random_values(), uid="1.2.3", origin=(0.4, 0, 0))
    save(seg(moved, np.ones((6, 9, 7), np.uint8), ["Organ"]), tmp_path / "in/seg")
    summary = convert_folder(tmp_path / "in", tmp_path / "out", OPTIONS)
    assert "on another grid than its image: pixels are up to 0.40 voxels off" in summary.reasons[0]


def test_a_label_of_a_bad_series_is_not_counted_as_converted(tmp_path: Path) -> None:
    Series(random_values(), uid="1.2.1").write(tmp_path / "in/good")
    bad = Series(random_values()[:2], uid="1.2.3", frame="1.2.7")
    bad.write(tmp_path / "in/ct")
    save(seg(bad, np.ones((2, 9, 7), np.uint8), ["Organ"]), tmp_path / "in/seg")
    summary = convert_folder(tmp_path / "in", tmp_path / "out", OPTIONS)
    assert (summary.converted, summary.quarantined, summary.skipped) == (1, 1, 1)


def test_an_empty_folder_says_what_is_expected(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(DataError, match="in: the folder is empty; expected DICOM, NIfTI"):
        convert_folder(tmp_path / "in", tmp_path / "out", OPTIONS)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere: no such folder"):
        convert_folder(tmp_path / "nowhere", tmp_path / "out", OPTIONS)


def test_a_folder_of_text_files_says_so(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.txt").write_text("hello")
    with pytest.raises(DataError, match=r"1 file\(s\), and none of them is DICOM, NIfTI, MetaImage, NRRD or PNG"):
        convert_folder(tmp_path / "in", tmp_path / "out", OPTIONS)


def test_nothing_convertible_leaves_no_output_and_gives_the_reasons(tmp_path: Path) -> None:
    Series(random_values()[:2]).write(tmp_path / "in")
    with pytest.raises(DataError, match=r"none of 1 series could be converted: .*too few slices: 2"):
        convert_folder(tmp_path / "in", tmp_path / "out", OPTIONS)
    assert not (tmp_path / "out").exists()


def table(folder: Path) -> list[dict[str, str]]:
    return read_table(folder / "conversion.csv")
