"""Components of Clara 4 under MONAI's names: references, handlers, metrics, and the forms that its versions have.

Training and evaluation files share them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from voxflow.config.reading import ComponentReader
from voxflow.config.references import UnreadableReferenceError, is_reference, read_output_fields, read_reference
from voxflow.findings import DEFAULT_CODE, show, suggest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from voxflow.components import Component, Kind
    from voxflow.findings import FindingCollector

_LOOP_KEYS = ["pre_transforms", "post_transforms", "dataset", "dataloader", "inferer", "handlers"]
_LOOP_KEYS += ["key_metric", "additional_metrics", "metrics"]
TRAIN_KEYS = ["model", "loss", "optimizer", "lr_scheduler", *_LOOP_KEYS, "trainer"]
VALIDATE_KEYS = [*_LOOP_KEYS, "evaluator"]
# Keys of one component; files of AutoML list several, of which all but one are disabled.
SINGLE_KEYS = ("model", "loss", "optimizer", "lr_scheduler", "dataset", "dataloader", "inferer", "trainer", "evaluator")
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
OUTPUT_ARGUMENTS = ("output_transform", "batch_transform", "global_epoch_transform")
# What is obeyed beside names, with what stands beside it in MONAI: a key that is almost one of them is misspelt, and
# would be passed over in silence.
_FORM = ("name", "args", "disabled", "rank", "path")
DATASET_KEYS = (*_FORM, "data_list_file_path", "data_file_base_dir", "data_list_key")
LOADER_ARGUMENTS = ("batch_size", "batch_sampler", "drop_last", "num_workers", "prefetch_factor", "sampler", "shuffle")
_SAVER = ("output_dir", "output_postfix", "output_ext", "output_dtype", "save_rank", "name", *OUTPUT_ARGUMENTS)
HANDLER_ARGUMENTS = {
    "CheckpointLoader": ("load_path", "load_dict", "name", "strict", "strict_shape"),
    "SegmentationSaver": _SAVER,
    "ClassificationSaver": (*_SAVER, "filename", "delimiter"),
    "MetricsSaver": ("save_dir", "metrics", "metric_details", "summary_ops", "save_rank", "delimiter", "output_type"),
    "LrScheduleHandler": ("lr_scheduler", "print_lr", "epoch_level", "step_transform", "name"),
    "ValidationHandler": ("interval", "validator", "epoch_level", "exec_at_start"),
}
OLD_LOADERS = ("LoadNiftid", "LoadPngd", "LoadDatad")
LOADER = "CheckpointLoader"
_NAMES = {"name", "path", "ts_path", "ckpt_path"}
CACHED = ("CacheDataset", "SmartCacheDataset", "PersistentDataset", "LMDBDataset", "CacheNTransDataset")
DATASETS = (*CACHED, "Dataset")


class Clara4Reader(ComponentReader):
    """Components under MONAI's names, references resolved to what Voxflow wires itself."""

    keys = ("name", "path", "args", "disabled", "log_label", "is_key_metric", "rank")

    def resolve_name(self, kind: Kind, component: Component) -> Component:
        """Give the component its name in the registry, ``monai:NAME``, without the arguments that Voxflow wires."""
        if component.path:
            return component
        args = {key: value for key, value in component.args.items() if not self.is_wired(key, value, component.where)}
        name = modernise_name(component.name) if kind == "transform" else component.name
        return component.model_copy(update={"name": f"monai:{name}", "args": args})

    def is_wired(self, key: str, value: Any, json_path: str) -> bool:
        """Whether an argument refers to what Voxflow wires itself, such as ``"params": "#@model.parameters()"``.

        Any other reference is noted as a fault, and so is code; both count as wired, so that no class receives them.
        """
        if key in OUTPUT_ARGUMENTS:
            if value is not None and not (isinstance(value, str) and read_output_fields(value) is not None):
                self._refuse_code(f"{json_path}.args.{key}", value)
            return True
        if isinstance(value, str) and value.lstrip().startswith("lambda"):
            self._refuse_code(f"{json_path}.args.{key}", value)
            return True
        if not is_reference(value):
            return False
        try:
            reference = read_reference(value, self.scope)
        except UnreadableReferenceError as error:
            self.findings.error(error.code, f"{json_path}.args.{key}", error.message, error.fix)
            return True
        if str(reference) not in (WIRED.get(key), f"@{key}"):
            expected = f"; expected {WIRED[key]!r}" if key in WIRED else ""
            self.findings.error("wrong-value", f"{json_path}.args.{key}", f"{value!r} can't be wired here{expected}")
        return True

    def check_handler(self, item: Mapping[str, Any], json_path: str) -> None:
        """Check a handler by its name and what its arguments refer to.

        Args:
            item: as it stands in the file.
            json_path: where it stands.
        """
        name = item.get("name")
        if name not in HANDLERS:
            code = "unknown-component" if isinstance(name, str) else DEFAULT_CODE
            self.findings.error(code, f"{json_path}.name", f"unknown handler {name!r}", suggest(str(name), HANDLERS))
        args = item.get("args") or {}
        self.check_spelling(item, _FORM, json_path)
        self.check_spelling(args, HANDLER_ARGUMENTS.get(str(name), ()), f"{json_path}.args")
        for key, value in args.items():
            self.is_wired(key, value, json_path)

    def check_spelling(self, content: Mapping[str, Any], known: Sequence[str], json_path: str) -> None:
        """Note keys that are none, and almost those that are obeyed.

        Args:
            content: the object that holds them.
            known: the keys that may stand there; others mean nothing here.
            json_path: where it stands.
        """
        for key in content.keys() - {*known, *OUTPUT_ARGUMENTS, "disabled"}:
            near = suggest(str(key), known, present=content)
            if near.nearest and not near.is_taken:
                self.findings.error("unknown-key", f"{json_path}.{key}", "unknown key", near)

    def check_data(self, dataset: Mapping[str, Any], loader: Any, prefix: str = "") -> None:
        """Check the class of a dataset, the spelling of its keys, which say which cases, and the data loader's.

        Args:
            dataset: as it stands in the file.
            loader: likewise.
            prefix: of their JSON paths, such as ``train.``.
        """
        self.check_spelling(dataset, DATASET_KEYS, f"{prefix}dataset")
        for place, part in (("dataset", dataset), ("dataloader", loader)):
            args = (part.get("args") or {}) if isinstance(part, dict) else {}
            self.check_spelling(args, LOADER_ARGUMENTS if part is loader else (), f"{prefix}{place}.args")
            for key, value in args.items():
                self.is_wired(key, value, f"{prefix}{place}")
        name = dataset.get("name")
        if name not in DATASETS:
            code = "unknown-component" if isinstance(name, str) else DEFAULT_CODE
            place = f"{prefix}dataset.name"
            self.findings.error(code, place, f"unknown dataset {name!r}", suggest(str(name), DATASETS))

    def _refuse_code(self, json_path: str, value: Any) -> None:
        self.findings.error("wrong-value", json_path, f"{show(value)} is code, and no code of a configuration is run")

    def read_metric_arguments(self, metric: Mapping[str, Any], json_path: str) -> dict[str, Any]:
        """The name of a metric, its class's own arguments, and the two fields that it compares.

        Args:
            metric: as it stands in the file.
            json_path: where it stands.
        """
        inner = metric.get("args") or {}
        fields = self.read_fields(inner.get("output_transform"))
        compared = {"compared": list(fields)} if len(fields) == 2 else {}
        if fields and not compared:
            message = f"names {len(fields)} field(s), {', '.join(fields)}; a metric compares two"
            fix = "write lambda x: (x['pred'], x['label'])"
            self.findings.error("wrong-value", f"{json_path}.args.output_transform", message, fix)
        plain_args = {key: value for key, value in inner.items() if not self.is_wired(key, value, json_path)}
        return {"name": metric.get("log_label", metric["name"]), "args": plain_args, **compared}

    def read_fields(self, output: Any) -> tuple[str, ...]:
        """The fields that a handler's ``output_transform`` names; () where it names none."""
        return (read_output_fields(output) or ()) if isinstance(output, str) else ()

    @property
    def scope(self) -> list[str]:
        """What a reference may name."""
        return sorted({*TRAIN_KEYS, *VALIDATE_KEYS})


def check_forms(value: Any, json_path: str, findings: FindingCollector) -> Any:
    """A part of a section whose components have objects for arguments and whose handlers are a list; faults are noted.

    Args:
        value: as it stands in the file.
        json_path: where it stands.
        findings: where a wrong form is noted; {} or [] then stands in its place.
    """
    if json_path.endswith("handlers") and not isinstance(value, list):
        findings.error("wrong-value", json_path, f"expected a list of components, received {show(value)}")
        return []
    if isinstance(value, list):
        return [check_forms(item, f"{json_path}[{n}]", findings) for n, item in enumerate(value)]
    if not isinstance(value, dict) or not value.keys() & _NAMES:
        return value
    args = value.get("args", {})
    for place, part in ((json_path, value), (f"{json_path}.args", args)):
        if isinstance(part, dict) and not isinstance(part.get("disabled", False), bool):
            message = f"expected true or false, received {show(part['disabled'])}"
            findings.error("wrong-value", f"{place}.disabled", message)
    if not isinstance(args, dict):
        findings.error("wrong-value", f"{json_path}.args", f"expected an object, received {show(value['args'])}")
        return value | {"args": {}}
    return value


def modernise_name(name: str) -> str:
    """Give a transform the name that this MONAI and Voxflow know it by.

    Example:
        >>> [modernise_name(name) for name in ("LoadNiftid", "ScaleIntensityRangeD", "AddChannelDict", "Spacingd")]
        ['LoadImaged', 'ScaleIntensityRanged', 'AddChanneld', 'Spacingd']
    """
    for suffix in ("Dict", "D"):
        if name.endswith(suffix) and len(name) > len(suffix):
            name = f"{name.removesuffix(suffix)}d"
    return "LoadImaged" if name in OLD_LOADERS else name


def is_disabled(item: Any) -> bool:
    """Whether a component takes no part; Clara 4.0's notebooks say so among its arguments, too."""
    args = item.get("args") if isinstance(item, dict) else None
    return isinstance(item, dict) and (item.get("disabled") is True or (args or {}).get("disabled") is True)


def list_enabled(value: Any) -> list[dict[str, Any]]:
    """List the components of a list that take part."""
    items = value if isinstance(value, list) else []
    return [item for item in items if isinstance(item, dict) and not is_disabled(item)]


def is_key_metric(metric: Any, is_first: bool) -> bool:
    """Whether a metric chooses the best model: it says so itself, or stands first under ``key_metric``."""
    return bool(metric.get("is_key_metric", is_first)) if isinstance(metric, dict) else is_first


def strip_metric(metric: Mapping[str, Any]) -> dict[str, Any]:
    """A metric without the keys beside its arguments that only Clara 4 writes."""
    return {key: value for key, value in metric.items() if key not in ("log_label", "is_key_metric")}
