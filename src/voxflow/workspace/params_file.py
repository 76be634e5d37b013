"""Edits params.yaml as a person would: one value changes, comments and everything else stay."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

WIDTH = 110  # characters: ruamel.yaml folds longer lines, those that the user wrote as well


def set_value(text: str, keys: Sequence[str], value: Any) -> str:
    r"""Set one value in the text of params.yaml; mappings on the way to it are made where they are missing.

    Args:
        text: the content of params.yaml.
        keys: the path of keys to the value, such as ``("workspaces", "spleen", "split", "testing")``.
        value: lists are written in one line, and mappings of mappings block by block.

    Example:
        >>> print(set_value("a:  # kept\n  b: 1\n", ("a", "c"), ["x", "y"]), end="")
        a:  # kept
          b: 1
          c: [x, y]
    """
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = WIDTH
    yaml.indent(mapping=2, sequence=4, offset=2)
    params = yaml.load(text)
    block = params
    for key in keys[:-1]:
        if not block.get(key):
            block[key] = _to_yaml_node({})
        block = block[key]
    block[keys[-1]] = _to_yaml_node(value)
    out = io.StringIO()
    yaml.dump(params, out)
    return out.getvalue()


def _to_yaml_node(value: Any) -> Any:
    from ruamel.yaml.comments import CommentedMap, CommentedSeq

    if isinstance(value, dict):
        mapping = CommentedMap({key: _to_yaml_node(item) for key, item in value.items()})
        if value and not any(isinstance(item, dict) for item in value.values()):
            mapping.fa.set_flow_style()
        return mapping
    if isinstance(value, list | tuple):
        sequence = CommentedSeq(value)
        sequence.fa.set_flow_style()
        return sequence
    return value


def format_yaml(value: Mapping[str, Any]) -> str:
    """Write a mapping as it would stand in params.yaml.

    Args:
        value: a mapping of plain values; inner mappings without further ones stand in one line.
    """
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.width = WIDTH
    out = io.StringIO()
    yaml.dump(_to_yaml_node(dict(value)), out)
    return out.getvalue()
