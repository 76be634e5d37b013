"""Rules of which image a label belongs to, and which voxels it covers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from pydicom.uid import UID

from tests.conversion_rules.rule import Rule
from tests.dicom.objects import FRAME, Series, contour, random_values, rtstruct, save, seg, structure_set

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from pydicom.dataset import Dataset

TRIANGLE = np.array([[1.0, 1, 2], [5, 1, 2], [3, 8, 2]])
BOX = np.array([[0.6, 0.8, 0], [5.4, 0.8, 0], [5.4, 8.2, 0], [0.6, 8.2, 0]])
STEP = 2.0
BOTH = ("converted", "converted")


def box(slice_number: float, *, image: Dataset | None = None, kind: str = "CLOSED_PLANAR") -> Dataset:
    return contour(BOX + np.array([0, 0, slice_number * STEP]), image, kind)


def write_ct(folder: Path, uid: str = "1.2.1", **changes: Any) -> list[Dataset]:
    series = Series(random_values(), uid=uid, changes=changes)
    series.write(folder / uid)
    return series.datasets()


def write_rois(folder: Path, *rois: list[Dataset], **more: Any) -> None:
    names = ("Organ", "Other")
    save(structure_set(dict(zip(names, rois, strict=False)), write_ct(folder), **more), folder / "rt")


def write_label_by_frame(folder: Path, is_inside: bool) -> None:
    Series(random_values()).write(folder / "ct")
    save(rtstruct([TRIANGLE], frame=FRAME if is_inside else "1.2.99"), folder / "rt")


def write_label_of_broken_series(folder: Path, is_inside: bool) -> None:
    images = Series(random_values(), uid="1.2.1").datasets()
    for k, image in enumerate(images):
        if is_inside or k != 3:
            save(image, folder / f"a{k}")
    write_ct(folder, "1.2.2")
    save(structure_set({"Organ": [box(2, image=images[2])]}, images), folder / "rt")


def write_label_of_other_modality(folder: Path, is_inside: bool) -> None:
    images = {
        modality: write_ct(folder, uid, Modality=modality) for modality, uid in (("CT", "1.2.1"), ("MR", "1.2.2"))
    }
    save(structure_set({"Organ": [box(2)]}, images["CT" if is_inside else "MR"]), folder / "rt")


def write_label_of_series(folder: Path, is_inside: bool) -> None:
    images = write_ct(folder, EchoTime=2.0)
    if not is_inside:
        second = Series(random_values(), uid="1.2.1", changes={"EchoTime": 9.0}).datasets()
        for k, dataset in enumerate(second):
            dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = UID(f"1.2.9.{k}")
            save(dataset, folder / f"second{k}")
    dataset = structure_set({"Organ": [box(2)]}, images)
    study = dataset.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0]
    del study.RTReferencedSeriesSequence[0].ContourImageSequence
    save(dataset, folder / "rt")


def write_label_of_patient(folder: Path, is_inside: bool) -> None:
    write_rois(folder, [box(2)], PatientID="MARKER-ID" if is_inside else "SOMEBODY")


def write_last_slice(folder: Path, is_inside: bool) -> None:
    write_rois(folder, [box(5.45 if is_inside else 5.55)])


def write_bent_contour(folder: Path, is_inside: bool) -> None:
    """Across the slices, with corners up to half a voxel off their plane, or a little more."""
    off = 0.45 if is_inside else 0.55
    bent = np.array([[2 - off, 1, 1], [2 + off, 7, 1], [4 - off, 7, 7], [4 + off, 1, 7]])
    write_rois(folder, [contour(bent)])


def write_open_contour(folder: Path, is_inside: bool) -> None:
    write_rois(folder, [box(2), box(3, kind="CLOSED_PLANAR" if is_inside else "OPEN_PLANAR")])


def write_dense_planes(folder: Path, is_inside: bool) -> None:
    write_rois(folder, [box(2), box(2.6 if is_inside else 2.4)])


def write_sparse_planes(folder: Path, is_inside: bool) -> None:
    write_rois(folder, [box(k) for k in ((1, 2, 3) if is_inside else (1, 3, 5))])


def write_leaning_contour(folder: Path, is_inside: bool) -> None:
    """Its corners lie half a slice apart, or a little more."""
    reach = 0.48 if is_inside else 0.52
    write_rois(folder, [contour(BOX + np.outer([0, 1, 1, 0], [0, 0, reach * STEP]) + np.array([0, 0, 4.6]))])


def write_far_contour(folder: Path, is_inside: bool) -> None:
    write_rois(folder, [box(2), contour(BOX * (1 if is_inside else 1e6))])


def write_two_objects(folder: Path, is_inside: bool) -> None:
    write_rois(folder, [box(2), box(3)], SeriesNumber=1)
    images = Series(random_values(), uid="1.2.1").datasets()
    again = [box(2), box(3)] if is_inside else [box(2), box(4)]
    save(structure_set({"Organ": again}, images, SeriesNumber=2), folder / "rt2")


def write_two_numbers(folder: Path, is_inside: bool) -> None:
    dataset = structure_set({"Organ": [box(2)], "Other": [box(4)]}, write_ct(folder))
    dataset.StructureSetROISequence[1].ROINumber = 2 if is_inside else 1
    save(dataset, folder / "rt")


def write_overlap(folder: Path, is_inside: bool) -> None:
    write_rois(folder, [box(2)], [box(3 if is_inside else 2)])


def write_seg(folder: Path, mask: NDArray[Any], off: float = 0.0, **more: Any) -> Dataset:
    """A SEG that lies ``off`` pixels from its image along the rows."""
    write_ct(folder)
    return seg(Series(random_values(), uid="1.2.1", origin=(off, 0, 0)), mask, ["Organ"], **more)


def block(columns: slice = slice(2, 5)) -> NDArray[np.uint8]:
    mask = np.zeros((6, 9, 7), np.uint8)
    mask[1:4, 2:6, columns] = 1
    return mask


def write_seg_off_grid(folder: Path, is_inside: bool) -> None:
    save(write_seg(folder, block(), 0.09 if is_inside else 0.11), folder / "seg")


def write_seg_beyond(folder: Path, is_inside: bool) -> None:
    save(write_seg(folder, block(slice(2, 7)), 0.0 if is_inside else 1.0), folder / "seg")


def write_fractions(folder: Path, is_inside: bool) -> None:
    more: dict[str, Any] = {"max_fractional_value": 100, "fractional_type": "PROBABILITY"}
    dataset = write_seg(folder, block().astype(float), kind="FRACTIONAL", **more)
    dataset.MaximumFractionalValue = 100 if is_inside else 0
    save(dataset, folder / "seg")


def write_frames(folder: Path, is_inside: bool) -> None:
    dataset = write_seg(folder, block())
    if not is_inside:
        del dataset.PerFrameFunctionalGroupsSequence[-1]
    save(dataset, folder / "seg")


RULES = [
    Rule(
        "label of a frame of reference",
        write_label_by_frame,
        "shares its frame of reference",
        inside=BOTH,
        inside_reason="nothing that it refers to is here: given to the only volume",
    ),
    Rule(
        "label of an image",
        write_label_of_broken_series,
        "its image series was quarantined",
        verdict="skipped",
        inside=("converted", "converted", "converted"),
    ),
    Rule(
        "label of a modality",
        write_label_of_other_modality,
        "its image is left out: modality MR is not among CT",
        verdict="skipped",
        inside=("converted", "converted", "skipped"),
        options={"modalities": ["CT"]},
    ),
    Rule(
        "label of a series",
        write_label_of_series,
        "its series holds 2 volumes, and it names no image of one of them",
        inside=BOTH,
    ),
    Rule("label of a patient", write_label_of_patient, "refers to images of another patient", inside=BOTH),
    Rule("contour in the last slice", write_last_slice, "all contours lie outside of the image", inside=BOTH),
    Rule("contour in a slice", write_leaning_contour, "1 of 1 contour(s) lie across the slices", "converted", BOTH),
    Rule("planar contour", write_bent_contour, "a closed contour is not planar", inside=BOTH),
    Rule("closed contour", write_open_contour, "1 of 2 point or open contour(s) enclose nothing", "converted", BOTH),
    Rule("slice of a contour", write_dense_planes, "1 of 2 contour(s) left out, since others", "converted", BOTH),
    Rule("contours in each slice", write_sparse_planes, "contours lie farther apart than slices", "remedied", BOTH),
    Rule("coordinates of a contour", write_far_contour, "no place in a patient", inside=BOTH),
    Rule(
        "one name in two label objects",
        write_two_objects,
        "already labelled by another object of the same image, and differs: 25 of 75 voxels",
        inside=("converted", "converted", "converted"),
        inside_reason="equal to the label of that name in another object",
    ),
    Rule("numbers of ROIs", write_two_numbers, "several of its ROIs have one number", inside=BOTH),
    Rule("overlap of labels", write_overlap, "voxels lie in several segments", "converted", BOTH),
    Rule("grid of a SEG", write_seg_off_grid, "lies on another grid than its image", "remedied", BOTH),
    Rule("extent of a SEG", write_seg_beyond, "12 pixels lie outside of the image", "converted", BOTH),
    Rule("fractions of a SEG", write_fractions, "a fractional segmentation states no maximum", inside=BOTH),
    Rule("frames of a SEG", write_frames, "says to hold 3 frames and describes 2", inside=BOTH),
]
