"""A configuration while it is read: the file, the values that override it, and which of them wins."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxflow.config.substitution import (
    CLARA_VARIABLES,
    SWITCHES,
    find_names,
    read_switches,
    resolve,
    substitute,
)
from voxflow.findings import FindingCollector, suggest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Set

    from voxflow.components import Component, Kind
    from voxflow.findings import Suggestion

# Variables that a configuration may use though nobody sets them: from scratch, without weights to begin from.
EMPTY_BY_DEFAULT = ("PRETRAIN_WEIGHTS_FILE", "MMAR_CKPT", "MMAR_TORCHSCRIPT")
# Values of either kind of configuration; an environment.json serves both, so it may hold any of them.
SHARED_VALUES = frozenset(
    (
        "batch_size",
        "determinism",
        "do_validation",
        "dynamic_input_shape",
        "epochs",
        "learning_rate",
        "multi_gpu",
        "num_training_epoch_per_valid",
        "output_infer_result",
        "train_summary_recording_interval",
        "use_amp",
        "use_scanning_window",
    )
)


@dataclass
class ConfigSource:
    """One configuration file, read as JSON, and everything that may change it.

    Attributes:
        path: the file.
        config: its content; comments are gone, nothing is substituted yet.
        workspace: the MMAR's folder, which holds ``custom/``.
        environment: content of environment.json.
        environment_path: where that stands; None without one.
        overrides: what ``--set`` gives.
        findings: where faults are noted.
        components: every component that was read, faulty or not, in the order of the file.
        is_settled: whether :meth:`wait_until_idle` has run.
        variables: every variable by name; complete once :meth:`wait_until_idle` has run.
    """

    path: Path
    findings: FindingCollector
    config: dict[str, Any]
    workspace: Path
    environment: Mapping[str, Any] = field(default_factory=dict)
    environment_path: Path | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)
    components: list[tuple[Kind, Component]] = field(init=False, default_factory=list)
    is_settled: bool = field(init=False, default=False)
    variables: dict[str, Any] = field(init=False, default_factory=dict)

    @property
    def custom(self) -> Path:
        """The only folder that a user's own classes are loaded from."""
        return self.workspace / "custom"

    @property
    def used_names(self) -> set[str]:
        """The names that the file, its environment or the overrides use as ``{NAME}``: variables, however spelt."""
        return find_names([self.config, dict(self.environment), dict(self.overrides)])

    def settle(self, values: Iterable[str], sections: Iterable[str]) -> dict[str, Any]:
        """Put environment and overrides in their places, substitute variables, and return what then stands there.

        Args:
            values: the dialect's plain keys at the top of the file, such as ``epochs``.
            sections: its keys that hold components; ``--set train.optimizer.name=…`` reaches into them.
        """
        config = read_switches(copy.deepcopy(self.config), self.findings)
        values, sections, used = frozenset(values), frozenset(sections), frozenset({*self.used_names, *SWITCHES})
        environment = FindingCollector(self.environment_path or Path("environment.json"), self.findings.findings)
        self.environment = read_switches(self.environment, environment)
        self.overrides = read_switches(self.overrides, self.findings)
        for key, value in self.environment.items():
            # One environment.json serves both configurations; what only the other one knows is no fault of this one.
            if key in SHARED_VALUES - values:
                continue
            # Whatever it calls its own variables; one that nothing uses is for the check to say.
            is_variable = key in used or key != key.lower()
            fault, fix = _override(config, key, value, values=values, sections=sections, is_variable=is_variable)
            if fault:
                environment.error("override", key, fault, fix)
        for key, value in self.overrides.items():
            is_variable = key in used or key.isupper()
            fault, fix = _override(config, key, value, values=values, sections=sections, is_variable=is_variable)
            if fault:
                self.findings.error("override", f"--set {key}", fault, fix)
            elif key.isupper() and not {key} & {*used, *CLARA_VARIABLES, *self.config, *self.environment}:
                near = suggest(key, [*CLARA_VARIABLES, *values])
                fix = near if near.nearest else "leave it out"
                self.findings.warning("unused-variable", f"--set {key}", "this file uses no such variable", fix)
        self._note_unused(used | {*CLARA_VARIABLES}, [*values, *sections, *CLARA_VARIABLES])
        self.variables = self._gather_variables(config)
        self.is_settled = True
        settled: dict[str, Any] = substitute(config, self.variables, self.findings)
        return settled

    def _note_unused(self, used: Set[str], names: list[str]) -> None:
        """Warn of a key in capitals, which is a variable, where nothing uses it and a known key is spelt alike."""
        for key in self.config:
            near = suggest(key, names, present=self.config)
            if key.isupper() and key not in used and near.nearest:
                self.findings.warning("unused-variable", key, "a variable that this file does not use", near)

    def _gather_variables(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Every plain value of the file, the environment and the overrides by name, with ``{VAR}`` inside resolved."""
        plain_values = {key: value for key, value in config.items() if not isinstance(value, dict | list)}
        outer_values = {**self.environment, **self.overrides}
        variables = {**plain_values, **{key: value for key, value in outer_values.items() if "." not in key}}
        for name in EMPTY_BY_DEFAULT:
            if variables.get(name) is None:
                variables[name] = ""
        if "DATA_LIST_KEY" in self.used_names:
            variables.setdefault("DATA_LIST_KEY", "validation")
        return resolve(variables, self.findings)


def _override(
    config: dict[str, Any],
    key: str,
    value: Any,
    *,
    values: frozenset[str],
    sections: frozenset[str],
    is_variable: bool,
) -> tuple[str, str | Suggestion]:
    """Put one value from outside in its place; return what is wrong with its key, and what to write instead."""
    if key in values or key in sections:
        config[key] = value
    elif _first_key(key) in sections:
        return set_nested(config, key, value) or "", ""
    elif not is_variable:
        names = [*values, *CLARA_VARIABLES, *(f"{section}.…" for section in sections)]
        return "no such value (variables are upper case)", suggest(key, names)
    return "", ""


def _first_key(key: str) -> str:
    return key.partition(".")[0].partition("[")[0]


def set_nested(config: dict[str, Any], key: str, value: Any) -> str | None:
    """Put a value at a place of a configuration; return what is wrong with the place, or None.

    Args:
        config: changed in place.
        key: a JSON path such as ``train.pre_transforms[3].args.a_min``; list indices are from 0.
        value: what shall stand there.

    Example:
        >>> config = {"train": {"loss": {"name": "Dice"}, "pre_transforms": []}}
        >>> set_nested(config, "train.loss.name", "Focal")
        >>> config["train"]["loss"]
        {'name': 'Focal'}
        >>> set_nested(config, "train.pre_transforms[0].name", "LoadPng")
        "the configuration holds no '0' there"
        >>> set_nested(config, "train.loss.args.gamma", 3)
        >>> config["train"]["loss"]
        {'name': 'Focal', 'args': {'gamma': 3}}
    """
    *parents, last = key.replace("[", ".").replace("]", "").split(".")
    place: Any = config
    for part in parents:
        if part == "args" and isinstance(place, dict) and place.keys() & {"name", "path"}:
            place.setdefault("args", {})
        try:
            place = place[int(part)] if isinstance(place, list) else place[part]
        except (KeyError, IndexError, ValueError, TypeError):
            return f"the configuration holds no {part!r} there"
    if isinstance(place, dict):
        place[last] = value
    elif isinstance(place, list) and last.isdecimal() and int(last) < len(place):
        place[int(last)] = value
    else:
        return f"the configuration holds no {last!r} there"
    return None
