"""Metrics of validation: which of them is the key metric, and what each of them reads."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from voxflow.lint.flow import find_argument, suggest_field

if TYPE_CHECKING:
    from voxflow.lint.flow import FieldFlow
    from voxflow.lint.reading import ConfigReading, PlacedComponent


# What a classifier's answer and labels are called; TLT 2 and evaluations read them without an operation that says so.
BINARY = {"binary_preds", "binary_labels"}


def check_metrics(reading: ConfigReading, flow: FieldFlow) -> None:
    """Note validation without a key metric, several metrics of one name, and metrics that read what nothing makes."""
    metrics = reading.parts_of("validate", "metrics")
    keys = [part for part in metrics if _is_key(part)]
    notes = reading.notes
    if not metrics:
        if not notes.has("validate.metrics") and not notes.has("validate"):
            message = "no metric: nothing tells which model is the best"
            notes.warning("no-key-metric", "validate.metrics", message, 'add one with "is_key_metric": true')
    elif not keys and all(part.model for part in metrics):
        fix = 'add "is_key_metric": true to one of them'
        first = getattr(metrics[0].model, "name", metrics[0].name)
        message = f"no metric says that it is the key metric; the first one, {first!r}, decides which model is the best"
        notes.warning("no-key-metric", "validate.metrics", message, fix)
    for part in keys[1:]:
        message = "a second key metric; exactly one decides which model is the best"
        notes.error("key-metrics", part.argument("is_key_metric"), message, "leave it true for one of them")
    check_names(reading, metrics)
    outputs = {"model", "label"} | flow.values
    if getattr(reading.loaded, "dialect", "") == "tlt2" and reading.task == "classification":
        outputs |= BINARY
    for part in reading.parts_of("train", "aux_ops"):
        outputs |= set(part.model.makes()) if part.model else {"*"}
    check_outputs(reading, metrics, outputs, is_open=flow.is_open)


def _is_key(part: PlacedComponent) -> bool:
    for name in ("is_key_metric", "stopping_metric"):
        if getattr(part.model, name, False) is True or part.component.args.get(name) is True:
            return True
    return False


def check_names(reading: ConfigReading, metrics: list[PlacedComponent]) -> None:
    """Note metrics of one name, whose numbers would overwrite each other."""
    names = [(part, _label(part)) for part in metrics]
    count = Counter(name for _, name in names)
    for part, name in names:
        if name and count[name] > 1:
            count[name] = 0  # so that each name is reported once
            message = f"several metrics are called {name!r}; one number would overwrite the other"
            reading.notes.error("duplicate-name", find_argument(part, name), message, "give each its own name")


def _label(part: PlacedComponent) -> str:
    args = part.component.args
    value = args.get("name", args.get("tag"))
    return value if isinstance(value, str) else ""


def check_outputs(reading: ConfigReading, readers: list[PlacedComponent], outputs: set[str], *, is_open: bool) -> None:
    """Note metrics and writers that read an output which nothing makes.

    Args:
        reading: the configuration that holds them.
        readers: metrics and writers.
        outputs: the fields that exist by then; "*" where a custom component may make any.
        is_open: a component whose fields are not known has run, so that any field may exist.
    """
    for part in readers:
        for name in part.model.reads() if part.model else ():
            if name not in outputs and "*" not in outputs and not is_open:
                message = f"{part.name} reads the field {name!r}, which nothing makes"
                reading.notes.error(
                    "field-not-made", find_argument(part, name), message, suggest_field(name, sorted(outputs))
                )
