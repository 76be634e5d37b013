"""The plain values of a configuration, such as ``epochs``: typed, and an unknown key is refused with its nearest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from voxflow.config.substitution import SWITCHES
from voxflow.findings import show, suggest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Set

    from voxflow.components import Component
    from voxflow.config.source import ConfigSource
    from voxflow.spec import Task

Values = TypeVar("Values", bound=BaseModel)
TASKS: tuple[Task, ...] = ("segmentation", "classification")
# Keys of tools around training that have no part in one training; said, then left alone.
IGNORED = {
    "lr_search": "AutoML's search is not carried; training uses learning_rate",
    "search": "AutoML's search is not carried; training uses the values as they stand",
}


def read_values(
    model: type[Values], config: Mapping[str, Any], source: ConfigSource, *, component_keys: Iterable[str] = ()
) -> Values | None:
    """Read the plain values of a settled configuration into ``model``; None where one of them is faulty.

    Args:
        model: its fields are the keys that may stand there.
        config: the settled configuration; upper-case keys are variables and no concern of this.
        source: takes the findings.
        component_keys: keys of components, which are read elsewhere.
    """
    component_keys = tuple(component_keys)
    passed_over = {*component_keys, *SWITCHES, *source.used_names - model.model_fields.keys()}
    plain_values = {key: value for key, value in config.items() if key not in passed_over and not key.isupper()}
    for key in plain_values.keys() & IGNORED.keys():
        source.findings.warning("ignored", key, IGNORED[key])
        del plain_values[key]
    try:
        return model.model_validate(plain_values)
    except ValidationError as error:
        for fault in error.errors():
            json_path = ".".join(map(str, fault["loc"]))
            if fault["type"] == "extra_forbidden":
                near = suggest(str(fault["loc"][-1]), [*model.model_fields, *component_keys], present=config)
                source.findings.error("unknown-key", json_path, "unknown key", near)
            else:
                source.findings.error("wrong-value", json_path, f"{fault['msg']}, received {show(fault['input'])}")
        return None


def infer_task(source: ConfigSource, inferred: Task, pipeline: Component | None = None) -> Task:
    """Tell what the model does: what PROCESSING_TASK states, else what the components say.

    Args:
        source: takes the finding where the two contradict each other.
        inferred: what the components say.
        pipeline: the image pipeline, which must fit the task; None: there is none.
    """
    stated = source.variables.get("PROCESSING_TASK")
    if stated is None:
        return inferred
    if stated not in TASKS:
        message = f"expected {' or '.join(TASKS)}, received {show(stated)}"
        source.findings.error("wrong-value", "PROCESSING_TASK", message)
        return inferred
    if pipeline is not None and pipeline.path is None and stated != inferred:
        message = f"{stated!r} does not fit {pipeline.name}, which is for {inferred}"
        source.findings.error("wrong-task", "PROCESSING_TASK", message)
    task: Task = stated
    return task


def infer_evaluation_task(
    source: ConfigSource, config: Mapping[str, Any], parts: Mapping[str, Any], signs: Set[str]
) -> Task:
    """Decide the task of an evaluation, which names no pipeline that would tell it, and note if nothing loads an image.

    Args:
        source: takes the findings.
        config: the settled configuration.
        parts: its components by key.
        signs: components that only classification has.
    """
    if "pre_transforms" not in config:
        message = "missing; the transforms that load an image are needed"
        source.findings.error("missing-component", "pre_transforms", message)
    names = {component.name for key in ("pre_transforms", "val_metrics", "writers") for component in parts.get(key, ())}
    return infer_task(source, "classification" if names & signs else "segmentation")
