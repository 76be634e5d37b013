"""Compares candidates of a workspace by cross-validation: the same folds, equal minutes, one decision written down."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from voxflow.choosing.decision import decide
from voxflow.choosing.page import write_page
from voxflow.choosing.trials import TRAINING, VALIDATION, FoldTrial, draw_folds, list_labelled
from voxflow.errors import ConfigError, DataError
from voxflow.evaluation import LEAST_CASES
from voxflow.findings import suggest
from voxflow.places import PARAMS, read_workspaces
from voxflow.planning import Proposal, study_workspace
from voxflow.progress import say

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from voxflow.choosing.candidates import Candidate
    from voxflow.choosing.decision import Decision
    from voxflow.planning import Study

LEAST_FOLDS, USUAL_FOLDS = 2, 5


@dataclass(frozen=True)
class Comparison:
    """The trainings of a choice, none of them begun.

    Attributes:
        workspace: a key of params.yaml.
        folder: for scores and page.
        minutes: of each training.
        trials: by candidate, the default first; one a fold.
    """

    workspace: str
    folder: Path
    minutes: float
    trials: Mapping[str, Sequence[FoldTrial]]

    @property
    def folds(self) -> int:
        """Number of folds."""
        return len(next(iter(self.trials.values())))

    def run(self) -> Decision:
        """Train what is not trained yet, decide, and write the decision down.

        Raises:
            DataError: cases can't be used.
            KeyboardInterrupt: a training was interrupted; the next run goes on there.
        """
        pending = sum(trial.read_scores() is None for trials in self.trials.values() for trial in trials)
        total = len(self.trials) * self.folds
        done = f", {total - pending} of them done" if pending < total else ""
        say(
            f"choose {self.workspace}: {total} trainings of {self.minutes:g} min ({len(self.trials)} candidates, "
            f"{self.folds} folds){done}: {pending * self.minutes:.3g} min of training, beside preparing and validating"
        )
        scores: dict[str, list[dict[str, float]]] = {name: [] for name in self.trials}
        # Fold by fold: whoever ends it early has compared all candidates on the folds that are done.
        for number in range(self.folds):
            for name, trials in self.trials.items():
                known = trials[number].read_scores()
                if known is None:
                    say(f"choose {self.workspace}: {name}, fold {number + 1} of {self.folds}")
                scores[name].append(trials[number].run() if known is None else known)
        decision = decide(scores)
        write_page(self.folder, self.workspace, self.minutes, decision, scores)
        return decision


def plan_comparison(
    workspace: str, candidates: Sequence[Candidate], *, folds: int | None = None, minutes: float | None = None
) -> Comparison:
    """Plan the trainings, and refuse what can't be compared before any of them begins.

    Args:
        workspace: a key of params.yaml, whose stages have run up to split.
        candidates: the default first.
        folds: how many; None: those of the workspace's split, or five.
        minutes: of each training; None: those of the workspace's training.

    Raises:
        ConfigError: no such workspace, it has not ``plan: auto``, or numbers that make no comparison.
        DataError: its images are not there yet, or there are too few labelled cases.
    """
    block = _read_block(workspace)
    options, split = block["train"], block.get("split") or {}
    count = folds if folds is not None else split.get("folds") or USUAL_FOLDS
    length = options.get("max_minutes") if minutes is None else minutes
    if count < LEAST_FOLDS:
        raise ConfigError(f"--folds: {LEAST_FOLDS} or more, received {count}")
    if not isinstance(length, int | float) or not 0 < length < float("inf"):
        raise ConfigError(f"--minutes: a number above 0, received {length}")
    studies = {candidate.name: _study(workspace, candidate, float(length), options) for candidate in candidates}
    study = _require_cases(next(iter(studies.values())))
    datalists = draw_folds(study.datalist, count, int(split.get("seed", 0)))
    folder = study.target.mmar / "models" / "choice"
    trials = {
        name: [
            FoldTrial(variant, datalist, folder / name / f"fold_{number}", float(length))
            for number, datalist in enumerate(datalists, 1)
        ]
        for name, variant in studies.items()
    }
    for variants in trials.values():
        variants[0].check()
    return Comparison(workspace, folder, float(length), trials)


def _read_block(workspace: str) -> dict[str, Any]:
    """The workspace's block, which has ``plan: auto``."""
    workspaces = read_workspaces()
    block = workspaces.get(workspace)
    if not isinstance(block, dict):
        message = f"no workspace {workspace!r}{suggest(workspace, [*map(str, workspaces)])}"
        raise ConfigError(message, path=PARAMS, where="workspaces")
    train = block.get("train")
    if not isinstance(train, dict) or train.get("plan") != "auto":
        message = "voxflow choose compares what plan: auto lays out, and this workspace has no plan: auto"
        raise ConfigError(message, path=PARAMS, where=f"workspaces.{workspace}.train.plan")
    return block


def _study(workspace: str, candidate: Candidate, minutes: float, options: Mapping[str, object]) -> Study:
    own = options.get("set")
    values = {**(own if isinstance(own, dict) else {}), **candidate.set}
    changes = {"configuration": candidate.configuration, "set": values, "max_minutes": minutes, "schedule": "minutes"}
    return study_workspace(workspace, changes)


def _require_cases(study: Study) -> Study:
    if not isinstance(study.proposal, Proposal):
        raise ConfigError("voxflow choose compares segmentations of volumes, not radiographs", path=study.config)
    count = sum(len(list_labelled(study.datalist, part)) for part in (TRAINING, VALIDATION))
    if count < LEAST_CASES:
        message = f"voxflow choose needs {LEAST_CASES} labelled cases outside testing, there are {count}"
        raise DataError(message, path=study.datalist.path)
    return study
