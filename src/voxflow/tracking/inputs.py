"""Describes what a run learns from: the parts of its datalist as MLflow's datasets, the run's name and description."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from voxflow.files import read_json_or_none

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

DIGEST_LENGTH = 7  # as git shortens commits
NOTE = "mlflow.note.content"  # MLflow's tag: the description on a run's page


@dataclass(frozen=True)
class DataPart:
    """One part of a datalist.

    Attributes:
        name: such as "training".
        cases: how many it has.
        digest: of its cases, which changes when a case comes or goes.
    """

    name: str
    cases: int
    digest: str


def read_parts(datalist: Path | None) -> list[DataPart]:
    """The parts of a datalist; none where there is no such file, or it is no datalist."""
    content = read_json_or_none(datalist) if datalist is not None else None
    parts = {name: cases for name, cases in content.items() if _is_part(cases)} if isinstance(content, dict) else {}
    return [DataPart(str(name), len(cases), _digest(cases)) for name, cases in parts.items()]


def name_run(workspace: str, datalist: Path | None, part: str = "") -> str:
    """Name a run by its workspace, its data and the date.

    Args:
        workspace: the workspace.
        datalist: the datalist file; without it, the name says nothing of the data.
        part: of the work, such as "fold 1".

    Returns:
        Such as ``spleen fold 1 data-1a2b3c4 2026-11-27 22:30``.
    """
    parts = read_parts(datalist)
    data = f"data-{_digest([data_part.digest for data_part in parts])}" if parts else ""
    moment = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M")
    return " ".join(text for text in (workspace, part, data, moment) if text)


def describe_run(workspace: str, datalist: Path | None, facts: Mapping[str, Any]) -> str:
    """Describe a run in Markdown: what it learns from, by what, and where its report will be.

    Args:
        workspace: the workspace.
        datalist: the datalist file.
        facts: what is trained, such as the network, by name.
    """
    counts = ", ".join(f"{part.cases} {part.name}" for part in read_parts(datalist))
    lines = [
        f"Training of **{workspace}**{f' on cases: {counts}' if counts else ''}.",
        "",
        *(f"- {name}: {value}" for name, value in facts.items()),
        *([""] if facts else []),
        "`validation/...` are the scores after each epoch, `best_validation/...` those of the model that was kept, "
        "`test/...` those on unseen cases.",
    ]
    return "\n".join(lines)


def make_datasets(workspace: str, datalist: Path | None) -> list[dict[str, str]]:
    """Describe the parts of a datalist as MLflow's datasets, for an entry of the tracker."""
    place = datalist.as_posix() if datalist is not None else ""
    return [
        {
            "name": f"{workspace} {part.name}",
            "digest": part.digest,
            "context": part.name,
            "source": json.dumps({"uri": f"{place}#{part.name}"}),
            "profile": json.dumps({"num_rows": part.cases}),
        }
        for part in read_parts(datalist)
    ]


def log_datasets(client: Any, run_id: str, datasets: list[dict[str, str]]) -> None:
    """Log datasets as inputs of a run; those that it has are not logged again."""
    from mlflow.entities import Dataset, DatasetInput, InputTag
    from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

    inputs = [
        DatasetInput(
            Dataset(dataset["name"], dataset["digest"], "local", dataset["source"], profile=dataset["profile"]),
            [InputTag(MLFLOW_DATASET_CONTEXT, dataset["context"])],
        )
        for dataset in datasets
    ]
    client.log_inputs(run_id, inputs)


def _is_part(cases: Any) -> bool:
    return isinstance(cases, list) and bool(cases) and all(isinstance(case, dict | str) for case in cases)


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:DIGEST_LENGTH]
