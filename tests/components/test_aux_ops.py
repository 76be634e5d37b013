"""Auxiliary operations against counting by hand, SciPy and MONAI."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from monai.metrics import compute_dice
from scipy.special import expit, softmax

from voxflow.components import Component, create


def build(name: str, **args: object) -> Any:
    return create("aux_op", Component(name=name, args=args))


def one_hot(mask: np.ndarray, classes: int) -> np.ndarray:
    return np.moveaxis(np.eye(classes)[mask], -1, 1)


@pytest.fixture
def volumes() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    label = rng.integers(0, 3, (2, 1, 6, 6, 6))
    label[1][label[1] == 2] = 0
    return {"model": rng.normal(size=(2, 3, 6, 6, 6)) + one_hot(label[:, 0], 3), "label": label}


def test_masked_dice_is_monais_where_the_class_is_there(volumes: dict[str, Any]) -> None:
    out = build("DiceMaskedOutput", skip_background=True, tags=["dice", "dice_1", "dice_2"]).compute(volumes)
    guess = torch.from_numpy(one_hot(volumes["model"].argmax(1), 3))
    truth = torch.from_numpy(one_hot(volumes["label"][:, 0], 3))
    expected = compute_dice(guess, truth, include_background=False, ignore_empty=True).numpy()
    np.testing.assert_allclose(out["dice_1"], expected[:, 0])
    np.testing.assert_allclose(out["dice_2"], expected[:, 1])
    assert np.isnan(out["dice_2"][1])
    np.testing.assert_allclose(out["dice"], np.nanmean(expected, 1))


def test_nested_masks_are_judged_channel_by_channel() -> None:
    rng = np.random.default_rng(1)
    logits, truth = rng.normal(size=(2, 3, 5, 5, 5)), rng.integers(0, 2, (2, 3, 5, 5, 5))
    arguments = {"is_onehot_targets": True, "is_independent_predictions": True}
    operation = build("tlt2:dice_metric_masked_output", tags=["dice", "dice_tc", "dice_wt", "dice_et"], **arguments)
    assert operation.makes() == ("dice", "dice_tc", "dice_wt", "dice_et")
    out = operation.compute({"model": logits, "label": truth})
    expected = compute_dice(torch.from_numpy((expit(logits) > 0.5) * 1), torch.from_numpy(truth)).numpy()
    np.testing.assert_allclose(np.stack([out["dice_tc"], out["dice_wt"], out["dice_et"]], 1), expected, rtol=1e-6)


def test_one_tag_is_the_mean_and_as_many_as_classes_are_the_classes(volumes: dict[str, Any]) -> None:
    mean = build("DiceMaskedOutput", skip_background=True, tags="dice_tc").compute(volumes)
    by_class = build("DiceMaskedOutput", skip_background=True, tags=["a", "b"]).compute(volumes)
    np.testing.assert_allclose(mean["dice_tc"], np.nanmean([by_class["a"], by_class["b"]], 0))
    with pytest.raises(ValueError, match=r"4 tags .* for 2 classes: give 1, 2 or 3"):
        build("DiceMaskedOutput", skip_background=True, tags=["a", "b", "c", "d"]).compute(volumes)


def test_accuracy_counts_findings_and_columns_of_several_classes() -> None:
    logits = np.array([[2.0, 0.1, 0.3, 0.2, -1.0], [-2.0, 5.0, 0.0, 1.0, 4.0]])
    outputs = {"model": logits, "label": np.array([[1, 1, 1], [0, 2, -1]]), "label_format": (1, 2, 1)}
    assert build("tlt2:compute_accuracy", tags="accuracy").compute(outputs)["accuracy"].tolist() == [2 / 3, 0.5]


def test_columns_of_several_classes_become_one_finding_a_class() -> None:
    logits = np.random.default_rng(0).normal(size=(2, 4))
    outputs = {"model": logits, "label": np.array([[2, 1], [0, -1]]), "label_format": (2, 1)}
    out = build("ComputeBinaryPreds").compute(outputs)
    np.testing.assert_allclose(out["binary_preds"][:, :3], softmax(logits[:, :3], axis=1))
    np.testing.assert_allclose(out["binary_preds"][:, 3], expit(logits[:, 3]))
    assert out["binary_labels"].tolist() == [[0, 0, 1, 1], [1, 0, 0, -1]]


def test_the_negative_loss_is_asked_for_and_turned() -> None:
    operation = build("NegLoss")
    assert operation.needs_loss
    assert not build("ComputeAccuracy").needs_loss
    assert operation.compute({"loss": np.array([0.25, 1.0])})["neg_loss"].tolist() == [-0.25, -1.0]
