"""Parses options that a command line sets one by one: ``--set KEY=VALUE`` for the fields of an options model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from voxflow.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import BaseModel, ValidationError

    Options = TypeVar("Options", bound=BaseModel)


def nest_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Nest settings whose keys have dots.

    Example:
        >>> nest_settings({"clean.fill_holes": ["all"], "clean.min_ml": 2, "engine": "onnx"})
        {'clean': {'fill_holes': ['all'], 'min_ml': 2}, 'engine': 'onnx'}
    """
    tree: dict[str, Any] = {}
    for key, value in settings.items():
        *parents, last = key.split(".")
        inner = tree
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner[last] = value
    return tree


def parse_options(model: type[Options], settings: Mapping[str, Any]) -> Options:
    """Parse settings into an options model.

    Raises:
        ConfigError: a setting that there is not, or a wrong value; all of them at once.
    """
    from pydantic import ValidationError

    try:
        return model.model_validate(settings)
    except ValidationError as error:
        messages = []
        for fault in error.errors():
            key = ".".join(map(str, fault["loc"]))
            is_unknown = fault["type"] == "extra_forbidden" and len(fault["loc"]) == 1
            # Its own fields first, then those that it inherits.
            names = sorted(model.model_fields, key=lambda name: name not in model.__annotations__)
            known_keys = f"; there is {', '.join(names)}" if is_unknown else ""
            is_list = fault["type"] in ("tuple_type", "list_type")
            form = f'; write a list as --set \'{key}=["A", "B"]\'' if is_list else ""
            messages.append(f"{key}: {fault['msg']}{known_keys}{form}")
        raise ConfigError(f"--set {'; '.join(messages)}") from error


def describe_flags(error: ValidationError) -> str:
    """Say in one line which flags have wrong values; a flag is called as its option, with hyphens."""
    # Of a mapping, its own key says more than the option's.
    flags = []
    for fault in error.errors():
        name, *keys = [*map(str, fault["loc"])] or ["options"]
        flags.append((" ".join([name.replace("_", "-"), *(keys if name == "channels" else [])]), fault["msg"]))
    return "; ".join(f"--{flag}: {message}" for flag, message in flags)
