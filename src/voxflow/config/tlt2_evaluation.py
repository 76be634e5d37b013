"""TLT 2's configurations of tlt-evaluate and tlt-infer: one model, its cases, and what becomes of the answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from voxflow.config.tlt2 import SIGNS_OF_RADIOGRAPHS, Tlt2Reader
from voxflow.config.values import infer_evaluation_task, read_values
from voxflow.config.workflow import Evaluation, EvaluationValues

if TYPE_CHECKING:
    from voxflow.config.reading import SectionLayout
    from voxflow.config.source import ConfigSource

EVALUATE: SectionLayout = {
    "pre_transforms": ("transform", True),
    "post_transforms": ("transform", True),
    "label_transforms": ("transform", True),
    "writers": ("writer", True),
    "val_metrics": ("metric", True),
}


class Tlt2EvaluationValues(EvaluationValues):
    """The plain values of a configuration of validation and inference.

    Attributes:
        input_nodes: a field of the sample to what the graph calls the node that takes it.
        output_nodes: likewise for what the graph answers.
    """

    input_nodes: dict[str, str] = Field(default={"image": ""}, min_length=1)
    output_nodes: dict[str, str] = Field(default={"model": ""}, min_length=1)


def read_evaluation(source: ConfigSource) -> Evaluation:
    """Read a configuration of tlt-evaluate or tlt-infer.

    Args:
        source: the file's content and what overrides it; takes the findings.

    Raises:
        FaultyConfigError: every fault at once.
    """
    config = source.settle(Tlt2EvaluationValues.model_fields, EVALUATE)
    values = read_values(Tlt2EvaluationValues, config, source, component_keys=EVALUATE) or Tlt2EvaluationValues()
    parts = Tlt2Reader.for_source(source, config).read_section(config, EVALUATE, "")
    task = infer_evaluation_task(source, config, parts, SIGNS_OF_RADIOGRAPHS)
    source.findings.raise_errors()
    outputs = [name for pair in values.output_nodes.items() for name in pair if name]
    return Evaluation(
        task=task,
        path=source.path,
        transforms=parts.pop("pre_transforms", ()),
        input_name=next(iter(values.input_nodes)),
        output_names=tuple(dict.fromkeys(outputs)),
        data_list_key=str(source.variables.get("DATA_LIST_KEY") or "validation"),
        dialect="tlt2",
        variables=source.variables,
        **values.model_dump(include=set(EvaluationValues.model_fields)),
        **parts,
    )
