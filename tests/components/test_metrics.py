"""Metrics against scikit-learn and counting by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from voxflow.components import Component, create


def made(name: str, **args: object) -> Any:
    return create("metric", Component(name=name, args={"name": "value", **args}))


def one_hot(mask: np.ndarray, classes: int) -> np.ndarray:
    return np.moveaxis(np.eye(classes)[mask], -1, 1)


def test_average_dice_counts_cases_and_classes() -> None:
    truth = np.zeros((2, 4, 4, 4), int)
    truth[0, :2], truth[1, :1] = 1, 2
    guess = truth.copy()
    guess[0, 1] = 0
    metric = made("ComputeAverageDice")
    kept = metric.measure({"model": one_hot(guess, 3), "label": truth[:, None]})
    values = metric.summarise([kept], ["background", "a", "b"])
    assert values == {"value": pytest.approx((2 / 3 + 1) / 2), "value_a": pytest.approx(2 / 3), "value_b": 1.0}


def test_a_class_predicted_where_there_is_none_counts_zero_and_an_absent_one_nothing() -> None:
    truth, guess = np.zeros((1, 2, 2, 2), int), np.zeros((1, 2, 2, 2), int)
    guess[0, 0, 0, 0] = 1
    kept = made("ComputeAverageDice").measure({"model": one_hot(guess, 3), "label": truth[:, None]})
    assert kept[0, 0] == 0
    assert np.isnan(kept[0, 1])


def test_one_channel_is_thresholded_at_zero() -> None:
    logits = np.array([[[[[-1.0, 2.0]]]]])
    assert made("ComputeAverageDice").measure({"model": logits, "label": np.array([[[[[0, 1]]]]])})[0, 0] == 1


@pytest.fixture
def scores() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    label = (rng.random((80, 3)) < [0.5, 0.2, 0.4]).astype(float)
    return {"model": np.round(label + rng.normal(size=(80, 3)), 1), "label": label}


@pytest.mark.parametrize("average", ["macro", "micro", "weighted"])
def test_auc_matches_scikit_learn(scores: dict[str, np.ndarray], average: str) -> None:
    metric = made("ComputeAUC", auc_average=average)
    halves = [{key: value[part] for key, value in scores.items()} for part in (slice(30), slice(30, None))]
    value = metric.summarise([metric.measure(half) for half in halves], [])["value"]
    assert value == pytest.approx(roc_auc_score(scores["label"], scores["model"], average=average))


def test_auc_of_one_finding_leaves_unknown_cases_out(scores: dict[str, np.ndarray]) -> None:
    scores["label"][:10, 1] = -1
    metric = made("ComputeAUC", class_index=1)
    expected = roc_auc_score(scores["label"][10:, 1], scores["model"][10:, 1])
    assert metric.summarise([metric.measure(scores)], [])["value"] == pytest.approx(expected)


def test_an_undefined_auc_is_nan_and_left_out_of_the_average(scores: dict[str, np.ndarray]) -> None:
    scores["label"][:, 2] = 0
    kept = [made("ComputeAUC").measure(scores)]
    assert np.isnan(made("ComputeAUC", class_index=2).summarise(kept, [])["value"])
    expected = roc_auc_score(scores["label"][:, :2], scores["model"][:, :2])
    assert made("ComputeAUC").summarise(kept, [])["value"] == pytest.approx(expected)


def test_accuracy_and_binary_predictions_feed_the_metrics() -> None:
    outputs = {"model": np.array([[2.0, -1.0], [3.0, 4.0]]), "label": np.array([[1.0, 0.0], [0.0, -1.0]])}
    accuracy = create("aux_op", Component(name="ComputeAccuracy", args={"tag": "accuracy"})).compute(outputs)
    assert accuracy["accuracy"].tolist() == [1.0, 0.0]
    binary = create("aux_op", Component(name="ComputeBinaryPreds", args={})).compute(outputs)
    np.testing.assert_allclose(binary["binary_preds"][0], [0.8808, 0.2689], atol=1e-4)
    average = made("ComputeAverage", field="accuracy")
    assert average.summarise([average.measure(accuracy)], [])["value"] == 0.5
