"""``voxflow check`` of a bundle says what is wrong with it, as the stages find it, and runs nothing of it."""

from __future__ import annotations

import copy
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.bundle.shapes import SHAPES
from tests.bundle.spleen import evaluate_config, inference_config, train_config
from tests.bundle.workspaces import Workspace, run_configuration
from voxflow.bundle import BundleOptions, BundleTarget, check_bundle, find_bundle
from voxflow.bundle.guard import StageBounds
from voxflow.bundle.parts import open_bundle
from voxflow.bundle.reading import set_item
from voxflow.cli.main import main
from voxflow.errors import ConfigError, VoxflowError
from voxflow.files import write_json, write_text

if TYPE_CHECKING:
    from voxflow.findings import Finding

pytest.importorskip("ignite", reason="MONAI's engines need pytorch-ignite: pip install voxflow[bundle]")
pytestmark = pytest.mark.filterwarnings("ignore")

Json = dict[str, Any]
SHAPE = {"num_channels": 1, "spatial_shape": [16, 16, 16], "dtype": "float32"}
METADATA: Json = {"network_data_format": {"inputs": {"image": SHAPE}, "outputs": {"pred": SHAPE}}}
SHOWN = {"runs-code", "replaced"}


def write_bundle(folder: Path, *, train: Json | None = None, infer: Json | None = None, **files: Json) -> Path:
    """A bundle in the form of the model zoo's, without a fault; values of its configurations by id replace its own."""
    configs: dict[str, Json] = {
        "train": train_config(),
        "evaluate": evaluate_config(),
        "inference": inference_config(),
        "metadata": copy.deepcopy(METADATA),
        **files,
    }
    for name, changes in (("train", train), ("inference", infer)):
        for key, value in (changes or {}).items():
            set_item(configs[name], key, value)
    for name, content in configs.items():
        write_json(folder / f"configs/{name}.json", content)
    return folder


def check(bundle: Path, **target: Any) -> list[Finding]:
    """All findings but those that say what is code and what is replaced."""
    report = check_bundle(BundleTarget(str(bundle), bundle, **target))
    return [finding for finding in report.findings if finding.code not in SHOWN]


def describe(finding: Finding) -> tuple[str, ...]:
    place = f"{finding.file.name}: {finding.where}" if finding.where else finding.file.name
    return (finding.severity, finding.code, place, finding.message, finding.fix)


def test_a_good_bundle_has_no_fault_and_is_called_a_program(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "spleen")
    assert check(bundle) == []
    findings = check_bundle(BundleTarget("spleen", bundle)).findings
    program = [(finding.file.name, finding.message) for finding in findings if finding.code == "runs-code"]
    assert program[0] == ("spleen", "a bundle is a program: it has all rights of the person who runs it")
    assert ("evaluate.json", "2 expressions that run as code: validate#handlers#0#load_path, run#0") in program
    assert ("train.json", "2 imports: imports#0 (import glob), imports#1 (import ignite)") in program
    replaced = [(f.severity, f.file.name, f.where, f.message) for f in findings if f.code == "replaced"]
    assert ("note", "train.json", "train#dataset#data", "the stage train puts the cases of 'training' here") in replaced
    assert ("note", "train.json", "ckpt_dir", "the stage train puts mmars/NAME/models/train here") in replaced
    message = "the stage evaluate puts mmars/NAME/models/train/model.pt to load here"
    assert ("note", "evaluate.json", "validate#handlers#0#load_path", message) in replaced


@pytest.mark.parametrize(
    ("train", "expected"),
    [
        (
            {"train#handlers#0#interval": "@val_intervall"},
            ("error", "unresolved-reference", "train.json: train#handlers#0#interval", "'@val_intervall': no such id",
             "write 'val_interval'"),
        ),
        (
            {"optimizer#lr": "$@rate * @val_interval"},
            ("error", "unresolved-reference", "train.json: optimizer#lr", "'@rate': no such id", ""),
        ),
        (
            {"nobody_needs_this": "@nothing"},
            ("warning", "unresolved-reference", "train.json: nobody_needs_this", "'@nothing': no such id", ""),
        ),
        (
            {"train#trainer#inferer": "@##infrer"},
            ("error", "unresolved-reference", "train.json: train#trainer#inferer", "'@train#infrer': no such id",
             "write 'train#inferer'"),
        ),
        (
            {"val_interval": "@##val_interval"},
            ("error", "unresolved-reference", "train.json: val_interval",
             "'@##val_interval' leads above the top of the configuration",
             "take a '#' away: '@#id' is beside, '@##id' above"),
        ),
        (
            {"validate#postprocessing": "%train#postprocesing"},
            ("error", "unresolved-reference", "train.json: validate#postprocessing",
             "'%train#postprocesing': no such id", "write 'train#preprocessing'"),
        ),
        (
            {"validate#postprocessing": "%configs/other.json::post"},
            ("error", "unresolved-reference", "train.json: validate#postprocessing",
             "'%configs/other.json::post': configs/other.json: file not found", ""),
        ),
        (
            {"loss": "@loss2", "loss2": "$(@loss)"},
            ("error", "circular-reference", "train.json: loss", "refers to itself: loss → loss2 → loss", ""),
        ),
        (
            {"loss#_target_": "DiceCELos"},
            ("error", "unknown-component", "train.json: loss#_target_", "'DiceCELos': MONAI has no 'DiceCELos'",
             "write 'DiceCELoss'"),
        ),
        (
            {"optimizer#_target_": "torch.optim.SDG"},
            ("error", "unknown-component", "train.json: optimizer#_target_",
             "'torch.optim.SDG': torch.optim has no 'SDG'", "write 'SGD'"),
        ),
        (
            {"loss#_target_": "monai.nets.DiceCELoss"},
            ("error", "unknown-component", "train.json: loss#_target_", "'monai.nets.DiceCELoss': monai has no 'nets'",
             "write 'monai.losses.dice.DiceCELoss'"),
        ),
        (
            {"train#preprocessing#transforms#1#_target_": "AddChanneld"},
            ("error", "unknown-component", "train.json: train#preprocessing#transforms#1#_target_",
             "'AddChanneld': MONAI has no 'AddChanneld'", "write 'EnsureChannelFirstd'"),
        ),
        (
            {"loss#softmx": True},
            ("error", "unknown-argument", "train.json: loss#softmx", "DiceCELoss takes no argument 'softmx'",
             "write 'softmax'"),
        ),
        (
            {"network_def": {"_target_": "UNet", "spatial_dims": 3, "in_channels": 1, "channels": [4], "strides": []}},
            ("error", "missing-argument", "train.json: network_def", "UNet needs the argument 'out_channels'", ""),
        ),
        (
            {"validate#handlers#0#save_dir": "/var/models"},
            ("error", "outside-folder", "train.json: validate#handlers#0#save_dir",
             "writes to /var/models, which is not in the folder of the stage train", "set this id below `set`"),
        ),
        (
            {"validate#handlers#0#save_dir": "$@bundle_root + '/models'"},
            ("error", "outside-folder", "train.json: validate#handlers#0#save_dir",
             "writes to \"$@bundle_root + '/models'\", which takes no folder of the stage", "set this id below `set`"),
        ),
        (
            {"train#preprocessing#transforms#0#keys": ["scan", "label"]},
            ("error", "wrong-field", "train.json: train#preprocessing#transforms#0#keys",
             "loads 'scan', and a case has image, label", "train.image_key and label_key name its fields"),
        ),
        (
            {"device": "$torhc.device('cpu')"},
            ("error", "unknown-name", "train.json: device", "nothing defines the name 'torhc'", "write 'torch'"),
        ),
        (
            {"run#0": "$os.getcwd() and @train#trainer.run()"},
            ("error", "unknown-name", "train.json: run#0", "nothing defines the name 'os'",
             'add "$import os" to `imports`'),
        ),
        (
            {"initialize#0": "$monai.utils.set_determinsm(seed=123)"},
            ("error", "unknown-component", "train.json: initialize#0", "monai.utils has no 'set_determinsm'",
             "write 'set_determinism'"),
        ),
        (
            {"initialize#0": "$print(1"},
            ("error", "expression-syntax", "train.json: initialize#0",
             "no valid Python: '(' was never closed: '$print(1'", ""),
        ),
        (
            {"initialize#0": "$a = 1"},
            ("error", "expression-syntax", "train.json: initialize#0",
             "a statement, where a value is expected: '$a = 1'", ""),
        ),
        (
            {"network_def#_target_": "generative.networks.nets.DiffusionModelUNet"},
            ("error", "missing-package", "train.json: network_def#_target_",
             "'generative.networks.nets.DiffusionModelUNet': the package 'generative' is not installed",
             'pip install "monai-generative"'),
        ),
        (
            {"imports#0": "$import einops", "initialize#0": "$einops.rearrange(1)", "images": []},
            ("error", "missing-package", "train.json: imports#0", "the package 'einops' is not installed",
             'pip install "einops"'),
        ),
        (
            {"imports#1": "$import segment_anything"},
            ("warning", "missing-package", "train.json: imports#1", "the package 'segment_anything' is not installed",
             'pip install "segment-anything"'),
        ),
        (
            {"imports#1": "$import strange_package_of_nobody"},
            ("warning", "missing-package", "train.json: imports#1",
             "the package 'strange_package_of_nobody' is not installed",
             "see the bundle's README for the package that holds it"),
        ),
        (
            {"more": {"_target_": "SwinUNETR", "in_channels": 1, "out_channels": 2}},
            ("warning", "missing-package", "train.json: more#_target_",
             "'SwinUNETR' may need it: the package 'einops' is not installed", 'pip install "einops"'),
        ),
        (
            {"train#handlers#1": {"_target_": "ClearMLStatsHandler", "project_name": "p"}},
            ("warning", "missing-package", "train.json: train#handlers#1#_target_",
             "'ClearMLStatsHandler' may need it: the package 'clearml' is not installed", 'pip install "clearml"'),
        ),
        (
            {"image_reader": "ITKReader", "train#preprocessing#transforms#0#reader": "@image_reader"},
            ("warning", "missing-package", "train.json: train#preprocessing#transforms#0#reader",
             "'LoadImaged' may need it: the package 'itk' is not installed", 'pip install "itk"'),
        ),
        (
            {"run#0": "$torch.distributed.init_process_group('nccl') or @train#trainer.run()"},
            ("error", "several-processes", "train.json: run#0", "a stage runs in one process",
             "leave this configuration out of `config`: it is for torchrun"),
        ),
    ],
)  # fmt: skip
def test_a_fault_of_the_configuration_is_named_with_its_id_and_what_to_do(
    tmp_path: Path, train: Json, expected: tuple[str, ...]
) -> None:
    findings = check(write_bundle(tmp_path, train=train))
    assert [describe(finding) for finding in findings] == [expected]


@pytest.mark.parametrize(
    ("config", "is_fault"),
    [
        ({"run": ["@nothing"]}, True),
        ({"run": ["$1"], "idle": "@nothing"}, False),
        ({"a": {"b": "$2"}, "run": ["$@a::b + @a#b"]}, False),
        ({"a": "@b", "b": {"c": 1}, "run": ["@a#c"]}, True),
        ({"a": {"b": {"c": 1}}, "run": ["@a", "@a#b#c"]}, False),
        ({"a": {"x": 1, "y": "@#x"}, "run": ["@a"]}, False),
        ({"a": {"x": 1, "y": "@#z"}, "run": ["@a"]}, True),
        ({"a": "@##b", "run": ["$1"]}, True),
        ({"a": {"b": {"_target_": "dict"}}, "c": "%a", "run": ["@c#b"]}, False),
        ({"a": 1, "c": "%b", "run": ["$1"]}, True),
        ({"c": "%parts.json::x#1", "run": ["@c"]}, False),
        ({"c": "%parts.json::y", "run": ["@c"]}, True),
        ({"a": "$@b", "b": ["$@a"], "run": ["@b"]}, True),
        ({"a": {"b": "$1", "c": "@a#b"}, "run": ["@a"]}, False),
        ({"imports": ["$import math as m"], "run": ["$m.sqrt(4)"]}, False),
        ({"imports": ["$import os.path"], "run": ["$os.getcwd()"]}, True),
        ({"imports": ["$from os import path, sep"], "run": ["$sep"]}, True),
        ({"run": ["$[x * y for x in (1, 2) if (y := x)]"]}, False),
        ({"run": ["$(lambda a, *b, c=3: (a, b, c))(1)"]}, False),
        ({"run": ["$missing_name"]}, True),
        ({"run": ["$ 1"]}, True),
        ({"run": ["$(yield)"]}, True),
        ({"a": "$'no import @b here'", "b": 1, "run": ["$1"]}, False),
        ({"a": "$@b + ' import'", "b": "x", "run": ["$1"]}, True),
        ({"a": {"_target_": "dict", "x": 1}, "run": ["$@a['x']"]}, False),
        ({"a": {"_target_": "NoSuchThing"}, "run": ["$1"]}, False),
        ({"a": {"_target_": "NoSuchThing"}, "run": ["@a"]}, True),
        ({"a": {"_target_": "NoSuchThing", "_disabled_": True}, "run": ["@a"]}, False),
        ({"a": {"_target_": "scripts_of_check.util.twice", "value": 2}, "run": ["@a"]}, False),
        ({"a": {"_target_": "scripts_of_check.util.twice", "valeu": 2}, "run": ["@a"]}, True),
        ({"a": {"_target_": "scripts_of_check.util.thrice"}, "run": ["@a"]}, True),
        ({"a": {"_target_": "scripts_of_check.other.twice"}, "run": ["@a"]}, True),
        ({"a": {"_target_": "torch.nn.Conv3d", "_mode_": "callable", "in_channels": 1}, "run": ["@a"]}, False),
        ({"a": {"_target_": "$@b.upper"}, "b": "x", "run": ["@a"]}, False),
        ({"mail": "someone@example.org", "run": ["@mail"]}, False),
        ({"a": {"b": "@"}, "run": ["@a"]}, True),
        ({"n": {"a#b": {"c": 1}}, "run": ["$1"]}, False),
        ({"a": {"_target_": f"scripts_of_check.{'x' * 300}.y"}, "run": ["@a"]}, True),
        ({"a": f"%{'x' * 300}.json::y", "run": ["$1"]}, True),
    ],
)
def test_the_check_finds_an_error_where_the_stage_fails_and_only_there(
    tmp_path: Path, config: Json, is_fault: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_json(tmp_path / "b/configs/train.json", config)
    write_json(tmp_path / "b/parts.json", {"x": [1, "two"]})
    write_text(tmp_path / "b/scripts_of_check/util.py", "def twice(value):\n    return 2 * value\n")
    for name in [name for name in sys.modules if name.startswith("scripts_of_check")]:
        monkeypatch.delitem(sys.modules, name)
    errors = {f.code for f in check(tmp_path / "b", config="configs/train.json") if f.severity == "error"}
    errors -= {"missing-id"}  # of engines, which this bundle has none of
    assert bool(errors) == is_fault, errors
    if is_fault:
        with pytest.raises((VoxflowError, SyntaxError)):
            run_configuration(tmp_path / "b")
    else:
        run_configuration(tmp_path / "b")


def template() -> Json:
    """The ids of the zoo's segmentation template, which are none of those that the stages look for."""
    config = train_config()
    names = {"dataset": "train_dataset", "dataloader": "train_dataloader", "preprocessing": "preprocessing"}
    flat: Json = {new: config["train"].pop(name) for name, new in names.items()}
    flat |= {"val_dataset": config["validate"].pop("dataset"), "evaluator": config["validate"].pop("evaluator")}
    flat |= {"val_dataloader": config["validate"].pop("dataloader"), "trainer": config["train"].pop("trainer")}
    text = json.dumps({**config, **flat, "net": config.pop("network_def"), "training": config.pop("run")})
    for old, new in (
        ("@train#dataset", "@train_dataset"), ("@train#dataloader", "@train_dataloader"),
        ("@train#preprocessing", "@preprocessing"), ("@validate#dataset", "@val_dataset"),
        ("@validate#dataloader", "@val_dataloader"), ("@validate#evaluator", "@evaluator"),
        ("@train#trainer", "@trainer"), ("@network_def", "@net"),
    ):  # fmt: skip
        text = text.replace(old, new)
    content: Json = json.loads(text)
    return {key: value for key, value in content.items() if key not in ("run", "network_def")}


def test_ids_that_a_stage_needs_are_named_with_the_option_and_what_the_bundle_has(tmp_path: Path) -> None:
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/train.yaml").write_text(yaml.safe_dump(template()))
    findings = [finding for finding in check(tmp_path) if finding.code == "missing-id"]
    assert [(f.severity, f.file.name, f.where, f.fix) for f in findings] == [
        ("error", "train.yaml", "run", "train.run_id: training"),
        ("error", "train.yaml", "train#trainer", "train.trainer: trainer"),
        ("error", "train.yaml", "train#dataset#data", "train.train_data: train_dataset#data; or train.data: own"),
        ("error", "train.yaml", "validate#dataset#data", "train.validate_data: val_dataset#data; or train.data: own"),
        ("warning", "train.yaml", "network_def", "train.network: net"),
    ]
    names = {"run_id": "training", "trainer": "trainer", "network": "net", "evaluator": "evaluator"}
    train = {**names, "train_data": "train_dataset#data", "validate_data": "val_dataset#data"}
    block = {"trust": True, "train": train}
    assert not [f for f in check(tmp_path, workspace="w", block=block) if f.where and f.file.name == "train.yaml"]


@pytest.mark.parametrize("name", SHAPES)
def test_bundles_of_the_zoos_forms_that_the_stages_run_have_no_error(name: str, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "ws", SHAPES[name])
    stages = ("train", "evaluate", "infer")
    options = {stage: workspace.options(stage).model_dump(exclude_unset=True) for stage in stages}
    findings = check(workspace.bundle, workspace="ws", block={"trust": True, **options})
    assert [finding.line for finding in findings if finding.severity == "error"] == []


def test_folders_that_follow_from_the_stages_are_right(tmp_path: Path) -> None:
    changes = {"events": "$@output_dir + '/events'", "train#handlers#1": {"_target_": "TensorBoardStatsHandler"}}
    bundle = write_bundle(tmp_path, train={**changes, "train#handlers#1#log_dir": "$str(@events) + '/a'"})
    assert check(bundle) == []


def test_a_stage_that_does_not_run_its_engine_is_an_error(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path, infer={"run": ["$print('done')"], "initialize": []})
    (finding,) = [finding for finding in check(bundle) if finding.code == "wrong-entry"]
    assert describe(finding)[2:] == (
        "inference.json: run",
        "does not run 'evaluator', which the stage infer watches",
        "infer.evaluator names another",
    )


def test_a_stage_that_would_train_instead_is_an_error(tmp_path: Path) -> None:
    evaluate = {key: value for key, value in evaluate_config().items() if key != "run"}
    bundle = write_bundle(tmp_path, train={"evaluating": ["$@validate#evaluator.run()"]}, evaluate=evaluate)
    (finding,) = [finding for finding in check(bundle) if finding.severity == "error"]
    assert describe(finding) == (
        "error",
        "wrong-entry",
        "train.json: run",
        "runs 'train#trainer', which trains; this is the stage evaluate",
        "evaluate.run_id names what the stage is to run: evaluating",
    )


@pytest.mark.parametrize(
    ("train", "infer", "expected"),
    [
        ({"validate#handlers": []}, {}, ("no-result", "train.json", "give it a CheckpointSaver")),
        ({}, {"initialize": []}, ("no-weights", "inference.json", "give it a CheckpointLoader")),
        (
            {},
            {"initialize": ["$@network.load_state_dict(torch.load(@bundle_root + '/models/model.pt'))"]},
            (
                "no-weights",
                "inference.json",
                "give it a CheckpointLoader, or name the id of its path by infer.load_path",
            ),
        ),
        ({}, {"postprocessing#transforms": []}, ("no-result", "inference.json", "give it a SaveImaged")),
    ],
)
def test_a_stage_that_would_end_without_its_result_is_an_error(
    tmp_path: Path, train: Json, infer: Json, expected: tuple[str, ...]
) -> None:
    (finding,) = check(write_bundle(tmp_path, train=train, infer=infer))
    assert (finding.severity, finding.code, finding.file.name, finding.fix) == ("error", *expected)


def test_weights_that_an_expression_loads_from_the_named_id_are_the_stages(tmp_path: Path) -> None:
    load = "$@network.load_state_dict(torch.load(@ckpt_path))"
    bundle = write_bundle(tmp_path, infer={"initialize": [load], "ckpt_path": "models/model.pt"})
    assert [finding.code for finding in check(bundle)] == ["no-weights"]
    block = {"trust": True, "infer": {"load_path": "ckpt_path"}}
    assert check(bundle, workspace="w", block=block) == []


def test_a_data_set_that_is_a_list_is_named(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path, infer={"dataset": [{"image": "a.nii.gz"}]})
    (finding,) = [finding for finding in check(bundle) if finding.code == "missing-id"]
    assert finding.fix == "infer.infer_data: dataset; or infer.data: own"


def test_thousands_of_faults_are_counted_in_seconds(tmp_path: Path) -> None:
    count = 2000
    chain = {f"link{n}": f"$@link{n + 1}" for n in range(count)}
    faults = {f"lost{n}": f"@nowhere{n}" for n in range(count)}
    names = {f"part{n}": {"_target_": f"NoSuch{n}", "x": f"$unknown{n}"} for n in range(count)}
    bundle = write_bundle(tmp_path, train={**chain, **faults, **names, "initialize": ["@link0"]})
    began = time.process_time()
    messages = [finding.message for finding in check(bundle)]
    assert time.process_time() - began < 60
    assert messages.count(f"and {count - 50} more like this") == 3  # references, components, names
    assert "'@link2000': no such id" in messages


def test_what_params_name_in_vain_is_named_there(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path)
    values = {"train#trainer#max_epoch": 3, "trian#trainer#amp": True, "val_intervall": 2, "loss#lambda_dice": 2.0}
    block = {
        "train": {"set": values, "trainer": "train#trainr", "evaluator": "validate#evaluator"},
        "infer": {"load_path": "loader#load_path", "init_id": "prepare"},
        "evaluate": {"config": ["configs/train.json", "configs/evaluation.json"]},
    }
    found = {describe(f)[2]: describe(f) for f in check(bundle, workspace="w", block=block)}
    assert {place: found[place][4] for place in found if place.startswith("params.yaml")} == {
        "params.yaml: workspaces.w.trust": "look through it, then write trust: true",
        "params.yaml: workspaces.w.train.set.train#trainer#max_epoch": "write 'train#trainer#max_epochs'",
        "params.yaml: workspaces.w.train.set.trian#trainer#amp": "write 'train#trainer#amp'",
        "params.yaml: workspaces.w.train.set.val_intervall": "write 'val_interval'",
        "params.yaml: workspaces.w.train.trainer": "train.trainer: train#trainer",
        "params.yaml: workspaces.w.infer.load_path": "infer.load_path: checkpointloader#load_path",
        "params.yaml: workspaces.w.infer.init_id": "infer.init_id: initialize",
    }
    (finding,) = check(bundle, workspace="w", block={"trust": True, "infer": {"cnfig": ["a.json"]}})
    assert describe(finding)[:3] == ("error", "unknown-key", "params.yaml: workspaces.w.infer.cnfig")
    assert found["evaluation.json"][:2] == ("error", "missing-file")
    assert found["evaluation.json"][4].startswith("evaluate.config names others: configs/evaluate.json, ")


def test_a_configuration_for_several_gpus_is_read_over_the_one_for_training(tmp_path: Path) -> None:
    override = {
        "device": "$torch.device(f'cuda:{dist.get_rank()}')",
        "network": {
            "_target_": "torch.nn.parallel.DistributedDataParallel",
            "module": "$@network_def.to(@device)",
            "device_ids": ["@device"],
        },
        "train#sampler": {"_target_": "DistributedSampler", "dataset": "@train#dataset"},
        "train#dataloader#sampler": "@train#sampler",
        "+validate#handlers": [{"_target_": "StatsHandler", "nam": "x"}],
        "initialize": ["$import torch.distributed as dist", "$dist.init_process_group(backend='nccl')"],
    }
    bundle = write_bundle(tmp_path, multi_gpu_train=override)
    places = [(f.severity, f.code, f.file.name, f.where) for f in check(bundle, config="configs/multi_gpu_train.json")]
    assert places == [
        ("error", "several-processes", "multi_gpu_train.json", "initialize#1"),
        ("error", "unknown-argument", "multi_gpu_train.json", "validate#handlers#1#nam"),
    ]
    # By itself it is no stage's: what is wrong with it stops none of them.
    assert {finding.severity for finding in check(bundle)} == {"warning"}


def test_values_of_the_command_line_count_where_a_stage_has_their_id(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path)
    assert check(bundle, overrides={"dataloader#num_workers": 0, "train#trainer#max_epochs": 3}) == []
    (finding,) = check(bundle, overrides={"dataset#dta": 0})
    assert (finding.where, finding.severity) == ("--set dataset#dta", "error")


def test_broken_files_are_named_with_the_place_and_the_others_are_checked(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path, infer={"dataset#_target_": "Datset"})
    (bundle / "configs/train.json").write_text('{"run": [],}')
    (bundle / "configs/multi.yaml").write_text("a: [1\n")
    found = [(f.severity, f.code, f.file.name, f.where) for f in check(bundle)]
    assert sorted(found) == [
        ("error", "syntax", "multi.yaml", "line 2, column 1"),
        ("error", "syntax", "train.json", "line 1, column 12"),
        ("error", "unknown-component", "inference.json", "dataset#_target_"),
    ]


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path)
    for file in (bundle / "configs").iterdir():
        file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert check(bundle) == []


def test_the_bundles_own_modules_are_read_and_their_imports_are_followed(tmp_path: Path) -> None:
    write_text(tmp_path / "scripts/__init__.py", "")
    source = "from .blocks import Block\nclass Net(Block):\n    def __init__(self, size, *, depth=3):\n        pass\n"
    write_text(tmp_path / "scripts/net.py", source)
    source = "import timm\ntry:\n    import cucim\nexcept ImportError:\n    pass\nclass Block:\n    pass\n"
    write_text(tmp_path / "scripts/blocks.py", source)
    network = {"_target_": "scripts.net.Net", "dept": 2}
    bundle = write_bundle(tmp_path, train={"network_def": network}, infer={"network_def#_target_": "scripts.net.Nett"})
    assert {describe(finding)[1:] for finding in check(bundle)} == {
        ("unknown-argument", "train.json: network_def#dept", "Net takes no argument 'dept'", "write 'depth'"),
        ("missing-argument", "train.json: network_def", "Net needs the argument 'size'", ""),
        ("missing-package", "blocks.py: line 1", "imports timm: the package 'timm' is not installed",
         'pip install "timm"'),
        ("unknown-component", "inference.json: network_def#_target_",
         "'scripts.net.Nett': scripts/net.py defines no 'Nett'", "write 'Net'"),
    }  # fmt: skip


def test_packages_of_the_metadata_are_named_with_the_pip_line(tmp_path: Path) -> None:
    required = {"einops": "0.7.0", "pytorch-ignite": "0.4.11", "nibabel": "5.2", "cucim-cu12": "24.6", "PyYAML": "6"}
    optional = {"segment-anything": "1.0", 'x" && reboot; "': "1"}
    metadata = {**METADATA, "required_packages_version": required, "optional_packages_version": optional}
    bundle = write_bundle(tmp_path, metadata=metadata)
    made = "which is not installed"
    assert [describe(finding)[2:] for finding in check(bundle)] == [
        ("metadata.json: required_packages_version#einops",
         f"the bundle needs the package einops (made with 0.7.0), {made}", 'pip install "einops"'),
        ("metadata.json: required_packages_version#cucim-cu12",
         f"the bundle needs the package cucim-cu12 (made with 24.6), {made}", 'pip install "cucim-cu12"'),
        ("metadata.json: optional_packages_version#segment-anything",
         f"the bundle can use the package segment-anything (made with 1.0), {made}", 'pip install "segment-anything"'),
        ("metadata.json: optional_packages_version", "'x\" && reboot; \"' is no name of a package", ""),
    ]  # fmt: skip


def test_what_the_export_lacks_is_a_warning(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path, metadata={"version": "0.1"})
    (finding,) = check(bundle)
    assert (finding.severity, finding.code, finding.where) == ("warning", "metadata", "network_data_format")
    (bundle / "configs/metadata.json").unlink()
    (finding,) = check(bundle)
    assert (finding.severity, finding.code) == ("warning", "missing-file")


def test_ids_that_another_file_has_lead_to_it(tmp_path: Path) -> None:
    base = {"latent_channels": 3, "loss": {"_target_": "DiceCELoss"}}
    bundle = write_bundle(tmp_path, train={"network_def#in_channels": "@latent_channels"}, train_autoencoder=base)
    (finding,) = check(bundle)
    assert finding.fix == "configs/train_autoencoder.json has it: list it first in `train.config`"


def test_a_bundle_that_a_class_runs_is_refused_by_its_name(tmp_path: Path) -> None:
    write_json(tmp_path / "configs/metadata.json", METADATA)
    write_json(tmp_path / "configs/hyper_parameters.json", {"lr": 0.1, "optimizer": {"_target_": "torch.optim.SDG"}})
    source = "import cellpose\nfrom monai.bundle import BundleWorkflow\nclass VistaCell(BundleWorkflow):\n    pass\n"
    write_text(tmp_path / "scripts/workflow.py", source)
    findings = check(tmp_path)
    assert {(f.severity, f.code) for f in findings} == {
        ("error", "workflow-class"), ("error", "missing-package"), ("warning", "unknown-component"),
    }  # fmt: skip
    assert "is run by the class scripts.workflow.VistaCell" in findings[0].message
    assert "python -m monai.bundle run_workflow scripts.workflow.VistaCell" in findings[0].fix
    options = BundleOptions()
    with (
        pytest.raises(ConfigError, match=r"train.json: file not found.*the class scripts\.workflow\.VistaCell"),
        open_bundle(tmp_path, "train", options, folders={}, data={}, bounds=StageBounds((tmp_path / "out",))),
    ):
        pass
    write_json(tmp_path / "configs/metadata.json", {**METADATA, "workflow_type": "scripts.train.TrainWorkflow"})
    assert "the class scripts.train.TrainWorkflow" in check(tmp_path)[0].message


HOSTILE = "open({marker!r}, 'w').write('ran')"


def write_hostile(folder: Path, marker: Path) -> Path:
    """A bundle that leaves a marker wherever one line of it is run or imported."""
    code = HOSTILE.format(marker=str(marker))
    for module in (
        "scripts/__init__",
        "scripts/net",
        "generative/__init__",
        "fire",
        "sitecustomize",
        "lmdb",
        "conftest",
    ):
        write_text(folder / f"{module}.py", f"{code}\nclass Net:\n    pass\n")
    config = {
        "imports": ["$import scripts", "$import generative", "$from scripts.net import Net", f"$[{code}]"],
        "attack\x1b[2J": f"$[c for c in ().__class__.__base__.__subclasses__()] or {code}",
        "network_def": {"_target_": "scripts.net.Net", "x": f"${code}"},
        "other": {"_target_": "generative.networks.nets.Net"},
        "call": {"_target_": "os.system", "command": f"touch {marker}"},
        "built": {"_target_": "exec", "_mode_": "default"},
        "callable": {"_target_": f"${code}"},
        "logging": "$import antigravity",
        "macro": "%scripts/net.py::x",
        "_meta_": {"a": f"${code}"},
        "initialize": [f"${code}", "@call", "@built", "@callable", "$torch.load('x.pt', weights_only=False)"],
        "run": ["@network_def", "@other", "$scripts.net.Net()"],
    }  # fmt: skip
    write_json(folder / "configs/train.json", config)
    write_text(folder / "configs/inference.yaml", f"run: !!python/object/apply:os.system ['touch {marker}']\n")
    write_text(folder / "configs/evaluate.yaml", f"run: ['${code}']\n")
    write_json(folder / "configs/metadata.json", {"workflow_name": "scripts.net.Net", **METADATA})
    write_text(
        folder / "configs/logging.conf", f"[handlers]\nkeys=a\n[handler_a]\nclass=StreamHandler\nargs=({code},)\n"
    )
    return folder


def test_nothing_of_a_hostile_bundle_is_run_or_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    marker, bundle = tmp_path / "marker", tmp_path / "hostile"
    write_hostile(bundle, marker)
    monkeypatch.chdir(bundle)
    monkeypatch.syspath_prepend(str(bundle))
    before = set(sys.modules)
    report = check_bundle(BundleTarget("hostile", bundle))
    assert not marker.exists()
    loaded = [sys.modules[name] for name in set(sys.modules) - before]
    assert not [m for m in loaded if str(bundle) in str(getattr(m, "__file__", ""))]
    dangers = {finding.where for finding in report.findings if finding.code == "dangerous-code"}
    assert dangers == {
        "imports#3", r"attack\x1b[2J", "network_def#x", "callable#_target_", "_meta_#a", "initialize#0", "initialize#4",
    }  # fmt: skip
    foreign = next(f.message for f in report.findings if "from outside of MONAI" in f.message)
    assert "scripts.net.Net" in foreign
    assert "os.system" in foreign
    assert "(exec)" in foreign
    assert "workflow-class" in {finding.code for finding in report.findings}
    assert all(text.isprintable() for f in report.findings for text in (f.where, f.message, f.fix))


def test_the_command_runs_nothing_of_a_hostile_bundle_that_is_on_the_path(tmp_path: Path) -> None:
    marker, bundle = tmp_path / "marker", tmp_path / "hostile"
    write_hostile(bundle, marker)
    (bundle / "sitecustomize.py").unlink()  # which Python itself imports
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([os.environ.get("PYTHONPATH", ""), str(bundle)])}
    command = [sys.executable, "-c", "import sys; from voxflow.cli.main import main; sys.exit(main(['check', '.']))"]
    done = subprocess.run(command, cwd=bundle, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, "workflow-class" in done.stdout) == (2, True), done.stderr
    assert not marker.exists()


def test_the_command_checks_a_workspace_by_its_name_and_a_folder_by_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_bundle(tmp_path / "mmars/spleen/config", train={"loss#softmx": True})
    write_bundle(tmp_path / "zoo/liver")
    block = {"kind": "bundle", "trust": True, "task": "segmentation", "train": {"set": {"train#trainer#max_epochs": 2}}}
    write_text(tmp_path / "params.yaml", yaml.safe_dump({"workspaces": {"spleen": block}}))
    assert main(["check", "spleen", "--json"]) == 2
    report = json.loads(capsys.readouterr().out)
    assert (report["ok"], report["errors"], report["schema"]) == (False, 1, 1)
    assert {finding["severity"] for finding in report["findings"]} == {"error", "warning", "note"}
    assert report["warnings"] == sum(finding["severity"] == "warning" for finding in report["findings"])
    (error,) = [finding for finding in report["findings"] if finding["severity"] == "error"]
    assert (error["file"], error["path"]) == ("mmars/spleen/config/configs/train.json", "loss#softmx")
    for path in ("mmars/spleen", "mmars/spleen/config"):
        assert main(["check", path]) == 2
        assert "mmars/spleen/models/train here" in capsys.readouterr().out
    assert main(["check", "zoo/liver", "--set", "train#trainer#max_epochs=3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["zoo/liver", "  warning  [runs-code]"]
    assert "  note     ckpt_dir [replaced]" in lines
    assert lines[-1].startswith("check zoo/liver: ")
    assert main(["check", "zoo/liver", "-e", "environment.json"]) == 2
    assert "-e: a bundle has no environment file" in capsys.readouterr().err
    assert find_bundle("nowhere") is None
    write_text(tmp_path / "params.yaml", yaml.safe_dump({"workspaces": {"lung": block}}))
    with pytest.raises(ConfigError, match="mmars/lung/config: no such folder; copy the whole bundle there"):
        find_bundle("lung")


def test_the_page_has_every_code_that_a_bundle_can_get() -> None:
    root = Path(__file__).parents[2]
    documented = set(re.findall(r"`([a-z-]+)`", (root / "docs/check.md").read_text(encoding="utf-8")))
    files = ("check", "expressions", "needs", "program", "reading", "references", "redirect", "targets")
    texts = [(root / f"src/voxflow/bundle/{name}.py").read_text(encoding="utf-8") for name in files]
    codes = {code for text in texts for code in re.findall(r'"([a-z]+(?:-[a-z]+)+)"', text)} | {"replaced", "metadata"}
    assert len(codes) > 15
    assert codes - documented == set()
