"""A user's own metrics and auxiliary operations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import PrivateAttr

from voxflow.components.custom.base import CustomComponent, adapts, to_arrays
from voxflow.components.metrics.base import AuxiliaryOperation, Metric, Outputs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


_METRIC_METHODS = (("update", "compute"), ("extend", "aggregate"))


@adapts("metric")
class CustomMetric(CustomComponent, Metric):
    """``update(prediction, label)`` and ``compute()``, or a MONAI Metric; both get logits and labels as tensors.

    Of a MONAI Metric each batch's own values are kept. Another class keeps what it needs itself; where several
    processes share the cases, each keeps its predictions, and every process then shows all of them to its object.

    Attributes:
        label_field: the output that is right.
    """

    label_field: str = "label"
    _object: Any = PrivateAttr(default=None)

    def measure(self, outputs: Outputs) -> NDArray[Any]:
        """Show one batch to the user's object.

        Returns:
            One item: a MONAI Metric's own values, or the tensors where several processes share the cases; else nothing,
            since the object itself keeps what it needs.
        """
        import torch

        if self._object is None:
            self._object = self._make_metric()
        pair = tuple(torch.as_tensor(np.asarray(outputs[name])) for name in (self.field, self.label_field))
        if hasattr(self._object, "aggregate"):
            values = self.guard(self._object, *pair)
            # Its values are kept here batch by batch; left in it, they would count again with the next.
            self.guard(self._object.reset)
            return _pack(tuple(values) if isinstance(values, tuple | list) else (values,))
        if _is_shared():
            return _pack(pair)
        self.guard(self._object.update, *pair)
        return np.zeros(0)

    def summarise(self, batches: Sequence[NDArray[Any]], class_names: Sequence[str]) -> dict[str, float]:
        """Return the numbers of the user's object under ``name``; several numbers also under ``name_CLASS``.

        The object is then forgotten: the next validation begins with a new one.
        """
        import torch

        items = [tuple(torch.as_tensor(value) for value in batch[0]) for batch in batches if batch.size]
        # What the object itself kept is in it; the next validation begins anew.
        metric, self._object = (self._make_metric() if items else self._object), None
        if metric is None:
            return {self.name: np.nan}
        is_monai = hasattr(metric, "aggregate")
        for item in items:
            self.guard(metric.extend if is_monai else metric.update, *item)
        return self._name_values(self.guard(metric.aggregate if is_monai else metric.compute), class_names)

    def _make_metric(self) -> Any:
        defaults = {"name": self.name, "field": self.field, "label_field": self.label_field}
        metric = self.make(**defaults, is_key_metric=self.is_key_metric)
        if not any(all(hasattr(metric, method) for method in pair) for pair in _METRIC_METHODS):
            raise self.wrong_answer(
                metric, "a metric with update() and compute(), or a MONAI CumulativeIterationMetric"
            )
        return metric

    def _name_values(self, value: Any, class_names: Sequence[str]) -> dict[str, float]:
        if isinstance(value, dict):
            return {self.name if key == self.name else f"{self.name}_{key}": float(n) for key, n in value.items()}
        parts = value if isinstance(value, tuple | list) else [value]
        numbers = np.concatenate([np.asarray(part, dtype=float).ravel() for part in parts])
        defined = numbers[~np.isnan(numbers)]
        values = {self.name: float(defined.mean()) if defined.size else np.nan}
        if numbers.size > 1:
            names = list(class_names)[-numbers.size :] if numbers.size <= len(class_names) else range(numbers.size)
            values |= {f"{self.name}_{n}": float(number) for n, number in zip(names, numbers, strict=True)}
        return values


@adapts("aux_op")
class CustomAuxiliaryOperation(CustomComponent, AuxiliaryOperation):
    """A callable on the outputs of one batch, a dict of arrays; it returns the outputs to add."""

    def compute(self, outputs: Outputs) -> Outputs:
        """Ask the user's operation."""
        added = self.guard(self.make(), dict(outputs))
        if not isinstance(added, dict):
            raise self.wrong_answer(added, "a dict of outputs to add")
        return to_arrays(added)


def _pack(value: Any) -> NDArray[Any]:
    """An array that holds one object of any kind; tensors become arrays, which travel between processes."""
    holder = np.empty(1, dtype=object)
    holder[0] = tuple(np.asarray(part.detach().cpu()) if hasattr(part, "detach") else part for part in value)
    return holder


def _is_shared() -> bool:
    """Whether several processes share the cases."""
    import torch

    distributed = torch.distributed
    return bool(distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1)
