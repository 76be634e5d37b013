"""Checks that labels give the classes of an adopted model the values that the model gives them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from voxflow.errors import DataError
from voxflow.files import read_json_or_none
from voxflow.prediction import class_values

if TYPE_CHECKING:
    from tasks.common.stage import Stage
    from voxflow.spec import ModelSpec


def require_model_values(stage: Stage, spec: ModelSpec) -> None:
    """Refuse labels in which a class of an adopted model has another value than the model gives it.

    Masks are compared by value, so that one organ would be judged as another. Names that only one of both has may be
    two words for one thing.

    Args:
        stage: whose labels.
        spec: of the model; overlapping classes are compared by their regions, and are left to these.

    Raises:
        DataError: a class has two values; the message names both.
    """
    file = stage.resampled / "labels.json"
    names = read_json_or_none(file)
    if spec.regions or not isinstance(names, dict):
        return
    values = {name: value for name, (value,) in class_values(spec).items()}
    for value, name in names.items():
        if name in values and str(values[name]) != value:
            message = (
                f"{name} is {value} here and {values[name]} in the model, so that it would be judged as another class"
            )
            raise DataError(f"{message}; give the labels the model's values", path=file, where=value)
