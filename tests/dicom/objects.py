"""Small DICOM objects for tests, written with pydicom and highdicom alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, RTStructureSetStorage, generate_uid

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
# Short enough for tests to append to them.
STUDY, FRAME = (str(generate_uid(entropy_srcs=[name]))[:48].rstrip(".") for name in ("study", "frame"))


@dataclass
class Series:
    """A series on a regular grid; ``stored`` is (slices, rows, columns)."""

    stored: NDArray[Any]
    orientation: Sequence[float] = IDENTITY
    origin: Sequence[float] = (0.0, 0.0, 0.0)
    spacing: tuple[float, float] = (1.5, 1.0)
    step: float = 2.0
    slopes: Sequence[float] | None = None
    uid: str = field(default_factory=lambda: str(generate_uid()))
    patient: str = "MARKER-ID"
    frame: str = FRAME
    changes: dict[str, Any] = field(default_factory=dict)

    @property
    def normal(self) -> NDArray[np.float64]:
        return np.cross(self.orientation[:3], self.orientation[3:])

    def datasets(self) -> list[Dataset]:
        return [self._slice(k) for k in range(len(self.stored))]

    def write(self, folder: Path, rng: np.random.Generator | None = None) -> list[Path]:
        """Write the slices under names in an order that says nothing; gives the paths in the order of slices."""
        names = (rng or np.random.default_rng(0)).permutation(len(self.stored))
        return [save(d, folder / f"F{names[k]:03d}") for k, d in enumerate(self.datasets())]

    def _slice(self, k: int) -> Dataset:
        d = new(CTImageStorage, "CT", self.uid, self.patient)
        d.SOPInstanceUID = d.file_meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[self.uid, str(k)])
        d.FrameOfReferenceUID, d.ImageType = self.frame, ["ORIGINAL", "PRIMARY", "AXIAL"]
        position = np.asarray(self.origin) + k * self.step * self.normal
        d.ImagePositionPatient = [f"{v:.10g}"[:16] for v in position]
        d.ImageOrientationPatient = [f"{v:.12f}"[:16] for v in self.orientation]
        d.PixelSpacing, d.SliceThickness = list(self.spacing), self.step
        d.RescaleSlope, d.RescaleIntercept = (self.slopes[k] if self.slopes else 1), -100
        pixels(d, self.stored[k])
        for keyword, value in self.changes.items():
            setattr(d, keyword, value[k] if isinstance(value, list) and len(value) == len(self.stored) else value)
        return d


def new(sop_class: str, modality: str, series: str, patient: str = "MARKER-ID") -> Dataset:
    d = Dataset()
    d.file_meta = FileMetaDataset()
    d.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    d.file_meta.MediaStorageSOPClassUID = d.SOPClassUID = UID(sop_class)
    d.file_meta.MediaStorageSOPInstanceUID = d.SOPInstanceUID = generate_uid()
    d.StudyInstanceUID, d.SeriesInstanceUID, d.Modality = STUDY, UID(series), modality
    d.PatientID, d.PatientName, d.PatientBirthDate, d.StudyDate = patient, "MARKER^NAME", "19390713", "20180317"
    d.PatientSex, d.StudyID, d.StudyTime, d.AccessionNumber, d.ReferringPhysicianName = "O", "1", "", "", ""
    d.SeriesNumber, d.InstanceNumber, d.PositionReferenceIndicator = 1, 1, ""
    return d


def pixels(d: Dataset, values: NDArray[Any], bits: int = 16) -> None:
    d.Rows, d.Columns = values.shape
    d.SamplesPerPixel, d.PhotometricInterpretation = 1, "MONOCHROME2"
    d.BitsAllocated, d.BitsStored, d.HighBit = 16, bits, bits - 1
    d.PixelRepresentation = int(values.dtype.kind == "i")
    d.PixelData = np.ascontiguousarray(values).astype(values.dtype.newbyteorder("<")).tobytes()


def save(d: Dataset, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    d.save_as(path, enforce_file_format=True)
    return path


def random_values(shape: tuple[int, int, int] = (6, 9, 7), seed: int = 0) -> NDArray[np.int16]:
    return np.random.default_rng(seed).integers(-500, 1500, shape).astype(np.int16)


def item(**attributes: object) -> Dataset:
    d = Dataset()
    for keyword, value in attributes.items():
        setattr(d, keyword, value)
    return d


def rtstruct(contours: Sequence[NDArray[np.float64]], *, frame: str = FRAME, name: str = "Organ") -> Dataset:
    """One ROI of contours (points, 3) in mm; refers to no image, only to a frame of reference."""
    d = new(RTStructureSetStorage, "RTSTRUCT", str(generate_uid()))
    d.FrameOfReferenceUID = frame
    d.StructureSetROISequence = [item(ROINumber=4, ROIName=name, ReferencedFrameOfReferenceUID=frame)]
    contour_items = [
        item(ContourGeometricType="CLOSED_PLANAR", ContourData=[f"{v:.6g}" for v in points.ravel()])
        for points in contours
    ]
    d.ROIContourSequence = [item(ReferencedROINumber=4, ContourSequence=contour_items)]
    return d


def structure_set(
    rois: Mapping[str, Sequence[Dataset]], images: Sequence[Dataset] = (), frames: Sequence[str] = (), **more: Any
) -> Dataset:
    """ROIs numbered from 1, each of items of :func:`contour`.

    The whole refers to ``images``; ``frames`` are the frames of reference of the ROIs, else that of the images.
    """
    d = new(RTStructureSetStorage, "RTSTRUCT", str(generate_uid()))
    series: dict[tuple[str, str], list[Dataset]] = {}
    for image in images:
        series.setdefault((image.FrameOfReferenceUID, image.SeriesInstanceUID), []).append(image)
    d.ReferencedFrameOfReferenceSequence = [
        item(
            FrameOfReferenceUID=frame,
            RTReferencedStudySequence=[
                item(
                    RTReferencedSeriesSequence=[
                        item(SeriesInstanceUID=uid, ContourImageSequence=[refer(image) for image in members])
                    ]
                )
            ],
        )
        for (frame, uid), members in series.items()
    ]
    frames = frames or [images[0].FrameOfReferenceUID if images else FRAME] * len(rois)
    d.StructureSetROISequence = [
        item(ROINumber=n, ROIName=name, ReferencedFrameOfReferenceUID=frame)
        for n, (name, frame) in enumerate(zip(rois, frames, strict=True), start=1)
    ]
    d.ROIContourSequence = [
        item(ReferencedROINumber=n, ContourSequence=list(contours)) for n, contours in enumerate(rois.values(), start=1)
    ]
    for keyword, value in more.items():
        setattr(d, keyword, value)
    return d


def contour(points: Any, image: Dataset | None = None, kind: str = "CLOSED_PLANAR", frame: int = 0) -> Dataset:
    """A contour of points (points, 3) in mm, drawn on one image, or on one frame of it (from 1)."""
    d = item(ContourGeometricType=kind, ContourData=[float(f"{v:.9g}") for v in np.ravel(points)])
    if image is not None:
        d.ContourImageSequence = [refer(image, frame)]
    return d


def refer(image: Dataset, frame: int = 0) -> Dataset:
    d = item(ReferencedSOPClassUID=image.SOPClassUID, ReferencedSOPInstanceUID=image.SOPInstanceUID)
    if frame:
        d.ReferencedFrameNumber = frame
    return d


def seg(series: Series, masks: NDArray[Any], names: Sequence[str], kind: str = "BINARY", **more: Any) -> Dataset:
    """A SEG of ``masks`` (slices, rows, columns, segments), written by highdicom."""
    import highdicom as hd
    from pydicom.sr.codedict import codes

    descriptions = [
        hd.seg.SegmentDescription(n, name, codes.SCT.Organ, codes.SCT.Spleen, hd.seg.SegmentAlgorithmTypeValues.MANUAL)
        for n, name in enumerate(names, start=1)
    ]
    dataset: Dataset = hd.seg.Segmentation(
        series.datasets(),
        masks,
        kind,
        descriptions,
        generate_uid(),
        2,
        generate_uid(),
        1,
        "maker",
        "model",
        "1",
        "1",
        **more,
    )
    return dataset
