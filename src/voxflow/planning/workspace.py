"""Plans one workspace: measures its data, tries its training for a few steps, changes its configuration."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxflow.config import load_workflow, read_json, set_nested
from voxflow.datalist import Datalist
from voxflow.errors import ConfigError, DataError
from voxflow.files import read_text, write_text
from voxflow.findings import FaultyConfigError, Finding
from voxflow.places import PARAMS, read_workspaces
from voxflow.planning.places import place_sizes
from voxflow.planning.proposal import AUTO, CONFIG, FULL, Proposal, plan_evaluation, plan_training, read_configuration
from voxflow.planning.radiographs import RadiographProposal
from voxflow.planning.target import find_target
from voxflow.volumes import FINGERPRINT, Fingerprint, list_values, measure_fingerprint, read_fingerprint
from voxflow.workspace import format_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import BaseModel

    from voxflow.config import Workflow
    from voxflow.planning.target import Target
    from voxflow.training import DataFacts, TrainOptions, Trial


@dataclass(frozen=True)
class Study:
    """A workspace with its data.

    Attributes:
        target: its files, and what wins over them.
        train: the key ``train`` of its block; empty for an MMAR alone.
        datalist: its cases.
        proposal: what follows from them and this machine.
        configured: patch, batch and workers as they are, or as ``plan: auto`` has them.
    """

    target: Target
    train: Mapping[str, Any]
    datalist: Datalist
    proposal: Proposal | RadiographProposal
    configured: dict[str, Any]

    @property
    def config(self) -> Path:
        """The training configuration."""
        if self.target.config is None:
            raise ConfigError("there is no training configuration to plan for", path=self.target.mmar)
        return self.target.config

    @property
    def is_auto(self) -> bool:
        """Whether training follows the plan by itself."""
        return self.train.get("plan") == AUTO


def study_workspace(name: str, changes: Mapping[str, Any] | None = None) -> Study:
    """Read a workspace of params.yaml, or an MMAR's folder.

    Args:
        name: of the workspace, or path of the folder.
        changes: options of the training that win over those of its block.

    Raises:
        ConfigError: there is no such workspace, it is for radiographs, or its configuration is wrong.
        DataError: its images are not there yet, or can't be read.
    """
    target = find_target(name, train=changes)
    if target.config is None:
        raise ConfigError("there is no training configuration to plan for", path=target.mmar)
    workflow = load_study_workflow(target)
    train = {**(_read_block(name).get("train") or {}), **(changes or {})}
    if workflow.task != "segmentation" and train.get("plan") != AUTO:
        message = f"plans are for segmentation of volumes, or for plan: auto; the task is {workflow.task}"
        raise ConfigError(message, path=target.config)
    root, datalist_path = (_find_path(target, workflow, variable) for variable in ("DATA_ROOT", "DATASET_JSON"))
    if not datalist_path.is_file():
        first = f"; {target.make_command} makes it" if target.make_command else ""
        raise DataError(f"no datalist there, so that there is no image to measure{first}", path=datalist_path)
    datalist = Datalist.read(datalist_path, root)
    if train.get("previous"):
        datalist = _attach_masks(datalist, target, str(train["previous"]))
    planned = plan_training(train, root, target.config)[1] if train.get("plan") == AUTO else None
    if planned is None and workflow.task != "segmentation":
        raise ConfigError("the plan of radiographs needs the stage resample's cases.csv", path=root)
    configuration = read_configuration(train, path=target.config) if train.get("plan") == AUTO else FULL
    proposal = planned or Proposal.make(_read_fingerprint(root, datalist, workflow), configuration=configuration)
    return Study(target, train, datalist, proposal, _read_sizes(workflow))


def _attach_masks(datalist: Datalist, target: Target, first: str) -> Datalist:
    """The cases with what a first stage made of them, as the stage train takes them."""
    from voxflow.training import RECORD, attach_masks, read_previous_record

    name = target.mmar.name
    record = read_previous_record(target.mmar / "config" / RECORD, name, first)
    return attach_masks(datalist, record, Path("data/previous") / name)


def load_study_workflow(target: Target) -> Workflow:
    """Load the training configuration, with the values that win over it.

    Raises:
        ConfigError: there is none, or it is faulty.
    """
    if target.config is None:
        raise ConfigError("there is no training configuration to plan for", path=target.mmar)
    of_evaluation = ("inferer", "pre_transforms")
    overrides = {key: value for key, value in target.overrides.items() if not key.startswith(of_evaluation)}
    return load_workflow(target.config, environment=target.environment, overrides=overrides, workspace=target.mmar)


def _find_path(target: Target, workflow: Workflow, variable: str) -> Path:
    value = workflow.variables.get(variable)
    if not isinstance(value, str) or not value:
        raise ConfigError(
            f"{variable} is not set; it says where the images are", path=target.environment or target.mmar
        )
    return target.resolve(value)


def _read_block(name: str) -> dict[str, Any]:
    block = read_workspaces().get(Path(name).name)
    return block if isinstance(block, dict) else {}


def _read_fingerprint(root: Path, datalist: Datalist, workflow: Workflow) -> Fingerprint:
    """The one that the stage resample wrote, or else measured from the cases to learn from."""
    if (root / FINGERPRINT).is_file():
        return read_fingerprint(root / FINGERPRINT)
    key = workflow.train.image_pipeline.args.get("data_list_key", "training")
    cases = datalist.cases(str(key))
    modality = datalist.metadata.get("modality", "")
    files = [(case.image, case.label if isinstance(case.label, Path) else None) for case in cases]
    labels, regions = datalist.metadata.get("labels"), datalist.metadata.get("regions")
    classes = regions if isinstance(regions, dict) else {}
    if not classes and isinstance(labels, dict):
        classes = {str(name): (int(value),) for value, name in labels.items() if str(value).isdigit() and value != "0"}
    return measure_fingerprint(
        files,
        modality if isinstance(modality, str) else "",
        ignore=next((case.ignore for case in cases if case.ignore is not None), None),
        labelled=[list_values(case.labelled, classes) for case in cases],
    )


def _read_sizes(workflow: Workflow) -> dict[str, Any]:
    crops = [transform for transform in workflow.train.pre_transforms if isinstance(transform.args.get("size"), list)]
    pipeline = workflow.train.image_pipeline.args
    of_a_case = crops[-1].args.get("batch_size", 1) if crops else 1
    batch = pipeline.get("output_batch_size", 1) * of_a_case
    patch = crops[-1].args["size"] if crops else None
    return {"patch": patch, "batch": batch, "workers": pipeline.get("num_workers", 0)}


def try_training(study: Study, steps: int = 5) -> Trial:
    """Train a few steps as the configuration stands now, to measure how long one takes.

    Raises:
        ConfigError: the configuration is faulty.
    """
    from voxflow.training import try_steps

    workflow, options, facts = load_study_workflow(study.target), read_study_options(study), read_study_facts(study)
    return try_steps(workflow, study.datalist, options, facts=facts, steps=steps)


def read_study_options(study: Study) -> TrainOptions:
    """The options of the training, as the workspace's block has them."""
    from voxflow.training import TrainOptions

    values = {key: value for key, value in study.train.items() if key in TrainOptions.model_fields}
    # Start weights are looked for in the MMAR first, then from the present folder, as the stage does.
    below = study.target.mmar / str(values.get("checkpoint"))
    return TrainOptions.model_validate(values | ({"checkpoint": below} if below.is_file() else {}))


def read_study_facts(study: Study) -> DataFacts:
    """The names of the classes: as the stages have noted them, else numbers."""
    from voxflow.training import DataFacts, read_facts

    labels = study.target.labels
    if labels and labels.is_file():
        return read_facts(labels, {}, study.datalist.metadata)
    classes = study.proposal.fingerprint.classes if isinstance(study.proposal, Proposal) else ()
    names = tuple(f"class_{value}" for value in range(max((label.value for label in classes), default=1) + 1))
    return DataFacts(class_names=names)


def apply_proposal(study: Study, name: str) -> tuple[Study, list[str]]:
    """Write the proposal into the workspace's configuration; with ``plan: auto``, all that it decides.

    Returns:
        The workspace as it is now, and the files that were changed.

    Raises:
        ConfigError: the configuration is not of the form that a plan is for.
    """
    target, proposal = study.target, study.proposal
    evaluation: dict[str, Any] = {}
    if study.is_auto or isinstance(proposal, RadiographProposal):
        places, _ = plan_training(study.train, Path("data/resampled") / Path(name).name, study.config)
        evaluation = plan_evaluation(proposal, target.evaluation) if target.evaluation else {}
    else:
        # The plan's patch suits the plan's network; the one that is configured may need another multiple.
        multiple = _find_divisor(target)
        patch = [-(-n // multiple) * multiple for n in proposal.layout.patch]
        layout = proposal.layout.model_copy(update={"patch": tuple(patch)})
        places = place_sizes(read_json(study.config), layout, proposal.workers, path=study.config)
        if target.evaluation and "roi_size" in read_json(target.evaluation).get("inferer", {}).get("args", {}):
            evaluation = {"inferer.args.roi_size": patch}
    changed = [_write_values(study.config, places)]
    if evaluation and target.evaluation:
        changed.append(_write_values(target.evaluation, evaluation))
    if study.is_auto:
        write_text(PARAMS, _replace_auto(read_text(PARAMS), Path(name).name))
        changed.append(str(PARAMS))
    if isinstance(proposal, RadiographProposal):
        # Without plan: auto nothing is proposed for radiographs; what was is in the files now.
        return replace(study, train={**study.train, "plan": CONFIG}), changed
    return study_workspace(name), changed


def _find_divisor(target: Target) -> int:
    from voxflow.components import read_network

    return read_network(load_study_workflow(target).train.model).divisor


def _write_values(path: Path, places: Mapping[str, Any]) -> str:
    content = read_json(path)
    for place, value in places.items():
        fault = set_nested(content, place, value)
        if fault:
            raise FaultyConfigError.of(Finding("override", "error", path, place, fault))
    write_text(path, format_json(content) + "\n")
    return str(path)


def _replace_auto(text: str, name: str) -> str:
    """Every other character of params.yaml kept, but for the keys whose meaning the configuration has now."""
    # The ensembles of folds have the workspaces' names, too.
    section = re.search(r"^workspaces:", text, re.MULTILINE)
    start = re.compile(rf"^  {re.escape(name)}:.*\n", re.MULTILINE).search(text, section.end() if section else 0)
    if start is None:
        raise ConfigError(f"no block of {name!r} with the usual indentation", path=PARAMS, where="workspaces")
    following = re.search(r"^ {0,2}\S", text[start.end() :], re.MULTILINE)
    end = start.end() + following.start() if following else len(text)
    block = re.sub(rf"^(\s+plan:\s*){AUTO}\b", rf"\g<1>{CONFIG}", text[start.end() : end], count=1, flags=re.MULTILINE)
    for key in ("pretrained", "configuration"):
        block = re.sub(rf"^\s+{key}:.*\n", "", block, count=1, flags=re.MULTILINE)
    return text[: start.end()] + block + text[end:]


def study_to_json(study: Study, trial: Trial | None, changed: list[str], forecast: BaseModel | None = None) -> str:
    """The answer for machines."""
    return json.dumps(
        {
            "workspace": study.target.name,
            **study.proposal.to_json(),
            "workers": study.proposal.workers,
            "plan": AUTO if study.is_auto else CONFIG,
            "configured": study.configured,
            "measured": None if trial is None else {**vars(trial), "epoch_seconds": trial.epoch_seconds},
            "changed": changed,
            **({} if forecast is None else {"forecast": forecast.model_dump(mode="json")}),
        },
        indent=2,
    )
