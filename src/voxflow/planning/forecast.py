"""Forecasts the Dice of a training from short ones on fewer cases and for less time.

Each of :data:`SHARES` is a training of its own, by the configuration and the options of the training that is forecast.
A point in the middle of one training's curve would not do: its learning rate is still high there, and its Dice below
that of a training of this length.
"""

from __future__ import annotations

import math
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict

from voxflow.components import create
from voxflow.errors import ConfigError, DataError
from voxflow.files import read_json_or_none, write_json
from voxflow.planning.learning_curve import LEVEL, ShortRun, draw_forecasts, measure_noise
from voxflow.planning.proposal import Proposal
from voxflow.planning.workspace import load_study_workflow, read_study_facts, read_study_options
from voxflow.progress import say

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from voxflow.config import Workflow
    from voxflow.datalist import Case
    from voxflow.planning.workspace import Study
    from voxflow.training import DataFacts, TrainOptions, Trial

FILE = "forecast.json"
# Shares of the cases and of the time; the first two tell whether the others are worth their time.
SHARES = ((1.0, 0.25), (1.0, 1.0), (1.0, 0.5), (0.5, 1.0), (0.25, 1.0))
BUDGET_SHARE = 0.1  # of the training's time, for all short ones together
LEAST_TRAINING, LEAST_VALIDATION = 8, 3
# Below, or where four times the time raise the Dice by a third, trainings have only begun to learn: no power law.
LEAST_DICE, LEAST_SHARE_OF_DICE = 0.2, 0.75
SMALL_GAIN = 0.005


class ForecastPoint(BaseModel):
    """The forecast for one size of training.

    Attributes:
        cases, minutes: its size.
        dice, low, high: median and interval.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    cases: int
    minutes: float
    dice: float
    low: float
    high: float

    @property
    def text(self) -> str:
        """The Dice with its interval."""
        return f"{self.dice:.2f} ({self.low:.2f} to {self.high:.2f})"


class Forecast(BaseModel):
    """What forecast.json holds.

    Attributes:
        metric: the name that the training has for the Dice: mean over classes, on the validation cases.
        level: probability of the intervals.
        noise: standard deviation that the Dice of one training is taken to have.
        runs: cases, minutes and Dice of the short trainings.
        points: for the training as asked for, with twice the cases, and with twice the minutes; empty where the short
            trainings can't tell.
        advice: one sentence.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    metric: str
    level: float = LEVEL
    noise: float
    runs: tuple[tuple[int, float, float], ...]
    points: tuple[ForecastPoint, ...]
    advice: str

    @property
    def line(self) -> str:
        """The forecasts in words."""
        if not self.points:
            return "can't tell"
        asked, twice_cases, twice_time = self.points
        return (
            f"Dice {asked.text} after {asked.minutes:.3g} min with {asked.cases} cases; {twice_cases.text} with "
            f"{twice_cases.cases} cases; {twice_time.text} after {twice_time.minutes:.3g} min"
        )


def select_forecast_cases(study: Study) -> tuple[list[Case], list[Case]]:
    """Select the labelled cases to learn from and to validate on.

    Raises:
        ConfigError: the workspace is for radiographs, or no mean Dice is measured.
        DataError: they are too few, or training learns from the cases that validate it.
    """
    if not isinstance(study.proposal, Proposal):
        raise ConfigError("--forecast is for segmentation of volumes, not for radiographs", path=study.config)
    workflow = load_study_workflow(study.target)
    _find_metric(workflow)
    training, validation = (
        [case for case in study.datalist.cases(key) if case.label is not None] for key in _read_keys(workflow)
    )
    if len(training) < LEAST_TRAINING or len(validation) < LEAST_VALIDATION:
        needed = f"{LEAST_TRAINING} labelled cases to learn from and {LEAST_VALIDATION} to validate on"
        message = f"--forecast needs {needed}, there are {len(training)} and {len(validation)}"
        raise DataError(message, path=study.datalist.path)
    if {case.image for case in training} & {case.image for case in validation}:
        raise DataError("--forecast: training learns from cases that validate it", path=study.datalist.path)
    return training, validation


def forecast_training(study: Study, trial: Trial | None, together_minutes: float | None = None) -> Forecast:
    """Train shortly on parts of the cases, and forecast the Dice of the whole training; written to forecast.json.

    Args:
        study: the workspace.
        trial: steps that were timed, where the length of the training is given in epochs.
        together_minutes: time for all short trainings; None: a tenth of the training's.

    Raises:
        ConfigError: the times don't fit each other, or the training's length is not known.
        DataError: there are too few cases; see :func:`select_forecast_cases`.
        KeyboardInterrupt: a short training was interrupted.
    """
    training, _ = select_forecast_cases(study)
    workflow, options = load_study_workflow(study.target), read_study_options(study)
    minutes = _find_minutes(study, options, workflow, trial)
    together = minutes * BUDGET_SHARE if together_minutes is None else together_minutes
    longest = together / sum(time for _, time in SHARES)
    if not 0 < longest < minutes:
        rule = f"each of {len(SHARES)} short trainings needs more than 0 and less than the training's {minutes:.3g} min"
        raise ConfigError(f"--forecast-minutes {together:g}: {rule}", path=study.config)
    say(
        f"forecast: {len(SHARES)} short trainings take {together:.3g} min together, beside preparing the cases and "
        "validating"
    )
    runs = _train_parts(study, workflow, options, longest)
    forecast = make_forecast(runs, len(training), minutes, _find_metric(workflow))
    models = study.target.mmar / "models"
    # A training that has ended already is none that was forecast: the report knows it by its numbers.
    earlier = read_json_or_none(models / "train.json")
    write_json(models / FILE, forecast.model_dump(mode="json") | ({"earlier_training": earlier} if earlier else {}))
    return forecast


def _train_parts(study: Study, workflow: Workflow, options: TrainOptions, longest: float) -> list[ShortRun]:
    """Train on nested parts of the cases; the first two alone, where they have only begun to learn."""
    training, _ = select_forecast_cases(study)
    order = np.random.default_rng(0).permutation(len(training))
    facts, runs, steps = read_study_facts(study), list[ShortRun](), list[int]()
    for share, time_share in SHARES:
        # Nested: the larger part has the cases of the smaller one.
        part = [training[n] for n in order[: math.ceil(share * len(training))]]
        minutes = longest * time_share
        say(f"forecast: {len(part)} cases, {minutes:.3g} min")
        changes = {"max_minutes": minutes, "schedule": "minutes", "early_stopping": None, "resume": False}
        short_workflow = _stretch_epochs(workflow, len(training) / len(part))
        run, count = _train_shortly(study, short_workflow, options.model_copy(update=changes), part, facts)
        runs, steps = [*runs, run], [*steps, count]
        if len(runs) == 2 and _explain_early(runs):
            break
    return _share_pace(runs, steps)


def make_forecast(runs: list[ShortRun], cases: int, minutes: float, metric: str) -> Forecast:
    """Forecast the Dice of a training, of one with twice the cases and of one of twice the time.

    Args:
        runs: the short trainings, in the order of :data:`SHARES`; two are enough where they have only begun to learn.
        cases: that the training learns from.
        minutes: that it takes.
        metric: the name of the Dice.
    """
    rng = np.random.default_rng(0)
    noise, points = measure_noise(runs, rng), list[ForecastPoint]()
    advice = _explain_early(runs)
    if not advice:
        targets = [(cases, minutes), (2 * cases, minutes), (cases, 2 * minutes)]
        draws = draw_forecasts(runs, targets, noise, rng)
        low, middle, high = np.quantile(draws, [(1 - LEVEL) / 2, 0.5, (1 + LEVEL) / 2], axis=0).round(4).tolist()
        points = [
            ForecastPoint(cases=n, minutes=round(time, 3), dice=dice, low=least, high=most)
            for (n, time), dice, least, most in zip(targets, middle, low, high, strict=True)
        ]
        advice = _advise(draws)
    sizes = tuple((run.cases, round(run.minutes, 3), round(run.dice, 4)) for run in runs)
    return Forecast(metric=metric, noise=round(noise, 4), runs=sizes, points=tuple(points), advice=advice)


def _explain_early(runs: list[ShortRun]) -> str:
    """Say that trainings have only begun to learn; empty where they have learnt enough for a forecast."""
    briefest, longest = runs[:2]
    if longest.dice >= LEAST_DICE and briefest.dice >= LEAST_SHARE_OF_DICE * longest.dice:
        return ""
    scores = " and ".join(f"{run.dice:.2f} after {run.minutes:.2g} min" for run in (briefest, longest))
    return f"give more --forecast-minutes: the Dice is {scores}, too early to forecast from"


def _advise(draws: NDArray[np.float64]) -> str:
    """Compare what twice the cases and twice the time gain, draw by draw."""
    gains = draws[:, 1:] - draws[:, :1]
    low, high = np.quantile(gains[:, 0] - gains[:, 1], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    cases, time = np.median(gains, axis=0)
    numbers = f"twice the cases gain about {cases:.3f}, twice the time about {time:.3f}"
    if np.quantile(gains, (1 + LEVEL) / 2, axis=0).max() < SMALL_GAIN:
        return f"neither labelling more nor training longer gains much: {numbers}"
    if low > 0:
        return f"label more: {numbers}"
    if high < 0:
        return f"train longer: {numbers}"
    return f"can't tell whether labelling more or training longer gains more: {numbers}, and the intervals overlap"


def _train_shortly(
    study: Study, workflow: Workflow, options: TrainOptions, part: list[Case], facts: DataFacts
) -> tuple[ShortRun, int]:
    """Train, and return what came out and the number of steps."""
    from voxflow.tracking import NullTracker
    from voxflow.training import score_cases, train

    parts = {**study.datalist.parts, _read_keys(workflow)[0]: tuple(part)}
    datalist = replace(study.datalist, parts=parts)
    with tempfile.TemporaryDirectory() as folder:
        result = train(workflow, datalist, options, Path(folder), facts=facts, tracker=NullTracker())
        if result.ending == "interrupted":
            raise KeyboardInterrupt
        by_case = score_cases(workflow, datalist, options, Path(folder) / "model.pt", facts=facts)
    dice = result.metrics.get(_find_metric(workflow), 0.0)
    return ShortRun(len(part), options.max_minutes or 0.0, dice, by_case), result.steps


def _share_pace(runs: list[ShortRun], steps: list[int]) -> list[ShortRun]:
    """Give each run the minutes of its steps at the pace of all: other work on the machine slows some of them down."""
    pace = sum(run.minutes for run in runs) / sum(steps)
    return [replace(run, minutes=count * pace) for run, count in zip(runs, steps, strict=True)]


def _stretch_epochs(workflow: Workflow, times: float) -> Workflow:
    """Epochs of fewer cases are shorter: as many steps as with all cases end the training, or bring a validation."""
    names = ("epochs", "num_training_epoch_per_valid")
    changes = {name: math.ceil(getattr(workflow.globals, name) * times) for name in names}
    return replace(workflow, globals=workflow.globals.model_copy(update=changes))


def _find_minutes(study: Study, options: TrainOptions, workflow: Workflow, trial: Trial | None) -> float:
    """How long the training takes: max_minutes, or its epochs by the steps that were timed, whichever ends first."""
    limits = [] if options.max_minutes is None else [options.max_minutes]
    if trial is not None:
        limits.append(trial.epoch_seconds * workflow.globals.epochs / 60)
    if not limits:
        raise ConfigError("--forecast with --quick needs train.max_minutes: the length is not known", path=study.config)
    return min(limits)


def _read_keys(workflow: Workflow) -> tuple[str, str]:
    """The keys of the datalist for training and for validation."""
    training, validation = (create("pipeline", part.image_pipeline) for part in (workflow.train, workflow.validate))
    return training.data_list_key, validation.data_list_key


def _find_metric(workflow: Workflow) -> str:
    from voxflow.training import find_dice

    dice = find_dice(workflow)
    if dice is None:
        raise ConfigError("--forecast needs ComputeAverageDice", path=workflow.path, where="validate.metrics")
    return dice[1].name
