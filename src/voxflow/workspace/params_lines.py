"""Edits single lines of params.yaml as text, and leaves every other character as it is.

params.yaml belongs to its user, with comments and layout. A YAML library that keeps comments still moves some of them,
so lines are edited as text, and the result is parsed: where it does not mean exactly what it should, nothing is
written.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def set_line(text: str, blocks: Sequence[str], key: str, value: str) -> str:
    """Set a plain value, or a list in one line, in a block of lines of its own, in the place of what is there.

    Args:
        text: of params.yaml.
        blocks: keys on the way to the block, from the left margin.
        key: within it.
        value: as YAML writes it.

    Returns:
        The text as it is where the block has another layout.
    """
    lines = text.splitlines()
    block = range(len(lines))
    for depth, name in enumerate(blocks):
        inner = _find_block(lines, block, depth, name)
        if inner is None:
            return text
        block = inner
    start = f"{'  ' * len(blocks)}{key}:"
    places = [number for number in block if lines[number].startswith(start)]
    if places:
        lines[places[0]] = re.sub(
            rf"^{re.escape(start)}[ ]*(?:\[[^\]]*\]|[\w.-]*)", f"{start} {value}", lines[places[0]]
        )
    else:
        lines.insert(block.start, f"{start} {value}")
    return "\n".join(lines) + "\n"


def parses_to(text: str, content: Mapping[str, Any]) -> bool:
    """Tell whether a text is YAML that means exactly this."""
    try:
        return bool(yaml.safe_load(text) == content)
    except yaml.YAMLError:
        return False


def _find_block(lines: list[str], within: range, depth: int, name: str) -> range | None:
    """The lines below ``name:``, which stands at this depth and has nothing beside it; None when there is none."""
    head = re.compile(rf"{'  ' * depth}{re.escape(name)}:[ ]*(#.*)?")
    begin = next((number + 1 for number in within if head.fullmatch(lines[number])), None)
    if begin is None:
        return None
    # A block goes on with every line that is further in, is empty, or only says something.
    deeper = re.compile(rf"{'  ' * depth} |[ ]*(#.*)?$")
    end = next((number for number in range(begin, within.stop) if not deeper.match(lines[number])), within.stop)
    return range(begin, end)
