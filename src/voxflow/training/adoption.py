"""Makes models of files that hold weights alone, as Clara 4 and MONAI write them: a configuration says the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from voxflow.components import build_network
from voxflow.errors import ConfigError, DataError
from voxflow.training.checkpoint import read_checkpoint, save_model
from voxflow.training.plan import TrainingPlan
from voxflow.training.weights import load_weights, read_weights

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from voxflow.components import Component
    from voxflow.config import Workflow
    from voxflow.training.options import DataFacts


def has_only_weights(path: Path) -> bool:
    """Whether a checkpoint holds weights and says nothing of its network.

    Raises:
        DataError: the file can't be read, or holds no weights.
    """
    try:
        read_checkpoint(path)
    except DataError:
        return bool(read_weights(path))
    return False


def build_with_weights(network: Component, path: Path) -> tuple[torch.nn.Module, str]:
    """Build a network that takes each of its weights from a file.

    Args:
        network: its counts of channels filled in.
        path: a file of weights, with or without more.

    Returns:
        The network in evaluation mode, and a line that says what was taken.

    Raises:
        DataError: the file lacks a weight, or has it in another shape.
    """
    module = build_network(network)
    report = load_weights(module, read_weights(path), path)
    if report.missing or report.mismatched:
        name = network.name.removeprefix("monai:")
        raise DataError(f"not the weights of the configuration's {name}: {report.line()}", path=path)
    return module.eval(), f"{path.name} holds weights alone; the configuration's network takes them: {report.line()}"


def adopt_weights(path: Path, workflow: Workflow, facts: DataFacts, target: Path) -> str:
    """Write the model that a training of a configuration would have written, with the weights of a file.

    Args:
        path: the weights.
        workflow: the training configuration.
        facts: names of the classes, and what else the data says.
        target: the checkpoint to write.

    Returns:
        A line that says what was taken.

    Raises:
        ConfigError: the configuration does not say how many channels its network takes.
        DataError: the weights are not the network's.
    """
    plan = TrainingPlan.build(workflow, facts)
    channels = plan.network.in_channels
    if channels is None:
        message = "in_channels is needed, since the checkpoint holds weights alone"
        raise ConfigError(message, path=workflow.path, where="train.model.args")
    component = plan.complete_network(channels)
    module, line = build_with_weights(component, path)
    save_model(target, module, component, spec=plan.make_spec(channels), epoch=0, metric=float("nan"))
    return line
