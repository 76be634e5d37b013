"""Owns the dialect ``clara4``: config_train.json of Clara Train 4, whose components are MONAI's own classes.

What Clara 4 wires by hand (trainer, data loaders, handlers) is Voxflow's loop, so those are read for what they say of
it: how often validation comes, how large a batch is, when the learning rate changes. Longer than most files: one
function for each of those.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from voxflow.components import Component
from voxflow.config.reading import ComponentReader
from voxflow.config.references import UnreadableReferenceError, is_known_output, is_reference, read_reference
from voxflow.config.values import read_values, task_of
from voxflow.config.workflow import Globals, TrainSection, ValidateSection, Workflow
from voxflow.findings import DEFAULT_CODE, FaultyConfigError, Finding, show, suggest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from voxflow.components import Kind
    from voxflow.config.source import Source
    from voxflow.config.workflow import Evaluation

SECTIONS = ("train", "validate")
TRAIN_KEYS = [
    "model",
    "loss",
    "optimizer",
    "lr_scheduler",
    "pre_transforms",
    "post_transforms",
    "dataset",
    "dataloader",
    "inferer",
    "handlers",
    "key_metric",
    "additional_metrics",
    "metrics",
    "trainer",
]
VALIDATE_KEYS = [
    "pre_transforms",
    "post_transforms",
    "dataset",
    "dataloader",
    "inferer",
    "handlers",
    "key_metric",
    "additional_metrics",
    "metrics",
    "evaluator",
]
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
# Which reference an argument may hold; Voxflow wires the same.
WIRED = {
    "params": "@model.parameters()",
    "optimizer": "@optimizer",
    "transform": "@pre_transforms",
    "dataset": "@dataset",
    "lr_scheduler": "@lr_scheduler",
    "validator": "@evaluator",
}
HANDLERS = [
    "CheckpointLoader",
    "CheckpointSaver",
    "ClassificationSaver",
    "GarbageCollector",
    "LrScheduleHandler",
    "MetricLogger",
    "MetricsSaver",
    "SegmentationSaver",
    "SmartCacheHandler",
    "StatsHandler",
    "TensorBoardImageHandler",
    "TensorBoardStatsHandler",
    "ValidationHandler",
]
CACHED = ("CacheDataset", "SmartCacheDataset", "PersistentDataset", "LMDBDataset", "CacheNTransDataset")
DATASETS = (*CACHED, "Dataset")
NOT_COMPARED = ("Invertd", "SaveImaged")
OUTPUT_ARGUMENTS = ("output_transform", "batch_transform", "global_epoch_transform")


def detect(config: Mapping[str, Any]) -> bool:
    """Whether a file is in this dialect: its sections hold datasets and trainers of MONAI."""
    sections = [config.get(name) for name in SECTIONS]
    keys = {key for section in sections if isinstance(section, dict) for key in section}
    return bool(keys & {"dataset", "dataloader", "trainer", "evaluator", "lr_scheduler"})


def read_workflow(source: Source) -> Workflow:
    """Read config_train.json; faults are in ``source.findings``, raised at the end."""
    plain = {key for key, value in source.config.items() if key not in SECTIONS and not isinstance(value, list)}
    config = source.settle([*plain, *GLOBALS], SECTIONS)
    train, validate = (_section(source, config, name) for name in SECTIONS)
    reader = Clara4Reader.of(source, config)
    values = _globals(source, config, train)
    parts = _Parts(reader, train, validate, epochs=values.epochs if values else 1)
    pipelines = [parts.pipeline(section, name) for section, name in zip((train, validate), SECTIONS, strict=True)]
    task = task_of(source, parts.task, pipelines[0])
    made = parts.train(pipelines[0]), parts.validate(pipelines[1])
    source.findings.raise_errors()
    return Workflow(
        task=task,
        path=source.path,
        globals=values,  # type: ignore[arg-type]  # None only where it has findings
        train=TrainSection(**made[0]),
        validate=ValidateSection(**made[1]),
        dialect="clara4",
        variables=source.variables,
    )


def read_evaluation(source: Source) -> Evaluation:
    """Refuse: the model file that training writes says itself how images are prepared."""
    message = (
        "configurations of validation in Clara 4's form are not read; evaluate and infer by the workspace's stages, "
        "which take what they need from the trained model"
    )
    raise FaultyConfigError.of(Finding(DEFAULT_CODE, "error", source.path, "", message))


def _section(source: Source, config: Mapping[str, Any], name: str) -> dict[str, Any]:
    given = config.get(name)
    keys = TRAIN_KEYS if name == "train" else VALIDATE_KEYS
    if not isinstance(given, dict):
        source.findings.error("wrong-value", name, f"expected an object with {', '.join(keys)}, received {show(given)}")
        return {}
    for key in given.keys() - set(keys):
        source.findings.error("unknown-key", f"{name}.{key}", "unknown key", suggest(key, keys))
    return given


def _globals(source: Source, config: Mapping[str, Any], train: Mapping[str, Any]) -> Globals | None:
    """The values that training knows; the file's other values are variables that stand where they are used."""
    given = {new: config[old] for old, new in GLOBALS.items() if old in config}
    for handler in _enabled(train.get("handlers")):
        interval = (handler.get("args") or {}).get("interval")
        if handler.get("name") == "ValidationHandler" and interval is not None:
            given["num_training_epoch_per_valid"] = interval
    trainer = train.get("trainer")
    args = trainer.get("args", {}) if isinstance(trainer, dict) else {}
    for argument, name in (("max_epochs", "epochs"), ("amp", "use_amp")):
        if argument in args:
            given[name] = args[argument]
    if isinstance(given.get("determinism"), dict):
        seeds = given["determinism"]
        given["determinism"] = {key: seeds[key] for key in seeds if key in ("random_seed", "python_seed", "numpy_seed")}
    return read_values(Globals, given, source)


class Clara4Reader(ComponentReader):
    """Components under MONAI's names, references resolved to what Voxflow wires itself."""

    keys = ("name", "path", "args", "disabled", "log_label")

    def named_for(self, kind: Kind, component: Component) -> Component:
        """The name in the registry, ``monai:NAME``, without what is wired."""
        if component.path:
            return component
        args = {key: value for key, value in component.args.items() if not self.wired(key, value, component.where)}
        return component.model_copy(update={"name": f"monai:{component.name}", "args": args})

    def wired(self, key: str, value: Any, where: str) -> bool:
        """Whether an argument refers to what Voxflow wires; any other reference is a finding."""
        if key in OUTPUT_ARGUMENTS:
            if value is not None and not (isinstance(value, str) and is_known_output(value)):
                self._refuse_code(f"{where}.args.{key}", value)
            return True
        if isinstance(value, str) and value.lstrip().startswith("lambda"):
            self._refuse_code(f"{where}.args.{key}", value)
            return True
        if not is_reference(value):
            return False
        try:
            reference = read_reference(value, self.scope)
        except UnreadableReferenceError as error:
            self.findings.error(error.code, f"{where}.args.{key}", error.message, error.fix)
            return True
        if str(reference) not in (WIRED.get(key), f"@{key}"):
            expected = f"; expected {WIRED[key]!r}" if key in WIRED else ""
            self.findings.error("wrong-value", f"{where}.args.{key}", f"{value!r} can't be wired here{expected}")
        return True

    def _refuse_code(self, where: str, value: Any) -> None:
        self.findings.error("wrong-value", where, f"{show(value)} is code, and no code of a configuration is run")

    @property
    def scope(self) -> list[str]:
        """What a reference may name."""
        return sorted({*TRAIN_KEYS, *VALIDATE_KEYS})


def _enabled(given: Any) -> list[dict[str, Any]]:
    listed = given if isinstance(given, list) else []
    return [item for item in listed if isinstance(item, dict) and item.get("disabled") is not True]


@dataclass
class _Parts:
    """Reads what each section says of the loop."""

    reader: Clara4Reader | ComponentReader
    given_train: Mapping[str, Any]
    given_validate: Mapping[str, Any]
    epochs: int

    def __post_init__(self) -> None:
        self.transforms = {
            name: self._transforms(section, name)
            for name, section in (("train", self.given_train), ("validate", self.given_validate))
        }
        for name, section in (("train", self.given_train), ("validate", self.given_validate)):
            self._engine(section, name)
            self._handlers(section, name)

    @property
    def task(self) -> Any:
        """Segmentation where a mask is loaded, else classification."""
        loaded = [c.args.get("keys", []) for c in self.transforms["train"] if c.name.endswith("LoadImaged")]
        return "segmentation" if any("label" in keys for keys in loaded) else "classification"

    def train(self, pipeline: Component | None) -> dict[str, Any]:
        """The parts of training."""
        one, given = self.reader.one, self.given_train
        made: dict[str, Any] = {"pre_transforms": self.transforms["train"], "image_pipeline": pipeline}
        kinds: dict[str, Kind] = {"model": "network", "loss": "loss", "optimizer": "optimizer"}
        for key, kind in kinds.items():
            if key not in given:
                self.reader.findings.error("missing-component", f"train.{key}", f"missing; a {kind} is needed")
                continue
            value = given[key]
            if key == "model":
                value = self._with_activation(value)
            made[key] = one(kind, value, f"train.{key}")
        if isinstance(given.get("lr_scheduler"), dict):
            made["lr_policy"] = one("lr_policy", self._with_steps(given["lr_scheduler"]), "train.lr_scheduler")
        if given.get("key_metric") or given.get("additional_metrics"):
            self.reader.findings.warning("ignored", "train", "metrics are computed in validation only")
        if "inferer" in given:
            one("inferer", given["inferer"], "train.inferer")
        return made

    def validate(self, pipeline: Component | None) -> dict[str, Any]:
        """The parts of validation."""
        given = self.given_validate
        made: dict[str, Any] = {"pre_transforms": self.transforms["validate"], "image_pipeline": pipeline}
        made["inferer"] = self.reader.one(
            "inferer", given.get("inferer", {"name": "SimpleInferer"}), "validate.inferer"
        )
        post = self.reader.many(
            "transform", self._compared(given.get("post_transforms", [])), "validate.post_transforms"
        )
        if self.task == "segmentation":
            for component in self.transforms["validate"]:
                if component.name in ("monai:Resized", "monai:Zoomd"):
                    plain = component.name.removeprefix("monai:")
                    message = f"{plain} changes the grid, and inference could not return masks to the image"
                    self.reader.findings.error("wrong-value", component.where, message, "use Spacingd")
        made["metrics"] = tuple(metric for metric in self._metrics(given, post) if metric is not None)
        return made

    def _transforms(self, section: Mapping[str, Any], name: str) -> tuple[Component, ...]:
        return self.reader.many("transform", section.get("pre_transforms", []), f"{name}.pre_transforms")

    def _compared(self, given: Any) -> Any:
        """The transforms that predictions are compared after; on the network's own grid, and without being saved."""
        if not isinstance(given, list):
            return given
        off = [item for item in given if isinstance(item, dict) and item.get("name") in NOT_COMPARED]
        for item in off:
            self.reader.findings.warning("ignored", item["name"], "validation compares on the network's grid")
        # Disabled instead of left out, so that the others keep their places in errors.
        return [item | {"disabled": True, "args": {}} if item in off else item for item in given]

    def _metrics(self, given: Mapping[str, Any], post: tuple[Component, ...]) -> list[Component | None]:
        transforms = [{"name": component.name, "args": component.args} for component in post]
        listed: list[tuple[str, Any, bool]] = []
        for key in ("key_metric", "metrics", "additional_metrics"):
            value = given.get(key)
            if isinstance(value, list):
                listed += [
                    (f"validate.{key}[{n}]", each, key == "key_metric" and n == 0) for n, each in enumerate(value)
                ]
            elif value is not None:
                listed.append((f"validate.{key}", value, key == "key_metric"))
        return [self._metric(where, each, transforms, is_key=is_key) for where, each, is_key in listed]

    def _metric(self, where: str, given: Any, transforms: list[Any], *, is_key: bool) -> Component | None:
        if not isinstance(given, dict) or not isinstance(given.get("name"), str):
            return self.reader.one("metric", given, where)
        inner = given.get("args") or {}
        kept = {key: value for key, value in inner.items() if not self._wired(key, value, where)}
        label = given.get("log_label", given["name"])
        args = {"name": label, "is_key_metric": is_key, "post_transforms": transforms, "args": kept}
        return self.reader.one("metric", {k: v for k, v in given.items() if k != "log_label"} | {"args": args}, where)

    def _wired(self, key: str, value: Any, where: str) -> bool:
        return isinstance(self.reader, Clara4Reader) and self.reader.wired(key, value, where)

    def pipeline(self, section: Mapping[str, Any], name: str) -> Component | None:
        """Dataset and data loader as one of Voxflow's pipelines."""
        dataset, loader = section.get("dataset"), section.get("dataloader", {})
        if not isinstance(dataset, dict) or not isinstance(loader, dict):
            message = f"expected a dataset such as CacheDataset, received {show(dataset)}"
            self.reader.findings.error("wrong-value", f"{name}.dataset", message)
            return None
        for place, given in (("dataset", dataset), ("dataloader", loader)):
            for key, value in (given.get("args") or {}).items():
                self._wired(key, value, f"{name}.{place}")
        if dataset.get("name") not in DATASETS:
            self._unknown("dataset", dataset.get("name"), f"{name}.dataset.name", DATASETS)
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
        return self.reader.check("pipeline", component)

    def _unknown(self, kind: str, name: Any, where: str, known: Sequence[str]) -> None:
        code = "unknown-component" if isinstance(name, str) else DEFAULT_CODE
        self.reader.findings.error(code, where, f"unknown {kind} {name!r}", suggest(str(name), known))

    def _with_activation(self, model: Any) -> Any:
        """The network with what its logits become probabilities by: as the loss says, else the post transforms."""
        if not isinstance(model, dict):
            return model
        loss = self.given_train.get("loss")
        says = dict(loss.get("args") or {}) if isinstance(loss, dict) else {}
        for item in _enabled(self.given_validate.get("post_transforms")):
            if item.get("name") == "Activationsd":
                says = {**(item.get("args") or {}), **{key: value for key, value in says.items() if value}}
        is_binary = isinstance(loss, dict) and loss.get("name") == "BCEWithLogitsLoss"
        activation = "sigmoid" if (says.get("sigmoid") or is_binary) and not says.get("softmax") else "softmax"
        return model | {"args": {"final_activation": activation, **(model.get("args") or {})}}

    def _with_steps(self, scheduler: dict[str, Any]) -> dict[str, Any]:
        """The scheduler with when it steps: MONAI's handler does once an epoch unless told else."""
        handlers = [h for h in _enabled(self.given_train.get("handlers")) if h.get("name") == "LrScheduleHandler"]
        if not handlers:
            message = "no LrScheduleHandler steps it; add one to train.handlers"
            self.reader.findings.error("wrong-value", "train.lr_scheduler", message)
        by_epoch = all((handler.get("args") or {}).get("epoch_level", True) for handler in handlers)
        known = {"training_epochs": self.epochs, "by_epoch": by_epoch}
        return scheduler | {"args": {**(scheduler.get("args") or {}), **known}}

    def _handlers(self, section: Mapping[str, Any], name: str) -> None:
        """Check handlers by name and reference; what they do is Voxflow's loop."""
        for number, item in enumerate(section.get("handlers") or []):
            where = f"{name}.handlers[{number}]"
            if not isinstance(item, dict) or item.get("disabled") is True:
                continue
            handler, args = item.get("name"), item.get("args") or {}
            if handler not in HANDLERS:
                self._unknown("handler", handler, f"{where}.name", HANDLERS)
            for key, value in args.items():
                self._wired(key, value, where)
            if handler == "CheckpointLoader" and args.get("load_path"):
                self.reader.findings.warning("ignored", where, "weights begin from params' train.checkpoint")

    def _engine(self, section: Mapping[str, Any], name: str) -> None:
        """Check what the trainer or evaluator is wired to."""
        key = "trainer" if name == "train" else "evaluator"
        engine = section.get(key)
        if engine is None:
            return
        known = ("SupervisedTrainer", "SupervisedEvaluator")
        if not isinstance(engine, dict) or engine.get("name") not in known:
            given = engine.get("name") if isinstance(engine, dict) else engine
            fix = f"known: {', '.join(known)}"
            self.reader.findings.error("wrong-value", f"{name}.{key}.name", f"{given!r} has another loop", fix)
            return
        for argument, value in (engine.get("args") or {}).items():
            if not is_reference(value):
                continue
            try:
                read_reference(value, sorted({*TRAIN_KEYS, *VALIDATE_KEYS}))
            except UnreadableReferenceError as error:
                self.reader.findings.error(error.code, f"{name}.{key}.args.{argument}", error.message, error.fix)
