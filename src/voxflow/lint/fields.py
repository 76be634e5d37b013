"""The fields of an evaluation's samples: what its transforms, metrics and writers read must be there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from voxflow.findings import FindingCollector
from voxflow.lint.flow import FieldFlow, check_loaded
from voxflow.lint.reading import ConfigReading, list_parts
from voxflow.lint.scores import BINARY, check_outputs

if TYPE_CHECKING:
    from voxflow.config import Evaluation

# What an evaluation of a classifier computes of each case beside the file's own transforms.
ANSWERS = BINARY | {"accuracy"}


def require_fields(evaluation: Evaluation) -> None:
    """Require that each part of an evaluation that runs reads fields which exist, before the first case is read.

    Raises:
        FaultyConfigError: every fault at once, with the fields that there are.
    """
    notes = FindingCollector(evaluation.path)
    without = () if evaluation.do_validation else ("label_transforms", "val_metrics")
    parts = [part for part in list_parts(evaluation) if part.key not in without]
    reading = ConfigReading(evaluation.path, notes, parts, loaded=evaluation, task=evaluation.task)
    paths, values = (
        ({"image", "label"}, {"case"}) if evaluation.task == "segmentation" else ({"image"}, {"case", "label"})
    )
    check_evaluation_fields(reading, FieldFlow(paths, values))
    notes.raise_errors()


def check_evaluation_fields(reading: ConfigReading, flow: FieldFlow) -> None:
    """Note transforms, metrics and writers that read what is not there or not loaded.

    Args:
        reading: the configuration of an evaluation.
        flow: the fields that the datalist gives.
    """
    chain, labels, metrics, writers, post = (
        reading.parts_of("evaluate", key)
        for key in ("transforms", "label_transforms", "val_metrics", "writers", "post_transforms")
    )
    flow.run(chain, reading.notes)
    if reading.loaded:
        check_loaded(flow, ("image",), "pre_transforms", reading.notes)
    # The network's answer stands in the sample under each of its names from here on.
    flow.values |= {"model", *getattr(reading.loaded, "output_names", ())}
    flow.run([*post, *labels], reading.notes)
    if reading.loaded and metrics and reading.task == "segmentation":
        check_loaded(flow, ("label",), "label_transforms", reading.notes)
    outputs = flow.values | flow.paths | {"label"} | (ANSWERS if reading.task == "classification" else set())
    check_outputs(reading, [*metrics, *writers], outputs, is_open=flow.is_open)
