"""Cases in which only some classes were labelled: the table cases.csv names those that were."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.dicom.objects import Series, random_values, save, seg
from tests.layouts.datasets import make_patients, write_array, write_masks
from voxflow.datalist import build_datalist
from voxflow.dicom import ConvertOptions, convert_folder
from voxflow.tables import read_rows
from voxflow.volumes import read_volume

if TYPE_CHECKING:
    from pathlib import Path


def convert(source: Path, **options: Any) -> dict[str, dict[str, str]]:
    """The rows of cases.csv by case."""
    block = {"pseudonym_key": "k", "mapping": False, "workers": 1, "keep_names": True, **options}
    convert_folder(source, source.parent / "out", ConvertOptions.model_validate(block))
    return {row["case"]: row for row in read_rows(source.parent / "out" / "cases.csv") or []}


def read_reasons(source: Path) -> str:
    """All reasons of conversion.csv."""
    return "\n".join(row["reason"] for row in read_rows(source.parent / "out" / "conversion.csv") or [])


@pytest.fixture
def masks(tmp_path: Path) -> Path:
    """TotalSegmentator's folders; one case lacks a mask."""
    write_masks(tmp_path / "in", make_patients(1), "ct", "segmentations")
    (tmp_path / "in" / "bob" / "segmentations" / "tumour_core.nii.gz").unlink()
    return tmp_path / "in"


def test_class_without_a_mask_is_empty_or_unlabelled_as_the_option_says(masks: Path) -> None:
    empty = convert(masks, layout="totalsegmentator")
    assert "labelled" not in empty["bob"]
    assert "no mask of tumour_core: taken as empty" in read_reasons(masks)
    partial = convert(masks, layout="totalsegmentator", absent_labels="unlabelled")
    assert {case: row["labelled"] for case, row in partial.items()} == {
        "ann": "",
        "bob": "enhancing_tumour;whole_tumour",
        "cid": "",
    }
    assert "not labelled: tumour_core" in read_reasons(masks)


def write_table(folder: Path, cells: list[str]) -> Path:
    """A table of maps with the classes 1, 2 and 4 and a column ``labelled``."""
    rows = []
    for patient, cell in zip(make_patients(1), cells, strict=True):
        write_array(folder / f"{patient.name}.nii.gz", patient.images[0])
        write_array(folder / f"{patient.name}_map.nii.gz", np.where(patient.label == 4, 0, patient.label))
        rows.append((patient.name, f"{patient.name}.nii.gz", f"{patient.name}_map.nii.gz", cell))
    with (folder / "table.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([("case", "image", "label", "labelled"), *rows])
    return folder


def test_table_names_the_classes_that_were_labelled(tmp_path: Path) -> None:
    source = write_table(tmp_path / "in", ["core; oedema", "", "core;oedema;active"])
    cases = convert(source, layout="table", labels={"core": 1, "oedema": 2, "active": 4})
    assert {case: row["labelled"] for case, row in cases.items()} == {"ann": "core;oedema", "bob": "", "cid": ""}


def test_table_that_contradicts_its_labels_costs_the_case(tmp_path: Path) -> None:
    source = write_table(tmp_path / "in", ["core", "liver", "core;oedema"])
    cases = convert(source, layout="table", labels={"core": 1, "oedema": 2, "active": 4})
    assert list(cases) == ["cid"]
    assert "the map holds oedema, which is not among the labelled classes" in read_reasons(source)
    assert "labelled names liver; the classes are core, oedema, active" in read_reasons(source)


def write_scans(folder: Path) -> Path:
    """Two patients: the first with the segments Liver and Tumour (which is empty), the other with Liver and ignore."""
    generator = np.random.default_rng(0)
    for patient, names in {"a": ["Liver", "Tumour"], "b": ["Liver", "Ignore"]}.items():
        series = Series(random_values(), patient=patient)
        masks = (generator.random((*series.stored.shape, 2)) < 0.4).astype(np.uint8)
        if patient == "a":
            masks[..., 1] = 0
            masks[0, 0, 0, 1] = 1
        series.write(folder / patient / "ct")
        save(seg(series, masks, names), folder / patient / "label")
    return folder


def test_segments_tell_which_classes_were_labelled(tmp_path: Path) -> None:
    cases = convert(write_scans(tmp_path / "in"), absent_labels="unlabelled")
    assert sorted(row["labelled"] for row in cases.values()) == ["", "Liver"]
    assert json.loads((tmp_path / "out" / "labels.json").read_text()) == {
        "0": "background",
        "1": "Liver",
        "2": "Tumour",
    }
    assert json.loads((tmp_path / "out" / "case_form.json").read_text()) == {"ignore": 255}


@pytest.mark.parametrize("overlap", ["last", "first", "channels", "regions"])
def test_segment_called_ignore_lies_over_all_others(tmp_path: Path, overlap: str) -> None:
    import pydicom

    source = write_scans(tmp_path / "in")
    cases = convert(source, overlap=overlap)
    label = next(row["label"] for row in cases.values() if not row.get("labelled") and 255 in _values(tmp_path, row))
    dataset = pydicom.dcmread(source / "b" / "label")
    inside = sum(
        int(frame.sum())
        for frame, group in zip(dataset.pixel_array, dataset.PerFrameFunctionalGroupsSequence, strict=True)
        if group.SegmentIdentificationSequence[0].ReferencedSegmentNumber == 2
    )
    assert int((read_volume(tmp_path / "out" / label).array == 255).sum()) == inside


def _values(folder: Path, row: dict[str, str]) -> set[int]:
    return set(np.unique(read_volume(folder / "out" / row["label"]).array).tolist())


def test_datalist_has_the_value_and_the_classes_of_partial_cases_alone() -> None:
    import pandas as pd

    row = {"image": "a.nii.gz", "label": "l.nii.gz", "modality": "CT", "patient": "p", "part": "training"}
    table = pd.DataFrame([row | {"case": "a", "labelled": "liver;vein"}, row | {"case": "b", "labelled": ""}])
    content = build_datalist(table, {"0": "background"}, name="x", ignore=255)
    assert content["ignore"] == 255
    assert [item.get("labelled") for item in content["training"]] == [["liver", "vein"], None]
    assert "ignore" not in build_datalist(table, {"0": "background"}, name="x")
