"""Owns fitting a user's own class to its kind of component: what it is given, and what it must give back."""

from __future__ import annotations

import ast
import copy
import inspect
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np
from pydantic import Field, PrivateAttr, create_model

from voxflow.components.custom.code import OFFERED, Owned, constants, digest_of, faults, load_class, locate
from voxflow.components.learning.inferers import Inferer
from voxflow.components.learning.optimizers import Optimizer, Policy
from voxflow.components.losses.base import Loss
from voxflow.components.metrics.base import AuxiliaryOperation, Metric, Outputs
from voxflow.components.networks.base import Network
from voxflow.components.registry import ComponentModel
from voxflow.components.transforms.base import Draw, RandomTransform, Sample, Transform
from voxflow.components.writers import Writer
from voxflow.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import torch
    from numpy.typing import NDArray

    from voxflow.components.losses.base import LossFunction
    from voxflow.components.registry import Kind

# Names by which code draws at random; a class that uses one is never run once and kept.
_CHANCE = frozenset(("random", "rand", "randn", "randint", "randperm", "default_rng", "RandomState", "Randomizable"))
_METRIC_METHODS = (("update", "compute"), ("extend", "aggregate"))


class Own(ComponentModel):
    """What every component of a user's own holds.

    Attributes:
        path: the class, as the configuration writes it.
        custom: the workspace's folder ``custom/``.
        arguments: keywords of its constructor.
        digest: of all code in that folder, so that what was kept of one version is not taken for another's.
    """

    kind: ClassVar[Kind]

    path: str
    custom: Path = Field(exclude=True)
    arguments: dict[str, Any] = Field(default_factory=dict)
    digest: str = ""

    def make(self, *positional: Any, **ours: Any) -> Any:
        """Make the user's object; ``ours`` reach the constructor where it names them."""
        made = load_class(self.path, self.custom)
        offered = OFFERED[self.kind]
        keywords = {**ours, **self.arguments}
        chosen = {name: value for name, value in keywords.items() if name not in offered or _takes(made, name)}
        return self.guard(made, *positional, **chosen)

    def guard(self, function: Callable[..., Any], *args: Any, **keywords: Any) -> Any:
        """Call the user's code; what it raises becomes one line that names the class and the line of its file."""
        try:
            return function(*args, **keywords)
        except Exception as error:  # a user's class may raise anything; it is the user's to mend
            frames = traceback.extract_tb(error.__traceback__)
            home = str(self.custom.resolve())
            lines = [f"{frame.filename}, line {frame.lineno}" for frame in frames if frame.filename.startswith(home)]
            place = lines[-1] if lines else str(self.custom)
            raise ConfigError(f"{self.path} failed: {type(error).__name__}: {error}", path=place) from error

    def refuse(self, returned: Any, expected: str) -> ConfigError:
        """The error for an answer of the wrong kind."""
        return ConfigError(f"{self.path} gave a {type(returned).__name__}, expected {expected}", path=self.custom)


class OwnTransform(Own, Transform):
    """A callable on the sample: a dict of NumPy arrays, axes (channel, ...spatial); it returns the sample."""

    kind: ClassVar[Kind] = "transform"
    _object: Any = PrivateAttr(default=None)

    def model_post_init(self, context: Any) -> None:
        """Make the user's object once; it is called from several threads."""
        super().model_post_init(context)
        self._object = self.make()

    def for_field(self, name: str) -> dict[str, Any] | None:
        """The arguments with that field alone; without any that name fields, it may change every one."""
        return _for_field(self.arguments, name)

    def __call__(self, sample: Sample) -> Sample:
        """Return the transformed sample."""
        made = self.guard(self._object, _copied(sample))
        if not isinstance(made, dict):
            raise self.refuse(made, "the sample, a dict")
        return _arrays(made)


class OwnRandomTransform(Own, RandomTransform):
    """A random callable on the sample: it takes the generator as ``rng``, or is MONAI's Randomizable.

    Such a class repeats itself for a seed. One that draws from the global ``random`` or ``numpy.random`` works
    and does not.
    """

    kind: ClassVar[Kind] = "transform"
    _object: Any = PrivateAttr(default=None)

    def model_post_init(self, context: Any) -> None:
        """Make the user's object once."""
        super().model_post_init(context)
        self._object = self.make()

    def for_field(self, name: str) -> dict[str, Any] | None:
        """The arguments with that field alone; without any that name fields, it may change every one."""
        return _for_field(self.arguments, name)

    def draw(self, sample: Sample, rng: np.random.Generator) -> Draw:
        """Choose the seed of everything that it draws."""
        del sample
        return {"seed": int(rng.integers(2**32))}

    def apply(self, sample: Sample, drawn: Draw) -> Sample:
        """Return the transformed sample."""
        made = self._transformed(sample, drawn["seed"])
        if len(made) != 1:
            raise self.refuse(made, "one sample")
        return made[0]

    def run(self, sample: Sample, rng: np.random.Generator) -> list[Sample]:
        """Return what comes out of one sample: a list of samples stays one."""
        return self._transformed(sample, self.draw(sample, rng)["seed"])

    def _transformed(self, sample: Sample, seed: int) -> list[Sample]:
        made = self.guard(self._call, _copied(sample), seed)
        several = made if isinstance(made, list) else [made]
        if not all(isinstance(one, dict) for one in several):
            raise self.refuse(made, "the sample, a dict, or a list of samples")
        return [_arrays(one) for one in several]

    def _call(self, sample: Sample, seed: int) -> Any:
        if hasattr(self._object, "set_random_state"):
            # Its state is its own, and other threads use the same object.
            replica = copy.deepcopy(self._object)
            replica.set_random_state(seed=seed)
            return replica(sample)
        if _takes(type(self._object).__call__, "rng"):
            return self._object(sample, rng=np.random.default_rng(seed))
        return self._object(sample)


class OwnNetwork(Own, Network):
    """A ``torch.nn.Module`` that answers with logits; the class may say ``divisor`` and ``spatial_dims``."""

    kind: ClassVar[Kind] = "network"

    def build(self) -> torch.nn.Module:
        """Make the user's module."""
        import torch

        counts = {"in_channels": self.in_channels, "num_classes": self.num_classes, "out_channels": self.num_classes}
        given = {name: value for name, value in counts.items() if value is not None}
        network = self.make(**given, final_activation=self.final_activation)
        if not isinstance(network, torch.nn.Module):
            raise self.refuse(network, "a torch.nn.Module")
        return network

    @property
    def divisor(self) -> int:
        """The class's constant ``divisor``; 1 when it has none."""
        return int(_constant(self, "divisor", 1))

    @property
    def spatial_dims(self) -> int:
        """The class's constant ``spatial_dims``; 3 when it has none."""
        return int(_constant(self, "spatial_dims", 3))


class OwnLoss(Own, Loss):
    """A callable (logits, label) → a tensor of one number."""

    kind: ClassVar[Kind] = "loss"

    def build(self, activation: str, label_format: Sequence[int] = ()) -> LossFunction:
        """Make the user's loss."""
        import torch

        function = self.make(activation=activation, label_format=label_format)

        def loss(logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
            value = self.guard(function, logits, label)
            if not isinstance(value, torch.Tensor) or value.numel() != 1:
                raise self.refuse(value, "a tensor of one number")
            return value.reshape(())

        return loss


class OwnOptimizer(Own, Optimizer):
    """A ``torch.optim.Optimizer``."""

    kind: ClassVar[Kind] = "optimizer"

    def build(self, parameters: Iterable[torch.nn.Parameter], lr: float, weight_decay: float) -> torch.optim.Optimizer:
        """Make the user's optimizer; ``lr`` and ``weight_decay`` reach it where it names them."""
        import torch

        optimizer = self.make(list(parameters), **self.settings(lr, weight_decay))
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise self.refuse(optimizer, "a torch.optim.Optimizer")
        return optimizer


class OwnPolicy(Own, Policy):
    """A callable (step, total) → what the learning rate is multiplied by."""

    kind: ClassVar[Kind] = "lr_policy"
    _object: Any = PrivateAttr(default=None)

    def factor(self, step: int, total: int) -> float:
        """Ask the user's policy."""
        if self._object is None:
            self._object = self.make()
        return float(self.guard(self._object, step, total))


class OwnMetric(Own, Metric):
    """``update(prediction, label)`` and ``compute()``, or a MONAI Metric; both get logits and labels as tensors.

    Of a MONAI Metric each batch's own values are kept. Another class keeps what it needs itself; where several
    processes share the cases, each keeps its predictions, and every process then shows all of them to its object.

    Attributes:
        label_field: the output that is right.
    """

    kind: ClassVar[Kind] = "metric"

    label_field: str = "label"
    _object: Any = PrivateAttr(default=None)

    def measure(self, outputs: Outputs) -> NDArray[Any]:
        """What to keep of one batch: one item, or none where the user's object keeps it."""
        import torch

        if self._object is None:
            self._object = self._fresh()
        pair = tuple(torch.as_tensor(np.asarray(outputs[name])) for name in (self.field, self.label_field))
        if hasattr(self._object, "aggregate"):
            values = self.guard(self._object, *pair)
            self.guard(self._object.reset)
            return _one(tuple(values) if isinstance(values, tuple | list) else (values,))
        if _is_shared():
            return _one(pair)
        self.guard(self._object.update, *pair)
        return np.zeros(0)

    def summarise(self, kept: Sequence[NDArray[Any]], class_names: Sequence[str]) -> dict[str, float]:
        """The numbers under ``name``; a number a class also under ``name_CLASS``."""
        import torch

        items = [tuple(torch.as_tensor(value) for value in one[0]) for one in kept if one.size]
        # What the object itself kept is in it; the next validation begins anew.
        made, self._object = (self._fresh() if items else self._object), None
        if made is None:
            return {self.name: np.nan}
        is_monai = hasattr(made, "aggregate")
        for item in items:
            self.guard(made.extend if is_monai else made.update, *item)
        return self._named(self.guard(made.aggregate if is_monai else made.compute), class_names)

    def _fresh(self) -> Any:
        ours = {"name": self.name, "field": self.field, "label_field": self.label_field}
        made = self.make(**ours, is_key_metric=self.is_key_metric)
        if not any(all(hasattr(made, method) for method in pair) for pair in _METRIC_METHODS):
            raise self.refuse(made, "a metric with update() and compute(), or a MONAI CumulativeIterationMetric")
        return made

    def _named(self, value: Any, class_names: Sequence[str]) -> dict[str, float]:
        if isinstance(value, dict):
            return {self.name if key == self.name else f"{self.name}_{key}": float(n) for key, n in value.items()}
        parts = value if isinstance(value, tuple | list) else [value]
        numbers = np.concatenate([np.asarray(part, dtype=float).ravel() for part in parts])
        defined = numbers[~np.isnan(numbers)]
        values = {self.name: float(defined.mean()) if defined.size else np.nan}
        if numbers.size > 1:
            names = list(class_names)[-numbers.size :] if numbers.size <= len(class_names) else range(numbers.size)
            values |= {f"{self.name}_{n}": float(number) for n, number in zip(names, numbers, strict=True)}
        return values


class OwnAuxiliaryOperation(Own, AuxiliaryOperation):
    """A callable on the outputs of one batch, a dict of arrays; it returns the outputs to add."""

    kind: ClassVar[Kind] = "aux_op"

    def compute(self, outputs: Outputs) -> Outputs:
        """Ask the user's operation."""
        added = self.guard(self.make(), dict(outputs))
        if not isinstance(added, dict):
            raise self.refuse(added, "a dict of outputs to add")
        return _arrays(added)


class OwnInferer(Own, Inferer):
    """A callable (image, network) → logits, as MONAI's inferers are."""

    kind: ClassVar[Kind] = "inferer"

    def infer(self, network: torch.nn.Module, image: torch.Tensor) -> torch.Tensor:
        """Ask the user's inferer."""
        import torch

        logits = self.guard(self.make(), image, network)
        if not isinstance(logits, torch.Tensor):
            raise self.refuse(logits, "a tensor of logits")
        return logits


class OwnWriter(Own, Writer):
    """A callable (sample, folder) that writes one case and returns the files that it wrote, if any.

    Attributes:
        field: what is written, where the class says so.
    """

    kind: ClassVar[Kind] = "writer"

    field: str = "model"

    def write(self, samples: Iterable[Sample], out: Path, class_names: Sequence[str] = ()) -> list[Path]:
        """Hand on one case after the other."""
        del class_names
        writer = self.make(field=self.field)
        written: list[Path] = []
        for sample in samples:
            made = self.guard(writer, _copied(sample), out)
            written += [Path(one) for one in ([made] if isinstance(made, str | Path) else made or ())]
        return written


_ADAPTERS: dict[Kind, type[Own]] = {
    "transform": OwnTransform,
    "network": OwnNetwork,
    "loss": OwnLoss,
    "optimizer": OwnOptimizer,
    "lr_policy": OwnPolicy,
    "metric": OwnMetric,
    "aux_op": OwnAuxiliaryOperation,
    "inferer": OwnInferer,
    "writer": OwnWriter,
}


def create_own(kind: Kind, component: Owned) -> ComponentModel:
    """Make a component of a user's own; a transform's code runs from here on, the others' once they are built.

    Raises:
        ConfigError: the class is not where it may be, or its arguments don't fit.
    """
    found = [f"{where.removeprefix('.')}: {message}" for where, message in faults(component, kind)]
    if found:
        raise ConfigError(f"{kind} {component.path}: {'; '.join(found)}")
    located = locate(str(component.path), component.custom)
    custom = cast("Path", component.custom)
    adapter = _ADAPTERS[kind]
    if kind == "transform" and _is_random(str(component.path), custom):
        adapter = OwnRandomTransform
    # The class's own name shows in messages, so the adapter bears it.
    named = create_model(located.name, __base__=adapter)
    ours = _ours(adapter, component.args)
    if kind == "network" and "final_activation" not in ours:
        is_flat = constants(located).get("spatial_dims") == 2
        ours["final_activation"] = constants(located).get("final_activation", "sigmoid" if is_flat else "softmax")
    arguments = dict(component.args)
    return named(path=str(component.path), custom=custom, arguments=arguments, digest=digest_of(custom), **ours)


def _ours(adapter: type[Own], args: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that are the kind's own, such as a metric's name."""
    return {name: args[name] for name in adapter.model_fields if name in args and name not in Own.model_fields}


def _is_random(path: str, custom: Path) -> bool:
    """Whether a transform draws at random: it says so, takes a generator, is Randomizable, or names chance."""
    located = locate(path, custom)
    said = constants(located).get("random")
    if isinstance(said, bool):
        return said
    made = load_class(path, custom)
    if hasattr(made, "set_random_state") or _takes(getattr(made, "__call__", None), "rng"):  # noqa: B004
        return True
    nodes = list(ast.walk(located.node))
    return any(
        (isinstance(node, ast.Name) and node.id in _CHANCE)
        or (isinstance(node, ast.Attribute) and node.attr in _CHANCE)
        for node in nodes
    )


def _for_field(arguments: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    for key in ("fields", "field", "keys"):
        value = arguments.get(key)
        if value is not None:
            named = [value] if isinstance(value, str) else list(value)
            alone = name if isinstance(value, str) else [name]
            return {**arguments, key: alone} if name in named else None
    return dict(arguments)


def _takes(function: Any, name: str) -> bool:
    try:
        return name in inspect.signature(function).parameters
    except (TypeError, ValueError):
        return False


def _one(value: Any) -> NDArray[Any]:
    """An array that holds one object of any kind; tensors become arrays, which travel between processes."""
    holder = np.empty(1, dtype=object)
    holder[0] = tuple(np.asarray(part.detach().cpu()) if hasattr(part, "detach") else part for part in value)
    return holder


def _is_shared() -> bool:
    """Whether several processes share the cases."""
    import torch

    distributed = torch.distributed
    return bool(distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1)


def _constant(component: Own, name: str, otherwise: int) -> Any:
    return constants(locate(component.path, component.custom)).get(name, otherwise)


def _copied(sample: Sample) -> Sample:
    """A sample that may be written into; what is cached stays as it is."""
    return {name: value.copy() if isinstance(value, np.ndarray) else value for name, value in sample.items()}


def _arrays(values: Mapping[str, Any]) -> dict[str, Any]:
    """Tensors as NumPy arrays, everything else as it is."""
    return {
        name: np.asarray(value.detach().cpu()) if hasattr(value, "detach") else value for name, value in values.items()
    }
