"""One data set, written in every layout, gives the same cases, voxels, places and labels."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import nibabel
import numpy as np
import pytest

from tests.layouts.tumours import FOUR, NAMES, REGIONS, TWO, VALUES, WRITINGS, make_affine, make_patients
from voxflow.dicom import ConvertOptions, convert_folder
from voxflow.images import list_files
from voxflow.layouts import recognise_layout
from voxflow.tables import read_rows

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


def read(path: Path) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Voxels, and index → mm in LPS."""
    image = nibabel.load(path)
    return np.asanyarray(image.dataobj), np.diag([-1, -1, 1, 1]) @ image.affine


def list_values(folder: Path) -> dict[str, list[int]]:
    """The label values of each region, by the names that the conversion wrote."""
    form = folder / "case_form.json"
    regions = json.loads(form.read_text()).get("regions", {}) if form.exists() else {}
    if regions:
        return {name.replace("_", " "): values for name, values in regions.items()}
    names = {name: int(value) for value, name in json.loads((folder / "labels.json").read_text()).items()}
    by_truth = {value: names[name] for name, value in VALUES.items()}
    return {name: [by_truth[value] for value in values] for name, values in REGIONS.items()}


@pytest.mark.parametrize("name", WRITINGS)
def test_every_layout_gives_the_same_cases_voxels_and_labels(tmp_path: Path, name: str) -> None:
    if name == "excel":
        pytest.importorskip("openpyxl", reason="Excel tables need openpyxl")
    writing, patients = WRITINGS[name], make_patients()
    writing.write(tmp_path / "in", patients)
    options = {"overlap": "regions", "pseudonym_key": "k", "mapping": False, "workers": 1} | writing.options
    convert_folder(tmp_path / "in", tmp_path / "out", ConvertOptions.model_validate(options))
    rows = read_rows(tmp_path / "out/cases.csv") or []
    assert len({row["patient"] for row in rows}) == len(rows) == len(NAMES)
    regions = list_values(tmp_path / "out")
    assert regions.keys() == REGIONS.keys()
    if writing.channels:
        assert json.loads((tmp_path / "out/case_form.json").read_text())["channels"] == list(writing.channels)
    truth = {patient.images[0].tobytes(order="F"): patient for patient in patients}
    for row in rows:
        images = dict(zip(writing.channels or ("T1",), row["image"].split(";"), strict=True))
        volumes = {channel: read(tmp_path / "out" / file) for channel, file in images.items()}
        first = volumes[next(channel for channel in ("T1", "T1w") if channel in volumes)][0]
        patient = truth.pop(first.astype(np.int16).tobytes(order="F"))
        order = dict(zip(TWO if "T1w" in volumes else FOUR, patient.images, strict=False))
        label, affine = read(tmp_path / "out" / row["label"])
        np.testing.assert_allclose(affine, make_affine(), atol=1e-4)
        for channel, (array, place) in volumes.items():
            np.testing.assert_array_equal(array, order[channel])
            np.testing.assert_allclose(place, make_affine(), atol=1e-4)
        for region, values in REGIONS.items():
            np.testing.assert_array_equal(np.isin(label, regions[region]), np.isin(patient.label, values))


@pytest.mark.parametrize("name", [name for name, writing in WRITINGS.items() if "layout" in writing.options])
def test_every_layout_is_told_from_the_others(tmp_path: Path, name: str) -> None:
    if name == "excel":
        pytest.importorskip("openpyxl", reason="Excel tables need openpyxl")
    WRITINGS[name].write(tmp_path, make_patients())
    layout = recognise_layout(tmp_path, list_files(tmp_path))
    assert layout is not None
    assert layout.name == WRITINGS[name].options["layout"]
    assert layout.remarks == (
        ("dataset.json states 484 cases for training; 3 are there",) if name == "decathlon" else ()
    )
    assert len(layout.unplaced) == (len(NAMES) if name == "bids" else 0)
