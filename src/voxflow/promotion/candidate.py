"""Collects the facts of a workspace's new model: exported files, parity, scores, and its test part."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from voxflow.engines import identifies_model
from voxflow.errors import DataError
from voxflow.files import read_json_or_none
from voxflow.promotion.datafaults import find_data_faults
from voxflow.promotion.decision import JudgedModel, find_parity_fault
from voxflow.promotion.scores import read_scores
from voxflow.promotion.testpart import digest_test_part
from voxflow.tracking import read_run_file
from voxflow.trust import CALIBRATION_FILE

if TYPE_CHECKING:
    from pathlib import Path

    from voxflow.places import Places

PER_CASE, PARITY = "per_case.csv", "parity.json"


@dataclass(frozen=True)
class Candidate:
    """A workspace's present model.

    Attributes:
        workspace: its name.
        name: of the registered model, usually the workspace's.
        run_id: the MLflow run of its training; empty when it kept no record.
        export: the folder of exported engines.
        parity: parity.json.
        per_case: per_case.csv of the evaluation; may be missing.
        digest: SHA-256 of its exported files, which tells this model from every other.
        judged: the model as the decision sees it.
        calibration: trust.json of the evaluation; may be missing.
    """

    workspace: str
    name: str
    run_id: str
    export: Path
    parity: Path
    per_case: Path
    digest: str
    judged: JudgedModel
    calibration: Path


def read_candidate(places: Places) -> Candidate:
    """Gather a workspace's present model.

    Raises:
        DataError: nothing was exported, or a table can't be read.
    """
    per_case = places.evaluation / "test" / PER_CASE
    key = str((places.block.get("evaluate") or {}).get("key") or "testing")
    model = JudgedModel(
        name="the challenger",
        scores=read_scores(per_case) if per_case.is_file() else None,
        test_part=digest_test_part(places.datalists / "dataset_0.json", places.volumes, key),
        parity=find_parity_fault(read_json_or_none(places.models / PARITY)),
        data=find_data_faults(places),
    )
    export = places.models / "export"
    run_id = read_run_file(places.models / "train" / "run.json")
    return Candidate(
        places.workspace,
        places.registered_name,
        run_id,
        export,
        places.models / PARITY,
        per_case,
        digest=digest_export(export),
        judged=model,
        calibration=per_case.with_name(CALIBRATION_FILE),
    )


def digest_export(folder: Path) -> str:
    """SHA-256 over the exported models of a folder, which tells this model from every other.

    Raises:
        DataError: there is none.
    """
    models = (path for path in folder.rglob("*") if path.is_file() and identifies_model(path))
    files = sorted(models) if folder.is_dir() else []
    if not files:
        raise DataError("no exported model; the stage export makes it", path=folder)
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as stream:
            digest.update(path.relative_to(folder).as_posix().encode() + hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()
