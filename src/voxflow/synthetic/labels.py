"""The labels of synthetic patients, in the two forms that hospitals use: DICOM SEG and RTSTRUCT."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from voxflow.synthetic.files import DAY, TIME, Person, new_dataset

if TYPE_CHECKING:
    from collections.abc import Mapping

    from highdicom.seg import SegmentDescription
    from numpy.typing import NDArray
    from pydicom import Dataset

    from voxflow.synthetic.anatomy import Abdomen


def build_seg(person: Person, series: list[Dataset], masks: Mapping[str, NDArray[np.bool_]]) -> Dataset:
    """Build a binary DICOM SEG of one segment a mask; masks may overlap.

    Args:
        person: whom it shows.
        series: the image objects, in the order of k.
        masks: (i, j, k) by SegmentLabel (0062,0005).
    """
    import highdicom as hd

    segmentation: Dataset = hd.seg.Segmentation(
        source_images=series,
        pixel_array=np.stack([mask.transpose(2, 1, 0) for mask in masks.values()], -1).astype(np.uint8),
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[_describe_segment(*item) for item in enumerate(masks, start=1)],
        series_instance_uid=person.uid("seg"),
        series_number=2,
        sop_instance_uid=person.uid("seg", "1"),
        instance_number=1,
        manufacturer="Voxflow",
        manufacturer_model_name="sample",
        software_versions="1",
        device_serial_number="1",
    )
    _fix_dates(segmentation, person)
    return segmentation


def _describe_segment(number: int, name: str) -> SegmentDescription:
    import highdicom as hd
    from pydicom.sr.codedict import codes

    is_organ = name == "spleen"
    return hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=name,
        segmented_property_category=codes.SCT.Organ if is_organ else codes.SCT.MorphologicallyAbnormalStructure,
        segmented_property_type=codes.SCT.Spleen if is_organ else codes.SCT.Neoplasm,
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.MANUAL,
    )


def _fix_dates(segmentation: Dataset, person: Person) -> None:
    """Replace what highdicom takes from the clock and at random, so that a seed gives the same bytes at any time."""
    segmentation.ContentDate = segmentation.SeriesDate = segmentation.InstanceCreationDate = DAY
    segmentation.ContentTime = segmentation.SeriesTime = segmentation.InstanceCreationTime = TIME
    for entry in [*segmentation.DimensionOrganizationSequence, *segmentation.DimensionIndexSequence]:
        entry.DimensionOrganizationUID = person.uid("dimensions")
    for entry in segmentation.get("ContributingEquipmentSequence", []):
        entry.ContributionDateTime = DAY + TIME


def build_rtstruct(person: Person, series: list[Dataset], abdomen: Abdomen, name: str) -> Dataset:
    """Build an RTSTRUCT of one ROI, with closed planar contours along the mask's outline, mm, LPS.

    Args:
        person: whom it shows.
        series: the CT Image objects, in the order of k.
        abdomen: the mask and its grid.
        name: ROIName (3006,0026).
    """
    from pydicom.uid import CTImageStorage, RTStructureSetStorage

    dataset = new_dataset(person, RTStructureSetStorage, modality="RTSTRUCT", series="rtstruct", instance=1)
    dataset.StructureSetLabel, dataset.StructureSetDate, dataset.StructureSetTime = "demo", "20200102", "120000"
    referenced = [
        _build_item(ReferencedSOPClassUID=CTImageStorage, ReferencedSOPInstanceUID=s.SOPInstanceUID) for s in series
    ]
    frame = series[0].FrameOfReferenceUID
    dataset.ReferencedFrameOfReferenceSequence = [_build_reference(series[0], referenced)]
    dataset.StructureSetROISequence = [
        _build_item(ROINumber=1, ReferencedFrameOfReferenceUID=frame, ROIName=name, ROIGenerationAlgorithm="MANUAL")
    ]
    contours = [
        _build_item(
            ContourImageSequence=[referenced[k]],
            ContourGeometricType="CLOSED_PLANAR",
            NumberOfContourPoints=len(points),
            ContourData=[f"{value:.3f}" for value in points.ravel()],
        )
        for k in range(abdomen.geometry.size[2])
        for points in _trace_outlines(abdomen, k)
    ]
    dataset.ROIContourSequence = [
        _build_item(ReferencedROINumber=1, ROIDisplayColor=[200, 80, 60], ContourSequence=contours)
    ]
    dataset.RTROIObservationsSequence = [
        _build_item(ObservationNumber=1, ReferencedROINumber=1, RTROIInterpretedType="ORGAN", ROIInterpreter="")
    ]
    return dataset


def _build_reference(image: Dataset, referenced: list[Dataset]) -> Dataset:
    """Refer to the series that the contours were drawn on: frame of reference, study, series, images."""
    in_series = _build_item(SeriesInstanceUID=image.SeriesInstanceUID, ContourImageSequence=referenced)
    in_study = _build_item(
        # Detached Study Management, retired, and what every RTSTRUCT still names here.
        ReferencedSOPClassUID="1.2.840.10008.3.1.2.3.1",
        ReferencedSOPInstanceUID=image.StudyInstanceUID,
        RTReferencedSeriesSequence=[in_series],
    )
    return _build_item(FrameOfReferenceUID=image.FrameOfReferenceUID, RTReferencedStudySequence=[in_study])


def _trace_outlines(abdomen: Abdomen, k: int) -> list[NDArray[np.float64]]:
    from contourpy import contour_generator

    # Lines lie half a voxel outside the outermost centres, so that filling them gives the mask back.
    padded = np.pad(abdomen.spleen[:, :, k].T.astype(float), 1)
    outlines = []
    for line in contour_generator(z=padded).lines(0.5):
        closed = np.asarray(line)[:-1] - 1
        index = np.column_stack([closed, np.full(len(closed), float(k))])
        outlines.append(abdomen.geometry.to_physical(index))
    return outlines


def _build_item(**attributes: object) -> Dataset:
    from pydicom.dataset import Dataset

    dataset = Dataset()
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset
