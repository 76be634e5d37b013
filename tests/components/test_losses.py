"""Losses of TLT and Clara against NumPy and torch: overlapping masks, focal weights, columns of several classes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from voxflow.components import Component, create
from voxflow.errors import ConfigError


def build(name: str, **args: object) -> Any:
    return create("loss", Component(name=name, args=args))


@pytest.fixture
def nested_masks() -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and overlapping masks of three nested_masks classes."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 4, 4, 4, generator=generator)
    depth = torch.randint(0, 4, (2, 1, 4, 4, 4), generator=generator)
    return logits, (depth > torch.tensor([1, 0, 2]).reshape(1, 3, 1, 1, 1)).to(torch.uint8)


def test_dice_of_overlapping_masks_judges_each_channel_by_its_sigmoid(nested_masks: Any) -> None:
    logits, label = nested_masks
    loss = build("tlt2:dice_loss", squared_pred=True, is_onehot_targets=True).build("sigmoid")
    chance, truth = 1 / (1 + np.exp(-logits.double().numpy())), label.numpy().astype(float)
    axes = (2, 3, 4)
    dice = 2 * (chance * truth).sum(axes) / ((chance**2).sum(axes) + (truth**2).sum(axes))
    assert loss(logits, label).item() == pytest.approx(1 - dice.mean(), abs=1e-5)


@pytest.mark.parametrize("skip", [False, True])
def test_focal_weighs_each_voxel_by_its_error(skip: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 4, 4, 4, generator=generator)
    label = torch.randint(0, 3, (2, 1, 4, 4, 4), generator=generator)
    loss = build("Focal", skip_background=skip, gamma=2.0).build("softmax")
    chance = torch.softmax(logits.double(), 1).numpy()
    truth = np.moveaxis(np.eye(3)[label[:, 0].numpy()], -1, 1)
    weighted = -((1 - chance) ** 2) * np.log(chance) * truth
    assert loss(logits, label).item() == pytest.approx(weighted[:, int(skip) :].mean(), rel=1e-4)


def test_focal_of_overlapping_masks_is_binary(nested_masks: Any) -> None:
    logits, label = nested_masks
    loss = build("Focal", is_onehot_targets=True, gamma=2.0).build("sigmoid")
    chance, truth = 1 / (1 + np.exp(-logits.double().numpy())), label.numpy()
    right = np.where(truth == 1, chance, 1 - chance)
    assert loss(logits, label).item() == pytest.approx(float((-((1 - right) ** 2) * np.log(right)).mean()), rel=1e-4)


def test_columns_of_several_classes_are_learnt_by_cross_entropy() -> None:
    """Three columns: a finding, one of 0 to 2, a finding; of six labels one is unknown."""
    logits = torch.randn(2, 5, generator=torch.Generator().manual_seed(0))
    label = torch.tensor([[1.0, 2.0, 0.0], [0.0, 1.0, -1.0]])
    value = build("tlt2:classification_loss").build("sigmoid", (1, 2, 1))(logits, label)
    binary = functional.binary_cross_entropy_with_logits(
        torch.stack([logits[0, 0], logits[1, 0], logits[0, 4]]), torch.tensor([1.0, 0, 0]), reduction="sum"
    )
    several = functional.cross_entropy(logits[:, 1:4], torch.tensor([2, 1]), reduction="sum")
    assert value.item() == pytest.approx(((binary + several) / 5).item(), rel=1e-5)
    assert build("MulticlassClassificationLoss").build("sigmoid", (1, 2, 1))(logits, label) == value


def test_label_smoothing_draws_every_column_towards_even_chances() -> None:
    logits, label = torch.tensor([[2.0, 0.5, -1.0]]), torch.tensor([[1.0, 0.0]])
    value = build("tlt2:classification_loss", label_smoothing=0.2).build("sigmoid", (1, 1))(logits[:, :2], label)
    expected = functional.binary_cross_entropy_with_logits(logits[:, :2], torch.tensor([[0.9, 0.1]]))
    assert value.item() == pytest.approx(expected.item())


def test_the_binary_loss_refuses_columns_of_several_classes() -> None:
    with pytest.raises(ConfigError, match=r"label_format \[1, 3\] has columns of several classes"):
        build("BinaryClassificationLoss").build("sigmoid", (1, 3))


def test_tlts_adam_takes_its_rate_and_its_policy_falls_as_claras() -> None:
    adam = create("optimizer", Component(name="tlt2:Adam", args={"lr": 1e-3}))
    assert adam.build([torch.nn.Parameter(torch.ones(1))], 0.5, 1e-5).param_groups[0]["lr"] == 1e-3
    policy = create("lr_policy", Component(name="tlt2:ReduceLR_Poly", args={"poly_power": 0.9}))
    assert policy.factor(50, 200) == pytest.approx(0.75**0.9)


def test_a_finding_may_count_more_where_it_is_there() -> None:
    logits = torch.randn(4, 2, generator=torch.Generator().manual_seed(0))
    label = torch.tensor([[1, 0], [0, 1], [-1, 1], [1, 0]])
    weights = torch.tensor([[3.0, 1.0], [1.0, 5.0], [0.0, 5.0], [3.0, 1.0]])
    entropy = functional.binary_cross_entropy_with_logits(logits, label.clamp(0).float(), reduction="none")
    loss = build("BinaryClassificationLoss", positive_weights=[3, 5]).build("sigmoid", (1, 1))
    assert loss(logits, label).item() == pytest.approx(((entropy * weights).sum() / weights.sum()).item(), rel=1e-5)
    plain, even = build("BinaryClassificationLoss"), build("BinaryClassificationLoss", positive_weights=[1, 1])
    torch.testing.assert_close(plain.build("sigmoid")(logits, label), even.build("sigmoid")(logits, label))
    with pytest.raises(ConfigError, match="positive_weights: 2, for 3 findings"):
        build("BinaryClassificationLoss", positive_weights=[3, 5]).build("sigmoid", (1, 1, 1))
