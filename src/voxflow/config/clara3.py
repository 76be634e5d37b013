"""The dialect ``clara3``: config_train.json and config_validation.json of NVIDIA's Clara Train 3.1."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from voxflow.config.reading import ComponentReader
from voxflow.config.values import infer_evaluation_task, infer_task, read_values
from voxflow.config.workflow import Evaluation, EvaluationValues, Globals, TrainSection, ValidateSection, Workflow

if TYPE_CHECKING:
    from collections.abc import Mapping

    from voxflow.config.reading import SectionLayout
    from voxflow.config.source import ConfigSource

TRAIN: SectionLayout = {
    "model": ("network", False),
    "loss": ("loss", False),
    "optimizer": ("optimizer", False),
    "lr_policy": ("lr_policy", False),
    "pre_transforms": ("transform", True),
    "batch_transforms": ("transform", True),
    "aux_ops": ("aux_op", True),
    "handlers": ("handler", True),
    "image_pipeline": ("pipeline", False),
}
VALIDATE: SectionLayout = {
    "metrics": ("metric", True),
    "pre_transforms": ("transform", True),
    "batch_transforms": ("transform", True),
    "handlers": ("handler", True),
    "image_pipeline": ("pipeline", False),
    "inferer": ("inferer", False),
}
EVALUATION_SECTION: SectionLayout = {
    "pre_transforms": ("transform", True),
    "post_transforms": ("transform", True),
    "label_transforms": ("transform", True),
    "val_metrics": ("metric", True),
    "writers": ("writer", True),
    "inferer": ("inferer", False),
    "model_loader": ("model_loader", False),
    "image_pipeline": ("pipeline", False),
}
SECTIONS = ("train", "validate")


def is_clara3(config: Mapping[str, Any]) -> bool:
    """Whether a file is in this dialect: it is asked last, and takes every file that no other dialect wants."""
    return True


def read_workflow(source: ConfigSource) -> Workflow:
    """Read config_train.json of Clara Train 3.1.

    Args:
        source: the file's content and what overrides it; takes the findings.

    Raises:
        FaultyConfigError: every fault at once.
    """
    config = source.settle(Globals.model_fields, SECTIONS)
    values = read_values(Globals, config, source, component_keys=SECTIONS)
    reader = ComponentReader.for_source(source, config)
    train = reader.read_object(config, "train", TRAIN, needed=("model", "loss", "optimizer", "image_pipeline"))
    validate = reader.read_object(config, "validate", VALIDATE, needed=("image_pipeline", "inferer"))
    validate = _judge_whole_volumes(validate, source)
    pipeline = train.get("image_pipeline")
    classifies = pipeline is not None and pipeline.name.startswith("Classification")
    task = infer_task(source, "classification" if classifies else "segmentation", pipeline)
    source.findings.raise_errors()
    return Workflow(
        task=task,
        path=source.path,
        globals=cast("Globals", values),
        train=TrainSection(**train),
        validate=ValidateSection(**validate),
        dialect="clara3",
        variables=source.variables,
    )


def read_evaluation(source: ConfigSource) -> Evaluation:
    """Read config_validation.json of Clara Train 3.1.

    Args:
        source: the file's content and what overrides it; takes the findings.

    Raises:
        FaultyConfigError: every fault at once.
    """
    config = source.settle(EvaluationValues.model_fields, EVALUATION_SECTION)
    values = read_values(EvaluationValues, config, source, component_keys=EVALUATION_SECTION)
    parts = ComponentReader.for_source(source, config).read_section(config, EVALUATION_SECTION, "")
    _compare_inferer(values, parts, source)
    task = infer_evaluation_task(source, config, parts, {"LoadPng", "ComputeAUC", "WriteClassificationResults"})
    source.findings.raise_errors()
    return Evaluation(
        task=task,
        path=source.path,
        transforms=parts.pop("pre_transforms", ()),
        data_list_key=str(source.variables.get("DATA_LIST_KEY") or "validation"),
        dialect="clara3",
        variables=source.variables,
        **cast("EvaluationValues", values).model_dump(),
        **parts,
    )


def _judge_whole_volumes(validate: dict[str, Any], source: ConfigSource) -> dict[str, Any]:
    """Validation whose windows see the whole volume, also where the image pipeline asks for a crop about its centre.

    A crop the size of one window would judge the middle of each volume alone, and the best model by it. Clara's
    documents do not say that it did.
    """
    pipeline, inferer = validate.get("image_pipeline"), validate.get("inferer")
    size = pipeline.args.get("output_crop_size") if pipeline is not None else None
    if pipeline is None or pipeline.typed is None or not isinstance(size, list) or set(size) == {-1}:
        return validate
    if inferer is None or inferer.path or inferer.name != "TFScanWindowInferer":
        return validate
    message = f"{size}, but TFScanWindowInferer judges whole volumes: validation does not crop them to their centre"
    fix = f"write {[-1] * len(size)}, or add a crop to validate.pre_transforms"
    source.findings.warning("crop-size", f"{pipeline.where_args}.output_crop_size", message, fix)
    whole = {"output_crop_size": [-1] * len(size)}
    typed = pipeline.typed.model_copy(update={"output_crop_size": (-1,) * len(size)})
    changed = pipeline.model_copy(update={"args": pipeline.args | whole}).with_typed(typed)
    return validate | {"image_pipeline": changed, "centre_crop": tuple(size)}


def _compare_inferer(values: Any, parts: Mapping[str, Any], source: ConfigSource) -> None:
    """Warn where ``use_scanning_window`` says otherwise than the inferer, which decides."""
    inferer = parts.get("inferer")
    if values is None or values.use_scanning_window is None or inferer is None or inferer.path:
        return
    if values.use_scanning_window != (inferer.name == "TFScanWindowInferer"):
        stated = str(values.use_scanning_window).lower()
        message = f"{stated}, but the inferer is {inferer.name}, which decides"
        source.findings.warning("ignored", "use_scanning_window", message, "leave it out")
