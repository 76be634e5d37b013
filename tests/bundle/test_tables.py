"""The tables of ids and arguments in the documents hold what the code reads and sets, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.bundle.shape_parts import CASES
from tests.bundle.shapes import SHAPES
from tests.bundle.workspaces import Workspace
from voxflow.bundle import BundleOptions, BundleTarget, check_bundle
from voxflow.bundle.guard import StageBounds
from voxflow.bundle.options import DEFAULT_EVALUATOR
from voxflow.bundle.parts import USUAL_ENTRIES, open_bundle
from voxflow.bundle.reading import use_bundle
from voxflow.bundle.redirect import REPLACED_ARGUMENTS, WRITING_ARGUMENTS, Redirection
from voxflow.errors import ConfigError
from voxflow.files import write_json

pytest.importorskip("ignite", reason="MONAI's engines need pytorch-ignite: pip install voxflow[bundle]")
pytestmark = pytest.mark.filterwarnings("ignore")
PAGE = Path(__file__).parents[2] / "docs/bundles.md"


def read_table(first: str) -> dict[str, str]:
    """Each name of the table with this heading, with its verdict."""
    _, _, table = PAGE.read_text(encoding="utf-8").partition(f"| {first} | verdict | meaning |\n|---|---|---|\n")
    rows = [line.strip("|").split("|")[:2] for line in table.partition("\n\n")[0].splitlines()]
    return {name: verdict.strip() for names, verdict in rows for name in re.findall(r"`([^`]+)`", names)}


def test_the_table_of_ids_holds_every_id_of_the_options_and_of_monai() -> None:
    fields = BundleOptions.model_fields
    named = {"train_data", "validate_data", "infer_data", "trainer", "checkpoints", "outputs", "load_path", "network"}
    entries = {"init_id", "run_id", "final_id"}
    ids = {fields[name].default for name in named | entries} | {*DEFAULT_EVALUATOR.values(), *USUAL_ENTRIES}
    assert read_table("id").keys() == ids | {"bundle_root", "imports", "dataset_dir", "data_list_file_path"}


def test_the_table_of_arguments_holds_what_is_replaced_and_refused() -> None:
    table = {name.removeprefix("#"): verdict for name, verdict in read_table("argument").items()}
    assert table.keys() == {*REPLACED_ARGUMENTS, *WRITING_ARGUMENTS, "keys", "_disabled_"}
    assert {name for name, verdict in table.items() if verdict == "replaced"} == set(REPLACED_ARGUMENTS)
    assert {name for name, verdict in table.items() if verdict == "refused"} == {*WRITING_ARGUMENTS, "keys"}


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A configuration with every id and argument of the tables, each with a value of its own."""
    case = {"image": "case.nii.gz"}
    loading = {"_target_": "LoadImaged", "keys": "image"}
    content = {
        **{name: "stated" for name in read_table("id") if "#" not in name},
        **{part: {"dataset": {"data": [], "x": 1}, "trainer": 1, "evaluator": 1} for part in ("train", "validate")},
        "checkpointloader": {"_target_": "CheckpointLoader", "load_path": "stated"},
        "dataset": {"_target_": "PersistentDataset", "data": [], "cache_dir": "stated", "transform": loading},
        "save": {"_target_": "SaveImaged", "data_root_dir": "stated", "output_dir": "@output_dir"},
        **{name: [] for name in ("imports", "initialize", "run", "finalize")},
    }
    write_json(tmp_path / "config/configs/inference.json", content)
    write_json(tmp_path / "case.json", case)
    return tmp_path / "config"


def test_what_is_replaced_is_what_the_table_says(bundle: Path, tmp_path: Path) -> None:
    out, model = tmp_path / "out", tmp_path / "model/model.pt"
    options, items = BundleOptions(), [{"image": str(tmp_path / "images/case.nii.gz")}]
    data = dict.fromkeys(("train#dataset#data", "validate#dataset#data", "dataset#data"), items)
    bounds = StageBounds((out,), weights=model, image_root=tmp_path / "images")
    folders = {"checkpoints": model.parent, "outputs": out}
    with open_bundle(bundle, "infer", options, folders=folders, data=data, bounds=bounds) as workflow:
        values = {name: workflow.parser[name] for name in read_table("id")}
        arguments = {name: workflow.parser[name] for name in ("save#data_root_dir", "dataset#cache_dir")}
    stated: tuple[object, ...] = ("stated", [], 1)
    assert {name for name, value in values.items() if value not in stated} == {
        name for name, verdict in read_table("id").items() if verdict == "replaced"
    }
    assert values["checkpointloader#load_path"] == str(model)
    assert arguments == {"save#data_root_dir": str(tmp_path / "images"), "dataset#cache_dir": str(out / ".cache")}


@pytest.mark.parametrize("argument", WRITING_ARGUMENTS)
def test_what_is_refused_is_what_the_table_says(bundle: Path, tmp_path: Path, argument: str) -> None:
    component = {"_target_": "MetricsSaver", argument: str(tmp_path / "elsewhere")}
    options = BundleOptions(set={"imports": [component]})
    bounds = StageBounds((tmp_path / "out",), weights=tmp_path / "model.pt")
    with (
        pytest.raises(ConfigError, match=rf"imports#0#{argument}: writes to .*/elsewhere, which is not in the folder"),
        open_bundle(bundle, "infer", options, folders={}, data={}, bounds=bounds),
    ):
        pass


@pytest.mark.parametrize("name", ["template", "globbed", "paths", "merged", "endoscopic"])
def test_the_check_replaces_what_a_training_replaces(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = Workspace(tmp_path / "ws", SHAPES[name])
    options, runs = workspace.options("train"), list[set[str]]()
    original = Redirection._replace

    def note(redirection: Redirection, place: str, value: Any, words: str) -> None:
        if redirection.stage == "train":
            runs[-1].add(place)
        original(redirection, place, value, words)

    monkeypatch.setattr(Redirection, "_replace", note)
    runs.append(set())
    block = {"kind": "bundle", "trust": True, "train": options.model_dump(mode="json", exclude_unset=True)}
    check_bundle(BundleTarget("ws", workspace.bundle, "ws", block))
    runs.append(set())
    folders = {"outputs": workspace.model / "events", "checkpoints": workspace.model}
    data = {options.train_data: workspace.items(*CASES[:2]), options.validate_data: workspace.items(CASES[2])}
    bounds = StageBounds((workspace.model,))
    with (
        use_bundle(workspace.bundle),
        open_bundle(workspace.bundle, "train", options, folders=folders, data=data, bounds=bounds),
    ):
        pass
    assert runs[0] == runs[1]
    assert runs[0]
