"""A store that was moved, copied or restored works where it is; the former folder is neither read nor written."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from tasks.ops import backup, restore
from tests.postgresql import start_server
from voxflow.errors import VoxflowError
from voxflow.tracking import (
    ModelVersion,
    begin_run,
    check_store,
    continue_run,
    download_model,
    fetch_folder,
    find_run,
    find_version,
    list_runs,
    materialise_champion,
    move_store,
    register_version,
    set_alias,
)
from voxflow.tracking.moving import require_place

NAME = "spleen demo"
COLUMNS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
    ("model_versions", "source"),
)


@pytest.fixture(autouse=True)
def _own_store(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("MLFLOW_TRACKING_URI", "PREFECT_HOME"):
        monkeypatch.delenv(variable, raising=False)


def enter(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a folder as a new process does, without what MLflow remembers by the address of a store, or by a run."""
    from mlflow.tracking._tracking_service import utils

    utils._artifact_repos_cache.clear()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")


def write_onnx(path: Path) -> Path:
    tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1]) for name in ("image", "logits")]
    graph = helper.make_graph([helper.make_node("Identity", ["image"], ["logits"])], "g", tensors[:1], tensors[1:])
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(path))
    return path


def train_and_register() -> str:
    """What the stages train, export and promote record; returns the run."""
    model = write_onnx(Path("export/model.onnx"))
    with begin_run(NAME) as tracker:
        tracker.log_artifact(model, "models")
        assert tracker.log_model(model).startswith("models:/")
    set_alias(register_version(NAME, tracker.run_id, "d" * 64, {"export": model.parent}, {}), "champion")
    return tracker.run_id


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder in which a model was trained and registered, and its run."""
    folder = tmp_path_factory.mktemp("store") / "first"
    folder.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        enter(folder, patch)
        return folder, train_and_register()


@pytest.fixture
def run_id(recorded: tuple[Path, str]) -> str:
    return recorded[1]


@pytest.fixture
def old(recorded: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, as if it had been made here; with letters that addresses escape."""
    folder = tmp_path / "old place ü"
    shutil.copytree(recorded[0], folder)
    with sqlite3.connect(folder / "mlflow.db") as connection:
        for table, column in COLUMNS:
            for before, after in ((recorded[0].as_uri(), folder.as_uri()), (str(recorded[0]), str(folder))):
                connection.execute(f"UPDATE {table} SET {column} = replace({column}, ?, ?)", (before, after))  # noqa: S608
    enter(folder, monkeypatch)
    return folder


def places(database: Path) -> list[str]:
    with sqlite3.connect(database) as connection:
        rows = [connection.execute(f"SELECT {column} FROM {table}").fetchall() for table, column in COLUMNS]  # noqa: S608
    return [str(value) for column in rows for (value,) in column]


def use_everything(folder: Path, run_id: str) -> None:
    """Read and write all that is in the store."""
    version = find_version(NAME, "champion")
    assert version is not None
    assert (fetch_folder(version, "export", folder / "fetched") / "model.onnx").is_file()
    assert materialise_champion(NAME, folder / "champion") == version
    assert download_model(ModelVersion(NAME, "1", version.run_id), folder / "downloaded")
    with continue_run(run_id) as tracker:
        tracker.log_artifact(folder / "fetched/model.onnx", "later")
    assert find_run(run_id, list_runs()).run_id == run_id
    assert list(folder.glob("mlartifacts/*/*/artifacts/later/model.onnx"))
    train_and_register()


def list_files(folder: Path) -> dict[str, tuple[int, int]]:
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in paths}


def test_a_folder_that_was_moved_works_and_says_so(
    old: Path,
    run_id: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    new = tmp_path / "new"
    old.rename(new)
    enter(new, monkeypatch)
    use_everything(new, run_id)
    assert not old.exists()
    assert not [place for place in places(new / "mlflow.db") if str(old) in place or old.as_uri() in place]
    assert capfd.readouterr().err.count(f"mlflow.db was in {old}; its files are now looked for") == 1


def test_a_copy_leaves_the_original_alone(
    old: Path, run_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = tmp_path / "new"
    shutil.copytree(old, new)
    before = list_files(old)
    enter(new, monkeypatch)
    use_everything(new, run_id)
    assert list_files(old) == before
    # The original goes on as it did.
    enter(old, monkeypatch)
    use_everything(old, run_id)
    assert not [place for place in places(old / "mlflow.db") if str(new) in place]


def test_a_link_to_the_folder_and_a_place_that_was_chosen_stay(
    old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from mlflow import MlflowClient

    (tmp_path / "archive/mlartifacts/other").mkdir(parents=True)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{old}/mlflow.db")
    MlflowClient().create_experiment("other", artifact_location=str(tmp_path / "archive/mlartifacts/other"))
    before = places(old / "mlflow.db")
    (tmp_path / "link").symlink_to(old)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/link/mlflow.db")
    assert find_version(NAME, "champion") is not None
    assert places(old / "mlflow.db") == before
    assert "its files are now" not in capfd.readouterr().err


def test_a_backup_is_restored_elsewhere(
    old: Path,
    run_id: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    write_deployments(old / ".prefect/prefect.db", old)
    backup.copy_databases(tmp_path / "backup")
    first = list_files(tmp_path / "backup/mlartifacts")
    backup.copy_databases(tmp_path / "backup")
    assert list_files(tmp_path / "backup/mlartifacts") == first  # not copied again
    shutil.rmtree(old)
    new = tmp_path / "another/machine"
    new.mkdir(parents=True)
    enter(new, monkeypatch)
    restore.restore(tmp_path / "backup", is_forced=False)
    use_everything(new, run_id)
    assert not old.exists()
    lines = capfd.readouterr().err
    assert f"MLflow: files that were in {old} are now looked for, and written, in {new}" in lines
    assert f"Prefect: 1 deployments of {old} now run in {new}" in lines
    with pytest.raises(VoxflowError, match=r"mlflow.db, .prefect/prefect.db, mlartifacts would be replaced; --force"):
        restore.restore(tmp_path / "backup", is_forced=False)
    restore.restore(tmp_path / "backup", is_forced=True)


def write_deployments(database: Path, folder: Path) -> None:
    """The part of Prefect's table that says where a deployment runs."""
    database.parent.mkdir(exist_ok=True)
    step = "prefect.deployments.steps.set_working_directory"
    with sqlite3.connect(database) as connection:
        connection.execute("CREATE TABLE deployment (id TEXT, path TEXT, pull_steps JSON)")
        for name, directory in (("a", folder), ("b", Path(f"{folder}-other"))):
            steps = json.dumps([{step: {"directory": str(directory)}}])
            connection.execute("INSERT INTO deployment VALUES (?, ?, ?)", (name, str(directory), steps))


def test_deployments_follow_a_moved_folder(old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_deployments(old / ".prefect/prefect.db", old)
    restore.correct_deployments(Path(".prefect"))
    new = tmp_path / "new"
    old.rename(new)
    enter(new, monkeypatch)
    restore.correct_deployments(Path(".prefect"))
    with sqlite3.connect(".prefect/prefect.db") as connection:
        rows = {
            row[0]: (row[1], json.loads(row[2])[0].popitem()[1])
            for row in connection.execute("SELECT * FROM deployment")
        }
    assert rows == {
        "a": (str(new), {"directory": str(new)}),
        "b": (f"{old}-other", {"directory": f"{old}-other"}),
    }


@pytest.mark.parametrize(
    ("index", "reason"),
    [
        (None, "is no backup"),
        ({"databases": {"a.db": "../../etc/a.db"}}, "outside of the repository"),
        ({"databases": {"a.db": "/etc/a.db"}}, "outside of the repository"),
        ({"databases": {"mlflow.db": "mlflow.db"}}, "lacks mlflow.db"),
    ],
)
def test_what_is_no_backup_is_refused(
    index: object, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "backup").mkdir()
    if index:
        (tmp_path / "backup/backup.json").write_text(json.dumps(index))
    with pytest.raises(VoxflowError, match=reason):
        restore.restore(tmp_path / "backup", is_forced=True)


def test_settings_of_dvc_that_name_the_former_folder_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config.local").write_text("[cache]\n    dir = /former/cache\n    type = symlink\n")
    restore.move(Path("/former"))
    assert "names the former folder: dir = /former/cache; correct it" in capsys.readouterr().err


def test_a_run_whose_files_belong_to_no_folder_here_is_not_written_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"restore --moved-from /no/such/folder"):
        require_place("file:///no/such/folder/mlruns/1/2/artifacts")
    for place in (f"{tmp_path}/mlruns/1", "mlflow-artifacts:/1", "s3://bucket/mlruns/1", ""):
        require_place(place)


def test_an_entry_that_waits_is_sent_from_where_the_folder_is_now(
    old: Path,
    run_id: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", "sqlite:////nowhere/at/all.db")
        with continue_run(run_id) as tracker:
            tracker.log_artifact(Path("export/model.onnx").absolute(), "late")
            Path("gone.txt").write_text("x")
            tracker.log_artifact(Path("gone.txt").absolute())
        Path("gone.txt").unlink()
    new = tmp_path / "new"
    old.rename(new)
    enter(new, monkeypatch)
    with continue_run(run_id):
        pass
    assert list(new.glob("mlartifacts/*/*/artifacts/late/model.onnx"))
    assert f"{new}/gone.txt is not there any more" in capfd.readouterr().err
    assert not old.exists()
    assert not list(new.glob(".voxflow/unsent/*"))


def test_a_database_server_is_told_where_the_folder_is_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with start_server() as server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url("mlflow", "psycopg2"))
        former, new = tmp_path / "former", tmp_path / "new"
        former.mkdir()
        monkeypatch.chdir(former)
        run_id = train_and_register()
        former.rename(new)
        monkeypatch.chdir(new)
        with begin_run(NAME):
            pass
        assert f"restore --moved-from {former}" in capfd.readouterr().err
        assert not former.exists()
        assert move_store(former, new)
        assert not move_store(former, new)
        # In a process of its own, since MLflow remembers where a run's files are.
        program = (
            "import sys; from pathlib import Path; from voxflow.tracking import continue_run\n"
            "with continue_run(sys.argv[1]) as tracker: tracker.log_artifact(Path('export/model.onnx'), 'later')"
        )
        subprocess.run([sys.executable, "-c", program, run_id], check=True)
        assert list(new.glob("mlruns/*/*/artifacts/later/model.onnx"))
        assert not former.exists()


def test_a_store_that_can_not_be_used_is_said_without_its_password() -> None:
    with pytest.raises(VoxflowError, match=r"the MLflow store postgresql://127.0.0.1:1/x can't be used") as caught:
        check_store("postgresql://me:very-secret@127.0.0.1:1/x")
    assert "very-secret" not in str(caught.value)
    with pytest.raises(VoxflowError, match="can't be used: Could not parse") as caught:
        check_store("postgres//me:very-secret@127.0.0.1:1/x")
