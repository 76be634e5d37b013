"""A plan finds its places in a configuration, and says so where there are none."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from tests.planning.test_layout import LAPTOP, SERVER, fingerprint
from voxflow.components import Component, build_network
from voxflow.config import load_workflow, read_json
from voxflow.config.source import set_nested
from voxflow.errors import ConfigError
from voxflow.files import write_json
from voxflow.planning import plan_layout
from voxflow.planning.places import place_evaluation, place_plan, place_regions, place_sizes
from voxflow.workspace.create import TEMPLATES

if TYPE_CHECKING:
    from voxflow.machine import Machine

CONFIG = TEMPLATES / "auto" / "config" / "config_train.json"
HERE = Path("config_train.json")
TLT2 = Path(__file__).parents[2] / "docs" / "examples" / "brats" / "config_brats_16.json"
CLARA4 = Path(__file__).parents[1] / "config" / "clara4" / "segmentation_ct_spleen.json"


def plan_of_template(modality: str = "") -> dict[str, Any]:
    data = fingerprint((36, 50, 37), modality=modality)
    return place_plan(read_json(CONFIG), plan_layout(data, LAPTOP), data, path=CONFIG)


def test_the_templates_configuration_takes_a_whole_plan(tmp_path: Path) -> None:
    content = read_json(CONFIG)
    assert [set_nested(content, place, value) for place, value in plan_of_template("CT").items()].count(None) == len(
        plan_of_template("CT")
    )
    write_json(tmp_path / "config_train.json", content)
    workflow = load_workflow(tmp_path / "config_train.json", overrides={"DATASET_JSON": "x", "DATA_ROOT": "y"})
    crop = next(transform for transform in workflow.train.pre_transforms if "size" in transform.args)
    assert crop.args["size"] == workflow.validate.inferer.args["roi_size"] == [40, 56, 40]
    assert workflow.train.image_pipeline.args["output_batch_size"] == 2
    # 80 cases in batches of 2: 40 steps an epoch, and about 250 between two validations.
    assert workflow.globals.num_training_epoch_per_valid == 7


@pytest.mark.parametrize("machine", [LAPTOP, SERVER])
def test_a_residual_encoder_is_laid_out_as_nnunets_presets_are(machine: Machine) -> None:
    content = read_json(CONFIG)
    content["train"]["model"] = {"name": "ResidualEncoderUNet", "args": {"final_activation": "softmax"}}
    data = fingerprint((240, 240, 155))
    for place, value in place_plan(content, plan_layout(data, machine), data, path=CONFIG).items():
        assert set_nested(content, place, value) is None
    model = Component.model_validate(content["train"]["model"])
    expected = [1, 3, 4, 6, 6, 6] if machine.gpu else [1, 3, 4, 6, 6]
    assert model.args["n_blocks_per_stage"] == expected
    assert model.args["final_activation"] == "softmax"
    small = {"features_per_stage": [2] * len(expected), "in_channels": 1, "num_classes": 2}
    network = build_network(model.model_copy(update={"args": {**model.args, **small}})).eval()
    with torch.inference_mode():
        assert network(torch.zeros(1, 1, 64, 64, 64)).shape == (1, 2, 64, 64, 64)


def test_hounsfield_units_are_scaled_alike_in_training_validation_and_evaluation() -> None:
    expected = {"fields": "image", "a_min": -50, "a_max": 150, "b_min": -2.5, "b_max": 2.5, "clip": True}
    values = plan_of_template("CT")
    assert values["train.pre_transforms[2].args"] == values["validate.pre_transforms[2].args"] == expected
    data = fingerprint((36, 50, 37), modality="CT")
    evaluation = read_json(TEMPLATES / "auto" / "config" / "config_validation.json")
    assert place_evaluation(evaluation, plan_layout(data, LAPTOP), data)["pre_transforms[2].args"] == expected
    assert not [place for place in plan_of_template("MR") if "pre_transforms[2]" in place]


def test_a_ct_among_other_channels_is_scaled_by_all_cases_and_the_others_by_themselves() -> None:
    data = fingerprint((36, 50, 37))
    data = data.model_copy(update={"intensity": data.intensity * 2, "modalities": ("PT", "CT")})
    values = place_plan(read_json(CONFIG), plan_layout(data, LAPTOP), data, path=CONFIG)
    expected = {"fields": "image", "channels": [None, [-50, 150, 50, 40]]}
    for section in ("train", "validate"):
        assert values[f"{section}.pre_transforms[2].name"] == "NormalizeChannels"
        assert values[f"{section}.pre_transforms[2].args"] == expected
    of_mr = data.model_copy(update={"modalities": ("MR", "MR")})
    assert not [p for p in place_plan(read_json(CONFIG), plan_layout(of_mr, LAPTOP), of_mr, path=CONFIG) if "[2]" in p]


def test_patches_of_one_case_count_in_the_batch() -> None:
    content = read_json(CONFIG)
    content["train"]["pre_transforms"][3]["args"]["batch_size"] = 2
    values = place_sizes(content, plan_layout(fingerprint((36, 50, 37)), LAPTOP), 1, path=HERE)
    assert values["train.image_pipeline.args.output_batch_size"] == 1
    assert values["train.image_pipeline.args.num_workers"] == 1


def test_a_configuration_without_patches_is_refused() -> None:
    content = read_json(CONFIG)
    del content["train"]["pre_transforms"][3]
    with pytest.raises(ConfigError, match=r"config_train.json: train.pre_transforms: no transform takes patches"):
        place_sizes(content, plan_layout(fingerprint((36, 50, 37)), LAPTOP), None, path=HERE)
    with pytest.raises(ConfigError, match="planning reads configurations of Clara 3's form"):
        place_sizes({"epochs": 1}, plan_layout(fingerprint((36, 50, 37)), LAPTOP), None, path=HERE)


def test_regions_get_a_mask_each_and_a_sigmoid(tmp_path: Path) -> None:
    content = read_json(CONFIG)
    values = place_regions(content, {"organ": (1, 2), "tumour": (2,)}, path=CONFIG) | plan_of_template()
    assert not any(set_nested(content, place, value) for place, value in values.items())
    write_json(tmp_path / "config_train.json", content)
    workflow = load_workflow(tmp_path / "config_train.json", overrides={"DATASET_JSON": "x", "DATA_ROOT": "y"})
    for chain in (workflow.train.pre_transforms, workflow.validate.pre_transforms):
        assert chain[-1].name == "ConvertToRegions"
        assert chain[-1].args["regions"] == {"organ": [1, 2], "tumour": [2]}
    assert workflow.train.model.args["final_activation"] == "sigmoid"
    assert workflow.train.loss.args["is_onehot_targets"] is True


def test_labels_that_a_configuration_splits_itself_stay_as_it_says() -> None:
    content = read_json(CONFIG)
    content["train"]["pre_transforms"].append({"name": "BratsConvertLabels", "args": {"fields": "label"}})
    assert place_regions(content, {"organ": (1, 2)}, path=CONFIG) == {}
    assert place_regions(read_json(CONFIG), {}, path=CONFIG) == {}


def test_tlt2_configuration_gets_a_mask_for_each_region(tmp_path: Path) -> None:
    content = read_json(TLT2)
    for section in ("train", "validate"):
        del content[section]["pre_transforms"][1]
    content["net_config"]["final_activation"] = "softmax"
    content |= {"num_classes": 2, "num_label_channels": 2}
    values = place_regions(content, {"organ": (1, 2), "tumour": (2,)}, path=TLT2)
    assert not any(set_nested(content, place, value) for place, value in values.items())
    write_json(tmp_path / "config.json", content)
    workflow = load_workflow(tmp_path / "config.json", overrides={"DATASET_JSON": "x", "DATA_ROOT": "y"})
    for chain in (workflow.train.pre_transforms, workflow.validate.pre_transforms):
        assert (chain[-1].name, chain[-1].args["regions"]) == ("ConvertToRegions", {"organ": [1, 2], "tumour": [2]})
    assert workflow.train.model.args["final_activation"] == "sigmoid"


def test_tlt2_configuration_that_converts_stays_as_it_is() -> None:
    assert place_regions(read_json(TLT2), {"organ": (1, 2)}, path=TLT2) == {}


def test_clara4_configuration_of_exclusive_classes_is_refused_and_one_with_a_converter_stays() -> None:
    content = read_json(CLARA4)
    with pytest.raises(ConfigError, match=r"regions \(organ, tumour\), which this configuration learns as if"):
        place_regions(content, {"organ": (1, 2), "tumour": (2,)}, path=CLARA4)
    convert = {"name": "ConvertToMultiChannelBasedOnBratsClassesd#Regions", "args": {"keys": "label"}}
    content["train"]["pre_transforms"].insert(1, convert)
    assert place_regions(content, {"organ": (1, 2)}, path=CLARA4) == {}


def test_users_own_class_may_make_the_masks_where_the_network_has_sigmoids() -> None:
    content = read_json(CONFIG)
    content["train"]["pre_transforms"].append({"path": "mine.Nested"})
    assert place_regions(content, {"organ": (1, 2)}, path=CONFIG) != {}
    content["train"]["model"]["args"]["final_activation"] = "sigmoid"
    assert place_regions(content, {"organ": (1, 2)}, path=CONFIG) == {}
