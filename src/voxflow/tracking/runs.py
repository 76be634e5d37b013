"""Lists runs, finds one by the name that a user types, and downloads its files."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from voxflow.errors import DataError
from voxflow.files import atomic_directory
from voxflow.tracking.registry import query_store
from voxflow.tracking.store import download_artifacts
from voxflow.tracking.versions import find_version

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

VERSION = re.compile(r"(?P<name>[^/@]+)(?:@(?P<alias>[\w-]+)|/(?P<number>\d+))")
SHORTEST_PREFIX = 6  # characters of a run's id; fewer are likely to mean several runs
MOST_RUNS = 5000  # that are looked through; MLflow answers no more than 50,000 at once
SEED, SEEDS = "train.seed", "train.set.determinism."  # the parameters that say which random choices a training makes
# Tags that say which code and data a training was made from.
MADE_FROM = ("workspace", "git_commit", "datalist_sha256")


@dataclass(frozen=True)
class Run:
    """One MLflow run.

    Attributes:
        run_id: MLflow's.
        name: MLflow's name of it.
        params: as params.yaml names them.
        tags: commit, digests, workspace and other short facts.
        metrics: the last value of each.
    """

    run_id: str
    name: str
    params: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)

    @property
    def seeds(self) -> dict[str, str]:
        """The parameters that say which random choices it made."""
        return {key: value for key, value in self.params.items() if key == SEED or key.startswith(SEEDS)}

    def has_same_recipe(self, other: Run) -> bool:
        """Whether two trainings have the same parameters, code and data, the seed left out.

        Code that was changed and not committed is not known to be the same.
        """
        recipes = [
            ({key: value for key, value in run.params.items() if key not in run.seeds}, *map(run.tags.get, MADE_FROM))
            for run in (self, other)
        ]
        return recipes[0] == recipes[1] and "true" not in (self.tags.get("git_dirty"), other.tags.get("git_dirty"))


def list_runs() -> list[Run]:
    """List the runs of all experiments, the latest first.

    Raises:
        VoxflowError: the store can't be reached.
    """
    runs: list[Run] = query_store(_list_runs)
    return runs


def find_run(text: str, runs: Sequence[Run]) -> Run:
    """Find a run.

    Args:
        text: a run's id or the beginning of it, its name, the name of an experiment of DVC, or a model version:
            ``spleen@champion``, ``spleen/3``.
        runs: all there are, as :func:`list_runs` gives them.

    Raises:
        DataError: nothing, or more than one run, is called so.
        VoxflowError: the store can't be reached.
    """
    match = VERSION.fullmatch(text)
    if match:
        alias_or_number = match["alias"] or match["number"]
        version = find_version(match["name"], alias_or_number)
        if version is None:
            raise DataError(f"no version of {match['name']} is called {alias_or_number!r}")
        text = version.run_id
    named = [run for run in runs if text in (run.run_id, run.name, run.tags.get("dvc_exp"))]
    matching = named or [run for run in runs if len(text) >= SHORTEST_PREFIX and run.run_id.startswith(text)]
    if not matching:
        raise DataError(f"no run is called {text!r}: an id, a name, an experiment of DVC, or MODEL@champion is wanted")
    if len(matching) > 1:
        raise DataError(f"{len(matching)} runs are called {text!r}: {', '.join(run.run_id for run in matching[:5])}")
    return matching[0]


def find_repeats(run: Run, metric: str, runs: Sequence[Run]) -> dict[str, float]:
    """Find the trainings that differ from a run in nothing but their seed, the run itself among them.

    Args:
        run: the run.
        metric: such as "test/mean_dice"; trainings without it are left out.
        runs: all there are, the latest first.

    Returns:
        The metric by id of the run; of trainings with the same seed one.
    """
    by_seed = {
        tuple(sorted(other.seeds.items())): other
        for other in reversed([run, *runs])
        if metric in other.metrics and (other.run_id == run.run_id or run.has_same_recipe(other))
    }
    return {other.run_id: other.metrics[metric] for other in by_seed.values()}


def fetch_artifacts(run: Run, folder: str, target: Path) -> Path:
    """Bring a folder of a run's artifacts here.

    Args:
        run: the run.
        folder: such as "test".
        target: made whole or not at all; what is there is replaced.

    Raises:
        DataError: the run does not have it.
        VoxflowError: the store can't be reached.
    """
    with atomic_directory(target) as out:
        query_store(lambda: _download_folder(run, folder, out))
    return target


def _list_runs() -> list[Run]:
    from mlflow import MlflowClient

    client = MlflowClient()
    experiments = [entity.experiment_id for entity in client.search_experiments()]
    return [_to_run(entity) for entity in client.search_runs(experiments, max_results=MOST_RUNS)]


def _download_folder(run: Run, folder: str, out: Path) -> None:
    if not download_artifacts(run.run_id, folder, out):
        raise DataError(f"the run {run.name} ({run.run_id}) has no {folder}/; the stage evaluate keeps it")


def _to_run(entity: Any) -> Run:
    content = entity.data
    return Run(
        entity.info.run_id, entity.info.run_name or "", dict(content.params), dict(content.tags), dict(content.metrics)
    )
