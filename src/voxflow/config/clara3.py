"""Owns the dialect ``clara3``: config_train.json of Clara Train 3.1 into a :class:`Workflow`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from pydantic import ValidationError

from voxflow.components.component import Component
from voxflow.config.check import check_component
from voxflow.config.findings import Findings, show, suggest
from voxflow.config.substitution import WELL_KNOWN, substitute
from voxflow.config.text import read_json
from voxflow.config.workflow import Globals, TrainSection, ValidateSection, Workflow

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from voxflow.components.registry import Kind
    from voxflow.spec import Task

# Each section's keys: the kind of component, and whether it is a list.
TRAIN: dict[str, tuple[Kind, bool]] = {
    "model": ("network", False),
    "loss": ("loss", False),
    "optimizer": ("optimizer", False),
    "lr_policy": ("lr_policy", False),
    "pre_transforms": ("transform", True),
    "aux_ops": ("aux_op", True),
    "image_pipeline": ("pipeline", False),
}
VALIDATE: dict[str, tuple[Kind, bool]] = {
    "metrics": ("metric", True),
    "pre_transforms": ("transform", True),
    "image_pipeline": ("pipeline", False),
    "inferer": ("inferer", False),
}
OPTIONAL = {"lr_policy", "pre_transforms", "aux_ops", "metrics"}
SECTIONS = ("train", "validate")


def load_workflow(
    config_path: Path, *, environment: Path | None = None, overrides: Mapping[str, Any] | None = None
) -> Workflow:
    """Read a training configuration without touching data, torch or MONAI.

    Args:
        config_path: config_train.json.
        environment: environment.json; its values win over the configuration's.
        overrides: values that win over both, as ``--set`` gives them: a global (``epochs``), a variable
            (``DATA_ROOT``), or a place in the configuration (``train.optimizer.name``).

    Raises:
        ConfigError: everything that is wrong, at once, in ``findings``.
    """
    findings = Findings(config_path)
    config = read_json(config_path)
    outside = {**(read_json(environment) if environment else {}), **(overrides or {})}
    for key, value in outside.items():
        _override(config, key, value, findings)
    variables = dict.fromkeys(("PRETRAIN_WEIGHTS_FILE", "MMAR_CKPT"), "")
    variables |= {key: value for key, value in config.items() if not isinstance(value, dict | list)} | outside
    config = substitute(config, variables, findings)
    return _read(config, outside, findings)


def _override(config: dict[str, Any], key: str, value: Any, findings: Findings) -> None:
    """Put one value of the environment or of ``--set`` in its place."""
    if key in Globals.model_fields:
        config[key] = value
    elif key.partition(".")[0] in SECTIONS:
        _set_nested(config, key, value, findings)
    elif not key.isupper():
        names = [*Globals.model_fields, *WELL_KNOWN, "train.…", "validate.…"]
        findings.add(f"--set {key}", f"no such value (variables are upper case){suggest(key, names)}")


def _set_nested(config: dict[str, Any], key: str, value: Any, findings: Findings) -> None:
    *parents, last = key.replace("[", ".").replace("]", "").split(".")
    place: Any = config
    for part in parents:
        try:
            place = place[int(part)] if isinstance(place, list) else place[part]
        except (KeyError, IndexError, ValueError, TypeError):
            findings.add(f"--set {key}", f"the configuration holds no {part!r} there")
            return
    if isinstance(place, dict):
        place[last] = value
    elif isinstance(place, list) and last.isdecimal() and int(last) < len(place):
        place[int(last)] = value
    else:
        findings.add(f"--set {key}", f"the configuration holds no {last!r} there")


def _read(config: dict[str, Any], outside: Mapping[str, Any], findings: Findings) -> Workflow:
    values = _globals(config, findings)
    train = _section(config, "train", TRAIN, findings)
    validate = _section(config, "validate", VALIDATE, findings)
    task = _task(outside.get("PROCESSING_TASK"), train["image_pipeline"].name, findings) if train else "segmentation"
    findings.raise_if_any()
    # A part is None only where it has a finding, so that all three are here now.
    return Workflow(
        task=task,
        path=findings.path,
        globals=cast("Globals", values),
        train=TrainSection(**cast("dict[str, Any]", train)),
        validate=ValidateSection(**cast("dict[str, Any]", validate)),
    )


def _globals(config: Mapping[str, Any], findings: Findings) -> Globals | None:
    given = {key: value for key, value in config.items() if key not in SECTIONS and not key.isupper()}
    try:
        return Globals.model_validate(given)
    except ValidationError as error:
        for fault in error.errors():
            where = ".".join(map(str, fault["loc"]))
            if fault["type"] == "extra_forbidden":
                findings.add(where, f"unknown key{suggest(str(fault['loc'][-1]), [*Globals.model_fields, *SECTIONS])}")
            else:
                findings.add(where, f"{fault['msg']}, received {show(fault['input'])}")
        return None


def _section(
    config: Mapping[str, Any], section: str, layout: Mapping[str, tuple[Kind, bool]], findings: Findings
) -> dict[str, Any] | None:
    """Read every component of a section; None when one of them is faulty."""
    given = config.get(section)
    if not isinstance(given, dict):
        findings.add(section, f"expected an object with {', '.join(layout)}, received {show(given)}")
        return None
    for key in given.keys() - layout.keys():
        findings.add(f"{section}.{key}", f"unknown key{suggest(key, layout)}")
    parts: dict[str, Any] = {}
    complete = True
    for key, (kind, many) in layout.items():
        where = f"{section}.{key}"
        if key not in given:
            if key not in OPTIONAL:
                findings.add(where, f"missing; a {kind} is needed")
                complete = False
            continue
        part = _many(kind, given[key], where, findings) if many else _one(kind, given[key], where, findings)
        if part is not None:
            parts[key] = part
        elif key not in OPTIONAL:
            complete = False
    return parts if complete else None


def _many(kind: Kind, given: Any, where: str, findings: Findings) -> tuple[Component, ...]:
    if not isinstance(given, list):
        findings.add(where, f"expected a list of components, received {show(given)}")
        return ()
    read = (_one(kind, item, f"{where}[{index}]", findings) for index, item in enumerate(given))
    return tuple(component for component in read if component is not None)


def _one(kind: Kind, given: Any, where: str, findings: Findings) -> Component | None:
    """Read and check one component; None when it is disabled or faulty."""
    if not isinstance(given, dict):
        findings.add(where, f'expected an object such as {{"name": ..., "args": {{...}}}}, received {show(given)}')
        return None
    if "path" in given and "name" not in given:
        findings.add(f"{where}.path", f"own classes can't be named here; use a registered {kind}, by its name")
        return None
    try:
        component = Component.model_validate({**given, "where": where})
    except ValidationError as error:
        for fault in error.errors():
            place = ".".join(map(str, fault["loc"]))
            hint = suggest(place, ("name", "args", "disabled")) if fault["type"] == "extra_forbidden" else ""
            findings.add(f"{where}.{place}", f"{fault['msg']}, received {show(fault['input'])}{hint}")
        return None
    if component.disabled:
        return None
    check_component(kind, component, findings)
    return component


def _task(given: Any, pipeline: str, findings: Findings) -> Task:
    inferred: Task = "classification" if pipeline.startswith("Classification") else "segmentation"
    if given is not None and given != inferred:
        findings.add("PROCESSING_TASK", f"{given!r} does not fit {pipeline}, which is for {inferred}")
    return inferred
