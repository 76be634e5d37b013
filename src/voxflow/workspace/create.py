"""Owns making a workspace from a template of this package."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxflow.config.findings import suggest
from voxflow.errors import ConfigError, DataError
from voxflow.files import atomic_directory, write_text

if TYPE_CHECKING:
    from collections.abc import Mapping

TEMPLATES = Path(__file__).parent / "templates"
COMMON = "_common"
PARAMS = "params.yaml"
FINDINGS = "findings.csv"
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_NOT_COPIED = shutil.ignore_patterns(PARAMS, "description.txt", "__pycache__")


def templates() -> dict[str, str]:
    """Each template's name and what it is for."""
    folders = sorted(path for path in TEMPLATES.iterdir() if path.is_dir() and not path.name.startswith("_"))
    return {path.name: (path / "description.txt").read_text(encoding="utf-8").strip() for path in folders}


def new_workspace(name: str, source: Path, template: str = "segmentation", *, root: Path | None = None) -> Path:
    """Make ``mmars/NAME`` and append a block to params.yaml; what stands there already is kept as it is.

    Args:
        name: letters, digits, ``_`` and ``-``; begins with a letter.
        source: the folder of images.
        template: one of :func:`templates`.
        root: the repository's root, the present folder when left out.

    Returns:
        The MMAR's folder.

    Raises:
        ConfigError: the name is taken or no name, the template is unknown, params.yaml is missing.
        DataError: the source is no folder.
    """
    root = root or Path()
    params = root / PARAMS
    folder = root / "mmars" / name
    _check(name, template, params, folder)
    if not (root / source).is_dir():
        raise DataError("no such folder; --source is the folder that holds the images", path=source)
    words = {"WORKSPACE": name, "SOURCE": source.as_posix(), "DESCRIPTION": templates()[template]}
    # Without a table, the sub-folder that an image lies in names its finding.
    words["FINDINGS"] = FINDINGS if (root / source / FINDINGS).is_file() else "null"
    words["SOURCE_YAML"] = json.dumps(source.as_posix())  # a JSON string is a YAML string
    copy_template(template, folder, words)
    block = _fill((TEMPLATES / template / PARAMS).read_text(encoding="utf-8"), words)
    write_text(params, _with_block(params.read_text(encoding="utf-8"), block))
    return folder


def copy_template(template: str, folder: Path, words: Mapping[str, str]) -> None:
    """Make an MMAR of a template, whole or not at all.

    Args:
        template: one of :func:`templates`.
        folder: the MMAR to make; what is there is replaced.
        words: what stands in for ``@WORD@``.

    Raises:
        ConfigError: no such template.
    """
    if template not in templates():
        raise ConfigError(f"unknown template {template!r}{suggest(template, templates())}")
    with atomic_directory(folder) as temporary:
        for part in (COMMON, template):
            shutil.copytree(TEMPLATES / part, temporary, ignore=_NOT_COPIED, dirs_exist_ok=True)
        for file in temporary.rglob("*.*"):
            if file.is_file():
                file.write_text(_fill(file.read_text(encoding="utf-8"), words), encoding="utf-8")


def _check(name: str, template: str, params: Path, folder: Path) -> None:
    if not _NAME.fullmatch(name):
        raise ConfigError(f"a workspace is named with letters, digits, _ and -, a letter first, received {name!r}")
    if template not in templates():
        raise ConfigError(f"unknown template {template!r}{suggest(template, templates())}")
    if not params.is_file():
        raise ConfigError("file not found; make workspaces from the root of the repository", path=params)
    if folder.exists():
        raise ConfigError(f"the workspace {name!r} exists already", path=folder)
    if name in _workspaces(params):
        raise ConfigError(f"the workspace {name!r} exists already", path=params, where="workspaces")


def _workspaces(params: Path) -> dict[str, Any]:
    import yaml

    try:
        content = yaml.safe_load(params.read_text(encoding="utf-8")) or {}
    except yaml.YAMLError as error:
        raise ConfigError(f"not valid YAML: {error}", path=params) from error
    return dict(content.get("workspaces") or {})


def _with_block(text: str, block: str) -> str:
    """Put a block at the end of ``workspaces:``, every other character of the file kept."""
    if not re.search(r"^workspaces:", text, re.MULTILINE):
        return f"{text.rstrip()}\n\nworkspaces:\n{block}"
    text = re.sub(r"^workspaces:[ \t]*\{\}[ \t]*$", "workspaces:", text, flags=re.MULTILINE)
    start = re.search(r"^workspaces:.*\n?", text, re.MULTILINE)
    begin = start.end() if start else len(text)
    # The next key at the left margin ends the mapping; a comment there belongs to that key.
    following = re.search(r"^(?:#.*\n)*[^\s#]", text[begin:], re.MULTILINE)
    end = begin + following.start() if following else len(text)
    before = text[:end].rstrip()
    after = text[end:]
    return f"{before}\n\n{block}" + (f"\n{after}" if after else "")


def _fill(text: str, words: Mapping[str, str]) -> str:
    for word, value in words.items():
        text = text.replace(f"@{word}@", value)
    return text
