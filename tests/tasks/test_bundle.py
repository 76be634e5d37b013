"""A workspace that is a MONAI bundle: the stages run its own configurations, watched, kept and recorded."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

import pytest
import torch

from tasks import evaluate as evaluate_stage
from tasks import export as export_stage
from tasks import infer as infer_stage
from tasks import train as train_stage
from tasks.common import bundle_export, bundle_infer, bundle_train
from tasks.common.stage import Stage
from tests.bundle.spleen import evaluate_config, inference_config, train_config
from tests.training.conftest import write_cube
from voxflow.engines import open_engine
from voxflow.errors import ConfigError, DataError
from voxflow.files import write_json
from voxflow.tracking import NullTracker

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

pytest.importorskip("ignite", reason="MONAI's engines need pytorch-ignite: pip install voxflow[bundle]")
# What MONAI and ignite warn of in their own modules is not this project's to mend.
pytestmark = pytest.mark.filterwarnings("ignore")


class Kept(NullTracker):
    """Remembers what it is told."""

    def __init__(self) -> None:
        super().__init__("run7")
        object.__setattr__(self, "rows", [])

    def log_metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        self.rows.append((step, dict(values)))  # type: ignore[attr-defined]


@pytest.fixture
def tracker() -> Kept:
    return Kept()


@pytest.fixture
def block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tracker: Kept) -> dict[str, Any]:
    """A workspace ``spleen`` whose stages up to split have run; returns its block of params."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(bundle_train, "begin_run", lambda *_, **__: contextlib.nullcontext(tracker))
    for module in (bundle_export, bundle_infer):
        monkeypatch.setattr(module, "continue_run", lambda *_: contextlib.nullcontext(tracker))
    resampled = tmp_path / "data/resampled/spleen"
    cases = [write_cube(resampled, f"cube{n}", n) for n in range(4)]
    entries = [{"image": c.image[0].name, "label": f"{c.id}_label.nii.gz", "case": c.id} for c in cases]
    split = {"training": entries[:2], "validation": entries[2:3], "testing": entries[3:]}
    write_json(tmp_path / "data/datalists/spleen/dataset_0.json", split)
    configs = tmp_path / "mmars/spleen/config/configs"
    write_json(configs / "train.json", train_config())
    write_json(configs / "evaluate.json", evaluate_config())
    write_json(configs / "inference.json", inference_config())
    tensor = {"type": "image", "format": "magnitude", "dtype": "float32", "value_range": [], "is_patch_data": True}
    image = {**tensor, "num_channels": 1, "spatial_shape": ["2*n", "2*n", "2*n"]}
    formats = {"inputs": {"image": image}, "outputs": {"pred": {**image, "num_channels": 2}}}
    write_json(configs / "metadata.json", {"network_data_format": formats})
    return {
        "kind": "bundle",
        "trust": True,
        "task": "segmentation",
        "source": "x",
        "train": {"set": {"train#trainer#max_epochs": 2}},
    }


def test_the_stages_run_the_bundles_own_configurations(
    block: dict[str, Any], tracker: Kept, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Stage("spleen", "train", block)
    assert train_stage.run(stage) == 0
    assert {"model.pt", "run.json", "events"} <= {path.name for path in (stage.models / "train").iterdir()}
    curves = (stage.models / "curves.csv").read_text().splitlines()
    assert curves[0] == "epoch,train_loss,learning_rate,seconds,val_mean_dice"
    assert [row.split(",")[0] for row in curves[1:]] == ["1", "2"]
    numbers = json.loads((stage.models / "train.json").read_text())
    assert (numbers["epochs"], numbers["steps"]) == (2, 2)
    steps = {step: values for step, values in tracker.rows if step is not None}  # type: ignore[attr-defined]
    assert steps.keys() == {1, 2}
    scores = [values["validation/val_mean_dice"] for values in steps.values()]
    assert max(scores) == pytest.approx(numbers["val_mean_dice"])
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("train spleen: 2 epochs of the bundle's own training, best")

    block["export"] = {"engines": ["onnx"], "input_size": [16, 16, 16]}
    assert export_stage.run(Stage("spleen", "export", block)) == 0
    assert capsys.readouterr().err.splitlines()[-1].startswith("export spleen: torchscript, onnxruntime equal torch")
    assert open_engine(stage.models / "export/model.onnx").spec.out_channels == 2
    assert (stage.models / "export/model.ts").is_file()
    parity = json.loads((stage.models / "parity.json").read_text())
    assert parity["torchscript_max_logit_difference"] < 1e-4
    assert parity["onnxruntime"]["published"] == 1

    evaluated = Stage("spleen", "evaluate", block)
    assert evaluate_stage.run(evaluated) == 0
    metrics = json.loads(evaluated.metrics.read_text())
    assert metrics["cases"] == 1
    assert 0 < metrics["val_mean_dice"] <= 1
    assert (stage.evaluation / "test/metrics.csv").is_file()

    image = (stage.resampled / "cube3.nii.gz").resolve()
    monkeypatch.setattr(bundle_infer, "_list_native_items", lambda *_: [{"image": str(image)}])
    inferred = Stage("spleen", "infer", block)
    assert infer_stage.run(inferred) == 0
    assert (stage.evaluation / "infer/cube3/cube3_trans.nii.gz").is_file()
    assert json.loads(inferred.metrics.read_text()) == {"cases": 1}


def test_the_weights_are_those_of_the_best_epoch_and_a_plain_state_dictionary(block: dict[str, Any]) -> None:
    stage = Stage("spleen", "train", block)
    train_stage.run(stage)
    weights = torch.load(stage.models / "train/model.pt", weights_only=True)
    assert all(isinstance(value, torch.Tensor) for value in weights.values())


@pytest.mark.parametrize("trust", [None, False, "yes", 1])
def test_a_bundle_that_is_not_trusted_runs_nothing(block: dict[str, Any], trust: Any, tmp_path: Path) -> None:
    config = train_config() | {"initialize": [f"$open('{tmp_path}/ran', 'w')"]}
    write_json(tmp_path / "mmars/spleen/config/configs/train.json", config)
    for program, name in ((train_stage, "train"), (export_stage, "export"), (infer_stage, "infer")):
        with pytest.raises(ConfigError, match=r"params.yaml: workspaces.spleen.trust: running a bundle runs the code"):
            program.run(Stage("spleen", name, block | {"trust": trust}))
    assert not (tmp_path / "ran").exists()


def test_an_interrupted_training_ends_with_130(block: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    from voxflow.training.interruption import Interruption

    def asked_at_once(self: Interruption) -> Interruption:
        self.is_requested = True
        return self

    monkeypatch.setattr(Interruption, "__enter__", asked_at_once)
    assert train_stage.run(Stage("spleen", "train", block)) == 130


def test_a_folder_that_the_configuration_does_not_name_is_said(block: dict[str, Any], tmp_path: Path) -> None:
    config = train_config()
    config["models_dir"] = config.pop("ckpt_dir")
    write_json(tmp_path / "mmars/spleen/config/configs/train.json", config)
    # Not output_dir, where weights would be written among the other results.
    with pytest.raises(
        ConfigError, match=r"train.json: no id 'ckpt_dir' .*could put its folder in; known: models_dir$"
    ):
        train_stage.run(Stage("spleen", "train", block))


def test_what_is_missing_is_said_before_anything_runs(block: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=r"run.json: file not found; the stage train writes it"):
        export_stage.run(Stage("spleen", "export", block | {"train": {}}))
    block["train"]["config"] = ["configs/trian.json"]
    with pytest.raises(ConfigError, match=r"trian.json: file not found"):
        train_stage.run(Stage("spleen", "train", block))


def test_a_misspelt_option_is_said_with_its_place(block: dict[str, Any]) -> None:
    block["train"] = {"epochs": 3}
    with pytest.raises(ConfigError, match=r"workspaces.spleen.train.epochs: Extra inputs"):
        train_stage.run(Stage("spleen", "train", block))


def test_a_loss_that_is_no_number_stops_the_training(block: dict[str, Any]) -> None:
    from voxflow.errors import TrainingError

    block["train"]["set"]["loss"] = "$lambda pred, label: pred.sum() * float('nan')"
    with pytest.raises(TrainingError, match="the loss is nan in epoch 1, step 1"):
        train_stage.run(Stage("spleen", "train", block))


def test_what_fails_inside_the_bundle_is_one_line(block: dict[str, Any]) -> None:
    from voxflow.errors import VoxflowError

    block["train"]["set"]["network_def#channels"] = [4, 8, 8]
    with pytest.raises(VoxflowError, match=r"own configuration failed: ValueError: the length of `strides`"):
        train_stage.run(Stage("spleen", "train", block))
