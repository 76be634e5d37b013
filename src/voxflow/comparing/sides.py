"""Opens both sides of a comparison: scores of a run, of a model version, or of a folder that evaluate wrote."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from voxflow.promotion import CaseScores, read_scores
from voxflow.tracking import fetch_artifacts, find_run, list_runs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

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
        runs: all that the tracking store has, for those that are like it; none for a folder.
    """

    name: str
    scores: CaseScores
    folder: Path
    workspace: str = ""
    run: Run | None = None
    runs: Sequence[Run] = ()

    @property
    def params(self) -> Mapping[str, str]:
        """What it was trained with."""
        return self.run.params if self.run else {}

    @property
    def tags(self) -> Mapping[str, str]:
        """Commit, digests, experiment."""
        return self.run.tags if self.run else {}


def open_sides(old: str, new: str, scratch: Path) -> tuple[Side, Side]:
    """Open both sides.

    Args:
        old: a folder with per_case.csv, or what :func:`voxflow.tracking.find_run` takes.
        new: likewise.
        scratch: where a run's files may be put; they must stay there until the page is written.

    Raises:
        DataError: no run is called so, or it was not evaluated.
        VoxflowError: the tracking store can't be reached.
    """
    is_local = [(Path(name) / PER_CASE).is_file() for name in (old, new)]
    runs = [] if all(is_local) else list_runs()
    first, second = (
        Side(name, read_scores(Path(name) / PER_CASE), Path(name)) if local else _open_run(name, runs, scratch)
        for name, local in zip((old, new), is_local, strict=True)
    )
    return first, second


def _open_run(typed_name: str, runs: Sequence[Run], scratch: Path) -> Side:
    run = find_run(typed_name, runs)
    folder = fetch_artifacts(run, "test", scratch / run.run_id)
    name = typed_name if not run.run_id.startswith(typed_name) else run.tags.get("dvc_exp") or run.name
    return Side(name, read_scores(folder / PER_CASE), folder, run.tags.get("workspace", ""), run, runs)
