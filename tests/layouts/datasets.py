"""One small data set, written in each known layout: three patients, nested regions, two or four channels."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import SimpleITK as sitk

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

SIZE = (10, 9, 8)
SPACING = (1.5, 1.0, 2.0)
CASES = ("ann", "bob", "cid")
REGIONS = {"whole tumour": (1, 2, 4), "tumour core": (1, 4), "enhancing tumour": (4,)}


@dataclass(frozen=True)
class Patient:
    """The truth of one case.

    Attributes:
        name: of the case.
        images: one array (i, j, k) a channel.
        label: values 0, 1, 2, 4 as BraTS has them.
    """

    name: str
    images: tuple[NDArray[np.int16], ...]
    label: NDArray[np.uint8]


def make_patients(channels: int) -> list[Patient]:
    """Three patients with a nested tumour each."""
    patients = []
    for seed, name in enumerate(CASES):
        generator = np.random.default_rng(seed)
        label = np.zeros(SIZE, np.uint8)
        label[1:8, 1:8, 1:7] = 2
        label[2:6, 2:6, 2:6] = 1
        label[3:5, 3 : 5 + seed % 2, 3:5] = 4
        images = tuple(
            (generator.integers(0, 200, SIZE) + 100 * channel + 30 * label).astype(np.int16)
            for channel in range(channels)
        )
        patients.append(Patient(name, images, label))
    return patients


def write_array(path: Path, array: NDArray[Any]) -> None:
    """Write (i, j, k) or, for several channels, (i, j, k, channel)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(np.ascontiguousarray(array.transpose()), isVector=False)
    image.SetSpacing(SPACING[: array.ndim] if array.ndim == 3 else (*SPACING, 1.0))
    sitk.WriteImage(image, str(path), useCompression=True)


def write_nnunet(root: Path, patients: Sequence[Patient], channels: Sequence[str]) -> None:
    """Dataset001_TUMOUR with regions; the last patient is in the test part."""
    root = root / "Dataset001_TUMOUR"
    for patient in patients:
        part = "Ts" if patient is patients[-1] else "Tr"
        for number, image in enumerate(patient.images):
            write_array(root / f"images{part}" / f"{patient.name}_{number:04d}.nii.gz", image)
        write_array(root / f"labels{part}" / f"{patient.name}.nii.gz", patient.label)
    content = {
        "channel_names": {str(number): name for number, name in enumerate(channels)},
        "labels": {"background": 0, **{name: list(values) for name, values in REGIONS.items()}},
        "regions_class_order": [2, 1, 4],
        "numTraining": len(patients) - 1,
        "file_ending": ".nii.gz",
    }
    (root / "dataset.json").write_text(json.dumps(content))


def write_decathlon(root: Path, patients: Sequence[Patient], channels: Sequence[str]) -> None:
    """Task01_Tumour, with several channels as one 4D file; the last patient's image is in the test part, unlabelled."""
    root = root / "Task01_Tumour"
    for patient in patients:
        part = "Ts" if patient is patients[-1] else "Tr"
        image = np.stack(patient.images, axis=-1) if len(patient.images) > 1 else patient.images[0]
        write_array(root / f"images{part}" / f"{patient.name}.nii.gz", image)
        if part == "Tr":
            write_array(root / "labelsTr" / f"{patient.name}.nii.gz", patient.label)
    (root / "imagesTr" / "._ann.nii.gz").write_bytes(b"left by macOS")
    content = {
        "name": "TUMOUR",
        "modality": {str(number): name for number, name in enumerate(channels)},
        "labels": {"0": "background", "1": "necrosis", "2": "oedema", "4": "enhancing tumour"},
        "numTraining": len(patients) - 1,
        "training": [
            {"image": f"./imagesTr/{patient.name}.nii.gz", "label": f"./labelsTr/{patient.name}.nii.gz"}
            for patient in patients[:-1]
        ],
        "test": [f"./imagesTs/{patients[-1].name}.nii.gz"],
    }
    (root / "dataset.json").write_text(json.dumps(content))


def write_brats(root: Path, patients: Sequence[Patient], endings: Sequence[str]) -> None:
    """A folder a patient; the endings state the style: ``_t1`` or ``-t1n``."""
    for patient in patients:
        for ending, image in zip(endings, patient.images, strict=True):
            write_array(root / patient.name / f"{patient.name}{ending}.nii.gz", image)
        label = patient.label if endings[0][0] == "_" else np.where(patient.label == 4, 3, patient.label)
        write_array(root / patient.name / f"{patient.name}{endings[0][0]}seg.nii.gz", label)


def write_bids(root: Path, patients: Sequence[Patient], channels: Sequence[str]) -> None:
    """Raw images by subject, and maps with a table in derivatives/experts."""
    root.mkdir(parents=True, exist_ok=True)
    for folder in (root, root / "derivatives" / "experts"):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "dataset_description.json").write_text('{"Name": "tumours", "BIDSVersion": "1.9.0"}')
    for patient in patients:
        subject = f"sub-{patient.name}"
        for channel, image in zip(channels, patient.images, strict=True):
            write_array(root / subject / "anat" / f"{subject}_{channel}.nii.gz", image)
        write_array(root / "derivatives" / "experts" / subject / "anat" / f"{subject}_dseg.nii.gz", patient.label)
    rows = ("index\tname", "0\tbackground", "1\tnecrosis", "2\toedema", "4\tenhancing tumour")
    (root / "derivatives" / "experts" / "dseg.tsv").write_text("\n".join(rows) + "\n")


def write_masks(root: Path, patients: Sequence[Patient], image: str, folder: str) -> None:
    """A folder a patient: the first channel, and a mask of each region."""
    for patient in patients:
        write_array(root / patient.name / f"{image}.nii.gz", patient.images[0])
        for name, values in REGIONS.items():
            mask = np.isin(patient.label, values).astype(np.uint8)
            write_array(root / patient.name / folder / f"{name.replace(' ', '_')}.nii.gz", mask)


def write_slicer(root: Path, patients: Sequence[Patient]) -> None:
    """An image and a .seg.nrrd of three layers for each patient."""
    for patient in patients:
        write_array(root / f"{patient.name}.nrrd", patient.images[0])
        layers = [np.isin(patient.label, values) for values in REGIONS.values()]
        image = sitk.GetImageFromArray(np.stack(layers, axis=-1).transpose(2, 1, 0, 3).astype(np.uint8), isVector=True)
        image.SetSpacing(SPACING)
        for number, name in enumerate(REGIONS):
            for key, value in {
                "ID": f"Segment_{number + 1}",
                "Name": name,
                "LabelValue": "1",
                "Layer": str(number),
            }.items():
                image.SetMetaData(f"Segment{number}_{key}", value)
        sitk.WriteImage(image, str(root / f"{patient.name}.seg.nrrd"), useCompression=True)


def write_listing(root: Path, patients: Sequence[Patient], channels: Sequence[str]) -> None:
    """A table of paths, with files anywhere below it."""
    columns = ["case", "patient", *(f"image:{name}" for name in channels), "label", "part"]
    root.mkdir(parents=True, exist_ok=True)
    with (root / "paths.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(columns)
        for number, patient in enumerate(patients):
            names = [f"store/{number}/{index}.nii.gz" for index in range(len(channels))]
            for name, image in zip(names, patient.images, strict=True):
                write_array(root / name, image)
            write_array(root / f"store/{number}/drawn.nii.gz", patient.label)
            part = "test" if patient is patients[-1] else "train"
            writer.writerow([patient.name, patient.name, *names, f"store/{number}/drawn.nii.gz", part])


TWO = ("T1w", "FLAIR")
FOUR = ("T1", "T1c", "T2", "FLAIR")
LAYOUTS: dict[str, tuple[int, Callable[[Path, list[Patient]], None]]] = {
    "nnunet": (2, lambda root, patients: write_nnunet(root, patients, TWO)),
    "msd": (2, lambda root, patients: write_decathlon(root, patients, TWO)),
    "brats": (4, lambda root, patients: write_brats(root, patients, ("_t1", "_t1ce", "_t2", "_flair"))),
    "bids": (2, lambda root, patients: write_bids(root, patients, TWO)),
    "totalsegmentator": (1, lambda root, patients: write_masks(root, patients, "ct", "segmentations")),
    "masks": (1, lambda root, patients: write_masks(root, patients, "image", "")),
    "slicer": (1, write_slicer),
    "table": (2, lambda root, patients: write_listing(root, patients, TWO)),
}
