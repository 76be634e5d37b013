"""Reads a bundle's own Python modules as text: what they define and import; none is run."""

from __future__ import annotations

import ast
import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

MAX_SCRIPTS = 500


def read_script(file: Path) -> tuple[ast.Module | None, str]:
    """Parse a Python file; None and the reason where it is none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(file.read_bytes()), ""
    except SyntaxError as error:
        return None, f"line {error.lineno}: no valid Python: {error.msg}"
    except (ValueError, RecursionError, MemoryError, OSError) as error:
        return None, f"no valid Python: {error}"


def _list_statements(tree: ast.Module, *, guarded: bool) -> list[ast.stmt]:
    """The statements of a module, those below ``if`` too; with ``guarded`` also those of ``try`` and ``with``."""
    waiting: list[ast.stmt] = list(tree.body)
    statements: list[ast.stmt] = []
    while waiting:
        node = waiting.pop(0)
        statements.append(node)
        if isinstance(node, ast.If) and (guarded or not _is_type_checking(node.test)):
            waiting += [*node.body, *node.orelse]
        elif guarded and isinstance(node, ast.Try | ast.With):
            handlers = node.handlers if isinstance(node, ast.Try) else []
            waiting += [*node.body, *(statement for handler in handlers for statement in handler.body)]
    return statements


def _is_type_checking(test: ast.expr) -> bool:
    return last_name(test) == "TYPE_CHECKING"


def last_name(node: ast.expr) -> str:
    """The last part of a dotted name; empty for any other expression."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def list_definitions(tree: ast.Module) -> dict[str, Any]:
    """The names that a module defines: a class or function with its text, others without; "*" for all of another's."""
    names: dict[str, Any] = {}
    for node in _list_statements(tree, guarded=True):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            names[node.name] = node
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.asname or alias.name.partition(".")[0]: None for alias in node.names}
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {name.id: None for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)}
    return names


def list_script_imports(tree: ast.Module, file: Path, bundle: Path) -> list[tuple[int, str]]:
    """The modules that a file imports when it is loaded, outside of ``try``, with their lines."""
    package = list(file.relative_to(bundle).parts[:-1])
    modules: list[tuple[int, str]] = []
    for node in _list_statements(tree, guarded=False):
        if isinstance(node, ast.Import):
            modules += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parents = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*parents, *([node.module] if node.module else [])])
            # "from scripts import utils" loads scripts/utils.py.
            modules += [(node.lineno, f"{base}.{alias.name}" if base else alias.name) for alias in node.names]
    return modules
