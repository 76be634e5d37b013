"""The second of two stages by plan: auto: the configuration shows the mask of the first, and numbers of steps stay."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.planning.test_recipe import CONFIG, place_data
from voxflow.config import load_workflow, read_json
from voxflow.errors import ConfigError
from voxflow.files import write_json
from voxflow.planning import describe_coverage, plan_training
from voxflow.planning.previous import place_previous
from voxflow.volumes import target_spacing

if TYPE_CHECKING:
    from pathlib import Path


def test_the_mask_goes_along_with_the_image(tmp_path: Path) -> None:
    train = {"plan": "auto", "max_minutes": 60, "previous": "low"}
    values, _ = plan_training(train, place_data(tmp_path / "data", ["liver", "tumour"]), CONFIG)
    overrides = values | {"DATA_ROOT": "x", "DATASET_JSON": "y"}
    workflow = load_workflow(CONFIG, overrides=overrides)
    steps = {step.name: step.args for step in workflow.train.pre_transforms}
    assert steps["LoadNifti"]["fields"] == ["image", "label", "previous"]
    assert steps["FastPosNegRatioCropROI"]["fields"] == ["image", "previous"]
    assert steps["RandomSpatialFlip"]["fields"] == ["image", "label", "previous"]
    assert steps["ShowPreviousMask"] == {"field": "image", "values": [1, 2], "disturbance": 1.0}
    assert list(steps)[-1] == "ShowPreviousMask"
    last = workflow.validate.pre_transforms[-1]
    assert (last.name, last.args) == ("ShowPreviousMask", {"field": "image", "values": [1, 2]})
    # What one stage is planned to be, the second of two is, too.
    plain, _ = plan_training({**train, "previous": None}, tmp_path / "data", CONFIG)
    assert {key: value for key, value in values.items() if not key.endswith("pre_transforms")} == plain
    assert list(values)[:2] == ["train.pre_transforms", "validate.pre_transforms"]


def test_a_configuration_that_was_applied_is_placed_as_before(tmp_path: Path) -> None:
    content = read_json(CONFIG)
    placed = place_previous(content, [1], path=CONFIG)
    for section in ("train", "validate"):
        content[section]["pre_transforms"] = placed[f"{section}.pre_transforms"]
    assert place_previous(content, [1], path=CONFIG) == placed


def test_a_transform_that_may_move_voxels_is_refused(tmp_path: Path) -> None:
    content = read_json(CONFIG)
    content["train"]["pre_transforms"][2]["name"] = "RandomAffineDeform"
    write_json(tmp_path / "config.json", content)
    with pytest.raises(ConfigError, match=r"nothing says how RandomAffineDeform changes the mask of the first stage"):
        place_previous(content, [1], path=tmp_path / "config.json")


def test_regions_are_refused(tmp_path: Path) -> None:
    data = place_data(tmp_path / "data", ["liver"])
    write_json(data / "case_form.json", {"regions": {"whole": [1, 2], "core": [2]}})
    with pytest.raises(ConfigError, match="two stages are for classes that exclude each other, not for regions"):
        plan_training({"plan": "auto", "previous": "low"}, data, CONFIG)


def test_two_stages_are_proposed_where_nnunet_has_them() -> None:
    assert "covers 3% of" in describe_coverage(96**3, 30e6)
    assert "covers 12% of" in describe_coverage(96**3, 8.01 * 96**3)
    assert not describe_coverage(96**3, 7.9 * 96**3)


def test_a_low_resolution_is_nnunets() -> None:
    sizes, spacings = [(512, 512, 120)], [(0.7, 0.7, 2.5)]
    low = np.array(target_spacing(sizes, spacings, 4 * 96**3))
    # nnU-Net's loop, written as it is in its experiment planner: slices are thick, so that the others grow first.
    spacing, median = np.array(target_spacing(sizes, spacings)), np.array([512, 512, 120]) * (0.7, 0.7, 2.5)
    while 96**3 / np.prod(median / spacing) < 0.25:
        finer = spacing.max() / spacing > 2
        spacing[finer if finer.any() else slice(None)] *= 1.03
    np.testing.assert_allclose(low, spacing, atol=1e-3)
    assert target_spacing(sizes, spacings, 1e9) == target_spacing(sizes, spacings)
