"""The brain sample: four contrasts a study with honest headers, nested regions that overlap in one DICOM SEG."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pydicom
import pytest

from voxflow.errors import DataError
from voxflow.synthetic import write_brain_mr


@pytest.fixture(scope="module")
def brain(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    folder = tmp_path_factory.mktemp("mr")
    write_brain_mr(folder, 6, 3)
    return [pydicom.dcmread(path) for path in sorted(folder.rglob("I*"))]


def group_series(brain: list[Any]) -> dict[str, dict[str, list[Any]]]:
    """The MR images by patient and series, without the localizer, in the order of their positions."""
    studies: dict[str, dict[str, list[Any]]] = defaultdict(lambda: defaultdict(list))
    for dataset in brain:
        if dataset.Modality == "MR" and "LOCALIZER" not in dataset.ImageType:
            studies[dataset.PatientID][dataset.SeriesInstanceUID].append(dataset)
    for series in studies.values():
        for slices in series.values():
            slices.sort(key=lambda dataset: float(dataset.ImagePositionPatient[2]))
    return studies


def test_study_has_four_series_in_one_frame_and_the_last_patient_lacks_flair(brain: list[Any]) -> None:
    studies = group_series(brain)
    assert [len(studies[person]) for person in sorted(studies)] == [4] * 6 + [3]
    for series in studies.values():
        slices = [dataset for group in series.values() for dataset in group]
        assert len({dataset.FrameOfReferenceUID for dataset in slices}) == 1
        assert len({dataset.StudyInstanceUID for dataset in slices}) == 1
    assert sum("LOCALIZER" in dataset.get("ImageType", []) for dataset in brain) == 1


def test_headers_tell_the_contrasts_apart(brain: list[Any]) -> None:
    for series in group_series(brain).values():
        kinds = [
            (float(slices[0].EchoTime) > 50, "InversionTime" in slices[0], "ContrastBolusAgent" in slices[0])
            for slices in series.values()
        ]
        assert len(set(kinds)) == len(kinds)
    descriptions = {dataset.SeriesDescription for dataset in brain if dataset.Modality == "MR"}
    assert {"AX T1 SE +C", "T1w axial post Gd", "t1_se_tra_km", "T2w axial", "FLAIR axial"} <= descriptions


def test_segments_are_nested_and_lie_on_the_series_with_contrast_agent(brain: list[Any]) -> None:
    objects = [dataset for dataset in brain if dataset.Modality == "SEG"]
    assert len(objects) == 4
    studies = group_series(brain)
    for dataset in objects:
        source = next(group for group in studies[dataset.PatientID].values() if "ContrastBolusAgent" in group[0])
        seg = highdicom.seg.Segmentation.from_dataset(dataset)
        assert [seg.get_segment_description(n).segment_label for n in seg.segment_numbers] == [
            "whole tumour",
            "tumour core",
            "enhancing tumour",
        ]
        masks = seg.get_pixels_by_source_instance(
            [image.SOPInstanceUID for image in source], ignore_spatial_locations=True
        )
        whole, core, enhancing = np.moveaxis(masks.astype(bool), -1, 0)
        assert not (core & ~whole).any()
        assert not (enhancing & ~core).any()
        assert 0 < enhancing.sum() < core.sum() < whole.sum()
        values = np.stack([image.pixel_array for image in source])
        assert np.median(values[enhancing]) > 1.5 * np.median(values[whole & ~core])


def test_too_few_patients_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="at least 6 patients, received 5"):
        write_brain_mr(tmp_path, 5, 1)


def test_the_same_seed_gives_the_same_bytes_at_another_time(brain: list[Any], tmp_path: Path) -> None:
    write_brain_mr(tmp_path, 6, 3)
    again = [hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(tmp_path.rglob("I*"))]
    assert again == [hashlib.sha256(Path(dataset.filename).read_bytes()).hexdigest() for dataset in brain]
