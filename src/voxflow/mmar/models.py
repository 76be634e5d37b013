"""Opens the model of an evaluation, and holds it against the network that the configuration describes.

Files that Clara 4 itself wrote are taken, too. A checkpoint holds weights alone, in 4.1 with the configuration of its
training; a TorchScript file holds no more than the network. The evaluation's configuration says the rest.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from voxflow.components import Component, build_network, complete_network, create, is_same_network, read_network
from voxflow.engines import has_torchscript_spec, open_engine, open_foreign_torchscript
from voxflow.errors import ConfigError, DataError
from voxflow.progress import say
from voxflow.spec import ModelSpec
from voxflow.torch_files import read_torch
from voxflow.training import build_with_weights, has_only_weights, read_checkpoint, save_model

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

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
    if file.suffix == ".ts" and not has_torchscript_spec(file):
        return _open_torchscript(file, evaluation, datalist)
    if file.suffix == ".pt" and file.is_file() and has_only_weights(file):
        return _open_weights(file, evaluation, evaluation.network or _read_training_network(file), datalist)
    if evaluation.network is None or file.suffix != ".pt":
        return open_engine(file)
    content = read_checkpoint(file)
    trained = Component.model_validate(json.loads(content["network"]))
    if not is_same_network(evaluation.network, trained):
        described = f"{evaluation.network.name.removeprefix('monai:')} as the file describes it"
        differences = _list_other_channels(evaluation.network, trained)
        if differences or not _takes(evaluation.network, trained, content["state_dict"]):
            message = f"{described} has other weights than {file}{differences}"
            raise ConfigError(message, path=evaluation.path, where=evaluation.network.where)
        say(f"warning: {described} is not quite that of {file}, which is used")
    return open_engine(file)


def _list_other_channels(network: Component, trained: Component) -> str:
    """The channels that a network states and that the trained one has otherwise, as the end of a sentence."""
    stated, learnt = read_network(network), read_network(trained)
    names = {"in_channels": "in_channels", "num_classes": "out_channels"}
    values = [(word, getattr(stated, name), getattr(learnt, name)) for name, word in names.items()]
    return "".join(
        f"; {word} is {value}, where it has {other}" for word, value, other in values if value not in (None, other)
    )


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
    module, line = build_with_weights(component, file)
    say(line)
    spec = _describe_model(evaluation, datalist, typed.num_classes)
    spec = spec.model_copy(update={"in_channels": typed.in_channels, "divisor": typed.divisor})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.pt"
        save_model(path, module, component, spec=spec, epoch=0, metric=float("nan"))
        return open_engine(path)


def _describe_model(evaluation: Evaluation, datalist: Datalist, classes: int | None = None) -> ModelSpec:
    """What a configuration and its datalist say of a model whose file says nothing."""
    labels = datalist.metadata.get("labels")
    names = tuple(str(name) for name in labels.values()) if isinstance(labels, dict) else ()
    if not names or (classes is not None and len(names) != classes):
        names = tuple(f"class_{n}" for n in range(classes or 2))
    is_sigmoid = any(step.args.get("sigmoid") for step in evaluation.post_transforms)
    images = [case.image for cases in datalist.parts.values() for case in cases[:1]]
    return ModelSpec(
        task=evaluation.task,
        in_channels=len(images[0]) if images else 1,
        class_names=names,
        activation="sigmoid" if is_sigmoid else "softmax",
    )


def _open_torchscript(file: Path, evaluation: Evaluation, datalist: Datalist) -> Engine:
    """A TorchScript file that Clara exported, run in the windows of the configuration's inferer."""
    inferer: Any = create("inferer", evaluation.inferer) if evaluation.inferer is not None else None
    size = getattr(inferer, "roi_size", None) or ((64, 64, 64) if evaluation.task == "segmentation" else (256, 256))
    engine = open_foreign_torchscript(file, _describe_model(evaluation, datalist), size)
    spec = engine.spec
    say(
        f"{file.name} was not exported by Voxflow: it takes {spec.in_channels} channel(s) and answers "
        f"{len(spec.class_names)} classes; the configuration says the rest"
    )
    return engine


def _read_training_network(file: Path) -> Component:
    """The network that a checkpoint of Clara 4.1 tells of in ``train_conf``.

    Raises:
        DataError: it tells of none, or of a class of the user's own.
    """
    configuration: Any = read_torch(file, "checkpoint of Clara 4.1")
    for key in ("train_conf", "train", "model"):
        configuration = configuration.get(key) if isinstance(configuration, dict) else None
    if not isinstance(configuration, dict) or not isinstance(configuration.get("name"), str):
        message = "it holds weights alone; describe its network under model in the place of ckpt_path"
        raise DataError(message, path=file)
    return Component(name=f"monai:{configuration['name']}", args=configuration.get("args") or {}, where="train_conf")
