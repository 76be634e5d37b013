"""Metrics against scikit-learn and counting by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from monai.metrics import compute_dice
from sklearn.metrics import roc_auc_score

from voxflow.components import Component, create


def build(name: str, **args: object) -> Any:
    return create("metric", Component(name=name, args={"name": "value", **args}))


def one_hot(mask: np.ndarray, classes: int) -> np.ndarray:
    return np.moveaxis(np.eye(classes)[mask], -1, 1)


def test_average_dice_counts_cases_and_classes() -> None:
    truth = np.zeros((2, 4, 4, 4), int)
    truth[0, :2], truth[1, :1] = 1, 2
    guess = truth.copy()
    guess[0, 1] = 0
    metric = build("ComputeAverageDice")
    batches = metric.measure({"model": one_hot(guess, 3), "label": truth[:, None]})
    values = metric.summarise([batches], ["background", "a", "b"])
    assert values == {"value": pytest.approx((2 / 3 + 1) / 2), "value_a": pytest.approx(2 / 3), "value_b": 1.0}


def test_a_class_predicted_where_there_is_none_counts_zero_and_an_absent_one_nothing() -> None:
    truth, guess = np.zeros((1, 2, 2, 2), int), np.zeros((1, 2, 2, 2), int)
    guess[0, 0, 0, 0] = 1
    batches = build("ComputeAverageDice").measure({"model": one_hot(guess, 3), "label": truth[:, None]})
    assert batches[0, 0] == 0
    assert np.isnan(batches[0, 1])


def test_one_channel_is_thresholded_at_zero() -> None:
    logits = np.array([[[[[-1.0, 2.0]]]]])
    assert build("ComputeAverageDice").measure({"model": logits, "label": np.array([[[[[0, 1]]]]])})[0, 0] == 1


@pytest.fixture
def scores() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    label = (rng.random((80, 3)) < [0.5, 0.2, 0.4]).astype(float)
    return {"model": np.round(label + rng.normal(size=(80, 3)), 1), "label": label}


@pytest.mark.parametrize("average", ["macro", "micro", "weighted"])
def test_auc_matches_scikit_learn(scores: dict[str, np.ndarray], average: str) -> None:
    metric = build("ComputeAUC", auc_average=average)
    halves = [{key: value[part] for key, value in scores.items()} for part in (slice(30), slice(30, None))]
    value = metric.summarise([metric.measure(half) for half in halves], [])["value"]
    assert value == pytest.approx(roc_auc_score(scores["label"], scores["model"], average=average))


def test_auc_of_one_finding_leaves_unknown_cases_out(scores: dict[str, np.ndarray]) -> None:
    scores["label"][:10, 1] = -1
    metric = build("ComputeAUC", class_index=1)
    expected = roc_auc_score(scores["label"][10:, 1], scores["model"][10:, 1])
    assert metric.summarise([metric.measure(scores)], [])["value"] == pytest.approx(expected)


def test_an_undefined_auc_is_nan_and_left_out_of_the_average(scores: dict[str, np.ndarray]) -> None:
    scores["label"][:, 2] = 0
    batches = [build("ComputeAUC").measure(scores)]
    assert np.isnan(build("ComputeAUC", class_index=2).summarise(batches, [])["value"])
    expected = roc_auc_score(scores["label"][:, :2], scores["model"][:, :2])
    assert build("ComputeAUC").summarise(batches, [])["value"] == pytest.approx(expected)


def test_accuracy_and_binary_predictions_feed_the_metrics() -> None:
    outputs = {"model": np.array([[2.0, -1.0], [3.0, 4.0]]), "label": np.array([[1.0, 0.0], [0.0, -1.0]])}
    accuracy = create("aux_op", Component(name="ComputeAccuracy", args={"tag": "accuracy"})).compute(outputs)
    assert accuracy["accuracy"].tolist() == [1.0, 0.0]
    binary = create("aux_op", Component(name="ComputeBinaryPreds", args={})).compute(outputs)
    np.testing.assert_allclose(binary["binary_preds"][0], [0.8808, 0.2689], atol=1e-4)
    average = build("ComputeAverage", field="accuracy")
    assert average.summarise([average.measure(accuracy)], [])["value"] == 0.5


def test_undefined_auc_is_told_of_by_name(scores: dict[str, np.ndarray], caplog: pytest.LogCaptureFixture) -> None:
    scores["label"][:, 2] = 0
    metric = build("ComputeAUC")
    batches = [metric.measure(scores)]
    metric.summarise(batches, ["nodule", "mass", "hernia"])
    assert caplog.messages == ["value: no AUC for hernia, the same in every case; left out of the average"]
    build("ComputeAUC", class_index=1).summarise(batches, ["nodule", "mass", "hernia"])
    assert len(caplog.messages) == 1


def test_auc_of_a_chosen_few(scores: dict[str, np.ndarray]) -> None:
    metric = build("ComputeAUC", include_list=[0, 2])
    expected = roc_auc_score(scores["label"][:, [0, 2]], scores["model"][:, [0, 2]])
    assert metric.summarise([metric.measure(scores)], [])["value"] == pytest.approx(expected)
    with pytest.raises(ValueError, match="there is no finding 7; 3 are known, 0 first"):
        build("ComputeAUC", class_index=7).summarise([metric.measure(scores)], [])


def test_tlts_auc_makes_its_fields_from_what_the_network_answers(scores: dict[str, np.ndarray]) -> None:
    args = {"tag": "AUC", "applied_key": "binary_preds", "label_key": "binary_labels", "stopping_metric": True}
    metric = create("metric", Component(name="tlt2:MetricAUC", args=args))
    assert metric.is_key_metric
    assert metric.reads() == ()
    value = metric.summarise([metric.measure(scores)], [])
    assert value == {"AUC": pytest.approx(roc_auc_score(scores["label"], scores["model"]))}


def test_tlts_average_reads_the_output_that_validation_makes() -> None:
    args = {"tag": "mean_dice", "applied_key": "val_dice", "stopping_metric": True}
    metric = create("metric", Component(name="tlt2:MetricAverage", args=args))
    batches = [metric.measure({"dice": np.array([0.5, np.nan])}), metric.measure({"dice": np.array([0.7])})]
    assert metric.summarise(batches, []) == {"mean_dice": pytest.approx(0.6)}
    assert metric.is_key_metric


def test_an_average_leaves_invalid_values_out_and_may_be_turned() -> None:
    metric = build("ComputeAverage", field="x", invalid_value=-1.0, negate_value=True)
    assert metric.summarise([metric.measure({"x": np.array([-1.0, 2.0, 4.0])})], []) == {"value": -3.0}


def test_dice_of_masks_that_are_masks_already_matches_monai() -> None:
    rng = np.random.default_rng(0)
    guess, truth = (rng.integers(0, 2, (1, 1, 5, 5, 5)).astype(np.uint8) for _ in range(2))
    args = {"tag": "mean_dice_tc", "applied_key": "TC", "label_key": "TC_label"}
    metric = create("metric", Component(name="tlt2:MetricAverageFromArrayDice", args=args))
    expected = compute_dice(torch.from_numpy(guess), torch.from_numpy(truth)).item()
    batches = [metric.measure({"TC": guess, "TC_label": truth})]
    assert metric.summarise(batches, ["TC"]) == {"mean_dice_tc": pytest.approx(expected)}
    assert metric.average_by_case(batches) == [pytest.approx(expected)]


def test_index_masks_of_unequal_classes_are_averaged_class_by_class() -> None:
    """The first case holds classes 1 and 2, the second class 1 alone."""
    metric = build("ComputeAverageDice")
    first = np.array([[[[[1, 1, 2, 0]]]]], np.uint8)
    second = np.array([[[[[1, 0, 0, 0]]]]], np.uint8)
    batches = [
        metric.measure({"model": first, "label": first}),
        metric.measure({"model": np.roll(second, 1, -1), "label": second}),
    ]
    values = metric.summarise(batches, ["background", "liver", "tumour"])
    assert values == {"value": 0.75, "value_liver": 0.5, "value_tumour": 1.0}


def test_nested_outputs_are_judged_channel_by_channel_and_none_is_background() -> None:
    rng = np.random.default_rng(0)
    logits, truth = rng.normal(size=(2, 3, 4, 4, 4)), rng.integers(0, 2, (2, 3, 4, 4, 4)).astype(np.uint8)
    metric = build("ComputeAverageDice", logit_thresh=0.7)
    batches = metric.measure({"model": logits, "label": truth, "activation": "sigmoid"})
    guess = torch.from_numpy((1 / (1 + np.exp(-logits)) > 0.7) * 1)
    np.testing.assert_allclose(batches, compute_dice(guess, torch.from_numpy(truth)).numpy(), rtol=1e-6)
    assert list(metric.summarise([batches], ["TC", "WT", "ET"])) == ["value", "value_TC", "value_WT", "value_ET"]


def test_one_hot_masks_of_a_softmax_are_judged_by_the_largest() -> None:
    rng = np.random.default_rng(0)
    logits, truth = rng.normal(size=(1, 3, 4, 4, 4)), rng.integers(0, 3, (1, 4, 4, 4))
    one_channel = build("ComputeAverageDice").measure({"model": logits, "label": truth[:, None]})
    outputs = {"model": logits, "label": one_hot(truth, 3).astype(np.uint8), "activation": "softmax"}
    np.testing.assert_allclose(build("ComputeAverageDice", is_one_hot_targets=True).measure(outputs), one_channel)
    assert build("ComputeAverageDice", remove_bg=False).measure(outputs).shape == (1, 3)


def test_auc_of_a_column_of_several_classes_is_each_class_against_the_rest() -> None:
    rng = np.random.default_rng(0)
    label, scores = rng.integers(0, 3, (60, 1)), rng.random((60, 3))
    metric = build("ComputeAUC", field="model")
    value = metric.summarise([metric.measure({"model": scores, "label": label, "label_format": (2,)})], [])["value"]
    assert value == pytest.approx(roc_auc_score(np.eye(3)[label[:, 0]], scores))


def test_a_class_takes_no_other_metrics_name() -> None:
    from voxflow.components import ComputeAverageDice, summarise_metrics

    metrics = [ComputeAverageDice(name="dice"), ComputeAverageDice(name="dice_left")]
    both = [[np.array([[0.2, 0.4]])], [np.array([[0.9]])]]
    numbers = summarise_metrics(metrics, both, ("background", "left", "right"))
    assert list(numbers[0]) == ["dice", "dice_left (dice)", "dice_right"]
    assert numbers[1] == {"dice_left": pytest.approx(0.9)}
    assert np.isnan(summarise_metrics(metrics[:1], [[]], ())[0]["dice"])
