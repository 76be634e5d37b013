"""Finding a user's class in the workspace's ``custom/`` and nowhere else, checking it unrun, and importing it.

Finding and checking read the file's text only. Its code runs when a component is built, and not before.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import importlib
import importlib.util
import re
import sys
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol, cast

from voxflow.errors import ConfigError
from voxflow.findings import DEFAULT_CODE, FaultyConfigError, Finding, FindingCollector, suggest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from importlib.machinery import ModuleSpec

    from voxflow.components.registry import Kind

FOLDER = "custom"
CODE = "own-class"  # of the findings on where a class is
_DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", re.ASCII)
# What code written for Clara 3 and TLT 2 imports; none of it can be had outside NVIDIA's container.
_TENSORFLOW = frozenset(("ai4med", "dlmed", "horovod", "keras", "medl", "nvmidl", "tensorflow"))
# The kinds that may be a user's own, and the values of ours that a constructor is given where it names them.
OFFERED_ARGUMENTS: dict[Kind, tuple[str, ...]] = {
    "transform": (),
    "network": ("in_channels", "num_classes", "out_channels", "final_activation"),
    "loss": ("activation", "label_format"),
    "optimizer": ("params", "lr", "weight_decay"),
    "lr_policy": (),
    "metric": ("name", "field", "label_field", "is_key_metric"),
    "aux_op": (),
    "inferer": (),
    "writer": ("field",),
}
# sys.meta_path belongs to the process: one import at a time has its hooks there. Imports may nest.
_importing = threading.RLock()


class CustomReference(Protocol):
    """A component that names a user's class: a :class:`~voxflow.components.Component` with a ``path``."""

    @property
    def path(self) -> str | None:
        """The class, such as ``custom.losses.Weighted`` or ``losses.Weighted``."""

    @property
    def custom(self) -> Path | None:
        """The workspace's folder ``custom/``."""

    @property
    def args(self) -> dict[str, Any]:
        """Keywords of its constructor."""


@dataclass(frozen=True)
class LocatedClass:
    """Where a user's class stands.

    Attributes:
        file: the module, inside ``custom/`` once every link is followed.
        module: its name below ``custom/``, such as ``losses``; empty for ``custom/__init__.py``.
        name: the class.
        node: the class as the file's text has it.
        tree: the whole file.
    """

    file: Path
    module: str
    name: str
    node: ast.ClassDef
    tree: ast.Module


def find_custom_folder(model: Path) -> Path | None:
    """Return the folder ``custom/`` of the workspace that a model file lies in.

    Args:
        model: WORKSPACE/models/...; the folder that it returns may be missing.

    Returns:
        None where the file lies in no folder ``models``.

    Example:
        >>> find_custom_folder(Path("/data/spleen/models/best/model.pt"))
        PosixPath('/data/spleen/custom')
    """
    folder = next((parent for parent in model.absolute().parents if parent.name == "models"), None)
    return folder.parent / FOLDER if folder else None


def locate_class(path: str, custom: Path | None) -> LocatedClass:
    """Find a class without running any code.

    Args:
        path: ``custom.module.Class`` or ``module.Class``; packages may nest.
        custom: the workspace's folder ``custom/``; None where the workspace is not known, which is refused.

    Raises:
        ConfigError: it lies outside that folder, the file is missing or is no Python, or has no such class.
    """
    if custom is None:
        raise ConfigError(f"{path!r} is a class of a workspace's own; use it from inside that (WORKSPACE/models/...)")
    if not _DOTTED.fullmatch(path):
        raise ConfigError(f"expected MODULE.CLASS in the workspace's custom/ folder, received {path!r}")
    *modules, name = path.removeprefix(f"{FOLDER}.").split(".")
    file = _find_file(path, modules, custom)
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError) as error:
        line = f"line {error.lineno}, column {error.offset}: " if isinstance(error, SyntaxError) else ""
        raise ConfigError(f"{line}no valid Python: {error.args[0]}", path=file) from error
    classes = {node.name: node for node in _list_statements(tree) if isinstance(node, ast.ClassDef)}
    if name not in classes:
        near = suggest(name, classes, ignore_case=False)
        message = f"the file defines no class {name!r}"
        raise FaultyConfigError.of(Finding(CODE, "error", file, "", message, near.fix, near.question))
    return LocatedClass(file, ".".join(modules), name, classes[name], tree)


def _find_file(path: str, modules: Sequence[str], custom: Path) -> Path:
    below = custom.joinpath(*modules)
    tried = [below / "__init__.py"] if not modules else [below.with_suffix(".py"), below / "__init__.py"]
    file = next((candidate for candidate in tried if candidate.is_file()), None)
    if file is None:
        expected = "/".join([FOLDER, *modules]) + ("/__init__.py" if not modules else ".py")
        installed = bool(modules) and importlib.util.find_spec(modules[0]) is not None
        hint = f"; {modules[0]!r} is an installed package, which configurations can't reach into" if installed else ""
        raise ConfigError(
            f"{path!r}: no file {expected} in {custom.parent}; own classes live there and nowhere else{hint}"
        )
    # The folder's own link counts too: custom/ itself must not lead out of the workspace.
    home = custom.parent.resolve() / custom.name
    if not file.resolve().is_relative_to(home):
        raise ConfigError(f"{path!r} leads outside the workspace's custom/ folder, to {file.resolve()}")
    return file


def _list_statements(tree: ast.Module) -> Iterator[ast.stmt]:
    """The module's statements, those inside ``if`` and ``try`` too."""
    waiting: list[ast.stmt] = list(tree.body)
    while waiting:
        node = waiting.pop(0)
        yield node
        if isinstance(node, ast.If | ast.Try):
            waiting += [*node.body, *node.orelse]


def find_custom_faults(component: CustomReference, kind: Kind) -> list[Finding]:
    """Find what can be told wrong of a user's class without running any code.

    Args:
        component: names the class by its ``path``.
        kind: where the configuration names it.

    Returns:
        Findings whose ``where`` is the place below the component, such as ``.args.gamma``.
    """
    noted = FindingCollector(Path())  # whose file only the reader of the configuration knows
    if kind not in OFFERED_ARGUMENTS:
        noted.error(DEFAULT_CODE, ".path", f"a {kind} can't be of your own", "use a registered one, by its name")
        return noted.findings
    try:
        located = locate_class(str(component.path), component.custom)
    except FaultyConfigError as error:
        return [replace(fault, where=".path", message=f"{fault.file}: {fault.message}") for fault in error.faults]
    except ConfigError as error:
        noted.error(CODE, ".path", str(error))
        return noted.findings
    foreign = sorted(_imported_packages(located.tree) & _TENSORFLOW)
    if foreign:
        message = f"{located.file.name} imports {', '.join(foreign)}, which runs in NVIDIA's container only"
        fix = f"write the {kind} on torch and NumPy (docs/configuration.md shows how)"
        noted.error(DEFAULT_CODE, ".path", message, fix)
    _note_argument_faults(located, component.args, OFFERED_ARGUMENTS[kind], noted)
    return noted.findings


def _imported_packages(tree: ast.Module) -> set[str]:
    """The packages that a module imports, by their first name."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add((node.module or "").partition(".")[0])
    return names


def _note_argument_faults(
    located: LocatedClass, args: Mapping[str, Any], offered: Iterable[str], noted: FindingCollector
) -> None:
    """Arguments that the class's own ``__init__`` does not take, or takes and is not given."""
    constructors = [node for node in located.node.body if isinstance(node, ast.FunctionDef) and node.name == "__init__"]
    if not constructors:
        return
    parameters = constructors[0].args
    positional = [argument.arg for argument in [*parameters.posonlyargs, *parameters.args]][1:]
    names = {*positional, *(argument.arg for argument in parameters.kwonlyargs)}
    if parameters.kwarg is None:
        for name in args.keys() - names - {*offered}:
            near = suggest(name, names, ignore_case=False)
            noted.error("unknown-argument", f".args.{name}", f"{located.name} takes no argument {name!r}", near)
    optional = positional[len(positional) - len(parameters.defaults) :]
    keywords = zip(parameters.kwonlyargs, parameters.kw_defaults, strict=True)
    required = {*positional} - {*optional} | {argument.arg for argument, default in keywords if default is None}
    for name in sorted(required - args.keys() - {*offered}):
        noted.error("missing-argument", ".args", f"{located.name} needs the argument {name!r}")


def digest_custom_code(custom: Path) -> str:
    """Return a SHA-256 of all the code in ``custom/``: a class may use any of its neighbours.

    Args:
        custom: the folder; names and contents of its Python files count, at any depth.
    """
    code = hashlib.sha256()
    for file in sorted(custom.rglob("*.py")):
        code.update(f"{file.relative_to(custom).as_posix()}\0".encode())
        code.update(hashlib.sha256(file.read_bytes()).digest())
    return code.hexdigest()


def read_constants(located: LocatedClass) -> dict[str, Any]:
    """Return the plain values that the class's body sets, such as ``divisor = 16``, without running any code.

    Values that are computed are left out.
    """
    values: dict[str, Any] = {}
    for node in located.node.body:
        targets: list[ast.expr] = []
        if isinstance(node, ast.Assign):
            targets = node.targets
        elif isinstance(node, ast.AnnAssign):
            targets = [node.target]
        for target in targets:
            value = getattr(node, "value", None)
            if isinstance(target, ast.Name) and isinstance(value, ast.Constant):
                values[target.id] = value.value
    return values


def load_class(path: str, custom: Path) -> type[Any]:
    """Import a user's class; its module may import its neighbours as ``.x``, ``custom.x`` or ``x``.

    Raises:
        ConfigError: see :func:`locate_class`; or its code fails while it is imported.
    """
    located = locate_class(path, custom)
    package = _make_package(custom.parent.resolve() / custom.name)
    try:
        with _resolve_neighbours(package, custom):
            module = importlib.import_module(f"{package}.{located.module}" if located.module else package)
            custom_class = getattr(module, located.name, None)
    except Exception as error:
        raise ConfigError(f"importing it failed: {type(error).__name__}: {error}", path=located.file) from error
    if not isinstance(custom_class, type) or custom_class.__module__ != module.__name__:
        raise ConfigError(f"{located.name!r} is no class that this file defines", path=located.file)
    return custom_class


def _make_package(home: Path) -> str:
    """Make ``custom/`` a package under a name that no other workspace has."""
    # By the folder's path: two workspaces may each have a custom/losses.py.
    name = f"voxflow_custom_{hashlib.sha256(str(home).encode()).hexdigest()[:12]}"
    if name not in sys.modules:
        start = home / "__init__.py"
        if start.is_file():
            spec = importlib.util.spec_from_file_location(name, start, submodule_search_locations=[str(home)])
            if spec is None or spec.loader is None:
                raise ConfigError("can't be read as a Python package", path=home)
            module = importlib.util.module_from_spec(spec)
            sys.modules[name] = module
            with _resolve_neighbours(name, home):
                spec.loader.exec_module(module)
        else:
            module = ModuleType(name)
            module.__path__ = [str(home)]
            sys.modules[name] = module
    return name


class _NeighbourFinder:
    """An import hook by which modules of ``custom/`` find each other by the names that Clara gave them.

    ``custom.x`` is asked for before anything that is installed, ``x`` after it.
    """

    def __init__(self, package: str, custom: Path, *, prefixed: bool) -> None:
        self.package, self.custom, self.prefixed = package, custom, prefixed
        self.names: list[str] = []

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Lead ``custom.x`` and, where there is such a file, ``x`` to the package's own ``x``."""
        if name == FOLDER or name.startswith(f"{FOLDER}."):
            if not self.prefixed:
                return None
            real = self.package + name.removeprefix(FOLDER)
        else:
            if self.prefixed:
                return None
            top = self.custom / name.partition(".")[0]
            if not (top.with_suffix(".py").is_file() or (top / "__init__.py").is_file()):
                return None
            real = f"{self.package}.{name}"
        self.names.append(name)
        return importlib.util.spec_from_loader(name, cast("Any", _AliasLoader(real)))


class _AliasLoader:
    """A loader that gives a module that has another name."""

    def __init__(self, real: str) -> None:
        self.real = real
        self.spec: ModuleSpec | None = None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = importlib.import_module(self.real)
        self.spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self.spec  # importlib put the alias's there


@contextlib.contextmanager
def _resolve_neighbours(package: str, custom: Path) -> Iterator[None]:
    """While this lasts, modules of ``custom/`` find each other; no name of theirs stays behind in ``sys.modules``."""
    first, last = (_NeighbourFinder(package, custom, prefixed=prefixed) for prefixed in (True, False))
    with _importing:
        sys.meta_path.insert(0, cast("Any", first))
        sys.meta_path.append(cast("Any", last))
        try:
            yield
        finally:
            for hook in (first, last):
                sys.meta_path.remove(cast("Any", hook))
                for name in hook.names:
                    sys.modules.pop(name, None)
