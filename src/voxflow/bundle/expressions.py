"""Reads the ``$`` expressions of a bundle as text: what they import, which names they use; none is run."""

from __future__ import annotations

import ast
import builtins
import symtable
import sys
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

from voxflow.bundle.packages import describe_missing, is_installed, name_install
from voxflow.bundle.references import EXPRESSION, list_references
from voxflow.findings import show, suggest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from voxflow.bundle.references import StageReading
    from voxflow.bundle.targets import TargetFinder

# MONAI offers these to every expression.
GLOBALS = {"monai": "monai", "torch": "torch", "np": "numpy", "numpy": "numpy"}
_REFERENCES = "__local_refs"
_DISTRIBUTED = "torch.distributed.init_process_group"


@dataclass(frozen=True)
class Expression:
    """One ``$`` text.

    Attributes:
        name: its id.
        source: what stands behind the ``$``.
        text: the same with MONAI's variable in the place of each reference.
        tree: the parsed text; None where it is no Python.
        fault: why it can't be evaluated; empty where it can.
        is_always_parsed: MONAI parses it whether a stage reaches it or not.
    """

    name: str
    source: str
    text: str
    tree: ast.Module | None
    fault: str = ""
    is_always_parsed: bool = False

    @property
    def statement(self) -> ast.Import | ast.ImportFrom | None:
        """The import that it is; None for what is evaluated."""
        first = self.tree.body[0] if self.tree and self.tree.body else None
        return first if isinstance(first, ast.Import | ast.ImportFrom) else None


def list_expressions(reading: StageReading) -> list[Expression]:
    """List all expressions of a configuration, parsed."""
    return [parse_expression(name, text) for name, text in reading.list_texts() if text.startswith(EXPRESSION)]


def parse_expression(name: str, text: str) -> Expression:
    """Parse one expression as MONAI does.

    Args:
        name: its id.
        text: with its ``$``.

    Example:
        >>> parse_expression("a", "$@b + 1").text, parse_expression("a", "$@b +").fault
        ("__local_refs['b'] + 1", 'no valid Python: invalid syntax')
    """
    source = code = text[len(EXPRESSION) :]
    for reference in sorted(list_references(text), key=len, reverse=True):
        plain = reference.replace("#", "::")
        code = code.replace(f"@{plain}", f"{_REFERENCES}['{plain}']").replace(
            f"@{reference}", f"{_REFERENCES}['{plain}']"
        )
    # What holds the word "import" is parsed first of all, with its references still in it.
    raw_fault = _parse(source)[1] if "import" in text else ""
    tree, fault = _parse(code)
    if tree is None:
        return Expression(name, source, code, None, fault, is_always_parsed=bool(raw_fault))
    if raw_fault:
        message = "MONAI takes it for an import, by the word 'import' behind a reference"
        return Expression(name, source, code, tree, message, is_always_parsed=True)
    if tree.body and isinstance(tree.body[0], ast.Import | ast.ImportFrom):
        return Expression(name, source, code, tree)
    if len(tree.body) != 1 or not isinstance(tree.body[0], ast.Expr):
        return Expression(name, source, code, None, "a statement, where a value is expected")
    try:
        compile(tree, "<expression>", "exec", dont_inherit=True)  # finds a yield, and runs nothing
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return Expression(name, source, code, None, f"no valid Python: {error}")
    return Expression(name, source, code, tree)


def _parse(code: str) -> tuple[ast.Module | None, str]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(code), ""
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return None, f"no valid Python: {error.msg if isinstance(error, SyntaxError) else error}"


def list_import(statement: ast.Import | ast.ImportFrom) -> tuple[str, str]:
    """Return the name that an import makes for expressions, and what it stands for: MONAI takes the first alias only.

    Example:
        >>> list_import(ast.parse("from scipy import ndimage as nd").body[0])
        ('nd', 'scipy.ndimage')
    """
    alias = statement.names[0]
    path = f"{statement.module}.{alias.name}" if isinstance(statement, ast.ImportFrom) else alias.name
    return alias.asname or alias.name, path


def check_expressions(reading: StageReading, finder: TargetFinder, *, is_whole: bool = True) -> list[Expression]:
    """Note what is wrong with expressions.

    Args:
        reading: the configuration.
        finder: knows what imports lead to.
        is_whole: False: other files may define the names that it uses.

    Returns:
        All of them.
    """
    expressions = list_expressions(reading)
    statements = [(item, item.statement) for item in expressions if item.statement]
    imported = {name: path for _, node in statements if node for name, path in [list_import(node)]}
    # MONAI runs every import as soon as it builds anything.
    reading.reached |= {item.name for item, _ in statements}
    used: set[str] = set()
    for expression in expressions:
        if expression.is_always_parsed:
            reading.reached.add(expression.name)
        if expression.fault:
            reading.note_reached(
                "expression-syntax", expression.name, f"{expression.fault}: {show('$' + expression.source)}"
            )
        elif expression.tree and not expression.statement:
            names = find_free_names(expression.text)
            used |= names if expression.name in reading.reached else set()
            if is_whole:
                _check_names(reading, expression, names, imported)
            _check_paths(reading, expression, GLOBALS | imported, finder)
    for expression, statement in statements:
        if statement:
            _check_import(reading, expression.name, list_import(statement), used, finder)
    return expressions


def find_free_names(code: str) -> set[str]:
    """Find the names that an expression takes from outside.

    Example:
        >>> sorted(find_free_names("[glob(x) for x in files if (y := x)]"))
        ['files', 'glob']
    """
    top = symtable.symtable(code, "<expression>", "eval")
    waiting, used, assigned = [top], set[str](), set[str]()
    while waiting:
        table = waiting.pop()
        waiting += table.get_children()
        outer = [symbol for symbol in table.get_symbols() if table is top or symbol.is_global()]
        used |= {symbol.get_name() for symbol in outer if symbol.is_referenced()}
        assigned |= {symbol.get_name() for symbol in outer if symbol.is_assigned()}  # by ":="
    return used - assigned


def _check_names(reading: StageReading, expression: Expression, names: set[str], imported: Mapping[str, str]) -> None:
    for name in sorted(names - {*GLOBALS, *imported, _REFERENCES, *dir(builtins)}):
        is_module = name in sys.stdlib_module_names or is_installed(name) or bool(name_install(name))
        near = suggest(name, {*GLOBALS, *imported}, ignore_case=False).nearest
        advice = f"write {near!r}" if near else ""
        fix = f'add "$import {name}" to `imports`' if is_module else advice
        reading.note_reached("unknown-name", expression.name, f"nothing defines the name {name!r}", fix)


def list_paths(tree: ast.AST, modules: Mapping[str, str]) -> Iterator[str]:
    """List the dotted paths that a text names, with imported names written out.

    Example:
        >>> sorted(list_paths(ast.parse("dist.get_rank() + torch.cuda.device_count()"), {"dist": "torch.distributed"}))
        ['torch.cuda.device_count', 'torch.distributed.get_rank']
    """
    covered: set[ast.AST] = set()
    for node in ast.walk(tree):
        parts: list[str] = []
        inner: ast.AST = node
        while isinstance(inner, ast.Attribute):
            parts.insert(0, inner.attr)
            covered.add(inner.value)
            inner = inner.value
        if isinstance(inner, ast.Name) and node not in covered:
            yield ".".join([modules.get(inner.id, inner.id), *parts])


def _check_paths(
    reading: StageReading, expression: Expression, modules: Mapping[str, str], finder: TargetFinder
) -> None:
    for path in list_paths(expression.tree, modules) if expression.tree else ():
        if path == _DISTRIBUTED and expression.name in reading.reached:
            fix = "leave this configuration out of `config`: it is for torchrun"
            reading.note("error", "several-processes", expression.name, "a stage runs in one process", fix)
        fault = finder.find_missing_attribute(path)
        if fault:
            reading.note_reached("unknown-component", expression.name, *fault)


def _check_import(
    reading: StageReading, name: str, imported: tuple[str, str], used: set[str], finder: TargetFinder
) -> None:
    """Note an import that fails; MONAI complains only where its name is used."""
    alias, path = imported
    if finder.is_own(path):
        fault = finder.check_own_module(path)
    elif is_installed(path):
        fault = finder.find_missing_attribute(path)
    else:
        fault = describe_missing(path)
    if fault:
        code = "missing-package" if not finder.is_own(path) and not is_installed(path) else "unknown-component"
        reading.note("error" if alias in used else "warning", code, name, *fault)
