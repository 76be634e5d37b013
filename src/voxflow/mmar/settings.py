"""Turns the text of ``--set KEY=VALUE`` into typed values."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from voxflow.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable


def parse_settings(pairs: Iterable[str]) -> dict[str, Any]:
    """Read ``KEY=VALUE`` pairs; of one key the last wins.

    A value that is JSON has its type (``false``, ``3``, ``1e-4``, ``[1, 2]``, ``"3"``); every other is a string. An
    empty value is the empty string, which is how Clara's scripts say that a file is not used.

    Raises:
        ConfigError: pairs without ``=`` or without a key, all at once.

    Example:
        >>> parse_settings(["epochs=3", "train.loss.name=Dice", "PRETRAIN_WEIGHTS_FILE="])
        {'epochs': 3, 'train.loss.name': 'Dice', 'PRETRAIN_WEIGHTS_FILE': ''}
    """
    typed_pairs = list(pairs)
    wrong = [pair for pair in typed_pairs if not pair.partition("=")[0] or "=" not in pair]
    if wrong:
        raise ConfigError(f"--set takes KEY=VALUE, received {', '.join(map(repr, wrong))}")
    return {key: parse_value(value) for key, _, value in (pair.partition("=") for pair in typed_pairs)}


def parse_value(text: str) -> Any:
    """One value; Python's ``True``, ``False`` and ``None`` are understood too."""
    spelled = {"True": True, "False": False, "None": None}
    if text in spelled:
        return spelled[text]
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    # NaN and Infinity are no JSON, though Python reads them.
    return text if isinstance(value, float) and not math.isfinite(value) else value
