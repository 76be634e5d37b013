"""What minutes and classes decide of how images are varied."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.planning.test_layout import LAPTOP, SERVER, fingerprint
from voxflow.config import load_workflow, read_json
from voxflow.config.source import set_nested
from voxflow.files import write_json
from voxflow.planning import Proposal, plan_layout, plan_training
from voxflow.planning.budget import estimate_minutes, plan_budget
from voxflow.planning.mirroring import choose_mirror_axes
from voxflow.volumes import OpposedClasses, write_fingerprint
from voxflow.workspace.create import TEMPLATES

if TYPE_CHECKING:
    from pathlib import Path

CONFIG = TEMPLATES / "auto" / "config" / "config_train.json"
HIPPOCAMPUS = fingerprint((36, 50, 37))


def test_longer_trainings_vary_images_more() -> None:
    layout = plan_layout(HIPPOCAMPUS, LAPTOP)
    plans = [plan_budget(minutes, layout, HIPPOCAMPUS, LAPTOP) for minutes in (2, 15, 60, 600)]
    strengths = [plan.strength for plan in plans]
    assert (strengths[0], strengths[-1]) == (0, 1)
    assert 0 <= strengths[1] < strengths[2] < 1
    assert (plans[0].rotation_degree, plans[-1].rotation_degree, plans[-1].scale_factor) == (10, 30, 0.3)


@pytest.mark.parametrize(("seconds", "steps"), [(140, 1200), (900, 7597)])
def test_passes_are_those_that_two_idle_cores_were_measured_to_make(seconds: float, steps: int) -> None:
    data = fingerprint((36, 50, 37), cases=100)
    budget = plan_budget(seconds / 60, plan_layout(data, LAPTOP), data, LAPTOP)
    # Steps of two patches; 72 of the 100 cases were learnt from.
    assert budget.passes == pytest.approx(steps * 2 / 72, rel=0.05)


def test_a_length_in_epochs_is_as_many_passes() -> None:
    data = fingerprint((36, 50, 37), cases=100)
    layout = plan_layout(data, LAPTOP)
    minutes = estimate_minutes(12, layout, data, LAPTOP)
    assert plan_budget(minutes, layout, data, LAPTOP).passes == pytest.approx(12, rel=0.01)
    assert plan_budget(minutes, layout, data, LAPTOP).strength == 0


def test_patches_are_bent_as_was_compared_after_as_many_passes() -> None:
    data = fingerprint((36, 50, 37), cases=100)
    layout = plan_layout(data, LAPTOP)
    short, long, longest = (plan_budget(minutes, layout, data, LAPTOP) for minutes in (140 / 60, 15, 60))
    assert (short.strength, short.bend_mm) == (0, 0)
    # Patches of 40 x 56 x 40 mm: 10 mm between control points.
    assert (long.strength, long.bend_mm) == (0, 1)
    assert [plan.is_estimate for plan in (short, long, longest)] == [False, False, True]
    assert longest.strength > 0
    # Compared after 424 passes, where a strength of 0.3 was better than none (docs/accuracy.md).
    compared = plan_budget(estimate_minutes(424, layout, data, LAPTOP), layout, data, LAPTOP)
    assert compared.strength == pytest.approx(0.3, abs=0.05)
    assert not compared.is_estimate
    anisotropic = fingerprint((36, 50, 20), (1, 1, 3), cases=100)
    plan = plan_budget(60, plan_layout(anisotropic, LAPTOP), anisotropic, LAPTOP)
    assert plan.bend_mm == pytest.approx(0.1 * 36 / 4, rel=0.4)


def test_more_cases_are_seen_less_often_and_a_gpu_sees_them_more_often() -> None:
    layout = plan_layout(HIPPOCAMPUS, LAPTOP)
    few, many = (plan_budget(15, layout, fingerprint((36, 50, 37), cases=n), LAPTOP).passes for n in (20, 200))
    assert few == pytest.approx(10 * many, rel=0.02)
    on_gpu = plan_budget(15, plan_layout(HIPPOCAMPUS, SERVER), HIPPOCAMPUS, SERVER)
    assert on_gpu.passes > plan_budget(15, layout, HIPPOCAMPUS, LAPTOP).passes
    large = fingerprint((240, 240, 160))
    assert plan_budget(15, plan_layout(large, LAPTOP), large, LAPTOP).passes < few / 50


@pytest.mark.parametrize(
    ("names", "orientation", "axes"),
    [
        (["background", "liver", "tumour"], "LPS", "ijk"),
        (["left kidney"], "LPS", "jk"),
        (["kidney_right", "spleen"], "RAS", "jk"),
        (["RightVentricle"], "LPS", "jk"),
        (["lung_upper_lobe_left"], "LPS", "j"),
        (["lung_upper_lobe_left"], "SPL", "j"),
        (["anterior", "posterior"], "LPS", "ik"),
        (["ANTERIOR"], "LPS", "ik"),
        (["lh-hippocampus"], "LPS", "jk"),
        (["left kidney"], None, ""),
        (["vertebra_L1", "T12"], "LPS", "ijk"),
        (["HIP_L", "femur R"], "LPS", "jk"),
        (["cleft palate", "leftover", "copyright"], "LPS", "ijk"),
    ],
)
def test_names_of_sides_forbid_their_axis(names: list[str], orientation: str | None, axes: str) -> None:
    assert "".join(choose_mirror_axes(HIPPOCAMPUS, names, orientation).axes) == axes


@pytest.mark.parametrize(
    ("names", "orientation", "axes"),
    [(["liver"], "LPS", "i"), (["liver"], "SPL", "k"), (["liver"], None, "i"), (["left kidney"], "LPS", "")],
)
def test_a_short_training_mirrors_left_and_right_alone(names: list[str], orientation: str | None, axes: str) -> None:
    choice = choose_mirror_axes(HIPPOCAMPUS, names, orientation, all_axes=False)
    assert "".join(choice.axes) == axes
    assert len(choice.reasons) == 3 - len(axes)


def test_classes_that_size_and_place_tell_to_be_counterparts_forbid_their_axis() -> None:
    data = HIPPOCAMPUS.model_copy(update={"opposed": (OpposedClasses(values=(2, 1), axis="j"),)})
    choice = choose_mirror_axes(data, ["label_1", "label_2"])
    assert choice.axes == ("i", "k")
    assert choice.line == "i, k; not j: classes 2 and 1 are alike and always lie on the same sides"


def place_data(folder: Path, names: list[str]) -> Path:
    folder.mkdir()
    write_fingerprint(folder / "fingerprint.json", HIPPOCAMPUS)
    write_json(folder / "labels.json", {str(value): name for value, name in enumerate(["background", *names])})
    write_json(folder / "resample.json", {"orientation": "LPS"})
    return folder


def test_the_templates_configuration_takes_the_recipe(tmp_path: Path) -> None:
    resampled = place_data(tmp_path / "data", ["left kidney", "right kidney"])
    values, proposal = plan_training({"plan": "auto", "max_minutes": 600}, resampled, CONFIG)
    assert isinstance(proposal, Proposal)
    assert proposal.budget is not None
    assert proposal.budget.strength == 1
    content = read_json(CONFIG)
    assert not any(set_nested(content, place, value) for place, value in values.items())
    write_json(tmp_path / "config_train.json", content)
    workflow = load_workflow(tmp_path / "config_train.json", overrides={"DATASET_JSON": "x", "DATA_ROOT": "y"})
    by_name = {step.name: step.args for step in workflow.train.pre_transforms}
    assert by_name["RandomSpatialFlip"]["axes"] == ["j", "k"]
    assert by_name["FastPosNegRatioCropROI"]["rotation_degree"] == 30
    assert by_name["FastPosNegRatioCropROI"]["deform"] is True
    assert by_name["FastPosNegRatioCropROI"]["deform_magnitude"] == proposal.budget.bend_mm > 0
    assert by_name["RandomAppearance"]["strength"] == 1


def test_no_axis_is_mirrored_where_every_one_exchanges_classes(tmp_path: Path) -> None:
    resampled = place_data(tmp_path / "data", ["upper left front"])
    values, _ = plan_training({"plan": "auto", "max_minutes": 2}, resampled, CONFIG)
    assert values["train.pre_transforms[4].args.axes"] == []
    assert values["train.pre_transforms[4].args.probability"] == 0.0


def test_a_configuration_of_before_the_recipe_is_planned_as_it_was(tmp_path: Path) -> None:
    content = read_json(CONFIG)
    steps = content["train"]["pre_transforms"]
    content["train"]["pre_transforms"] = [step for step in steps if step["name"] != "RandomAppearance"]
    write_json(tmp_path / "config_train.json", content)
    resampled = place_data(tmp_path / "data", ["left kidney"])
    values, proposal = plan_training({"plan": "auto", "max_minutes": 600}, resampled, tmp_path / "config_train.json")
    assert proposal is not None
    assert not [place for place in values if "rotation" in place or "axes" in place]
    assert proposal.to_json().keys() == {"fingerprint", "machine", "layout"}
