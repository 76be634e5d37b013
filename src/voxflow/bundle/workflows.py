"""Finds the Python class that some bundles are run by, instead of a configuration with ids."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING, Any

from voxflow.bundle.source import MAX_SCRIPTS, last_name, read_script

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_KEYS = ("workflow_name", "workflow_class", "workflow", "workflow_type")
_DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")
_BASES = ("BundleWorkflow", "PythonicWorkflow")


def find_workflow_class(bundle: Path, values: Mapping[str, Any]) -> str:
    """Find the workflow class of a bundle, which ``python -m monai.bundle run_workflow`` runs.

    Args:
        bundle: its folder.
        values: what its metadata and configurations state at the top.

    Returns:
        Its dotted path; empty where a configuration states an id to run, or there is no such class.
    """
    for key in _KEYS:
        value = values.get(key)
        if isinstance(value, str) and _DOTTED.fullmatch(value):
            return value
    if any(name in values for name in ("run", "training", "evaluating", "initialize")):
        return ""
    files = sorted(file for file in bundle.rglob("*.py") if not file.is_symlink())[:MAX_SCRIPTS]
    for file in files:
        tree, _ = read_script(file)
        for node in tree.body if tree else ():
            if isinstance(node, ast.ClassDef) and any(last_name(base) in _BASES for base in node.bases):
                return ".".join([*file.relative_to(bundle).with_suffix("").parts, node.name])
    return ""


def describe_workflow(name: str) -> tuple[str, str]:
    """Say that a stage can't run a workflow class, and what to do instead."""
    message = f"the bundle is run by the class {name}, and the stages run a configuration with ids"
    fix = (
        f"run it by hand (python -m monai.bundle run_workflow {name}), or write a configuration with trainer, "
        "evaluator and run (docs/bundles.md)"
    )
    return message, fix


def advise_workflow(bundle: Path) -> str:
    """The end of a stage's refusal: the class that runs the bundle, and what to do; empty where there is none."""
    name = find_workflow_class(bundle, {})
    return f"; {'; '.join(describe_workflow(name))}" if name else ""
