"""Finds the modules that a stage's program can reach by its imports, including those inside functions.

An import through a package's door (``from voxflow.volumes import read_volume``) reaches the module that the name is
defined in, by ``__init__.pyi``, and not the whole package. Imports for types only reach nothing. What is imported by
a name that only a configuration knows is declared below. Nothing is imported to find this out.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.ops.normal_form import digest_code, is_for_types
from voxflow.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

# Whose names are followed; other packages are pinned by requirements.lock.
FOLLOWED = ("voxflow", "tasks")

SOURCES = "voxflow.components.sources"
# The registry imports components by the name that a configuration writes. So each stage says which kinds it builds.
KINDS: dict[str, tuple[str, ...]] = {
    # It reads the whole training configuration, and builds all of it.
    "train": ("*",),
    # They build the network that model.pt names, and bring images to its grid by the transforms that it was trained
    # with. What it was trained by (losses, optimizers, metrics) they leave alone.
    "export": ("network", "transform"),
    "evaluate": ("network", "transform"),
    "infer": ("network", "transform"),
    # It compares files, and brings masks to another grid.
    "previous": (),
    # It asks the engines which of their files serve other machines, and builds nothing.
    "promote": (),
}

# What no result depends on. A package's name stands for all of its modules. Of voxflow.lint only the modules that read
# the configuration count: the check hands on what it has read to the stage train.
CHECKS = (
    *("cases", "classes", "data", "environment", "files", "flow"),
    *("headers", "listing", "scores", "sizes", "text", "values"),
)
CHANGES_NOTHING: dict[str, str] = {
    **{f"voxflow.lint.{name}": "it can only refuse a workspace, before anything is computed" for name in CHECKS},
    "voxflow.components.refused": "it holds the reasons why some names of Clara's are refused",
    "voxflow.progress": "it prints lines",
    "voxflow.tracking.inputs": "it says in the record what a run learns from",
    "voxflow.tracking.pages": "it says where the record is shown",
}

# The same for one stage.
CHANGES_NOTHING_IN: dict[str, dict[str, str]] = {
    "train": dict.fromkeys(
        (
            "voxflow.components.writers",
            "voxflow.components.custom.writers",
            "voxflow.components.tlt.writers",
            "voxflow.components.transforms.saving",
        ),
        "a chain's writers return the sample as it is, and write to folders that are no output of the stage",
    ),
}

# Files of a package that a module reads, as globs from the folder of the module.
DATA: dict[str, tuple[str, ...]] = {
    "voxflow.reporting.page": ("templates/*",),
    # The worklist of the stage infer; a change of the style alone is no reason to infer again.
    "voxflow.reporting.rendering": ("templates/review.html.j2",),
}


@dataclass(frozen=True)
class Imports:
    """What one module imports.

    Attributes:
        modules: by their full names.
        names: pairs of a module and a name in it.
    """

    modules: frozenset[str]
    names: frozenset[tuple[str, str]]


@dataclass
class Code:
    """The repository's own modules, each read once.

    Attributes:
        root: the repository.
    """

    root: Path = field(default_factory=Path)
    _imports: dict[str, Imports] = field(default_factory=dict, repr=False)
    _doors: dict[str, dict[str, str]] = field(default_factory=dict, repr=False)
    _digests: dict[str, str] = field(default_factory=dict, repr=False)
    _files: dict[str, Path | None] = field(default_factory=dict, repr=False)

    @property
    def stages(self) -> list[str]:
        """The programs of tasks/, one a stage."""
        return sorted(path.stem for path in (self.root / "tasks").glob("*.py") if path.stem != "__init__")

    def find_file(self, module: str) -> Path | None:
        """A module's file; None where the repository has no such module."""
        if module not in self._files:
            base = self.root / ("src" if module.startswith("voxflow") else "") / module.replace(".", "/")
            candidates = (base / "__init__.py", base.with_name(f"{base.name}.py"))
            self._files[module] = next((path for path in candidates if path.is_file()), None)
        return self._files[module]

    def reach(self, stage: str) -> set[str]:
        """Every module that a stage's program can import, without those that change nothing in it.

        Raises:
            ConfigError: the stage builds components, and KINDS does not say which.
        """
        reached: set[str] = set()
        waiting = [f"tasks.{stage}"]
        while waiting:
            module = waiting.pop()
            if module in reached or changes_nothing(module, stage):
                continue
            reached.add(module)
            waiting.extend(self.list_imports(module))
            if module == SOURCES:
                waiting.extend(self._components(stage))
        return reached

    def list_imports(self, module: str) -> set[str]:
        """List the modules that one module imports, inside functions too, and the packages that these lie in.

        Args:
            module: its full name, such as "voxflow.volumes.files".
        """
        imports = self._read_imports(module)
        modules = {name for name in imports.modules if self.find_file(name)}
        modules |= {home for pair in imports.names if (home := self.find_home(*pair))}
        # A package that is imported itself (`from voxflow import volumes`) may be asked for all that it offers.
        packages = [name for name in modules if name in imports.modules or tuple(name.rsplit(".", 1)) in imports.names]
        modules |= {home for name in packages for offer in self._door(name) if (home := self.find_home(name, offer))}
        return modules | {parent for name in {*modules, module} for parent in _parents(name)} - {module}

    def find_home(self, module: str, name: str) -> str | None:
        """The module that ``from module import name`` takes the name from; None outside of the repository.

        Raises:
            ConfigError: a package's door has no such name.
        """
        if not module.startswith(FOLLOWED) or self.find_file(module) is None:
            return None
        door = self._door(module)
        if name in door:
            return self.find_home(door[name], name)
        if self.find_file(f"{module}.{name}"):
            return f"{module}.{name}"
        if door:
            raise ConfigError(f"{module} offers no {name!r}", path=self.find_file(module))
        return module

    def digest(self, module: str) -> str:
        """The digest of a module's code; see :func:`tasks.ops.normal_form.digest_code`."""
        if module not in self._digests:
            self._digests[module] = digest_code(self._source(module), self._resolve)
        return self._digests[module]

    def list_data(self, module: str) -> list[Path]:
        """The files of its package that a module reads."""
        path = self.find_file(module)
        return sorted(data_file for glob in DATA.get(module, ()) if path for data_file in path.parent.glob(glob))

    def _source(self, module: str) -> str:
        path = self.find_file(module)
        if path is None:
            raise ConfigError(f"no module {module}", path=self.root)
        return path.read_text(encoding="utf-8")

    def _resolve(self, module: str, name: str) -> str:
        home = self.find_home(module, name)
        return f"{module if home is None else home}.{name}"

    def _read_imports(self, module: str) -> Imports:
        if module not in self._imports:
            modules: set[str] = set()
            names: set[tuple[str, str]] = set()
            for node in _import_nodes(ast.parse(self._source(module))):
                if isinstance(node, ast.Import):
                    modules.update(alias.name for alias in node.names)
                elif isinstance(node, ast.ImportFrom):
                    names.update((str(node.module), alias.name) for alias in node.names)
                elif isinstance(node, ast.Call):
                    modules.update(_literal(node))
            self._imports[module] = Imports(frozenset(modules), frozenset(names))
        return self._imports[module]

    def _door(self, package: str) -> dict[str, str]:
        """Which module each name that a package offers comes from; empty where it has no ``__init__.pyi``."""
        if package not in self._doors:
            path = self.find_file(package)
            stub = path.with_suffix(".pyi") if path else None
            nodes = ast.parse(stub.read_text(encoding="utf-8")).body if stub and stub.is_file() else []
            self._doors[package] = {
                alias.name: f"{package}.{node.module}"
                for node in nodes
                if isinstance(node, ast.ImportFrom)
                for alias in node.names
            }
        return self._doors[package]

    def _components(self, stage: str) -> Iterator[str]:
        """The modules of the components that a stage builds by name."""
        if stage not in KINDS:
            message = f"the stage {stage} reaches {SOURCES}: say in KINDS which kinds of components it builds"
            raise ConfigError(message, path="tasks/ops/reach.py")
        tree = ast.parse(self._source(SOURCES))
        table = next(
            node.value
            for node in tree.body
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id == "MODULES"
        )
        modules: dict[str, dict[str, tuple[str, ...]]] = ast.literal_eval(table) if table else {}
        for kinds in modules.values():
            for kind, homes in kinds.items():
                if KINDS[stage] == ("*",) or kind in KINDS[stage]:
                    yield from homes


def changes_nothing(module: str, stage: str) -> bool:
    """Tell whether no result of a stage depends on a module that it can reach.

    Example:
        >>> changes_nothing("voxflow.lint.sizes", "train"), changes_nothing("voxflow.training.loop", "train")
        (True, False)
    """
    names = {*CHANGES_NOTHING, *CHANGES_NOTHING_IN.get(stage, {})}
    return any(module == name or module.startswith(f"{name}.") for name in names)


def _parents(module: str) -> Iterator[str]:
    parts = module.split(".")
    yield from (".".join(parts[:count]) for count in range(1, len(parts)))


def _import_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """Every import and call below a node, but for what is for types only."""
    if isinstance(node, ast.Import | ast.ImportFrom | ast.Call):
        yield node
    if isinstance(node, ast.If) and is_for_types(node):
        for statement in node.orelse:
            yield from _import_nodes(statement)
        return
    for child in ast.iter_child_nodes(node):
        yield from _import_nodes(child)


def _literal(call: ast.Call) -> Iterator[str]:
    """The module of ``importlib.import_module("MODULE")``."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if name == "import_module" and call.args and isinstance(call.args[0], ast.Constant):
        yield str(call.args[0].value)
