"""Lists what of a bundle is code: expressions, imports, and components from outside of MONAI, torch and ignite."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING, Any

from voxflow.bundle.expressions import GLOBALS, list_import, list_paths, parse_expression
from voxflow.bundle.reading import MERGE, walk_texts
from voxflow.bundle.redirect import list_components
from voxflow.bundle.references import EXPRESSION, TARGET
from voxflow.findings import Finding, show

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from voxflow.bundle.expressions import Expression
    from voxflow.bundle.targets import TargetFinder

RUNS, DANGEROUS = "runs-code", "dangerous-code"
_WORDS = {
    "import": ("1 import", "{} imports"),
    "expression": ("1 expression that runs as code", "{} expressions that run as code"),
    "component": (
        "1 component from outside of MONAI, torch and ignite",
        "{} components from outside of MONAI, torch and ignite",
    ),
}
# What starts programs, reaches the network, removes files or runs further code.
_DANGEROUS = re.compile(
    r"os\.(system|popen|exec\w*|spawn\w*|fork\w*|kill|remove|unlink|rmdir|removedirs|rename|replace)"
    r"|shutil\.(rmtree|move|chown)"
    r"|(subprocess|socket|urllib|requests|http|ftplib|smtplib|ctypes|pickle|marshal|shelve|importlib|runpy|pty|builtins)"
    r"(\..+)?|eval|exec|compile|open|input|breakpoint|__import__|globals|vars"
)
_REFLECTION = re.compile(r"__(class|bases|base|mro|subclasses|globals|builtins|code|import|reduce|reduce_ex)__")
_PICKLE = re.compile(r"weights_only\s*=\s*False|allow_pickle\s*=\s*True")
_READ_IT = "read it before you trust it"


def list_code(bundle: Path, contents: Mapping[Path, Mapping[str, Any]], finder: TargetFinder) -> list[Finding]:
    """List the code in a bundle's configurations as they stand in their files.

    Args:
        bundle: its folder.
        contents: configurations by file.
        finder: knows where a component comes from.

    Returns:
        What a bundle is, then one warning for each file and kind, then what is dangerous.
    """
    expressions = {file: list(_list_expressions(content)) for file, content in contents.items()}
    statements = [item.statement for items in expressions.values() for item in items if item.statement]
    modules = GLOBALS | dict(map(list_import, statements))
    counts: list[Finding] = []
    dangers: list[Finding] = []
    for file, content in contents.items():
        texts = {
            "import": [f"{item.name} ({item.text})" for item in expressions[file] if item.statement],
            "expression": [item.name for item in expressions[file] if not item.statement],
            "component": [f"{name} ({path})" for name, path in _list_foreign(content, finder)],
        }
        counts += [Finding(RUNS, "warning", file, "", _count(kind, names)) for kind, names in texts.items() if names]
        for item in expressions[file]:
            words = _list_dangers(item, modules)
            dangers += [Finding(DANGEROUS, "warning", file, item.name, text, _READ_IT) for text in words]
    if not counts:
        return []
    message = "a bundle is a program: it has all rights of the person who runs it"
    fix = "read what is listed as runs-code and dangerous-code, and scripts/, before you write trust: true"
    return [Finding(RUNS, "warning", bundle, "", message, fix), *counts, *dangers]


def _count(kind: str, names: list[str]) -> str:
    single, several = _WORDS[kind]
    return f"{single if len(names) == 1 else several.format(len(names))}: {', '.join(names)}"


def _list_expressions(content: Mapping[str, Any]) -> Iterator[Expression]:
    for name, text in walk_texts(content):
        if text.startswith(EXPRESSION):
            yield parse_expression(name.removeprefix(MERGE), text)


def _list_foreign(content: Mapping[str, Any], finder: TargetFinder) -> Iterator[tuple[str, str]]:
    for name, component in list_components(content):
        path = component[TARGET]
        if not path.startswith((EXPRESSION, "@")) and finder.find(path).origin != "library":
            yield name.removeprefix(MERGE), path


def _list_dangers(expression: Expression, modules: Mapping[str, str]) -> Iterator[str]:
    """What an expression calls that should be read first, each in words."""
    text = show(f"{EXPRESSION}{expression.source}", limit=200)
    if expression.tree is None or expression.statement:
        return
    for path in sorted(set(list_paths(expression.tree, modules))):
        if _DANGEROUS.fullmatch(path):
            yield f"uses {path}: {text}"
    names = {node.attr for node in ast.walk(expression.tree) if isinstance(node, ast.Attribute)}
    for name in sorted(filter(_REFLECTION.fullmatch, names)):
        yield f"uses {name}: {text}"
    if _PICKLE.search(expression.text):
        yield f"loads a pickle, which may run any code: {text}"
