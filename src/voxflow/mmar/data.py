"""Reads an MMAR's cases from the datalists of its pipelines, and the facts of the data for the model file."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxflow.components import logit_slices, read_network
from voxflow.config import read_json
from voxflow.datalist import Datalist, parse_channels
from voxflow.errors import DataError, VoxflowError
from voxflow.training import DataFacts
from voxflow.volumes import HIGHEST_LABEL

# Beside the models: where the cases lie that a training read.
DATA_FILE = "data.json"

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from voxflow.components import Component
    from voxflow.config import Workflow
    from voxflow.mmar.folder import Mmar


def read_datalist(mmar: Mmar, file: str, base: str) -> Datalist:
    """Read a datalist with its paths relative to ``base``; empty: to the datalist's own folder.

    Raises:
        DataError: not found, not JSON, or wrong cases.
    """
    if not file:
        raise DataError("no datalist: set DATASET_JSON in the environment or with --set", path=mmar.config)
    path = mmar.input_path(file)
    return Datalist.of(read_json(path), path, mmar.input_path(base) if base else None)


def read_training_data(mmar: Mmar, workflow: Workflow) -> tuple[Workflow, Datalist]:
    """The cases of both pipelines as one datalist, and the workflow that reads it.

    Each pipeline names its own file, folder and key. A datalist without a key for validation is allowed: then nothing
    is validated. Where both name one key of different files, the workflow that comes back calls the second
    ``validate:KEY``.

    Raises:
        DataError: a datalist or one of its files is missing or wrong.
    """
    first, second = workflow.train.image_pipeline, workflow.validate.image_pipeline
    training, key = _read_pipeline_datalist(mmar, first), str(first.args["data_list_key"])
    validation, validation_key = _read_pipeline_datalist(mmar, second), str(second.args["data_list_key"])
    parts = {key: tuple(training.cases(key))}
    training.check_files([key])
    if validation_key in validation.parts:
        validation.check_files([validation_key])
    if validation_key == key and (validation.path, validation.root) != (training.path, training.root):
        renamed = f"validate:{validation_key}"
        pipeline = second.model_copy(update={"args": {**second.args, "data_list_key": renamed}})
        workflow = replace(workflow, validate=replace(workflow.validate, image_pipeline=pipeline))
        parts[renamed] = validation.parts.get(validation_key, ())
    else:
        parts[validation_key] = validation.parts.get(validation_key, ())
    return workflow, replace(training, parts=parts)


def collect_facts(workflow: Workflow, datalist: Datalist) -> DataFacts:
    """Collect what the model file must remember: names of the classes and the modality; the grid is the images' own.

    Args:
        workflow: network, metrics and transforms may name classes.
        datalist: its ``labels``, ``label_format``, ``modality`` and ``channels``.

    Raises:
        DataError: a classification without ``label_format``.
    """
    modality = datalist.metadata.get("modality", "")
    if isinstance(modality, dict):
        # The Decathlon's datalists name a modality for each channel; the first stands for all.
        modality = next(iter(modality.values()), "")
    channels, rules = parse_channels(datalist.metadata)
    return DataFacts(
        class_names=_find_class_names(workflow, datalist), modality=str(modality), channels=channels, rules=rules
    )


def _read_pipeline_datalist(mmar: Mmar, pipeline: Component) -> Datalist:
    args = pipeline.args
    return read_datalist(mmar, str(args.get("data_list_file_path", "")), str(args.get("data_file_base_dir", "")))


def _find_class_names(workflow: Workflow, datalist: Datalist) -> tuple[str, ...]:
    network = read_network(workflow.train.model)
    if workflow.task == "classification":
        if not datalist.label_format:
            raise DataError("a classification needs label_format, such as [1, 1]", path=datalist.path)
        findings = _find_finding_names(workflow)
        return tuple(findings.get(index, name) for index, name in enumerate(_name_logits(datalist.label_format)))
    label_names = _read_label_names(datalist.metadata.get("labels"))
    if network.num_classes in (None, len(label_names)) and label_names:
        return label_names
    count = network.num_classes or 2
    for names in _find_channel_names(workflow):
        if len(names) == count:
            return names
    # A sigmoid network has no channel for the background that the datalist lists.
    if len(label_names) == count + 1:
        return label_names[1:]
    if network.final_activation == "sigmoid":
        return tuple(f"class_{index + 1}" for index in range(count))
    return ("background", *(f"class_{index}" for index in range(1, count)))


def _name_logits(label_format: Sequence[int]) -> Iterator[str]:
    for column, span in enumerate(logit_slices(label_format)):
        width = span.stop - span.start
        yield from [f"class_{column}"] if width == 1 else [f"class_{column}_{value}" for value in range(width)]


def _read_label_names(labels: Any) -> tuple[str, ...]:
    """Names of label values 0, 1, ... as the Decathlon's datalists give them; empty when there are none."""
    if not isinstance(labels, dict) or not all(str(value).isdecimal() for value in labels):
        return ()
    names = {int(value): str(name) for value, name in labels.items()}
    if max(names, default=0) > HIGHEST_LABEL:
        return ()
    return tuple(names.get(value, f"class_{value}") for value in range(max(names, default=-1) + 1))


def _find_channel_names(workflow: Workflow) -> Iterator[tuple[str, ...]]:
    """Lists of names that a transform gives to channels, such as BratsConvertLabels' classes."""
    for component in workflow.train.pre_transforms:
        for key in ("classes", "channel_names"):
            value = component.args.get(key)
            if isinstance(value, list) and all(isinstance(name, str) for name in value):
                yield tuple(value)


def _find_finding_names(workflow: Workflow) -> dict[int, str]:
    """Names of findings, as the metrics that judge one finding each are called."""
    named: dict[int, str] = {}
    for metric in workflow.validate.metrics:
        index: Any = metric.args.get("class_index")
        name: Any = metric.args.get("name", metric.args.get("tag"))
        if isinstance(index, int) and isinstance(name, str):
            named.setdefault(index, name)
    return named


def describe_data(mmar: Mmar, workflow: Workflow) -> Mapping[str, str]:
    """Tell where the training's cases lie, for an export that is told of a models folder only.

    Returns:
        "datalist", "root", "key" and "training_key", as data.json has them.
    """
    pipeline = workflow.validate.image_pipeline.args
    file, base = str(pipeline.get("data_list_file_path", "")), str(pipeline.get("data_file_base_dir", ""))
    path = mmar.input_path(file)
    root = mmar.input_path(base) if base else path.parent
    return {
        "datalist": Path(path).as_posix(),
        "root": root.as_posix(),
        "key": str(pipeline["data_list_key"]),
        "training_key": str(workflow.train.image_pipeline.args["data_list_key"]),
    }


def read_learnt_images(models: Path) -> set[tuple[Path, ...]]:
    """Read which images a training learnt from, as it noted in its folder of models; empty where that is not known.

    Args:
        models: the folder of a model, which holds data.json or lies below the one that does.
    """
    for folder in (models, models.parent):
        try:
            noted = json.loads((folder / DATA_FILE).read_text(encoding="utf-8"))
            datalist = Datalist.read(Path(noted["datalist"]), Path(noted["root"]))
        except (OSError, ValueError, KeyError, TypeError, VoxflowError):
            continue
        return {case.image for case in datalist.parts.get(noted["training_key"], ())}
    return set()
