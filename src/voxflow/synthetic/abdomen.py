"""The sample of abdominal CT: series, labels as DICOM SEG and RTSTRUCT, and the disorder of real folders."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from voxflow.geometry import Geometry
from voxflow.synthetic.anatomy import Abdomen, draw_abdomen
from voxflow.synthetic.files import Person, new_dataset, place_slice, require_patients, set_pixels, write_shuffled
from voxflow.synthetic.labels import build_rtstruct, build_seg

if TYPE_CHECKING:
    from pathlib import Path

    from pydicom import Dataset

ORGAN = "spleen"
COLUMNS = 128
FEET_FIRST, WITH_LOCALIZER, WITH_CAPTURE = 3, 0, 1
BY_RTSTRUCT, UNLABELLED, MIN_PATIENTS = 2, 2, 6


def write_abdominal_ct(folder: Path, patients: int, seed: int) -> None:
    """Write CT series of invented patients, and one more patient whose series lacks a slice.

    The last two patients have no label, the two before them an RTSTRUCT, the others a DICOM SEG. One series is
    feet-first; a localizer and a secondary capture lie between the images; spacing, slice count, rescale slope
    and signedness differ; file names say nothing.

    Args:
        folder: where to write; made when missing.
        patients: whole series, at least six.
        seed: decides everything.

    Raises:
        DataError: fewer than six patients.
    """
    require_patients(patients, MIN_PATIENTS)
    objects: list[Dataset] = []
    for index in range(patients + 1):
        rng = np.random.default_rng([seed, index])
        person = Person(index + 1, seed, "CT")
        abdomen = draw_abdomen(rng, _choose_grid(rng, feet_first=index == FEET_FIRST))
        series = build_ct_series(person, abdomen, signed=bool(index % 2), feet_first=index == FEET_FIRST)
        objects += series if index < patients else series[: len(series) // 2] + series[len(series) // 2 + 1 :]
        if index < patients - UNLABELLED - BY_RTSTRUCT:
            objects.append(build_seg(person, series, {ORGAN: abdomen.spleen}))
        elif index < patients - UNLABELLED:
            objects.append(build_rtstruct(person, series, abdomen, ORGAN))
        if index == WITH_LOCALIZER:
            objects.append(_build_localizer(person, abdomen))
        if index == WITH_CAPTURE:
            objects.append(_build_secondary_capture(person))
    write_shuffled(folder, objects, np.random.default_rng(seed))


def build_ct_series(person: Person, abdomen: Abdomen, *, signed: bool, feet_first: bool) -> list[Dataset]:
    """Build one CT Image object a slice.

    Args:
        person: whom the series shows.
        abdomen: Hounsfield units and grid.
        signed: store signed values with slope 1, else unsigned ones with slope 0.5.
        feet_first: PatientPosition (0018,5100) is FFS in place of HFS.

    Returns:
        In the order of the grid's third axis; InstanceNumber (0020,0013) counts the other way.
    """
    from pydicom.uid import CTImageStorage

    slope = 1.0 if signed else 0.5
    intercept = 0.0 if signed else -1024.0
    stored = np.rint((abdomen.hounsfield.clip(-1024, 1023) - intercept) / slope)
    geometry = abdomen.geometry
    slices = []
    for k in range(geometry.size[2]):
        # Scanners number slices by acquisition, which need not be the order of their positions.
        dataset = new_dataset(person, CTImageStorage, modality="CT", series="ct", instance=geometry.size[2] - k)
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        dataset.PatientPosition = "FFS" if feet_first else "HFS"
        place_slice(dataset, person, geometry, k)
        dataset.RescaleSlope, dataset.RescaleIntercept, dataset.RescaleType = slope, intercept, "HU"
        dataset.KVP, dataset.ConvolutionKernel = "120", "B30f"
        set_pixels(dataset, stored[:, :, k].T, signed=signed, bits=12)
        slices.append(dataset)
    return slices


def _choose_grid(rng: np.random.Generator, *, feet_first: bool) -> Geometry:
    """A grid around the patient's origin; feet first, i runs to the right and slices to the feet."""
    in_plane, between = rng.choice([2.6, 2.7, 2.8]), rng.choice([4.0, 4.5, 5.0])
    size = (COLUMNS, COLUMNS, int(rng.integers(180, 215) // between))
    # Feet first, the scanner's axes are turned by half a turn about the axis from the patient's front to back.
    direction = np.diag([-1.0, 1.0, -1.0]) if feet_first else np.eye(3)
    spacing = np.array([in_plane, in_plane, between])
    centre = direction @ (spacing * (np.array(size) - 1) / 2)
    return Geometry.from_parts(size, spacing.tolist(), (-centre).tolist(), direction)


def _build_localizer(person: Person, abdomen: Abdomen) -> Dataset:
    from pydicom.uid import CTImageStorage

    dataset = new_dataset(person, CTImageStorage, modality="CT", series="localizer", instance=1)
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    dataset.FrameOfReferenceUID, dataset.PositionReferenceIndicator = person.uid("frame"), ""
    dataset.ImagePositionPatient = ["-170", "0", "100"]
    dataset.ImageOrientationPatient = ["1", "0", "0", "0", "0", "-1"]
    dataset.PixelSpacing, dataset.SliceThickness = ["4.5", "2.7"], "340"
    dataset.RescaleSlope, dataset.RescaleIntercept = 1, -1024
    set_pixels(dataset, abdomen.hounsfield.mean(axis=1).T.clip(-1024, 1023) + 1024, signed=False, bits=12)
    return dataset


def _build_secondary_capture(person: Person) -> Dataset:
    from pydicom.uid import SecondaryCaptureImageStorage

    dataset = new_dataset(person, SecondaryCaptureImageStorage, modality="OT", series="capture", instance=1)
    dataset.ImageType, dataset.ConversionType = ["DERIVED", "SECONDARY"], "WSD"
    set_pixels(dataset, np.tile(np.arange(128.0), (96, 1)), signed=False, bits=12)
    return dataset
