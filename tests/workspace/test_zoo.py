"""The model zoo: published names, scores and values, in workspaces that are complete and check clean."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import nibabel
import numpy as np
import pytest
import yaml

from tests.tables import read_table
from tests.tasks.test_brats import write_brats
from voxflow.config import load_workflow, read_json
from voxflow.datalist import Datalist
from voxflow.dicom import ConvertOptions, convert_folder
from voxflow.errors import ConfigError, DataError
from voxflow.workspace import create_workspace, list_templates, make_mmar, recognise_source
from voxflow.workspace.zoo import find_model, read_zoo
from voxflow.workspace.zoo.files import fill_holes

SEEDS = Path(__file__).parents[1] / "config" / "seeds"
COMMANDS = ("set_env", "train", "train_finetune", "train_2gpu", "train_2gpu_finetune", "infer", "validate", "export")
NAMES = sorted(read_zoo())
# By the short names, as the Transfer Learning guide 2.0 lists them: Dice or AUC, training and validation cases.
PUBLISHED = {
    "brain_br16_full": ([0.86, 0.90, 0.77], (285,)),
    "brain_br16_t1c2tc": ([0.86], (285,)),
    "liver": ([0.946, 0.540], (104, 27)),
    "hippocampus": ([0.858, 0.846], (208, 52)),
    "lung": ([0.383], (50, 13)),
    "prostate": ([0.467, 0.519], (25, 7)),
    "heart": ([0.912], (16, 4)),
    "pancreas": ([0.640, 0.341], (224, 57)),
    "colon": ([0.370], (100, 26)),
    "hepatic_vessel": ([0.569, 0.391], (242, 61)),
    "spleen": ([0.957], (32, 9)),
    "chestxray": ([0.868], ()),
}


@pytest.fixture
def mmar(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    name, variant = request.param
    return make_mmar(name, tmp_path / "mmar", variant=variant)


every_workspace = pytest.mark.parametrize(
    "mmar", [(name, variant) for name in NAMES for variant in ("published", "cpu")], indirect=True, ids="-".join
)


@pytest.mark.parametrize("short", PUBLISHED)
def test_published_scores_and_cases_are_told(tmp_path: Path, short: str) -> None:
    scores, cases = PUBLISHED[short]
    model = find_model(short)
    assert model is not None
    assert list(model.scores.values()) == scores
    readme = (make_mmar(short, tmp_path / "mmar") / "docs/Readme.md").read_text()
    assert all(f"| {score:.3f} |" in readme for score in scores)
    assert all(re.search(rf"\b{count} (cases|training|validation)", readme) for count in cases)
    assert "1 x 1 x 1 mm" in readme or short == "chestxray"


def test_every_model_has_the_names_of_both_toolkits() -> None:
    assert {model.name for model in map(find_model, PUBLISHED) if model} == set(read_zoo())
    for short in PUBLISHED:
        task = "classification" if short == "chestxray" else "segmentation"
        assert find_model(f"{task}_{short}") is find_model(short)
    assert find_model("segmentation_mri_brain_br16_full") is find_model("segmentation_mri_brain_tumors_br16_full")
    names = [name for model in read_zoo().values() for name in (model.name, *model.aliases)]
    assert len(names) == len(set(names))
    assert find_model("segmentation_ct") is None


def test_the_list_has_one_line_a_template() -> None:
    lines = list_templates()
    assert lines.keys() >= {*read_zoo(), "segmentation", "segmentation_ct", "classification"}
    assert all(line and "\n" not in line for line in lines.values())
    assert lines["segmentation_ct_spleen"].endswith("published Dice spleen 0.957; in short spleen")


@every_workspace
def test_a_workspace_is_complete_and_has_no_holes(mmar: Path) -> None:
    datalist = "plco.json" if (mmar / "config/plco.json").exists() else "dataset_0.json"
    for name in ("config_train.json", "config_validation.json", "environment.json", datalist):
        assert json.loads((mmar / "config" / name).read_text())
    for command in COMMANDS:
        assert os.access(mmar / "commands" / f"{command}.sh", os.X_OK)
    for name in ("docs/Readme.md", "docs/license.txt", "resources/log.config"):
        assert (mmar / name).stat().st_size
    assert (mmar / "models").is_dir()
    assert (mmar / "eval").is_dir()
    for file in filter(Path.is_file, mmar.rglob("*")):
        assert not re.search(r"@\w+@", file.read_text()), file


@every_workspace
def test_a_training_configuration_checks_clean(mmar: Path) -> None:
    workflow = load_workflow(mmar / "config/config_train.json", environment=mmar / "config/environment.json")
    assert workflow.train.image_pipeline.args["data_file_base_dir"].startswith("/workspace/data/")
    assert workflow.task == read_json(mmar / "config/environment.json")["PROCESSING_TASK"]


@every_workspace
def test_the_example_datalist_fits_channels_and_labels(mmar: Path) -> None:
    task = read_json(mmar / "config/environment.json")["PROCESSING_TASK"]
    datalist = Datalist.read(mmar / "config" / ("plco.json" if task == "classification" else "dataset_0.json"))
    assert [len(datalist.cases(key)) for key in ("training", "validation")] == [3, 1]
    modalities = datalist.metadata["modality"]
    assert all(len(case.image) == len(modalities) for case in datalist.cases("training"))
    assert all(len(case.label) == 15 for case in datalist.cases("training") if isinstance(case.label, tuple))


@pytest.mark.parametrize("name", ["spleen", "chestxray"])
def test_printed_configurations_are_kept_to_the_letter(tmp_path: Path, name: str) -> None:
    written = json.loads((make_mmar(name, tmp_path / "mmar") / "config/config_train.json").read_text())
    printed = json.loads((SEEDS / f"clara3_{name}_train.json").read_text())
    # The guide's script sets what the chest radiographs' file leaves to the defaults.
    extra = {"num_training_epoch_per_valid": 1, "use_amp": False}
    assert written == {**extra, **printed}


@pytest.mark.parametrize("mmar", [(name, "published") for name in NAMES], indirect=True, ids="-".join)
def test_training_and_validation_agree_on_classes(mmar: Path) -> None:
    config = read_json(mmar / "config/config_validation.json")
    train = read_json(mmar / "config/config_train.json")
    scored = {metric["args"]["field"] for metric in config["val_metrics"]}
    fields = {name for t in config.get("post_transforms", []) for name in _names(t)} | {"model"}
    truths = {name for t in config.get("label_transforms", []) for name in _names(t)} | {"label"}
    assert scored <= fields
    assert {metric["args"]["label_field"] for metric in config["val_metrics"]} <= truths
    assert {writer["args"]["field"] for writer in config["writers"]} <= fields
    # What is scored has been made of exactly the network's channels.
    network = train["train"]["model"]["args"]
    if "num_classes" in network:
        assert len(fields - {"model"}) == network["num_classes"]


def _names(transform: dict[str, dict[str, list[str]]]) -> list[str]:
    return transform["args"].get("label_names") or transform["args"].get("channel_names") or []


@pytest.mark.parametrize("name", NAMES)
def test_in_a_repository_the_stages_get_the_data_ready(tmp_path: Path, name: str) -> None:
    (tmp_path / "params.yaml").write_text("workspaces: {}\n")
    (tmp_path / "images").mkdir()
    folder = create_workspace("mine", Path("images"), name, root=tmp_path, variant="cpu")
    block = yaml.safe_load((tmp_path / "params.yaml").read_text())["workspaces"]["mine"]
    options = ConvertOptions.model_validate(block["convert"])
    model = read_zoo()[name]
    brain = {"whole tumour": 2, "tumour core": 1, "enhancing tumour": 4}
    named = {n: int(v) for v, n in model.labels.items() if v != "0"} or None
    assert options.labels == (brain if model.family == "brain" else named)
    assert tuple(options.channels or ()) == (model.channels if model.rules else ())
    grid = block["resample"]
    assert grid.get("spacing_mm") == [1, 1, 1] or tuple(grid["size"]) == model.cpu.patch
    config = read_json(folder / "config/config_train.json")
    assert block["train"]["set"] == {"epochs": config["epochs"], "learning_rate": config["learning_rate"]}
    assert read_json(folder / "config/environment.json")["DATA_ROOT"] == "data/resampled/mine"


@pytest.mark.parametrize(("name", "used"), [("brain_br16_full", ["T1c", "T1", "T2", "FLAIR"]), ("t1c2tc", ["T1c"])])
def test_block_of_a_layout_takes_the_models_channels_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, used: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text("workspaces: {}\n")
    write_brats(Path("brats"), cases=3)
    template = name if name.startswith("brain") else f"brain_br16_{name}"
    create_workspace("mine", Path("brats"), template, layout=recognise_source(Path("brats")))
    block = yaml.safe_load(Path("params.yaml").read_text())["workspaces"]["mine"]
    assert (block["convert"]["layout"], list(block["convert"]["channels"])) == ("brats", used)
    options = ConvertOptions.model_validate(block["convert"] | {"pseudonym_key": "k", "mapping": False})
    convert_folder(Path("brats"), Path("volumes"), options)
    rows = read_table(Path("volumes/cases.csv"))
    endings = {"T1c": "t1ce", "T1": "t1", "T2": "t2", "FLAIR": "flair"}
    for row, source in zip(rows, sorted(Path("brats").iterdir()), strict=True):
        for image, channel in zip(row["image"].split(";"), used, strict=True):
            expected = nibabel.load(source / f"{source.name}_{endings[channel]}.nii.gz").get_fdata()
            assert np.array_equal(nibabel.load(Path("volumes") / image).get_fdata(), expected)


def test_layout_without_a_channel_of_the_model_is_refused(tmp_path: Path) -> None:
    write_brats(tmp_path / "brats", cases=3)
    options = ConvertOptions.model_validate(
        {"layout": "brats", "channels": {"ADC": {"description": "adc"}}, "pseudonym_key": "k", "mapping": False}
    )
    with pytest.raises(DataError, match=r"no channel 'ADC': it has T1, T1c, T2, FLAIR"):
        convert_folder(tmp_path / "brats", tmp_path / "volumes", options)


def test_outside_a_repository_the_mmar_stands_alone(tmp_path: Path) -> None:
    (tmp_path / "nifti").mkdir()
    first = create_workspace("first", template="hippocampus", root=tmp_path)
    second = create_workspace("second", Path("nifti"), "hippocampus", root=tmp_path)
    assert (first, second) == (tmp_path / "first", tmp_path / "second")
    assert read_json(first / "config/environment.json")["DATA_ROOT"] == "/workspace/data/Task04_Hippocampus"
    assert read_json(second / "config/environment.json")["DATA_ROOT"] == (tmp_path / "nifti").as_posix()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first", "nifti", "second"]


@pytest.mark.parametrize(
    ("template", "variant", "message"),
    [
        ("hipocampus", "published", "unknown template 'hipocampus'; did you mean 'hippocampus'"),
        ("hippocampus", "gpu", "unknown variant 'gpu'.*known: published, cpu"),
        ("segmentation_ct", "published", "params.yaml: file not found"),
    ],
)
def test_wrong_templates_and_variants_are_named(tmp_path: Path, template: str, variant: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        create_workspace("mine", template=template, root=tmp_path, variant=variant)
    assert not list(tmp_path.iterdir())


def test_in_a_repository_the_source_is_needed(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("workspaces: {}\n")
    with pytest.raises(DataError, match="--source is needed"):
        create_workspace("mine", template="spleen", root=tmp_path)


def test_an_mmar_is_never_written_over(tmp_path: Path) -> None:
    make_mmar("spleen", tmp_path / "mine")
    with pytest.raises(ConfigError, match="mine: exists already"):
        make_mmar("liver", tmp_path / "mine")
    with pytest.raises(ConfigError, match="'segmentation_ct' is no model of the zoo"):
        make_mmar("segmentation_ct", tmp_path / "other")


def test_holes_keep_the_type_of_what_fills_them() -> None:
    values = {"n": 3, "sizes": [1, 2], "none": None, "nested": {"classes": "@n@"}}
    base = {"a": "@n@", "b": ["x", "@sizes@", "y"], "c": "@none@", "d": "@nested@", "e": "{VAR}", "f": ["@nested@"]}
    assert fill_holes(base, values) == {
        "a": 3,
        "b": ["x", 1, 2, "y"],
        "d": {"classes": 3},
        "e": "{VAR}",
        "f": [{"classes": 3}],
    }
