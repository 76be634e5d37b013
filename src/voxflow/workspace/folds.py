"""Switches the folds of a workspace on and off: edits their lines in params.yaml and leaves the rest as it is."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import yaml

from voxflow.errors import ConfigError
from voxflow.files import read_text, write_text
from voxflow.findings import suggest
from voxflow.places import read_params
from voxflow.workspace.params_lines import parses_to, set_line

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

FOLDS, ENSEMBLES = "folds", "ensembles"
LEAST = 2


def set_folds(params_file: Path, workspace: str, count: int) -> None:
    """Write how many folds a workspace is split into, and the entries that train each and average all.

    Args:
        params_file: params.yaml; comments and layout are kept.
        workspace: a key of ``workspaces``.
        count: 2 or more; 0 ends the cross-validation of this workspace.

    Raises:
        ConfigError: no such file or workspace, a count of 1, or a layout that can't be edited line by line.
    """
    if not params_file.is_file():
        raise ConfigError("file not found; run from the root of the repository", path=params_file)
    text = read_text(params_file)
    content = read_params(params_file)
    workspaces = content.get("workspaces") or {}
    if workspace not in workspaces:
        raise ConfigError(
            f"no workspace {workspace!r}{suggest(workspace, workspaces)}", path=params_file, where="workspaces"
        )
    if count and count < LEAST:
        raise ConfigError(f"folds: 0, or {LEAST} or more, received {count}")
    workspaces[workspace]["split"] = (workspaces[workspace].get("split") or {}) | {"folds": count}
    content[FOLDS] = _drop_workspace(content.get(FOLDS), workspace) | {
        f"{workspace}-{fold}": {"workspace": workspace, "fold": fold} for fold in range(1, count + 1)
    }
    other_ensembles = {key: value for key, value in (content.get(ENSEMBLES) or {}).items() if key != workspace}
    content[ENSEMBLES] = other_ensembles | ({workspace: {"folds": list(range(1, count + 1))}} if count else {})
    text = set_line(text, ("workspaces", workspace, "split"), "folds", str(count))
    text = replace_section(text, FOLDS, content[FOLDS], "Trained one by one; written by `voxflow folds`.")
    text = replace_section(text, ENSEMBLES, content[ENSEMBLES], "Folds whose models answer together.")
    if not parses_to(text, content):
        message = f"can't be edited line by line; write workspaces.{workspace}.split.folds: {count} in lines of its own"
        raise ConfigError(message, path=params_file)
    write_text(params_file, text)


def _drop_workspace(entries: Mapping[str, Any] | None, workspace: str) -> dict[str, Any]:
    return {key: value for key, value in (entries or {}).items() if value.get("workspace") != workspace}


def replace_section(text: str, name: str, entries: Mapping[str, Any], comment: str) -> str:
    """Write a section at the left margin anew, in its place or at the end of the text.

    Args:
        text: of params.yaml.
        name: of the section.
        entries: one a line.
        comment: over a section that was not there.
    """
    lines = [
        f"  {key}: {yaml.safe_dump(value, default_flow_style=True, sort_keys=False)}" for key, value in entries.items()
    ]
    section_text = f"{name}:\n{''.join(lines)}" if entries else f"{name}: {{}}\n"
    section = re.search(rf"^{name}:.*\n?(?:[ \t]+.*\n?)*", text, re.MULTILINE)
    if section:
        return text[: section.start()] + section_text + text[section.end() :]
    return f"{text.rstrip()}\n\n# {comment}\n{section_text}"
