"""Writing RTSTRUCT: the outlines of masks, slice by slice, on the images that they were made from (PS3.3 A.19).

Outlines follow the borders of the pixels, so that they enclose exactly the area of the pixels, and any reader that asks
for a voxel's centre gets the mask back. A hole is part of its outline, by a channel of no width (PS3.3 C.8.8.6.3).
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np

import voxflow
from voxflow.colours import parse_rgb, pick_class_colour
from voxflow.dicom.grid import compute_plane_axes
from voxflow.dicom.headers import RT_STRUCTURE_SET
from voxflow.dicom.outlines import trace_outlines
from voxflow.dicom.seg_source import place_on_slices
from voxflow.dicom.source_images import (
    MAY_BE_EMPTY,
    UTF_8,
    is_multiframe,
    join_description,
    read_source_images,
    use_utf8,
)
from voxflow.dicom.sources import SourceFiles
from voxflow.dicom.writing import check_names, label_segments
from voxflow.errors import DicomError
from voxflow.files import atomic_path
from voxflow.volumes import LabelBoxes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from pydicom.dataset import Dataset

    from voxflow.dicom.headers import Plane
    from voxflow.volumes import Volume

# Of the patient and study (PS3.3 C.7.1.1, C.7.2.1), type 2: an RTSTRUCT belongs to the study of its images.
_TAKEN_OVER = (*MAY_BE_EMPTY, "StudyInstanceUID", "FrameOfReferenceUID")
SERIES_NUMBER = 901
STUDY_COMPONENT = "1.2.840.10008.3.1.2.3.1"  # what PS3.3 C.8.8.5 has for the class of a study, though it is retired


def write_structure_set(
    path: Path,
    mask: Volume,
    source: Sequence[Path] | SourceFiles,
    names: Mapping[int, str],
    *,
    regions: Mapping[str, Sequence[int]] | None = None,
    description: str = "",
) -> None:
    """Write an RTSTRUCT with one ROI a class, in the patient's coordinates (mm, LPS).

    The same mask of the same images gives the same file, with the same UIDs; the dates of the structure set are empty.

    Args:
        path: the file to write, whole or not at all.
        mask: label values (i, j, k) on the grid of the volume that was converted.
        source: the DICOM files of the volume, in any order; or one multi-frame file, with the frames that are its.
        names: name by label value; every name becomes a ROI, numbered from 1 in the order of the values.
        regions: label values by the name of each region; then these become the ROIs, in their order, and may overlap.
        description: what SeriesDescription (0008,103E) and StructureSetDescription (3006,0006) say of the mask.

    Raises:
        DicomError: the images state no frame of reference, make no volume or are a concatenation, or the mask lies on
            another grid or has a value without a name.
    """
    source = source if isinstance(source, SourceFiles) else SourceFiles(tuple(source))
    images, planes = read_source_images(source, "RTSTRUCT")
    if not images[0].get("FrameOfReferenceUID"):
        raise DicomError("the images state no frame of reference, in which contours lie", where="(0020,0052)")
    values, remark = place_on_slices(mask, planes)
    label_values = check_names(mask, names, path)
    members = regions or {names[value]: (value,) for value in label_values}
    colours = [pick_class_colour(n) for n in (range(1, len(members) + 1) if regions else label_values)]
    references = _refer_to_slices(images, source.frames)
    digest = _digest_mask(values, references, repr((list(members.items()), colours, description)))
    dataset = _make_header(images[0], remark, digest, description)
    dataset.ReferencedFrameOfReferenceSequence = [_refer_to_frame(images, references)]
    _add_rois(dataset, values, members, colours, planes=planes, references=references)
    with atomic_path(path) as temporary:
        dataset.save_as(temporary, enforce_file_format=True)


def _digest_mask(values: NDArray[Any], references: Sequence[Dataset], classes: str) -> str:
    """A digest of all that decides on the contours, for UIDs that stay as long as they do."""
    digest = hashlib.sha256(f"{voxflow.__version__} {classes}".encode())
    for reference, slice_values in zip(references, values, strict=True):
        digest.update(repr((reference.ReferencedSOPInstanceUID, reference.get("ReferencedFrameNumber"))).encode())
        digest.update(np.ascontiguousarray(slice_values).astype("<i8").tobytes())
    return digest.hexdigest()


def _list_contours(
    masks: NDArray[np.bool_],
    box: tuple[slice, slice, slice],
    planes: Sequence[Plane],
    references: Sequence[Dataset],
) -> list[Dataset]:
    """The items of ContourSequence (3006,0040), slice by slice.

    Args:
        masks: (slices, rows, columns) of a box of the volume.
        box: that box.
        planes: where each slice of the volume lies.
        references: what each slice of the volume is, for ContourImageSequence (3006,0016).
    """
    from pydicom.dataset import Dataset

    contours: list[Dataset] = []
    corner = np.array([box[2].start, box[1].start])
    for plane, reference, slice_mask in zip(planes[box[0]], references[box[0]], masks, strict=True):
        along_row, along_column, _ = compute_plane_axes(plane)
        axes = np.stack([along_row * plane.spacing[1], along_column * plane.spacing[0]])
        for outline in trace_outlines(slice_mask.T):
            item = Dataset()
            item.ContourImageSequence = [reference]
            item.ContourGeometricType = "CLOSED_PLANAR"
            item.NumberOfContourPoints = len(outline)
            item.ContourNumber = len(contours) + 1
            item.ContourData = _format_numbers((np.array(plane.position) + (outline + corner) @ axes).ravel())
            contours.append(item)
    return contours


def _format_numbers(values: Iterable[float]) -> list[str]:
    """DS: at most 16 characters (PS3.5 6.2)."""
    rounded = (round(float(value), 5) + 0.0 for value in values)  # + 0.0: no "-0"
    return [f"{value:.5f}".rstrip("0").rstrip(".") for value in rounded]


def _refer_to_slices(images: Sequence[Dataset], frames: Sequence[int]) -> list[Dataset]:
    """What each slice of a volume is: an instance, or a frame of one, which count from 1."""
    if not is_multiframe(images):
        return [_refer_to(image) for image in images]
    numbers = frames or range(int(images[0].NumberOfFrames))
    references = [_refer_to(images[0]) for _ in numbers]
    for reference, number in zip(references, numbers, strict=True):
        reference.ReferencedFrameNumber = number + 1
    return references


def _refer_to(image: Dataset) -> Dataset:
    from pydicom.dataset import Dataset

    reference = Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = image.SOPClassUID, image.SOPInstanceUID
    return reference


def _refer_to_frame(images: Sequence[Dataset], references: Sequence[Dataset]) -> Dataset:
    """The item of ReferencedFrameOfReferenceSequence (3006,0010), with every slice of the volume."""
    from pydicom.dataset import Dataset

    series, study, frame = Dataset(), Dataset(), Dataset()
    series.SeriesInstanceUID, series.ContourImageSequence = images[0].SeriesInstanceUID, list(references)
    study.ReferencedSOPClassUID, study.ReferencedSOPInstanceUID = STUDY_COMPONENT, images[0].StudyInstanceUID
    study.RTReferencedSeriesSequence = [series]
    frame.FrameOfReferenceUID, frame.RTReferencedStudySequence = images[0].FrameOfReferenceUID, [study]
    return frame


def _make_header(image: Dataset, remark: str, digest: str, description: str) -> Dataset:
    """Everything of an RTSTRUCT but its ROIs."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ImplicitVRLittleEndian, generate_uid

    use_utf8(image)
    dataset = Dataset()
    dataset.SpecificCharacterSet = UTF_8
    for keyword in _TAKEN_OVER:
        setattr(dataset, keyword, image.get(keyword, ""))
    dataset.SOPClassUID = RT_STRUCTURE_SET
    dataset.SOPInstanceUID = generate_uid(entropy_srcs=["rtstruct", digest])
    dataset.SeriesInstanceUID = generate_uid(entropy_srcs=["rtstruct series", digest])
    dataset.Modality, dataset.SeriesNumber, dataset.InstanceNumber = "RTSTRUCT", SERIES_NUMBER, 1
    dataset.SeriesDescription = join_description(f"Voxflow {voxflow.__version__} contours", description)
    dataset.OperatorsName = dataset.StructureSetDate = dataset.StructureSetTime = ""
    dataset.Manufacturer = dataset.ManufacturerModelName = "Voxflow"
    dataset.SoftwareVersions, dataset.DeviceSerialNumber = voxflow.__version__, "0"
    dataset.StructureSetLabel = "SEGMENTATION"
    if remark or description:
        dataset.StructureSetDescription = "; ".join(filter(None, (remark and f"Mask {remark}", description)))
    dataset.ApprovalStatus = "UNAPPROVED"
    dataset.StructureSetROISequence, dataset.ROIContourSequence = [], []
    dataset.RTROIObservationsSequence = []
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    # With explicit VRs, a contour could have at most 64 KB, some 2,000 points (PS3.5 7.1.2).
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    return dataset


def _add_rois(
    dataset: Dataset,
    values: NDArray[Any],
    members: Mapping[str, Sequence[int]],
    colours: Sequence[str],
    *,
    planes: Sequence[Plane],
    references: Sequence[Dataset],
) -> None:
    """Add a ROI for each class.

    Args:
        dataset: the RTSTRUCT.
        values: label values (slices, rows, columns).
        members: the label values of each class, by its name.
        colours: of each class, as ``#rrggbb``.
        planes: where each slice lies.
        references: what each slice is, for ContourImageSequence (3006,0016).
    """
    boxes, labels = LabelBoxes(values), label_segments(list(members))
    for label, colour, labels_inside in zip(labels, colours, members.values(), strict=True):
        _add_roi(dataset, label, colour, _list_contours(*boxes.cut(labels_inside), planes, references))


def _add_roi(dataset: Dataset, label: str, colour: str, contours: Sequence[Dataset]) -> None:
    """Add one ROI; one without contours is there by its name, so that an empty class is no missing one."""
    from pydicom.dataset import Dataset

    number = len(dataset.StructureSetROISequence) + 1
    roi, drawing, observation = Dataset(), Dataset(), Dataset()
    roi.ROINumber, roi.ROIName = number, label
    roi.ReferencedFrameOfReferenceUID = dataset.FrameOfReferenceUID
    roi.ROIGenerationAlgorithm = "AUTOMATIC"
    roi.ROIGenerationDescription = f"Voxflow {voxflow.__version__}"[:64]
    drawing.ReferencedROINumber, drawing.ROIDisplayColor = number, list(parse_rgb(colour))
    if contours:
        drawing.ContourSequence = list(contours)
    observation.ObservationNumber = observation.ReferencedROINumber = number
    observation.ROIObservationLabel = label[:16]
    observation.RTROIInterpretedType = observation.ROIInterpreter = ""
    dataset.StructureSetROISequence.append(roi)
    dataset.ROIContourSequence.append(drawing)
    dataset.RTROIObservationsSequence.append(observation)
