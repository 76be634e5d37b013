"""Opens one side of a comparison: the scores of a run, a model version, or a folder that evaluate wrote."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from voxflow.promotion import CaseScores, read_scores
from voxflow.tracking import fetch_artifacts, find_run

if TYPE_CHECKING:
    from collections.abc import Mapping

    from voxflow.tracking import Run

PER_CASE = "per_case.csv"


@dataclass(frozen=True)
class Side:
    """One of two models.

    Attributes:
        name: what the page calls it.
        scores: case by case.
        folder: what the stage evaluate wrote; masks/ where they were kept.
        workspace: empty where it is not known.
        run: where it was trained; None for a folder.
    """

    name: str
    scores: CaseScores
    folder: Path
    workspace: str = ""
    run: Run | None = None

    @property
    def params(self) -> Mapping[str, str]:
        """What it was trained with."""
        return self.run.params if self.run else {}

    @property
    def tags(self) -> Mapping[str, str]:
        """Commit, digests, experiment."""
        return self.run.tags if self.run else {}


def open_side(name_or_folder: str, scratch: Path) -> Side:
    """Open one side.

    Args:
        name_or_folder: a folder with per_case.csv, or what :func:`voxflow.tracking.find_run` takes.
        scratch: where a run's files may be put; they must stay there until the page is written.

    Raises:
        DataError: no run is called so, or it was not evaluated.
        VoxflowError: the tracking store can't be reached.
    """
    local = Path(name_or_folder)
    if (local / PER_CASE).is_file():
        return Side(name_or_folder, read_scores(local / PER_CASE), local)
    run = find_run(name_or_folder)
    folder = fetch_artifacts(run, "test", scratch / run.run_id)
    run_name = run.tags.get("dvc_exp") or run.name
    name = name_or_folder if name_or_folder != run.run_id and not run.run_id.startswith(name_or_folder) else run_name
    return Side(name, read_scores(folder / PER_CASE), folder, run.tags.get("workspace", ""), run)
