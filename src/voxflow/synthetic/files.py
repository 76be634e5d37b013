"""What the synthetic samples share: DICOM attributes, places of slices, pixels, and files without meaningful names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from voxflow.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    from pydicom import Dataset
    from pydicom.uid import UID

    from voxflow.geometry import Geometry

DAY, TIME = "20200102", "120000"


@dataclass(frozen=True)
class Person:
    """An invented patient; the marker DEMO in name and id lets a test find what must not leave.

    Attributes:
        number: from 1.
        seed: of the sample.
        kind: part of the id, such as "CT".
    """

    number: int
    seed: int
    kind: str

    def uid(self, *parts: str) -> UID:
        """Make a UID that depends on the seed, the person and ``parts``, and on nothing else.

        Example:
            >>> person = Person(number=1, seed=0, kind="CT")
            >>> person.uid("study") == person.uid("study"), person.uid("study") == person.uid("series")
            (True, False)
        """
        from pydicom.uid import generate_uid

        return generate_uid(entropy_srcs=["voxflow sample", str(self.seed), self.kind, str(self.number), *parts])


def new_dataset(person: Person, sop_class: UID, *, modality: str, series: str, instance: int) -> Dataset:
    """Make a data set with patient, study, series and SOP attributes, explicit little endian, without an image.

    Args:
        person: whom it shows.
        sop_class: SOPClassUID (0008,0016).
        modality: Modality (0008,0060).
        series: which of the person's series; decides SeriesInstanceUID (0020,000E).
        instance: InstanceNumber (0020,0013).
    """
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = sop_class
    instance_uid = person.uid(series, str(instance))
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = instance_uid
    dataset.PatientName = f"DEMO^{person.kind}^{person.number:03d}"
    dataset.PatientID = f"DEMO-{person.kind}-{person.number:03d}"
    dataset.PatientBirthDate, dataset.PatientSex = "19500101", "O"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = person.uid("study"), person.uid(series)
    dataset.StudyID, dataset.AccessionNumber, dataset.ReferringPhysicianName = "1", "", ""
    dataset.StudyDate = dataset.SeriesDate = dataset.ContentDate = dataset.AcquisitionDate = DAY
    dataset.StudyTime = dataset.SeriesTime = dataset.ContentTime = dataset.AcquisitionTime = TIME
    dataset.Modality, dataset.SeriesNumber, dataset.InstanceNumber = modality, 1, instance
    dataset.Manufacturer, dataset.ManufacturerModelName = "Voxflow", "sample"
    dataset.SoftwareVersions, dataset.DeviceSerialNumber = "1", "1"
    return dataset


def place_slice(dataset: Dataset, person: Person, geometry: Geometry, k: int) -> None:
    """Say where a slice lies: ImagePositionPatient (0020,0032), ImageOrientationPatient (0020,0037), spacing in mm.

    Args:
        dataset: the object to complete.
        person: whom it shows; all series of a person share one frame of reference.
        geometry: the grid of the series.
        k: the slice's index along the third axis, from 0.
    """
    dataset.FrameOfReferenceUID, dataset.PositionReferenceIndicator = person.uid("frame"), ""
    dataset.ImagePositionPatient = [f"{v:.6g}" for v in geometry.to_physical(np.array([0.0, 0.0, float(k)]))]
    dataset.ImageOrientationPatient = [f"{v:.6g}" for v in geometry.direction[:, :2].T.ravel()]
    dataset.PixelSpacing = [f"{geometry.spacing[1]:.6g}", f"{geometry.spacing[0]:.6g}"]
    dataset.SliceThickness = f"{geometry.spacing[2]:.6g}"


def set_pixels(dataset: Dataset, rows_columns: np.ndarray, *, signed: bool, bits: int) -> None:
    """Store a grey image as uncompressed pixels of 16 bits.

    Args:
        dataset: the object to complete.
        rows_columns: (rows, columns), whole numbers.
        signed: PixelRepresentation (0028,0103).
        bits: BitsStored (0028,0101).
    """
    dataset.Rows, dataset.Columns = rows_columns.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, bits, bits - 1
    dataset.PixelRepresentation = int(signed)
    dataset.PixelData = np.ascontiguousarray(rows_columns, dtype="<i2" if signed else "<u2").tobytes()


def require_patients(patients: int, least: int) -> None:
    """Raise a DataError where a sample would have fewer patients than its kinds of cases need."""
    if patients < least:
        raise DataError(f"the sample needs at least {least} patients, received {patients}")


def write_shuffled(folder: Path, datasets: list[Dataset], rng: np.random.Generator) -> None:
    """Write objects into a few sub-folders, in random order, under names that say nothing.

    Args:
        folder: made when missing.
        datasets: the objects.
        rng: decides the order.
    """
    # As hospitals export them: neither names nor order say which slices belong together.
    for number, index in enumerate(rng.permutation(len(datasets))):
        path = folder / f"D{number % 4}" / f"I{number:05d}"
        path.parent.mkdir(parents=True, exist_ok=True)
        datasets[index].save_as(path, enforce_file_format=True)
