"""The first of two stages, as the training of the second knows it: masks of cases, and models for the model file.

The stage ``previous`` writes a record (:data:`RECORD`): of each case the fold that held it out, the digest of the mask
that this fold's model made of it, and the digest of each model. A training takes what the record names, and nothing
that has changed since.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError

from voxflow.components import LAST, PREVIOUS, Component, describe_cascade
from voxflow.errors import DataError, join_names
from voxflow.files import read_json_or_none
from voxflow.progress import say
from voxflow.spec import ModelSpec, PreviousStage
from voxflow.training.checkpoint import read_checkpoint
from voxflow.training.digests import digest_file

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import torch

    from voxflow.datalist import Case, Datalist

RECORD = "previous.json"  # in the MMAR's config/, which the training depends on
LEARNT = ("training", "validation")  # parts of a datalist that get masks


class PreviousCase(BaseModel):
    """What a first stage made of one case.

    Attributes:
        fold: that held the case out; its model has not learnt from it.
        mask: digest of the mask on the second stage's grid.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    fold: int
    mask: str


class PreviousRecord(BaseModel):
    """What previous.json holds.

    Attributes:
        workspace: of the first stage.
        values: the label values that become channels.
        models: the digest of each fold's model.pt.
        cases: by id.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    workspace: str
    values: tuple[int, ...]
    models: dict[int, str]
    cases: dict[str, PreviousCase]


def read_previous_record(path: Path, workspace: str, first: str) -> PreviousRecord:
    """Read the record of a first stage.

    Args:
        path: previous.json.
        workspace: of the second stage.
        first: the workspace of the first stage, as ``train.previous`` names it.

    Raises:
        DataError: it is missing, damaged, or of another workspace.
    """
    content = read_json_or_none(path)
    if content is None:
        message = f"the masks of {first} are not there; dvc repro previous@{workspace} makes them"
        raise DataError(message, path=path)
    try:
        record = PreviousRecord.model_validate(content)
    except ValidationError as error:
        raise DataError(f"no record of a first stage: {error.errors()[0]['msg']}", path=path) from error
    if record.workspace != first:
        message = (
            f"of the workspace {record.workspace}, but train.previous is {first}; run dvc repro previous@{workspace}"
        )
        raise DataError(message, path=path)
    return record


def attach_masks(datalist: Datalist, record: PreviousRecord, folder: Path, *, fold: int | None = None) -> Datalist:
    """Give each case to learn from, or to validate on, the mask that the first stage made of it unseen.

    Args:
        datalist: of the second stage.
        record: of the first stage.
        folder: of the masks, CASE.nii.gz.
        fold: of the second stage; None: it is trained on all cases outside testing.

    Returns:
        The datalist; labelled cases without a mask are left out of both parts, and said.

    Raises:
        DataError: a mask is missing or has changed, no case has one, the first stage has learnt from a case of
            testing, or its fold of this number held other cases out.
    """
    parts = dict(datalist.parts)
    # Each case of the record was held out by one of its folds, and learnt from by the others.
    leaking = [case.id for case in parts.get("testing", ()) if case.id in record.cases]
    if leaking:
        message = f"leakage: {record.workspace} has learnt from {join_names(leaking, 3)}, which testing holds"
        raise DataError(f"{message}; run the stage previous again", path=datalist.path)
    for key in LEARNT:
        cases = parts.get(key, ())
        lacking = [case.id for case in cases if case.id not in record.cases]
        if lacking:
            say(f"warning: left out of {key}, since {record.workspace} made no mask: {join_names(lacking, 5)}")
        parts[key] = tuple(_attach_mask(case, record, folder) for case in cases if case.id in record.cases)
    if not parts.get("training"):
        raise DataError(f"{record.workspace} made no mask of any case to learn from", path=datalist.path)
    if fold is not None:
        _require_same_fold(parts, record, fold, datalist.path)
    return replace(datalist, parts=parts)


def _attach_mask(case: Case, record: PreviousRecord, folder: Path) -> Case:
    mask = folder / f"{case.id}.nii.gz"
    if not mask.is_file() or digest_file(mask) != record.cases[case.id].mask:
        state = "missing" if not mask.is_file() else f"not the mask that {RECORD} names"
        raise DataError(f"the first stage's mask is {state}; run the stage previous again", path=mask)
    return replace(case, previous=mask)


def _require_same_fold(parts: Mapping[str, Sequence[Case]], record: PreviousRecord, fold: int, path: Path) -> None:
    """Refuse a fold whose model file would hold a first stage's model that has seen its held-out cases."""
    if fold not in record.models:
        raise DataError(f"{record.workspace} has no fold {fold}", path=path)
    held_out = [(case.id, record.cases[case.id].fold == fold, key) for key in LEARNT for case in parts.get(key, ())]
    strange = [name for name, is_held_out, key in held_out if is_held_out != (key == "validation")]
    if strange:
        message = f"fold {fold} holds out other cases than that of {record.workspace}, such as {join_names(strange, 3)}"
        raise DataError(f"{message}; give both the same split.folds, seed, testing and validation", path=path)


@dataclass(frozen=True, eq=False)
class FirstStage:
    """The models of a first stage, which answer together, as they stand in the second one's model file.

    Attributes:
        networks: of each model.
        weights: of each, by name.
        spec: that all have.
        values: the label values of their mask that become channels.
    """

    networks: tuple[Component, ...]
    weights: tuple[Mapping[str, torch.Tensor], ...]
    spec: ModelSpec
    values: tuple[int, ...]

    @classmethod
    def read(cls, files: Sequence[Path], values: tuple[int, ...], digests: Sequence[str] = ()) -> FirstStage:
        """Read the models.

        Args:
            files: model.pt of each.
            values: the label values of the mask that become channels.
            digests: that the files must have; empty: any.

        Raises:
            DataError: a file is missing or damaged, has changed, takes or means something else than the first, or holds
                a user's own class.
        """
        for file, digest in zip(files, digests, strict=bool(digests)):
            if not file.is_file() or digest_file(file) != digest:
                raise DataError(f"not the model that {RECORD} names; run the stage previous again", path=file)
        contents = [read_checkpoint(file) for file in files]
        networks = [Component.model_validate(json.loads(content["network"])) for content in contents]
        specs = [ModelSpec.model_validate_json(content["spec"]) for content in contents]
        for file, network, spec in zip(files, networks, specs, strict=True):
            parts = [(network.name, network.path), *((step.name, step.path) for step in spec.preprocess)]
            own = next((name for name, path in parts if path), None)
            if own:
                message = f"it holds {own}, a class of your own, which another workspace's model can't hold"
                raise DataError(message, path=file)
            if spec.describe_use() != specs[0].describe_use():
                message = f"trained otherwise than {files[0]}, by its window, spacing or classes; train both again"
                raise DataError(message, path=file)
        weights = tuple(content["state_dict"] for content in contents)
        return cls(tuple(networks), weights, specs[0], values)

    def join(
        self, component: Component, spec: ModelSpec, weights: Mapping[str, torch.Tensor]
    ) -> tuple[Component, ModelSpec, dict[str, torch.Tensor]]:
        """Join the second stage's model with these.

        Args:
            component: its network.
            spec: how to feed it, the channels of the mask counted.
            weights: by name.

        Returns:
            Network, spec and weights of the cascade.
        """
        stages: dict[str, Mapping[str, Any]] = {f"{PREVIOUS}.{n}.": part for n, part in enumerate(self.weights)}
        stages[f"{LAST}."] = weights
        joined = {f"{prefix}{name}": value for prefix, part in stages.items() for name, value in part.items()}
        previous = PreviousStage(spec=self.spec, values=self.values)
        return describe_cascade(self.networks, component), spec.model_copy(update={"previous": previous}), joined
