"""What a translation is, and the table from a component's name to the function that translates it.

A translator reads the arguments as the configuration gives them and returns nodes of a bundle's configuration, so that
a bundle can be written of a component whose class isn't imported here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from voxflow.components import find_component, plain_name

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from voxflow.components import ComponentReference
    from voxflow.migrate.report import Verdict
    from voxflow.spec import Task

Node = dict[str, Any]
Args = dict[str, Any]


@dataclass(frozen=True)
class Facts:
    """What a translation must know beyond the component's own arguments.

    Attributes:
        task: what the model does.
        in_channels: channels of the network's input.
        class_names: channels of its answer, by name.
        activation: what turns logits into probabilities.
        one_hot: the label has one channel a class instead of one of class indices.
        patch: (i, j, k) of the training patch; None when whole images are learnt from.
        learning_rate: the global rate.
        weight_decay: the network's own L2 penalty, for optimizers that give none.
        spatial_dims: 3 for volumes, 2 for radiographs and slices.
        label_format: classification: the datalist's; () where every column is a finding.
        dice_fields: outputs that hold a Dice, with the channel that each judges; None: the mean of all.
        dice_background: whether channel 0 is among those that are judged.
    """

    task: Task
    in_channels: int
    class_names: tuple[str, ...]
    activation: str = "softmax"
    one_hot: bool = False
    patch: tuple[int, ...] | None = None
    learning_rate: float = 1e-4
    weight_decay: float = 0.0
    spatial_dims: int = 3
    label_format: tuple[int, ...] = ()
    dice_fields: Mapping[str, int | None] = field(default_factory=dict)
    dice_background: bool = True

    @property
    def classes(self) -> int:
        """Channels of the network's answer."""
        return len(self.class_names)


@dataclass(frozen=True)
class Translation:
    """Nodes that stand for one component, and how well.

    Attributes:
        nodes: in order; empty where the bundle needs nothing.
        verdict: see :class:`voxflow.migrate.report.MigrationEntry`.
        why: what differs.
        expression: a bundle's ``$`` expression, where no class does it.
    """

    nodes: tuple[Node, ...] = ()
    verdict: Verdict = "exact"
    why: str = ""
    expression: str = ""

    @property
    def becomes(self) -> str:
        """The nodes' classes, for the report."""
        return "an expression" if self.expression else ", ".join(str(node["_target_"]) for node in self.nodes)

    @property
    def value(self) -> Any:
        """What stands in the configuration for a component that becomes one thing; None where nothing does."""
        return self.expression or (self.nodes[0] if self.nodes else None)


_table: dict[tuple[str, str], Callable[[Args, Facts], Translation]] = {}


def translator(
    kind: str, *names: str
) -> Callable[[Callable[[Args, Facts], Translation]], Callable[[Args, Facts], Translation]]:
    """Decorator: this function translates components of a kind under these names.

    Args:
        kind: such as "transform".
        names: as Clara 3 and TLT 2 write them, without TLT's module.
    """

    def add(function: Callable[[Args, Facts], Translation]) -> Callable[[Args, Facts], Translation]:
        for name in names:
            _table[kind, name] = function
        return function

    return add


def translate(kind: str, component: ComponentReference, facts: Facts) -> Translation:
    """Translate one component.

    Args:
        kind: what it is, such as "transform".
        component: its name in the registry, and its arguments as the configuration gives them.
        facts: what the translation must know of the model.

    Returns:
        The nodes that stand for it; none, with the verdict "not carried", where nobody here knows the component.
    """
    _load()
    if getattr(component, "path", None):
        why = "a class of the workspace's own; write it as MONAI has it, into the bundle's folder scripts/"
        return Translation(verdict="not carried", why=why)
    if component.name.startswith("monai:"):
        from voxflow.migrate.monai import translate_monai

        return translate_monai(kind, component, facts)
    args = _read_defaults(kind, component.name) | {
        key: value for key, value in component.args.items() if value is not None
    }
    function = _table.get((kind, component.name)) or _table.get((kind, plain_name(component.name)))
    if function is not None:
        return function(args, facts)
    return Translation(
        verdict="not carried", why=f"MONAI has no {kind} that does what {plain_name(component.name)} does"
    )


def _read_defaults(kind: str, name: str) -> Args:
    """The chance of a random transform that states none, which the dialects do not have alike."""
    model = find_component(kind, name)  # type: ignore[arg-type]
    field = model.model_fields.get("probability") if model else None
    return {} if field is None or field.is_required() else {"probability": field.default}


def list_translatable(kind: str) -> set[str]:
    """The names of a kind that can be translated."""
    _load()
    return {name for table_kind, name in _table if table_kind == kind}


def _load() -> None:
    """Import the modules whose decorators fill the table."""
    from voxflow.migrate import learning, networks, scoring, spatial, transforms  # noqa: F401


def node(target: str, **args: Any) -> Node:
    """Make one component of a bundle's configuration; arguments that are None are left out.

    Example:
        >>> node("DiceLoss", softmax=True, weight=None)
        {'_target_': 'DiceLoss', 'softmax': True}
    """
    return {"_target_": target} | {key: value for key, value in args.items() if value is not None}


def exact(*nodes: Node, why: str = "") -> Translation:
    """A translation that changes nothing."""
    return Translation(nodes, "exact", why)


def approximate(why: str, *nodes: Node) -> Translation:
    """A translation that differs as ``why`` says."""
    return Translation(nodes, "approximate", why)


def list_fields(args: Mapping[str, Any], *extra: str) -> list[str]:
    """List the fields that a transform changes, whatever the dialect calls them.

    Example:
        >>> list_fields({"applied_keys": ["image", "label"]}), list_fields({"field": "image"}, "label")
        (['image', 'label'], ['image', 'label'])
    """
    value: Any = next((args[key] for key in ("fields", "applied_keys", "field", "applied_key") if key in args), [])
    names = [value] if isinstance(value, str) else [str(name) for name in value]
    return list(dict.fromkeys([*names, *extra]))


def choose_modes(fields: list[str], image: str, label: str = "nearest") -> list[str]:
    """Choose the interpolation of each field: masks are never blended.

    Example:
        >>> choose_modes(["image", "label"], "bilinear")
        ['bilinear', 'nearest']
    """
    return [label if name.startswith("label") else image for name in fields]
