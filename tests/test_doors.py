"""A package offers names by its ``__init__.pyi``, which are imported when they are first used."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src"
DOORS = sorted((SOURCE / "voxflow").rglob("__init__.pyi"))


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.parent.name)
def test_every_name_that_a_package_offers_is_there(door: Path) -> None:
    package = importlib.import_module(".".join(door.parent.relative_to(SOURCE).parts))
    for name in package.__all__:
        assert getattr(package, name) is not None


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.parent.name)
def test_no_name_is_that_of_a_module_of_the_package(door: Path) -> None:
    """An imported module takes the place of the name in its package, and what is lazy would never be looked up."""
    tree = ast.parse(door.read_text(encoding="utf-8"))
    names = {alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert not names & {path.stem for path in door.parent.iterdir()}
