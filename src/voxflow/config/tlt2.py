"""The dialect ``tlt2``: configurations of tlt-train of TLT 2.0; those of tlt-evaluate have a file of their own.

A component's arguments stand flat beside its name, which carries TLT's module (``transforms.LoadNifty``). What Clara
3 states in components of their own, image pipelines and the inferer, follows here from values at the top of the file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
)

from voxflow.components import Component, canonical_name, find_component
from voxflow.config.check import attach_typed, list_argument_names
from voxflow.config.reading import SEARCH_KEYS, ComponentReader, find_components
from voxflow.config.values import infer_task, read_values
from voxflow.config.workflow import Globals, TrainSection, ValidateSection, Workflow
from voxflow.findings import show, suggest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from voxflow.components import ComponentModel, Kind
    from voxflow.config.reading import SectionLayout
    from voxflow.config.source import ConfigSource
    from voxflow.spec import Task

TOP: SectionLayout = {"net_config": ("network", False), "auxiliary_outputs": ("aux_op", True)}
TRAIN: SectionLayout = {
    "loss": ("loss", False),
    "optimizer": ("optimizer", False),
    "lr_policy": ("lr_policy", False),
    "pre_transforms": ("transform", True),
}
VALIDATE: SectionLayout = {"pre_transforms": ("transform", True), "metrics": ("metric", True)}
SECTIONS = ("train", "validate")
# The modules that TLT writes before a component's name.
MODULES = (
    "transforms",
    "transforms_ctrl",
    "transforms_fastaug",
    "losses",
    "lr_policy",
    "common.metrics.metrics",
    "writers",
)
# TLT's words for arguments that Clara 3 calls otherwise.
CLARA3_WORDS = {
    "tag": "name",
    "tags": "tag",
    "applied_key": "field",
    "applied_keys": "fields",
    "label_key": "label_field",
    "stopping_metric": "is_key_metric",
}
_ONLY_TLT2 = ("net_config", "auxiliary_outputs", "input_nodes", "output_nodes")
SIGNS_OF_RADIOGRAPHS = frozenset(("tlt2:LoadPng", "LoadPng", "tlt2:MetricAUC", "tlt2:WriteClassificationResults"))


class Tlt2Values(BaseModel):
    """The plain values at the top of a training configuration.

    Attributes:
        image_base_dir: the folder that the datalist's paths begin in; ``--file_root`` wins over it.
        num_channels: channels of the image.
        num_label_channels: channels of the label once its transforms have run.
        num_classes: channels of the network's answer.
        batch_size: images a step.
        num_workers: threads that prepare batches ahead.
        network_input_size: what every training image is cropped or padded to.
        use_scanning_window: validation slides a window of that size over the whole image.
        weight_decay: L2 penalty of the weights.
        data_format: accepted; the memory layout is chosen by what is fastest.
        learning_rate: for ``--set``; wins over the optimizer's ``lr``.

    The others are as in :class:`~voxflow.config.workflow.Globals`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    description: str = ""
    image_base_dir: str = ""
    num_channels: PositiveInt | None = None
    num_label_channels: PositiveInt | None = None
    num_classes: PositiveInt | None = None
    batch_size: PositiveInt = 1
    epochs: PositiveInt = 1
    num_workers: NonNegativeInt = 0
    network_input_size: tuple[PositiveInt, ...] | None = Field(default=None, min_length=2, max_length=3)
    num_training_epoch_per_valid: PositiveInt = 1
    record_step: PositiveInt | Literal["every_epoch", "best_only"] | None = None
    use_scanning_window: bool = False
    continue_from_checkpoint_epoch: bool = False
    multi_gpu: bool = False
    weight_decay: NonNegativeFloat | None = None
    data_format: Literal["channels_first", "channels_last"] | None = None
    learning_rate: PositiveFloat | None = None


class Tlt2Reader(ComponentReader):
    """Reads components whose arguments stand beside their names."""

    keys = ("name", "path", "disabled")
    dialect = "tlt2"
    flat = True

    def example(self) -> str:
        """How a component looks, for errors."""
        return '{"name": ..., "fields": ...}'

    def read_arguments(self, content: Mapping[str, Any], json_path: str) -> dict[str, Any] | None:
        """Everything beside the name."""
        args = {key: value for key, value in content.items() if key not in self.keys and key not in SEARCH_KEYS}
        if isinstance(args.get("args"), dict):
            message = "TLT 2 writes arguments beside the name; move them out of args"
            self.findings.error("wrong-value", f"{json_path}.args", message)
            return None
        return args

    def resolve_name(self, kind: Kind, component: Component) -> Component:
        """Find TLT 2's own component of that name, or else Clara 3's, whose arguments are then renamed."""
        if component.path:
            return component
        module, _, plain = component.name.replace(" ", "").rpartition(".")
        if module and module not in MODULES:
            message = f"unknown module {module!r} before {plain!r}"
            self.findings.error("unknown-component", f"{component.where}.name", message, suggest(module, MODULES))
        canonical = canonical_name(plain, "tlt2")
        model = find_component(kind, canonical)
        if model is not None:
            return component.model_copy(update={"name": canonical, "args": _rename_tag(model, component.args)})
        fallback = find_component(kind, plain)
        if fallback is not None:
            return component.model_copy(update={"name": plain, "args": _translate_arguments(fallback, component.args)})
        return component.model_copy(update={"name": canonical})


def is_tlt2(config: Mapping[str, Any]) -> bool:
    """Whether a file is in this dialect.

    It is, where it has a key that TLT 2 alone knows, or writes the arguments of most components beside their names.
    """
    if any(key in config for key in _ONLY_TLT2):
        return True
    components = [component for _, component in find_components(config)]
    # Some files of Clara 3 have a component without "args", and some of TLT 2 one without any argument: most decide.
    nested = sum("args" in component for component in components)
    flat = sum(bool(component.keys() - {*ComponentReader.keys, *SEARCH_KEYS}) for component in components)
    return flat > nested


def read_workflow(source: ConfigSource) -> Workflow:
    """Read a configuration of tlt-train; what it states at the top of the file goes to components, as in Clara 3.

    Args:
        source: the file's content and what overrides it; takes the findings.

    Raises:
        FaultyConfigError: every fault at once.
    """
    config = source.settle(Tlt2Values.model_fields, (*TOP, *SECTIONS))
    parsed_values = read_values(Tlt2Values, config, source, component_keys=(*TOP, *SECTIONS))
    values = parsed_values or Tlt2Values()
    config = _move_into_components(config, values)
    reader = Tlt2Reader.for_source(source, config)
    top = reader.read_section(config, TOP, "")
    reader.require_components(config, TOP, ("net_config",))
    train = reader.read_object(config, "train", TRAIN, needed=("loss", "optimizer"))
    validate = reader.read_object(config, "validate", VALIDATE)
    task = infer_task(source, _infer_task(top, train, values))
    if parsed_values is not None:
        _check_window(values, source)
    metrics = _strip_prefixes(validate.get("metrics", ()), top.get("auxiliary_outputs", ()), source)
    source.findings.raise_errors()
    base = str(source.variables.setdefault("DATA_ROOT", values.image_base_dir))
    datalist = str(source.variables.get("DATASET_JSON", ""))
    return Workflow(
        task=task,
        path=source.path,
        globals=_make_globals(values, train["optimizer"]),
        train=TrainSection(
            model=top["net_config"],
            image_pipeline=_make_pipeline(task, values, base, datalist, key="training"),
            aux_ops=top.get("auxiliary_outputs", ()),
            **train,
        ),
        validate=ValidateSection(
            image_pipeline=_make_pipeline(task, values, base, datalist, key="validation"),
            inferer=_make_inferer(values),
            metrics=metrics,
            pre_transforms=validate.get("pre_transforms", ()),
        ),
        dialect="tlt2",
        variables=source.variables,
    )


def _move_into_components(config: dict[str, Any], values: Tlt2Values) -> dict[str, Any]:
    """Put what TLT states at the top of the file where the model of a workflow has it: into its components."""
    spread = {**config}
    network, train = config.get("net_config"), config.get("train")
    if isinstance(network, dict):
        unnamed = {"pretrain_weight_name": ""} if network.get("pretrain_weight_name", "") is None else {}
        network = network | unnamed
        top_values: dict[str, Any] = {"in_channels": values.num_channels, "num_classes": values.num_classes}
        top_values |= {"weight_decay": values.weight_decay, "data_format": values.data_format}
        takes = _find_argument_names("network", network)
        network_values = {key: value for key, value in top_values.items() if value is not None and key in takes}
        spread["net_config"] = network = network_values | network
    if isinstance(train, dict):
        train = dict(train)
        if "transforms" in train and "pre_transforms" not in train:
            train["pre_transforms"] = train.pop("transforms")  # the guide's own table calls them so
        optimizer = train.get("optimizer")
        if isinstance(optimizer, dict):
            train["optimizer"] = _complete_optimizer(
                optimizer, values, has_decay=isinstance(network, dict) and "weight_decay" in network
            )
        spread["train"] = train
    return spread


def _complete_optimizer(optimizer: dict[str, Any], values: Tlt2Values, *, has_decay: bool) -> dict[str, Any]:
    """The optimizer with the rate of ``--set``, and the decay that its network has no place for."""
    completed = dict(optimizer)
    if values.learning_rate is not None:
        completed["lr"] = values.learning_rate
    if (
        values.weight_decay is not None
        and not has_decay
        and "weight_decay" in _find_argument_names("optimizer", optimizer)
    ):
        completed.setdefault("weight_decay", values.weight_decay)
    return completed


def _find_argument_names(kind: Kind, component: Mapping[str, Any]) -> set[str]:
    """The arguments that the component named here takes, as far as it is known."""
    if component.get("path"):
        return {"in_channels", "num_classes"} if kind == "network" else {"weight_decay"}
    plain = str(component.get("name", "")).replace(" ", "").rpartition(".")[2]
    model = find_component(kind, canonical_name(plain, "tlt2")) or find_component(kind, plain)
    return set(list_argument_names(model)) if model else set()


def _rename_tag(model: type[ComponentModel], args: dict[str, Any]) -> dict[str, Any]:
    """``tag`` as ``name`` where the component has no ``tag`` of its own; TLT could not write a second ``name``."""
    names = list_argument_names(model)
    if "tag" in args and "tag" not in names and "name" in names:
        return {"name" if key == "tag" else key: value for key, value in args.items()}
    return args


def _translate_arguments(model: type[ComponentModel], args: dict[str, Any]) -> dict[str, Any]:
    """TLT's words for arguments as those of a component of Clara 3's."""
    names = list_argument_names(model)

    def word(key: str) -> str:
        translation = CLARA3_WORDS.get(key)
        return translation if translation in names and key not in names else key

    return {word(key): value for key, value in args.items()}


def _infer_task(top: Mapping[str, Any], train: Mapping[str, Any], values: Tlt2Values) -> Task:
    names = {component.name for component in train.get("pre_transforms", ())}
    network = top.get("net_config")
    is_flat = values.network_input_size is not None and len(values.network_input_size) == 2
    if is_flat or names & SIGNS_OF_RADIOGRAPHS or (network is not None and "dense" in network.name.lower()):
        return "classification"
    return "segmentation"


def _check_window(values: Tlt2Values, source: ConfigSource) -> None:
    if values.use_scanning_window and (values.network_input_size is None or len(values.network_input_size) != 3):
        size = None if values.network_input_size is None else list(values.network_input_size)
        message = f"needs network_input_size [i, j, k] for its window, received {size}"
        source.findings.error("wrong-value", "use_scanning_window", message)


def _make_globals(values: Tlt2Values, optimizer: Component) -> Globals:
    plain_values = values.model_dump(include=set(Globals.model_fields) - {"learning_rate"})
    rate = optimizer.args.get("lr", values.learning_rate)
    return Globals(**plain_values, **({"learning_rate": rate} if rate else {}))


def _make_pipeline(task: Task, values: Tlt2Values, base: str, datalist: str, *, key: str) -> Component:
    """The image pipeline that the values at the top of the file describe."""
    axes = 2 if task == "classification" else 3
    size = list(values.network_input_size or [-1] * axes)
    is_whole = key == "validation" and values.use_scanning_window
    args = {
        "data_list_file_path": datalist,
        "data_file_base_dir": base,
        "data_list_key": key,
        "output_crop_size": [-1] * axes if is_whole else size,
        "output_batch_size": 1 if is_whole else values.batch_size,
        "num_workers": values.num_workers,
    }
    if task == "classification" and values.num_channels is not None:
        args["output_image_channels"] = values.num_channels
    name = "ClassificationImagePipeline" if task == "classification" else "SegmentationImagePipeline"
    return attach_typed("pipeline", Component(name=name, args=args, where="network_input_size"))


def _make_inferer(values: Tlt2Values) -> Component:
    """How validation brings an image through the network."""
    if values.use_scanning_window:
        size = {"roi_size": list(values.network_input_size or ())}
        window = Component(name="TFScanWindowInferer", args=size, where="use_scanning_window")
        return attach_typed("inferer", window)
    return attach_typed("inferer", Component(name="TFSimpleInferer", where="use_scanning_window"))


def _list_tags(operations: tuple[Component, ...]) -> tuple[str, ...]:
    """What auxiliary outputs are called."""
    tags: list[str] = []
    for operation in operations:
        value = operation.args.get("tags", operation.args.get("tag"))
        if not isinstance(value, str | list):
            continue  # its own check has said so
        tags += [value] if isinstance(value, str) else [tag for tag in value if isinstance(tag, str)]
    return tuple(tags)


def _strip_prefixes(
    metrics: tuple[Component, ...], operations: tuple[Component, ...], source: ConfigSource
) -> tuple[Component, ...]:
    """Metrics that read ``val_TAG`` read the auxiliary output TAG: a workflow has one list of them for both phases."""
    tags = _list_tags(operations)
    words = {f"val_{tag}": tag for tag in tags}
    stripped: list[Component] = []
    for metric in metrics:
        args = dict(metric.args)
        for key in ("applied_key", "label_key", "field", "label_field"):
            value = args.get(key)
            if not isinstance(value, str):
                continue
            if value.startswith("val_") and value not in words and tags:
                message = f"no auxiliary output makes {show(value)}"
                source.findings.error("wrong-value", f"{metric.where}.{key}", message, suggest(value, words))
            if value.startswith("train_") and value.removeprefix("train_") in tags:
                right_name = f"val_{value.removeprefix('train_')}"
                message = f"validation does not know {show(value)}"
                source.findings.error("wrong-value", f"{metric.where}.{key}", message, f"use {right_name!r}")
            args[key] = words.get(value, value)
        stripped.append(_rename_fields(metric, args))
    return tuple(stripped)


def _rename_fields(metric: Component, args: dict[str, Any]) -> Component:
    """The metric with other names of fields, in its typed arguments too: a text in the place of a text."""
    changed = {key: value for key, value in args.items() if value != metric.args[key]}
    if not changed:
        return metric
    if metric.typed is None:
        return metric.model_copy(update={"args": args})
    fields = {name: changed[word] for name, word in _list_words(type(metric.typed)) if word in changed}
    typed = metric.typed.model_copy(update=fields)
    return metric.model_copy(update={"args": args}).with_typed(typed)


def _list_words(model: type[ComponentModel]) -> Iterator[tuple[str, str]]:
    """Each field of a component with each word that configurations write for it."""
    for name, field in model.model_fields.items():
        alias = field.validation_alias
        words = alias.choices if isinstance(alias, AliasChoices) else (alias,)
        yield from ((name, word) for word in (name, *words) if isinstance(word, str))
