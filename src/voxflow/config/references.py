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
    from collections.abc import Iterable

_NAME = re.compile(r"@([A-Za-z_]\w*)")
_STAND_IN = "component_"
# Functions of a handler's output that Clara's own configurations hold; the loop gives each handler what it needs.
KNOWN_OUTPUTS = (
    "lambda x: None",
    "lambda x: x['loss']",
    "lambda x: x[0]['loss']",
    "lambda x: (x['pred'], x['label'])",
    "lambda x: (x[0]['pred'], x[0]['label'])",
    "from_engine('loss')",
    "from_engine('loss', first=True)",
    "from_engine(['loss'], first=True)",
    "from_engine(['pred', 'label'])",
    "from_engine(('pred', 'label'))",
)


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


def is_known_output(text: str) -> bool:
    """Whether a text is one of the functions of a handler's output that Clara's own configurations hold.

    The text is compared as a syntax tree and never run, so that spaces and module names make no difference.

    Example:
        >>> is_known_output("#monai.handlers.from_engine(['pred','label'])")
        True
        >>> is_known_output("lambda x: print(x)")
        False
    """
    plain = text.removeprefix("#").strip().replace("monai.handlers.", "").replace("utils.", "")
    try:
        expression = ast.dump(ast.parse(plain, mode="eval"))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return expression in {ast.dump(ast.parse(output, mode="eval")) for output in KNOWN_OUTPUTS}
