"""What TLT's and Clara's components ask of a training: nested masks, the VAE, columns of classes, the cache."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.training.conftest import radiograph_config, volume_config, workflow_of
from voxflow.components import Chain, Component, create
from voxflow.errors import ConfigError
from voxflow.tracking import NullTracker
from voxflow.training import DataFacts, TrainOptions, load_model, train
from voxflow.training.data import Batches
from voxflow.training.plan import TrainingPlan

if TYPE_CHECKING:
    from pathlib import Path

    from voxflow.datalist import Datalist


def train_cases(config: dict[str, Any], data: Datalist, options: TrainOptions, facts: DataFacts, out: Path) -> Any:
    workflow = workflow_of(config, out, epochs=1, num_training_epoch_per_valid=1)
    return train(workflow, data, options, out, facts=facts, tracker=NullTracker())


def with_vae(config: dict[str, Any]) -> dict[str, Any]:
    args = {"init_filters": 2, "blocks_down": "1,1", "blocks_up": "1", "use_vae": True, "reg_weight": 1e-5}
    config["train"]["model"] = {"name": "SegResnet", "args": args}
    return config


def test_a_vae_branch_is_trained_and_left_out_of_the_answer(
    cubes: Datalist, options: TrainOptions, facts: DataFacts, tmp_path: Path
) -> None:
    import torch

    result = train_cases(with_vae(volume_config()), cubes, options, facts, tmp_path)
    assert result.ending == "finished"
    network, spec = load_model(tmp_path / "model.pt")
    assert network(torch.zeros(1, 1, 24, 24, 16)).shape == (1, 2, 24, 24, 16)
    assert spec.divisor == 4


def test_nested_masks_are_learnt_and_judged_channel_by_channel(
    cubes: Datalist, options: TrainOptions, facts: DataFacts, tmp_path: Path
) -> None:
    config = volume_config()
    config["train"]["model"]["args"]["final_activation"] = "sigmoid"
    config["train"]["loss"] = {"name": "Dice", "args": {"is_onehot_targets": True, "squared_pred": True}}
    tags = {"tags": ["dice", "dice_core", "dice_whole"], "is_onehot_targets": True, "is_independent_predictions": True}
    config["train"]["aux_ops"] = [{"name": "DiceMaskedOutput", "args": tags}, {"name": "NegLoss"}]
    average = {"name": "mean_whole", "field": "dice_whole", "is_key_metric": True}
    config["validate"]["metrics"] = [
        {"name": "ComputeAverage", "args": average},
        {"name": "ComputeAverage", "args": {"name": "mean_loss", "field": "neg_loss", "negate_value": True}},
        {"name": "ComputeAverageDice", "args": {"name": "dice"}},
    ]
    workflow = workflow_of(config, tmp_path, epochs=1)
    convert = Component(name="tlt2:BratsConvertLabels", args={"fields": ["label"], "classes": ["TC", "WT"]})
    first, second = workflow.train.pre_transforms, workflow.validate.pre_transforms
    workflow = replace(
        workflow,
        train=replace(workflow.train, pre_transforms=(first[0], convert, *first[1:])),
        validate=replace(workflow.validate, pre_transforms=(second[0], convert, *second[1:])),
    )
    names = facts.model_copy(update={"class_names": ("core", "whole")})
    result = train(workflow, cubes, options, tmp_path, facts=names, tracker=NullTracker())
    assert result.metrics.keys() == {"mean_whole", "mean_loss", "dice", "dice_TC", "dice_WT"}
    assert result.metrics["mean_whole"] == pytest.approx(result.metrics["dice_WT"])
    assert 0 < result.metrics["mean_loss"] <= 1
    assert load_model(tmp_path / "model.pt")[1].activation == "sigmoid"


def test_columns_of_several_classes_get_a_logit_a_class(
    corners: Datalist, options: TrainOptions, tmp_path: Path
) -> None:
    config = radiograph_config()
    config["train"]["loss"] = {"name": "MulticlassClassificationLoss"}
    data = replace(corners, label_format=(1, 2))
    train_cases(config, data, options, DataFacts(class_names=("corner", "side")), tmp_path)
    assert load_model(tmp_path / "model.pt")[1].class_names == ("corner", "side_0", "side_1", "side_2")


def test_pretrained_weights_of_tensorflow_are_told_of_and_training_goes_on(
    corners: Datalist, options: TrainOptions, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = radiograph_config()
    config["train"]["model"]["args"]["pretrain_weight_name"] = "/Data/densenet121_weights_tf.h5"
    train_cases(config, corners, options, DataFacts(class_names=("a", "b")), tmp_path)
    assert "densenet121_weights_tf.h5: TensorFlow's weights can't be read" in capsys.readouterr().err


class Numbers:
    """A store of ten samples that say which they are."""

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> dict[str, Any]:
        label = np.zeros((1, 8, 8, 8), np.uint8)
        label[0, :4] = 1
        image = np.full((1, 8, 8, 8), index, np.float32)
        return {"case": str(index), "image": image, "label": label, "foreground": np.arange(256), "foreground_first": 0}


def pipeline(**args: object) -> Any:
    places = {"data_list_file_path": "x", "data_file_base_dir": "y", "data_list_key": "training"}
    fixed = {**places, "output_crop_size": [1, 1, 1]}
    return create("pipeline", Component(name="SegmentationImagePipelineWithCache", args=fixed | args))


def test_an_epoch_learns_from_the_cache_and_the_next_one_from_what_came_in() -> None:
    batches = Batches(Numbers(), Chain((), ()), pipeline(num_cache_objects=4, replace_percent=0.5), seed=0)
    epochs = [{int(batch.cases[0]) for batch in batches.iterate_epoch(number)} for number in (1, 2, 5)]
    assert epochs == [{0, 1, 2, 3}, {2, 3, 4, 5}, {8, 9, 0, 1}]
    assert batches.steps == 4


def test_batches_follow_the_ratio_of_their_epoch() -> None:
    ratios = {"ratio_start": 9.0, "ratio_end": 0.0, "ratio_step": 9.0, "num_epochs": 1}
    crop = Component(
        name="tlt2:CropSubVolumePosNegRatioCtrlEpoch", args={"size": [1, 1, 1], "batch_size": 40, **ratios}
    )
    batches = Batches(Numbers(), Chain.build([crop]), pipeline(), seed=0)
    first, second = (
        np.mean([batch.label.float().mean() for batch in batches.iterate_epoch(number)]) for number in (1, 2)
    )
    assert first == pytest.approx(0.9, abs=0.08)
    assert second == 0


def test_validation_may_crop_at_random_and_takes_the_same_place_each_time(
    cubes: Datalist, options: TrainOptions, facts: DataFacts, tmp_path: Path
) -> None:
    config = volume_config()
    crop = {"name": "CropFixedSizeRandomCenter", "args": {"fields": ["image", "label"], "size": [16, 16, 16]}}
    config["validate"]["pre_transforms"] = [*config["validate"]["pre_transforms"], crop]
    config["validate"]["image_pipeline"]["args"]["output_crop_size"] = [16, 16, 16]
    results = [train_cases(config, cubes, options, facts, tmp_path).metrics for _ in range(2)]
    assert results[0] == results[1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"if_use_psp": True}, r"size \[64, 64, 32\] is smaller than \[128, 128, 32\], which SegAhnet needs"),
        ({"plane": "x", "if_use_psp": True}, r"is smaller than \[32, 128, 128\]"),
    ],
)
def test_a_patch_that_the_pooling_can_not_cover_is_found_before_any_data_is_read(
    change: dict[str, Any], message: str, facts: DataFacts, tmp_path: Path
) -> None:
    config = volume_config()
    config["train"]["model"] = {"name": "SegAhnet", "args": change}
    config["train"]["pre_transforms"][-1]["args"]["size"] = [64, 64, 32]
    config["validate"]["inferer"] = {"name": "TFSimpleInferer"}
    with pytest.raises(ConfigError, match=message):
        TrainingPlan.build(workflow_of(config, tmp_path), facts)


def test_what_inference_repeats_names_tlts_transforms_with_their_own_arguments(
    facts: DataFacts, tmp_path: Path
) -> None:
    workflow = workflow_of(volume_config(), tmp_path)
    chain = [
        Component(name="tlt2:LoadNifty", args={"fields": ["image", "label"]}),
        Component(name="ScaleByResolution", args={"fields": ["image", "label"], "target_resolution": [2.0, 2.0, 3.0]}),
        Component(name="tlt2:CenterData", args={"applied_keys": ["image"], "divisor": 2.0}),
        Component(name="tlt2:CropSubVolumeCenter", args={"fields": ["image", "label"], "size": [16, 16, 16]}),
    ]
    workflow = replace(workflow, validate=replace(workflow.validate, pre_transforms=tuple(chain)))
    spec = TrainingPlan.build(workflow, facts).make_spec(1)
    assert spec.spacing_mm == (2.0, 2.0, 3.0)
    assert [(t.name, t.args) for t in spec.preprocess] == [
        ("tlt2:CenterData", {"applied_keys": ["image"], "divisor": [2.0]})
    ]
