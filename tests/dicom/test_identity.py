"""No single UID decides what belongs together, and every DICOM file has a row, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ImplicitVRLittleEndian, RLELossless, generate_uid

from tests.dicom.objects import Series, random_values, save
from tests.tables import read_table
from voxflow.dicom import ConvertOptions, convert_folder
from voxflow.volumes import read_volume

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

OPTIONS = ConvertOptions(pseudonym_key="key", workers=1)


def convert(folder: Path) -> list[dict[str, str]]:
    convert_folder(folder / "in", folder / "out", OPTIONS)
    return read_table(folder / "out/conversion.csv")


def read_arrays(folder: Path, rows: list[dict[str, str]]) -> list[np.ndarray]:
    paths = [folder / f"out/images/{row['case']}.nii.gz" for row in rows if row["case"]]
    return [read_volume(path).array.transpose(2, 1, 0) for path in paths]


@pytest.mark.parametrize("origin", [12.0, 1.0])
def test_patients_without_a_series_uid_are_two_volumes(tmp_path: Path, origin: float) -> None:
    for n, patient in enumerate("AB"):
        series = Series(random_values(seed=n), patient=patient, origin=(0, 0, n * origin))
        for k, dataset in enumerate(series.datasets()):
            del dataset.SeriesInstanceUID
            save(dataset, tmp_path / f"in/{patient}{k}")
    rows = convert(tmp_path)
    expected = [random_values(seed=n) - 100 for n in range(2)]
    assert sorted(array.sum() for array in read_arrays(tmp_path, rows)) == sorted(array.sum() for array in expected)
    assert all("SeriesInstanceUID (0020,000E) is missing" in row["reason"] for row in rows)


def test_two_patients_of_the_same_uids_are_both_converted(tmp_path: Path) -> None:
    for n, patient in enumerate("AB"):
        Series(random_values(seed=n), uid="1.2.3", patient=patient).write(tmp_path / "in" / patient)
    rows = convert(tmp_path)
    assert [row["verdict"] for row in rows] == ["converted", "converted"]
    assert all("other objects have the same SOPInstanceUID" in row["reason"] for row in rows)


def test_a_copy_that_is_compressed_without_loss_is_a_copy(tmp_path: Path) -> None:
    series = Series(random_values(), uid="1.2.3")
    series.write(tmp_path / "in/a")
    for k, dataset in enumerate(series.datasets()):
        dataset.compress(RLELossless, generate_instance_uid=False)
        save(dataset, tmp_path / f"in/b/{k}")
    rows = convert(tmp_path)
    assert [row["verdict"] for row in rows] == ["converted", "skipped"]
    assert np.array_equal(read_arrays(tmp_path, rows)[0], random_values() - 100)


def test_a_copy_that_is_cut_off_leaves_the_whole_one_alone(tmp_path: Path) -> None:
    series = Series(random_values(), uid="1.2.3")
    paths = series.write(tmp_path / "in/a")
    (tmp_path / "in/b").mkdir()
    (tmp_path / "in/b/cut").write_bytes(paths[2].read_bytes()[:-20])
    rows = convert(tmp_path)
    assert sorted(row["verdict"] for row in rows) == ["converted", "quarantined"]
    assert "a broken copy" in " ".join(row["reason"] for row in rows)


def test_a_frame_of_reference_of_its_own_in_each_slice_cuts_nothing(tmp_path: Path) -> None:
    uids = [generate_uid() for _ in range(6)]
    Series(random_values(), changes={"FrameOfReferenceUID": uids}).write(tmp_path / "in")
    rows = convert(tmp_path)
    assert [row["size"] for row in rows] == ["7 9 6"]


def test_an_empty_sop_uid_is_that_of_the_file_meta(tmp_path: Path) -> None:
    for k, dataset in enumerate(Series(random_values()).datasets()):
        dataset.SOPInstanceUID = ""
        (tmp_path / "in").mkdir(exist_ok=True)
        dataset.save_as(tmp_path / f"in/{k}", enforce_file_format=False)
    assert [row["verdict"] for row in convert(tmp_path)] == ["converted"]


def remove_uids(path: Path) -> None:
    dataset = pydicom.dcmread(path)
    del dataset.SOPInstanceUID
    del dataset.file_meta.MediaStorageSOPInstanceUID
    dataset.save_as(path, enforce_file_format=False)


def write_text_rows(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"\x28\x00\x10\x00US\x02\x00", b"\x28\x00\x10\x00LO\x02\x00"))


def cut_header(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:300])


def cut_pixels(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def remove_pixels(path: Path) -> None:
    dataset = pydicom.dcmread(path)
    del dataset.PixelData
    dataset.save_as(path)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (remove_uids, "SOPInstanceUID (0008,0018) is missing"),
        (write_text_rows, "Rows (0028,0010) is no whole number"),
        (cut_header, "cut off"),
        (cut_pixels, "(7FE0,0010)"),
        (remove_pixels, "(7FE0,0010)"),
    ],
)
def test_a_file_that_is_no_good_has_a_row_in_words(tmp_path: Path, spoil: Callable[[Path], None], reason: str) -> None:
    Series(random_values(), uid="1.2.3").write(tmp_path / "in/good")
    for path in Series(random_values(), uid="1.2.4", patient="B").write(tmp_path / "in/bad"):
        spoil(path)
    rows = convert(tmp_path)
    faulty_rows = [row for row in rows if row["verdict"] != "converted"]
    assert sum(int(row["files"]) for row in faulty_rows) == 6
    assert any(reason in row["reason"] for row in faulty_rows), faulty_rows
    assert not [row for row in faulty_rows if "Error" in row["reason"]]
    assert sum(row["verdict"] == "converted" for row in rows) == 1


def drop_preamble(path: Path, dataset: Any) -> None:
    save(dataset, path)
    path.write_bytes(path.read_bytes()[128:])


def drop_meta(path: Path, dataset: Any) -> None:
    dataset.file_meta, dataset.preamble = FileMetaDataset(), None
    pydicom.dcmwrite(path, dataset, implicit_vr=True, little_endian=True, enforce_file_format=False)


def drop_meta_of_big_endian(path: Path, dataset: Any) -> None:
    dataset.file_meta, dataset.preamble = FileMetaDataset(), None
    dataset.PixelData = np.frombuffer(dataset.PixelData, "<i2").astype(">i2").tobytes()
    pydicom.dcmwrite(path, dataset, implicit_vr=False, little_endian=False, enforce_file_format=False)


def claim_another_syntax(path: Path, dataset: Any) -> None:
    save(dataset, path)
    stated, other = b"1.2.840.10008.1.2.1\0", ImplicitVRLittleEndian.encode() + b"\0" * 3
    path.write_bytes(path.read_bytes().replace(stated, other, 1))


@pytest.mark.filterwarnings("ignore:Expected implicit VR:UserWarning")  # pydicom says so, and reads it
@pytest.mark.parametrize("write", [drop_preamble, drop_meta, drop_meta_of_big_endian, claim_another_syntax])
def test_files_that_keep_another_rule_of_the_format_are_read(
    tmp_path: Path, write: Callable[[Path, Any], None]
) -> None:
    (tmp_path / "in").mkdir()
    for k, dataset in enumerate(Series(random_values()).datasets()):
        write(tmp_path / f"in/{k}", dataset)
    rows = convert(tmp_path)
    assert [row["verdict"] for row in rows] == ["converted"], rows
    assert np.array_equal(read_arrays(tmp_path, rows)[0], random_values() - 100)
