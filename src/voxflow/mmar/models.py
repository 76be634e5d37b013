"""Opens the model of an evaluation, and holds it against the network that the configuration describes.

A checkpoint of MONAI's own, a plain state_dict as Clara 4 wrote it, holds weights alone: the configuration says the
rest.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from voxflow.components import Component, build_network, complete_network, is_same_network, read_network
from voxflow.engines import open_engine
from voxflow.errors import ConfigError, DataError
from voxflow.progress import say
from voxflow.spec import ModelSpec
from voxflow.training import load_weights, read_checkpoint, read_weights, save_model

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch

    from voxflow.config import Evaluation
    from voxflow.datalist import Datalist
    from voxflow.engines import Engine


def open_model(file: Path, evaluation: Evaluation, datalist: Datalist) -> Engine:
    """Open a model file.

    Args:
        file: an exported model or a checkpoint.
        evaluation: may describe the network that the file's weights belong to.
        datalist: its ``labels`` name the classes of a file that does not.

    Raises:
        ConfigError: the file holds another network than the configuration describes.
        DataError: the file can't be read, or has not all the weights of the network.
    """
    if evaluation.network is None or file.suffix != ".pt":
        return open_engine(file)
    try:
        content = read_checkpoint(file)
    except DataError:
        return _open_weights(file, evaluation, evaluation.network, datalist)
    trained = Component.model_validate(json.loads(content["network"]))
    if not is_same_network(evaluation.network, trained):
        described = f"{evaluation.network.name.removeprefix('monai:')} as the file describes it"
        if not _takes(evaluation.network, trained, content["state_dict"]):
            message = f"{described} has other weights than {file}"
            raise ConfigError(message, path=evaluation.path, where=evaluation.network.where)
        say(f"warning: {described} is not quite that of {file}, which is used")
    return open_engine(file)


def _takes(network: Component, trained: Component, weights: Mapping[str, torch.Tensor]) -> bool:
    """Whether a network has exactly these weights, by name and shape."""
    typed = read_network(trained)
    channels, classes = typed.in_channels or 1, typed.num_classes or 1
    module = build_network(complete_network(network, in_channels=channels, num_classes=classes))
    needed, held = ({name: value.shape for name, value in part.items()} for part in (module.state_dict(), weights))
    return needed == held


def _open_weights(file: Path, evaluation: Evaluation, network: Component, datalist: Datalist) -> Engine:
    """A checkpoint of weights alone as a model of the network that the configuration describes."""
    typed = read_network(network)
    if typed.in_channels is None or typed.num_classes is None:
        message = "in_channels and out_channels are needed, since the checkpoint holds weights alone"
        raise ConfigError(message, path=evaluation.path, where=network.where)
    component = complete_network(network, in_channels=typed.in_channels, num_classes=typed.num_classes)
    module = build_network(component)
    report = load_weights(module, read_weights(file), file)
    if report.missing or report.mismatched:
        raise DataError(f"not the weights of {network.name}: {report.line()}", path=file)
    say(f"{file.name} holds weights alone; the configuration's network takes them: {report.line()}")
    labels = datalist.metadata.get("labels")
    names = tuple(str(name) for name in labels.values()) if isinstance(labels, dict) else ()
    if len(names) != typed.num_classes:
        names = tuple(f"class_{n}" for n in range(typed.num_classes))
    is_sigmoid = any(step.args.get("sigmoid") for step in evaluation.post_transforms)
    spec = ModelSpec(
        task=evaluation.task,
        in_channels=typed.in_channels,
        class_names=names,
        activation="sigmoid" if is_sigmoid else "softmax",
        divisor=typed.divisor,
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.pt"
        save_model(path, module, component, spec=spec, epoch=0, metric=float("nan"))
        return open_engine(path)
