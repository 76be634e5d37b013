"""Variables: ``{NAME}`` in a configuration, or in another variable, is replaced by the variable's value."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from voxflow.findings import show, suggest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from voxflow.findings import FindingCollector

# Names that Clara's own commands set; a configuration need not use them.
CLARA_VARIABLES = (
    "DATA_LIST_KEY",
    "DATA_ROOT",
    "DATASET_JSON",
    "MMAR_CKPT",
    "MMAR_CKPT_DIR",
    "MMAR_EVAL_OUTPUT_PATH",
    "MMAR_ROOT",
    "MMAR_TORCHSCRIPT",
    "PRETRAIN_WEIGHTS_FILE",
    "PROCESSING_TASK",
)
# Values in lower case that Clara's scripts set though no section of a configuration reads them: those of a run ...
RUN_SWITCHES = ("allow_repeated_cases", "dont_load_ckpt_model", "dont_load_ts_model", "use_gpu")
# ... and those that change no result here.
WITHOUT_MEANING = ("cudnn_benchmark", "cudnn_deterministic", "print_conf", "tf32")
SWITCHES = (*RUN_SWITCHES, *WITHOUT_MEANING)
_WORDS = {"true": True, "false": False}
_VARIABLE = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")


def read_switch(value: Any) -> bool | None:
    """Read a value that is true or false, also where a file has it as text; None where it is neither.

    Example:
        >>> [read_switch(value) for value in (True, "False", "true", 1, "yes")]
        [True, False, True, None, None]
    """
    return _WORDS.get(value.lower()) if isinstance(value, str) else value if isinstance(value, bool) else None


def read_switches(values: Mapping[str, Any], findings: FindingCollector | None = None) -> dict[str, Any]:
    """Read the switches among values as true or false; one that is neither is noted and stays.

    Args:
        values: of a configuration, an environment file or ``--set``.
        findings: of that file; None: nothing is noted.
    """
    switches = {key: read_switch(values[key]) for key in RUN_SWITCHES if key in values}
    for key, value in switches.items():
        if value is None and findings is not None:
            findings.error("wrong-value", key, f"expected true or false, received {show(values[key])}")
    return {**values, **{key: value for key, value in switches.items() if value is not None}}


def find_names(value: Any) -> set[str]:
    """Find every name that the strings of a JSON value use as ``{NAME}``.

    Example:
        >>> sorted(find_names({"handlers": [{"disabled": "{dont_load}"}], "file": "{ROOT}/a.json"}))
        ['ROOT', 'dont_load']
    """
    if isinstance(value, dict):
        return set[str]().union(*map(find_names, value.values()))
    if isinstance(value, list):
        return set[str]().union(*map(find_names, value))
    return set(_VARIABLE.findall(value)) if isinstance(value, str) else set()


def resolve(variables: Mapping[str, Any], findings: FindingCollector) -> dict[str, Any]:
    """Replace ``{NAME}`` inside the variables themselves, so that ``"{DATA_ROOT}/dataset_0.json"`` is one.

    A variable that leads back to itself is a finding and stays as it is written.
    """
    resolved: dict[str, Any] = {}

    def value_of(name: str, chain: tuple[str, ...]) -> Any:
        if name in chain:
            circle = " → ".join([*chain[chain.index(name) :], name])
            findings.error("wrong-value", name, f"a variable that leads back to itself: {circle}")
            resolved[name] = variables[name]
        # Depth first, with the names on the way in ``chain``: a name that comes again closes a circle.
        if name not in resolved:
            inner = [inner_name for inner_name in _VARIABLE.findall(variables[name]) if inner_name in variables]
            inner_values = {inner_name: value_of(inner_name, (*chain, name)) for inner_name in inner}
            resolved.setdefault(name, _replace(variables[name], inner_values))
        return resolved[name]

    plain = {name: value for name, value in variables.items() if not isinstance(value, str)}
    resolved.update(plain)
    return {name: value_of(name, ()) for name in variables}


def substitute(value: Any, variables: Mapping[str, Any], findings: FindingCollector, json_path: str = "") -> Any:
    """Replace every ``{NAME}`` in the strings of ``value``.

    A string that is nothing but ``{NAME}`` becomes the variable with its type kept; inside a longer string it
    is written out. An unknown name is noted at its JSON path.

    Args:
        value: any JSON value; it is not changed.
        variables: by name.
        findings: where unknown names are noted.
        json_path: of ``value``.

    Example:
        >>> from pathlib import Path
        >>> from voxflow.findings import FindingCollector
        >>> findings = FindingCollector(Path("config_train.json"))
        >>> substitute({"epochs": "{N}", "path": "{ROOT}/a.json"}, {"N": 20, "ROOT": "data"}, findings)
        {'epochs': 20, 'path': 'data/a.json'}
        >>> substitute(["{ROOD}"], {"ROOT": "data"}, findings)
        ['{ROOD}']
        >>> findings.findings[0].fix
        "write 'ROOT'"
    """
    if isinstance(value, dict):
        prefix = f"{json_path}." if json_path else ""
        return {key: substitute(item, variables, findings, f"{prefix}{key}") for key, item in value.items()}
    if isinstance(value, list):
        return [substitute(item, variables, findings, f"{json_path}[{index}]") for index, item in enumerate(value)]
    if not isinstance(value, str):
        return value
    for name in _VARIABLE.findall(value):
        if name not in variables:
            message = f"unknown variable {name!r} in {value!r}: neither config, environment nor --set"
            findings.error("unset-variable", json_path, message, suggest(name, filter(str.isupper, variables)))
            return value
    return _replace(value, variables)


def _replace(text: str, variables: Mapping[str, Any]) -> Any:
    whole = _VARIABLE.fullmatch(text)
    if whole and whole[1] in variables:
        return variables[whole[1]]
    return _VARIABLE.sub(lambda match: str(variables.get(match[1], match[0])), text)
