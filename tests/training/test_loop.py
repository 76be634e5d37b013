"""The loop on tiny data: what it learns, what it leaves, and every way that it ends."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from tests.tables import read_table
from tests.training.conftest import radiograph_config, volume_config, workflow_of, write_cube
from voxflow.errors import ConfigError, DataError, TrainingError
from voxflow.tracking import NullTracker
from voxflow.training import DataFacts, TrainOptions, load_model, read_checkpoint, train
from voxflow.volumes import Volume, read_volume

if TYPE_CHECKING:
    from pathlib import Path

    from voxflow.datalist import Datalist


@dataclass
class Listener(NullTracker):
    """Keeps what it is told; sends this process a signal when told to at an epoch."""

    rows: dict[int, dict[str, float]] = field(default_factory=dict)
    signal_at: int | None = None

    def log_metrics(self, values: Any, step: int | None = None) -> None:
        self.rows[step or 0] = dict(values)
        if step == self.signal_at:
            os.kill(os.getpid(), signal.SIGTERM)


def test_learns_cubes_and_leaves_what_it_promises(
    tmp_path: Path, cubes: Datalist, facts: DataFacts, options: TrainOptions
) -> None:
    listener = Listener()
    result = train(
        workflow_of(volume_config(), tmp_path), cubes, options, tmp_path / "m", facts=facts, tracker=listener
    )
    assert result.ending == "finished"
    assert result.key_metric == "mean_dice"
    assert result.best_metric > 0.6
    rows = read_table(tmp_path / "m" / "curves.csv")
    assert [row["epoch"] for row in rows] == ["2", "4", "6"]
    assert list(rows[0]) == ["epoch", "train_loss", "learning_rate", "seconds", "mean_dice"]
    assert float(rows[-1]["mean_dice"]) == pytest.approx(listener.rows[6]["validation/mean_dice"], rel=1e-4)
    assert list((tmp_path / "m" / "events").glob("events.out.tfevents.*"))
    network, spec = load_model(tmp_path / "m" / "model.pt")
    assert spec.class_names == ("background", "cube")
    assert (spec.spacing_mm, spec.orientation, spec.window, spec.divisor) == ((1, 1, 2), "LPS", (16, 16, 16), 2)
    assert [(t.name, t.args) for t in spec.preprocess] == [("NormalizeNonzeroIntensities", {"fields": ["image"]})]
    assert network(torch.zeros(1, 1, 16, 16, 16)).shape == (1, 2, 16, 16, 16)
    assert read_checkpoint(tmp_path / "m" / "model.pt")["metric"] == pytest.approx(result.best_metric)
    assert read_checkpoint(tmp_path / "m" / "model_final.pt")["epoch"] == 6


def test_the_same_seed_gives_the_same_training_with_or_without_workers(
    tmp_path: Path, cubes: Datalist, facts: DataFacts, options: TrainOptions
) -> None:
    workflow = workflow_of(volume_config(), tmp_path, epochs=2)
    losses = [
        train(workflow, cubes, variant, tmp_path / "m", facts=facts, tracker=NullTracker()).train_loss
        for variant in (options, options.model_copy(update={"workers": 1}), options.model_copy(update={"seed": 4}))
    ]
    assert losses[0] == losses[1]
    assert losses[0] != losses[2]


def test_learns_findings_of_radiographs(tmp_path: Path, corners: Datalist, options: TrainOptions) -> None:
    workflow = workflow_of(radiograph_config(), tmp_path)
    facts = DataFacts(class_names=("corner", "none"), size=(32, 32))
    result = train(workflow, corners, options, tmp_path / "m", facts=facts, tracker=NullTracker())
    assert result.metrics["Average_AUC"] > 0.9
    assert "mean_accuracy" in result.metrics
    network, spec = load_model(tmp_path / "m" / "model.pt")
    assert (spec.task, spec.activation, spec.size, spec.window) == ("classification", "sigmoid", (32, 32), None)
    assert network(torch.zeros(1, 1, 32, 32)).shape == (1, 2)


def test_a_signal_ends_it_with_the_final_checkpoint(
    tmp_path: Path, cubes: Datalist, facts: DataFacts, options: TrainOptions
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    workflow = workflow_of(volume_config(), tmp_path, epochs=50)
    listener = Listener(signal_at=2)
    result = train(workflow, cubes, options, tmp_path / "m", facts=facts, tracker=listener)
    assert (result.ending, result.epochs) == ("interrupted", 3)
    assert read_checkpoint(tmp_path / "m" / "model_final.pt")["epoch"] == 3
    assert read_checkpoint(tmp_path / "m" / "model.pt")["epoch"] == 2
    assert signal.getsignal(signal.SIGTERM) is before


def test_the_time_budget_ends_it_cleanly_with_a_validation(
    tmp_path: Path, cubes: Datalist, facts: DataFacts, options: TrainOptions
) -> None:
    short = options.model_copy(update={"max_minutes": 1e-6})
    workflow = workflow_of(volume_config(), tmp_path, epochs=50)
    result = train(workflow, cubes, short, tmp_path / "m", facts=facts, tracker=NullTracker())
    assert (result.ending, result.steps, result.best_epoch) == ("time is up", 1, 1)
    assert (tmp_path / "m" / "model.pt").exists()


def test_a_loss_that_is_no_number_names_the_cases_and_keeps_the_best_model(
    tmp_path: Path, cubes: Datalist, facts: DataFacts, options: TrainOptions
) -> None:
    config = volume_config()
    config["train"]["lr_policy"] = {"name": "DecayOnStep", "args": {"decay_ratio": 1e30, "decay_freq": 5}}
    config["num_training_epoch_per_valid"] = 1
    workflow = workflow_of(config, tmp_path, epochs=9)
    with pytest.raises(TrainingError, match=r"loss is (nan|inf) in epoch [34], batch of case\(s\) cube\d.*holds epoch"):
        train(workflow, cubes, options, tmp_path / "m", facts=facts, tracker=NullTracker())
    assert torch.isfinite(read_checkpoint(tmp_path / "m" / "model.pt")["state_dict"].popitem()[1]).all()
    assert not (tmp_path / "m" / "model_final.pt").exists()


def test_a_broken_voxel_is_traced_to_its_case(
    tmp_path: Path, cubes: Datalist, facts: DataFacts, options: TrainOptions
) -> None:
    case = write_cube(tmp_path, "broken", 1)
    volume = read_volume(case.image[0])
    image = tmp_path / "broken.mha"  # NIfTI's own reader turns NaN into 0
    sitk.WriteImage(Volume(np.full_like(volume.array, np.nan), volume.geometry).to_sitk(), str(image))
    broken = replace(cubes, parts={**cubes.parts, "training": (replace(case, image=(image,)),)})
    with pytest.raises(DataError, match=r"broken\.mha: the image holds NaN or infinite values"):
        train(
            workflow_of(volume_config(), tmp_path), broken, options, tmp_path / "m", facts=facts, tracker=NullTracker()
        )


def test_a_loss_that_is_no_number_before_any_checkpoint_says_so(
    tmp_path: Path, cubes: Datalist, facts: DataFacts, options: TrainOptions
) -> None:
    config = volume_config()
    config["train"]["lr_policy"] = {"name": "DecayOnStep", "args": {"decay_ratio": 1e30, "decay_freq": 1}}
    config["num_training_epoch_per_valid"] = 9
    workflow = workflow_of(config, tmp_path, epochs=9)
    with pytest.raises(TrainingError, match=r"loss is (nan|inf) in epoch \d, .*cube\d.*; no checkpoint was"):
        train(workflow, cubes, options, tmp_path / "m", facts=facts, tracker=NullTracker())


def test_without_validation_cases_the_final_model_is_the_best(
    tmp_path: Path, cubes: Datalist, facts: DataFacts, options: TrainOptions
) -> None:
    alone = replace(cubes, parts={"training": cubes.parts["training"], "validation": ()})
    workflow = workflow_of(volume_config(), tmp_path, epochs=1)
    result = train(workflow, alone, options, tmp_path / "m", facts=facts, tracker=NullTracker())
    assert (result.key_metric, result.best_epoch) == ("", 1)
    assert load_model(tmp_path / "m" / "model.pt")[1].class_names == facts.class_names


def test_an_older_model_does_not_outlive_a_failed_training(
    tmp_path: Path, cubes: Datalist, facts: DataFacts, options: TrainOptions
) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "model.pt").write_text("old")
    wrong = facts.model_copy(update={"class_names": ("background",)})
    with pytest.raises(DataError, match=r"case cube.: label value 1, the data names 1 classes"):
        train(
            workflow_of(volume_config(), tmp_path), cubes, options, tmp_path / "m", facts=wrong, tracker=NullTracker()
        )
    assert not (tmp_path / "m" / "model.pt").exists()


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("train.model.args.num_classes", 4, "num_classes: 4, but the data has 2: background, cube"),
        ("train.model.args.in_channels", 3, "in_channels: 3, but the images have 1"),
        ("train.image_pipeline.args.output_image_channels", 2, "output_image_channels: 2, but the images have 1"),
        ("train.pre_transforms[2].args.size", [16, 15, 16], r"size \[16, 15, 16\] is no multiple of 2, which Unet"),
        ("validate.inferer.args.roi_size", [9, 8, 8], r"roi_size: size \[9, 8, 8\] is no multiple of 2"),
        (
            "validate.pre_transforms[1]",
            {"name": "RandomAxisFlip", "args": {"fields": "image"}},
            "RandomAxisFlip is random; validation must be the same",
        ),
    ],
)
def test_parts_that_do_not_fit_are_config_errors(
    tmp_path: Path, cubes: Datalist, facts: DataFacts, *, options: TrainOptions, place: str, value: object, message: str
) -> None:
    workflow = workflow_of(volume_config(), tmp_path, **{place: value})
    with pytest.raises(ConfigError, match=message):
        train(workflow, cubes, options, tmp_path / "m", facts=facts, tracker=NullTracker())


def test_no_training_case_is_a_data_error(
    tmp_path: Path, cubes: Datalist, facts: DataFacts, options: TrainOptions
) -> None:
    none = replace(cubes, parts={"training": (), "validation": ()})
    with pytest.raises(DataError, match="no labelled case under 'training'"):
        train(workflow_of(volume_config(), tmp_path), none, options, tmp_path / "m", facts=facts, tracker=NullTracker())
