"""One bad DICOM file costs its series at most, and has a row; the others are converted, in little memory and time."""

from __future__ import annotations

import struct
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from pydicom.uid import UID

from tests.dicom.hostile_files import FILES, UNDEFINED, deflate, insert, write_bytes
from tests.dicom.objects import Series, contour, new, pixels, random_values, save, structure_set
from tests.tables import read_table
from voxflow.dicom import ConvertOptions, convert_folder
from voxflow.errors import DataError
from voxflow.volumes import read_volume

if TYPE_CHECKING:
    from collections.abc import Iterator

OPTIONS = ConvertOptions(pseudonym_key="key", workers=1, mapping=False)
MOST_SECONDS, MOST_MB = 20.0, 1300
LONGEST_CELL = 500


@pytest.fixture(autouse=True)
def _ignore_warnings() -> Iterator[None]:
    """Libraries say in warnings what the verdicts say in words."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def convert(folder: Path) -> list[dict[str, str]]:
    convert_folder(folder / "in", folder / "out", OPTIONS)
    return read_table(folder / "out/conversion.csv")


def write_sound_series(folder: Path) -> None:
    Series(random_values(seed=7), uid="1.2.99", frame="1.2.98", patient="sound").write(folder / "in/sound")


def read_peak_mb() -> int:
    return int(Path("/proc/self/status").read_text(encoding="ascii").split("VmHWM:")[1].split()[0]) // 1024


@pytest.mark.parametrize("name", FILES)
def test_a_hostile_file_costs_its_series_alone(tmp_path: Path, name: str) -> None:
    change, reason = FILES[name]
    write_sound_series(tmp_path)
    first, *others = Series(random_values(), uid="1.2.3").datasets()
    (tmp_path / "in/bad").mkdir()
    (tmp_path / "in/bad/0").write_bytes(change(first))
    for k, dataset in enumerate(others, start=1):
        save(dataset, tmp_path / f"in/bad/{k}")
    before, begin = read_peak_mb(), time.monotonic()
    rows = convert(tmp_path)
    assert time.monotonic() - begin < MOST_SECONDS
    assert read_peak_mb() - before < MOST_MB
    sound, *bad = sorted(rows, key=lambda row: row["series_uid"] != "1.2.99")
    assert (sound["verdict"], sound["reason"]) == ("converted", "")
    assert bad
    assert all(row["verdict"] == "quarantined" and row["reason"] for row in bad), bad
    assert any(reason in row["reason"] for row in bad), bad
    assert sum(int(row["files"]) for row in bad) == 6
    assert max(len(cell) for row in rows for cell in row.values()) < LONGEST_CELL
    assert not list((tmp_path / "out").rglob(".partial-*"))


# Bytes of a slice's file: in its preamble, its prefix, its file meta, and its data set.
CUTS = (0, 1, 64, 127, 128, 129, 131, 132, 140, 150, 200, 260, 300, 340, *range(360, 1150, 60))


@pytest.mark.parametrize("cut", CUTS)
def test_a_series_whose_last_slice_is_cut_off_is_not_taken_as_whole(tmp_path: Path, cut: int) -> None:
    write_sound_series(tmp_path)
    paths = Series(random_values((8, 9, 7)), uid="1.2.3").write(tmp_path / "in/bad")
    data = paths[-1].read_bytes()
    assert len(data) > max(CUTS)
    paths[-1].write_bytes(data[:cut])
    rows = [row for row in convert(tmp_path) if row["series_uid"] != "1.2.99"]
    assert {row["verdict"] for row in rows} == {"quarantined"}
    assert sum(int(row["files"]) for row in rows) == 8


@pytest.mark.parametrize("cut", [0, 100, 132, 200, 330])
def test_series_in_one_folder_with_a_file_that_says_nothing_tell_of_it(tmp_path: Path, cut: int) -> None:
    for number in range(2):
        Series(random_values(seed=number), uid=f"1.2.{number}", frame=f"1.3.{number}").write(tmp_path / f"in/{number}")
    for path in (tmp_path / "in").rglob("*"):
        if path.is_file():
            path.rename(tmp_path / f"in/{path.parent.name}{path.name}")
    lost = tmp_path / "in/0F000"
    lost.write_bytes(lost.read_bytes()[:cut])
    rows = {row["series_uid"]: row for row in convert(tmp_path)}
    assert rows[""]["verdict"] == "quarantined"
    # Of the other series nothing is missing, but nobody can know.
    assert rows["1.2.1"]["verdict"] == "converted"
    assert "1 DICOM file(s) in its folder or series can't be read" in rows["1.2.1"]["reason"]
    assert rows["1.2.0"]["verdict"] == "quarantined" or "can't be read" in rows["1.2.0"]["reason"]


def test_a_slice_that_another_file_holds_whole_is_not_missed(tmp_path: Path) -> None:
    paths = Series(random_values(), uid="1.2.3").write(tmp_path / "in")
    (tmp_path / "in/again").write_bytes(paths[0].read_bytes()[:900])
    rows = convert(tmp_path)
    assert sorted(row["verdict"] for row in rows) == ["converted", "quarantined"]
    assert next(row["reason"] for row in rows if row["verdict"] == "converted") == ""


def test_a_file_of_another_class_or_patient_is_no_slice_of_a_series(tmp_path: Path) -> None:
    Series(random_values(), uid="1.2.3", patient="A").write(tmp_path / "in")
    paths = Series(random_values(), uid="1.2.4", patient="B").write(tmp_path / "other")
    data = paths[0].read_bytes()
    (tmp_path / "in/lost").write_bytes(data[: data.index(b"\x20\x00\x0d\x00")])
    rows = convert(tmp_path)
    assert next(row["reason"] for row in rows if row["verdict"] == "converted") == ""


def test_of_two_volumes_of_a_series_the_shorter_one_lacks_the_slice(tmp_path: Path) -> None:
    for echo in range(2):
        series = Series(random_values(seed=echo), uid="1.2.3", changes={"EchoTime": 10 * (echo + 1)})
        for k, dataset in enumerate(series.datasets()):
            dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = UID(f"1.2.3.{echo}.{k + 1}")
            path = save(dataset, tmp_path / f"in/{echo}{k}")
    path.write_bytes(path.read_bytes()[:-700])
    rows = convert(tmp_path)
    verdicts = sorted((row["verdict"], row["files"]) for row in rows)
    assert verdicts == [("converted", "6"), ("quarantined", "1"), ("quarantined", "5")]
    assert "can't be read" in next(row["reason"] for row in rows if row["verdict"] == "converted")


def test_a_sound_deflated_slice_is_read(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for k, dataset in enumerate(Series(random_values()).datasets()):
        (tmp_path / f"in/{k}").write_bytes(deflate(dataset))
    (row,) = convert(tmp_path)
    array = read_volume(tmp_path / f"out/images/{row['case']}.nii.gz").array
    assert np.array_equal(array, random_values().transpose(2, 1, 0) - 100)


@pytest.mark.parametrize("share", [0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99])
def test_a_structure_set_that_is_cut_off_labels_nothing_in_part(tmp_path: Path, share: float) -> None:
    series = Series(random_values(), uid="1.2.3")
    images = series.datasets()
    series.write(tmp_path / "in/ct")
    boxes = [np.array([[1.0, 1, z], [5, 1, z], [5, 9, z], [1, 9, z]]) for z in (2.0, 4.0, 6.0, 8.0)]
    path = save(structure_set({"Organ": [contour(box, images[0]) for box in boxes]}, images), tmp_path / "in/rt")
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    rows = convert(tmp_path)
    assert len(rows) == 2
    assert [row["verdict"] for row in rows if row["series_uid"] != "1.2.3"] == ["quarantined"]


def test_a_name_that_is_too_long_costs_its_roi_alone(tmp_path: Path) -> None:
    series = Series(random_values(), uid="1.2.3")
    images = series.datasets()
    series.write(tmp_path / "in/ct")
    box = np.array([[1.0, 1, 2], [5, 1, 2], [5, 9, 2], [1, 9, 2]])
    rois = {"Organ": [contour(box, images[1])], "x" * 70: [contour(box, images[1])]}
    save(structure_set(rois, images), tmp_path / "in/rt")
    rows = convert(tmp_path)
    assert sorted(row["verdict"] for row in rows) == ["converted", "converted", "quarantined"]
    assert "ROI 2 (ROI 2): (3006,0020): its name has 70 characters" in " ".join(row["reason"] for row in rows)
    assert "xxx" not in (tmp_path / "out/labels.json").read_text()


def test_more_labels_than_anybody_draws_are_refused(tmp_path: Path) -> None:
    series = Series(random_values(), uid="1.2.3")
    series.write(tmp_path / "in/ct")
    save(structure_set({f"Organ {n}": [] for n in range(1025)}, series.datasets()), tmp_path / "in/rt")
    rows = convert(tmp_path)
    assert "1025 ROIs, at most 1024" in " ".join(row["reason"] for row in rows if row["verdict"] == "quarantined")


def test_a_thousand_objects_of_one_uid_are_told_apart_quickly(tmp_path: Path) -> None:
    dataset = Series(random_values()[:1], uid="1.2.3").datasets()[0]
    data = write_bytes(dataset)
    (tmp_path / "in").mkdir()
    for number in range(1000):
        (tmp_path / f"in/{number}").write_bytes(data[:-2] + number.to_bytes(2, "little"))
    begin = time.monotonic()
    with pytest.raises(DataError, match="could be converted"):
        convert_folder(tmp_path / "in", tmp_path / "out", OPTIONS)
    assert time.monotonic() - begin < MOST_SECONDS


def test_a_volume_of_many_small_files_is_counted_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "params.yaml").write_text("limits:\n  voxels: 377\n")
    monkeypatch.chdir(tmp_path)
    Series(random_values(), uid="1.2.3").write(tmp_path / "in/a")
    Series(random_values()[:5], uid="1.2.4").write(tmp_path / "in/b")
    rows = {row["series_uid"]: row for row in convert(tmp_path)}
    assert "7 × 9 × 6 voxels: 378, at most 377 are taken (limits.voxels" in rows["1.2.3"]["reason"]
    assert rows["1.2.4"]["verdict"] == "converted"


def test_a_sparse_file_is_not_read_to_its_end(tmp_path: Path) -> None:
    write_sound_series(tmp_path)
    element = struct.pack("<HH2sHI", 0x29, 0x1010, b"UN", 0, UNDEFINED)
    path = tmp_path / "in/sparse"
    path.write_bytes(insert(element)(Series(random_values(), uid="1.2.3").datasets()[0]))
    with path.open("r+b") as stream:
        stream.truncate(1 << 40)
    rows = convert(tmp_path)
    assert [row["verdict"] for row in rows] == ["converted", "quarantined"]
    assert "it has 1048576 MB" in rows[1]["reason"]


def test_a_grid_that_nifti_does_not_hold_costs_its_series_alone(tmp_path: Path) -> None:
    write_sound_series(tmp_path)
    Series(np.zeros((3, 2, 32_768), np.int16), uid="1.2.3", spacing=(0.1, 0.1)).write(tmp_path / "in/wide")
    rows = {row["series_uid"]: row for row in convert(tmp_path)}
    assert rows["1.2.99"]["verdict"] == "converted"
    assert "NIfTI holds at most 32767 voxels along an axis, received 32768 × 2 × 3" in rows["1.2.3"]["reason"]
    assert str(tmp_path) not in rows["1.2.3"]["reason"]


def test_slices_shifted_far_on_fine_pixels_cost_their_series_alone(tmp_path: Path) -> None:
    write_sound_series(tmp_path)
    datasets = Series(random_values((12, 9, 7)), uid="1.2.3", spacing=(1e-4, 1e-4)).datasets()
    for k, dataset in enumerate(datasets):
        dataset.ImagePositionPatient = [0, 90 * k, 100 * k]
        save(dataset, tmp_path / f"in/bad/{k}")
    rows = {row["series_uid"]: row for row in convert(tmp_path)}
    assert rows["1.2.99"]["verdict"] == "converted"
    assert "voxels would become" in rows["1.2.3"]["reason"]


@pytest.mark.parametrize("spacing", [["1e300", "1e300"], ["-1", "1"], ["nan", "1"]])
def test_a_radiograph_is_converted_without_a_spacing_that_can_not_be(tmp_path: Path, spacing: list[str]) -> None:
    dataset = new("1.2.840.10008.5.1.4.1.1.1", "CR", "1.2.3")
    pixels(dataset, np.arange(60, dtype=np.uint16).reshape(6, 10))
    dataset.ImagerPixelSpacing = spacing
    save(dataset, tmp_path / "in/a")
    (row,) = convert(tmp_path)
    assert (row["verdict"], row["spacing_mm"]) == ("converted", "")
    assert row["reason"].startswith("its spacing is left out: voxels are ")


def test_an_empty_file_of_another_kind_of_name_is_no_slice(tmp_path: Path) -> None:
    for k, dataset in enumerate(Series(random_values(), uid="1.2.3").datasets()):
        save(dataset, tmp_path / f"in/{k}.dcm")
    (tmp_path / "in/VERSION").touch()
    assert sorted(row["verdict"] for row in convert(tmp_path)) == ["converted", "skipped"]
    (tmp_path / "in/6.dcm").touch()
    with pytest.raises(DataError, match="a slice may be missing"):
        convert(tmp_path)


def test_images_beyond_what_an_upload_may_have_decoded_are_refused(tmp_path: Path) -> None:
    for number in range(3):
        series = Series(np.zeros((3, 300, 400), np.int16), uid=f"1.2.{number}", frame=f"1.3.{number}")
        series.write(tmp_path / f"in/{number}")
    convert_folder(tmp_path / "in", tmp_path / "out", OPTIONS, decoded_mb=1)
    rows = read_table(tmp_path / "out/conversion.csv")
    assert [row["verdict"] for row in rows] == ["converted", "quarantined", "quarantined"]
    assert rows[1]["reason"] == "all images together have more than 1 MB decoded"
