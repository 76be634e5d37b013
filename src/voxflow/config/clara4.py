"""The dialect ``clara4``: config_train.json of Clara Train 4, whose components are MONAI's own classes.

What Clara 4 wires by hand (trainer, data loaders, handlers) is Voxflow's loop, so those are read for what they say of
it: how often validation comes, how large a batch is, when the learning rate changes. Longer than most files: one
function for each of those.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from voxflow.components import Component
from voxflow.config.clara4_reading import (
    CACHED,
    LOADER,
    SINGLE_KEYS,
    TRAIN_KEYS,
    VALIDATE_KEYS,
    Clara4Reader,
    check_forms,
    is_disabled,
    is_key_metric,
    list_enabled,
    modernise_name,
    strip_metric,
)
from voxflow.config.reading import choose_component
from voxflow.config.references import UnreadableReferenceError, is_reference, read_reference
from voxflow.config.values import infer_task, read_values
from voxflow.config.workflow import Globals, TrainSection, ValidateSection, Workflow
from voxflow.findings import show, suggest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from voxflow.components import Kind
    from voxflow.config.source import ConfigSource

SECTIONS = ("train", "validate")
# Globals of Clara 4 and what they are called here; the others are variables of the file's own.
GLOBALS = {
    "epochs": "epochs",
    "num_interval_per_valid": "num_training_epoch_per_valid",
    "num_training_epoch_per_valid": "num_training_epoch_per_valid",
    "learning_rate": "learning_rate",
    "multi_gpu": "multi_gpu",
    "determinism": "determinism",
    "amp": "use_amp",
    "use_amp": "use_amp",
}
NOT_COMPARED = ("Invertd", "SaveImaged")


def is_clara4(config: Mapping[str, Any]) -> bool:
    """Whether a file is in this dialect: its sections hold datasets and trainers of MONAI."""
    sections = [config, *(config.get(name) for name in SECTIONS)]
    keys = {key for section in sections if isinstance(section, dict) for key in section}
    return bool(keys & {"dataset", "dataloader", "trainer", "evaluator", "lr_scheduler"})


def read_workflow(source: ConfigSource) -> Workflow:
    """Read config_train.json of Clara Train 4: MONAI's components, and what trainer and handlers say of the loop.

    Args:
        source: the file's content and what overrides it; takes the findings.

    Raises:
        FaultyConfigError: every fault at once.
    """
    plain = {key for key, value in source.config.items() if key not in SECTIONS and not isinstance(value, list)}
    config = source.settle([*plain, *GLOBALS], SECTIONS)
    train, validate = (_read_section(source, config, name) for name in SECTIONS)
    reader = Clara4Reader.for_source(source, config)
    values = _read_globals(source, config, train)
    parts = _LoopReader(reader, train, validate, epochs=values.epochs if values else 1)
    pipelines = [parts.read_pipeline(section, name) for section, name in zip((train, validate), SECTIONS, strict=True)]
    task = infer_task(source, parts.task, pipelines[0])
    sections = parts.read_train(pipelines[0]), parts.read_validate(pipelines[1])
    source.findings.raise_errors()
    return Workflow(
        task=task,
        path=source.path,
        globals=values,  # type: ignore[arg-type]  # None only where it has findings
        train=TrainSection(**sections[0]),
        validate=ValidateSection(**sections[1]),
        dialect="clara4",
        start_weights=parts.find_start_weights(),
        variables=source.variables,
    )


def _read_section(source: ConfigSource, config: Mapping[str, Any], name: str) -> dict[str, Any]:
    section = config.get(name)
    keys = TRAIN_KEYS if name == "train" else VALIDATE_KEYS
    if not isinstance(section, dict):
        source.findings.error(
            "wrong-value", name, f"expected an object with {', '.join(keys)}, received {show(section)}"
        )
        return {}
    for key in section.keys() - set(keys):
        source.findings.error("unknown-key", f"{name}.{key}", "unknown key", suggest(key, keys, present=section))
    parts = {key: check_forms(value, f"{name}.{key}", source.findings) for key, value in section.items()}
    for key in parts.keys() & set(SINGLE_KEYS):
        component, _ = choose_component(key, parts[key], f"{name}.{key}", source.findings)
        # One that can't be chosen has its finding; the first then stands for it, so that it isn't called missing, too.
        parts[key] = parts[key][0] if component is None and parts[key] else component
    return parts


def _read_globals(source: ConfigSource, config: Mapping[str, Any], train: Mapping[str, Any]) -> Globals | None:
    """The values that training knows; the file's other values are variables that stand where they are used."""
    global_values = {new: config[old] for old, new in GLOBALS.items() if old in config}
    for handler in list_enabled(train.get("handlers")):
        interval = (handler.get("args") or {}).get("interval")
        if handler.get("name") == "ValidationHandler" and interval is not None:
            global_values["num_training_epoch_per_valid"] = interval
    trainer = train.get("trainer")
    args = trainer.get("args", {}) if isinstance(trainer, dict) else {}
    for argument, name in (("max_epochs", "epochs"), ("amp", "use_amp")):
        if argument in args:
            global_values[name] = args[argument]
    if isinstance(global_values.get("determinism"), dict):
        seeds = global_values["determinism"]
        global_values["determinism"] = {
            key: seeds[key] for key in seeds if key in ("random_seed", "python_seed", "numpy_seed")
        }
    return read_values(Globals, global_values, source)


@dataclass
class _LoopReader:
    """Reads the sections ``train`` and ``validate`` for what they say of the loop: parts, batches, steps, validation.

    Attributes:
        reader: reads the components and takes the findings.
        train_section: the section ``train`` as it stands in the file.
        validate_section: the section ``validate`` likewise.
        epochs: of the whole training, for learning-rate schedulers.
    """

    reader: Clara4Reader
    train_section: Mapping[str, Any]
    validate_section: Mapping[str, Any]
    epochs: int

    def __post_init__(self) -> None:
        self.transforms = {
            name: self._read_transforms(section, name)
            for name, section in (("train", self.train_section), ("validate", self.validate_section))
        }
        for name, section in (("train", self.train_section), ("validate", self.validate_section)):
            self._check_engine(section, name)
            self._check_handlers(section, name)

    @property
    def task(self) -> Any:
        """Segmentation where a mask is loaded, else classification."""
        loaded = [c.args.get("keys", []) for c in self.transforms["train"] if c.name.endswith("LoadImaged")]
        return "segmentation" if any("label" in keys for keys in loaded if isinstance(keys, list)) else "classification"

    def read_train(self, pipeline: Component | None) -> dict[str, Any]:
        """Read the parts of training, by the fields of :class:`~voxflow.config.workflow.TrainSection`."""
        read, section = self.reader.read_component, self.train_section
        parts: dict[str, Any] = {"pre_transforms": self.transforms["train"], "image_pipeline": pipeline}
        kinds: dict[str, Kind] = {"model": "network", "loss": "loss", "optimizer": "optimizer"}
        for key, kind in kinds.items():
            if key not in section:
                self.reader.findings.error("missing-component", f"train.{key}", f"missing; a {kind} is needed")
                continue
            value = section[key]
            if key == "model":
                value = self._add_activation(value)
            parts[key] = read(kind, value, f"train.{key}")
        if section.get("lr_scheduler") is not None:
            parts["lr_policy"] = read("lr_policy", self._add_steps(section["lr_scheduler"]), "train.lr_scheduler")
        if section.get("key_metric") or section.get("additional_metrics"):
            self.reader.findings.warning("ignored", "train", "metrics are computed in validation only")
        if "inferer" in section:
            read("inferer", section["inferer"], "train.inferer")
        return parts

    def read_validate(self, pipeline: Component | None) -> dict[str, Any]:
        """Read the parts of validation, by the fields of :class:`~voxflow.config.workflow.ValidateSection`."""
        section = self.validate_section
        parts: dict[str, Any] = {"pre_transforms": self.transforms["validate"], "image_pipeline": pipeline}
        parts["inferer"] = self.reader.read_component(
            "inferer", section.get("inferer", {"name": "SimpleInferer"}), "validate.inferer"
        )
        post = self.reader.read_list(
            "transform", self._disable_saving(section.get("post_transforms", [])), "validate.post_transforms"
        )
        # Inference inverts orientation and spacing by the affine; a zoomed or resized grid has no way back.
        if self.task == "segmentation":
            for component in self.transforms["validate"]:
                if component.name in ("monai:Resized", "monai:Zoomd"):
                    plain = component.name.removeprefix("monai:")
                    message = f"{plain} changes the grid, and inference could not return masks to the image"
                    self.reader.findings.error("wrong-value", component.where, message, "use Spacingd")
        parts["metrics"] = tuple(metric for metric in self._read_metrics(section, post) if metric is not None)
        return parts

    def _read_transforms(self, section: Mapping[str, Any], name: str) -> tuple[Component, ...]:
        return self.reader.read_list("transform", section.get("pre_transforms", []), f"{name}.pre_transforms")

    def _disable_saving(self, items: Any) -> Any:
        """The transforms that predictions are compared after; on the network's own grid, and without being saved."""
        if not isinstance(items, list):
            return items
        skipped = [i for i in items if isinstance(i, dict) and modernise_name(str(i.get("name"))) in NOT_COMPARED]
        for item in skipped:
            self.reader.findings.warning("ignored", item["name"], "validation compares on the network's grid")
        # Disabled instead of left out, so that the others keep their places in errors.
        return [item | {"disabled": True, "args": {}} if item in skipped else item for item in items]

    def _read_metrics(self, section: Mapping[str, Any], post: tuple[Component, ...]) -> list[Component | None]:
        metrics: list[tuple[str, Any, bool]] = []
        for key in ("key_metric", "metrics", "additional_metrics"):
            value = section.get(key)
            if isinstance(value, list):
                metrics += [
                    (f"validate.{key}[{n}]", metric, is_key_metric(metric, key == "key_metric" and n == 0))
                    for n, metric in enumerate(value)
                ]
            elif value is not None:
                metrics.append((f"validate.{key}", value, key == "key_metric"))
        return [self._read_metric(json_path, metric, post, is_key=is_key) for json_path, metric, is_key in metrics]

    def _read_metric(
        self, json_path: str, metric: Any, post: tuple[Component, ...], *, is_key: bool
    ) -> Component | None:
        if not isinstance(metric, dict) or not isinstance(metric.get("name"), str):
            return self.reader.read_component("metric", metric, json_path)
        transforms = [{"name": component.name, "args": component.args} for component in post]
        arguments = self.reader.read_metric_arguments(metric, json_path)
        fields = {"pred", "label"} | {name for step in post for name in (step.typed.makes() if step.typed else ())}
        for name in arguments.get("compared", ()) if all(step.typed for step in post) else ():
            if name not in fields:
                message = f"{metric['name']} reads the field {name!r}, which post_transforms do not make"
                place = f"{json_path}.args.output_transform"
                self.reader.findings.error("field-not-made", place, message, suggest(name, fields))
        args = {"is_key_metric": is_key, "post_transforms": transforms, **arguments}
        component = self.reader.read_component("metric", strip_metric(metric) | {"args": args}, json_path)
        if component is None or component.typed is None or not all(transform.typed for transform in post):
            return component
        # The transforms are parsed already; each metric would parse them again, for every batch that it measures.
        return component.with_typed(component.typed.model_copy(update={"post_transforms": post}))

    def read_pipeline(self, section: Mapping[str, Any], name: str) -> Component | None:
        """Read dataset and data loader as one of Voxflow's image pipelines.

        Args:
            section: the section as it stands in the file.
            name: "train" or "validate".

        Returns:
            None where there is no dataset, which is noted.
        """
        dataset, loader = section.get("dataset"), section.get("dataloader", {})
        if not isinstance(dataset, dict) or not isinstance(loader, dict):
            message = f"expected a dataset such as CacheDataset, received {show(dataset)}"
            self.reader.findings.error("wrong-value", f"{name}.dataset", message)
            return None
        self.reader.check_data(dataset, loader, f"{name}.")
        kind = "Segmentation" if self.task == "segmentation" else "Classification"
        cached = dataset.get("name") in CACHED and kind == "Segmentation"
        settings = loader.get("args") or {}
        dimensions = 3 if kind == "Segmentation" else 2
        args = {
            "data_list_file_path": str(dataset.get("data_list_file_path", "")),
            "data_file_base_dir": str(dataset.get("data_file_base_dir", "")),
            "data_list_key": str(dataset.get("data_list_key", "training" if name == "train" else "validation")),
            "output_crop_size": [-1] * dimensions,
            "output_batch_size": settings.get("batch_size", 1),
            "num_workers": settings.get("num_workers", 0),
        }
        component = Component(name=f"{kind}ImagePipeline{'WithCache' * cached}", args=args, where=f"{name}.dataset")
        return self.reader.check_component("pipeline", component)

    def _add_activation(self, model: Any) -> Any:
        """The network with what its logits become probabilities by: as the loss says, else the post transforms."""
        if not isinstance(model, dict):
            return model
        loss = self.train_section.get("loss")
        says = dict(loss.get("args") or {}) if isinstance(loss, dict) else {}
        for item in list_enabled(self.validate_section.get("post_transforms")):
            if item.get("name") == "Activationsd":
                says = {**(item.get("args") or {}), **{key: value for key, value in says.items() if value}}
        is_binary = isinstance(loss, dict) and loss.get("name") == "BCEWithLogitsLoss"
        activation = "sigmoid" if (says.get("sigmoid") or is_binary) and not says.get("softmax") else "softmax"
        return model | {"args": {"final_activation": activation, **(model.get("args") or {})}}

    def _add_steps(self, scheduler: Any) -> Any:
        """The scheduler with when it steps: MONAI's handler does once an epoch unless told else."""
        if not isinstance(scheduler, dict) or is_disabled(scheduler):
            return scheduler
        enabled = list_enabled(self.train_section.get("handlers"))
        handlers = [handler for handler in enabled if handler.get("name") == "LrScheduleHandler"]
        if not handlers:
            message = "no LrScheduleHandler steps it; add one to train.handlers"
            self.reader.findings.error("wrong-value", "train.lr_scheduler", message)
        by_epoch = all((handler.get("args") or {}).get("epoch_level", True) for handler in handlers)
        schedule = {"training_epochs": self.epochs, "by_epoch": by_epoch}
        return scheduler | {"args": {**(scheduler.get("args") or {}), **schedule}}

    def _check_handlers(self, section: Mapping[str, Any], name: str) -> None:
        """Check handlers by name and reference; what they do is Voxflow's loop."""
        for number, item in enumerate(section.get("handlers") or []):
            if isinstance(item, dict) and not is_disabled(item):
                self.reader.check_handler(item, f"{name}.handlers[{number}]")

    def find_start_weights(self) -> str:
        """The file that an enabled CheckpointLoader of training loads; empty: none."""
        loaders = [item for item in list_enabled(self.train_section.get("handlers")) if item["name"] == LOADER]
        return next((str(item.get("args", {}).get("load_path") or "") for item in loaders), "")

    def _check_engine(self, section: Mapping[str, Any], name: str) -> None:
        """Check what the trainer or evaluator is wired to."""
        key = "trainer" if name == "train" else "evaluator"
        engine = section.get(key)
        if engine is None:
            return
        engines = ("SupervisedTrainer", "SupervisedEvaluator")
        if not isinstance(engine, dict) or engine.get("name") not in engines:
            engine_name = engine.get("name") if isinstance(engine, dict) else engine
            fix = f"known: {', '.join(engines)}"
            self.reader.findings.error("wrong-value", f"{name}.{key}.name", f"{engine_name!r} has another loop", fix)
            return
        for argument, value in (engine.get("args") or {}).items():
            if not is_reference(value):
                continue
            try:
                read_reference(value, sorted({*TRAIN_KEYS, *VALIDATE_KEYS}))
            except UnreadableReferenceError as error:
                self.reader.findings.error(error.code, f"{name}.{key}.args.{argument}", error.message, error.fix)
