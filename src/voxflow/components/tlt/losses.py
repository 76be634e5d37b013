"""Losses under TLT 2's names."""

from __future__ import annotations

from voxflow.components.losses.classification import ClassificationLoss
from voxflow.components.losses.overlap import Dice
from voxflow.components.registry import register


@register("loss", dialect="tlt2", name="dice_loss")
class TltDice(Dice):
    """TLT's name for Dice."""


@register("loss", dialect="tlt2", name="classification_loss")
class TltClassificationLoss(ClassificationLoss):
    """TLT's one loss of classifiers: findings, several classes, or both."""
