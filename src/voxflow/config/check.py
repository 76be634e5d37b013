"""The check of one component: its name and its arguments against the registry, without importing torch or MONAI."""

from __future__ import annotations

import dataclasses
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
from voxflow.findings import DEFAULT_CODE, ArgumentError, show, suggest

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

    from voxflow.components import Component, ComponentModel, Kind
    from voxflow.findings import FindingCollector, Suggestion


def check_component(kind: Kind, component: Component, findings: FindingCollector) -> Component:
    """Note every fault of one component; return it with its typed arguments where it has none.

    A custom class is checked by its text alone and stays without typed arguments: its code runs when it is built.

    Args:
        kind: what the configuration needs at this place, such as "loss".
        component: its name in the registry, its arguments with every variable replaced, and its JSON path.
        findings: where faults are noted.
    """
    if component.path:
        _check_custom(kind, component, findings)
        return component
    model = find_component(kind, component.name)
    if model is None:
        _note_unknown_name(kind, component, findings)
        return component
    try:
        return component.with_typed(parse_arguments(model, component.args))
    except ValidationError as error:
        for fault in error.errors():
            _note_fault(fault, component, model, findings)
        return component


def attach_typed(kind: Kind, component: Component) -> Component:
    """Parse the arguments of a component that a reader makes itself, such as TLT 2's image pipeline.

    Returns:
        The component with its typed arguments; without them where they don't fit, which whoever builds it then says.
    """
    model = find_component(kind, component.name)
    try:
        return component if model is None else component.with_typed(parse_arguments(model, component.args))
    except ValidationError:
        return component


def _check_custom(kind: Kind, component: Component, findings: FindingCollector) -> None:
    refused = explain_refusal(str(component.path))
    if refused is not None:
        findings.error(DEFAULT_CODE, f"{component.where}.path", refused.message, refused.fix)
        return
    for fault in find_custom_faults(component, kind):
        inside = fault.where.removeprefix(".args")
        place = (component.where if inside == fault.where else component.where_args) + inside
        findings.add(dataclasses.replace(fault, file=findings.file, where=place))


def _note_unknown_name(kind: Kind, component: Component, findings: FindingCollector) -> None:
    name, place = component.name, f"{component.where}.name"
    other_kinds, plain = find_kinds(name), plain_name(name)
    refused = None if other_kinds else explain_refusal(plain)
    if refused is not None:
        findings.error(DEFAULT_CODE, place, refused.message, refused.fix)
    elif other_kinds:
        message = f"{plain!r} is of kind {' and '.join(other_kinds)}, where a {kind} is expected"
        findings.error("unknown-component", place, message)
    else:
        near = suggest(plain, list_component_names(kind, dialect_of(name)))
        findings.error("unknown-component", place, f"unknown {kind} {plain!r}", near)


def _note_fault(
    fault: ErrorDetails, component: Component, model: type[ComponentModel], findings: FindingCollector
) -> None:
    """Note one fault that pydantic found in a component's arguments."""
    name, place = plain_name(component.name), component.where_args + _json_path(fault["loc"])
    argument = str(fault["loc"][-1]) if fault["loc"] else ""
    # pydantic's own sentences know neither the component nor its other arguments, so that these two are said anew.
    if fault["type"] == "extra_forbidden":
        near = suggest(argument, list_argument_names(model), present=component.args)
        findings.error("unknown-argument", place, f"{name} takes no argument {argument!r}", near)
    elif fault["type"] == "missing":
        findings.error("missing-argument", component.where_args, f"{name} needs the argument {argument!r}")
    else:
        kind, message, fix = _read_refusal(fault)
        if not fault["loc"]:
            findings.error(kind, place, f"{name}: {message}", fix)
        else:
            findings.error(kind, place, f"{message}, received {show(fault['input'])}", fix)


def _read_refusal(fault: ErrorDetails) -> tuple[str, str, str | Suggestion]:
    """Code, message and fix: a validator's own where it gives them."""
    error = fault.get("ctx", {}).get("error")
    if isinstance(error, ArgumentError):
        return error.code, error.message, error.fix
    return DEFAULT_CODE, fault["msg"].removeprefix("Value error, "), ""


def list_argument_names(model: type[ComponentModel]) -> list[str]:
    """List the arguments that a component takes, by the names that configurations write.

    Example:
        >>> from voxflow.components import find_component
        >>> list_argument_names(find_component("loss", "Focal"))
        ['is_onehot_targets', 'skip_background', 'squared_pred', 'smooth', 'gamma']
    """
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
