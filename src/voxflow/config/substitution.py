"""Owns ``{VAR}``: where variables come from, which wins, and how they enter a configuration."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from voxflow.config.findings import suggest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from voxflow.config.findings import Findings

# Names that Clara's own commands set; a configuration need not use them.
WELL_KNOWN = (
    "DATA_LIST_KEY",
    "DATA_ROOT",
    "DATASET_JSON",
    "MMAR_CKPT",
    "MMAR_CKPT_DIR",
    "MMAR_EVAL_OUTPUT_PATH",
    "MMAR_ROOT",
    "PRETRAIN_WEIGHTS_FILE",
    "PROCESSING_TASK",
)
_VARIABLE = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")


def substitute(value: Any, variables: Mapping[str, Any], findings: Findings, where: str = "") -> Any:
    """Replace every ``{NAME}`` in the strings of ``value``.

    A string that is nothing but ``{NAME}`` becomes the variable with its type kept; inside a longer string it
    is written out. An unknown name is a finding at its JSON path.
    """
    if isinstance(value, dict):
        prefix = f"{where}." if where else ""
        return {key: substitute(item, variables, findings, f"{prefix}{key}") for key, item in value.items()}
    if isinstance(value, list):
        return [substitute(item, variables, findings, f"{where}[{index}]") for index, item in enumerate(value)]
    if not isinstance(value, str):
        return value
    for name in _VARIABLE.findall(value):
        if name not in variables:
            hint = suggest(name, filter(str.isupper, variables))
            findings.add(where, f"unknown variable {name!r} in {value!r}: neither config, environment nor --set{hint}")
            return value
    whole = _VARIABLE.fullmatch(value)
    if whole:
        return variables[whole[1]]
    return _VARIABLE.sub(lambda match: str(variables[match[1]]), value)
