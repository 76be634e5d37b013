"""Losses of the labelled voxels alone: what nobody labelled is cut out before the loss sees it.

Voxels of which nothing is known (``UNKNOWN``) are cut out of logits and label, case by case; what is left is handed to
the loss as one line of voxels. This needs a loss that is a sum over voxels, whatever their places.

Where some classes were not labelled in a case, a voxel of its background may be of these classes. Classes that exclude
each other are judged by the marginal loss (Shi et al., Marginal loss and exclusion loss for partially supervised
multi-organ segmentation, Medical Image Analysis 70, 2021): the probabilities of these classes are added to that of the
background, and the loss is that of the classes that remain. Regions, each judged by itself, are left out by region.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from voxflow.components.unlabelled import UNKNOWN, number_of_set

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import torch

    from voxflow.components.losses.base import Loss, LossFunction

Piece = tuple["torch.Tensor", "torch.Tensor", float]  # logits (1, class, voxel), label (1, 1 or class, voxel), weight


def leave_out_unlabelled(
    loss: Loss, activation: str, sets: Sequence[Sequence[int]], whole: Callable[..., Any] | None = None
) -> LossFunction:
    """Build a loss that leaves out the voxels that nobody labelled.

    Args:
        loss: a sum over voxels; see :meth:`Loss.sums_over_voxels`.
        activation: "softmax" or "sigmoid".
        sets: the classes that each negative value below UNKNOWN stands for, besides the background.
        whole: the loss of a batch without such voxels; None: the one that ``loss`` builds.

    Returns:
        A function of logits (batch, class, ...spatial) and labels (batch, 1 or class, ...spatial) that are negative
        where unknown. A case counts as much as another, however many of its voxels are labelled; one without any does
        not count, and a batch without any has the loss 0.
    """
    built = loss.build(activation)
    # With one background less there is nothing to skip.
    skip = {"skip_background": False} if getattr(loss, "skip_background", False) else {}
    if getattr(loss, "arguments", {}).get("include_background") is False:
        skip = {"include_background": True}
    without_first = loss.model_copy(update=skip).build(activation) if skip else built
    takes_batch = bool(getattr(loss, "batch", False) or getattr(loss, "arguments", {}).get("batch"))

    def compute_loss(logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        if not bool((label < 0).any()):
            result: torch.Tensor = whole(logits, label) if whole else built(logits.float(), label)
            return result
        logits = logits.float()
        total, weight = logits.sum() * 0.0, 0.0
        is_by_channel = label.shape[1] > 1
        pieces = _cut_channels(logits, label, takes_batch) if is_by_channel else _cut(logits, label, sets, takes_batch)
        for piece_logits, piece_label, piece_weight in pieces:
            is_whole = piece_logits.shape[1] == logits.shape[1] or not is_by_channel
            total = total + piece_weight * (built if is_whole else without_first)(piece_logits, piece_label)
            weight += piece_weight
        return total / weight if weight else total

    return compute_loss


def _cut(
    logits: torch.Tensor, label: torch.Tensor, sets: Sequence[Sequence[int]], takes_batch: bool
) -> Iterator[Piece]:
    """The known voxels of each case, or of all cases with the same unlabelled classes; label of class indices."""
    import torch

    groups: dict[int, list[tuple[torch.Tensor, torch.Tensor]]] = {}
    for number, (case_logits, case_label) in enumerate(zip(logits.flatten(2), label.flatten(2), strict=True)):
        known, lowest = case_label[0] != UNKNOWN, int(case_label.min())
        case = case_logits[:, known], case_label[:, known]
        if lowest < UNKNOWN:
            case = _merge(*case, sets[number_of_set(lowest)])
        # Of a background that may be any class, nothing is left to learn.
        if case[1].numel() and (lowest >= UNKNOWN or len(case[0]) > 1):
            groups.setdefault(min(lowest, UNKNOWN) if takes_batch else number, []).append(case)
    for members in groups.values():
        joined_logits, joined_label = (torch.cat(parts, -1)[None] for parts in zip(*members, strict=True))
        yield joined_logits, joined_label, float(len(members))


def _merge(logits: torch.Tensor, label: torch.Tensor, unlabelled: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Add the probabilities of unlabelled classes to the background's; (class, voxel), (1, voxel)."""
    import torch

    merged = [0, *unlabelled] if len(logits) > 1 else [0]
    kept = [number for number in range(1, len(logits)) if number not in merged]
    numbers = torch.zeros(len(logits), dtype=torch.long, device=label.device)
    numbers[kept] = torch.arange(1, len(kept) + 1, device=label.device)
    together = torch.cat([logits[merged].logsumexp(0, keepdim=True), logits[kept]])
    return together, numbers[label.clamp(min=0).long()]


def _cut_channels(logits: torch.Tensor, label: torch.Tensor, takes_batch: bool) -> Iterator[Piece]:
    """The known voxels of each case, of channels that are known in the same voxels; label of a mask a channel."""
    cases = [(logits.transpose(0, 1).flatten(1), label.transpose(0, 1).flatten(1))]
    if not takes_batch:
        cases = list(zip(logits.flatten(2), label.flatten(2), strict=True))
    for case_logits, case_label in cases:
        known = case_label >= 0
        remaining = [number for number in range(len(known)) if bool(known[number].any())]
        while remaining:
            mask = known[remaining[0]]
            alike = [number for number in remaining if bool((known[number] == mask).all())]
            remaining = [number for number in remaining if number not in alike]
            yield case_logits[alike][:, mask][None], case_label[alike][:, mask][None], float(len(alike))
