"""What Clara 3's configurations may also hold: references, aliases, AutoML's keys, own classes, and who wins."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import Any

import pytest

from voxflow.config import Workflow, load_evaluation, load_workflow
from voxflow.errors import ConfigError

SEEDS = Path(__file__).parent / "seeds"
PLACES = {"DATA_ROOT": "/data", "DATASET_JSON": "/data/list.json"}


@pytest.fixture
def spleen() -> dict[str, Any]:
    content: dict[str, Any] = json.loads((SEEDS / "clara3_spleen_train.json").read_text(encoding="utf-8"))
    return content


def read(folder: Path, config: dict[str, Any], environment: dict[str, Any] | None = None, **overrides: Any) -> Workflow:
    path = folder / "config" / "config_train.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(config), encoding="utf-8")
    place = path.with_name("environment.json")
    place.write_text(json.dumps(environment or {}), encoding="utf-8")
    return load_workflow(path, environment=place, overrides=PLACES | overrides)


def test_a_reference_stands_for_the_whole_component(tmp_path: Path, spleen: dict[str, Any]) -> None:
    spleen["train"]["pre_transforms"][2]["name"] = "ScaleIntensityRange#window"
    spleen["validate"]["pre_transforms"][2] = {"ref": "window"}
    spleen["train"]["pre_transforms"][2]["args"]["a_max"] = 99
    workflow = read(tmp_path, spleen)
    referred = workflow.validate.pre_transforms[2]
    assert (referred.name, referred.args["a_max"]) == ("ScaleIntensityRange", 99)
    assert referred.where == "validate.pre_transforms[2]"
    assert workflow.train.pre_transforms[2].alias == "window"


def test_an_own_class_is_referred_to_by_its_name(tmp_path: Path, spleen: dict[str, Any]) -> None:
    (tmp_path / "custom").mkdir()
    (tmp_path / "custom" / "steps.py").write_text("class Twice:\n    pass\n")
    spleen["train"]["pre_transforms"][2] = {"path": "steps.Twice"}
    spleen["validate"]["pre_transforms"][2] = {"ref": "Twice"}
    assert read(tmp_path, spleen).validate.pre_transforms[2].path == "steps.Twice"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"ref": "wimdow"}, r"pre_transforms\[2\].ref: no component of this file is named 'wimdow'"),
        ({"ref": "LoadNifty"}, "did you mean 'LoadNifti'"),
        ({"ref": 3}, "no component of this file is named 3"),
        ({"ref": "Dice"}, r"pre_transforms\[2\].name: 'Dice' is of kind loss, where a transform is expected"),
        ({"ref": "ScaleIntensityRange"}, "ambiguous: train.pre_transforms.*Alias and refer to that"),
        (
            {"name": "LoadNifti", "args": {"fields": {"ref": "model"}}},
            r"pre_transforms\[2\].args.fields: an argument is a plain value",
        ),
    ],
)
def test_a_reference_that_leads_nowhere_is_a_finding(
    tmp_path: Path, spleen: dict[str, Any], value: dict[str, Any], expected: str
) -> None:
    spleen["train"]["pre_transforms"].append({"name": "ScaleIntensityRange", "args": {"fields": "other"}})
    spleen["validate"]["pre_transforms"][2] = value
    with pytest.raises(ConfigError, match=expected):
        read(tmp_path, spleen)


def test_automl_s_keys_are_left_alone_and_said(
    tmp_path: Path, spleen: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    spleen["lr_search"] = [0.0001, 0.001]
    spleen["train"]["model"]["search"] = [{"domain": "net", "type": "enum", "args": "if_use_psp", "targets": [[True]]}]
    with caplog.at_level(logging.WARNING):
        assert "search" not in read(tmp_path, spleen).train.model.args
    assert "train.model.search: AutoML's search is not carried; the component runs with its args" in caplog.text
    assert "lr_search: AutoML's search is not carried; training uses learning_rate" in caplog.text


def test_handlers_batch_transforms_and_the_recording_interval_are_read(tmp_path: Path, spleen: dict[str, Any]) -> None:
    spleen["train_summary_recording_interval"] = 50
    spleen["train"]["handlers"] = [{"name": "StatsHandler"}]
    spleen["train"]["batch_transforms"] = [{"name": "MergeBatchDims", "args": {"fields": ["image", "label"]}}]
    spleen["validate"]["handlers"] = [{"name": "StatsHandler"}]
    workflow = read(tmp_path, spleen)
    assert workflow.globals.train_summary_recording_interval == 50
    assert [c.name for c in workflow.train.handlers] == ["StatsHandler"]
    assert [c.name for c in workflow.train.batch_transforms] == ["MergeBatchDims"]
    assert [c.name for c in workflow.validate.handlers] == ["StatsHandler"]


def test_comments_stand_anywhere(tmp_path: Path, spleen: dict[str, Any]) -> None:
    spleen["__about"] = {"anything": [1]}
    spleen["train"]["__loss"] = {"name": "NoSuchLoss"}
    spleen["train"]["model"]["args"]["__if_use_psp"] = True
    assert "__if_use_psp" not in read(tmp_path, spleen).train.model.args


def test_each_source_wins_over_the_one_before(tmp_path: Path, spleen: dict[str, Any]) -> None:
    spleen |= {"epochs": 1, "learning_rate": 0.1, "use_amp": False, "DATA_LIST_KEY": "from config"}
    environment = {"learning_rate": 0.2, "use_amp": True, "train.loss.name": "DiceCE", "DATA_LIST_KEY": "from file"}
    workflow = read(tmp_path, spleen, environment, use_amp=False, **{"train.loss.name": "Focal"})
    values = workflow.globals
    assert (values.epochs, values.learning_rate, values.use_amp) == (1, 0.2, False)
    assert workflow.train.loss.name == "Focal"
    assert workflow.variables["DATA_LIST_KEY"] == "from file"


def test_an_environment_serves_training_and_evaluation(tmp_path: Path, spleen: dict[str, Any]) -> None:
    shared = {"epochs": 3, "do_validation": False, "batch_size": 2, "MMAR_CKPT_DIR": "m", "MMAR_EVAL_OUTPUT_PATH": "e"}
    assert read(tmp_path, spleen, shared).globals.epochs == 3
    environment = tmp_path / "config" / "environment.json"
    evaluation = load_evaluation(SEEDS / "clara3_spleen_validation.json", environment=environment)
    assert (evaluation.batch_size, evaluation.do_validation) == (2, False)


def test_a_fault_of_the_environment_names_its_file(tmp_path: Path, spleen: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"environment.json: epoch: no such value .*did you mean 'epochs'"):
        read(tmp_path, spleen, {"epoch": 3})


def test_variables_may_stand_in_variables(tmp_path: Path, spleen: dict[str, Any]) -> None:
    environment = {"ROOT": "/a", "SPLIT": 2, "CASES": "{ROOT}/dataset_{SPLIT}.json", "FOLDS": "{SPLIT}"}
    spleen["train"]["pre_transforms"][3]["args"]["batch_size"] = "{FOLDS}"
    workflow = read(tmp_path, spleen, environment, DATASET_JSON="{CASES}")
    assert workflow.train.image_pipeline.args["data_list_file_path"] == "/a/dataset_2.json"
    assert workflow.train.pre_transforms[3].args["batch_size"] == 2


def test_a_variable_that_leads_back_to_itself_is_a_finding(tmp_path: Path, spleen: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="leads back to itself: A → B → A"):
        read(tmp_path, spleen, {"A": "{B}", "B": "x{A}"})


@pytest.mark.parametrize("environment", [{}, {"PRETRAIN_WEIGHTS_FILE": ""}, {"PRETRAIN_WEIGHTS_FILE": None}])
def test_without_a_weights_file_training_begins_from_none(
    tmp_path: Path, spleen: dict[str, Any], environment: dict[str, Any]
) -> None:
    assert read(tmp_path, spleen, environment).train.model.args["pretrain_weight_name"] == ""


@pytest.mark.parametrize(
    ("component", "expected"),
    [
        ({"name": "tlt2:dice_loss"}, "train.loss.name: unknown loss 'tlt2:dice_loss'"),
        ({"name": "dice_loss"}, "train.loss.name: unknown loss 'dice_loss'; did you mean 'Dice"),
        ({"name": ""}, "train.loss.name: expected text, received ''"),
        ({"args": {}}, "train.loss: needs a name, or the path of a class of your own"),
        ({"name": "Dice", "disabled": "yes"}, "train.loss.disabled: expected true or false, received 'yes'"),
        ({"name": "Dice", "disabled": True}, "train.loss: disabled, but a loss is needed"),
        ({"name": "Dice", "args": [1]}, r"train.loss.args: expected an object, received \[1\]"),
        ({"name": "Dice", "smoth": 1}, "train.loss.smoth: unknown key of a component"),
        ({"name": "Dice", "custom": "/elsewhere"}, "train.loss.custom: unknown key of a component"),
        ({"name": "TFModelSaver"}, "train.loss.name: 'TFModelSaver' exists only for TensorFlow: .*"),
        ({"path": "ai4med.components.losses.dice.Dice"}, "train.loss.path: .*TensorFlow's Clara"),
        ({"path": "monai.losses.DiceLoss"}, "train.loss.path: .*'monai' is an installed package"),
        ({"path": "../custom.losses.Mine"}, "train.loss.path: expected MODULE.CLASS"),
        ({"path": 3}, "train.loss.path: expected text, received 3"),
        (7, "train.loss: expected an object such as"),
    ],
)
def test_a_component_of_the_wrong_form_is_a_finding(
    tmp_path: Path, spleen: dict[str, Any], component: object, expected: str
) -> None:
    spleen["train"]["loss"] = component
    with pytest.raises(ConfigError, match=expected) as caught:
        read(tmp_path, spleen)
    assert len(caught.value.findings) == 1


def test_path_decides_over_name_and_says_so(
    tmp_path: Path, spleen: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "custom").mkdir()
    (tmp_path / "custom" / "losses.py").write_text("class Mine:\n    def __init__(self, weight):\n        pass\n")
    spleen["train"]["loss"] = {"name": "Dice", "path": "losses.Mine", "args": {"weight": 2}}
    with caplog.at_level(logging.WARNING):
        loss = read(tmp_path, spleen).train.loss
    assert (loss.path, loss.custom, loss.args) == ("losses.Mine", tmp_path / "custom", {"weight": 2})
    assert "train.loss: path decides; the name 'Dice' is only a label" in caplog.text


def test_own_arguments_are_checked_at_their_places(tmp_path: Path, spleen: dict[str, Any]) -> None:
    (tmp_path / "custom").mkdir()
    (tmp_path / "custom" / "losses.py").write_text("class Mine:\n    def __init__(self, weight):\n        pass\n")
    spleen["train"]["loss"] = {"path": "custom.losses.Mine", "args": {"wieght": 2}}
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, spleen)
    lines = "\n".join(caught.value.findings)
    assert re.search(r"train.loss.args.wieght: Mine takes no argument 'wieght'; did you mean 'weight'", lines)
    assert "train.loss.args: Mine needs the argument 'weight'" in lines


def test_an_unknown_dialect_is_named(tmp_path: Path, spleen: dict[str, Any]) -> None:
    path = tmp_path / "config_train.json"
    path.write_text(json.dumps(spleen), encoding="utf-8")
    with pytest.raises(ConfigError, match="unknown dialect 'tlt'; did you mean 'tlt2'"):
        load_workflow(path, dialect="tlt")


def test_a_task_that_is_none_is_a_finding(tmp_path: Path, spleen: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="PROCESSING_TASK: expected segmentation or classification, received 'both'"):
        read(tmp_path, spleen, PROCESSING_TASK="both")
