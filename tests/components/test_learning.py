"""Losses, optimizers and learning-rate policies against torch, MONAI or the formula."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from voxflow.components import Component, create


def build(kind: Any, name: str, **args: object) -> Any:
    return create(kind, Component(name=name, args=args))


@pytest.fixture
def masks() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 4, 4, 4, generator=generator)
    return logits, torch.randint(0, 3, (2, 1, 4, 4, 4), generator=generator, dtype=torch.uint8)


def soft_dice(logits: torch.Tensor, label: torch.Tensor, *, squared: bool = False) -> np.ndarray:
    probability = torch.softmax(logits, 1).double().numpy()
    truth = np.moveaxis(np.eye(3)[label[:, 0].numpy()], -1, 1)
    axes, power = (2, 3, 4), 2 if squared else 1
    return np.asarray(2 * (probability * truth).sum(axes) / ((probability**power).sum(axes) + truth.sum(axes)))


@pytest.mark.parametrize("squared", [False, True])
def test_dice_is_one_minus_the_soft_dice(masks: tuple[torch.Tensor, torch.Tensor], squared: bool) -> None:
    loss = build("loss", "Dice", squared_pred=squared, smooth=0.0).build("softmax")
    assert float(loss(*masks)) == pytest.approx(1 - soft_dice(*masks, squared=squared).mean(), abs=1e-5)


def test_dice_can_skip_the_background(masks: tuple[torch.Tensor, torch.Tensor]) -> None:
    loss = build("loss", "Dice", skip_background=True).build("softmax")
    assert float(loss(*masks)) == pytest.approx(1 - soft_dice(*masks)[:, 1:].mean(), abs=1e-4)


def test_dice_ce_adds_cross_entropy(masks: tuple[torch.Tensor, torch.Tensor]) -> None:
    logits, label = masks
    loss = build("loss", "DiceCE", lambda_ce=0.5).build("softmax")
    entropy = torch.nn.functional.cross_entropy(logits, label[:, 0].long())
    assert float(loss(logits, label)) == pytest.approx(1 - soft_dice(*masks).mean() + 0.5 * float(entropy), abs=1e-4)


def test_binary_loss_leaves_unknown_findings_out() -> None:
    logits, label = torch.tensor([[1.0, -2.0], [0.5, 9.0]]), torch.tensor([[1.0, 0.0], [0.0, -1.0]])
    value = float(build("loss", "BinaryClassificationLoss").build("sigmoid")(logits, label))
    expected = torch.nn.functional.binary_cross_entropy_with_logits(
        torch.tensor([1.0, -2.0, 0.5]), torch.tensor([1.0, 0, 0])
    )
    assert value == pytest.approx(float(expected))


@pytest.mark.parametrize("name", ["Adam", "AdamW", "NovoGrad"])
def test_optimizers_take_the_global_rate_unless_they_have_their_own(name: str) -> None:
    weight = torch.nn.Parameter(torch.ones(3))
    group = build("optimizer", name).build([weight], 0.01, 1e-5).param_groups[0]
    assert (group["lr"], group["weight_decay"]) == (0.01, 1e-5)
    optimizer = build("optimizer", name, lr=0.5, weight_decay=0.1).build([weight], 0.01, 0.0)
    assert (optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["weight_decay"]) == (0.5, 0.1)
    weight.grad = torch.ones(3)
    optimizer.step()
    assert (weight < 1).all()


def test_decay_on_step_is_a_staircase() -> None:
    policy = build("lr_policy", "DecayOnStep", decay_ratio=0.1, decay_freq=10)
    assert [policy.factor(step, 100) for step in (0, 9, 10, 25)] == pytest.approx([1, 1, 0.1, 0.01])


def test_poly_and_cosine_fall_from_one_to_zero() -> None:
    poly, cosine = build("lr_policy", "ReducePoly", poly_power=0.9), build("lr_policy", "ReduceCosine")
    assert [poly.factor(step, 10) for step in (0, 5, 10)] == pytest.approx([1, 0.5**0.9, 0])
    assert [cosine.factor(step, 10) for step in (0, 5, 10)] == pytest.approx([1, 0.5, 0])
    assert build("lr_policy", "ReduceCosine", rate=0.5).factor(6, 10) == 0


@pytest.mark.filterwarnings("ignore:Detected call of")
def test_one_cycle_matches_torch() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0)
    reference = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1.0, total_steps=50, pct_start=0.2)
    policy = build("lr_policy", "OneCycle", warmup=0.2)
    for step in range(50):
        assert policy.factor(step, 50) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-5), step
        if step < 49:
            optimizer.step()
            reference.step()
