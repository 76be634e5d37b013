"""The metrics that Clara 4 names, by MONAI's handlers, on MONAI's own computations."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from pydantic import Field, model_validator

from voxflow.components.chain import build_transform
from voxflow.components.metrics.base import Metric, Outputs, mean_defined
from voxflow.components.registry import register
from voxflow.findings import ArgumentError, suggest
from voxflow.spec import TransformSpec  # noqa: TC001 (pydantic reads annotations at run time)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


# Arguments of MONAI's handlers that have one value here: classes are averaged, then cases.
FIXED: dict[str, tuple[Any, ...]] = {"reduction": ("mean",), "is_multilabel": (False,)}
# Those that change no number.
WITHOUT_MEANING = ("device", "return_with_label", "save_details")


class MonaiMetric(Metric):
    """A metric of predictions after ``post_transforms``, a case at a time.

    Attributes:
        post_transforms: what turns the network's answer (the field ``pred``) and the label into what is compared.
        args: the handler's own arguments.
        label_field: the output that holds the label.
        compared: the fields of prediction and label once ``post_transforms`` have run.
    """

    label_field: str = "label"
    compared: tuple[str, str] = ("pred", "label")
    post_transforms: tuple[TransformSpec, ...] = ()
    args: dict[str, Any] = Field(default_factory=dict)

    # The handler's arguments that are obeyed, with their types.
    obeyed: ClassVar[dict[str, tuple[type, ...]]] = {}

    @model_validator(mode="after")
    def _check_arguments(self) -> Self:
        """Refuse what is not computed: an argument that nobody reads would leave other numbers than were asked for."""
        for name, value in self.args.items():
            if name in self.obeyed:
                if not isinstance(value, self.obeyed[name]):
                    words = " or ".join(kind.__name__ for kind in self.obeyed[name])
                    raise ArgumentError(f"{name}: expected {words}, received {value!r}", code="wrong-type")
            elif name in FIXED:
                if value not in FIXED[name]:
                    raise ArgumentError(f"{name}: {value!r} is not carried", fix=f"write {FIXED[name][0]!r}")
            elif name not in WITHOUT_MEANING:
                near = suggest(name, [*self.obeyed, *FIXED, *WITHOUT_MEANING], present=self.args)
                raise ArgumentError(f"takes no argument {name!r}", code="unknown-argument", fix=near)
        return self

    def pairs(self, outputs: Outputs) -> list[tuple[Any, Any]]:
        """Return prediction and label of each case of a batch, after ``post_transforms``.

        Returns:
            Pairs of float tensors (channel, ...spatial), or (finding,) for radiographs.
        """
        import torch

        transforms = [build_transform(spec) for spec in self.post_transforms]
        pairs = []
        labels = np.asarray(outputs[self.label_field])
        for pred, label in zip(np.asarray(outputs[self.field]), labels, strict=True):
            sample: dict[str, Any] = {"pred": pred, "label": label}
            if pred.ndim == 1:
                sample = {name: value.reshape(-1, 1, 1) for name, value in sample.items()}
            for transform in transforms:
                sample = transform(sample)
            pair = [torch.as_tensor(np.ascontiguousarray(sample[name])).float() for name in self._compared_fields]
            pairs.append((pair[0].flatten(), pair[1].flatten()) if pred.ndim == 1 else (pair[0], pair[1]))
        return pairs

    @property
    def _compared_fields(self) -> tuple[str, str]:
        """The two fields to compare; an evaluation's own chain has made them already."""
        return self.compared if self.post_transforms else ("pred", "label")

    def values_by_case(self, batches: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """What each case scored, for a report.

        Args:
            batches: what :meth:`measure` returned, in order.

        Returns:
            (case, class), NaN where undefined; (0, 0) for a metric that is of all cases together.
        """
        return np.zeros((0, 0))


class IterationMetric(MonaiMetric):
    """One number a case and class, averaged over the classes of each case, then over the cases, as MONAI does."""

    def measure(self, outputs: Outputs) -> NDArray[Any]:
        """The numbers (batch, class), NaN where undefined."""
        values = []
        for pred, label in self.pairs(outputs):
            values.append(np.asarray(self.compute(pred[None], label[None]), float).reshape(1, -1))
        scores = np.concatenate(values)
        return np.where(np.isfinite(scores), scores, np.nan)

    def values_by_case(self, batches: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """The numbers of each case and class."""
        return np.concatenate(batches)

    @abstractmethod
    def compute(self, pred: Any, label: Any) -> Any:
        """Compute one case's numbers.

        Args:
            pred: (1, class, ...), one-hot or probabilities, as ``post_transforms`` left it.
            label: of the same shape.

        Returns:
            (1, class); NaN or infinite where undefined.
        """

    def summarise(self, batches: Sequence[NDArray[Any]], class_names: Sequence[str]) -> dict[str, float]:
        """The mean under ``name``."""
        return {self.name: mean_defined(np.array([mean_defined(case) for case in np.concatenate(batches)]))}


@register("metric", "clara4", name="MeanDice")
class MeanDice(IterationMetric):
    """MONAI's Dice; a class that is not in the label is left out."""

    obeyed: ClassVar[dict[str, tuple[type, ...]]] = {"include_background": (bool,), "num_classes": (int,)}

    def compute(self, pred: Any, label: Any) -> Any:
        """Dice of each class."""
        from monai.metrics import DiceMetric

        background = self.args.get("include_background", True)
        classes = self.args.get("num_classes")
        return DiceMetric(include_background=background, reduction="none", num_classes=classes)(pred, label)


@register("metric", "clara4", name="MeanIoUHandler")
class MeanIoU(IterationMetric):
    """MONAI's intersection over union."""

    obeyed: ClassVar[dict[str, tuple[type, ...]]] = {"include_background": (bool,)}

    def compute(self, pred: Any, label: Any) -> Any:
        """Jaccard of each class."""
        from monai.metrics import compute_iou

        return compute_iou(pred, label, include_background=self.args.get("include_background", True))


@register("metric", "clara4", name="HausdorffDistance")
class HausdorffDistance(IterationMetric):
    """MONAI's Hausdorff distance, in voxels."""

    obeyed: ClassVar[dict[str, tuple[type, ...]]] = {
        "include_background": (bool,),
        "distance_metric": (str,),
        "percentile": (float, int),
        "directed": (bool,),
    }

    def compute(self, pred: Any, label: Any) -> Any:
        """The distance of each class."""
        from monai.metrics import compute_hausdorff_distance

        shared = {name: self.args[name] for name in ("distance_metric", "percentile", "directed") if name in self.args}
        return compute_hausdorff_distance(pred, label, self.args.get("include_background", False), **shared)


@register("metric", "clara4", name="SurfaceDistance")
class SurfaceDistance(IterationMetric):
    """MONAI's average surface distance, in voxels."""

    obeyed: ClassVar[dict[str, tuple[type, ...]]] = {
        "include_background": (bool,),
        "distance_metric": (str,),
        "symmetric": (bool,),
    }

    def compute(self, pred: Any, label: Any) -> Any:
        """The distance of each class."""
        from monai.metrics import compute_average_surface_distance

        shared = {name: self.args[name] for name in ("distance_metric", "symmetric") if name in self.args}
        return compute_average_surface_distance(pred, label, self.args.get("include_background", False), **shared)


@register("metric", "clara4", name="Accuracy")
class Accuracy(MonaiMetric):
    """Share of voxels, or of cases, whose likeliest channel is the label's."""

    def measure(self, outputs: Outputs) -> NDArray[Any]:
        """Right ones and all of a batch (1, 2)."""
        right = total = 0
        for pred, label in self.pairs(outputs):
            truth = label.argmax(0) if label.shape[0] > 1 and label.shape == pred.shape else label
            answer = pred.argmax(0) if pred.shape[0] > 1 else pred > 0.5
            right += int((answer == truth.reshape(answer.shape)).sum())
            total += truth.numel()
        return np.array([[right, total]], float)

    def values_by_case(self, batches: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """The share of each case."""
        counts = np.concatenate(batches)
        return np.asarray(counts[:, :1] / counts[:, 1:])

    def summarise(self, batches: Sequence[NDArray[Any]], class_names: Sequence[str]) -> dict[str, float]:
        """The share under ``name``."""
        right, total = np.concatenate(batches).sum(0)
        return {self.name: float(right / total)}


@register("metric", "clara4", name="ROCAUC")
class RocAuc(MonaiMetric):
    """MONAI's area under the ROC curve over all cases."""

    obeyed: ClassVar[dict[str, tuple[type, ...]]] = {"average": (str,)}

    def measure(self, outputs: Outputs) -> NDArray[Any]:
        """Scores and labels (2, batch, class)."""
        pairs = self.pairs(outputs)
        return np.stack([np.stack([pair[side].numpy() for pair in pairs]) for side in (0, 1)])

    def summarise(self, batches: Sequence[NDArray[Any]], class_names: Sequence[str]) -> dict[str, float]:
        """Return the area under the ROC curve over all cases, under ``name``.

        Args:
            batches: (2, case, class) each, scores first.
            class_names: ignored; MONAI's handler gives one number.

        Returns:
            NaN where a class is the same in every case.
        """
        import torch
        from monai.metrics import compute_roc_auc

        scores, labels = np.concatenate(batches, axis=1)
        if any(len(np.unique(column)) < 2 for column in labels.T):
            return {self.name: float("nan")}
        average = self.args.get("average", "macro")
        return {self.name: float(compute_roc_auc(torch.as_tensor(scores), torch.as_tensor(labels), average))}
