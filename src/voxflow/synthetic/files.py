"""The DICOM attributes that every synthetic object carries, and shuffled files without meaningful names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from pydicom import Dataset
    from pydicom.uid import UID

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
