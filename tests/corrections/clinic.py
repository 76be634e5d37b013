"""A workspace with a mask of its own for each image, and people who send corrections of it."""

from __future__ import annotations

import datetime
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom
import yaml
from pydicom.uid import generate_uid

from tests.dicom.objects import Series, random_values, save
from voxflow.corrections import CorrectionDesk, CorrectionTable, list_results
from voxflow.dicom import write_segmentation
from voxflow.places import Places
from voxflow.tables import read_rows
from voxflow.volumes import Volume

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pydicom.dataset import Dataset

WORKSPACE = "clinic_ct"
SHAPE = (8, 20, 24)  # slices, rows, columns
NAMES = {1: "Liver", 2: "Spleen"}
BLOCK: dict[str, Any] = {
    "task": "segmentation",
    "source": "data/raw",
    "ingest": {"folder": "drop", "settle_s": 0},
    "convert": {"pseudonym_key": "key", "workers": 1},
    "split": {"testing": 0.3, "validation": 0.2},
}


def make_masks() -> dict[str, NDArray[np.bool_]]:
    """Two organs (slices, rows, columns)."""
    liver, spleen = np.zeros((2, *SHAPE), dtype=bool)
    liver[2:6, 3:9, 3:9], spleen[2:6, 11:16, 12:20] = True, True
    return {"Liver": liver, "Spleen": spleen}


@dataclass
class Clinic:
    """Images with masks, in the present folder."""

    block: dict[str, Any] = field(default_factory=lambda: BLOCK)

    def __post_init__(self) -> None:
        Path("data/raw").mkdir(parents=True)
        Path("drop").mkdir()
        self.write_params()

    def write_params(self) -> None:
        Path("params.yaml").write_text(yaml.safe_dump({"workspaces": {WORKSPACE: self.block}}))

    @property
    def places(self) -> Places:
        return Places.of(WORKSPACE)

    def make_image(self, number: int, patient: str = "") -> Series:
        """A series in the inbox, with our mask among the answers."""
        study = f"1.2.840.99.{number}"
        series = Series(
            random_values(SHAPE, number),
            uid=f"{study}.1",
            patient=patient or f"patient {number}",
            frame=f"{study}.9",
            changes={"StudyInstanceUID": study},
        )
        files = series.write(Path(f"data/inbox/{WORKSPACE}/{study}/{series.uid}"))
        labels = np.zeros(SHAPE, dtype=np.uint8)
        for value, name in NAMES.items():
            labels[make_masks()[name]] = value
        out = Path(f"data/answers/{WORKSPACE}/{series.uid}")
        path = out / "c_1/c_1_seg.dcm"
        write_segmentation(path, to_volume(labels, files), files, NAMES)
        note = {
            "study_uid": study,
            "series_uid": series.uid,
            "instances": len(files),
            "model": "threshold",
            "files": ["c_1/c_1_seg.dcm"],
            "own": [str(pydicom.dcmread(path).SeriesInstanceUID)],
        }
        (out / "answer.json").write_text(json.dumps(note))
        return series

    def find_mask(self, series: Series) -> Path:
        """Our mask of an image."""
        return Path(f"data/answers/{WORKSPACE}/{series.uid}/c_1/c_1_seg.dcm")

    def open_desk(self, absent: str = "hold") -> CorrectionDesk:
        places = self.places
        results = list_results(places, Path("data/answers") / WORKSPACE, Path("data/inbox") / WORKSPACE)
        return CorrectionDesk(places, results, CorrectionTable(places.corrections), role="radiologist", absent=absent)

    def take(self, dataset: Dataset, name: str = "sent.dcm") -> Any:
        """What the desk makes of one object."""
        return self.open_desk().take(save(dataset, Path("drop") / name))

    def classes(self) -> list[dict[str, str]]:
        return read_rows(self.places.corrections / "classes.csv") or []


def to_volume(labels: NDArray[Any], files: list[Path]) -> Volume:
    from voxflow.dicom import ConvertOptions, ImageMasks

    images = ImageMasks(files, ConvertOptions())
    # (slices, rows, columns) → (i, j, k): columns, rows, slices
    return Volume(np.ascontiguousarray(labels.transpose(2, 1, 0)), images.geometry(0))


def edit(path: Path, change: Any = None, *, minutes: int = 5, **attributes: Any) -> Dataset:
    """A mask as a viewer that keeps everything would save it: new UIDs, a later time, and other pixels."""
    dataset = pydicom.dcmread(path)
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset.SeriesInstanceUID = generate_uid()
    moment = datetime.datetime.now() + datetime.timedelta(minutes=minutes)
    dataset.ContentDate, dataset.ContentTime = moment.strftime("%Y%m%d"), moment.strftime("%H%M%S")
    if change is not None:
        frames = dataset.pixel_array.copy()
        # One segment alone is named once for all frames.
        groups = dataset.PerFrameFunctionalGroupsSequence
        named = [g.get("SegmentIdentificationSequence") for g in groups]
        change(frames, [int(items[0].ReferencedSegmentNumber) if items else 1 for items in named])
        dataset.PixelData = np.packbits(frames.ravel().astype(np.uint8), bitorder="little").tobytes()
        if len(dataset.PixelData) % 2:
            dataset.PixelData += b"\0"
    for segment in dataset.SegmentSequence:
        segment.SegmentAlgorithmType = "SEMIAUTOMATIC"
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


def shave(frames: NDArray[Any], numbers: list[int]) -> None:
    """Take one row of the spleen away."""
    for frame, number in zip(frames, numbers, strict=True):
        if number == 2:
            frame[11] = 0
