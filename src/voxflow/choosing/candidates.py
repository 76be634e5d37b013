"""The candidates of a choice, as a person names them: configurations of ``plan: auto``, or values of ``train.set``."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from voxflow.errors import ConfigError
from voxflow.findings import suggest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

DEFAULT = "full"
CONFIGURATIONS = (DEFAULT, "2d", "residual")  # those that one training makes
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


@dataclass(frozen=True)
class Candidate:
    """One way to train a workspace.

    Attributes:
        name: in tables and folders.
        configuration: of ``plan: auto``.
        set: values that win over the plan and over the block's own, by JSON path.
    """

    name: str
    configuration: str = DEFAULT
    set: Mapping[str, Any] = field(default_factory=dict)


def parse_candidates(words: Sequence[str]) -> tuple[Candidate, ...]:
    """Read the candidates that a person typed; the default comes first, whether it was named or not.

    Args:
        words: names of configurations, or ``NAME={"JSON path": value}``.

    Raises:
        ConfigError: a name is unknown or twice there, no candidate but the default is left, or the JSON is no object.

    Example:
        >>> [candidate.name for candidate in parse_candidates(["2d", 'wide={"train.model.args.nf_enc": [32, 64]}'])]
        ['full', '2d', 'wide']
    """
    candidates = [_parse(word) for word in words]
    names = [candidate.name for candidate in candidates]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(f"candidate {twice!r} is there twice")
    others = tuple(candidate for candidate in candidates if candidate.name != DEFAULT)
    if not others:
        raise ConfigError(f"name a candidate to compare with {DEFAULT}: {', '.join(CONFIGURATIONS[1:])}, or NAME=JSON")
    return (Candidate(DEFAULT), *others)


def _parse(word: str) -> Candidate:
    name, sign, text = word.partition("=")
    if not sign:
        if name not in CONFIGURATIONS:
            hint = suggest(name, CONFIGURATIONS)
            raise ConfigError(f"no configuration {name!r}{hint}; or NAME=JSON for values of train.set")
        return Candidate(name, name)
    if not NAME.fullmatch(name) or name in CONFIGURATIONS:
        raise ConfigError(f"{name!r} can't name a candidate: letters, digits, _ and -, and no configuration's name")
    try:
        values = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"candidate {name!r}: {text!r} is no JSON: {error}") from error
    if not isinstance(values, dict) or not values:
        raise ConfigError(f'candidate {name!r}: expected a JSON object such as {{"learning_rate": 0.001}}')
    return Candidate(name, DEFAULT, values)
