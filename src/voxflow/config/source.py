"""Owns a configuration on its way in: the file, what overrides it, and which of them wins."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from pathlib import Path  # noqa: TC003 (dataclasses keep their annotations)
from typing import TYPE_CHECKING, Any

from voxflow.config.findings import Findings, suggest
from voxflow.config.substitution import WELL_KNOWN, resolve, substitute

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# Variables that a configuration may use though nobody sets them: from scratch, without weights to begin from.
EMPTY_BY_DEFAULT = ("PRETRAIN_WEIGHTS_FILE", "MMAR_CKPT")
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
    )
)


@dataclass
class Source:
    """One configuration file, read as JSON, and everything that may change it.

    Attributes:
        path: the file.
        config: its content; comments are gone, nothing is substituted yet.
        workspace: the MMAR's folder, which holds ``custom/``.
        environment: content of environment.json.
        environment_path: where that stands; None without one.
        overrides: what ``--set`` gives.
        findings: where faults are noted.
        variables: every variable by name; complete once :meth:`settle` has run.
    """

    path: Path
    config: dict[str, Any]
    workspace: Path
    environment: Mapping[str, Any] = field(default_factory=dict)
    environment_path: Path | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)
    findings: Findings = field(init=False)
    variables: dict[str, Any] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.findings = Findings(self.path)

    @property
    def custom(self) -> Path:
        """The only folder that a user's own classes are loaded from."""
        return self.workspace / "custom"

    def settle(self, values: Iterable[str], sections: Iterable[str]) -> dict[str, Any]:
        """Put environment and overrides in their places, substitute variables, and return what then stands there.

        Args:
            values: the dialect's plain keys at the top of the file, such as ``epochs``.
            sections: its keys that hold components; ``--set train.optimizer.name=…`` reaches into them.
        """
        config = copy.deepcopy(self.config)
        values, sections = frozenset(values), frozenset(sections)
        place = str(self.environment_path or "environment.json")
        for key, value in self.environment.items():
            if key in SHARED_VALUES - values:
                continue
            self._override(config, key, value, values=values, sections=sections, origin=f"{place}: {key}")
        for key, value in self.overrides.items():
            self._override(config, key, value, values=values, sections=sections, origin=f"--set {key}")
        self.variables = self._gather(config)
        settled: dict[str, Any] = substitute(config, self.variables, self.findings)
        return settled

    def _override(
        self,
        config: dict[str, Any],
        key: str,
        value: Any,
        *,
        values: frozenset[str],
        sections: frozenset[str],
        origin: str,
    ) -> None:
        if key in values or key in sections:
            config[key] = value
        elif _head(key) in sections:
            fault = set_nested(config, key, value)
            if fault:
                self.findings.add(origin, fault)
        elif not key.isupper():
            names = [*values, *WELL_KNOWN, *(f"{section}.…" for section in sections)]
            self.findings.add(origin, f"no such value (variables are upper case){suggest(key, names)}")

    def _gather(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Every plain value of the file, the environment and the overrides by name, with ``{VAR}`` inside resolved."""
        given = {key: value for key, value in config.items() if not isinstance(value, dict | list)}
        outside = {**self.environment, **self.overrides}
        variables = {**given, **{key: value for key, value in outside.items() if "." not in key}}
        for name in EMPTY_BY_DEFAULT:
            if variables.get(name) is None:
                variables[name] = ""
        return resolve(variables, self.findings)


def _head(key: str) -> str:
    return key.partition(".")[0].partition("[")[0]


def set_nested(config: dict[str, Any], key: str, value: Any) -> str | None:
    """Put a value at a place such as ``train.pre_transforms[3].args.a_min``; return what is wrong with the place."""
    *parents, last = key.replace("[", ".").replace("]", "").split(".")
    place: Any = config
    for part in parents:
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
