"""Computes a digest of what a module computes: of its syntax tree without the parts that change no result.

Left out are comments, docstrings, layout, the order of imports, imports for types only, and the wording of messages: a
typo that is mended in a docstring or an error runs no stage again. Standard library only, and the same on every
version of Python that Voxflow runs on, since the digests lie in git.
"""

from __future__ import annotations

import ast
import hashlib
from typing import TYPE_CHECKING, TypeGuard

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    # Where a name comes from: (module, name) as written → the module that defines it, and the name there.
    Resolve = Callable[[str, str], str]

LENGTH = 16  # hexadecimal digits: 64 bits tell some thousand modules apart
SPEAKERS = frozenset({"say", "warn", "debug", "info", "warning", "error", "exception", "critical"})
ERRORS = ("Error", "Warning", "Finding")
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def digest_code(source: str, resolve: Resolve | None = None) -> str:
    """The digest of a module's code.

    Args:
        source: the module.
        resolve: tells where an imported name is defined, so that an import through a package's door and one past it
            are the same; None takes imports as they are written.

    Example:
        >>> digest_code("x = 1  # one") == digest_code("'A number.'; x = (1)")
        True
        >>> digest_code("x = 1") == digest_code("x = 2")
        False
    """
    text = "".join(_Writer(resolve or (lambda module, name: f"{module}.{name}")).module(ast.parse(source)))
    return hashlib.sha256(text.encode()).hexdigest()[:LENGTH]


class _Writer:
    """Writes a syntax tree as text."""

    def __init__(self, resolve: Resolve) -> None:
        self._resolve = resolve
        # The texts that are only ever told to a person, by the id of their node.
        self._messages: set[int] = set()

    def module(self, tree: ast.Module) -> Iterator[str]:
        for node in ast.walk(tree):
            if isinstance(node, FUNCTIONS):
                self._messages |= _message_values(node)
        yield from self._block(tree.body)

    def _block(self, body: list[ast.stmt]) -> Iterator[str]:
        """Statements; imports first and sorted, without docstrings and what is for types only."""
        statements = [statement for statement in body if not _is_docstring(statement)]
        imports = [name for node in statements for name in self._imports(node)]
        yield "[" + ";".join(sorted(imports))
        for statement in statements:
            if isinstance(statement, ast.Import | ast.ImportFrom):
                continue
            if is_for_types(statement):
                yield from self._block(statement.orelse)
            else:
                yield from self._node(statement, is_message=False)
        yield "]"

    def _imports(self, node: ast.stmt) -> Iterator[str]:
        if isinstance(node, ast.Import):
            yield from (f"{alias.name} as {alias.asname}" for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield from (f"{self._resolve(module, alias.name)} as {alias.asname or alias.name}" for alias in node.names)

    def _node(self, node: ast.AST, *, is_message: bool) -> Iterator[str]:
        is_message = is_message or id(node) in self._messages or is_told(node)
        if is_message and isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield "text"
            return
        if is_message and isinstance(node, ast.JoinedStr):
            yield "text"
            placeholders = [value for value in node.values if isinstance(value, ast.FormattedValue)]
            # How a value is formatted is wording, too.
            yield from (part for value in placeholders for part in self._node(value.value, is_message=True))
            return
        yield f"({type(node).__name__}"
        for field, value in ast.iter_fields(node):
            if isinstance(node, ast.JoinedStr):
                value = [part for part in node.values if not _is_empty_text(part)]  # noqa: PLW2901
            yield from self._field(field, value, is_message=is_message)
        yield ")"

    def _field(self, field: str, value: object, *, is_message: bool) -> Iterator[str]:
        # What is empty is not written: newer versions of Python have fields that older ones lack.
        if value is None or value == [] or field in {"ctx", "kind", "type_comment"}:
            return
        yield f" {field}="
        if isinstance(value, list) and isinstance(value[0], ast.stmt):
            yield from self._block(value)
        elif isinstance(value, list):
            for item in value:
                if isinstance(item, ast.AST):
                    yield from self._node(item, is_message=is_message)
                else:
                    yield repr(item)
        elif isinstance(value, ast.AST):
            yield from self._node(value, is_message=is_message)
        else:
            yield repr(value)


def is_for_types(node: ast.AST) -> TypeGuard[ast.If]:
    """Whether a statement is ``if TYPE_CHECKING:``."""
    if not isinstance(node, ast.If):
        return False
    test = node.test
    return (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (
        isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING"
    )


def is_told(node: ast.AST) -> bool:
    """Whether strings below a node are only words for a person: an error that is raised or made, a line, a warning."""
    if isinstance(node, ast.Raise):
        return True
    if not isinstance(node, ast.Call):
        return False
    name = _call_name(node)
    return name in SPEAKERS or (name[:1].isupper() and name.endswith(ERRORS))


def _call_name(node: ast.Call) -> str:
    function = node.func
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _is_empty_text(item: object) -> bool:
    """Whether a part of an f-string is empty: Python 3.12 has such parts around a format, 3.11 and 3.13 have none."""
    return isinstance(item, ast.Constant) and item.value == ""


def _message_values(function: ast.FunctionDef | ast.AsyncFunctionDef) -> set[int]:
    """The texts that a function gives to local names which are read inside messages only, by id.

    Such as in ``reason = f"{count} are missing"; raise DataError(reason)``. Only literal text counts, not what is
    called to make it, since a call may do more than tell.
    """
    values: dict[str, list[ast.expr]] = {}
    shared: set[str] = set()
    for node in _walk_scope(function):
        if isinstance(node, ast.Global | ast.Nonlocal):
            shared.update(node.names)
        elif isinstance(node, ast.Assign | ast.AugAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                if isinstance(target, ast.Name):
                    values.setdefault(target.id, []).append(node.value)
    messages: set[int] = set()
    while True:
        # A text may be a part of another one: what is read by a message may be known only in the next round.
        read_elsewhere = shared.union(_names_outside_messages(function, messages))
        texts = {
            id(text) for name in values.keys() - read_elsewhere for value in values[name] for text in _texts(value)
        }
        if texts <= messages:
            return messages
        messages |= texts


def _walk_scope(node: ast.AST) -> Iterator[ast.AST]:
    """Every node below, but for the bodies of classes, whose names are attributes."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.ClassDef):
            yield child
            yield from _walk_scope(child)


def _names_outside_messages(node: ast.AST, messages: set[int]) -> Iterator[str]:
    if is_told(node) or id(node) in messages:
        return
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
        yield node.id
    for child in ast.iter_child_nodes(node):
        yield from _names_outside_messages(child, messages)


def _texts(value: ast.expr) -> Iterator[ast.expr]:
    """The literal texts that a value is chosen or joined from."""
    if isinstance(value, ast.JoinedStr) or (isinstance(value, ast.Constant) and isinstance(value.value, str)):
        yield value
    elif isinstance(value, ast.IfExp):
        yield from (text for part in (value.body, value.orelse) for text in _texts(part))
    elif isinstance(value, ast.BinOp):
        yield from (text for part in (value.left, value.right) for text in _texts(part))
