"""The quick losses give MONAI's numbers and gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from monai.losses import DiceLoss

from voxflow.components import BinaryClassificationLoss, Dice, DiceCE
from voxflow.training.losses import cpu_loss

CASES: list[dict[str, Any]] = [
    {},
    {"squared_pred": True, "batch": True},
    {"skip_background": True, "lambda_ce": 0.3, "lambda_dice": 2.0},
    {"squared_pred": True, "skip_background": True},
    {"batch": True, "smooth": 1.0},
]


@pytest.mark.parametrize("classes", [2, 3, 5])
@pytest.mark.parametrize("args", CASES)
@pytest.mark.parametrize("last", [True, False])
def test_value_and_gradient_are_monais(classes: int, args: dict[str, Any], *, last: bool) -> None:
    generator = torch.Generator().manual_seed(classes)
    logits = torch.randn(3, classes, 7, 6, 5, generator=generator) * 3
    label = torch.randint(0, classes, (3, 1, 7, 6, 5), generator=generator, dtype=torch.uint8)
    label[0] = 0  # a sample without any class but the background
    if last:
        logits = logits.contiguous(memory_format=torch.channels_last_3d)
    loss = DiceCE(**args)
    quick = cpu_loss(loss, "softmax")
    assert quick is not None
    expected, fast_logits = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    (loss.build("softmax")(expected, label) * 0.5).backward()  # type: ignore[no-untyped-call]
    value = quick(fast_logits, label)
    (value * 0.5).backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(value, loss.build("softmax")(logits, label), rtol=1e-6, atol=1e-6)
    assert fast_logits.grad is not None
    torch.testing.assert_close(fast_logits.grad, expected.grad, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("args", CASES)
@pytest.mark.parametrize("last", [True, False])
def test_regions_have_monais_dice_and_torchs_binary_cross_entropy(args: dict[str, Any], *, last: bool) -> None:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(3, 4, 7, 6, 5, generator=generator) * 3
    label = torch.randint(0, 2, (3, 4, 7, 6, 5), generator=generator, dtype=torch.uint8)
    label[0, 1] = 0  # a region that a sample has not
    if last:
        logits = logits.contiguous(memory_format=torch.channels_last_3d)
    loss = DiceCE(is_onehot_targets=True, **args)
    quick = cpu_loss(loss, "sigmoid")
    assert quick is not None
    expected, fast_logits = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    reference = DiceLoss(
        sigmoid=True,
        include_background=not loss.skip_background,
        squared_pred=loss.squared_pred,
        batch=loss.batch,
        smooth_nr=loss.smooth,
        smooth_dr=loss.smooth,
    )
    entropy = torch.nn.functional.binary_cross_entropy_with_logits(expected, label.float())
    truth = loss.lambda_dice * reference(expected, label.float()) + loss.lambda_ce * entropy
    (truth * 0.5).backward()
    value = quick(fast_logits, label)
    (value * 0.5).backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(value, truth.detach(), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(loss.build("sigmoid")(logits, label), truth.detach(), rtol=1e-6, atol=1e-6)
    assert fast_logits.grad is not None
    torch.testing.assert_close(fast_logits.grad, expected.grad, rtol=1e-4, atol=1e-8)


def test_dice_alone_and_two_dimensions() -> None:
    logits, label = torch.randn(2, 2, 8, 8), torch.randint(0, 2, (2, 1, 8, 8), dtype=torch.int16)
    quick = cpu_loss(Dice(), "softmax")
    assert quick is not None
    torch.testing.assert_close(quick(logits, label), Dice().build("softmax")(logits, label))


def test_large_sums_stay_exact() -> None:
    """A million voxels of bfloat16 logits against the same in float64."""
    logits = torch.randn(1, 2, 100, 100, 100).bfloat16()
    label = torch.randint(0, 2, (1, 1, 100, 100, 100), dtype=torch.uint8)
    quick = cpu_loss(DiceCE(squared_pred=True), "softmax")
    assert quick is not None
    wide = logits.double()
    entropy = torch.nn.functional.cross_entropy(wide, label[:, 0].long())
    probability = wide.softmax(1)
    truth = torch.cat([label == 0, label == 1], 1).double()
    dice = 2 * (probability * truth).sum((2, 3, 4)) / ((probability**2).sum((2, 3, 4)) + truth.sum((2, 3, 4)))
    assert float(quick(logits, label)) == pytest.approx(float(entropy + (1 - dice).mean()), rel=2e-6)


@pytest.mark.parametrize(
    ("loss", "activation"),
    [(DiceCE(is_onehot_targets=True), "softmax"), (DiceCE(), "sigmoid"), (BinaryClassificationLoss(), "softmax")],
)
def test_other_losses_have_no_quick_form(loss: Any, activation: str) -> None:
    assert cpu_loss(loss, activation) is None
