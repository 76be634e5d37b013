"""Trains one candidate on one fold of a workspace, and scores the cases that the fold held out.

A trial that is complete left its scores, by which it is known again; one that was cut off goes on from its state.pt.
"""

from __future__ import annotations

import math
import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from voxflow.datalist import SplitOptions, split_cases
from voxflow.errors import ConfigError, DataError
from voxflow.files import read_json_or_none, write_json
from voxflow.lint import check_workspace
from voxflow.planning import load_study_workflow, read_study_facts, read_study_options
from voxflow.tracking import NullTracker
from voxflow.training import digest_training, find_dice, score_cases, train

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from voxflow.config import Workflow
    from voxflow.datalist import Case, Datalist
    from voxflow.planning import Study
    from voxflow.training import TrainOptions

TRAINING, VALIDATION, TESTING = "training", "validation", "testing"
SCORES = "scores.json"


def draw_folds(datalist: Datalist, count: int, seed: int) -> list[Datalist]:
    """Draw folds as the stage split does: by patient, of all labelled cases outside ``testing``.

    Args:
        datalist: the workspace's own; cases of its test part stay unseen.
        count: of folds.
        seed: of the workspace's split.

    Raises:
        DataError: there are fewer patients than folds.
    """
    import pandas as pd

    parts = {part: list_labelled(datalist, part) for part in (TRAINING, VALIDATION, TESTING)}
    known = {case.id: case for part in (TRAINING, VALIDATION) for case in parts[part]}
    patients = {case.patient or case.id for case in known.values()}
    if len(patients) < count:
        raise DataError(f"{len(patients)} patients outside testing can't make {count} folds", path=datalist.path)
    cases = [case for part in parts.values() for case in part]
    table = pd.DataFrame([{"case": c.id, "patient": c.patient or c.id, "label": "yes"} for c in cases])
    unseen = tuple(case.id for case in parts[TESTING])
    options = SplitOptions(seed=seed, testing=unseen, validation=1.0, folds=count)
    return [_make_fold(datalist, known, fold) for fold in split_cases(table, options)[1:]]


def list_labelled(datalist: Datalist, part: str) -> list[Case]:
    """The labelled cases of a part; none where there is no such part."""
    return [case for case in datalist.parts.get(part, ()) if case.label is not None]


def _make_fold(datalist: Datalist, known: Mapping[str, Case], fold: Mapping[str, str]) -> Datalist:
    drawn = {part: tuple(case for n, case in known.items() if fold[n] == part) for part in (TRAINING, VALIDATION)}
    return replace(datalist, parts={**datalist.parts, **drawn})


@dataclass(frozen=True)
class FoldTrial:
    """One candidate on one fold.

    Attributes:
        study: the workspace with the candidate's options.
        datalist: of the fold.
        folder: for what the training leaves, and for its scores.
        minutes: of the training.
    """

    study: Study
    datalist: Datalist
    folder: Path
    minutes: float

    def check(self) -> None:
        """Refuse what can't be compared, before anything is trained.

        Raises:
            ConfigError: the configuration is faulty, or its validation has no mean Dice.
        """
        workflow = check_workspace(self.study.target).require_workflow()
        if find_dice(workflow) is None:
            message = "candidates are compared by ComputeAverageDice, which is not among the metrics"
            raise ConfigError(message, path=workflow.path, where="validate.metrics")

    def read_scores(self) -> dict[str, float] | None:
        """The Dice of each held-out case, if this very trial is complete; None: it is not."""
        content = read_json_or_none(self.folder / SCORES)
        if not isinstance(content, dict) or content.get("identity") != self._identity():
            return None
        return {str(case): float("nan") if dice is None else float(dice) for case, dice in content["dice"].items()}

    def run(self) -> dict[str, float]:
        """Train, score the held-out cases, and leave the scores alone.

        Raises:
            KeyboardInterrupt: the training was interrupted; it goes on from there.
            DataError: cases can't be used.
        """
        workflow, options, facts = self._workflow(), self._options(), read_study_facts(self.study)
        result = train(workflow, self.datalist, options, self.folder, facts=facts, tracker=NullTracker())
        if result.ending == "interrupted":
            raise KeyboardInterrupt
        dice = score_cases(workflow, self.datalist, options, self.folder / "model.pt", facts=facts)
        held_out = list_labelled(self.datalist, VALIDATION)
        if len(dice) != len(held_out):
            message = f"{len(dice)} of {len(held_out)} held-out cases can be used; mend or remove the others"
            raise DataError(message, path=self.datalist.path)
        scores = {case.id: value for case, value in zip(held_out, dice, strict=True)}
        plain = {case: None if math.isnan(value) else value for case, value in scores.items()}
        write_json(self.folder / SCORES, {"identity": self._identity(), "dice": plain})
        for path in self.folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != SCORES:
                path.unlink()
        return scores

    def _workflow(self) -> Workflow:
        return load_study_workflow(self.study.target)

    def _options(self) -> TrainOptions:
        """Those of the workspace; the last state counts, since the held-out cases may not choose what they judge."""
        changes = {"max_minutes": self.minutes, "schedule": "minutes", "early_stopping": None, "keep": "last"}
        return read_study_options(self.study).model_copy(update={**changes, "resume": True})

    def _identity(self) -> dict[str, Any]:
        cases = [*list_labelled(self.datalist, TRAINING), *list_labelled(self.datalist, VALIDATION)]
        held_out = [case.id for case in list_labelled(self.datalist, VALIDATION)]
        digests = digest_training(self._workflow(), cases, self._options(), read_study_facts(self.study))
        return {**digests, "minutes": self.minutes, "held_out": held_out}
