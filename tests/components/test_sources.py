"""The table of modules is true, and looking a kind up imports no modules of another."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import voxflow
from voxflow.components.sources import MODULES

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCE = Path(voxflow.__file__).resolve().parents[1]
COMPONENTS = SOURCE / "voxflow" / "components"


def read_registrations(path: Path) -> Iterator[tuple[str, str, str]]:
    """Every (dialect, kind, module) that a module registers components for, by its text."""
    module = ".".join(path.relative_to(SOURCE).with_suffix("").parts)
    adapted = "custom" if path.parent.name == "custom" else "clara4"
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
            continue
        constants = [str(value.value) for value in node.args if isinstance(value, ast.Constant)]
        keywords = {word.arg: str(word.value.value) for word in node.keywords if isinstance(word.value, ast.Constant)}
        if node.func.id == "register" and constants:
            yield (constants[1] if len(constants) > 1 else keywords.get("dialect", "clara3"), constants[0], module)
        elif node.func.id == "adapts" and constants:
            yield adapted, constants[0], module


def test_the_table_lists_the_modules_that_hold_components_and_no_others() -> None:
    registered = {entry for path in COMPONENTS.rglob("*.py") for entry in read_registrations(path)}
    entries = {
        (dialect, kind, module)
        for dialect, kinds in MODULES.items()
        for kind, modules in kinds.items()
        for module in modules
    }
    assert entries == registered


@pytest.mark.parametrize(
    ("kind", "name", "foreign"),
    [
        ("loss", "Dice", ("transforms", "networks", "metrics", "writers", "tlt", "monai.transforms")),
        ("transform", "LoadNifti", ("networks", "losses", "metrics", "writers", "tlt")),
        ("network", "tlt2:SegmResnet", ("transforms.loading", "losses", "metrics", "writers", "tlt")),
        ("metric", "ComputeAUC", ("networks", "losses", "writers", "transforms.loading", "tlt")),
        ("writer", "WriteNifti", ("networks", "losses", "metrics", "transforms.loading", "tlt")),
    ],
)
def test_looking_a_kind_up_imports_its_own_modules_only(kind: str, name: str, foreign: tuple[str, ...]) -> None:
    code = f"""
import sys
from voxflow.components import find_component
assert find_component({kind!r}, {name!r}) is not None
foreign = tuple(f"voxflow.components.{{part}}" for part in {foreign!r})
sys.exit(", ".join(name for name in sys.modules if name.startswith(foreign) or name in ("torch", "monai")) or 0)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
