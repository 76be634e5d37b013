"""Reading a configuration for the check: its reader's findings, and every component that can be read."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from voxflow.components import Component, plain_name
from voxflow.config import EVALUATION_SECTION, EvaluationValues, Globals, Workflow, inspect_configuration

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from voxflow.components import ComponentModel, Kind
    from voxflow.config import Evaluation, Inspection
    from voxflow.findings import FindingCollector
    from voxflow.lint.report import CheckReport
    from voxflow.planning import Target

# The fields of the typed models that hold components, with their kinds.
KINDS: dict[str, Kind] = {
    "model": "network",
    "loss": "loss",
    "optimizer": "optimizer",
    "lr_policy": "lr_policy",
    "pre_transforms": "transform",
    "transforms": "transform",
    "label_transforms": "transform",
    "post_transforms": "transform",
    "batch_transforms": "transform",
    "aux_ops": "aux_op",
    "image_pipeline": "pipeline",
    "metrics": "metric",
    "val_metrics": "metric",
    "inferer": "inferer",
    "writers": "writer",
    "model_loader": "model_loader",
    "handlers": "handler",
}
_CHAINS = ("label_transforms", "post_transforms", "batch_transforms")


@dataclass(frozen=True)
class PlacedComponent:
    """One component of a configuration.

    Attributes:
        kind: what it is.
        section: "train", "validate" or "evaluate".
        key: the field that holds it, such as "pre_transforms".
        component: its name, arguments and place.
    """

    kind: Kind
    section: str
    key: str
    component: Component

    @property
    def model(self) -> ComponentModel | None:
        """Its arguments, typed; None where they are faulty or the class is the user's own."""
        return self.component.typed

    @property
    def where(self) -> str:
        """Its JSON path."""
        return self.component.where

    @property
    def name(self) -> str:
        """Its name as the configuration writes it."""
        return plain_name(self.component.name)

    def argument(self, name: str) -> str:
        """The JSON path of one of its arguments."""
        return f"{self.component.where_args}.{name}"


@dataclass
class ConfigReading:
    """A configuration as far as it could be read.

    Attributes:
        path: the file.
        notes: where its findings go.
        parts: its components in order.
        is_read: it is JSON, and some of its parts could be read.
        loaded: the whole of it, where it has no fault.
        task: what the model does; None where nothing tells.
    """

    path: Path
    notes: FindingCollector
    parts: list[PlacedComponent] = field(default_factory=list)
    is_read: bool = True
    loaded: Workflow | Evaluation | None = None
    task: str | None = None

    def parts_of(self, section: str, key: str) -> list[PlacedComponent]:
        """The components under a key, such as ("train", "pre_transforms")."""
        return [part for part in self.parts if (part.section, part.key) == (section, key)]

    def part_of(self, section: str, key: str) -> PlacedComponent | None:
        """The only component under a key."""
        return next(iter(self.parts_of(section, key)), None)


def read_workflow(path: Path, target: Target, environment: Path | None, report: CheckReport) -> ConfigReading:
    """Read a training configuration; what is wrong with it is noted, and never raised.

    Args:
        path: the file.
        target: the workspace, whose overrides win.
        environment: the environment file; None: there is none, or it can't be read.
        report: takes the findings, and the configuration where it has no fault.
    """
    overrides = target.overrides
    if target.evaluation:
        overrides = {key: value for key, value in overrides.items() if _first_key(key) not in _EVALUATION_ONLY}
    inspection = inspect_configuration(path, environment=environment, overrides=overrides, workspace=target.mmar)
    reading = _take_over(inspection, path, environment, overrides, report, is_evaluation=False)
    report.workflow = inspection.loaded if isinstance(inspection.loaded, Workflow) else None
    return reading


def read_evaluation(path: Path, target: Target, environment: Path | None, report: CheckReport) -> ConfigReading:
    """Read a configuration of validation and inference; what is wrong with it is noted, and never raised.

    Args:
        path: the file.
        target: the workspace, whose overrides win.
        environment: the environment file; None: there is none, or it can't be read.
        report: takes the findings.
    """
    overrides = target.overrides
    if target.config:  # whose reader says what nobody knows
        evaluation_keys = _EVALUATION_ONLY | EvaluationValues.model_fields.keys()
        overrides = {
            key: value for key, value in overrides.items() if key.isupper() or _first_key(key) in evaluation_keys
        }
    inspection = inspect_configuration(
        path, is_evaluation=True, environment=environment, overrides=overrides, workspace=target.mmar
    )
    return _take_over(inspection, path, environment, overrides, report, is_evaluation=True)


_EVALUATION_ONLY = EvaluationValues.model_fields.keys() - Globals.model_fields.keys() | EVALUATION_SECTION.keys()


def _first_key(key: str) -> str:
    return re.split(r"[.\[]", key, maxsplit=1)[0]


def _take_over(
    inspection: Inspection,
    path: Path,
    environment: Path | None,
    overrides: Mapping[str, Any],
    report: CheckReport,
    *,
    is_evaluation: bool,
) -> ConfigReading:
    """Note what a dialect's reader has found, and put its components in their places."""
    findings = list(inspection.findings)
    if environment and "PROCESSING_TASK" not in overrides:  # the check of the environment says what is no task
        findings = [f for f in findings if f.where != "PROCESSING_TASK" or f.code == "wrong-task"]
    # Those of the file itself come first, so that the report begins with it.
    report.add(sorted(findings, key=lambda finding: finding.file != path))
    reading = ConfigReading(path, report.at(path), is_read=inspection.is_read, loaded=inspection.loaded)
    if inspection.loaded:
        reading.parts = list(list_parts(inspection.loaded))
        reading.task = inspection.loaded.task
    else:
        reading.parts = [
            _place_faulty(kind, component, is_evaluation=is_evaluation) for kind, component in inspection.components
        ]
        reading.task = _guess_task(reading.parts, overrides)
    return reading


def list_parts(loaded: Workflow | Evaluation) -> Iterator[PlacedComponent]:
    """List the components of a configuration that has no fault."""
    if isinstance(loaded, Workflow):
        sections: list[tuple[str, Any]] = [("train", loaded.train), ("validate", loaded.validate)]
    else:
        sections = [("evaluate", loaded)]
    for section, holder in sections:
        for key, kind in KINDS.items():
            value = getattr(holder, key, None)
            for component in value if isinstance(value, tuple) else (value,):
                if isinstance(component, Component):
                    yield PlacedComponent(kind, section, key, component)


def _place_faulty(kind: Kind, component: Component, *, is_evaluation: bool) -> PlacedComponent:
    """A component of a faulty configuration: its place tells what it is for."""
    # The reader that found a fault gives no workflow, so the key is inferred from the kind and the JSON path.
    keys = [key for key, kind_of_key in KINDS.items() if kind_of_key == kind]
    chain = next((key for key in _CHAINS if key in component.where), "")
    if is_evaluation:
        section, key = "evaluate", "val_metrics" if kind == "metric" else keys[0]
        key = chain or "transforms" if kind == "transform" else key
    else:
        validates = component.where.startswith("validate") or kind in {"metric", "inferer"}
        section, key = "validate" if validates else "train", chain or keys[0]
    return PlacedComponent(kind, section, key, component)


def _guess_task(parts: list[PlacedComponent], overrides: Mapping[str, Any]) -> str | None:
    stated = overrides.get("PROCESSING_TASK")
    if isinstance(stated, str):
        return stated
    for part in parts:
        if part.kind == "pipeline":
            return "classification" if part.name.startswith("Classification") else "segmentation"
    return None
