"""The stage train: from a repository's files to model, curves, metrics and run file, and what stops it early."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
import yaml

from tasks import train as stage_program
from tasks.common.stage import Stage
from tests.tasks.cubes import write_cubes
from voxflow.errors import ConfigError
from voxflow.files import write_json
from voxflow.tracking import NullTracker


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """A workspace ``cubes`` whose stages up to split have run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(stage_program, "begin_run", lambda *_, **__: contextlib.nullcontext(NullTracker("run7")))
    block = write_cubes(tmp_path)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump({"workspaces": {"cubes": block}}))
    return Stage("cubes", "train", block)


def test_trains_and_writes_what_later_stages_read(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    assert stage_program.run(stage) == 0
    names = {path.name for path in (stage.models / "train").iterdir()}
    assert names == {"model.pt", "model_final.pt", "events", "run.json"}
    assert (stage.models / "curves.csv").read_text().startswith("epoch,train_loss,learning_rate,seconds,mean_dice")
    assert json.loads((stage.models / "train" / "run.json").read_text())["run_id"] == "run7"
    numbers = json.loads((stage.models / "train.json").read_text())
    assert numbers["epochs"] == 2
    assert 0 <= numbers["mean_dice"] <= 1
    assert capsys.readouterr().err.splitlines()[-1].startswith("train cubes: 2 epochs, 0.0 min in ")


def test_an_interrupted_training_ends_with_130(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    from voxflow.training.interruption import Interruption

    def asked_at_once(self: Interruption) -> Interruption:
        self.is_requested = True
        return self

    monkeypatch.setattr(Interruption, "__enter__", asked_at_once)
    assert stage_program.run(stage) == 130
    assert (stage.models / "train" / "model_final.pt").exists()


def test_a_wrong_configuration_is_said_before_any_data_is_read(stage: Stage) -> None:
    path = stage.mmar / "config/config_train.json"
    config = json.loads(path.read_text())
    config["train"]["loss"]["name"] = "Dise"
    config["train"]["optimizer"]["args"] = {"learning_rate": 1}
    write_json(path, config)
    (stage.datalists / "dataset_0.json").unlink()
    with pytest.raises(ConfigError, match="unknown loss 'Dise'; write 'Dice'") as caught:
        stage_program.run(stage)
    assert [finding.partition(": ")[0] for finding in caught.value.findings] == [
        *["mmars/cubes/config/config_train.json"] * 2,
        "data/datalists/cubes/dataset_0.json",
    ]
    assert not stage.models.exists()


def test_a_datalist_that_names_a_missing_file_is_said(stage: Stage) -> None:
    (stage.resampled / "cube1.nii.gz").unlink()
    with pytest.raises(ConfigError, match=r"dataset_0.json: training\[1\].image: file not found: .*cube1.nii.gz"):
        stage_program.run(stage)


def test_a_warning_of_the_check_is_said_and_training_goes_on(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    path = stage.datalists / "dataset_0.json"
    write_json(path, json.loads(path.read_text()) | {"numTraining": 9})
    assert stage_program.run(stage) == 0
    warning = (
        "train cubes: warning: data/datalists/cubes/dataset_0.json: numTraining: 9, but 'training' lists 3; write 3"
    )
    assert warning in capsys.readouterr().err


def test_a_misspelt_option_is_said_with_its_place(stage: Stage) -> None:
    wrong = Stage("cubes", "train", {**stage.block, "train": {"precison": "bf16"}})
    with pytest.raises(ConfigError, match=r"workspaces.cubes.train.precison: Extra inputs"):
        stage_program.run(wrong)


@pytest.mark.filterwarnings("ignore")  # MONAI's own modules warn of their age
def test_a_workspace_of_clara_4_is_checked_and_trains(stage: Stage) -> None:
    example = Path(__file__).parent.parent / "config/clara4/segmentation_ct_spleen.json"
    write_json(stage.mmar / "config/config_train.json", json.loads(example.read_text()))
    small = {
        "epochs": 2,
        "train.model.args.channels": [4, 8],
        "train.model.args.strides": [2],
        "train.pre_transforms[4].args.spatial_size": [16, 16, 16],
        "validate.inferer.args.roi_size": [16, 16, 16],
        **{"TRAIN_DATALIST_KEY": "training", "VAL_DATALIST_KEY": "validation", "MMAR_CKPT_DIR": "m"},
    }
    block = {**stage.block, "train": {"threads": 1, "workers": 0, "set": small}}
    assert stage_program.run(Stage("cubes", "train", block)) == 0
    assert json.loads((stage.models / "train.json").read_text())["epochs"] == 2
    broken = {**block, "train": {"set": small | {"train.loss.name": "DiceLos"}}}
    with pytest.raises(ConfigError, match="unknown loss 'DiceLos'; write 'DiceLoss'"):
        stage_program.run(Stage("cubes", "train", broken))
