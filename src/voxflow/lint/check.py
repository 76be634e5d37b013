"""The check of a whole workspace, from its files to one report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from voxflow.components import ShowPreviousMask
from voxflow.config import Workflow, read_json, read_switch
from voxflow.findings import FaultyConfigError
from voxflow.lint.cases import check_labels, check_loaders, read_data
from voxflow.lint.classes import check_classes, check_metrics_classes
from voxflow.lint.environment import check_environment, check_paths, find_variables
from voxflow.lint.fields import check_evaluation_fields
from voxflow.lint.flow import FieldFlow, check_loaded, check_not_random
from voxflow.lint.reading import read_evaluation, read_workflow
from voxflow.lint.report import CheckReport
from voxflow.lint.scores import check_metrics, check_names
from voxflow.lint.sizes import check_sizes
from voxflow.lint.unlabelled import check_unlabelled
from voxflow.lint.values import check_depth, check_globals, check_masks_follow, check_preparation

if TYPE_CHECKING:
    from pathlib import Path

    from voxflow.findings import FindingCollector
    from voxflow.lint.data import WorkspaceData
    from voxflow.lint.reading import ConfigReading
    from voxflow.planning import Target


def check_workspace(target: Target) -> CheckReport:
    """Check configurations, environment, datalist and the headers of its files.

    Neither torch nor MONAI is imported, and no voxel is read; a thousand cases take about a second.

    Args:
        target: the workspace's files, and the values that win over them.

    Returns:
        Every finding, and the training configuration with its components parsed, where it has no fault.
    """
    report = CheckReport(target.name)
    environment = _read_environment(target, report)
    outside = target.environment if environment is not None else None
    train = evaluation = None
    if target.config:
        train = read_workflow(target.config, target, outside, report)
    if target.evaluation:
        evaluation = read_evaluation(target.evaluation, target, outside, report)
    variables = _check_values(target, environment or {}, report, train)
    data = read_data({"train": train, "validate": train, "evaluate": evaluation}, variables, target, report)
    if train and train.is_read:
        _check_training(train, data, report)
    if evaluation and evaluation.is_read:
        _check_evaluation(evaluation, data)
    if train:
        check_preparation(train, evaluation)
        _check_start(train, target)
    if environment is None:  # what it would have set is no fault of the configurations
        report.findings = [finding for finding in report.findings if finding.code != "unset-variable"]
    # A patch that follows from the median volume is larger than half of them, on purpose.
    report.findings = [
        finding for finding in report.findings if finding.code != "patch-larger" or finding.where not in target.planned
    ]
    report.sort()
    return report


def _read_environment(target: Target, report: CheckReport) -> dict[str, Any] | None:
    """The environment's content; None where there is none or it can't be read."""
    if target.environment is None:
        return {}
    try:
        return read_json(target.environment, report.at(target.environment))
    except FaultyConfigError as error:
        report.add(error.faults)
    return None


def _check_values(
    target: Target, environment: dict[str, Any], report: CheckReport, train: ConfigReading | None
) -> dict[str, Any]:
    """Check the values beside the components; gives every variable, the winner of each."""
    outside = {**environment, **target.overrides}
    used, config = set[str](), dict[str, Any]()
    for path in (target.config, target.evaluation):
        if path is None:
            continue
        used |= find_variables(path.read_text(encoding="utf-8", errors="replace"))
        content = _read_content(path, report.at(path))
        check_globals({**content, **{key: outside[key] for key in outside if key in content}}, report.at(path))
        config |= content
    variables = {**{key: value for key, value in config.items() if not isinstance(value, dict | list)}, **outside}
    if target.environment:
        notes = report.at(target.environment)
        check_environment(environment, used, config, notes)
        check_paths(target, variables, notes, _find_start(train, variables))
    elif target.config:
        check_paths(target, variables, report.at(target.config), _find_start(train, variables))
    return variables


def _find_start(train: ConfigReading | None, variables: dict[str, Any]) -> str:
    """The checkpoint that training begins from: what Clara 4's CheckpointLoader names, elsewhere MMAR_CKPT."""
    workflow = train.loaded if train else None
    if isinstance(workflow, Workflow) and workflow.dialect == "clara4":
        return workflow.start_weights
    checkpoint = variables.get("MMAR_CKPT")
    is_loaded = not read_switch(variables.get("dont_load_ckpt_model"))
    return checkpoint if isinstance(checkpoint, str) and is_loaded else ""


def _read_content(path: Path, notes: FindingCollector) -> dict[str, Any]:
    """A configuration as plain JSON; empty where its reader has noted that it is none."""
    try:
        return read_json(path, notes)
    except FaultyConfigError:
        return {}


def _check_start(reading: ConfigReading, target: Target) -> None:
    """Warn in a pipeline's workspace that its own options name the weights to begin from."""
    if target.is_from_cwd and isinstance(reading.loaded, Workflow) and reading.loaded.start_weights:
        message = f"{reading.loaded.start_weights!r} is not loaded: weights begin from params' train.checkpoint"
        reading.notes.warning("ignored", "train.handlers", message, "name it there, or disable the CheckpointLoader")


def _check_training(reading: ConfigReading, data: WorkspaceData, report: CheckReport) -> None:
    datalist_findings = report.at(data.listing.path) if data.listing else None
    flows = {}
    for section in ("train", "validate"):
        if datalist_findings:
            check_labels(data, reading.task, section, datalist_findings)
            check_loaders(data, reading, section, "pre_transforms")
        flow = flows[section] = _start_flow(reading, data, section)
        flow.run(reading.parts_of(section, "pre_transforms"), reading.notes)
        needed = ("image", "label") if reading.task == "segmentation" else ("image",)
        if reading.task and not reading.notes.has(f"{section}.pre_transforms"):
            check_loaded(flow, needed, f"{section}.pre_transforms", reading.notes)
    check_not_random(reading.parts_of("validate", "pre_transforms"), reading.notes, "validation")
    check_sizes(reading, data)
    check_classes(reading, data, flows["train"], datalist_findings)
    check_metrics(reading, flows["validate"])
    check_masks_follow(reading)
    check_unlabelled(reading, data)
    check_depth(reading, data)


def _start_flow(reading: ConfigReading, data: WorkspaceData, section: str) -> FieldFlow:
    channels = data.channels(section)
    if reading.task == "classification":
        channels.pop("label", None)
        return FieldFlow({"image"}, {"case", "label"}, channels)
    steps = reading.parts_of(section, "pre_transforms")
    # The training gives each case the mask of a first stage where a transform shows it.
    previous = {step.model.previous_field for step in steps if isinstance(step.model, ShowPreviousMask)}
    return FieldFlow({"image", "label", *previous}, {"case"}, channels)


def _check_evaluation(reading: ConfigReading, data: WorkspaceData) -> None:
    chain, metrics = reading.parts_of("evaluate", "transforms"), reading.parts_of("evaluate", "val_metrics")
    labels = reading.parts_of("evaluate", "label_transforms")
    check_loaders(data, reading, "evaluate", "transforms")
    check_not_random([*chain, *labels], reading.notes, "evaluation")
    check_evaluation_fields(reading, _start_flow(reading, data, "evaluate"))
    check_names(reading, metrics)
    check_metrics_classes(reading, metrics, len(data.class_names) or None)
    check_sizes(reading, data)
