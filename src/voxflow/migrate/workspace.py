"""What a migration reads of a workspace: its configuration, its trained model, what its data says of itself."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxflow.components import Component, complete_network, create, is_same_network, plain_name, read_network
from voxflow.config import load_workflow, read_json
from voxflow.errors import ConfigError, DataError
from voxflow.files import read_text
from voxflow.migrate.translation import Facts, list_fields
from voxflow.texts import parse_json
from voxflow.volumes import HIGHEST_LABEL

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch

    from voxflow.config import Workflow
    from voxflow.spec import ModelSpec

TRAIN, VALIDATION, ENVIRONMENT = "config_train.json", "config_validation.json", "environment.json"
# Where a trained model may lie below the folder of models: the stage's folder first, then where Clara's commands leave
# it.
MODELS = ("train/model.pt", "model.pt")
MASKED_DICE = ("DiceMaskedOutput", "dice_metric_masked_output")
CROPS = ("size", "spatial_size")
# How names of TensorFlow's files end: of a checkpoint its index and its graph, of an export the graph.
TENSORFLOW = (".index", ".meta", ".pb", ".h5", ".ckpt")


@dataclass(frozen=True)
class MigrationSource:
    """One workspace, read.

    Attributes:
        folder: the MMAR.
        workflow: its training configuration.
        validation: config_validation.json as it stands; empty when there is none.
        variables: environment.json.
        datalist: the datalist file; None when it isn't there.
        data_root: the folder that the datalist's paths begin in.
        model: the trained model of this configuration's network; None when there is none.
        foreign_models: models that were found and hold another network.
        unread_models: files of TensorFlow's models that were found.
        spec: what the trained model says of itself; None, too, where it holds weights alone.
        network: the network, as trained, else as configured.
        facts: what translators want to know.
    """

    folder: Path
    workflow: Workflow
    validation: dict[str, Any]
    variables: dict[str, Any]
    datalist: Path | None
    data_root: Path
    model: Path | None
    spec: ModelSpec | None
    network: Component
    facts: Facts
    foreign_models: tuple[Path, ...] = ()
    unread_models: tuple[Path, ...] = ()

    @property
    def weights_line(self) -> str:
        """Why the bundle has no weights; empty where it has some."""
        if self.model is not None:
            return ""
        if not self.foreign_models and self.unread_models:
            return f"no weights: {', '.join(map(str, self.unread_models))} is TensorFlow's, which can't be read"
        if not self.foreign_models:
            return "no weights: the workspace is not trained"
        names = ", ".join(map(str, self.foreign_models))
        return f"no weights: {names} is of another network than {self.workflow.path.name}; name its own by MMAR_CKPT"


def read_source(folder: Path, config: str = TRAIN, overrides: Mapping[str, Any] | None = None) -> MigrationSource:
    """Read a workspace.

    Args:
        folder: the MMAR.
        config: the training configuration below config/.
        overrides: values that win over the configuration, as for training.

    Raises:
        ConfigError: the configuration is faulty, or the number of classes can't be known.
        DataError: the trained model can't be read.
    """
    path = folder / "config" / config
    if not path.is_file():
        raise ConfigError("file not found; the first argument is an MMAR, a folder with config/", path=path)
    environment = folder / "config" / ENVIRONMENT
    variables = read_json(environment) if environment.is_file() else {}
    places = {"DATA_ROOT": variables.get("DATA_ROOT", "."), "DATASET_JSON": variables.get("DATASET_JSON", "")}
    places |= {"MMAR_ROOT": folder.as_posix(), "MMAR_CKPT_DIR": variables.get("MMAR_CKPT_DIR", "models")}
    workflow = load_workflow(
        path, environment=environment if environment.is_file() else None, overrides={**places, **(overrides or {})}
    )
    datalist = Path(str((overrides or {}).get("DATASET_JSON", places["DATASET_JSON"])))
    datalist = datalist if datalist.is_absolute() or datalist.is_file() else folder / "config" / datalist.name
    data_root = Path(str((overrides or {}).get("DATA_ROOT", places["DATA_ROOT"])))
    datalist_content = read_json(datalist) if datalist.is_file() else {}
    validation = folder / "config" / VALIDATION
    model, foreign, bare = _find_model(folder, workflow)
    network, spec = _read_trained(model) if model else (workflow.train.model, None)
    facts = _gather_facts(workflow, network, spec, datalist_content, data_root)
    if model is None and bare:
        fitting = [path for path in bare if _has_weights_of(network, facts, path)]
        model, foreign = next(iter(fitting), None), (*foreign, *(path for path in bare if path not in fitting))
    return MigrationSource(
        folder=folder,
        workflow=workflow,
        validation=read_json(validation) if validation.is_file() else {},
        variables=variables,
        datalist=datalist if datalist.is_file() else None,
        data_root=data_root,
        model=model,
        spec=spec,
        network=network,
        facts=facts,
        foreign_models=foreign,
        unread_models=_find_tensorflow(folder, workflow),
    )


def _find_model(folder: Path, workflow: Workflow) -> tuple[Path | None, tuple[Path, ...], tuple[Path, ...]]:
    """The trained model whose network is the configuration's, those of other networks, and those of weights alone.

    It is looked for where MMAR_CKPT_DIR says (``models`` by default), and then under the name MMAR_CKPT.
    """
    from voxflow.training import has_only_weights

    variables = workflow.variables
    models = _find_models_folder(folder, workflow)
    names = [models / name for name in MODELS]
    stated = str(variables.get("MMAR_CKPT") or "")
    candidates = [*names, *([folder / stated] if stated else [])]
    foreign: list[Path] = []
    bare: list[Path] = []
    for path in dict.fromkeys(path for path in candidates if path.is_file() and path.suffix not in TENSORFLOW):
        if has_only_weights(path):
            bare.append(path)
        elif is_same_network(workflow.train.model, _read_trained(path)[0]):
            return path, tuple(foreign), tuple(bare)
        else:
            foreign.append(path)
    return None, tuple(foreign), tuple(bare)


def _find_models_folder(folder: Path, workflow: Workflow) -> Path:
    return folder / str(workflow.variables.get("MMAR_CKPT_DIR") or "models")


def _find_tensorflow(folder: Path, workflow: Workflow) -> tuple[Path, ...]:
    """The files of a model that TensorFlow wrote."""
    models = _find_models_folder(folder, workflow)
    files = sorted(models.iterdir()) if models.is_dir() else []
    return tuple(file for file in files if file.is_file() and file.suffix in TENSORFLOW)


def _has_weights_of(network: Component, facts: Facts, path: Path) -> bool:
    """Whether a file of weights alone holds each of a network's."""
    try:
        build_trained_network(network, facts, path)
    except DataError:
        return False
    return True


def build_trained_network(network: Component, facts: Facts, path: Path) -> torch.nn.Module:
    """Build a network with the weights of a file that holds nothing else.

    Raises:
        DataError: the file lacks one of its weights.
    """
    from voxflow.training import build_with_weights

    complete = complete_network(network, in_channels=facts.in_channels, num_classes=facts.classes)
    return build_with_weights(complete, path)[0]


def _read_trained(model: Path) -> tuple[Component, ModelSpec]:
    """The network that the weights belong to, and its spec."""
    from voxflow.spec import ModelSpec
    from voxflow.training import read_checkpoint

    content = read_checkpoint(model)
    network = Component.model_validate(json.loads(content["network"]))
    return network, ModelSpec.model_validate_json(content["spec"])


def _gather_facts(
    workflow: Workflow, network: Component, spec: ModelSpec | None, datalist: Mapping[str, Any], data_root: Path
) -> Facts:
    typed = read_network(network)
    names = spec.class_names if spec else _find_class_names(workflow, typed.num_classes, datalist, data_root)
    crops = [c.args for c in workflow.train.pre_transforms if any(key in c.args for key in CROPS)]
    patch = next((crops[-1][key] for key in CROPS if key in crops[-1]), None) if crops else None
    return Facts(
        task=workflow.task,
        in_channels=spec.in_channels if spec else typed.in_channels or _count_channels(workflow, datalist),
        class_names=tuple(names),
        activation=spec.activation if spec else typed.final_activation,
        one_hot=bool(workflow.train.loss.args.get("is_onehot_targets")),
        patch=tuple(patch) if isinstance(patch, list) else None,
        learning_rate=workflow.globals.learning_rate,
        weight_decay=float(getattr(typed, "weight_decay", 0.0) or 0.0),
        spatial_dims=typed.spatial_dims,
        label_format=tuple(datalist.get("label_format") or ()),
        **_find_dice_fields(workflow, len(names)),
    )


def _find_dice_fields(workflow: Workflow, classes: int) -> dict[str, Any]:
    """Which outputs of auxiliary operations are Dice values, and of what."""
    for component in workflow.train.aux_ops:
        if component.path is None and plain_name(component.name) in MASKED_DICE:
            typed = create("aux_op", component)
            first = int(typed.skip_background and classes > 1)
            tags, judged = typed.tags, list(range(first, classes))
            channels = [None, *judged] if len(tags) in (1, len(judged) + 1) else judged
            fields = dict(zip(tags, channels, strict=False))
            return {"dice_fields": fields, "dice_background": not first}
    return {}


def _find_class_names(
    workflow: Workflow, count: int | None, datalist: Mapping[str, Any], data_root: Path
) -> tuple[str, ...]:
    """Names from the data where it says them, else numbers; the count must be known from somewhere."""
    labels = data_root / "labels.json"
    names_or_labels = parse_json(read_text(labels), labels) if labels.is_file() else datalist.get("labels", {})
    if isinstance(names_or_labels, dict) and isinstance(names_or_labels.get("findings"), list):
        names_or_labels = names_or_labels["findings"]
    if isinstance(names_or_labels, dict) and names_or_labels:
        numbered = {int(value): str(name) for value, name in names_or_labels.items()}
        if not 0 <= min(numbered) <= max(numbered) <= HIGHEST_LABEL:
            raise DataError(f"label values must be 0 to {HIGHEST_LABEL}", path=labels)
        names = tuple(numbered.get(value, f"class_{value}") for value in range(max(numbered) + 1))
    else:
        names = tuple(str(name) for name in names_or_labels or ())
    if not names and isinstance(datalist.get("label_format"), list):
        names = tuple(f"finding_{n}" for n in range(len(datalist["label_format"])))
    if count is not None and len(names) != count:
        names = tuple(f"class_{n}" for n in range(count))
    if not names:
        key = "num_classes" if workflow.dialect == "tlt2" else "train.model.args.num_classes"
        raise ConfigError(
            "the number of classes is stated nowhere: neither by a trained model, the datalist's labels nor the "
            f"network; give --set {key}=N",
            path=workflow.path,
            where="train.model.args",
        )
    return names


def _count_channels(workflow: Workflow, datalist: Mapping[str, Any]) -> int:
    """Channels after the transforms: files an image, times what RepeatChannel repeats."""
    key = workflow.train.image_pipeline.args.get("data_list_key", "training")
    items = datalist.get(key) or []
    image = items[0].get("image") if items and isinstance(items[0], dict) else None
    modality = datalist.get("modality")
    count = len(image) if isinstance(image, list) else len(modality) if isinstance(modality, dict) else 1
    repeats = [
        component.args.get("repeat_times", 1)
        for component in workflow.train.pre_transforms
        if component.name == "RepeatChannel" and "image" in list_fields(component.args)
    ]
    return int(count * max([1, *repeats]))
