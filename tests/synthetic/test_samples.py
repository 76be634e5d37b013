"""The samples hold what they promise, and the same seed gives the same bytes."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path
from typing import Any

import pydicom
import pytest

from tests.tables import read_table
from voxflow.errors import DataError
from voxflow.synthetic import FINDINGS, write_abdominal_ct, write_chest_xray


@pytest.fixture(scope="module")
def ct(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    folder = tmp_path_factory.mktemp("ct")
    write_abdominal_ct(folder, 6, 3)
    return [pydicom.dcmread(path) for path in sorted(folder.rglob("I*"))]


def test_labels_come_as_seg_and_rtstruct_and_two_patients_have_none(ct: list[Any]) -> None:
    kinds = Counter(d.Modality for d in ct)
    assert (kinds["SEG"], kinds["RTSTRUCT"], kinds["OT"]) == (2, 2, 1)
    assert len({d.PatientID for d in ct}) == 7


def test_ct_differs_in_position_storage_and_spacing(ct: list[Any]) -> None:
    slices = [d for d in ct if d.Modality == "CT"]
    assert {d.PatientPosition for d in slices if "LOCALIZER" not in d.ImageType} == {"HFS", "FFS"}
    assert {d.PixelRepresentation for d in slices} == {0, 1}
    assert {(d.BitsAllocated, d.BitsStored) for d in slices} == {(16, 12)}
    assert len({tuple(d.PixelSpacing) for d in slices}) > 1
    assert sum("LOCALIZER" in d.ImageType for d in slices) == 1


def test_too_few_patients_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="at least 6 patients, received 3"):
        write_abdominal_ct(tmp_path, 3, 1)


def test_radiographs_have_both_photometric_interpretations_and_several_images_a_patient(tmp_path: Path) -> None:
    write_chest_xray(tmp_path, 40, 3)
    images = [pydicom.dcmread(path) for path in sorted(tmp_path.rglob("I*"))]
    rows = read_table(tmp_path / "findings.csv")
    assert {d.PhotometricInterpretation for d in images} == {"MONOCHROME1", "MONOCHROME2"}
    assert {d.Modality for d in images} == {"CR", "DX"}
    assert len({d.PatientID for d in images}) == 28
    assert len(rows) == 38
    assert set(rows[0]) == {"sop_instance_uid", "patient_id", *FINDINGS}


def test_the_same_seed_gives_the_same_bytes_at_another_time(ct: list[Any], tmp_path: Path) -> None:
    # The fixture's folder was written seconds ago, with the same seed.
    write_abdominal_ct(tmp_path, 6, 3)
    again = [hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(tmp_path.rglob("I*"))]
    assert again == [hashlib.sha256(Path(d.filename).read_bytes()).hexdigest() for d in ct]
