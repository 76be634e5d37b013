"""Clara 3.1 training configurations: the published examples, precedence, and every fault at once."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from voxflow.config import load_workflow
from voxflow.errors import ConfigError

SEEDS = Path(__file__).parent / "seeds"
SPLEEN = SEEDS / "clara3_spleen_train.json"
CHEST = SEEDS / "clara3_chestxray_train.json"
ENVIRONMENT = SEEDS / "environment.json"


@pytest.fixture
def spleen() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(SPLEEN.read_text(encoding="utf-8"))
    return content


def findings_of(folder: Path, config: dict[str, Any], overrides: dict[str, Any] | None = None) -> str:
    path = folder / "config_train.json"
    path.write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(ConfigError, match="fault") as caught:
        load_workflow(path, environment=ENVIRONMENT, overrides=overrides)
    return "\n".join(caught.value.findings)


def test_reads_the_published_spleen_example() -> None:
    workflow = load_workflow(SPLEEN, environment=ENVIRONMENT)
    assert workflow.task == "segmentation"
    assert workflow.globals.determinism.python_seed == "20191201"
    assert [c.name for c in workflow.train.pre_transforms][-1] == "ScaleIntensityOscillation"
    assert workflow.train.pre_transforms[3].where == "train.pre_transforms[3]"
    assert workflow.validate.inferer.args == {"roi_size": [160, 160, 160]}


def test_reads_the_published_chest_example() -> None:
    workflow = load_workflow(CHEST, environment=ENVIRONMENT, overrides={"PROCESSING_TASK": "classification"})
    assert workflow.task == "classification"
    assert workflow.globals.num_training_epoch_per_valid == 1
    assert len(workflow.validate.metrics) == 17
    assert [c.name for c in workflow.train.aux_ops] == ["ComputeAccuracy", "ComputeBinaryPreds"]


def test_environment_wins_over_config_and_overrides_over_both(tmp_path: Path) -> None:
    environment = tmp_path / "environment.json"
    environment.write_text('{"epochs": 7, "learning_rate": 0.5, "DATA_ROOT": "a", "DATASET_JSON": "b"}')
    workflow = load_workflow(SPLEEN, environment=environment, overrides={"epochs": 9, "DATA_ROOT": "c"})
    assert workflow.globals.epochs == 9
    assert workflow.globals.learning_rate == 0.5
    assert workflow.globals.num_training_epoch_per_valid == 20
    assert workflow.train.image_pipeline.args["data_file_base_dir"] == "c"


def test_a_place_in_the_configuration_can_be_overridden() -> None:
    overrides = {"train.optimizer.name": "NovoGrad", "train.pre_transforms[2].args.a_min": -100}
    workflow = load_workflow(SPLEEN, environment=ENVIRONMENT, overrides=overrides)
    assert workflow.train.optimizer.name == "NovoGrad"
    assert workflow.train.pre_transforms[2].args["a_min"] == -100


def test_a_variable_keeps_its_type_alone_and_is_written_out_inside_text(tmp_path: Path, spleen: dict[str, Any]) -> None:
    spleen["train"]["pre_transforms"][2]["args"]["a_min"] = "{WINDOW_LOW}"
    spleen["train"]["image_pipeline"]["args"]["data_list_file_path"] = "{DATA_ROOT}/list_{WINDOW_LOW}.json"
    path = tmp_path / "config_train.json"
    path.write_text(json.dumps(spleen))
    workflow = load_workflow(path, environment=ENVIRONMENT, overrides={"WINDOW_LOW": -57, "DATA_ROOT": "/d"})
    assert workflow.train.pre_transforms[2].args["a_min"] == -57
    assert workflow.train.image_pipeline.args["data_list_file_path"] == "/d/list_-57.json"


def test_disabled_components_drop_out_unchecked(tmp_path: Path, spleen: dict[str, Any]) -> None:
    spleen["train"]["pre_transforms"][4] = {"name": "NoSuchThing", "disabled": True}
    path = tmp_path / "config_train.json"
    path.write_text(json.dumps(spleen))
    workflow = load_workflow(path, environment=ENVIRONMENT)
    assert [c.where for c in workflow.train.pre_transforms][3:5] == [
        "train.pre_transforms[3]",
        "train.pre_transforms[5]",
    ]


def test_unknown_component_and_misspelt_argument_come_together_with_suggestions(
    tmp_path: Path, spleen: dict[str, Any]
) -> None:
    spleen["train"]["pre_transforms"][4]["name"] = "RandomAxisFlp"
    arguments = spleen["train"]["pre_transforms"][2]["args"]
    arguments["a_mn"] = arguments.pop("a_min")
    lines = findings_of(tmp_path, spleen)
    assert "train.pre_transforms[4].name: unknown transform 'RandomAxisFlp'; did you mean 'RandomAxisFlip'?" in lines
    assert "train.pre_transforms[2].args.a_mn: ScaleIntensityRange takes no argument 'a_mn'; did you mean 'a_m" in lines
    assert "train.pre_transforms[2].args: ScaleIntensityRange needs the argument 'a_min'" in lines
    assert lines.count("config_train.json: ") == 3


@pytest.mark.parametrize(
    ("place", "value", "expected"),
    [
        ("epochs", "many", "epochs: .*integer.*'many'"),
        ("epochs", 0, "epochs: .*greater than 0.*received 0"),
        ("determinism.random_sed", 3, "determinism.random_sed: unknown key"),
        ("epoch", 3, "--set epoch: .*did you mean 'epochs'"),
        ("train.optimizer", {"name": "Adam", "args": {"lr": "1"}}, r"train.optimizer.args.lr: .*number, received '1'"),
        ("train.optimizer", {"name": "Adam", "arg": {}}, "train.optimizer.arg: .*did you mean 'args'"),
        ("train.optimizer", "Adam", "train.optimizer: expected an object"),
        ("train.optimizer", {"path": "my.Adam"}, "train.optimizer.path: 'my.Adam': no file custom/my.py"),
        ("train.loss", {"name": "Adam"}, "train.loss.name: 'Adam' is of kind optimizer, where a loss is expected"),
        ("train.looss", {}, "train.looss: unknown key; did you mean 'loss'"),
        ("train.pre_transforms", {}, "train.pre_transforms: expected a list"),
        ("train.pre_transforms[9].name", "x", r"--set train.pre_transforms\[9\].name: .*no '9'"),
        ("train.model.args.num_classes", "{CLASSES}", "num_classes: unknown variable 'CLASSES'"),
        ("PROCESSING_TASK", "classification", "PROCESSING_TASK: 'classification' does not fit Segmentation"),
    ],
)
def test_each_fault_names_its_place_and_the_rule(
    tmp_path: Path, spleen: dict[str, Any], place: str, value: object, expected: str
) -> None:
    if place.startswith("determinism"):
        spleen["determinism"] = {"random_sed": value}
        lines = findings_of(tmp_path, spleen)
    else:
        lines = findings_of(tmp_path, spleen, {place: value})
    assert re.search(expected, lines), lines


@pytest.mark.parametrize("missing", ["train.model", "train.loss", "validate.inferer"])
def test_a_missing_component_is_a_finding(tmp_path: Path, spleen: dict[str, Any], missing: str) -> None:
    section, key = missing.split(".")
    del spleen[section][key]
    assert f"{missing}: missing" in findings_of(tmp_path, spleen)


def test_checking_imports_neither_torch_nor_monai() -> None:
    code = (
        "import sys; from pathlib import Path; from voxflow.config import load_workflow;"
        f"load_workflow(Path({str(SPLEEN)!r}), environment=Path({str(ENVIRONMENT)!r}));"
        "sys.exit(any(name in sys.modules for name in ('torch', 'monai', 'SimpleITK', 'pandas')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
