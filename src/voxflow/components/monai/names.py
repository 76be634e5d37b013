"""Which of MONAI's and torch's classes a Clara 4 configuration may name, and the components that stand for them.

A name is looked up in the public modules below and nowhere else: no dotted path, no private name, and only classes of
the kind that is asked for. MONAI is imported here, when the first such name is met.
"""

from __future__ import annotations

import functools
import importlib
import inspect
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

from pydantic import ConfigDict, model_validator

from voxflow.components.registry import ComponentModel, ComponentSource, Kind, set_component_name
from voxflow.findings import ArgumentError, suggest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

Adapter = TypeVar("Adapter", bound="MonaiAdapter")
PREFIX = "monai:"
# Arguments of MONAI's classes are extra values beside a component's own fields.
OPEN_CONFIG = ConfigDict(frozen=True, extra="allow", strict=True, allow_inf_nan=False)
# Where each kind's classes stand, and the class that each must inherit from.
MONAI_MODULES: dict[Kind, tuple[tuple[str, ...], tuple[str, str]]] = {
    "transform": (("monai.transforms",), ("monai.transforms", "MapTransform")),
    "network": (("monai.networks.nets",), ("torch.nn", "Module")),
    "loss": (("monai.losses", "torch.nn"), ("torch.nn.modules.loss", "_Loss")),
    "optimizer": (("torch.optim", "monai.optimizers"), ("torch.optim", "Optimizer")),
    "lr_policy": (("torch.optim.lr_scheduler", "monai.optimizers"), ("torch.optim.lr_scheduler", "LRScheduler")),
    "inferer": (("monai.inferers",), ("monai.inferers", "Inferer")),
}
# Arguments that an older MONAI called otherwise.
RENAMED = {"dimensions": "spatial_dims", "as_tensor_output": "", "n_classes": "num_classes"}
# Arguments that would import or run what they name, or that Voxflow decides itself.
REFUSED = {
    "reader": "files are read by Voxflow's own readers",
    "writer": "files are written by Voxflow's own writers",
    "pretrained": "nothing is downloaded; give a file of weights",
    "lazy": "resampling is never deferred",
}


class MonaiSource(ComponentSource):
    """Clara 4's components: those that Voxflow does itself, and an adapter for each of MONAI's classes."""

    def find(self, kind: Kind, name: str) -> type[ComponentModel] | None:
        """The component that stands for ``monai:NAME``; None when MONAI has no such class of this kind."""
        plain = name.removeprefix(PREFIX)
        component = super().find(kind, name)
        if component is not None or kind not in MONAI_MODULES or find_monai_class(kind, plain) is None:
            return component
        return _make_adapter(kind, plain)

    def names(self, kind: Kind) -> list[str]:
        """Every name of a kind that may be written; imports MONAI."""
        return list(dict.fromkeys([*super().names(kind), *_list_public_names(kind)]))


@functools.cache
def find_monai_class(kind: Kind, name: str) -> Any:
    """Return the class of a name.

    Args:
        kind: decides which modules are looked at, and what the class must inherit from.
        name: without a module, such as "RandFlipd".

    Returns:
        None where no public module of the kind has it.
    """
    modules, (home, base) = MONAI_MODULES[kind]
    expected = getattr(importlib.import_module(home), base)
    for module in modules:
        candidate = None if name.startswith("_") else getattr(importlib.import_module(module), name, None)
        if inspect.isclass(candidate) and issubclass(candidate, expected) and not inspect.isabstract(candidate):
            return candidate
    return None


def _list_public_names(kind: Kind) -> Iterator[str]:
    for module in MONAI_MODULES[kind][0] if kind in MONAI_MODULES else ():
        for name in dir(importlib.import_module(module)):
            if find_monai_class(kind, name) is not None:
                yield name


class MonaiAdapter(ComponentModel):
    """A component that stands for one of MONAI's or torch's classes; its extra values are that class's arguments.

    A kind's adapter inherits from the kind first and from this class last, whose ``model_config`` then holds.

    Attributes:
        kind: of the component.
        target: that class's name; empty for the adapters themselves.
        filled: arguments of its constructor that Voxflow gives.
    """

    model_config = OPEN_CONFIG
    kind: ClassVar[Kind]
    target: ClassVar[str] = ""
    filled: ClassVar[tuple[str, ...]] = ()

    @property
    def arguments(self) -> dict[str, Any]:
        """What the class is built with."""
        return dict(self.model_extra or {})

    @model_validator(mode="after")
    def _check_target(self) -> Self:
        if self.target:
            self.check_arguments()
        return self

    def check_arguments(self) -> None:
        """Hold the arguments against the class's constructor, without building anything.

        Raises:
            ValueError: an argument is unknown, missing or refused.
        """
        check_arguments(self.kind, self.target, self.arguments, self.filled)

    @classmethod
    def fit(cls, target: Any) -> type[MonaiAdapter]:
        """The adapter for a class of MONAI's; one that needs another kind of adapter overrides this."""
        return cls

    @classmethod
    def find_target(cls) -> Any:
        """The class itself; imports MONAI."""
        return find_monai_class(cls.kind, cls.target)

    @classmethod
    def parameter_names(cls) -> set[str]:
        """The parameters of the class's constructor."""
        return set(read_parameters(cls.find_target())[0])


_adapters: dict[Kind, type[MonaiAdapter]] = {}


def adapts(kind: Kind) -> Callable[[type[Adapter]], type[Adapter]]:
    """Class decorator: the components of a kind that stand for MONAI's classes inherit from this one."""

    def add(adapter: type[Adapter]) -> type[Adapter]:
        adapter.kind = kind
        _adapters[kind] = adapter
        return adapter

    return add


@functools.cache
def _make_adapter(kind: Kind, name: str) -> type[ComponentModel]:
    """A component class for one of MONAI's classes, which bears its name."""
    base = _adapters[kind].fit(find_monai_class(kind, name))
    adapter: type[ComponentModel] = type(name, (base,), {"__module__": base.__module__, "target": name})
    set_component_name(adapter, f"{PREFIX}{name}")
    return adapter


def check_arguments(kind: Kind, name: str, args: Mapping[str, Any], filled: tuple[str, ...] = ()) -> None:
    """Hold arguments against the constructor's signature, without building anything.

    Args:
        kind: of the class.
        name: of the class.
        args: its arguments.
        filled: arguments that Voxflow gives when it builds it.

    Raises:
        ValueError: an argument is unknown, missing or refused.
    """
    takes, is_open = read_parameters(find_monai_class(kind, name))
    for argument in args:
        if argument in REFUSED and args[argument]:
            raise ValueError(f"{argument!r} can't be given: {REFUSED[argument]}")
        if argument not in takes and not is_open:
            near = suggest(argument, takes, ignore_case=False)
            raise ArgumentError(f"takes no argument {argument!r}", code="unknown-argument", fix=near)
    for argument, parameter in takes.items():
        if parameter.default is parameter.empty and argument not in args and argument not in filled:
            raise ArgumentError(f"needs the argument {argument!r}", code="missing-argument")


def read_parameters(target: Any) -> tuple[dict[str, inspect.Parameter], bool]:
    """The named parameters of a class, and whether it takes any other.

    A network that takes ``**kwargs`` hands them to its base, so that the base's parameters are its own, none of them
    needed. Transforms hand theirs to functions of NumPy and torch, which can't be known here.
    """
    takes: dict[str, inspect.Parameter] = {}
    # Each class on the way to the base may take further arguments by **kwargs and hand them on.
    for owner in target.__mro__:
        if "__init__" not in vars(owner) or owner is object:
            continue
        parameters = list(inspect.signature(owner.__init__).parameters.values())[1:]
        named = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
        takes = {p.name: p.replace(default=None, kind=p.KEYWORD_ONLY) if takes else p for p in named} | takes
        if not any(p.kind == p.VAR_KEYWORD for p in parameters):
            return takes, False
        if "monai.networks" not in owner.__module__:
            return takes, True
    return takes, True


def modernise_arguments(args: Mapping[str, Any], takes: set[str]) -> dict[str, Any]:
    """Return the arguments under the names that this MONAI knows.

    Args:
        args: as the configuration writes them.
        takes: what the class's constructor takes.

    Example:
        >>> modernise_arguments({"dimensions": 3, "as_tensor_output": True}, {"spatial_dims"})
        {'spatial_dims': 3}
    """
    renamed: dict[str, Any] = {}
    for name, value in args.items():
        new = name if name in takes else RENAMED.get(name, name)
        if new:
            renamed[new] = value
    return renamed
