"""Values of label files: names by values are numbered, what has no name is refused with a proposal."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from pydantic import ValidationError

from tests.layouts.datasets import write_array
from voxflow.dicom import ConvertOptions, convert_folder
from voxflow.errors import DataError
from voxflow.images import ImageOptions
from voxflow.images.label_values import LabelValues
from voxflow.tables import read_rows
from voxflow.volumes import read_volume
from voxflow.workspace import create_workspace


def read_values(values: list[float], labels: dict[Any, Any] | None) -> list[int]:
    """What a label of these values becomes with the option ``labels``."""
    array, _, _ = LabelValues.of(ImageOptions.model_validate({"labels": labels})).convert(np.array(values))
    return [int(value) for value in array]


@pytest.mark.parametrize(
    ("values", "labels", "expected"),
    [
        ([0, 255], {255: "tumour"}, [0, 1]),
        ([0, 4, 2], {"4": "tumour", "2": "liver"}, [0, 2, 1]),
        ([0, 7, 9], {7: "node", 9: "node"}, [0, 1, 1]),
        ([0, 3, 128], {128: "ignore", 3: "liver"}, [0, 1, 255]),
        ([0, 0.9999, 2.0001], {"liver": 1, "tumour": 2}, [0, 1, 2]),
        ([0, 1, 255], {"liver": 1, "ignore": 255}, [0, 1, 255]),
        ([0, 3, 65535], None, [0, 3, 65535]),
    ],
)
def test_values_become_what_the_option_says(values: list[float], labels: Any, expected: list[int]) -> None:
    assert read_values(values, labels) == expected


@pytest.mark.parametrize(
    ("values", "labels", "reason"),
    [
        (
            [0, 1, 255],
            {"liver": 1},
            "[255] have no name in the option labels, which names [1]; name them, too",
        ),
        ([0, 1, 255], {255: "tumour"}, "[1] have no name in the option labels, which names [255]"),
        (
            [0, 0.2, 1],
            {"liver": 1},
            "a probability map, or a mask resampled by interpolation: convert.label_threshold: 0.5 takes voxels from "
            "0.5 on as the class, or save it as 0 and 1",
        ),
    ],
)
def test_value_without_a_name_is_refused_with_a_proposal(values: list[float], labels: Any, reason: str) -> None:
    with pytest.raises(DataError, match=re.escape(reason)):
        read_values(values, labels)


@pytest.mark.parametrize(
    ("values", "threshold", "expected"),
    [
        ([0, 0.49, 0.5, 0.51, 1], 0.5, [0, 0, 1, 1, 1]),
        ([0.05, 0.3, 0.31], 0.3, [0, 1, 1]),
        ([0, 1], 0.5, [0, 1]),
        ([0, 1, 2], 0.5, [0, 1, 2]),  # no probabilities
    ],
)
def test_a_probability_map_is_cut_where_the_option_says(
    values: list[float], threshold: float, expected: list[int]
) -> None:
    options = ImageOptions.model_validate({"label_threshold": threshold})
    array, _, remark = LabelValues.of(options).convert(np.array(values, np.float32))
    assert array.tolist() == expected
    assert bool(remark) == (set(values) != {*map(int, values)})


@pytest.mark.parametrize("values", [[0, 0.5, 2], [-0.5, 0.5], [0.2, float("nan")]])
def test_what_is_no_probability_map_is_refused_all_the_same(values: list[float]) -> None:
    options = ImageOptions.model_validate({"label_threshold": 0.5})
    with pytest.raises(DataError, match="label values are no whole numbers from 0"):
        LabelValues.of(options).convert(np.array(values))


def write_maps(folder: Path, layout: str) -> None:
    generator = np.random.default_rng(0)
    for case in ("a", "b"):
        image, maps = generator.integers(0, 99, (5, 4, 3)).astype(np.int16), generator.random((2, 5, 4, 3))
        names = (f"{case}/liver", f"{case}/tumour") if layout else (f"labels/{case}",)
        write_array(folder / (f"{case}/image.nii.gz" if layout else f"images/{case}.nii.gz"), image)
        for name, probabilities in zip(names, maps.astype(np.float32), strict=False):
            write_array(folder / f"{name}.nii.gz", probabilities)


@pytest.mark.parametrize("layout", ["", "masks"])
def test_probability_maps_become_labels_by_a_stated_threshold(tmp_path: Path, layout: str) -> None:
    write_maps(tmp_path / "in", layout)
    block = {"keep_names": True, "pseudonym_key": "k", "mapping": False, "workers": 1, "layout": layout or None}
    with pytest.raises(DataError, match=r"label_threshold: 0\.5 takes voxels from 0\.5 on"):
        convert_folder(tmp_path / "in", tmp_path / "out", ConvertOptions.model_validate(block))
    options = ConvertOptions.model_validate({**block, "label_threshold": 0.25})
    convert_folder(tmp_path / "in", tmp_path / "out", options)
    last = "tumour" if layout else "a"
    path = tmp_path / "in" / (f"a/{last}.nii.gz" if layout else "labels/a.nii.gz")
    expected = read_volume(path).array >= 0.25
    label = read_volume(tmp_path / "out/labels/a.nii.gz").array
    assert ((label == (2 if layout else 1)) == expected).all()
    (reason, _) = [row["reason"] for row in read_rows(tmp_path / "out/conversion.csv") or []]
    assert "a probability map: voxels from 0.25 on are of the class" in reason


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        ({"liver": 1, "ignore": 0}, "ignore: 0 is the background"),
        ({"liver": 2, "ignore": 1}, "must lie above the values of all classes, 2 here"),
        ({"ignore": 255}, "no class but ignore"),
        ({"liver": "one"}, "write values by name"),
        ({"liver": 1, 2: "tumour"}, "write values by name, {tumour: 1}, or names by the files' values"),
        ({0: "liver"}, "write values by name"),
    ],
)
def test_option_that_contradicts_itself_is_refused(labels: Any, reason: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(reason)):
        ImageOptions.model_validate({"labels": labels})


def test_new_workspace_of_masks_of_0_and_255_converts_to_0_and_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    generator = np.random.default_rng(0)
    masks = {name: (generator.random((6, 5, 4)) < 0.5).astype(np.uint8) for name in ("a", "b")}
    for name, mask in masks.items():
        write_array(
            tmp_path / "raw" / "images" / f"{name}.nii.gz", generator.integers(0, 99, mask.shape).astype(np.int16)
        )
        write_array(tmp_path / "raw" / "labels" / f"{name}.nii.gz", mask * 255)
    (tmp_path / "params.yaml").write_text("workspaces: {}\n")
    monkeypatch.chdir(tmp_path)
    create_workspace("masks", Path("raw"), "auto")
    assert 'labels: {255: "label_255"}' in capsys.readouterr().err
    block = yaml.safe_load(Path("params.yaml").read_text())["workspaces"]["masks"]["convert"]
    options = block | {"pseudonym_key": "k", "mapping": False, "keep_names": True, "workers": 1}
    convert_folder(Path("raw"), Path("out"), ConvertOptions.model_validate(options))
    rows = read_rows(Path("out/cases.csv")) or []
    assert len(rows) == 2
    for row in rows:
        np.testing.assert_array_equal(read_volume(Path("out") / row["label"]).array, masks[row["case"]])
