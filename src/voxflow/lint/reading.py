"""Owns reading a configuration for the check: what its dialect says is wrong, and every part that can be read."""

from __future__ import annotations

import logging
import re
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from voxflow.components import Component, find_component, parse_arguments, plain_name
from voxflow.config import Globals, Workflow, load_evaluation, load_workflow
from voxflow.config.clara3 import EVALUATE
from voxflow.config.findings import FaultyConfigError
from voxflow.config.workflow import EvaluationValues
from voxflow.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from voxflow.components import ComponentModel, Kind
    from voxflow.config import Evaluation
    from voxflow.lint.findings import Notes, Report
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
MAX_NAMES = 8
_CHAINS = ("label_transforms", "post_transforms", "batch_transforms")


@dataclass(frozen=True)
class Part:
    """One component of a configuration.

    Attributes:
        kind: what it is.
        section: "train", "validate" or "evaluate".
        key: the field that holds it, such as "pre_transforms".
        component: its name, arguments and place.
        model: its arguments, typed; None where they are faulty or the class is the user's own.
    """

    kind: Kind
    section: str
    key: str
    component: Component
    model: ComponentModel | None

    @property
    def where(self) -> str:
        """Its JSON path."""
        return self.component.where

    @property
    def name(self) -> str:
        """Its name as the configuration writes it."""
        return plain_name(self.component.name)

    @property
    def is_own(self) -> bool:
        """Whether its class is the user's own."""
        return self.component.path is not None

    def argument(self, name: str) -> str:
        """The JSON path of one of its arguments."""
        return f"{self.component.where_args}.{name}"


@dataclass
class Reading:
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
    notes: Notes
    parts: list[Part] = field(default_factory=list)
    is_read: bool = True
    loaded: Workflow | Evaluation | None = None
    task: str | None = None

    def many(self, section: str, key: str) -> list[Part]:
        """The components under a key, such as ("train", "pre_transforms")."""
        return [part for part in self.parts if (part.section, part.key) == (section, key)]

    def one(self, section: str, key: str) -> Part | None:
        """The only component under a key."""
        return next(iter(self.many(section, key)), None)


def read_workflow(path: Path, target: Target, environment: Path | None, report: Report) -> Reading:
    """Read a training configuration; what is wrong with it is noted, and never raised."""
    overrides = target.overrides
    if target.evaluation:
        overrides = {key: value for key, value in overrides.items() if _head(key) not in _EVALUATION_ONLY}
    return _read(load_workflow, path, environment, overrides=overrides, target=target, report=report)


def read_evaluation(path: Path, target: Target, environment: Path | None, report: Report) -> Reading:
    """Read a configuration of validation and inference; what is wrong with it is noted, and never raised."""
    overrides = target.overrides
    if target.config:  # whose reader says what nobody knows
        known = _EVALUATION_ONLY | EvaluationValues.model_fields.keys()
        overrides = {key: value for key, value in overrides.items() if key.isupper() or _head(key) in known}
    return _read(load_evaluation, path, environment, overrides=overrides, target=target, report=report)


_EVALUATION_ONLY = EvaluationValues.model_fields.keys() - Globals.model_fields.keys() | EVALUATE.keys()


def _head(key: str) -> str:
    return re.split(r"[.\[]", key, maxsplit=1)[0]


def _read(
    load: Any,
    path: Path,
    environment: Path | None,
    *,
    overrides: Mapping[str, Any],
    target: Target,
    report: Report,
) -> Reading:
    notes = report.at(path)
    reading = Reading(path, notes)
    is_evaluation = load is load_evaluation
    with collected_warnings(path, notes):
        try:
            reading.loaded = load(path, environment=environment, overrides=overrides, workspace=target.mmar)
        except FaultyConfigError as error:
            start = f"{environment}: "
            told = error.faults
            if environment and "PROCESSING_TASK" not in overrides:  # the check of the environment says it
                told = tuple(one for one in told if one[0] != "PROCESSING_TASK" or "fit" in one[1])
            note_faults([fault for fault in told if not fault[0].startswith(start)], notes)
            if environment:
                outside = [(where.removeprefix(start), text) for where, text in told if where.startswith(start)]
                note_faults(outside, report.at(environment))
            reading.parts = [_placed(*one, is_evaluation=is_evaluation) for one in error.checked]
        except ConfigError as error:
            reading.is_read = False
            note_one(error, notes)
    if reading.loaded:
        reading.parts = list(_parts_of(reading.loaded))
        reading.task = reading.loaded.task
    else:
        reading.task = _guess_task(reading.parts, overrides)
    return reading


def note_faults(faults: Sequence[tuple[str, str]], notes: Notes) -> None:
    """Note the faults that a reader collected as (JSON path, message)."""
    for where, message in faults:
        text, fix = split_fix(message)
        notes.error(code_of(message), where, text, fix)


def note_one(error: ConfigError, notes: Notes) -> None:
    """Note a fault that leaves nothing to be read."""
    lines = error.findings or (error.message,)
    for line in lines:
        text, fix = split_fix(line)
        code = code_of(text)
        notes.error(code, error.where or "", text, fix or ("mend the JSON there" if code == "syntax" else ""))


def split_fix(message: str) -> tuple[str, str]:
    """A reader's message and its last clause, where that says what to do."""
    text, semicolon, last = message.rpartition("; ")
    if not semicolon or not last.startswith(_FIXES):
        return message, ""
    name = re.fullmatch(r"did you mean (.*)\?", last)
    return text, f"write {name[1]}" if name else _shortened(last)


def _shortened(known: str) -> str:
    names = known.split(", ")
    return ", ".join([*names[:MAX_NAMES], f"... ({len(names)} in all)"]) if len(names) > MAX_NAMES + 2 else known


_FIXES = ("did you mean", "known:", "use ", "write ", "give ", "leave ", "put ", "name ", "set ", "remove ", "one of")
_CODES = (
    (r"not valid JSON|expected a JSON object|a key stands twice", "syntax"),
    (r"file not found", "missing-file"),
    (r"unreadable", "unreadable-file"),
    (r"unknown variable", "unset-variable"),
    (r"unknown key", "unknown-key"),
    (r"takes no argument", "unknown-argument"),
    (r"needs the argument", "missing-argument"),
    (r"^unknown \w+ '|is of kind|no component of this file", "unknown-component"),
    (r"missing; a|^missing", "missing-component"),
    (r"does not fit", "wrong-task"),
    (r"no such value|holds no", "override"),
    (r"custom/|own class", "own-class"),
)


def code_of(message: str) -> str:
    """The code of a reader's message; "wrong-value" for all that says of a value what it should be."""
    return next((code for pattern, code in _CODES if re.search(pattern, message)), "wrong-value")


def _parts_of(loaded: Workflow | Evaluation) -> Iterator[Part]:
    if isinstance(loaded, Workflow):
        sections: list[tuple[str, Any]] = [("train", loaded.train), ("validate", loaded.validate)]
    else:
        sections = [("evaluate", loaded)]
    for section, holder in sections:
        for key, kind in KINDS.items():
            value = getattr(holder, key, None)
            for component in value if isinstance(value, tuple) else (value,):
                if isinstance(component, Component):
                    yield Part(kind, section, key, component, _model(kind, component))


def _model(kind: Kind, component: Component) -> ComponentModel | None:
    found = find_component(kind, component.name)
    if found is None or component.path is not None:
        return None
    try:
        return parse_arguments(found, component.args)
    except ValidationError:
        return None


def _placed(kind: Kind, component: Component, model: ComponentModel | None, *, is_evaluation: bool) -> Part:
    """A component of a faulty configuration: its place tells what it is for."""
    keys = [key for key, one in KINDS.items() if one == kind]
    chain = next((key for key in _CHAINS if key in component.where), "")
    if is_evaluation:
        section, key = "evaluate", "val_metrics" if kind == "metric" else keys[0]
        key = chain or "transforms" if kind == "transform" else key
    else:
        validates = component.where.startswith("validate") or kind in {"metric", "inferer"}
        section, key = "validate" if validates else "train", chain or keys[0]
    return Part(kind, section, key, component, model)


def _guess_task(parts: list[Part], overrides: Mapping[str, Any]) -> str | None:
    told = overrides.get("PROCESSING_TASK")
    if isinstance(told, str):
        return told
    for part in parts:
        if part.kind == "pipeline":
            return "classification" if part.name.startswith("Classification") else "segmentation"
    return None


@contextmanager
def collected_warnings(path: Path, notes: Notes) -> Iterator[None]:
    """While a reader works, what it logs as a warning becomes a finding."""
    logger = logging.getLogger("voxflow.config")
    handler = _Handler(path, notes)
    propagates, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagates


class _Handler(logging.Handler):
    def __init__(self, path: Path, notes: Notes) -> None:
        super().__init__(logging.WARNING)
        self._path, self._notes = path, notes

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if not message.startswith(f"{self._path}: "):
            return  # of another file, which notes its own
        text = message.removeprefix(f"{self._path}: ")
        place = re.match(r"([\w.\[\]]+): ", text)
        where = place[1] if place else ""
        text, fix = split_fix(text[place.end() :] if place else text)
        if text.startswith("forgave"):
            self._notes.warning("syntax", where, text.partition(";")[0], "take them out: JSON has neither")
        else:
            self._notes.warning("ignored", where, text, fix)
