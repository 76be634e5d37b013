"""Owns holding a component's name and arguments against the registry; imports neither torch nor MONAI."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import AliasChoices, ValidationError

from voxflow.components import (
    dialect_of,
    explain_refusal,
    find_component,
    find_custom_faults,
    find_kinds,
    list_component_names,
    parse_arguments,
    plain_name,
)
from voxflow.config.findings import show, suggest

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

    from voxflow.components import Component, ComponentModel, Kind
    from voxflow.config.findings import Findings


def check_component(kind: Kind, component: Component, findings: Findings) -> ComponentModel | None:
    """Note every fault of one component; return it, built, when there is none and it is no class of the user's own."""
    built = _check(kind, component, findings)
    findings.checked.append((kind, component, built))
    return built


def _check(kind: Kind, component: Component, findings: Findings) -> ComponentModel | None:
    if component.path:
        reason = explain_refusal(component.path)
        if reason is not None:
            findings.add(f"{component.where}.path", reason)
            return None
        for where, message in find_custom_faults(component, kind):
            place = f"{component.where_args}{where.removeprefix('.args')}" if where.startswith(".args") else None
            findings.add(place or f"{component.where}{where}", message)
        return None
    model = find_component(kind, component.name)
    if model is None:
        findings.add(f"{component.where}.name", _unknown_name(kind, component.name))
        return None
    try:
        return parse_arguments(model, component.args)
    except ValidationError as error:
        for fault in error.errors():
            where, message = _explain(fault, plain_name(component.name), model)
            findings.add(f"{component.where_args}{where}", message)
        return None


def _unknown_name(kind: Kind, name: str) -> str:
    others, plain = find_kinds(name), plain_name(name)
    reason = None if others else explain_refusal(plain)
    if reason is not None:
        return reason
    if others:
        return f"{plain!r} is of kind {' and '.join(others)}, where a {kind} is expected"
    return f"unknown {kind} {plain!r}{suggest(plain, list_component_names(kind, dialect_of(name)))}"


def _explain(fault: ErrorDetails, name: str, model: type[ComponentModel]) -> tuple[str, str]:
    """The place below ``args`` and the sentence for one pydantic fault."""
    place = _json_path(fault["loc"])
    argument = str(fault["loc"][-1]) if fault["loc"] else ""
    if fault["type"] == "extra_forbidden":
        return place, f"{name} takes no argument {argument!r}{suggest(argument, argument_names(model))}"
    if fault["type"] == "missing":
        return "", f"{name} needs the argument {argument!r}"
    message = fault["msg"].removeprefix("Value error, ")
    if fault["loc"]:
        return place, f"{message}, received {show(fault['input'])}"
    return place, f"{name}: {message}"


def argument_names(model: type[ComponentModel]) -> list[str]:
    """The arguments that a component takes, by the names that its configurations write."""
    names: list[str] = []
    for name, field in model.model_fields.items():
        alias = field.validation_alias
        if isinstance(alias, AliasChoices):
            names += [choice for choice in alias.choices if isinstance(choice, str)]
        else:
            names.append(alias if isinstance(alias, str) else name)
    return names


def _json_path(loc: tuple[Any, ...]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc)
