"""Clara 4's config_validation.json and config_inference.json: one model, its cases, and what becomes of the answers.

Unlike Clara 3's, these files prepare image and label in one chain, and their post transforms begin with logits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from voxflow.components import Component
from voxflow.config.clara4_reading import (
    LOADER,
    Clara4Reader,
    check_forms,
    is_disabled,
    is_key_metric,
    list_enabled,
    modernise_name,
    strip_metric,
)
from voxflow.config.values import infer_task, read_values
from voxflow.config.workflow import Evaluation, EvaluationValues, MetricReports
from voxflow.findings import DEFAULT_CODE, FaultyConfigError, Finding, show, suggest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from voxflow.config.source import ConfigSource
    from voxflow.spec import Task

METRICS = ("key_metric", "metrics", "additional_metrics")
EVALUATION_KEYS = (
    "model",
    "pre_transforms",
    "post_transforms",
    "dataset",
    "dataloader",
    "inferer",
    "handlers",
    *METRICS,
    "evaluator",
)
# Values beside those that Clara 3's files have, and what they mean here.
EVALUATION_VALUES = {"amp": "masks are computed in float32", "use_amp": "masks are computed in float32"}
# Which arguments of a transform may hold one value a key.
BY_KEY = (
    "align_corners",
    "argmax",
    "dtype",
    "meta_keys",
    "mode",
    "n_classes",
    "nearest_interp",
    "num_classes",
    "orig_keys",
    "padding_mode",
    "sigmoid",
    "softmax",
    "threshold",
    "threshold_values",
    "to_onehot",
    "to_tensor",
)
PREDICTION = "pred"
ENSEMBLE = (
    "several models that answer together are not carried in one file; validate each by its own ckpt_path, or train a "
    "workspace in folds (voxflow folds), whose models answer together"
)
MODEL_KEYS = ("ckpt_path", "name", "ts_path")
SAVERS = ("SegmentationSaver", "ClassificationSaver")


def read_evaluation(source: ConfigSource) -> Evaluation:
    """Read config_validation.json or config_inference.json of Clara Train 4.

    Args:
        source: the file's content and what overrides it; takes the findings.

    Raises:
        FaultyConfigError: every fault at once.
    """
    if source.config.keys() & {"train", "validate"}:
        message = (
            "this is a configuration of training; evaluate and infer by the workspace's stages, or name "
            "config_validation.json, whose transforms stand at the top of the file"
        )
        raise FaultyConfigError.of(Finding(DEFAULT_CODE, "error", source.path, "", message))
    plain = {key for key, value in source.config.items() if not isinstance(value, dict | list)}
    config = source.settle([*plain, *EvaluationValues.model_fields, *EVALUATION_VALUES], EVALUATION_KEYS)
    known = {key: config[key] for key in config if key in EvaluationValues.model_fields}
    values = cast("EvaluationValues", read_values(EvaluationValues, known, source) or EvaluationValues())
    reader = _EvaluationReader(source, config, with_label=values.do_validation)
    parts = reader.read()
    source.findings.raise_errors()
    return Evaluation(
        task=infer_task(source, reader.task),
        path=source.path,
        dialect="clara4",
        input_name="image",
        output_names=(PREDICTION,),
        answers_logits=True,
        variables=source.variables,
        **values.model_dump(),
        **parts,
    )


class _EvaluationReader:
    """Reads the parts of one file.

    Attributes:
        with_label: metrics are wanted and named, so that labels are loaded.
    """

    def __init__(self, source: ConfigSource, config: Mapping[str, Any], *, with_label: bool) -> None:
        self.source, self.findings = source, source.findings
        self.reader = Clara4Reader.for_source(source, dict(config))
        sections = {key: value for key, value in config.items() if key in EVALUATION_KEYS}
        self.config = {key: check_forms(value, key, self.findings) for key, value in sections.items()}
        for key in {key for key, value in config.items() if isinstance(value, dict | list)} - set(EVALUATION_KEYS):
            self.findings.error("unknown-key", key, "unknown key", suggest(key, EVALUATION_KEYS, present=config))
        self.handlers = list_enabled(self.config.get("handlers"))
        self.with_label = with_label and bool(self._list_metrics())

    @property
    def task(self) -> Task:
        """Segmentation, unless the file saves or measures findings."""
        parts = [*self.handlers, *(metric for _, metric, _ in self._list_metrics())]
        names = {part.get("name") for part in parts}
        return "classification" if names & {"ClassificationSaver", "ROCAUC"} else "segmentation"

    def read(self) -> dict[str, Any]:
        """Read everything, by the fields of :class:`~voxflow.config.workflow.Evaluation`."""
        for number, item in enumerate(self.config.get("handlers") or []):
            if isinstance(item, dict) and not is_disabled(item):
                self.reader.check_handler(item, f"handlers[{number}]")
        self._check_evaluator()
        inferer = self.config.get("inferer")
        if "pre_transforms" not in self.config:
            message = "missing; the transforms that load an image are needed"
            self.findings.error("missing-component", "pre_transforms", message)
        post, saved = self._read_post_transforms()
        pipeline = self._read_dataset()
        parts = {
            **self._read_model(),
            "transforms": self._read_transforms("pre_transforms"),
            "post_transforms": post,
            "val_metrics": self._read_metrics(),
            "writers": (*self._read_savers(), *saved),
            "inferer": self.reader.read_component("inferer", inferer, "inferer") if inferer is not None else None,
            "metric_reports": self._read_metric_reports(),
        }
        return parts if pipeline is None else parts | {"image_pipeline": pipeline}

    def _check_evaluator(self) -> None:
        """Refuse ensembles, which MONAI forms by an evaluator and a transform of their own."""
        evaluator = self.config.get("evaluator")
        name = evaluator.get("name") if isinstance(evaluator, dict) else None
        steps = self.config.get("post_transforms")
        names = [str(item.get("name")) for item in list_enabled(steps)]
        votes = [step for step in names if modernise_name(step) in ("MeanEnsembled", "VoteEnsembled")]
        if name == "EnsembleEvaluator" or votes:
            place = f"post_transforms[{names.index(votes[0])}]" if votes else "evaluator.name"
            self.findings.error("wrong-value", place, f"{votes[0] if votes else name}: {ENSEMBLE}")
        elif name not in (None, "SupervisedEvaluator"):
            self.findings.error(
                "wrong-value", "evaluator.name", f"{name!r} is not carried", "write 'SupervisedEvaluator'"
            )

    def _read_transforms(self, key: str) -> tuple[Component, ...]:
        items = self.config.get(key, [])
        if not self.with_label and isinstance(items, list):
            items = [drop_labels(self._resolve(item)) for item in items]
        return self.reader.read_list("transform", items, key)

    def _resolve(self, item: Any) -> Any:
        """What ``{"ref": NAME}`` stands for, where it stands for one component."""
        matches = self.reader.by_name.get(item["ref"], []) if isinstance(item, dict) and item.keys() == {"ref"} else []
        return matches[0][1] if len(matches) == 1 else item

    def _read_post_transforms(self) -> tuple[tuple[Component, ...], tuple[Component, ...]]:
        """The transforms of the answer, and the writers that stand among them."""
        items = self.config.get("post_transforms", [])
        if not isinstance(items, list):
            return self.reader.read_list("transform", items, "post_transforms"), ()
        savers: list[Component] = []
        for number, item in enumerate(items):
            if not isinstance(item, dict) or modernise_name(str(item.get("name"))) != "SaveImaged":
                continue
            if not is_disabled(item):
                savers += self._read_saver(item, f"post_transforms[{number}]", postfix="trans")
            # Disabled instead of left out, so that the others keep their places in errors.
            items[number] = {"name": "SaveImaged", "disabled": True}
        return self._read_transforms("post_transforms"), tuple(savers)

    def _read_savers(self) -> list[Component]:
        savers: list[Component] = []
        for number, item in enumerate(self.config.get("handlers") or []):
            if isinstance(item, dict) and item.get("name") in SAVERS and not is_disabled(item):
                savers += self._read_saver(item, f"handlers[{number}]", postfix="seg")
        return savers

    def _read_saver(self, item: Mapping[str, Any], json_path: str, *, postfix: str) -> list[Component]:
        """The writer that a saver of MONAI's stands for."""
        args = item.get("args") or {}
        fields = self.reader.read_fields(args.get("output_transform")) or _list_keys(args.get("keys")) or [PREDICTION]
        name = "ClassificationSaver" if item.get("name") == "ClassificationSaver" else "SegmentationSaver"
        writers = []
        for field in fields:
            values: dict[str, Any] = {"field": field, "write_path": str(args.get("output_dir", ""))}
            if name == "SegmentationSaver":
                values["postfix"] = str(args.get("output_postfix", postfix)) if field == PREDICTION else field
            component = Component(name=f"monai:{name}", args=values, where=json_path)
            writers.append(self.reader.check_component("writer", component))
        return writers

    def _read_dataset(self) -> Component | None:
        """Which cases: the key of the datalist, its file and the folder of its paths."""
        dataset = self.config.get("dataset")
        if not isinstance(dataset, dict):
            message = f"expected a dataset such as Dataset, received {show(dataset)}"
            self.findings.error("wrong-value", "dataset", message)
            return None
        self.reader.check_data(dataset, self.config.get("dataloader"))
        stated = self.source.overrides.get("DATA_LIST_KEY")
        default = self.source.variables.get("DATA_LIST_KEY") or "validation"
        args = {
            "data_list_file_path": str(dataset.get("data_list_file_path", "")),
            "data_file_base_dir": str(dataset.get("data_file_base_dir", "")),
            "data_list_key": str(stated or dataset.get("data_list_key", default)),
            "output_crop_size": [-1, -1, -1],
        }
        component = Component(name="SegmentationImagePipeline", args=args, where="dataset", flat=True)
        return self.reader.check_component("pipeline", component)

    def _read_model(self) -> dict[str, Any]:
        """The model file, and the network that the file describes for it; see :class:`Evaluation`."""
        value = self.config.get("model")
        if value is None:
            fix = "name a file (ts_path, ckpt_path), or describe a network"
            self.findings.error("missing-component", "model", "missing", fix)
            return {}
        items = value if isinstance(value, list) else [value]
        places = [f"model[{n}]" if isinstance(value, list) else "model" for n in range(len(items))]
        enabled = [(item, place) for item, place in zip(items, places, strict=True) if not is_disabled(item)]
        if len(enabled) != 1 or not isinstance(enabled[0][0], dict):
            message = f"{len(enabled)} of {len(items)} models take part, exactly one is needed"
            kinds = [
                next(filter(set(item).__contains__, MODEL_KEYS), "") for item, _ in enabled if isinstance(item, dict)
            ]
            fix = "set dont_load_ts_model and dont_load_ckpt_model so that one of the two is false"
            self.findings.error("wrong-value", "model", message, ENSEMBLE if len(kinds) > len({*kinds}) else fix)
            return {}
        model, place = enabled[0]
        folder = str(self.source.variables.get("MMAR_CKPT_DIR") or "models")
        for key, name in (("ts_path", "model.ts"), ("ckpt_path", "model.pt")):
            if key in model:
                return {"model_loader": self._name_model(str(model[key] or f"{folder}/{name}"), f"{place}.{key}")}
        if not model.keys() & {"name", "path"}:
            for key in model.keys() - {"disabled"}:
                near = suggest(str(key), MODEL_KEYS, present=model)
                self.findings.error("unknown-key", f"{place}.{key}", "unknown key of a model", near)
            return {}
        network = self.reader.read_component("network", strip_metric(model) | {"disabled": False}, place)
        loader = next((item for item in self.handlers if item.get("name") == LOADER), None)
        if loader is None:
            message = "no CheckpointLoader is enabled among the handlers, so that the network would have fresh weights"
            self.findings.error("missing-component", place, message, "set dont_load_ckpt_model to false")
            return {}
        path = str((loader.get("args") or {}).get("load_path") or f"{folder}/model.pt")
        return {"model_loader": self._name_model(path, place), "network": network}

    def _name_model(self, path: str, json_path: str) -> Component:
        component = Component(name="FrozenGraphModelLoader", args={"model_file_path": path}, where=json_path, flat=True)
        return self.reader.check_component("model_loader", component)

    def _list_metrics(self) -> list[tuple[str, dict[str, Any], bool]]:
        """Every metric with its place, and whether it is the key metric."""
        metrics: list[tuple[str, dict[str, Any], bool]] = []
        for key in METRICS:
            value = self.config.get(key)
            items = value if isinstance(value, list) else [value]
            for number, item in enumerate(items):
                if isinstance(item, dict) and isinstance(item.get("name"), str) and not is_disabled(item):
                    place = f"{key}[{number}]" if isinstance(value, list) else key
                    metrics.append((place, item, is_key_metric(item, key == "key_metric" and number == 0)))
        return metrics

    def _read_metrics(self) -> tuple[Component, ...]:
        """The metrics, which compare the fields that the post transforms leave."""
        read = []
        for place, metric, is_key in self._list_metrics():
            arguments = self.reader.read_metric_arguments(metric, place)
            field, label = arguments.pop("compared", (PREDICTION, "label"))
            args = {"is_key_metric": is_key, "field": field, "label_field": label, **arguments}
            read.append(self.reader.read_component("metric", strip_metric(metric) | {"args": args}, place))
        return tuple(metric for metric in read if metric is not None)

    def _read_metric_reports(self) -> MetricReports | None:
        """What an enabled MetricsSaver writes."""
        savers = [item.get("args") or {} for item in self.handlers if item.get("name") == "MetricsSaver"]
        if not savers:
            return None
        args = savers[0]
        return MetricReports(
            folder=str(args.get("save_dir", "")),
            metrics=_list_wanted(args.get("metrics", "*")),
            details=_list_wanted(args.get("metric_details")),
            summaries=_list_wanted(args.get("summary_ops")),
        )


def drop_labels(item: Any) -> Any:
    """A transform of the image alone, where labels are neither loaded nor compared; disabled where nothing is left.

    Example:
        >>> drop_labels({"name": "Spacingd", "args": {"keys": ["image", "label"], "mode": ["bilinear", "nearest"]}})
        {'name': 'Spacingd', 'args': {'keys': ['image'], 'mode': ['bilinear']}}
    """
    args = item.get("args") if isinstance(item, dict) else None
    keys = _list_keys(args.get("keys")) if isinstance(args, dict) else []
    kept = [number for number, key in enumerate(keys) if not key.startswith("label")]
    if not isinstance(args, dict) or len(kept) == len(keys):
        return item
    if not kept:
        return item | {"disabled": True}
    by_key = {
        name: [value[number] for number in kept]
        for name, value in args.items()
        if name in BY_KEY and isinstance(value, list) and len(value) == len(keys)
    }
    return item | {"args": {**args, "keys": [keys[number] for number in kept], **by_key}}


def _list_keys(value: Any) -> list[str]:
    items = [value] if isinstance(value, str) else value
    return [str(item) for item in items] if isinstance(items, list) else []


def _list_wanted(value: Any) -> tuple[str, ...] | None:
    """Names that a MetricsSaver lists: () stands for ``"*"``, all of them."""
    if value is None:
        return None
    return () if value == "*" else tuple(_list_keys(value))
