"""References of Clara 4, ``@name`` and ``#@name.method()``: read as what they name, and never run.

Only a known component's name, attributes of it and calls without arguments are read. Everything else that Python would
accept after ``#`` is refused: a configuration holds no code.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from voxflow.findings import ArgumentError, suggest

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_NAME = re.compile(r"@([A-Za-z_]\w*)")
_STAND_IN = "component_"


class UnreadableReferenceError(ArgumentError):
    """A text that looks like a reference and is none that may be read."""


@dataclass(frozen=True)
class ComponentPath:
    """What a text refers to.

    Attributes:
        name: the component.
        path: attributes from there on, a call written with its brackets: ``("parameters()",)``.
    """

    name: str
    path: tuple[str, ...] = ()

    def __str__(self) -> str:
        return ".".join((f"@{self.name}", *self.path))


def is_reference(value: Any) -> bool:
    """Whether a value is a text that Clara 4 would resolve: it begins with ``@`` or ``#``."""
    return isinstance(value, str) and value.startswith(("@", "#"))


def read_reference(text: str, component_names: Iterable[str]) -> ComponentPath:
    """Read ``@name``, ``#@name``, ``#@name.attribute`` or ``#@name.method()``.

    Args:
        text: as the configuration has it.
        component_names: the components that may be referred to.

    Raises:
        UnreadableReferenceError: the text is anything else, or names a component that there is not.

    Example:
        >>> read_reference("#@model.parameters()", ["model", "optimizer"])
        ComponentPath(name='model', path=('parameters()',))
        >>> read_reference("#__import__('os').getcwd()", ["model"])
        Traceback (most recent call last):
        ...
        voxflow.config.references.UnreadableReferenceError: "#__import__('os').getcwd()" calls ...
    """
    plain = text.removeprefix("#").strip()
    if text.startswith("@") and not _NAME.fullmatch(plain):
        raise UnreadableReferenceError(
            f"{text!r} is no reference; it has the form '@name', and an expression begins with '#'"
        )
    try:
        # "@" is no name in Python, so that each one is given a prefix; the tree is looked at and never compiled.
        body = ast.parse(_NAME.sub(rf"{_STAND_IN}\1", plain), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise UnreadableReferenceError(f"{text!r} can't be read") from error
    path: list[str] = []
    while not isinstance(body, ast.Name):
        is_call = isinstance(body, ast.Call)
        if isinstance(body, ast.Call):
            if body.args or body.keywords:
                raise UnreadableReferenceError(f"{text!r} calls something with arguments; {_RULE}")
            body = body.func
        if not isinstance(body, ast.Attribute) or body.attr.startswith("_"):
            raise UnreadableReferenceError(f"{text!r} is code; {_RULE}")
        path.insert(0, f"{body.attr}()" if is_call else body.attr)
        body = body.value
    name = body.id.removeprefix(_STAND_IN)
    if not body.id.startswith(_STAND_IN):
        raise UnreadableReferenceError(f"{text!r} is code; {_RULE}")
    names = tuple(component_names)
    if name not in names:
        raise UnreadableReferenceError(f"no component is called {name!r}", fix=suggest(name, names))
    return ComponentPath(name, tuple(path))


_RULE = "only '@name' and '#@name.method()' of a component of this file are read, and no code is run"


def read_output_fields(text: str) -> tuple[str, ...] | None:
    """Read which fields a function of a handler's output names, in the forms that Clara's own configurations have.

    The text is looked at as a syntax tree and never run, so that spaces and module names make no difference.

    Returns:
        The fields in order, () for a function of nothing; None where the text is any other code.

    Example:
        >>> read_output_fields("#monai.handlers.from_engine(['pred', 'label'])")
        ('pred', 'label')
        >>> read_output_fields("lambda x: (x['pred_tc'], x['label_tc'])")
        ('pred_tc', 'label_tc')
        >>> read_output_fields("lambda x: print(x)") is None
        True
    """
    plain = text.removeprefix("#").strip().replace("monai.handlers.", "").replace("utils.", "")
    try:
        body = ast.parse(plain, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    if isinstance(body, ast.Lambda):
        return _read_lambda(body)
    if not isinstance(body, ast.Call) or not isinstance(body.func, ast.Name) or body.func.id != "from_engine":
        return None
    options = [keyword for keyword in body.keywords if keyword.arg == "first"]
    if len(body.args) != 1 or len(options) != len(body.keywords):
        return None
    names = body.args[0].elts if isinstance(body.args[0], ast.List | ast.Tuple) else [body.args[0]]
    return _take_texts(names)


def _read_lambda(body: ast.Lambda) -> tuple[str, ...] | None:
    """``lambda x: x['a']``, ``lambda x: (x['a'], x['b'])``, and the same of ``x[0]``."""
    arguments = [argument.arg for argument in body.args.args]
    if len(arguments) != 1:
        return None
    if isinstance(body.body, ast.Constant) and body.body.value is None:
        return ()
    items = body.body.elts if isinstance(body.body, ast.Tuple) else [body.body]
    names = []
    for item in items:
        if not isinstance(item, ast.Subscript):
            return None
        holder = item.value
        if isinstance(holder, ast.Subscript) and isinstance(holder.slice, ast.Constant) and holder.slice.value == 0:
            holder = holder.value
        if not isinstance(holder, ast.Name) or holder.id != arguments[0]:
            return None
        names.append(item.slice)
    return _take_texts(names)


def _take_texts(nodes: Sequence[ast.expr]) -> tuple[str, ...] | None:
    values = [node.value for node in nodes if isinstance(node, ast.Constant)]
    texts = tuple(value for value in values if isinstance(value, str))
    return texts if len(texts) == len(nodes) else None
