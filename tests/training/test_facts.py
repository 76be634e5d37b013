"""What a model file remembers of its data."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from voxflow.errors import DataError
from voxflow.files import write_json, write_text
from voxflow.geometry import Geometry
from voxflow.images import write_case_form
from voxflow.training import read_facts
from voxflow.volumes import Volume, write_volume

if TYPE_CHECKING:
    from pathlib import Path


def test_class_names_follow_label_values_and_gaps_get_a_name(tmp_path: Path) -> None:
    write_json(tmp_path / "labels.json", {"3": "tumour", "0": "background", "1": "liver"})
    resampling = {"spacing_mm": [1, 1, 2], "orientation": "LPS"}
    facts = read_facts(tmp_path / "labels.json", resampling, {"modality": {"0": "CT"}})
    assert facts.class_names == ("background", "liver", "class_2", "tumour")
    assert (facts.spacing_mm, facts.orientation, facts.modality) == ((1, 1, 2), "LPS", "CT")


def test_a_reference_states_the_grid_and_inference_repeats_how_it_was_reached(tmp_path: Path) -> None:
    write_json(tmp_path / "labels.json", {"0": "background", "1": "liver"})
    grid = Geometry.from_parts((4, 4, 4), (1, 1, 2), direction=(-1, 0, 0, 0, -1, 0, 0, 0, 1))
    write_volume(tmp_path / "atlas.nii", Volume(np.zeros(grid.size, np.uint8), grid))
    resampling = {"reference": str(tmp_path / "atlas.nii"), "interpolation": "bspline", "antialias": True}
    facts = read_facts(tmp_path / "labels.json", resampling, {})
    assert (facts.spacing_mm, facts.orientation) == ((1, 1, 2), "RAS")
    assert (facts.interpolation, facts.antialias) == ("bspline", True)


def test_findings_and_size_of_radiographs(tmp_path: Path) -> None:
    write_json(tmp_path / "labels.json", {"findings": ["mass", "nodule"]})
    facts = read_facts(tmp_path / "labels.json", {"size": [128, 96]}, {})
    assert (facts.class_names, facts.size, facts.spacing_mm) == (("mass", "nodule"), (128, 96), None)


@pytest.mark.parametrize("text", ["[", "[]", '{"spleen": 1}', '{"-1": "x"}', "{}"])
def test_other_forms_are_refused(tmp_path: Path, text: str) -> None:
    write_text(tmp_path / "labels.json", text)
    with pytest.raises(DataError, match=r"labels.json: (expected|label values)"):
        read_facts(tmp_path / "labels.json", {}, {})


def test_options_that_new_dicom_needs_reach_the_model(tmp_path: Path) -> None:
    labels = tmp_path / "labels.json"
    labels.write_text('{"0": "background", "1": "tumour"}')
    assert "convert" not in read_facts(labels, {}, {}).model_dump()
    write_case_form(tmp_path, (), {}, conversion={"pet": "stated"})
    facts = read_facts(labels, {}, {})
    assert facts.convert == {"pet": "stated"}
