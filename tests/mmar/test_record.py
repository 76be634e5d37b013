"""An MMAR by itself keeps no record; one in a repository, or told of a store, does."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import mlflow
import pytest

from tests.mmar.conftest import QUICK
from voxflow.cli import pull
from voxflow.cli.apps import evaluate_main, export_main, train_main

if TYPE_CHECKING:
    from pathlib import Path


def test_an_mmar_by_itself_keeps_no_record(segmentation: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert train_main(["-m", str(segmentation), "--set", "epochs=1", *QUICK]) == 0
    assert not list(tmp_path.rglob("mlflow.db"))
    assert not (segmentation / "models" / "run.json").exists()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # MLflow's own, of its database and its ONNX flavour
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_in_a_repository_one_run_holds_it_all_and_its_model_can_be_pulled(
    segmentation: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("dvc.yaml", "params.yaml"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    # As set_env.sh of old MMARs names the folder.
    assert train_main(["-m", f"{segmentation}/commands/..", "--set", "epochs=1", *QUICK]) == 0
    assert export_main(["--model_file_path", str(segmentation / "models")]) == 0
    assert evaluate_main(["-m", str(segmentation)]) == 0
    run_id = json.loads((segmentation / "models" / "run.json").read_text())["run_id"]
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    client = mlflow.MlflowClient()
    run = client.get_run(run_id)
    assert {"train/steps", "eval/mean_dice"} <= run.data.metrics.keys()
    assert client.get_experiment(run.info.experiment_id).name == segmentation.name
    assert run.data.params["epochs"] == "1"
    model = client.search_logged_models(experiment_ids=[run.info.experiment_id])[0]
    mlflow.register_model(f"models:/{model.model_id}", "boxes")
    client.set_registered_model_alias("boxes", "champion", 1)
    capsys.readouterr()
    assert pull.main(["-lm"]) == 0
    assert any(line.split()[:3] == ["boxes", "registry", "1"] for line in capsys.readouterr().out.splitlines())
    assert pull.main(["-lv", "-m", "boxes"]) == 0
    assert capsys.readouterr().out.split() == ["1", "registry", "champion"]
    assert pull.main(["-m", "boxes", "-v", "champion", "-d", "pulled"]) == 0
    pulled = tmp_path / "pulled"
    assert (pulled / "model.pt").read_bytes() == (segmentation / "models" / "model.pt").read_bytes()
    assert (pulled / "model.fzn.onnx").is_file()
    assert (
        evaluate_main(["-m", str(segmentation), "--set", f"model_loader.args.model_file_path={pulled}/model.fzn.pb"])
        == 0
    )
