"""Finds what a ``_target_`` names, MONAI's, the bundle's own or another package's, without running the bundle's code.

Only MONAI, torch, ignite and NumPy are imported, which a stage imports in any case. A bundle's own modules are read as
text; of other packages nobody knows more than whether they are installed.
"""

from __future__ import annotations

import ast
import builtins
import importlib
import importlib.util
import inspect
import re
import sys
import types
import warnings
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxflow.bundle.packages import describe_missing, is_installed, name_install
from voxflow.bundle.source import MAX_SCRIPTS, list_definitions, list_script_imports, read_script
from voxflow.findings import suggest

if TYPE_CHECKING:
    from collections.abc import Mapping

LIBRARIES = frozenset({"monai", "torch", "ignite", "numpy"})
_SPECIAL = frozenset({"_target_", "_disabled_", "_requires_", "_desc_", "_mode_", "_debug_"})
_ABSENT = object()
_IMPORT = "optional_import"
# For a GPU's own memory, downloads and engines, which a bundle asks for by further arguments.
_RARELY_NEEDED = frozenset({"cupy", "gdown", "huggingface_hub", "tensorrt", "torch_tensorrt"})
MOST_SEARCHES = 100  # for the name that was meant; each takes 10 ms
MOST_LETTERS = 200  # of a file's name, on every system
# What MONAI has removed, with what does the same.
_RENAMED = {
    "AddChannel": "EnsureChannelFirst",
    "AddChanneld": "EnsureChannelFirstd",
    "AsChannelFirst": "EnsureChannelFirst",
    "AsChannelFirstd": "EnsureChannelFirstd",
    "SplitChannel": "SplitDim",
    "SplitChanneld": "SplitDimd",
}


@dataclass(frozen=True)
class Target:
    """What a ``_target_`` names.

    Attributes:
        path: as the configuration writes it.
        origin: "library" (MONAI, torch, ignite, NumPy), "own" (the bundle's), "package" or "builtin".
        component: the class or function itself, of a library.
        node: the same of the bundle's own, as text.
        fault: what is wrong with it, and what to write instead; None where nothing is.
        code: of the fault's finding.
    """

    path: str
    origin: str
    component: Any = None
    node: ast.ClassDef | ast.FunctionDef | None = None
    fault: tuple[str, str] | None = None
    code: str = "unknown-component"


@cache
def list_short_names() -> dict[str, list[str]]:
    """List every class and function of MONAI by its short name, with the modules that hold one of that name."""
    from monai.bundle import ComponentLocator

    locator = ComponentLocator()
    locator.get_component_module_name("")  # fills the table
    return locator._components_table or {}


class TargetFinder:
    """Finds targets for one bundle."""

    def __init__(self, bundle: Path) -> None:
        self.bundle = bundle
        self._targets: dict[str, Target] = {}
        self._searches = 0

    def is_own(self, path: str) -> bool:
        """Whether a dotted path begins with a module of the bundle's own."""
        parts = path.split(".")
        root = parts[0]
        if root in LIBRARIES or not all(part.isidentifier() and len(part) < MOST_LETTERS for part in parts):
            return False
        return (self.bundle / root).is_dir() or (self.bundle / f"{root}.py").is_file()

    def find(self, path: str) -> Target:
        """Find what a ``_target_`` names.

        Args:
            path: a short name of MONAI's, or a dotted path.
        """
        if path not in self._targets:
            self._targets[path] = self._find(path)
        return self._targets[path]

    def _find(self, path: str) -> Target:
        root, dot, _ = path.partition(".")
        names = list_short_names()
        if path in names:
            return self._find_in_library(f"{names[path][0]}.{path}", path)
        if not dot and hasattr(builtins, path):
            return Target(path, "builtin")
        if not dot:
            return Target(path, "library", fault=(f"MONAI has no {path!r}", self._suggest_short(path, names)))
        if self.is_own(path):
            return self._find_own(path)
        if root in LIBRARIES:
            return self._find_in_library(path, path)
        fault = None if is_installed(root) else describe_missing(root)
        return Target(path, "package", fault=fault, code="missing-package")

    def _suggest_short(self, name: str, names: Mapping[str, Any]) -> str:
        if name in _RENAMED:
            return f"write {_RENAMED[name]!r}"
        self._searches += 1
        if self._searches > MOST_SEARCHES:
            return ""
        near = suggest(name, names)
        return near.fix if near.nearest else ""

    def _find_in_library(self, path: str, written: str) -> Target:
        component, fault = _traverse(path)
        if fault:
            moved = list_short_names().get(path.rpartition(".")[2])
            advice = f"write {moved[0] + '.' + path.rpartition('.')[2]!r}" if moved else fault[1]
            return Target(written, "library", fault=(fault[0], advice))
        return Target(written, "library", component)

    def find_missing_attribute(self, path: str) -> tuple[str, str] | None:
        """What is wrong with a dotted path of a library, and what to write; None where nothing is, or nobody knows."""
        return _traverse(path)[1] if path.partition(".")[0] in LIBRARIES else None

    def check_own_module(self, path: str) -> tuple[str, str] | None:
        """What is wrong with a dotted path of the bundle's own, such as ``scripts.utils``; None where nothing is."""
        return self._find_own(path).fault

    def find_file(self, path: str) -> tuple[Path | None, list[str]]:
        """Return the file of the bundle's own module that a dotted path lies in, and the names inside of it.

        Example:
            >>> from voxflow.files import write_text
            >>> write_text(Path("bundle/scripts/net.py"), "")
            >>> file, names = TargetFinder(Path("bundle")).find_file("scripts.net.Net")
            >>> file.as_posix(), names
            ('bundle/scripts/net.py', ['Net'])
        """
        parts = path.split(".")
        for count in range(len(parts), 0, -1):
            below = self.bundle.joinpath(*parts[:count])
            for file in (below.with_name(f"{below.name}.py"), below / "__init__.py"):
                if file.is_file():
                    return file, parts[count:]
            if below.is_dir():
                return None, parts[count:]
        return None, parts

    def _find_own(self, path: str) -> Target:
        file, names = self.find_file(path)
        if file is None:
            folder = self.bundle.joinpath(*path.split(".")[: len(path.split(".")) - len(names)])
            if not names:
                return Target(path, "own")  # a folder without __init__.py is a package, too
            modules = [child.stem for child in folder.glob("*.py")]
            message = f"{_relative(folder, self.bundle)} has no module {names[0]!r}"
            return Target(path, "own", fault=(message, suggest(names[0], modules).fix if modules else ""))
        tree, fault = read_script(file)
        if tree is None:
            return Target(path, "own", fault=(f"{_relative(file, self.bundle)}: {fault}", ""))
        if not names:
            return Target(path, "own")
        defined = list_definitions(tree)
        if names[0] not in defined and "*" not in defined:
            message = f"{_relative(file, self.bundle)} defines no {names[0]!r}"
            return Target(path, "own", fault=(message, suggest(names[0], defined).fix if defined else ""))
        return Target(path, "own", node=defined.get(names[0]) if len(names) == 1 else None)

    def find_script_gaps(self, path: str) -> list[tuple[Path, int, str]]:
        """Find the packages that a module of the bundle's own imports when it is loaded, and that are not installed.

        Returns:
            File, line and module of each; modules of the bundle that these import are followed.
        """
        gaps: list[tuple[Path, int, str]] = []
        waiting, files = [path], set[Path]()
        while waiting and len(files) < MAX_SCRIPTS:
            current = waiting.pop()
            for file in self._list_loaded(current):
                if file in files:
                    continue
                files.add(file)
                tree, _ = read_script(file)
                for line, module in list_script_imports(tree, file, self.bundle) if tree else ():
                    if self.is_own(module):
                        waiting.append(module)
                    elif module.partition(".")[0] not in LIBRARIES and not is_installed(module):
                        gaps.append((file, line, module))
        return gaps

    def _list_loaded(self, path: str) -> list[Path]:
        """The files that are run when a module is imported: its own, and ``__init__.py`` of each package above."""
        parts = path.split(".")
        packages = [self.bundle.joinpath(*parts[:count]) / "__init__.py" for count in range(1, len(parts))]
        file, _ = self.find_file(path)
        return [file_ for file_ in [*packages, *([file] if file else [])] if file_.is_file()]


def _relative(file: Path, bundle: Path) -> str:
    return file.relative_to(bundle).as_posix()


def _traverse(path: str) -> tuple[Any, tuple[str, str] | None]:
    """Follow a dotted path of a library; the object (None where nobody knows), or what is missing and what to write."""
    root, *parts = path.split(".")
    value: Any = sys.modules.get(root) or importlib.import_module(root)
    for part in parts:
        if not isinstance(value, types.ModuleType | type):
            return None, None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            following = getattr(value, part, _ABSENT)
        if following is _ABSENT:
            following, is_known = _import_child(value, part)
            if not is_known:
                return None, None
            if following is None:
                names = [name for name in dir(value) if not name.startswith("_")]
                advice = suggest(part, names, ignore_case=False)
                return None, (f"{value.__name__} has no {part!r}", advice.fix if advice.nearest else "")
        value = following
    return value, None


def _import_child(parent: Any, name: str) -> tuple[Any, bool]:
    """A module below a library's package, and whether one can tell: None and True where there is none."""
    if not isinstance(parent, types.ModuleType) or not hasattr(parent, "__path__") or name.startswith("_"):
        return None, True
    full = f"{parent.__name__}.{name}"
    try:
        if importlib.util.find_spec(full) is None:
            return None, True
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(full), True
    except Exception:  # noqa: BLE001 - a module of torch may need what is not here
        return None, False


def find_argument_faults(target: Target, component: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """Find arguments that a class or function does not take, or needs and is not given.

    Returns:
        Code, argument, message and fix of each; none where the signature does not tell.
    """
    parameters = _list_parameters(target)
    if parameters is None:
        return []
    names, required, is_open = parameters
    arguments = {str(name) for name in component if name not in _SPECIAL}
    short = target.path.rpartition(".")[2]
    faults = []
    for name in sorted(arguments - names) if not is_open else ():
        near = suggest(name, names, ignore_case=False)
        faults.append(("unknown-argument", name, f"{short} takes no argument {name!r}", near.fix))
    if component.get("_mode_", "default") == "default":
        missing = sorted(required - arguments)
        faults += [("missing-argument", "", f"{short} needs the argument {name!r}", "") for name in missing]
    return faults


def _list_parameters(target: Target) -> tuple[set[str], set[str], bool] | None:
    """All names, those without a default, and whether any further name is taken; None where nobody can tell."""
    if target.node is not None:
        return _list_own_parameters(target.node)
    if not callable(target.component):
        return None
    try:
        parameters = inspect.signature(target.component).parameters.values()
    except (TypeError, ValueError):
        return None
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    is_open = any(p.kind is p.VAR_KEYWORD for p in parameters)
    return {p.name for p in named}, {p.name for p in named if p.default is p.empty}, is_open


def _list_own_parameters(node: ast.ClassDef | ast.FunctionDef) -> tuple[set[str], set[str], bool] | None:
    function: ast.AST | None = node
    if isinstance(node, ast.ClassDef):
        function = next((s for s in node.body if isinstance(s, ast.FunctionDef) and s.name == "__init__"), None)
    if not isinstance(function, ast.FunctionDef) or node.decorator_list or function.decorator_list:
        return None
    arguments = function.args
    positional = [argument.arg for argument in arguments.args][1 if isinstance(node, ast.ClassDef) else 0 :]
    optional = len(arguments.defaults)
    keywords = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    required = {*positional[: len(positional) - optional]} | {a.arg for a, default in keywords if default is None}
    names = {*positional, *(argument.arg for argument in arguments.kwonlyargs)}
    return names, required, arguments.kwarg is not None


def find_lazy_package(target: Target) -> str:
    """The package that a class of MONAI imports when it is used, and that is not installed; empty where none is.

    MONAI puts an object that raises in the place of an optional import that failed, or imports in a method. Of a
    network, the whole module is looked at, since its blocks are classes of their own.
    """
    component = target.component
    owners = component.__mro__ if isinstance(component, type) else (component,)
    names: list[str] = []
    for owner in owners:
        module = sys.modules.get(getattr(owner, "__module__", None) or "")
        if module is None or not module.__name__.startswith("monai."):
            continue
        is_network = isinstance(owner, type) and module.__name__.startswith("monai.networks.")
        values = vars(module).values() if is_network else (owner,)
        for code in (code for value in values for code in _list_codes(value, module.__name__)):
            lazy = [vars(module).get(name) for name in code.co_names]
            texts = [str(vars(item).get("_exception", "")) for item in lazy if type(item).__name__ == "_LazyRaise"]
            names += [name for text in texts for name in re.findall(r"No module named '([\w.]+)'", text)]
            # optional_import("clearml") inside of a method.
            constants = [text for text in code.co_consts if isinstance(text, str)] if _IMPORT in code.co_names else []
            names += [text for text in constants if name_install(text) and not is_installed(text)]
    needed = (name for name in names if name_install(name) and name.partition(".")[0] not in _RARELY_NEEDED)
    return min(needed, default="")


def _list_codes(value: Any, module: str) -> list[types.CodeType]:
    members = vars(value).values() if isinstance(value, type) and value.__module__ == module else [value]
    functions = [member for member in members if isinstance(member, types.FunctionType)]
    return [function.__code__ for function in functions if function.__module__ == module]
