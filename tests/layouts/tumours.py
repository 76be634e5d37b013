"""One data set, written in every known layout by nibabel, pydicom or by hand: boxes in boxes on a slanting grid."""

from __future__ import annotations

import csv
import gzip
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import nibabel
import numpy as np

from tests.dicom.objects import Series, contour, random_values, save, seg, structure_set

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from pydicom.dataset import Dataset

SIZE, SPACING, ORIGIN = (10, 9, 8), (0.8, 1.25, 3.0), (-31.5, 12.0, 70.25)
NAMES = ("ann", "bob", "cid")
VALUES = {"necrosis": 1, "oedema": 2, "enhancing tumour": 4}
REGIONS = {"whole tumour": (1, 2, 4), "tumour core": (1, 4), "enhancing tumour": (4,)}
BOXES = {"whole tumour": (1, 8), "tumour core": (2, 6), "enhancing tumour": (3, 5)}  # along each axis
FOUR, TWO = ("T1", "T1c", "T2", "FLAIR"), ("T1w", "FLAIR")


@dataclass(frozen=True)
class Patient:
    """The truth of one case.

    Attributes:
        name: of the case.
        images: one array (i, j, k) a channel.
        label: the values of VALUES.
    """

    name: str
    images: tuple[NDArray[np.int16], ...]
    label: NDArray[np.uint8]


def make_affine() -> NDArray[np.float64]:
    """The grid of all patients, turned about two axes: index → mm, LPS."""
    a, b = np.radians(20), np.radians(-35)
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_z = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = about_x @ about_z * SPACING
    affine[:3, 3] = ORIGIN
    return affine


def make_patients() -> list[Patient]:
    """Three patients of four contrasts; the enhancing box of each is another size."""
    patients = []
    for seed, name in enumerate(NAMES):
        label = np.zeros(SIZE, np.uint8)
        for (first, end), value in zip(BOXES.values(), (2, 1, 4), strict=True):
            label[first:end, first:end, first : end - (seed if value == 4 and seed < 2 else 0)] = value
        images = tuple(random_values(SIZE, seed=10 * seed + channel) for channel in range(4))
        patients.append(Patient(name, images, label))
    return patients


def list_masks(patient: Patient) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """The mask of each region."""
    for name, values in REGIONS.items():
        yield name, np.isin(patient.label, values).astype(np.uint8)


def write_nifti(path: Path, array: NDArray[Any]) -> None:
    """Write (i, j, k) or (i, j, k, channel)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, np.diag([-1, -1, 1, 1]) @ make_affine()), path)


def write_nrrd(
    path: Path, array: NDArray[Any], keys: Sequence[str] = (), *, start: int = 0, space: str = "left-posterior-superior"
) -> None:
    """Write (i, j, k) or (layer, i, j, k) as 3D Slicer does, header and all; ``start`` is the first voxel of a crop."""
    affine, is_layered = make_affine(), array.ndim == 4
    affine[:3, 3] = (affine @ [start, start, start, 1])[:3]
    affine = np.diag([1, 1, 1, 1] if space.startswith("left") else [-1, -1, 1, 1]) @ affine
    vectors = ["(" + ",".join(f"{value:.17g}" for value in affine[:3, axis]) + ")" for axis in range(4)]
    lines = [
        "NRRD0004",
        "# Complete NRRD file format specification at:",
        "# http://teem.sourceforge.net/nrrd/format.html",
        f"type: {'unsigned char' if array.dtype == np.uint8 else 'short'}",
        f"dimension: {array.ndim}",
        f"space: {space}",
        f"sizes: {' '.join(map(str, array.shape))}",
        f"space directions: {'none ' if is_layered else ''}{' '.join(vectors[:3])}",
        f"kinds: {'list ' if is_layered else ''}domain domain domain",
        "endian: little",
        "encoding: gzip",
        f"space origin: {vectors[3]}",
        *keys,
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("\n".join(lines).encode() + b"\n\n" + gzip.compress(array.tobytes(order="F")))


def write_nnunet(root: Path, patients: Sequence[Patient], *, version: int) -> None:
    """Version 2 has regions; version 1 has names of values, and lists files without their channels' numbers."""
    root = root / ("Dataset007_Brain" if version == 2 else "Task007_Brain")
    for patient in patients:
        for number, image in enumerate(patient.images[:2]):
            write_nifti(root / f"imagesTr/{patient.name}_{number:04d}.nii.gz", image)
        write_nifti(root / f"labelsTr/{patient.name}.nii.gz", patient.label)
    channels = {str(number): name for number, name in enumerate(TWO)}
    if version == 2:
        labels = {"background": 0, **{name: list(values) for name, values in REGIONS.items()}}
        content = {"channel_names": channels, "labels": labels, "regions_class_order": [2, 1, 4]}
        content |= {"numTraining": 3, "file_ending": ".nii.gz", "overwrite_image_reader_writer": "NibabelIO"}
    else:
        items = [{"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"} for name in NAMES]
        content = {"modality": channels, "training": items, "test": [], "numTraining": 3, "numTest": 0}
        content["labels"] = {"0": "background"} | {str(value): name for name, value in VALUES.items()}
    (root / "dataset.json").write_text(json.dumps(content))


def write_decathlon(root: Path, patients: Sequence[Patient]) -> None:
    """Two channels in one file, what macOS leaves behind, and a count that is wrong."""
    root = root / "Task01_BrainTumour"
    for patient in patients:
        write_nifti(root / f"imagesTr/{patient.name}.nii.gz", np.stack(patient.images[:2], axis=-1))
        write_nifti(root / f"labelsTr/{patient.name}.nii.gz", patient.label)
        (root / f"imagesTr/._{patient.name}.nii.gz").write_bytes(b"Mac OS X")
    items = [{"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"} for name in NAMES]
    content = {
        "tensorImageSize": "4D",
        "modality": {"0": "T1w", "1": "FLAIR"},
        "labels": {"0": "background"} | {str(value): name for name, value in VALUES.items()},
        "numTraining": 484,
        "training": items,
        "test": [],
    }
    (root / "dataset.json").write_text(json.dumps(content))


def write_brats(root: Path, patients: Sequence[Patient], endings: Sequence[str]) -> None:
    """A folder a patient; with 2023's endings, enhancing tumour is 3."""
    is_new = endings[0] == "-t1n"
    for patient in patients:
        name = f"BraTS-GLI-{NAMES.index(patient.name):05d}-000" if is_new else f"BraTS20_Training_{patient.name}"
        for ending, image in zip(endings, patient.images, strict=True):
            write_nifti(root / name / f"{name}{ending}.nii.gz", image)
        label = np.where(patient.label == 4, 3, patient.label).astype(np.uint8) if is_new else patient.label
        write_nifti(root / name / f"{name}{endings[0][0]}seg.nii.gz", label)


def write_bids(root: Path, patients: Sequence[Patient]) -> None:
    """Sessions, functional images that are no channel, and maps by one method in derivatives."""
    description = '{"Name": "tumours", "BIDSVersion": "1.9.0"}'
    for folder in (root, root / "derivatives/manual"):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "dataset_description.json").write_text(description)
    for patient in patients:
        visit = f"sub-{patient.name}_ses-01"
        place = f"sub-{patient.name}/ses-01"
        for channel, image in zip(TWO, patient.images, strict=False):
            write_nifti(root / place / "anat" / f"{visit}_{channel}.nii.gz", image)
        write_nifti(root / place / "func" / f"{visit}_task-rest_bold.nii.gz", np.stack(patient.images, axis=-1))
        write_nifti(root / "derivatives/manual" / place / "anat" / f"{visit}_desc-manual_dseg.nii.gz", patient.label)
    rows = ["index\tname\tcolor", "0\tbackground\t#000000"]
    rows += [f"{value}\t{name}\t#ff000{value}" for name, value in VALUES.items()]
    (root / "derivatives/manual/desc-manual_dseg.tsv").write_text("\n".join(rows) + "\n")


def write_masks(root: Path, patients: Sequence[Patient], image: str, folder: str) -> None:
    """A folder a patient, with a mask of each region; TotalSegmentator's has a table beside."""
    for patient in patients:
        write_nifti(root / patient.name / f"{image}.nii.gz", patient.images[0])
        for name, mask in list_masks(patient):
            write_nifti(root / patient.name / folder / f"{name.replace(' ', '_')}.nii.gz", mask)
    if folder == "segmentations":
        rows = ["image_id;age;gender;institute;study_type;split", *(f"{name};60;m;A;ct head;train" for name in NAMES)]
        (root / "meta.csv").write_text("\n".join(rows) + "\n", encoding="utf-8-sig")


def write_slicer(root: Path, patients: Sequence[Patient], *, is_old: bool) -> None:
    """An image and a segmentation each, cut to what is drawn; older files do not name their layers, and are in RAS."""
    for patient in patients:
        write_nrrd(root / patient.name / "MRHead.nrrd", patient.images[0])
        keys = ["Segmentation_ReferenceImageExtentOffset:=1 1 1"]
        for number, name in enumerate(REGIONS):
            keys += [f"Segment{number}_ID:=Segment_{number + 1}", f"Segment{number}_Name:={name}"]
            if not is_old:
                keys += [f"Segment{number}_LabelValue:=1", f"Segment{number}_Layer:={number}"]
        layers = np.stack([mask[1:8, 1:8, 1:8] for _, mask in list_masks(patient)])
        space = "right-anterior-superior" if is_old else "left-posterior-superior"
        write_nrrd(root / patient.name / "Segmentation.seg.nrrd", layers, keys, start=1, space=space)


def write_table(root: Path, patients: Sequence[Patient], *, is_excel: bool) -> None:
    """A table with a column for each channel and each mask; half of the paths are absolute."""
    rows = [["Case", *(f"image:{name}" for name in TWO), *(f"mask:{name}" for name in REGIONS)]]
    for patient in patients:
        names = [f"{patient.name}/{number}.nii.gz" for number in range(5)]
        arrays: list[NDArray[Any]] = [*patient.images[:2], *(mask for _, mask in list_masks(patient))]
        for name, array in zip(names, arrays, strict=True):
            write_nifti(root / name, array)
        rows.append([patient.name, str((root / names[0]).absolute()), *names[1:]])
    if is_excel:
        import openpyxl

        book = openpyxl.Workbook()
        for row in rows:
            book.active.append(row)
        book.save(root / "cases.xlsx")
        return
    with (root / "cases.csv").open("w", newline="") as stream:
        csv.writer(stream, delimiter=";").writerows(rows)


def write_pairs(root: Path, patients: Sequence[Patient]) -> None:
    """Images and maps in folders; the names of the values come from the option labels."""
    for patient in patients:
        write_nifti(root / f"images/{patient.name}.nii.gz", patient.images[0])
        write_nifti(root / f"labels/{patient.name}.nii.gz", patient.label)


def make_series(patient: Patient) -> Series:
    """A CT of a patient's first channel."""
    affine = make_affine()
    directions = affine[:3, :3] / SPACING
    return Series(
        patient.images[0].transpose(2, 1, 0),
        orientation=[*directions[:, 0], *directions[:, 1]],
        origin=ORIGIN,
        spacing=(SPACING[1], SPACING[0]),
        step=SPACING[2],
        patient=patient.name,
        changes={"RescaleIntercept": 0, "StudyInstanceUID": f"1.2.3.{NAMES.index(patient.name)}"},
    )


def write_dicom(root: Path, patients: Sequence[Patient], *, is_contoured: bool) -> None:
    """A CT, and a SEG of three segments that overlap, or an RTSTRUCT of three ROIs in each other."""
    affine = make_affine()
    for patient in patients:
        series = make_series(patient)
        series.write(root / patient.name / "ct")
        masks = dict(list_masks(patient))
        if not is_contoured:
            stack = np.stack(list(masks.values()), axis=-1).transpose(2, 1, 0, 3).astype(bool)
            save(seg(series, stack, list(masks)), root / patient.name / "seg.dcm")
            continue
        images = series.datasets()
        rois: dict[str, list[Dataset]] = {}
        for name, mask in masks.items():
            rois[name] = []
            for k in np.flatnonzero(mask.any(axis=(0, 1))):
                i, j = (np.flatnonzero(mask[..., k].any(axis=axis)) for axis in (1, 0))
                (a, b), (c, d) = (i[0] - 0.5, i[-1] + 0.5), (j[0] - 0.5, j[-1] + 0.5)
                corners = np.array([[a, c, k, 1], [b, c, k, 1], [b, d, k, 1], [a, d, k, 1]])
                rois[name].append(contour((corners @ affine.T)[:, :3], images[k]))
        structures = structure_set(rois, images, StudyInstanceUID=images[0].StudyInstanceUID, PatientID=patient.name)
        save(structures, root / patient.name / "rt.dcm")


@dataclass(frozen=True)
class Writing:
    """One way to write the data set.

    Attributes:
        write: all patients into a folder.
        options: of the conversion.
        channels: the names, in the order that the conversion gives them; empty: one channel.
    """

    write: Callable[[Path, list[Patient]], None]
    options: dict[str, Any]
    channels: tuple[str, ...] = ()


OLD, NEW = ("_t1", "_t1ce", "_t2", "_flair"), ("-t1n", "-t1c", "-t2w", "-t2f")
WRITINGS = {
    "nnunet 1": Writing(lambda root, all_: write_nnunet(root, all_, version=1), {"layout": "nnunet"}, TWO),
    "nnunet 2": Writing(lambda root, all_: write_nnunet(root, all_, version=2), {"layout": "nnunet"}, TWO),
    "decathlon": Writing(write_decathlon, {"layout": "msd"}, TWO),
    "brats 2020": Writing(lambda root, all_: write_brats(root, all_, OLD), {"layout": "brats"}, FOUR),
    "brats 2023": Writing(lambda root, all_: write_brats(root, all_, NEW), {"layout": "brats"}, FOUR),
    "bids": Writing(write_bids, {"layout": "bids"}, ("FLAIR", "T1w")),
    "totalsegmentator": Writing(
        lambda root, all_: write_masks(root, all_, "mri", "segmentations"), {"layout": "totalsegmentator"}
    ),
    "masks": Writing(lambda root, all_: write_masks(root, all_, "image", "masks"), {"layout": "masks"}),
    "slicer": Writing(lambda root, all_: write_slicer(root, all_, is_old=False), {"layout": "slicer"}),
    "slicer 4.10": Writing(lambda root, all_: write_slicer(root, all_, is_old=True), {"layout": "slicer"}),
    "csv": Writing(lambda root, all_: write_table(root, all_, is_excel=False), {"layout": "table"}, TWO),
    "excel": Writing(lambda root, all_: write_table(root, all_, is_excel=True), {"layout": "table"}, TWO),
    "pairs": Writing(write_pairs, {"labels": VALUES}),
    "dicom seg": Writing(lambda root, all_: write_dicom(root, all_, is_contoured=False), {}),
    "dicom rtstruct": Writing(lambda root, all_: write_dicom(root, all_, is_contoured=True), {}),
}
