"""Real images against the references that came with them."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.uid import CTImageStorage, generate_uid

from tests.tables import read_table
from voxflow.dicom import ConvertOptions, convert_folder
from voxflow.errors import DataError
from voxflow.volumes import Volume, read_radiograph, read_volume

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    RealData = Callable[[str], Path]

OPTIONS = ConvertOptions(pseudonym_key="key")


def cases(folder: Path) -> list[dict[str, str]]:
    return read_table(folder / "cases.csv")


def only_volume(folder: Path) -> Volume:
    return read_volume(next((folder / "images").iterdir()))


def dice(mask: Volume, reference: Volume) -> float:
    a, b = mask.array > 0, reference.array > 0
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


@pytest.mark.slow
def test_pet_and_tumour_contours_equal_the_reference_nifti(tmp_path: Path, real_data: RealData) -> None:
    source = real_data("pet_sarcoma")
    summary = convert_folder(source / "dicom", tmp_path / "all", OPTIONS)
    assert (summary.cases, summary.labelled, summary.quarantined) == (16, 16, 0)
    rows = {row["series_uid"]: row for row in cases(tmp_path / "all")}
    for patient in sorted((source / "nifti").iterdir()):
        uid = series_uid(source / "dicom" / patient.name / "PET/image")
        image = read_volume(tmp_path / "all" / rows[uid]["image"])
        reference = read_volume(patient / "PET_image.nii.gz")
        assert np.allclose(image.array, reference.array, rtol=1e-5, atol=0)
        assert image.geometry.is_close(reference.geometry, tolerance_mm=1e-3)
        mask = read_volume(tmp_path / "all" / rows[uid]["label"])
        assert dice(mask, read_volume(patient / "PET_mask.nii.gz")) >= 0.95


def test_one_pet_patient_equals_the_reference_nifti(tmp_path: Path, real_data: RealData) -> None:
    source = real_data("pet_sarcoma")
    convert_folder(source / "dicom/STS_002", tmp_path / "one", OPTIONS)
    row = cases(tmp_path / "one")[0]
    image, mask = (read_volume(tmp_path / "one" / row[kind]) for kind in ("image", "label"))
    reference = read_volume(source / "nifti/STS_002/PET_image.nii.gz")
    assert np.allclose(image.array, reference.array, rtol=1e-5, atol=0)
    assert image.geometry.is_close(reference.geometry, tolerance_mm=1e-3)
    assert dice(mask, read_volume(source / "nifti/STS_002/PET_mask.nii.gz")) >= 0.95


def series_uid(folder: Path) -> str:
    import pydicom

    return str(pydicom.dcmread(next(folder.iterdir()), specific_tags=["SeriesInstanceUID"]).SeriesInstanceUID)


@pytest.mark.parametrize(
    "name",
    [
        "ge/anatomical/001",
        "ge/anatomical/001_implicit",
        "generic/anatomical/001",
        "generic/anatomical/001_implicit",
        "generic/anatomical/002_non_isotropic",
        "generic/compressed_rle/001",
        "generic/compressed_jpegls/001",
        "philips_enhanced/anatomical/001",
        "philips_enhanced/anatomical/001_implicit",
    ],
)
def test_vendors_and_syntaxes_equal_their_reference(tmp_path: Path, real_data: RealData, name: str) -> None:
    source = real_data("dicom_conversion") / name
    convert_folder(source, tmp_path / "out", OPTIONS)
    mine = only_volume(tmp_path / "out")
    reference = read_volume(source.parent / f"{source.name}_ground_truth.nii.gz")
    # Some references hold their slices in the other order, with a left-handed grid: compare at the same points.
    first = np.rint(mine.geometry.to_index(reference.geometry.to_physical(np.zeros(3)))).astype(int)
    array = mine.array[:, :, ::-1] if first[2] else mine.array
    corner = mine.geometry.to_physical(np.array([0.0, 0, first[2]]))
    assert np.allclose(corner, reference.geometry.origin, atol=1e-3)
    assert np.allclose(np.abs(mine.geometry.direction), np.abs(reference.geometry.direction), atol=1e-4)
    assert np.allclose(mine.geometry.spacing, reference.geometry.spacing, atol=1e-3)
    assert np.allclose(array, reference.array, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("failing/sliceorientation", r"too few slices: 2, .*; volume 1 of 2 in its series, by SeriesNumber"),
        ("failing/slicecount", "too few slices: 2"),
    ],
)
def test_what_can_be_no_volume_is_refused(tmp_path: Path, real_data: RealData, name: str, reason: str) -> None:
    source = real_data("dicom_conversion") / name / "001"
    with pytest.raises(DataError, match=reason):
        convert_folder(source, tmp_path / "out", OPTIONS)


def test_a_phantom_beside_its_dirfile_equals_simpleitks_reading(tmp_path: Path, real_data: RealData) -> None:
    source = real_data("ct_phantom")
    summary = convert_folder(source, tmp_path / "out", OPTIONS)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(source / "S2010")))
    theirs, mine = Volume.from_sitk(reader.Execute()), only_volume(tmp_path / "out")
    assert (summary.converted, summary.skipped) == (1, 2)  # its DICOMDIR and its licence, a row each
    assert mine.array.shape == (512, 512, 28)
    assert np.array_equal(mine.array, theirs.array)
    assert mine.geometry.is_close(theirs.geometry, tolerance_mm=1e-3)


def test_real_segmentations_land_on_their_images(tmp_path: Path, real_data: RealData) -> None:
    source = real_data("dicom_seg")
    convert_folder(source, tmp_path / "out", OPTIONS)
    labelled = {row["size"]: row["label"] for row in cases(tmp_path / "out") if row["label"]}
    liver = read_volume(tmp_path / "out" / labelled["512 512 3"])
    assert int((liver.array > 0).sum()) == 107_098
    small = read_volume(tmp_path / "out" / labelled["24 38 3"])
    reference = read_volume(source / "24x38x3/nrrd/label.nrrd")
    at = np.rint(
        small.geometry.to_index(reference.geometry.to_physical(np.argwhere(reference.array > 0).astype(np.float64)))
    )
    expected = np.zeros(small.array.shape, bool)
    expected[tuple(at.astype(int).T)] = True
    assert np.array_equal(small.array > 0, expected)


def test_hippocampus_pairs_pass_unchanged(tmp_path: Path, real_data: RealData) -> None:
    source = real_data("hippocampus")
    options = ConvertOptions(labels={"anterior": 1, "posterior": 2}, pseudonym_key="key")
    summary = convert_folder(source, tmp_path / "out", options)
    assert (summary.cases, summary.labelled, summary.quarantined, summary.patients) == (100, 100, 0, 100)
    for row in cases(tmp_path / "out")[::20]:
        for kind, folder in (("image", "images"), ("label", "labels")):
            mine = read_volume(tmp_path / "out" / row[kind])
            theirs = read_volume(source / folder / row["source"].split("/")[-1])
            assert np.array_equal(mine.array, theirs.array)
            assert mine.geometry.is_close(theirs.geometry, tolerance_mm=1e-3)


@pytest.mark.slow
def test_chest_radiographs_keep_their_patients_and_classes(tmp_path: Path, real_data: RealData) -> None:
    source = real_data("chestxray")
    summary = convert_folder(source, tmp_path / "out", OPTIONS)
    rows = cases(tmp_path / "out")
    numbers = {path.name.split("_")[0] for path in source.glob("*/*.png")}
    assert (summary.cases, summary.labelled, summary.patients) == (103, 103, len(numbers))
    assert sum(row["finding:pneumonia"] == "1" for row in rows) == 63
    assert all(read_radiograph(tmp_path / "out" / row["image"]).shape == (1024, 1024) for row in rows[::25])


def write_as_ct(folder: Path, target: Path) -> None:
    """A second series of the study, in the same frame of reference, with every other row and column."""
    series = str(generate_uid())
    for n, path in enumerate(sorted(folder.iterdir())):
        d = pydicom.dcmread(path)
        values = d.pixel_array[::2, ::2]
        d.SOPClassUID = d.file_meta.MediaStorageSOPClassUID = CTImageStorage
        d.SOPInstanceUID = d.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        d.Modality, d.SeriesInstanceUID, d.SeriesNumber = "CT", series, 99
        d.PixelSpacing, d.Rows, d.Columns = [2 * float(mm) for mm in d.PixelSpacing], *values.shape
        d.PixelData = np.ascontiguousarray(values).tobytes()
        target.mkdir(parents=True, exist_ok=True)
        d.save_as(target / f"{n}.dcm")


@pytest.mark.parametrize(
    "patient", ["STS_002", *(pytest.param(f, marks=pytest.mark.slow) for f in ("STS_005", "STS_016"))]
)
def test_a_real_pet_is_one_of_two_channels_and_its_contours_lie_on_it(
    patient: str, tmp_path: Path, real_data: RealData
) -> None:
    source = real_data("pet_sarcoma")
    shutil.copytree(source / "dicom" / patient, tmp_path / "in" / patient)
    write_as_ct(source / "dicom" / patient / "PET/image", tmp_path / "in/ct")
    rules = {"CT": {"modality": "CT"}, "PET": {"modality": "PT"}}
    options = ConvertOptions.model_validate({"channels": rules, "labels_on": "PET", "pseudonym_key": "key"})
    convert_folder(tmp_path / "in", tmp_path / "out", options)
    (row,) = cases(tmp_path / "out")
    ct, pet = (read_volume(tmp_path / "out" / name) for name in row["image"].split(";"))
    reference = read_volume(source / "nifti" / patient / "PET_image.nii.gz")
    assert np.allclose(pet.array, reference.array, rtol=1e-5, atol=0)
    assert ct.geometry.spacing[0] == pytest.approx(2 * pet.geometry.spacing[0])
    assert ct.geometry.origin == pytest.approx(pet.geometry.origin)
    mask = read_volume(tmp_path / "out" / row["label"])
    assert mask.geometry.is_close(pet.geometry, tolerance_mm=1e-3)
    assert dice(mask, read_volume(source / "nifti" / patient / "PET_mask.nii.gz")) >= 0.95
