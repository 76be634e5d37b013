"""Tells from a file of weights which DenseNet or ResNet of torchvision's it was made of."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from voxflow.errors import DataError
from voxflow.torch_files import read_torch

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

Shapes = dict[str, tuple[int, ...]]
_DENSE = re.compile(r"features\.denseblock(\d)\.denselayer(\d+)\.")
_RESIDUAL = re.compile(r"layer(\d)\.(\d+)\.conv1\.weight")
LEVELS = ("1", "2", "3", "4")
STEM, KERNEL, BOTTLENECK = 64, 7, 4


def recognise_network(path: Path) -> dict[str, Any]:
    """Return the name and the arguments of the network that a file of weights fits.

    Args:
        path: a torch file of a state_dict under torchvision's names: of a DenseNet-121, -169 or -201, or of a ResNet-18
            to -152. No code in it is run.

    Raises:
        DataError: the file is missing or can't be read, or its network is none of these.
    """
    if not path.is_file():
        raise DataError("no such file of weights", path=path)
    shapes = _read_shapes(path)
    network = _describe_densenet(shapes) or _describe_resnet(shapes)
    if network is None:
        names = ", ".join(list(shapes)[:2]) or "none"
        raise DataError(
            f"these {len(shapes)} tensors ({names} ...) are of no DenseNet or ResNet under torchvision's names; give a "
            "state_dict of densenet121, 169 or 201, or resnet18, 34, 50, 101 or 152",
            path=path,
        )
    return network


def _read_shapes(path: Path) -> Shapes:
    import torch

    content = read_torch(path, "torch file of weights")
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    tensors = content.items() if isinstance(content, dict) else ()
    return {str(key).removeprefix("module."): tuple(value.shape) for key, value in tensors
            if isinstance(value, torch.Tensor)}  # fmt: skip


def _describe_densenet(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any] | None:
    layers = _count_layers(_DENSE, shapes)
    stem = shapes.get("features.conv0.weight", ())
    growth = next((shapes[key] for key in shapes if re.search(r"denselayer1\.conv\.?2\.weight", key)), ())
    if layers is None or stem[2:] != (KERNEL, KERNEL) or not growth:
        return None
    return {
        "name": "DenseNet",
        "args": {"init_features": stem[0], "growth_rate": growth[0], "block_config": list(layers)},
    }


def _describe_resnet(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any] | None:
    layers = _count_layers(_RESIDUAL, shapes)
    stem = shapes.get("conv1.weight", ())
    if layers is None or (*stem[:1], *stem[2:]) != (STEM, KERNEL, KERNEL):
        return None
    filters = [shapes[f"layer{level}.0.conv1.weight"][0] for level in LEVELS]
    last = shapes.get("layer1.0.conv3.weight")
    # ResNeXt has kernels of few channels, and a wide ResNet answers with fewer than four times its filters.
    is_plain = shapes.get("layer1.0.conv2.weight", ())[:2] == (filters[0], filters[0])
    if not is_plain or filters[0] != STEM or (last and last[0] != BOTTLENECK * filters[0]):
        return None
    block = "bottleneck" if last else "basic"
    return {"name": "ResNet", "args": {"layers": list(layers), "filters": filters, "block": block}}


def _count_layers(pattern: re.Pattern[str], names: Iterable[str]) -> tuple[int, ...] | None:
    """How many layers each of four levels has; None where there are not four."""
    places = {match.groups() for name in names if (match := pattern.match(name))}
    counts = tuple(sum(level == number for number, _ in places) for level in LEVELS)
    return counts if all(counts) and len(places) == sum(counts) else None
