"""Translation of Clara 4's components, which are MONAI's or torch's own classes already and keep their names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from voxflow.components import create, plain_name
from voxflow.migrate.translation import Args, Facts, Node, Translation, approximate, exact, node

if TYPE_CHECKING:
    from voxflow.components import ComponentReference, Kind

# The bundle's loader and its last transform do what these do.
NOTHING = (
    "EnsureChannelFirstd",
    "AsChannelFirstd",
    "AddChanneld",
    "ToTensord",
    "ToNumpyd",
    "EnsureTyped",
    "CastToTyped",
)
METRICS = {"Accuracy": "ignite.metrics.Accuracy"}
# What MONAI's and ignite's handlers do otherwise; MeanDice and MeanIoUHandler are the same numbers.
DIFFERENCES = {
    "Accuracy": "ignite compares every channel of the one-hot masks by its largest value",
    "HausdorffDistance": "a distance that is infinite makes MONAI's mean infinite; Voxflow leaves it out",
    "ROCAUC": "a finding that all cases share makes MONAI's average undefined; Voxflow leaves it out",
    "SurfaceDistance": "a distance that is infinite makes MONAI's mean infinite; Voxflow leaves it out",
}


def translate_monai(kind: str, component: ComponentReference, facts: Facts) -> Translation:
    """Translate a component that is MONAI's own class: it keeps its name, and takes what the bundle wires.

    Args:
        kind: what it is, such as "transform".
        component: under ``monai:NAME``.
        facts: what the translation must know of the model.
    """
    name = plain_name(component.name)
    return {
        "transform": _transform,
        "network": _network,
        "optimizer": _optimizer,
        "lr_policy": _policy,
        "metric": _metric,
    }.get(kind, _as_it_is)(kind, name, component, facts)


def _name_class(kind: Kind, name: str) -> str:
    """What a bundle calls the class: MONAI's by the name alone, torch's with the module."""
    from voxflow.components import MONAI_MODULES, find_monai_class

    monai_class = find_monai_class(kind, name)
    home = next(module for module in MONAI_MODULES[kind][0] if hasattr(__import__(module, fromlist=[name]), name))
    return name if home.startswith("monai") else f"{home}.{monai_class.__name__}"


def _read_arguments(kind: str, component: ComponentReference) -> Args:
    """The arguments under this MONAI's names."""
    typed: Any = create(kind, component)  # type: ignore[arg-type]
    return dict(typed.model_extra or {})


def _as_it_is(kind: Any, name: str, component: ComponentReference, facts: Facts) -> Translation:
    return exact(node(_name_class(kind, name), **_read_arguments(kind, component)))


def _transform(kind: Any, name: str, component: ComponentReference, facts: Facts) -> Translation:
    keys = component.args.get("keys", [])
    if name == "LoadImaged":
        how: Node = {"ensure_channel_first": True}
        if facts.spatial_dims == 2:
            how |= {"reader": "PILReader", "reverse_indexing": False}
        return exact(node("LoadImaged", keys=keys, **how))
    if name in NOTHING:
        return exact(why="nothing to do: the loader puts channels first, and the last transform makes tensors")
    return exact(node(name, keys=keys, **_read_arguments(kind, component)))


def _network(kind: Any, name: str, component: ComponentReference, facts: Facts) -> Translation:
    from voxflow.components import find_monai_class, read_parameters

    takes, _ = read_parameters(find_monai_class(kind, name))
    counts = {"in_channels": facts.in_channels, "out_channels": facts.classes, "num_classes": facts.classes}
    filled = {key: value for key, value in counts.items() if key in takes}
    return exact(node(name, **{**filled, **_read_arguments(kind, component)}))


def _optimizer(kind: Any, name: str, component: ComponentReference, facts: Facts) -> Translation:
    args = {key: component.args[key] for key in ("lr", "weight_decay") if key in component.args}
    if args.get("lr", facts.learning_rate) == facts.learning_rate:
        args["lr"] = "@learning_rate"
    return exact(
        node(_name_class(kind, name), params="$@network.parameters()", **args, **_read_arguments(kind, component))
    )


def _policy(kind: Any, name: str, component: ComponentReference, facts: Facts) -> Translation:
    return exact(node(_name_class(kind, name), optimizer="@optimizer", **_read_arguments(kind, component)))


def _metric(kind: Any, name: str, component: ComponentReference, facts: Facts) -> Translation:
    fields = list(component.args.get("compared") or ("pred", "label"))
    output = f"$monai.handlers.from_engine({fields})"
    metric = node(METRICS.get(name, name), output_transform=output, **dict(component.args.get("args") or {}))
    return approximate(DIFFERENCES[name], metric) if name in DIFFERENCES else exact(metric)
