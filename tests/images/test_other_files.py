"""NIfTI and its kin pass through checks."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from voxflow.dicom import ConvertOptions, convert_folder
from voxflow.errors import DataError
from voxflow.geometry import Geometry
from voxflow.images import parse_role_and_name
from voxflow.volumes import Volume, read_volume, write_volume

GEOMETRY = Geometry.from_parts((5, 6, 7), (1, 1.5, 2), (-3, 4, 9))


def image(seed: int = 0) -> Volume:
    return Volume(np.random.default_rng(seed).normal(size=(5, 6, 7)).astype(np.float32), GEOMETRY)


def label(values: int = 3) -> Volume:
    return Volume(np.random.default_rng(1).integers(0, values, (5, 6, 7)).astype(np.float32), GEOMETRY)


def convert(folder: Path, **options: object) -> list[dict[str, str]]:
    convert_folder(folder / "in", folder / "out", ConvertOptions.model_validate({"pseudonym_key": "k"} | options))
    with (folder / "out/cases.csv").open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("imagesTr/a.nii.gz", ("image", "a")),
        ("labelsTr/a.nii.gz", ("label", "a")),
        ("x/PET_image.nii.gz", ("image", "x/PET")),
        ("x/PET_mask.nii.gz", ("label", "x/PET")),
        ("site/images/a.mha", ("image", "site/a")),
        ("a_seg.nrrd", ("label", "a")),
        ("a.nii", ("image", "a")),
        ("images/a_label.nii.gz", ("label", "a")),
        ("labels/_seg.nii.gz", ("label", "_seg")),
    ],
)
def test_roles_and_names_come_from_folders_or_endings(path: str, expected: tuple[str, str]) -> None:
    assert parse_role_and_name(Path(path)) == expected


def test_voxels_and_geometry_pass_unchanged(tmp_path: Path) -> None:
    write_volume(tmp_path / "in/images/a.nii.gz", image())
    write_volume(tmp_path / "in/labels/a.nii.gz", label())
    row = convert(tmp_path, labels={"one": 1, "two": 2})[0]
    out = read_volume(tmp_path / "out" / row["image"])
    mask = read_volume(tmp_path / "out" / row["label"])
    assert np.array_equal(out.array, image().array)
    assert out.geometry.is_close(GEOMETRY, 1e-4)
    assert mask.array.dtype == np.uint8
    assert np.array_equal(mask.array, label().array)
    assert json.loads((tmp_path / "out/labels.json").read_text()) == {"0": "background", "1": "one", "2": "two"}


@pytest.mark.parametrize("suffix", [".nii", ".mha", ".mhd", ".nrrd"])
def test_every_format_is_read_and_written(tmp_path: Path, suffix: str) -> None:
    write_volume(tmp_path / f"in/images/a{suffix}", image())
    write_volume(tmp_path / f"in/labels/a{suffix}", label())
    row = convert(tmp_path, volume_format=suffix)[0]
    for column, expected in (("image", image()), ("label", label())):
        assert row[column].endswith(suffix)
        theirs = sitk.ReadImage(str(tmp_path / "out" / row[column]))
        assert np.array_equal(sitk.GetArrayFromImage(theirs).T, expected.array)
        assert theirs.GetOrigin() == pytest.approx((-3, 4, 9), abs=1e-4)


def test_names_stay_only_where_that_is_asked_for(tmp_path: Path) -> None:
    write_volume(tmp_path / "in/images/a_01.nii.gz", image())
    assert "a_01" not in convert(tmp_path)[0]["case"]
    assert convert(tmp_path, keep_names=True)[0]["case"] == "a_01"


def test_a_pattern_groups_files_by_patient(tmp_path: Path) -> None:
    for name in ("p1-a", "p1-b", "p2-a"):
        write_volume(tmp_path / f"in/{name}.nii.gz", image())
    patients = [row["patient"] for row in convert(tmp_path, patient_pattern="^([^-]+)-")]
    assert patients[0] == patients[1] != patients[2]


def test_what_does_not_fit_is_quarantined_with_values(tmp_path: Path) -> None:
    moved = Geometry.from_parts((5, 6, 7), (1, 1.5, 2), (-3, 4, 10))
    for name in ("good", "moved", "fraction", "value"):
        write_volume(tmp_path / f"in/images/{name}.nii.gz", image())
    write_volume(tmp_path / "in/labels/good.nii.gz", label(2))
    write_volume(tmp_path / "in/labels/moved.nii.gz", Volume(label().array, moved))
    write_volume(tmp_path / "in/labels/fraction.nii.gz", Volume(label().array / 2, GEOMETRY))
    write_volume(tmp_path / "in/labels/value.nii.gz", label(4))
    write_volume(tmp_path / "in/labels/alone.nii.gz", label())
    (tmp_path / "in/images/broken.nii.gz").write_bytes(b"nothing")
    options = ConvertOptions(labels={"organ": 1}, pseudonym_key="k", workers=1)
    summary = convert_folder(tmp_path / "in", tmp_path / "out", options)
    reasons = " ".join(summary.reasons)
    assert (summary.cases, summary.quarantined) == (1, 5)
    assert "different grids" in reasons
    assert "origin -3.00 4.00 9.00 and -3.00 4.00 10.00" in reasons
    assert "no whole numbers from 0: [0.0, 0.5, 1.0]" in reasons
    assert "label values [2, 3] have no name" in reasons
    assert "a label without an image of the same name" in reasons
    assert "unreadable image" in reasons


def test_two_files_of_one_name_are_an_error(tmp_path: Path) -> None:
    write_volume(tmp_path / "in/a.nii.gz", image())
    write_volume(tmp_path / "in/a.mha", image())
    with pytest.raises(DataError, match="two files are the image of 'a'"):
        convert(tmp_path)
