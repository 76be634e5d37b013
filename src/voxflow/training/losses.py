"""Chooses a training's loss; computes Dice and cross entropy on a CPU several times faster than MONAI's losses do.

The numbers are the same. MONAI's losses make a one-hot copy of the mask and softmax over channels that lie side by
side, which torch does not vectorise: on two cores that is a third of a step in bfloat16. Here a sample's channels are
laid out one after the other, every sum is one pass, and the gradient is written down directly.

Forward, for each sample: softmax over the classes, and five sums for each class (:func:`_sum_classes`). The loss
depends on the voxels only through these sums, so its gradient by the probability of class c at a voxel takes two
values: one where the mask is c and one where it is not (:func:`_combine_sums`; with ``squared`` a multiple of the
probability comes on top). Backward, :func:`_write_gradient` turns that into the gradient by the logits: with slope s
and probability p it is ``p * (s - sum over classes of p * s)``. Of two classes one is the rest of the other, which
halves the work.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch

from voxflow.components import Dice, DiceCE, OverlapLoss, leave_out_unlabelled

if TYPE_CHECKING:
    from voxflow.components import Loss, LossFunction
    from voxflow.training.plan import TrainingPlan


@dataclass(frozen=True)
class DiceSettings:
    """The arguments of a Dice or Dice and cross entropy loss; see :class:`voxflow.components.DiceCE`."""

    squared: bool
    smooth: float
    batch: bool
    skip_background: bool
    dice: float
    entropy: float


def choose_loss(plan: TrainingPlan, device: torch.device) -> LossFunction:
    """Return the loss of logits as the network computed them; on a CPU in a quicker form where there is one."""
    activation = plan.network.final_activation
    fast = cpu_loss(plan.loss, activation) if device.type == "cpu" else None
    if plan.unlabelled is not None:
        return leave_out_unlabelled(plan.loss, activation, plan.unlabelled.sets, fast)
    if fast is not None:
        return fast
    configured = plan.loss.build(activation, plan.facts.label_format)
    return lambda logits, label: configured(logits.float(), label)


def cpu_loss(loss: Loss, activation: str) -> LossFunction | None:
    """Return the fast form of a loss on a CPU.

    Args:
        loss: the configured loss.
        activation: the network's final activation. "softmax" has a fast form for labels of class indices, "sigmoid" for
            a mask a class.

    Returns:
        A function of logits (batch, class, i, j, k) or (batch, class, rows, columns), any float type, and labels
        (batch, 1 or class, ...spatial); None where the loss has no fast form and its own must be built.

    Example:
        >>> from voxflow.components import create, Component
        >>> compute_loss = cpu_loss(create("loss", Component(name="Dice")), "softmax")
        >>> logits = torch.tensor([[[[20.0, -20.0]], [[-20.0, 20.0]]]])
        >>> round(float(compute_loss(logits, torch.tensor([[[[0, 1]]]]))), 4)  # both voxels are right
        0.0
    """
    if type(loss) not in {Dice, DiceCE}:
        return None
    overlap_loss = cast("OverlapLoss", loss)
    if overlap_loss.is_onehot_targets != (activation == "sigmoid"):
        return None
    function = _SigmoidDiceCE if activation == "sigmoid" else _DiceCE
    settings = DiceSettings(
        squared=overlap_loss.squared_pred,
        smooth=overlap_loss.smooth,
        batch=getattr(overlap_loss, "batch", False),
        skip_background=overlap_loss.skip_background,
        dice=getattr(overlap_loss, "lambda_dice", 1.0),
        entropy=getattr(overlap_loss, "lambda_ce", 0.0),
    )

    def compute_loss(logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        return cast("torch.Tensor", function.apply(logits, label, settings))  # type: ignore[no-untyped-call]

    return compute_loss


class _DiceCE(torch.autograd.Function):
    """Logits (batch, class, ...spatial) of any float type and memory layout, label (batch, 1, ...spatial)."""

    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, label: torch.Tensor, settings: DiceSettings) -> torch.Tensor:
        classes, voxels = logits.shape[1], logits[0, 0].numel()
        measure = _sum_two_classes if classes == 2 else _sum_classes
        samples = [
            measure(sample_logits, mask[0].reshape(-1))
            for sample_logits, mask in zip(logits.detach(), label, strict=True)
        ]
        probabilities = [sample_probabilities for sample_probabilities, _ in samples]
        # Rows of (batch, what, class): overlap, size of the mask, sum of probabilities, sum of their squares, entropy.
        sums = torch.stack([row for _, row in samples]).double()
        value, on_mask, on_probability = _combine_sums(sums, settings)
        weight = settings.entropy / (len(samples) * voxels)
        ctx.parts = label, probabilities, on_mask.tolist(), on_probability.tolist(), weight, settings
        ctx.like = logits
        entropy: torch.Tensor = sums[:, 4].sum() * weight
        return (value + entropy).float()

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        label, probabilities_of_samples, on_mask, on_probability, weight, settings = ctx.parts
        gradient, scale = torch.empty_like(ctx.like), float(outer[0])
        write = _write_two_class_gradient if gradient.shape[1] == 2 else _write_gradient
        for n, probabilities in enumerate(probabilities_of_samples):
            mask = label[n, 0].reshape(-1)
            scaled = [value * scale for value in on_mask[n]], [value * scale for value in on_probability[n]]
            write(gradient[n], probabilities, mask, *scaled, weight=weight * scale, squared=settings.squared)
        ctx.parts = ctx.like = None
        return gradient, None, None


class _SigmoidDiceCE(torch.autograd.Function):
    """Logits (batch, class, ...spatial) of any float type, and a mask a class, (batch, class, ...spatial)."""

    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, label: torch.Tensor, settings: DiceSettings) -> torch.Tensor:
        pairs = zip(logits.detach(), label, strict=True)
        samples = [_sum_channels(sample_logits, masks) for sample_logits, masks in pairs]
        sums = torch.stack([row for _, row in samples]).double()
        value, on_mask, on_probability = _combine_sums(sums, settings)
        weight = settings.entropy / logits.numel()
        ctx.parts = label, [plane for plane, _ in samples], on_mask.tolist(), on_probability.tolist(), weight, settings
        ctx.like = logits
        return (value + sums[:, 4].sum() * weight).float()

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        label, samples, on_mask, on_probability, weight, settings = ctx.parts
        gradient, scale = torch.empty_like(ctx.like), float(outer[0])
        for n, probabilities in enumerate(samples):
            for number, plane in enumerate(probabilities):
                inside = label[n, number].reshape(-1).float()
                slope = inside * on_mask[n][number]
                slope.add_(plane if settings.squared else 1.0, alpha=on_probability[n][number])
                # The slope of a sigmoid is p (1 - p); the cross entropy's own slope by the logit is p - t.
                slope.mul_(torch.addcmul(plane, plane, plane, value=-1))
                slope.add_(plane, alpha=weight).sub_(inside, alpha=weight)
                gradient[n, number].copy_(slope.mul_(scale).view(gradient.shape[2:]))
        ctx.parts = ctx.like = None
        return gradient, None, None


def _sum_channels(logits: torch.Tensor, masks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Probabilities (class, voxel) of one sample whose channels are judged by themselves, and its sums (5, class)."""
    planes = torch.empty(len(logits), logits[0].numel())
    rows = []
    for plane, channel, mask in zip(planes, logits, masks, strict=True):
        plane.view(channel.shape).copy_(channel)
        inside = mask.reshape(-1).float()
        entropy = torch.nn.functional.softplus(plane).sum() - torch.dot(inside, plane)
        plane.sigmoid_()
        size = inside.sum()
        rows.append(torch.stack((torch.dot(inside, plane), size, plane.sum(), torch.dot(plane, plane), entropy)))
    return planes, torch.stack(rows, 1)


def _combine_sums(sums: torch.Tensor, settings: DiceSettings) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The Dice term, and its slopes: by a probability inside the mask, and by any one (by its double, if squared)."""
    overlap, truth, linear, squares, _ = sums.unbind(1)
    first, count = int(settings.skip_background), len(sums)
    predicted = squares if settings.squared else linear
    if settings.batch:
        overlap, truth, predicted = (value.sum(0, keepdim=True) for value in (overlap, truth, predicted))
    numerator, denominator = 2 * overlap + settings.smooth, truth + predicted + settings.smooth
    scale = settings.dice / (1 - numerator / denominator)[:, first:].numel()
    # The loss is 1 - n / d: a probability inside the mask stands twice in n, and each one once in d, or squared.
    on_mask = -2 / denominator * scale
    on_probability = numerator / denominator**2 * scale * (2 if settings.squared else 1)
    on_mask[:, :first] = on_probability[:, :first] = 0
    classes = sums.shape[2]
    value = (1 - numerator / denominator)[:, first:].sum() * scale
    return value, on_mask.expand(count, classes), on_probability.expand(count, classes)


def _sum_classes(logits: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Probabilities (class, voxel) of one sample, and its sums (5, class)."""
    planes = torch.empty(len(logits), mask.numel())
    for plane, class_logits in zip(planes, logits, strict=True):
        plane.view(class_logits.shape).copy_(class_logits)
    # With an axis before it, torch vectorises along the voxels.
    logarithms = torch.log_softmax(planes[None], 1)[0]
    inside = torch.empty(mask.numel())
    rows = []
    for number, plane in enumerate(logarithms):
        inside.copy_(mask == number)
        entropy = -torch.dot(inside, plane)
        plane.exp_()
        size = inside.sum()
        rows.append(torch.stack((torch.dot(inside, plane), size, plane.sum(), torch.dot(plane, plane), entropy)))
    return logarithms, torch.stack(rows, 1)


def _sum_two_classes(logits: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Do the same for two classes, of which one is the rest of the other: probabilities (voxel,) of class 1."""
    voxels = float(mask.numel())
    difference = torch.empty(logits.shape[1:]).copy_(logits[1]).sub_(logits[0]).view(-1)
    inside = mask.float()
    size = inside.sum()
    weighted = torch.dot(inside, difference)
    entropy = torch.nn.functional.softplus(difference).sum() - weighted
    first = difference.sigmoid_()
    overlap, total, squares = torch.dot(inside, first), first.sum(), torch.dot(first, first)
    nothing = torch.zeros(())
    background = (voxels - size - total + overlap, voxels - size, voxels - total, voxels - 2 * total + squares, nothing)
    return first, torch.stack([torch.stack(background), torch.stack((overlap, size, total, squares, entropy))], 1)


def _write_gradient(
    gradient: torch.Tensor,
    probabilities: torch.Tensor,
    mask: torch.Tensor,
    on_mask: list[float],
    on_probability: list[float],
    *,
    weight: float,
    squared: bool,
) -> None:
    """Write the gradient (class, ...spatial) of one sample's logits."""
    inside, slope, mean = torch.empty(mask.numel()), torch.empty(mask.numel()), torch.zeros(mask.numel())

    def slope_of(number: int) -> torch.Tensor:
        """Return the loss's slope by the probability of one class: (voxel,), in the memory of ``slope``."""
        inside.copy_(mask == number)
        torch.mul(inside, on_mask[number], out=slope)
        if squared:
            return slope.add_(probabilities[number], alpha=on_probability[number])
        return slope.add_(on_probability[number])

    for number, plane in enumerate(probabilities):
        mean.addcmul_(plane, slope_of(number))
    for number, plane in enumerate(probabilities):
        slope_of(number).sub_(mean).add_(weight).mul_(plane).sub_(inside, alpha=weight)
        gradient[number].copy_(slope.view(gradient.shape[1:]))


def _write_two_class_gradient(
    gradient: torch.Tensor,
    first: torch.Tensor,
    mask: torch.Tensor,
    on_mask: list[float],
    on_probability: list[float],
    *,
    weight: float,
    squared: bool,
) -> None:
    """Do the same for two classes: the gradient of one is the negative of the other's."""
    inside = mask.float()
    by_mask, by_first = sum(on_mask), sum(on_probability) if squared else 0.0
    constant = -sum(on_mask[:1]) - on_probability[0] + (0.0 if squared else on_probability[1])
    slope = torch.mul(inside, by_mask)
    if by_first:
        slope.add_(first, alpha=by_first)
    slope.add_(constant).mul_(torch.addcmul(first, first, first, value=-1))
    slope.add_(first, alpha=weight).sub_(inside, alpha=weight)
    slope = slope.to(gradient.dtype).view(gradient.shape[1:])
    together = gradient.permute(1, 2, 3, 0) if gradient.ndim == 4 else gradient.permute(1, 2, 0)
    if together.is_contiguous():
        torch.stack((-slope, slope), -1, out=together)
    else:
        torch.neg(slope, out=gradient[0]) if gradient[0].is_contiguous() else gradient[0].copy_(-slope)
        gradient[1].copy_(slope)
