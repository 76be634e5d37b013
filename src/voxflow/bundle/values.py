"""Reads values of a bundle's inference configuration, and runs none of its code.

References are followed, and expressions are worked out here as far as they are plain: constants, lists, arithmetic,
choices, and a few functions of a fixed table. Whatever else an expression asks for is refused where its value is
needed, and nowhere else: most bundles hold code that a reader of the model does not need, such as the list of cases.
"""

from __future__ import annotations

import ast
import operator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxflow.bundle.expressions import parse_expression
from voxflow.bundle.reading import SEPARATOR, get_item, has_item, merge_config_files, read_config_file, walk
from voxflow.bundle.references import EXPRESSION, METADATA, TARGET, StageReading, expand_macros
from voxflow.errors import ConfigError, DataError
from voxflow.findings import show

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CONFIGS, METADATA_FILE = "configs", "metadata.json"
INFERENCE = ("inference.json", "inference.yaml", "inference.yml")
# An expression that makes more than this is none of a configuration.
MOST_ITEMS = 10_000
MOST_DEPTH, MOST_STEPS = 100, 100_000
_DISABLED = "_disabled_"
_OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod, ast.Eq: operator.eq, ast.NotEq: operator.ne,
    ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge,
    ast.Not: operator.not_, ast.USub: operator.neg, ast.UAdd: operator.pos,
    ast.In: lambda item, items: item in items, ast.NotIn: lambda item, items: item not in items,
    ast.Is: operator.is_, ast.IsNot: operator.is_not,
}  # fmt: skip
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "len": len, "str": str, "int": int, "float": float, "bool": bool, "list": list, "tuple": tuple, "dict": dict,
    "min": min, "max": max, "abs": abs, "round": round, "sum": sum,
    "os.path.join": lambda *parts: str(Path(*parts)),
    "os.path.exists": lambda path: Path(path).exists(),
    "os.path.isfile": lambda path: Path(path).is_file(),
    "torch.device": lambda name, *_: str(name),
    "torch.cuda.is_available": lambda: False,
    "torch.cuda.device_count": lambda: 0,
}  # fmt: skip
_KEYS = {f"monai.utils.{name}.{key}": key.lower() for name in ("CommonKeys", "enums.CommonKeys")
         for key in ("IMAGE", "LABEL", "PRED")}  # fmt: skip
_TYPES = {"float16", "float32", "float64", "uint8", "uint16", "int8", "int16", "int32", "int64", "bool", "half"}
# Methods that give the same network, elsewhere or in another mode.
_SAME = {"to", "cpu", "cuda", "eval", "float"}


@dataclass(frozen=True, eq=False)
class BundlePart:
    """A component of a configuration, which is not built.

    Attributes:
        values: the configuration.
        place: its id.
        content: as it stands there.
    """

    values: BundleValues
    place: str
    content: dict[str, Any]

    @property
    def target(self) -> str:
        """The class, such as "monai.networks.nets.UNet"."""
        target = self.content[TARGET]
        if isinstance(target, str) and target.startswith("@"):
            target = self.values.resolve(target, f"{self.place}{SEPARATOR}{TARGET}")
        return str(target)

    @property
    def name(self) -> str:
        """The class without its module; all of it where the module is none of MONAI's or torch's."""
        root, _, name = self.target.rpartition(".")
        return name if root.partition(".")[0] in ("", "monai", "torch", "ignite") else self.target

    def is_disabled(self) -> bool:
        """Whether it is switched off.

        Raises:
            ConfigError: it takes code to know.
        """
        return self.values.resolve(self.content, self.place) is None

    @property
    def arguments(self) -> list[str]:
        """The names of its arguments."""
        return [key for key in self.content if not (key.startswith("_") and key.endswith("_"))]

    def read(self, key: str, default: Any = None) -> Any:
        """Return an argument's value.

        Raises:
            ConfigError: it takes code.
        """
        place = self.place_of(key)
        return self.values.resolve(self.content[key], place) if key in self.content else default

    def place_of(self, key: str) -> str:
        """Return the id of an argument."""
        return f"{self.place}{SEPARATOR}{key}"


class BundleValues:
    """The values of a bundle's inference configuration.

    Args:
        bundle: its folder.
        file: the configuration; None: configs/inference.json, .yaml or .yml.

    Raises:
        ConfigError: there is none, or it can't be read.
    """

    def __init__(self, bundle: Path, file: Path | None = None) -> None:
        self.bundle, self.file = bundle, file or _find_inference(bundle)
        config = merge_config_files([self.file])
        metadata = bundle / CONFIGS / METADATA_FILE
        if metadata.is_file():
            config.content[METADATA] = read_config_file(metadata)
        config.content["bundle_root"] = str(bundle)
        reading = StageReading(bundle, "infer", config)
        expand_macros(reading)
        if reading.findings:
            finding = reading.findings[0]
            raise ConfigError(finding.message, path=finding.file, where=finding.where)
        self.content = config.content
        self._steps = 0

    def resolve(self, value: Any, place: str, depth: int = 0) -> Any:
        """Return a value with its references followed and its expressions worked out; components are not built.

        Args:
            value: as it stands in the configuration.
            place: its id, for the message.
            depth: how many references led here.

        Raises:
            ConfigError: a reference leads nowhere or round in a circle, or an expression takes code.
        """
        self._steps += 1
        if depth > MOST_DEPTH or self._steps > MOST_STEPS:
            self.refuse("its references go round in a circle, or make far more values than a configuration has", place)
        if isinstance(value, dict):
            if TARGET in value:
                is_off = value.get(_DISABLED, False)
                is_off = self.resolve(is_off, f"{place}{SEPARATOR}{_DISABLED}", depth + 1) if is_off else False
                return None if is_off in (True, "true", "True") else BundlePart(self, place, value)
            return {key: self.resolve(item, f"{place}{SEPARATOR}{key}", depth + 1) for key, item in value.items()}
        if isinstance(value, list):
            items = [self.resolve(item, f"{place}{SEPARATOR}{n}", depth + 1) for n, item in enumerate(value)]
            # MONAI leaves a component out of its list that is switched off.
            return [item for item, raw in zip(items, value, strict=True) if item is not None or raw is None]
        if isinstance(value, str) and value.startswith("@"):
            return self.follow(value[1:].replace("::", SEPARATOR), place, depth)
        if isinstance(value, str) and value.startswith(EXPRESSION):
            return self._evaluate(value, place, depth)
        return value

    def find(self, name: str) -> Any:
        """Return the value of an id; None where there is none.

        Raises:
            ConfigError: it takes code.
        """
        return self.resolve(get_item(self.content, name), name) if has_item(self.content, name) else None

    def list_parts(self) -> Iterator[BundlePart]:
        """List all components that stand in the configuration, also those that are switched off."""
        for place, value in walk(self.content):
            if isinstance(value, dict) and TARGET in value:
                yield BundlePart(self, place, value)

    def refuse(self, message: str, place: str) -> None:
        """Say what is wrong at an id.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(message, path=self.file, where=place)

    def follow(self, name: str, place: str, depth: int) -> Any:
        """Return the value that a reference leads to."""
        if not has_item(self.content, name):
            self.refuse(f"'@{name}': no such id", place)
        return self.resolve(get_item(self.content, name), name, depth + 1)

    def _evaluate(self, text: str, place: str, depth: int) -> Any:
        expression = parse_expression(place, text)
        if expression.fault or expression.tree is None:
            self.refuse(f"{expression.fault}: {show(text)}", place)
        first = expression.tree.body[0] if expression.tree and expression.tree.body else None
        try:
            if not isinstance(first, ast.Expr):
                raise _CodeNeededError
            return _Evaluator(self, place, depth).evaluate(first.value)
        except ConfigError:
            raise
        except _CodeNeededError:
            message = f"{show(text)} is code, and adopting a bundle runs none; write the value in its place"
            raise ConfigError(message, path=self.file, where=place) from None
        except (ArithmeticError, LookupError, TypeError, ValueError, RecursionError, OSError) as error:
            raise ConfigError(f"{show(text)} has no value: {error}", path=self.file, where=place) from error


def _find_inference(bundle: Path) -> Path:
    folder = bundle / CONFIGS
    file = next((folder / name for name in INFERENCE if (folder / name).is_file()), None)
    if file is None:
        names = sorted(path.name for path in folder.glob("*")) if folder.is_dir() else []
        listed = f"; there are {', '.join(names[:8])}" if names else ""
        raise DataError(f"no inference configuration, {' or '.join(INFERENCE)}{listed}", path=folder)
    return file


class _CodeNeededError(Exception):
    """An expression asks for more than plain values."""


@dataclass(frozen=True)
class _Evaluator:
    """Works out one expression from its parsed text."""

    values: BundleValues
    place: str
    depth: int

    def evaluate(self, node: ast.expr) -> Any:
        """Return the value of a part of the expression."""
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, ast.List | ast.Tuple):
            return [self.evaluate(item) for item in node.elts]
        if isinstance(node, ast.Dict):
            if any(key is None for key in node.keys):
                raise _CodeNeededError
            return {self.evaluate(key): self.evaluate(item) for key, item in zip(node.keys, node.values, strict=True)
                    if key is not None}  # fmt: skip
        if isinstance(node, ast.IfExp):
            return self.evaluate(node.body if self.evaluate(node.test) else node.orelse)
        if isinstance(node, ast.BoolOp):
            return self._choose(node)
        if isinstance(node, ast.UnaryOp | ast.BinOp | ast.Compare):
            return self._compute(node)
        if isinstance(node, ast.JoinedStr):
            return "".join(str(self._format(part)) for part in node.values)
        if isinstance(node, ast.Subscript):
            return self._take(node)
        if isinstance(node, ast.Call):
            return self._call(node)
        return self._name(node)

    def _choose(self, node: ast.BoolOp) -> Any:
        value: Any = None
        for part in node.values:
            value = self.evaluate(part)
            if bool(value) != isinstance(node.op, ast.And):
                break
        return value

    def _compute(self, node: ast.UnaryOp | ast.BinOp | ast.Compare) -> Any:
        if isinstance(node, ast.UnaryOp):
            return self._operate(node.op, self.evaluate(node.operand))
        if isinstance(node, ast.BinOp):
            return self._operate(node.op, self.evaluate(node.left), self.evaluate(node.right))
        if len(node.ops) != 1:
            raise _CodeNeededError
        return self._operate(node.ops[0], self.evaluate(node.left), self.evaluate(node.comparators[0]))

    def _operate(self, kind: ast.AST, *operands: Any) -> Any:
        if type(kind) not in _OPERATORS or any(isinstance(operand, BundlePart) for operand in operands):
            raise _CodeNeededError
        if isinstance(kind, ast.Mult):
            lengths = [len(item) for item in operands if isinstance(item, str | list)]
            counts = [abs(item) for item in operands if isinstance(item, int | float)]
            if lengths and counts and max(lengths) * max(counts) > MOST_ITEMS:
                raise _CodeNeededError
        if isinstance(kind, ast.Mod) and isinstance(operands[0], str):
            raise _CodeNeededError
        return _OPERATORS[type(kind)](*operands)

    def _format(self, part: ast.expr) -> Any:
        if isinstance(part, ast.FormattedValue):
            if part.format_spec is not None or part.conversion != -1:
                raise _CodeNeededError
            return self.evaluate(part.value)
        return self.evaluate(part)

    def _take(self, node: ast.Subscript) -> Any:
        if isinstance(node.value, ast.Name) and node.value.id == "__local_refs":
            name = self.evaluate(node.slice)
            return self.values.follow(str(name).replace("::", SEPARATOR), self.place, self.depth)
        return self.evaluate(node.value)[self.evaluate(node.slice)]

    def _call(self, node: ast.Call) -> Any:
        if isinstance(node.func, ast.Attribute) and node.func.attr in _SAME:
            value = self.evaluate(node.func.value)
            if isinstance(value, BundlePart):
                return value
        function = _FUNCTIONS.get(_join_name(node.func))
        if function is None or node.keywords or any(isinstance(item, ast.Starred) for item in node.args):
            raise _CodeNeededError
        arguments = [self.evaluate(item) for item in node.args]
        if any(isinstance(argument, BundlePart) for argument in arguments):
            raise _CodeNeededError
        return function(*arguments)

    def _name(self, node: ast.expr) -> Any:
        name = _join_name(node)
        if name in _KEYS:
            return _KEYS[name]
        root, _, kind = name.rpartition(".")
        if root in ("torch", "np", "numpy") and kind in _TYPES:
            return kind
        raise _CodeNeededError


def _join_name(node: ast.expr) -> str:
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.insert(0, node.attr)
        node = node.value
    return ".".join([node.id, *parts]) if isinstance(node, ast.Name) else ""
