"""Runs are kept in SQLite, continued by id, and a store that is away never fails the work."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from voxflow.errors import DataError, TrainingError
from voxflow.tracking import (
    NullTracker,
    begin_run,
    continue_run,
    find_common_parent,
    get_tracking_uri,
    read_run_file,
    write_run_file,
)
from voxflow.tracking.backlog import Backlog
from voxflow.tracking.provenance import flatten, read_provenance, to_params

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One SQLite store for the module: making its tables takes seconds."""
    folder = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        yield folder


def read_run(run_id: str) -> Any:
    from mlflow import MlflowClient

    return MlflowClient().get_run(run_id)


def test_a_run_keeps_params_metrics_tags_and_artifacts(store: Path) -> None:
    datalist = store / "dataset_0.json"
    datalist.write_text("{}")
    params = {"train": {"set": {"learning_rate": 0.01}}, "convert": {"pseudonym_key": "very secret"}}
    with begin_run("spleen", params=params, datalist=datalist) as tracker:
        tracker.log_metrics({"loss": 1.0, "dice": math.nan}, step=1)
        tracker.log_metrics({"loss": 0.5}, step=2)
        tracker.log_artifact(datalist, "data")
    run = read_run(tracker.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params == {"train.set.learning_rate": "0.01", "convert.pseudonym_key": "***"}
    assert run.data.metrics["loss"] == 0.5
    assert "dice" not in run.data.metrics
    assert run.data.tags["datalist_sha256"] == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    assert run.data.tags["dvc_lock_sha256"] == "none"
    copies = list((store / "mlartifacts" / "spleen").rglob("dataset_0.json"))
    assert [path.parent.name for path in copies] == ["data"]
    assert (store / "mlflow.db").is_file()


def test_later_stages_continue_the_same_run(store: Path) -> None:
    with begin_run("spleen", params={"seed": 1}) as tracker:
        write_run_file(store / "run.json", tracker, "spleen")
    assert json.loads((store / "run.json").read_text()) == {
        "run_id": tracker.run_id,
        "experiment": "spleen",
        "tracking_uri": "sqlite:///mlflow.db",
    }
    with continue_run(read_run_file(store / "run.json")) as later:
        later.log_params({"seed": 2, "engine": "onnx"})
        later.log_metrics({"mean_dice": 0.9})
        assert read_run(tracker.run_id).info.status == "RUNNING"
    run = read_run(tracker.run_id)
    assert (run.info.status, run.data.params, run.data.metrics["mean_dice"]) == (
        "FINISHED",
        {"seed": "1", "engine": "onnx"},
        0.9,
    )


@pytest.mark.usefixtures("store")
def test_a_killed_training_goes_on_in_its_own_run() -> None:
    with begin_run("spleen", params={"seed": 1}) as first:
        pass
    with begin_run("spleen", params={"seed": 1}, run_id=first.run_id) as again:
        assert again.run_id == first.run_id
        assert read_run(first.run_id).info.status == "RUNNING"
        again.log_metrics({"loss": 0.5}, step=3)
    assert read_run(first.run_id).data.metrics["loss"] == 0.5
    with begin_run("spleen", run_id="0" * 32) as unknown:
        assert unknown.run_id not in {"", "0" * 32}


@pytest.mark.usefixtures("store")
def test_runs_get_a_parent_that_is_found_again() -> None:
    def begun(name: str) -> str:
        with begin_run("folds", part=name) as tracker:
            return tracker.run_id

    children = [begun(f"fold {number}") for number in (1, 2)]
    assert find_common_parent(children) is None
    with begin_run("folds", part="cross-validation", run_id=find_common_parent(children)) as parent:
        parent.adopt([*children, "", "0" * 32])
    assert [read_run(child).data.tags["mlflow.parentRunId"] for child in children] == [parent.run_id] * 2
    names = [read_run(run).info.run_name for run in (children[0], parent.run_id)]
    assert [name[:-17] for name in names] == ["folds fold 1", "folds cross-validation"]
    assert find_common_parent(children) == parent.run_id
    assert find_common_parent([*children, begun("fold 3")]) is None


@pytest.mark.usefixtures("store")
def test_a_failure_ends_the_run_as_failed() -> None:
    with pytest.raises(TrainingError, match="NaN"), begin_run("spleen") as tracker:
        raise TrainingError("NaN")
    assert read_run(tracker.run_id).info.status == "FAILED"


@pytest.mark.usefixtures("store")
def test_an_interruption_ends_the_run_as_killed() -> None:
    with pytest.raises(KeyboardInterrupt), begin_run("spleen") as tracker:
        raise KeyboardInterrupt
    assert read_run(tracker.run_id).info.status == "KILLED"


@pytest.mark.usefixtures("store")
def test_work_that_was_ended_early_ends_the_run_as_killed() -> None:
    with begin_run("spleen") as tracker:
        tracker.mark_interrupted()
    assert read_run(tracker.run_id).info.status == "KILLED"


@pytest.mark.usefixtures("store")
def test_system_metrics_are_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("voxflow.tracking.recording.SYSTEM_METRICS_INTERVAL_S", 0.2)
    with begin_run("spleen") as tracker:
        time.sleep(0.8)
    assert "system/cpu_utilization_percentage" in read_run(tracker.run_id).data.metrics


@pytest.mark.usefixtures("store")
def test_the_load_and_memory_of_gpus_are_among_the_system_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a stand-in for the driver's library, which says what two GPUs do."""
    import pynvml

    monkeypatch.setattr("voxflow.tracking.recording.SYSTEM_METRICS_INTERVAL_S", 0.2)
    for name, answer in {
        "nvmlInit": lambda: None,
        "nvmlDeviceGetCount": lambda: 2,
        "nvmlDeviceGetHandleByIndex": lambda number: number,
        "nvmlDeviceGetMemoryInfo": lambda number: SimpleNamespace(used=20e9 * (number + 1), total=80e9),
        "nvmlDeviceGetUtilizationRates": lambda number: SimpleNamespace(gpu=97 - number),
        "nvmlDeviceGetPowerUsage": lambda _: 350_000,
        "nvmlDeviceGetEnforcedPowerLimit": lambda _: 700_000,
    }.items():
        assert hasattr(pynvml, name)
        monkeypatch.setattr(pynvml, name, answer)
    with begin_run("spleen") as tracker:
        time.sleep(0.8)
    metrics = read_run(tracker.run_id).data.metrics
    assert [metrics[f"system/gpu_{number}_utilization_percentage"] for number in range(2)] == [97, 96]
    assert [metrics[f"system/gpu_{number}_memory_usage_percentage"] for number in range(2)] == [25, 50]
    assert metrics["system/gpu_0_power_usage_watts"] == 350


def test_an_exported_model_can_be_loaded_and_registered(store: Path) -> None:
    import mlflow
    import numpy as np
    import onnx
    from onnx import TensorProto, helper

    shape = ["batch", 1, 4]
    graph = helper.make_graph(
        [helper.make_node("Neg", ["image"], ["logits"])],
        "negate",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, shape)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, str(store / "model.onnx"))
    with begin_run("spleen") as tracker:
        uri = tracker.log_model(store / "model.onnx")
    image = np.arange(4, dtype=np.float32).reshape(1, 1, 4)
    np.testing.assert_array_equal(mlflow.pyfunc.load_model(uri).predict(image)["logits"], -image)
    assert mlflow.register_model(uri, "spleen").run_id == tracker.run_id


@pytest.mark.usefixtures("store")
def test_nothing_is_said_when_all_is_well(capfd: pytest.CaptureFixture[str]) -> None:
    with begin_run("quiet") as tracker:
        tracker.log_metrics({"loss": 1.0})
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "uri", ["sqlite:////nowhere/at/all.db", "./mlruns", "http://127.0.0.1:9"], ids=["folder", "file store", "server"]
)
def test_a_store_that_is_away_costs_one_warning(
    uri: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with begin_run("spleen", params={"seed": 1}) as tracker:
        tracker.log_metrics({"loss": 1.0})
    assert tracker.run_id == ""
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("warning: the MLflow store can't be used")


def test_what_a_store_missed_is_sent_when_it_is_back(
    store: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError("No space left on device")

    with begin_run("spleen", params={"seed": 1}) as tracker:
        with monkeypatch.context() as patch:
            patch.setattr("mlflow.MlflowClient.log_batch", full)
            tracker.log_metrics({"loss": 1.0}, step=1)
            tracker.log_metrics({"loss": 0.5}, step=2)
        tracker.log_tags({"after": "all"})
        assert [path.stem for path in (store / ".voxflow/unsent").iterdir()] == [tracker.run_id]
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "could not record metrics; this and what follows is kept in" in lines[0]
    assert list((store / ".voxflow/unsent").iterdir()) == []
    run = read_run(tracker.run_id)
    assert (run.info.status, run.data.tags["after"]) == ("FINISHED", "all")
    assert history(tracker.run_id, "loss") == [(1, 1.0), (2, 0.5)]


def test_a_run_that_never_reached_the_store_is_sent_by_the_next(
    store: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    (store / "curves.csv").write_text("epoch")
    with monkeypatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", "sqlite:////nowhere/at/all.db")
        with begin_run("absent", params={"seed": 7}) as tracker:
            tracker.log_metrics({"loss": 0.25}, step=3)
            tracker.log_artifact(store / "curves.csv")
            tracker.mark_interrupted()
    assert tracker.run_id == ""
    with begin_run("spleen"):
        pass
    assert "sent to MLflow what an earlier run of absent could not" in capfd.readouterr().err
    client = MlflowClient()
    experiment = client.get_experiment_by_name("absent")
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.status, run.data.params["seed"]) == ("KILLED", "7")
    assert history(run.info.run_id, "loss") == [(3, 0.25)]
    assert [file.path for file in client.list_artifacts(run.info.run_id)] == ["curves.csv"]
    assert list((store / ".voxflow/unsent").iterdir()) == []


def history(run_id: str, name: str) -> list[tuple[int, float]]:
    from mlflow import MlflowClient

    return [(m.step, m.value) for m in MlflowClient().get_metric_history(run_id, name)]


def test_two_trainings_may_make_the_store_at_once(tmp_path: Path) -> None:
    code = "import sys; from voxflow.tracking import begin_run\nwith begin_run(sys.argv[1]) as t: print(t.run_id)"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    environment.pop("MLFLOW_TRACKING_URI", None)
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code, name], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True
        )
        for name in ("spleen", "chest")
    ]
    ids = [process.communicate(timeout=120)[0].strip() for process in started]
    assert all(ids)
    assert ids[0] != ids[1]


def test_a_missing_artifact_is_named(store: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with begin_run("spleen") as tracker:
        tracker.log_artifact(store / "absent.png")
        tracker.log_metrics({"loss": 1.0})
    assert "absent.png is not there" in capfd.readouterr().err
    assert read_run(tracker.run_id).data.metrics["loss"] == 1.0


def test_without_a_run_nothing_is_recorded(tmp_path: Path) -> None:
    write_run_file(tmp_path / "run.json", NullTracker(), "spleen")
    with continue_run(read_run_file(tmp_path / "run.json")) as tracker:
        assert tracker == NullTracker()
        tracker.log_artifact(tmp_path / "absent")


def test_passwords_are_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@mlflow.hospital:5000/x")
    write_run_file(tmp_path / "run.json", NullTracker(), "spleen")
    assert json.loads((tmp_path / "run.json").read_text())["tracking_uri"] == "https://mlflow.hospital:5000/x"


def test_an_experiment_in_a_copy_records_in_the_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / ".dvc/tmp/exps/copy"
    copy.mkdir(parents=True)
    monkeypatch.chdir(copy)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    assert get_tracking_uri() == "sqlite:///mlflow.db"
    monkeypatch.setenv("DVC_EXP_NAME", "calm-copy")
    assert get_tracking_uri() == f"sqlite:///{tmp_path}/mlflow.db"
    assert Backlog.for_run("cubes", "7").path == tmp_path / ".voxflow/unsent/7.jsonl"
    write_run_file(copy / "run.json", NullTracker(), "cubes")
    assert json.loads((copy / "run.json").read_text())["tracking_uri"] == "sqlite:///mlflow.db"
    for uri, used in (
        ("sqlite:///own.db", f"sqlite:///{tmp_path}/own.db"),
        ("sqlite:////a/b.db", "sqlite:////a/b.db"),
    ):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        assert get_tracking_uri() == used
    monkeypatch.chdir(tmp_path)
    assert get_tracking_uri() == "sqlite:////a/b.db"
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert get_tracking_uri() == "sqlite:///mlflow.db"


@pytest.mark.usefixtures("store")
def test_experiments_of_one_commit_get_one_parent_that_is_no_cross_validation(monkeypatch: pytest.MonkeyPatch) -> None:
    def begun(name: str, commit: str) -> str:
        monkeypatch.setenv("DVC_EXP_NAME", name)
        monkeypatch.setenv("DVC_EXP_BASELINE_REV", commit)
        with begin_run("sweep") as tracker:
            return tracker.run_id

    first, second, elsewhere = begun("one", "a" * 40), begun("two", "a" * 40), begun("other", "b" * 40)
    above = [read_run(run_id).data.tags["mlflow.parentRunId"] for run_id in (first, second, elsewhere)]
    assert above[0] == above[1] != above[2]
    assert [read_run(run_id).info.run_name for run_id in (first, above[0])] == ["one", "experiments on aaaaaaa"]
    assert read_run(above[0]).info.status == "FINISHED"
    assert find_common_parent([first, second]) is None


@pytest.mark.parametrize("text", ["", "[]", '{"run": 1}'])
def test_a_run_file_without_an_id_is_wrong_input(text: str, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(DataError, match=r'run\.json: expected \{"run_id"'):
        read_run_file(tmp_path / "run.json")


def test_a_missing_run_file_says_who_writes_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the stage train writes it"):
        read_run_file(tmp_path / "run.json")


def test_params_are_flattened_as_params_yaml_names_them() -> None:
    block = {"train": {"set": {"train.loss.name": "Dice"}, "seed": 3}, "validate": {}}
    assert flatten(block) == {"train.set.train.loss.name": "Dice", "train.seed": 3, "validate": {}}


@pytest.mark.usefixtures("store")
def test_metrics_of_classes_whose_names_meet_are_all_kept() -> None:
    names = ["liver<1500", "liver>1500", "GTV/28", "GTV 28", "GTV//28", "../x", "Organ", "organ"]
    values = {f"test/dice_{name}": number for number, name in enumerate(names, start=1)}
    with begin_run("spleen") as tracker:
        tracker.log_metrics(values)
    recorded = {n: v for n, v in read_run(tracker.run_id).data.metrics.items() if not n.startswith("system/")}
    assert sorted(recorded.values()) == sorted(values.values())
    assert recorded["test/dice_GTV/28"] == values["test/dice_GTV/28"]


@pytest.mark.usefixtures("store")
def test_an_experiment_is_never_a_place_in_a_path() -> None:
    with begin_run("..") as tracker:
        pass
    from mlflow import MlflowClient

    assert MlflowClient().get_experiment(read_run(tracker.run_id).info.experiment_id).name == "unnamed"


def test_names_that_mlflow_refuses_are_mended() -> None:
    assert to_params({"Dice#Alias": "x" * 9000, "pseudonym_key": None}) == {
        "Dice_Alias-7bae28": "x" * 5900,
        "pseudonym_key": "None",
    }


def test_outside_a_repository_there_is_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert set(read_provenance(None).values()) == {"none"}


def test_a_backlog_that_a_full_disk_cut_off_takes_and_gives_what_comes_later(tmp_path: Path) -> None:
    for cut in (b"", b'{"experiment": "cu', b'{"experiment": "cubes", "run_id": "7"}\n{"time": 1, "na'):
        backlog = Backlog(tmp_path / "7.jsonl", "cubes", "7")
        backlog.path.write_bytes(cut)
        entries: list[Any] = []
        if not cut:
            backlog.send(entries.append)
            assert (entries, backlog.is_waiting) == ([], False)
        backlog.add({"name": "loss"})
        assert Backlog.read(backlog.path) == backlog
        backlog.send(entries.append)
        assert [entry["name"] for entry in entries] == ["loss"]
        assert not backlog.is_waiting
