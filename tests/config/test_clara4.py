"""Clara 4: MONAI's names, references that are read and never run, and what the loop takes from trainer and handlers."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest

from voxflow.config import Workflow, detect_dialect, load_evaluation, load_workflow
from voxflow.config.references import UnreadableReferenceError, read_output_fields, read_reference
from voxflow.errors import ConfigError
from voxflow.files import write_json

EXAMPLES = Path(__file__).parent / "clara4"
SPLEEN: dict[str, Any] = json.loads((EXAMPLES / "segmentation_ct_spleen.json").read_text())
PLACES = {"DATASET_JSON": "x", "DATA_ROOT": "y", "MMAR_CKPT_DIR": "m"}
KEYS = {"TRAIN_DATALIST_KEY": "training", "VAL_DATALIST_KEY": "validation"}


def load(config: dict[str, Any], folder: Path, **overrides: Any) -> Workflow:
    write_json(folder / "config_train.json", config)
    return load_workflow(folder / "config_train.json", overrides={**PLACES, **KEYS, **overrides})


def faults(config: dict[str, Any], folder: Path) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(config, folder)
    return [finding.partition("config_train.json: ")[2] for finding in caught.value.findings]


def test_the_published_form_is_read_into_the_one_workflow() -> None:
    workflow = load_workflow(EXAMPLES / "segmentation_ct_spleen.json", overrides={**PLACES, **KEYS})
    assert (workflow.dialect, workflow.task) == ("clara4", "segmentation")
    assert workflow.globals.epochs == 1260
    assert workflow.globals.num_training_epoch_per_valid == 20
    assert workflow.globals.use_amp is True
    assert workflow.train.model.name == "monai:UNet"
    assert workflow.train.model.args["final_activation"] == "softmax"
    assert workflow.train.optimizer.args == {"lr": 2e-4}
    assert [c.name.removeprefix("monai:") for c in workflow.validate.pre_transforms] == [
        "LoadImaged",
        "EnsureChannelFirstd",
        "ScaleIntensityRanged",
        "CropForegroundd",
        "ToTensord",
    ]
    assert workflow.train.image_pipeline.name == "SegmentationImagePipelineWithCache"
    assert workflow.train.image_pipeline.args["output_batch_size"] == 2
    assert [metric.args["name"] for metric in workflow.validate.metrics] == ["val_mean_dice", "val_acc"]
    assert [metric.args["is_key_metric"] for metric in workflow.validate.metrics] == [True, False]


def test_a_classification_is_told_by_what_is_loaded() -> None:
    workflow = load_workflow(EXAMPLES / "classification_chestxray.json", overrides=PLACES)
    assert workflow.task == "classification"
    assert workflow.train.model.args["final_activation"] == "sigmoid"


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("@optimizer", "@optimizer"),
        ("#@model.parameters()", "@model.parameters()"),
        ("# @model.encoder.parameters()", "@model.encoder.parameters()"),
    ],
)
def test_a_reference_is_read(text: str, read: str) -> None:
    assert str(read_reference(text, ["model", "optimizer"])) == read


@pytest.mark.parametrize(
    "text",
    [
        "#__import__('os').system('true')",
        "#@model.load_state_dict('x')",
        "#@model.__class__",
        "#@model.__class__.__subclasses__()",
        "#(lambda: @model)()",
        "#[@model][0]",
        "#@model if @model else 1",
        "#open('x').read()",
        "#@model.parameters()()",
        "@model.parameters()",
        "@",
        "#",
        "#@model." + "a." * 5000 + "b",
        "#" + "(" * 10_000,
    ],
)
def test_anything_else_is_refused_and_not_run(text: str) -> None:
    with pytest.raises(UnreadableReferenceError):
        read_reference(text, ["model"])


def test_an_unknown_component_is_named_with_the_nearest() -> None:
    with pytest.raises(UnreadableReferenceError, match="no component is called 'modle'; did you mean 'model'"):
        read_reference("#@modle.parameters()", ["model", "optimizer"])


def test_only_claras_own_functions_of_an_output_are_known() -> None:
    assert read_output_fields("lambda x: (x['pred'], x['label'])") == ("pred", "label")
    assert read_output_fields("#monai.handlers.from_engine(['pred', 'label'])") == ("pred", "label")
    assert read_output_fields("lambda x: x[0]['loss']") == ("loss",)
    assert read_output_fields("lambda x: None") == ()
    for code in ("lambda x: __import__('os')", "lambda x: x[f()]", "lambda x, y: x['pred']", "from_engine(open('x'))"):
        assert read_output_fields(code) is None


@pytest.mark.parametrize(
    ("place", "value", "fault"),
    [
        (
            "train.optimizer.args.params",
            "#@model.eval()",
            r"'#@model.eval\(\)' can't be wired here; expected '@model.par",
        ),
        ("train.optimizer.args.params", "#exec('1')", "calls something with arguments"),
        ("train.optimizer.args.lr", "#1/3", "is code"),
        ("train.loss.name", "DiceLos", r"unknown loss 'DiceLos'; did you mean 'DiceLoss'"),
        ("train.loss.name", "os.system", r"unknown loss 'os.system'"),
        ("train.loss.name", "UNet", r"unknown loss 'UNet'"),
        ("train.loss.args", {"softmx": True}, r"DiceLoss: takes no argument 'softmx'; did you mean 'softmax'"),
        ("train.model.args.spatial_dim", 3, r"UNet: takes no argument 'spatial_dim'; did you mean 'spatial_dims'"),
        ("train.model.name", "DenseNet121", "takes no argument 'channels'"),
        ("train.model.args", {"dimensions": 3}, r"needs the argument 'channels'"),
        ("train.lr_scheduler.name", "OneCycleLR", r"can't be said as factors"),
        ("train.dataset.name", "CachedDataset", r"unknown dataset 'CachedDataset'; did you mean 'CacheDataset'"),
        ("train.handlers[2].name", "ValidatonHandler", r"did you mean 'ValidationHandler'"),
        ("train.handlers[4].args.output_transform", "lambda x: open('x')", "is code, and no code of a configuration"),
        ("train.trainer.name", "GanTrainer", "has another loop"),
        ("train.trainer.args.network", "@modle", "did you mean 'model'"),
        ("train.pre_transforms[2].args.a_mn", 1, r"takes no argument 'a_mn'; did you mean 'a_min'"),
        ("train.pre_transforms[5].name", "Lambdad", r"takes no argument 'offsets'"),
        ("train.pre_transforms[5]", {"name": "Lambdad", "args": {"keys": "image", "func": "lambda x: x"}}, "is code"),
        ("train.pre_transforms[0].args.reader", "os.path", r"'reader' can't be given"),
        ("validate.inferer.args.roi", 1, r"takes no argument 'roi'; known: .*roi_size"),
        ("validate.key_metric.name", "MeanDise", r"unknown metric 'MeanDise'; did you mean 'MeanDice'"),
        (
            "validate.pre_transforms[2]",
            {"name": "Resized", "args": {"keys": "image", "spatial_size": 9}},
            "changes the",
        ),
        ("train.lr_schedular", {}, r"unknown key; did you mean 'lr_scheduler'"),
    ],
)
def test_what_is_wrong_is_said_at_its_place(place: str, value: Any, fault: str, tmp_path: Path) -> None:
    from voxflow.config.source import set_nested

    config = copy.deepcopy(SPLEEN)
    assert set_nested(config, place, value) is None
    lines = faults(config, tmp_path)
    section = place.partition(".")[0]
    assert any(re.search(fault, line) and line.startswith(section) for line in lines), lines


def test_a_dialect_is_told_by_its_content() -> None:
    assert detect_dialect(SPLEEN) == "clara4"
    assert detect_dialect({"train": {"image_pipeline": {}}, "validate": {}}) == "clara3"


def test_a_configuration_of_validation_says_what_to_use_instead(tmp_path: Path) -> None:
    write_json(tmp_path / "config_validation.json", {"validate": SPLEEN["validate"]})
    with pytest.raises(ConfigError, match="evaluate and infer by the workspace's stages"):
        load_evaluation(tmp_path / "config_validation.json")


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("train.handlers", {"name": "StatsHandler"}),
        ("train.handlers[0].args", [1]),
        ("train.handlers[0].args", "text"),
        ("train.dataset.args", "text"),
        ("train.dataloader.args", [4]),
        ("train.trainer.args", 3),
        ("train.loss.args", [True]),
        ("train.model.args", ["UNet"]),
        ("train.lr_scheduler.args", 5000),
        ("train.model.args.strides", [[2, 2], [2]]),
        ("train.model.args.strides", [[2, 2, 2], [2, 2]]),
        ("train.model.args.strides", [2]),
        ("train.model.args.strides", ["2", None, 2, 2]),
        ("train.model.args.spatial_dims", "three"),
        ("train.pre_transforms[0].args.keys", 5),
        ("validate.post_transforms", {"name": "Activationsd"}),
        ("validate.post_transforms[0].args", ["pred"]),
        ("validate.key_metric", "MeanDice"),
        ("validate.key_metric.args", ["include_background"]),
        ("validate.evaluator.args", [1]),
        ("validate.inferer.args", None),
    ],
)
def test_a_wrong_form_is_a_finding_and_no_traceback(place: str, value: Any, tmp_path: Path) -> None:
    from voxflow.config.source import set_nested
    from voxflow.lint import check_workspace
    from voxflow.planning import Target

    config = copy.deepcopy(SPLEEN)
    assert set_nested(config, place, value) is None
    write_json(tmp_path / "config_train.json", config)
    target = Target("ws", tmp_path, tmp_path / "config_train.json", None, None, overrides={**PLACES, **KEYS})
    assert check_workspace(target).errors


def test_a_loader_that_is_disabled_loads_nothing(tmp_path: Path) -> None:
    config = copy.deepcopy(SPLEEN)
    loader: dict[str, Any] = {"name": "CheckpointLoader", "args": {"load_path": "{MMAR_CKPT}"}}
    config["dont_load_ckpt_model"] = True
    inside = {"name": "CheckpointLoader", "args": {"load_path": "{MMAR_CKPT}", "disabled": True}}
    for form in (loader | {"disabled": "{dont_load_ckpt_model}"}, inside):
        config["train"]["handlers"][0] = form
        assert load(config, tmp_path, MMAR_CKPT="models/model.pt").start_weights == ""
    config["train"]["handlers"][0] = loader | {"disabled": "{dont_load_ckpt_model}"}
    workflow = load(config, tmp_path, MMAR_CKPT="models/model.pt", dont_load_ckpt_model=False)
    assert workflow.start_weights == "models/model.pt"
