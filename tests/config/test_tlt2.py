"""TLT 2's configurations: what follows from values at the top, and faults at the places where the file has them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from voxflow.config import Workflow, load_evaluation, load_workflow
from voxflow.errors import ConfigError

SEEDS = Path(__file__).parent / "seeds"


@pytest.fixture
def brats() -> dict[str, Any]:
    content: dict[str, Any] = json.loads((SEEDS / "tlt2_brats_train.json").read_text(encoding="utf-8"))
    return content


@pytest.fixture
def plco() -> dict[str, Any]:
    content: dict[str, Any] = json.loads((SEEDS / "tlt2_plco_train.json").read_text(encoding="utf-8"))
    return content


def read(folder: Path, config: dict[str, Any], **overrides: Any) -> Workflow:
    path = folder / "config.json"
    path.write_text(json.dumps(config), encoding="utf-8")
    return load_workflow(path, overrides=overrides)


def findings_of(folder: Path, config: dict[str, Any], **overrides: Any) -> str:
    with pytest.raises(ConfigError, match="fault") as caught:
        read(folder, config, **overrides)
    return "\n".join(caught.value.findings)


def test_a_scanning_window_validates_whole_images(tmp_path: Path, brats: dict[str, Any]) -> None:
    validate = read(tmp_path, brats | {"use_scanning_window": True, "batch_size": 2}).validate
    assert (validate.inferer.name, validate.inferer.args) == ("TFScanWindowInferer", {"roi_size": [224, 224, 128]})
    assert validate.image_pipeline.args["output_crop_size"] == [-1, -1, -1]
    assert validate.image_pipeline.args["output_batch_size"] == 1


def test_the_root_of_the_command_wins_over_image_base_dir(tmp_path: Path, brats: dict[str, Any]) -> None:
    assert read(tmp_path, brats).train.image_pipeline.args["data_file_base_dir"] == "/mnt/brdemo/brats2018challenge/"
    assert read(tmp_path, brats, DATA_ROOT="/d").validate.image_pipeline.args["data_file_base_dir"] == "/d"


def test_set_reaches_values_and_places(tmp_path: Path, brats: dict[str, Any]) -> None:
    overrides = {"epochs": 3, "learning_rate": 0.5, "net_config.init_filters": 16, "train.pre_transforms[3].axis": [0]}
    workflow = read(tmp_path, brats, **overrides)
    assert (workflow.globals.epochs, workflow.globals.learning_rate) == (3, 0.5)
    assert workflow.train.optimizer.args["lr"] == 0.5
    assert workflow.train.model.args["init_filters"] == 16
    assert workflow.train.pre_transforms[3].args["axis"] == [0]


def test_weight_decay_goes_to_the_optimizer_where_the_network_has_no_place_for_it(
    tmp_path: Path, brats: dict[str, Any], plco: dict[str, Any]
) -> None:
    assert read(tmp_path, brats | {"weight_decay": 0.1}).train.optimizer.args["weight_decay"] == 0.1
    assert "weight_decay" not in read(tmp_path, plco).train.optimizer.args


def test_a_network_of_one_s_own_gets_the_counts_and_no_decay(tmp_path: Path, brats: dict[str, Any]) -> None:
    (tmp_path / "custom").mkdir()
    (tmp_path / "custom" / "nets.py").write_text(
        "class Net:\n    def __init__(self, in_channels, width):\n        pass\n"
    )
    brats |= {"weight_decay": 0.1, "net_config": {"path": "custom.nets.Net", "width": 3}}
    train = read(tmp_path, brats).train
    assert train.model.args == {"in_channels": 4, "num_classes": 3, "width": 3}
    assert train.optimizer.args["weight_decay"] == 0.1


def test_the_network_s_own_counts_win(tmp_path: Path, brats: dict[str, Any]) -> None:
    brats["net_config"]["num_classes"] = 1
    assert read(tmp_path, brats).train.model.args["num_classes"] == 1


def test_components_need_no_module_and_bear_a_space_after_it(tmp_path: Path, brats: dict[str, Any]) -> None:
    brats["train"]["pre_transforms"][0]["name"] = "LoadNifty"
    brats["train"]["pre_transforms"][2]["name"] = "transforms. CropSubVolumeRandomWithinBounds"
    names = [c.name for c in read(tmp_path, brats).train.pre_transforms]
    assert names[:3] == ["tlt2:LoadNifty", "tlt2:BratsConvertLabels", "tlt2:CropSubVolumeRandomWithinBounds"]


def test_a_name_that_only_clara_has_is_taken_from_there_in_tlt_s_words(tmp_path: Path, brats: dict[str, Any]) -> None:
    brats["train"]["pre_transforms"].append({"name": "transforms.RandomAxisFlip", "applied_keys": ["image", "label"]})
    brats["validate"]["metrics"].append({"name": "ComputeAverage", "tag": "wt", "applied_key": "val_dice_wt"})
    workflow = read(tmp_path, brats)
    flip = workflow.train.pre_transforms[-1]
    assert (flip.name, flip.args) == ("RandomAxisFlip", {"fields": ["image", "label"]})
    assert workflow.validate.metrics[-1].args == {"name": "wt", "field": "dice_wt"}


def test_the_guide_s_other_word_for_pre_transforms_is_taken(tmp_path: Path, brats: dict[str, Any]) -> None:
    brats["train"]["transforms"] = brats["train"].pop("pre_transforms")
    assert len(read(tmp_path, brats).train.pre_transforms) == 6


def test_a_disabled_component_drops_out_and_comments_too(tmp_path: Path, brats: dict[str, Any]) -> None:
    brats["train"]["pre_transforms"][3] |= {"disabled": True, "__why": "no flips"}
    brats["__note"] = "a comment"
    assert len(read(tmp_path, brats).train.pre_transforms) == 5


def test_a_configuration_without_its_network_is_still_told_for_tlt_s(tmp_path: Path, brats: dict[str, Any]) -> None:
    brats["net_confg"] = brats.pop("net_config")
    del brats["auxiliary_outputs"]
    lines = findings_of(tmp_path, brats)
    assert "net_confg: unknown key; did you mean 'net_config'?" in lines
    assert "net_config: missing; a network is needed" in lines


def test_faults_come_at_once_at_their_places(tmp_path: Path, brats: dict[str, Any]) -> None:
    transforms = brats["train"]["pre_transforms"]
    transforms[0]["name"] = "transforms.LoadNiffty"
    transforms[2]["sise"] = transforms[2].pop("size")
    transforms[3]["name"] = "transfroms.FlipAxisRandom"
    brats["validate"]["metrics"][1]["applied_key"] = "val_dice_ct"
    brats["validate"]["metrics"][2]["applied_key"] = "train_dice_wt"
    brats["epochs"] = 0
    lines = findings_of(tmp_path, brats)
    for line in (
        "train.pre_transforms[0].name: unknown transform 'LoadNiffty'; did you mean 'LoadNifty'?",
        "train.pre_transforms[2].sise: CropSubVolumeRandomWithinBounds takes no argument 'sise'; did you mean 'size'?",
        "train.pre_transforms[2]: CropSubVolumeRandomWithinBounds needs the argument 'size'",
        "train.pre_transforms[3].name: unknown module 'transfroms' before 'FlipAxisRandom'; did you mean 'transforms'?",
        "validate.metrics[1].applied_key: no auxiliary output makes 'val_dice_ct'; did you mean 'val_dice_wt'?",
        "validate.metrics[2].applied_key: validation does not know 'train_dice_wt'; use 'val_dice_wt'",
        "epochs: Input should be greater than 0, received 0",
    ):
        assert line in lines
    assert "tlt2:" not in lines
    assert lines.count("config.json: ") == 7


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"use_scanning_window": True, "network_input_size": None}, "use_scanning_window: needs network_input_size"),
        ({"network_input_size": [64]}, "network_input_size: .*at least 2 items"),
        ({"num_chanels": 4}, "num_chanels: unknown key; did you mean 'num_channels'"),
        ({"record_step": "sometimes"}, "record_step"),
        ({"validate": None}, "validate: expected an object with pre_transforms, metrics, received None"),
        ({"net_config": {"name": "SegmResnet", "args": {}}}, "net_config.args: TLT 2 writes arguments beside the name"),
        ({"net_config": {"name": "SegResnet2D"}}, "net_config.name: unknown network 'SegResnet2D'; did you mean 'Segm"),
        ({"net_config": {"path": "custom.nets.Net"}}, "net_config.path: .*no file custom/nets.py"),
        ({"net_config": {"name": "tlt2:SegmResnet"}}, "net_config.name: unknown network 'tlt2:SegmResnet'; did you"),
        ({"net_config": {"blocks_down": "1,2"}}, "net_config: needs a name"),
    ],
)
def test_a_fault_names_its_place_and_the_rule(
    tmp_path: Path, brats: dict[str, Any], change: dict[str, Any], expected: str
) -> None:
    with pytest.raises(ConfigError, match=expected):
        read(tmp_path, brats | change)


def test_faults_of_an_evaluation_come_at_once(tmp_path: Path) -> None:
    config = json.loads((SEEDS / "tlt2_brats_evaluate.json").read_text(encoding="utf-8"))
    config["post_transforms"][0]["treshold"] = config["post_transforms"][0].pop("threshold")
    config["writters"] = config.pop("writers")
    del config["pre_transforms"]
    path = tmp_path / "config_validation.json"
    path.write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_evaluation(path)
    lines = str(caught.value)
    assert "post_transforms[0].treshold: ThresholdValues takes no argument 'treshold'; did you mean 'thresh" in lines
    assert "writters: unknown key; did you mean 'writers'?" in lines
    assert "pre_transforms: missing" in lines
