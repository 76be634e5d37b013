"""Writing a DICOM Structured Report of the classes of a SEG: TID 1500, Comprehensive 3D SR (PS3.16 A)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import voxflow
from voxflow.dicom.headers import read_dataset
from voxflow.dicom.source_images import UTF_8, join_description, read_source_images, silence_highdicom, use_utf8
from voxflow.dicom.sources import SourceFiles
from voxflow.dicom.writing import find_code
from voxflow.errors import DicomError
from voxflow.files import atomic_path

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from pydicom.dataset import Dataset

SERIES_NUMBER = 902


@dataclass(frozen=True)
class SegmentMeasurements:
    """What is measured of one segment.

    Attributes:
        name: of its class.
        volume_ml: its volume.
        intensities: "mean", "std", "min" and "max" of the image inside by the image's unit, such as "HU", as cases.csv
            names it. Values of units that this report has no code for are left out.
    """

    name: str
    volume_ml: float
    intensities: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


def write_measurement_report(
    path: Path,
    segmentation: Path,
    source: Sequence[Path] | SourceFiles,
    measurements: Sequence[SegmentMeasurements],
    *,
    description: str = "",
) -> None:
    """Write a report that refers to a SEG, segment by segment, and to the images that it was made from.

    The same SEG and measurements give the same file; its dates are those of the SEG.

    Args:
        path: the file to write, whole or not at all.
        segmentation: the DICOM SEG.
        source: the DICOM files of the volume, as they were given to the SEG.
        measurements: of each segment, in their order.
        description: what SeriesDescription (0008,103E) says of the mask beside.

    Raises:
        DicomError: the SEG has another number of segments, or the images are none that it refers to.
    """
    source = source if isinstance(source, SourceFiles) else SourceFiles(tuple(source))
    images, _ = read_source_images(source, "Structured Report")
    seg = read_dataset(segmentation)
    if len(seg.SegmentSequence) != len(measurements):
        raise DicomError(
            f"{len(measurements)} classes were measured, the SEG has {len(seg.SegmentSequence)} segments",
            path=segmentation,
        )
    for dataset in (*images, seg):
        use_utf8(dataset)
    with silence_highdicom():
        report = _build_report(images, seg, measurements, description)
    _date_as(report, seg)
    with atomic_path(path) as temporary:
        report.save_as(temporary, enforce_file_format=True)


def _date_as(report: Dataset, seg: Dataset) -> None:
    """Give a report the dates of its SEG, so that the same SEG and measurements give the same file."""
    report.InstanceCreationDate = report.ContentDate = seg.ContentDate
    report.InstanceCreationTime = report.ContentTime = seg.ContentTime
    for equipment in report.get("ContributingEquipmentSequence") or []:  # highdicom itself
        equipment.ContributionDateTime = f"{seg.ContentDate}{seg.ContentTime}"


def _build_report(
    images: Sequence[Dataset], seg: Dataset, measurements: Sequence[SegmentMeasurements], description: str
) -> Dataset:
    import highdicom as hd
    from pydicom.uid import generate_uid

    content_key = repr((voxflow.__version__, str(seg.SOPInstanceUID), measurements, description))
    digest = hashlib.sha256(content_key.encode()).hexdigest()
    device = hd.sr.DeviceObserverIdentifyingAttributes(
        uid=generate_uid(entropy_srcs=["Voxflow", voxflow.__version__]), name="Voxflow", manufacturer_name="Voxflow"
    )
    observer = hd.sr.ObserverContext(observer_type=_codes().DCM.Device, observer_identifying_attributes=device)
    content = hd.sr.MeasurementReport(
        observation_context=hd.sr.ObservationContext(observer_device_context=observer),
        procedure_reported=_name_procedure(str(images[0].get("Modality", ""))),
        imaging_measurements=[
            _describe_segment(seg, number, segment, generate_uid(entropy_srcs=["tracking", digest, str(number)]))
            for number, segment in enumerate(measurements, start=1)
        ],
        title=_codes().DCM.ImagingMeasurementReport,
    )
    report: Dataset = hd.sr.Comprehensive3DSR(
        evidence=[*images, seg],
        content=content,
        series_number=SERIES_NUMBER,
        series_instance_uid=generate_uid(entropy_srcs=["sr series", digest]),
        sop_instance_uid=generate_uid(entropy_srcs=["sr", digest]),
        instance_number=1,
        manufacturer="Voxflow",
        manufacturer_model_name="Voxflow",
        software_versions=voxflow.__version__,
        device_serial_number="0",
        series_description=join_description(f"Voxflow {voxflow.__version__} measurements", description),
        is_complete=True,
        specific_character_set=UTF_8,
    )
    return report


def _describe_segment(seg: Dataset, number: int, segment: SegmentMeasurements, tracking_uid: str) -> Any:
    """One measurement group, TID 1411."""
    import highdicom as hd

    codes = _codes()
    series = str(seg.ReferencedSeriesSequence[0].SeriesInstanceUID)
    algorithm = hd.sr.AlgorithmIdentification(
        name="Voxflow", version=voxflow.__version__, family=codes.DCM.ArtificialIntelligence
    )
    milliliter = hd.sr.CodedConcept(value="ml", scheme_designator="UCUM", meaning="milliliter")
    numbers = [hd.sr.Measurement(name=codes.SCT.Volume, value=float(segment.volume_ml), unit=milliliter)]
    for unit, values in segment.intensities.items():
        numbers += _describe_intensities(unit, values)
    return hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(uid=tracking_uid, identifier=segment.name),
        # By its number alone: a class without a voxel has a segment, and no frames.
        referenced_segment=hd.sr.ReferencedSegment(
            sop_class_uid=seg.SOPClassUID,
            sop_instance_uid=seg.SOPInstanceUID,
            segment_number=number,
            source_series=hd.sr.SourceSeriesForSegmentation(series),
        ),
        finding_category=codes.SCT.AnatomicalStructure,
        finding_type=find_code(segment.name),
        algorithm_id=algorithm,
        measurements=numbers,
    )


def _describe_intensities(unit: str, values: Mapping[str, float]) -> list[Any]:
    """Mean, deviation, least and greatest of one quantity, each as a derivation of it (PS3.16, TID 300)."""
    import highdicom as hd

    codes = _codes()
    quantities = {
        "HU": (codes.DCM.AttenuationCoefficient, codes.UCUM.HounsfieldUnit),
        "SUVbw g/ml": (codes.DCM.Suvbw, codes.UCUM.StandardizedUptakeValueBodyWeight),
        "SUVlbm g/ml": (codes.DCM.Suvlbm, codes.UCUM.StandardizedUptakeValueLeanBodyMassJames),
        "SUVibw g/ml": (codes.DCM.Suvibw, codes.UCUM.StandardizedUptakeValueIdealBodyWeight),
        "SUVbsa cm2/ml": (codes.DCM.Suvbsa, codes.UCUM.StandardizedUptakeValueBodySurfaceArea),
    }
    if unit not in quantities:
        return []
    name, code = quantities[unit]
    derivations = {
        "mean": codes.SCT.Mean,
        "std": codes.SCT.StandardDeviation,
        "min": codes.SCT.Minimum,
        "max": codes.SCT.Maximum,
    }
    return [
        hd.sr.Measurement(name=name, value=float(values[key]), unit=code, derivation=derivation)
        for key, derivation in derivations.items()
        if key in values
    ]


def _name_procedure(modality: str) -> Any:
    codes = _codes()
    procedures = {
        "CT": codes.LN.CTUnspecifiedBodyRegion,
        "MR": codes.LN.MRIUnspecifiedBodyRegion,
        "PT": codes.LN.PETUnspecifiedBodyRegion,
    }
    return procedures.get(modality, codes.SCT.ImagingProcedure)


def _codes() -> Any:
    from pydicom.sr.codedict import codes

    return codes
