"""TLT 2's names of metrics and auxiliary operations; their numbers are those of Clara's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, Field

from voxflow.components.metrics.aux_ops import ComputeAccuracy, ComputeBinaryPreds, DiceMaskedOutput
from voxflow.components.metrics.average import ComputeAverage
from voxflow.components.metrics.overlap import ComputeAverageDice
from voxflow.components.metrics.roc import ComputeAUC
from voxflow.components.registry import register

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from voxflow.components.metrics.base import Outputs

# TLT writes val_ before an output's name to mean its value in validation, which is where metrics look anyway.
Applied = Annotated[str, BeforeValidator(lambda key: key.removeprefix("val_") if isinstance(key, str) else key)]


@register("metric", dialect="tlt2")
class MetricAverage(ComputeAverage):
    """The mean of an auxiliary output; ``stopping_metric`` says that it chooses the best model."""

    name: str = Field(alias="tag")
    field: Applied = Field(alias="applied_key")
    is_key_metric: bool = Field(default=False, alias="stopping_metric")


@register("metric", dialect="tlt2")
class MetricAverageFromArrayDice(ComputeAverageDice):
    """Dice of masks; ``stopping_metric`` says that it chooses the best model."""

    name: str = Field(alias="tag")
    field: Applied = Field(default="model", alias="applied_key")
    label_field: str = Field(default="label", alias="label_key")
    is_key_metric: bool = Field(default=False, alias="stopping_metric")


@register("metric", dialect="tlt2")
class MetricAUC(ComputeAUC):
    """Area under the ROC curve; ``stopping_metric`` says that it chooses the best model.

    TLT knows "binary_preds" and "binary_labels" without any auxiliary output that makes them.
    """

    name: str = Field(alias="tag")
    field: Applied = Field(default="binary_preds", alias="applied_key")
    label_field: str = Field(default="binary_labels", alias="label_key")
    is_key_metric: bool = Field(default=False, alias="stopping_metric")

    def reads(self) -> tuple[str, ...]:
        """Return the fields that it reads, but those that TLT makes itself.

        A configuration of TLT names "binary_preds" and "binary_labels" without any auxiliary operation that makes them.
        """
        computed = ("binary_preds", "binary_labels")
        return tuple(name for name in (self.field, self.label_field) if name not in computed)

    def measure(self, outputs: Outputs) -> NDArray[Any]:
        """Scores and labels (2, batch, finding)."""
        missing = {self.field, self.label_field} - outputs.keys()
        return super().measure(ComputeBinaryPreds().compute(outputs) | outputs if missing else outputs)


def _only(value: Any) -> Any:
    return value[0] if isinstance(value, list) and len(value) == 1 else value


@register("aux_op", dialect="tlt2", name="compute_accuracy")
class TltAccuracy(ComputeAccuracy):
    """TLT's name for ComputeAccuracy, with ``tags`` for its one output."""

    tag: Annotated[str, BeforeValidator(_only)] = Field(default="accuracy", alias="tags")


@register("aux_op", dialect="tlt2", name="dice_metric_masked_output")
class TltDiceMaskedOutput(DiceMaskedOutput):
    """TLT's name for DiceMaskedOutput."""
