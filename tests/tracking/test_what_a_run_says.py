"""A run says what it is: its name, its description, its datasets; and its experiment opens on the trainings."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from voxflow.tracking import begin_run
from voxflow.tracking.inputs import describe_run, name_run, read_parts

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PARTS = {"training": [{"image": "a"}, {"image": "b"}], "validation": [{"image": "c"}], "labels": {"1": "spleen"}}
FACTS = {"network": "SegAhnet", "loss": "Dice", "patch": "96 x 96 x 32"}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("store")
    (folder / "dataset_0.json").write_text(json.dumps(PARTS))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        yield folder


def client() -> Any:
    from mlflow import MlflowClient

    return MlflowClient()


def test_a_run_is_named_by_workspace_data_and_date(store: Path) -> None:
    datalist = store / "dataset_0.json"
    with begin_run("spleen", datalist=datalist) as tracker:
        pass
    name = client().get_run(tracker.run_id).info.run_name
    assert re.fullmatch(r"spleen data-[0-9a-f]{7} \d{4}-\d\d-\d\d \d\d:\d\d", name)
    same = name_run("spleen", datalist)
    datalist.write_text(json.dumps(PARTS | {"validation": [{"image": "d"}]}))
    other = name_run("spleen", datalist, "fold 1")
    datalist.write_text(json.dumps(PARTS))
    assert same.split()[:2] == name.split()[:2]
    assert other.split()[:3] == ["spleen", "fold", "1"]
    assert other.split()[3] != name.split()[1]


def test_a_run_that_goes_on_keeps_its_name_and_what_a_person_wrote(store: Path) -> None:
    with begin_run("spleen") as tracker:
        pass
    client().set_tag(tracker.run_id, "mlflow.note.content", "the good one")
    client().set_tag(tracker.run_id, "mlflow.runName", "good")
    with begin_run("spleen", run_id=tracker.run_id, datalist=store / "dataset_0.json"):
        pass
    run = client().get_run(tracker.run_id)
    assert (run.info.run_name, run.data.tags["mlflow.note.content"]) == ("good", "the good one")


def test_an_experiment_of_dvc_keeps_dvcs_name(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_EXP_NAME", "rusty-moon")
    with begin_run("spleen", datalist=store / "dataset_0.json") as tracker:
        pass
    assert client().get_run(tracker.run_id).info.run_name == "rusty-moon"


def test_network_loss_and_patch_are_parameters_and_stand_in_the_description(store: Path) -> None:
    with begin_run("spleen", params={"train": {"seed": 1}}, facts=FACTS, datalist=store / "dataset_0.json") as tracker:
        pass
    run = client().get_run(tracker.run_id)
    assert run.data.params == {"train.seed": "1", **FACTS}
    note = run.data.tags["mlflow.note.content"]
    assert "2 training, 1 validation" in note
    assert "network: SegAhnet" in note
    assert "best_validation/" in note


def test_the_parts_of_the_datalist_are_datasets_of_the_run(store: Path) -> None:
    datalist = store / "dataset_0.json"
    with begin_run("spleen", datalist=datalist) as tracker:
        pass
    with begin_run("spleen", datalist=datalist, run_id=tracker.run_id):
        pass
    inputs = client().get_run(tracker.run_id).inputs.dataset_inputs
    found = {
        entry.tags[0].value: (entry.dataset.name, json.loads(entry.dataset.profile)["num_rows"]) for entry in inputs
    }
    assert found == {"training": ("spleen training", 2), "validation": ("spleen validation", 1)}
    assert len(inputs) == 2
    assert {entry.dataset.digest for entry in inputs} == {part.digest for part in read_parts(datalist)}
    text = json.dumps([entry.dataset.to_dictionary() for entry in inputs])
    assert '"a"' not in text


@pytest.mark.parametrize("content", [None, "no JSON", "[]", '{"training": "x"}'])
def test_without_a_datalist_a_run_has_a_name_all_the_same(tmp_path: Path, content: str | None) -> None:
    datalist = tmp_path / "dataset_0.json"
    if content is not None:
        datalist.write_text(content)
    assert re.fullmatch(r"spleen \d{4}-\d\d-\d\d \d\d:\d\d", name_run("spleen", datalist))
    assert describe_run("spleen", datalist, {}).startswith("Training of **spleen**.")


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("kind", [None, "", "no_inferred_type", "genai_development_inferred"])
def test_an_experiment_opens_on_its_trainings(kind: str | None) -> None:
    name = f"old {kind}"
    if kind is not None:
        # As earlier versions left it, and MLflow's pages guessed it.
        tags = {"mlflow.experimentKind": kind} if kind else {}
        client().create_experiment(name, tags=tags)
    with begin_run(name):
        pass
    assert client().get_experiment_by_name(name).tags["mlflow.experimentKind"] == "custom_model_development"


@pytest.mark.usefixtures("store")
def test_a_kind_that_a_person_chose_stays() -> None:
    client().create_experiment("chosen", tags={"mlflow.experimentKind": "classification"})
    with begin_run("chosen"):
        pass
    assert client().get_experiment_by_name("chosen").tags["mlflow.experimentKind"] == "classification"


def test_what_a_store_missed_has_its_datasets_later(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////nowhere/at/all.db")
    with begin_run("away", datalist=store / "dataset_0.json"):
        pass
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    with begin_run("here"):
        pass
    experiment = client().get_experiment_by_name("away")
    (run,) = client().search_runs([experiment.experiment_id])
    assert len(run.inputs.dataset_inputs) == 2
    assert run.info.run_name.startswith("away data-")
