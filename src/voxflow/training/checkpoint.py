"""Reads and writes model.pt: weights together with everything that is needed to use them.

A checkpoint is a mapping of plain values and tensors, so that ``torch.load(weights_only=True)`` reads it and no code
that a file holds is ever run. Network and spec stand in it as JSON text.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from voxflow.components import Component, PlainUnetNetwork, build_network, find_custom_folder
from voxflow.errors import DataError
from voxflow.spec import ModelSpec
from voxflow.torch_files import read_torch, save_torch

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from voxflow.training.first_stage import FirstStage

FORMAT = 1  # of the file; another number is refused by every version that does not know it
_KEYS = {"format", "state_dict", "network", "spec", "epoch", "metric"}


def save_model(
    path: Path,
    network: torch.nn.Module,
    component: Component,
    *,
    spec: ModelSpec,
    epoch: int,
    metric: float,
    first_stage: FirstStage | None = None,
) -> None:
    """Write a checkpoint whole or not at all.

    Args:
        path: usually model.pt or model_final.pt.
        network: its weights are copied to the CPU, in plain memory layout.
        component: the network as the configuration names it, channel counts filled in.
        spec: how to feed it and read its answer.
        epoch: epochs trained.
        metric: the key metric, NaN when there is none.
        first_stage: of a training in two stages; it stands in the file, too.

    Raises:
        OSError: the disk is full, say; an older file stays.
    """
    component, omitted = PlainUnetNetwork.strip_training_parts(component)
    weights = {
        name: value.detach().cpu().contiguous()
        for name, value in network.state_dict().items()
        if not name.startswith(omitted)
    }
    if first_stage is not None:
        component, spec, weights = first_stage.join(component, spec, weights)
    content = {
        "format": FORMAT,
        "state_dict": weights,
        "network": component.model_dump_json(include={"name", "args", "path"}, exclude_none=True),
        "spec": spec.model_dump_json(),
        "epoch": epoch,
        "metric": metric,
    }
    save_torch(path, content)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint's content onto the CPU without running any code that it holds.

    Raises:
        DataError: the file is missing or no checkpoint of Voxflow.
    """
    import zipfile

    if not path.is_file():
        raise DataError("file not found; train first", path=path)
    # torch.load takes old pickle files, too; a file that was cut off would be read as one, with a confusing error.
    if not zipfile.is_zipfile(path):
        raise DataError("no model file, or only a part of one", path=path)
    content = read_torch(path, "model file")
    if not isinstance(content, dict) or content.keys() < _KEYS or content.get("format") != FORMAT:
        message = f"no Voxflow model file of format {FORMAT}"
        if isinstance(content, dict) and "format" not in content:
            message += "; a file of weights alone needs its configuration: train from it (MMAR_CKPT), or export it by "
            message += "-c config_train.json --model_path"
        raise DataError(message, path=path)
    return content


def load_model(path: Path, custom: Path | None = None) -> tuple[torch.nn.Module, ModelSpec]:
    """Rebuild a trained network, in evaluation mode on the CPU, and its spec.

    Args:
        path: a checkpoint.
        custom: where a network of the user's own lives; when left out, in the workspace that the checkpoint lies in.

    Raises:
        ConfigError: the network is the user's own and not there.
        DataError: the file is missing, no checkpoint, or its weights don't fit its network.
    """
    content = read_checkpoint(path)
    custom = custom or find_custom_folder(path)
    network = build_network(Component.model_validate({**json.loads(content["network"]), "custom": custom}))
    try:
        network.load_state_dict(content["state_dict"])
    except RuntimeError as error:
        raise DataError(f"weights don't fit the network: {str(error).splitlines()[0]}", path=path) from error
    return network.eval(), ModelSpec.model_validate_json(content["spec"]).with_custom_folder(custom)
