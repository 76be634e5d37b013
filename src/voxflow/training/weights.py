"""Loads start weights into a network: which of them fit, and which layers are frozen."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from voxflow.errors import ConfigError, DataError, join_names
from voxflow.findings import nearest_name
from voxflow.spec import ModelSpec
from voxflow.torch_files import read_torch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import torch

SHOWN_NAMES = 4  # of each kind, in the line for a person
# Where files keep their weights: Voxflow's model.pt and state.pt, then what other tools' training scripts write.
_NESTED = ("state_dict", "network", "model", "model_state_dict", "net")
_PROGRAM = "_extra_state"  # the only weight of a network that was adopted as TorchScript or ONNX
_SECOND = "last."  # how the names begin of the second stage's weights in a cascade
# What wrappers (several GPUs, torch.compile) put before every name.
_WRAPPERS = ("module.", "_orig_mod.", "network.")


@dataclass(frozen=True)
class WeightsReport:
    """Which weights of a file were loaded into a network, and which were not.

    Attributes:
        loaded: names that were loaded.
        mismatched: names whose shape differs; theirs stay fresh.
        missing: names of the network that the file has not; they stay fresh.
        unused: names of the file that the network has not.
    """

    loaded: tuple[str, ...]
    mismatched: tuple[str, ...]
    missing: tuple[str, ...]
    unused: tuple[str, ...]

    def line(self) -> str:
        """Say in one line how many weights were loaded, and name some of those that were not."""
        total = len(self.loaded) + len(self.mismatched) + len(self.missing)
        parts = [f"{len(self.loaded)} of {total} weights taken"]
        for heading, names in (
            ("of another shape, so fresh", self.mismatched),
            ("not in the file, so fresh", self.missing),
            ("not in the network, so unused", self.unused),
        ):
            if names:
                parts.append(f"{heading}: {join_names(names, SHOWN_NAMES)}")
        return "; ".join(parts)


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Read weights by name: from model.pt, model_final.pt, state.pt, or a file of a plain state_dict.

    No code that the file holds is run. A model.pt that was adopted from nnU-Net has its convolutions turned to the axes
    (i, j, k).

    Raises:
        DataError: the file is missing, damaged, needs code to be read, or holds no weights.
    """
    if not path.is_file():
        raise DataError("file of start weights not found", path=path)
    content = read_torch(path, "file of weights")
    weights = _find_weights(content)
    if isinstance(content, dict) and '"TrainedCascade"' in str(content.get("network")):
        # A training of the second stage goes on from its own network; the first stage's is none that is trained.
        weights = {name.removeprefix(_SECOND): value for name, value in weights.items() if name.startswith(_SECOND)}
    if isinstance(content, dict) and '"nnunet"' in str(content.get("spec")):
        weights = _turn_kernels(weights, str(content["spec"]), path)
    if list(weights) == [_PROGRAM]:
        raise DataError("was adopted as TorchScript or ONNX, and such a model can't be trained further", path=path)
    if not weights:
        raise DataError(f"no weights in it: expected names with tensors, at the top or under {_NESTED[0]!r}", path=path)
    return weights


def _find_weights(content: Any) -> dict[str, torch.Tensor]:
    import torch

    if not isinstance(content, dict):
        return {}
    nested = next((content[key] for key in _NESTED if isinstance(content.get(key), dict)), content)
    return {_strip_wrappers(str(name)): value for name, value in nested.items() if isinstance(value, torch.Tensor)}


def _turn_kernels(weights: dict[str, torch.Tensor], spec: str, path: Path) -> dict[str, torch.Tensor]:
    """Turn the kernels of a network whose input has other axes than (i, j, k), as its spec says."""
    try:
        steps = ModelSpec.model_validate_json(spec).nnunet
    except ValidationError as error:
        raise DataError(f"its spec can't be read: {error.errors()[0]['msg']}", path=path) from error
    axes = steps.axes if steps else (0, 1, 2)
    order = [0, 1, *(2 + axes.index(axis) for axis in range(3))]
    return {name: value.permute(order) if value.ndim == len(order) else value for name, value in weights.items()}


def _strip_wrappers(name: str) -> str:
    for wrapper in _WRAPPERS:
        name = name.removeprefix(wrapper)
    return name


def load_weights(network: torch.nn.Module, weights: Mapping[str, torch.Tensor], path: Path) -> WeightsReport:
    """Copy every weight whose name and shape fit; the others of the network stay as they are.

    Args:
        network: changed in place.
        weights: as ``read_weights`` returns them.
        path: the file that they come from, for the message.

    Raises:
        DataError: not one fits.
    """
    parameter_names = {_strip_wrappers(name): name for name in network.state_dict()}
    targets = {name: network.state_dict()[parameter_name] for name, parameter_name in parameter_names.items()}
    fitting = {name for name in targets if name in weights and weights[name].shape == targets[name].shape}
    if not fitting:
        raise DataError(
            f"none of its {len(weights)} weights fits the network by name and shape; "
            f"it has {_list_first(weights)}, the network {_list_first(targets)}",
            path=path,
        )
    # Not strict: which weights fit, by name and shape, was decided above; torch passes over names, but not over shapes.
    network.load_state_dict({parameter_names[name]: weights[name] for name in fitting}, strict=False)
    mismatched = [
        f"{name} {list(weights[name].shape)} instead of {list(target.shape)}"
        for name, target in targets.items()
        if name in weights and name not in fitting
    ]
    return WeightsReport(
        loaded=tuple(name for name in targets if name in fitting),
        mismatched=tuple(mismatched),
        missing=tuple(name for name in targets if name not in weights),
        unused=tuple(name for name in weights if name not in targets),
    )


def _list_first(weights: Mapping[str, torch.Tensor]) -> str:
    return ", ".join([f"{name} {list(value.shape)}" for name, value in weights.items()][:2]) or "none"


def freeze(network: torch.nn.Module, patterns: Sequence[str]) -> list[str]:
    """Keep every parameter whose name fits a pattern from being trained.

    Args:
        network: changed in place.
        patterns: shell patterns such as ``model.0.*``, or the name of a layer, which stands for all below it.

    Returns:
        The names of the frozen parameters, each once.

    Raises:
        ConfigError: a pattern fits no parameter, or nothing is left to be trained.
    """
    names = {_strip_wrappers(name): parameter for name, parameter in network.named_parameters()}
    frozen: list[str] = []
    for pattern in patterns:
        fitting = [name for name in names if fnmatchcase(name, pattern) or name.startswith(f"{pattern}.")]
        if not fitting:
            raise ConfigError(
                f"freeze: {pattern!r} fits no parameter of the network{_suggest_name(pattern, list(names))}"
            )
        frozen += fitting
    if names and len(set(frozen)) == len(names):
        raise ConfigError(f"freeze: {', '.join(map(repr, patterns))} leaves no parameter to be trained")
    for name in frozen:
        names[name].requires_grad = False
    return list(dict.fromkeys(frozen))


def _suggest_name(pattern: str, names: list[str]) -> str:
    near = nearest_name(pattern.rstrip(".*"), names, cutoff=0.3) or next(iter(names), "")
    return f"; its names are such as {near!r}" if near else ""


def to_training_mode(network: torch.nn.Module) -> None:
    """Set training mode, but leave wholly frozen layers in evaluation mode: their running statistics must not move.

    Example:
        >>> import torch
        >>> network = torch.nn.Sequential(torch.nn.BatchNorm1d(2), torch.nn.Linear(2, 1))
        >>> freeze(network, ["0"])
        ['0.weight', '0.bias']
        >>> to_training_mode(network)
        >>> [layer.training for layer in network]
        [False, True]
    """
    network.train()
    for module in network.modules():
        parameters = list(module.parameters())
        if parameters and not any(parameter.requires_grad for parameter in parameters):
            module.eval()
