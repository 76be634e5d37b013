"""Auxiliary operations: what validation computes beside the loss, for metrics to read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from pydantic import BeforeValidator, Field

from voxflow.components.label_format import (
    compute_probabilities,
    encode_one_vs_rest,
    predict_classes,
    read_label_format,
)
from voxflow.components.metrics.base import AuxiliaryOperation, Outputs, mean_defined
from voxflow.components.metrics.overlap import compute_dice_by_class
from voxflow.components.registry import register

if TYPE_CHECKING:
    from numpy.typing import NDArray


def _parse_tags(value: Any) -> Any:
    """Clara writes "dice" as well as ["dice"]."""
    return (value,) if isinstance(value, str) else tuple(value) if type(value) is list else value


Tags = Annotated[tuple[str, ...], BeforeValidator(_parse_tags), Field(min_length=1)]


@register("aux_op")
class ComputeAccuracy(AuxiliaryOperation):
    """Share of columns that are right in each case, as the output ``tag``.

    Attributes:
        use_sigmoid: findings are judged one by one at probability 0.5, a column of several classes by its likeliest;
            else the likeliest of all findings is compared.
    """

    tag: str = "accuracy"
    use_sigmoid: bool = True

    def compute(self, outputs: Outputs) -> Outputs:
        """Compute the share of right columns of each case.

        Returns:
            The output ``tag``: (batch,) from 0 to 1; unknown columns are left out, and a case without a known one is
            NaN.
        """
        logits, label = np.asarray(outputs["model"]), np.asarray(outputs["label"])
        label_format = read_label_format(outputs, label)
        if not self.use_sigmoid and set(label_format) == {1} and len(label_format) > 1:
            return {self.tag: (logits.argmax(1) == label.argmax(1)).astype(float)}
        right = np.where(label >= 0, predict_classes(logits, label_format) == np.rint(label), np.nan)
        return {self.tag: np.array([mean_defined(case) for case in right])}


@register("aux_op")
class ComputeBinaryPreds(AuxiliaryOperation):
    """Probabilities and labels of the findings under two names; a column of several classes as one finding a class."""

    binary_preds_name: str = "binary_preds"
    binary_labels_name: str = "binary_labels"

    def compute(self, outputs: Outputs) -> Outputs:
        """Compute probabilities and labels that can be compared logit by logit.

        Returns:
            Two outputs (batch, logit): probabilities from 0 to 1, and labels 0, 1 or negative where unknown.
        """
        logits, label = np.asarray(outputs["model"]), np.asarray(outputs["label"])
        label_format = read_label_format(outputs, label)
        labels = label if set(label_format) == {1} else encode_one_vs_rest(label, label_format)
        return {self.binary_preds_name: compute_probabilities(logits, label_format), self.binary_labels_name: labels}


@register("aux_op")
class DiceMaskedOutput(AuxiliaryOperation):
    """Dice of each case; a class that the label does not hold is masked out, whatever was predicted.

    Attributes:
        tags: names of the outputs: one: the mean over the classes; one more than there are classes: the mean, then
            each class; as many as there are classes (two or more): each class.
        skip_background: leave class 0 out.
        is_onehot_targets: the label has one channel a class instead of one of indices.
        is_independent_predictions: classes may overlap: each channel is judged at probability 0.5, instead of the
            largest of all.
    """

    tags: Tags = ("dice",)
    skip_background: bool = False
    is_onehot_targets: bool = False
    is_independent_predictions: bool = False

    def makes(self) -> tuple[str, ...]:
        """Its tags."""
        return self.tags

    def compute(self, outputs: Outputs) -> Outputs:
        """Compute the Dice of each case.

        Returns:
            (batch,) under each tag, NaN where the label holds none of the class.

        Raises:
            ValueError: the label's channels are not the network's, or the number of tags fits no reading of them.
        """
        logits, label = np.asarray(outputs["model"]), np.asarray(outputs["label"])
        classes = logits.shape[1]
        truth = label > 0 if self.is_onehot_targets or classes == 1 else _one_hot(label[:, 0], classes)
        if truth.shape[1] != classes:
            raise ValueError(f"the label has {truth.shape[1]} channels, the network answers with {classes}")
        independent = self.is_independent_predictions or classes == 1
        guess = logits > 0 if independent else _one_hot(logits.argmax(1), classes)
        first = int(self.skip_background and classes > 1)
        scores = compute_dice_by_class(guess[:, first:], truth[:, first:])
        present = truth[:, first:].reshape(*scores.shape, -1).any(2)
        return self._tag_scores(np.where(present, scores, np.nan))

    def _tag_scores(self, scores: NDArray[np.float64]) -> Outputs:
        mean = np.array([mean_defined(case) for case in scores])
        count = scores.shape[1]
        if len(self.tags) == 1:
            return {self.tags[0]: mean}
        if len(self.tags) not in (count, count + 1):
            raise ValueError(
                f"{len(self.tags)} tags {list(self.tags)} for {count} classes: give 1, {count} or {count + 1}"
            )
        columns = scores.T if len(self.tags) == count else [mean, *scores.T]
        return dict(zip(self.tags, columns, strict=True))


@register("aux_op")
class NegLoss(AuxiliaryOperation):
    """The loss of each case with its sign turned, so that a metric of it is better when higher."""

    needs_loss: ClassVar[bool] = True

    tag: str = "neg_loss"

    def compute(self, outputs: Outputs) -> Outputs:
        """The negative loss (batch,)."""
        return {self.tag: -np.asarray(outputs["loss"], float)}


def _one_hot(indices: NDArray[Any], classes: int) -> NDArray[np.bool_]:
    """Masks (batch, class, ...) of class indices (batch, ...)."""
    return np.asarray(np.arange(classes).reshape(1, -1, *(1,) * (indices.ndim - 1)) == indices[:, None])
