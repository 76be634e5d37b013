"""``voxflow plan --forecast``: intervals that hold as often as they say, order, advice, refusals, and the command."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from tasks import resample, split
from tests.planning.test_radiographs import propose, write_cases
from tests.tasks.demo_cases import run as run_stage
from tests.tasks.demo_cases import write_volumes
from voxflow.cli.main import main
from voxflow.datalist import Datalist
from voxflow.errors import ConfigError
from voxflow.geometry import Geometry
from voxflow.planning import Study, Target, select_forecast_cases
from voxflow.planning.forecast import SHARES, _share_pace, make_forecast
from voxflow.planning.learning_curve import SEED_NOISE, ShortRun, draw_forecasts, measure_noise
from voxflow.volumes import Volume, write_volume
from voxflow.workspace import create_workspace

CASES, MINUTES, SHORT = 72, 60.0, 1.6
VALIDATION = Path("data/datalists/demo/dataset_0.json")


class Truth:
    """A learning curve with exponents of its own, measured by short trainings with noise.

    Args:
        seed: decides everything.
    """

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.alpha, self.beta = np.exp(self.rng.uniform(np.log(0.1), np.log(2), 2))
        self.of_cases, self.of_time = self.rng.uniform(0.01, 0.08), self.rng.uniform(0.01, 0.15)
        self.least_error = self.rng.uniform(0.02, 0.15)
        self.difficulty = self.rng.normal(0, 0.05, 8)

    def measure(self, cases: float, minutes: float) -> ShortRun:
        """A training: the cases are as difficult in every run, and each run has its own noise in each case."""
        error = self.least_error + self.of_cases * (cases / CASES) ** -self.alpha
        error += self.of_time * (minutes / SHORT) ** -self.beta
        by_case = 1 - error + self.difficulty + self.rng.normal(0, 0.02, 8) + self.rng.normal(0, SEED_NOISE)
        return ShortRun(round(cases), minutes, float(by_case.mean()), tuple(by_case))

    def measure_short_runs(self) -> list[ShortRun]:
        return [self.measure(cases * CASES, time * SHORT) for cases, time in SHARES]


def test_intervals_of_90_percent_hold_the_outcome_in_about_90_of_100_trainings() -> None:
    held, count = np.zeros(3), 0
    for seed in range(320):
        truth = Truth(seed)
        points = make_forecast(truth.measure_short_runs(), CASES, MINUTES, "mean_dice").points
        if points:  # else the short trainings have only begun to learn
            outcomes = [truth.measure(point.cases, point.minutes).dice for point in points]
            held += [point.low <= outcome <= point.high for point, outcome in zip(points, outcomes, strict=True)]
            count += 1
    assert count >= 200
    # Three standard errors of a share of 0.9 among 240 are 0.06.
    assert held / count == pytest.approx(0.9, abs=0.06)


def test_the_noise_is_that_of_a_run_against_the_others() -> None:
    noises = [measure_noise(Truth(seed).measure_short_runs(), np.random.default_rng(0)) for seed in range(100)]
    # What a case's difficulty does to all runs is left out.
    assert np.mean(noises) == pytest.approx(np.hypot(0.02 / np.sqrt(8), SEED_NOISE), rel=0.05)


def test_a_class_that_a_case_lacks_is_no_noise() -> None:
    runs = [ShortRun(n, 1, 0.8, (0.8, 0.8, np.nan, 0.8)) for n in (2, 4, 8, 8, 8)]
    assert measure_noise(runs, np.random.default_rng(0)) == pytest.approx(SEED_NOISE)


def test_runs_that_no_curve_fits_are_believed_less() -> None:
    spread = [
        np.ptp(np.quantile(draw_forecasts(runs_of(*scores), [(72, 60)], 0.01, np.random.default_rng(0)), [0.05, 0.95]))
        for scores in ((0.75, 0.80, 0.78, 0.77, 0.75), (0.85, 0.80, 0.70, 0.87, 0.85))
    ]
    assert spread[1] > 2 * spread[0]


@pytest.mark.parametrize("seed", range(5))
def test_more_cases_or_more_time_are_never_forecast_lower(seed: int) -> None:
    sizes = [(CASES, MINUTES), (2 * CASES, MINUTES), (4 * CASES, MINUTES), (CASES, 2 * MINUTES), (2 * CASES, 120)]
    draws = draw_forecasts(Truth(seed).measure_short_runs(), sizes, 0.01, np.random.default_rng(0))
    assert np.all(draws[:, 0] <= draws[:, 1])
    assert np.all(draws[:, 1] <= draws[:, 2])
    assert np.all(draws[:, 0] <= draws[:, 3])
    assert np.all(draws[:, 3] <= draws[:, 4])
    assert draws.min() >= 0
    assert draws.max() <= 1


def runs_of(*scores: float) -> list[ShortRun]:
    """Runs without noise between the cases, in the order of the shares."""
    return [
        ShortRun(round(cases * CASES), time * SHORT, dice, (dice,) * 4)
        for (cases, time), dice in zip(SHARES, scores, strict=True)
    ]


@pytest.mark.parametrize(
    ("scores", "advice"),
    [
        ((0.7, 0.7, 0.7, 0.6, 0.5), "label more"),
        ((0.5, 0.6, 0.55, 0.6, 0.6), "train longer"),
        ((0.9, 0.9, 0.9, 0.9, 0.9), "neither"),
        ((0.79, 0.80, 0.79, 0.79, 0.78), "can't tell"),
    ],
)
def test_the_advice_follows_what_gains_more(scores: tuple[float, ...], advice: str) -> None:
    assert make_forecast(runs_of(*scores), CASES, MINUTES, "mean_dice").advice.startswith(advice)


@pytest.mark.parametrize("scores", [(0.0, 0.05, 0.01, 0.01, 0.01), (0.5, 0.7, 0.6, 0.7, 0.7)])
def test_trainings_that_have_only_begun_to_learn_give_no_number(scores: tuple[float, ...]) -> None:
    forecast = make_forecast(runs_of(*scores), CASES, MINUTES, "mean_dice")
    assert forecast.line == "can't tell"
    assert forecast.advice.startswith("give more --forecast-minutes: the Dice is")


def test_a_run_that_other_work_slowed_down_counts_as_long_as_its_steps() -> None:
    runs = [ShortRun(8, minutes, 0.5, (0.5,) * 3) for minutes in (1.0, 1.0, 2.0)]
    assert [run.minutes for run in _share_pace(runs, [10, 30, 40])] == [0.5, 1.5, 2.0]


@pytest.fixture
def _workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A workspace of the template auto with bright cubes, its stages run up to split."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VOXFLOW_CACHE", str(tmp_path / "cache"))
    write_volumes(cases=15, unlabelled=0)
    for path in Path("data/volumes/demo/labels").iterdir():
        image, grid = np.zeros((12, 10, 6), np.int16), Geometry.from_parts((12, 10, 6), (1.0, 1.0, 3.0))
        image[3:8, 3:7, 2:5] = 100
        write_volume(Path("data/volumes/demo/images") / path.name, Volume(image, grid))
        write_volume(path, Volume((image > 0).astype(np.uint8), grid))
    assert run_stage(resample, monkeypatch, {"spacing_mm": "auto", "orientation": "LPS"}) == 0
    assert run_stage(split, monkeypatch, {"testing": 0.2, "validation": 0.2}) == 0
    Path("params.yaml").write_text("workspaces: {}\n")
    Path("raw").mkdir()
    create_workspace("demo", Path("raw"), "auto")


@pytest.mark.usefixtures("_workspace")
def test_the_command_trains_shortly_and_writes_its_forecast(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # On a busy machine seconds are few steps.
    for name in ("LEAST_DICE", "LEAST_SHARE_OF_DICE"):
        monkeypatch.setattr(f"voxflow.planning.forecast.{name}", 0.0)
    assert main(["plan", "demo", "--quick", "--json", "--forecast-minutes", "0.1"]) == 0
    output, errors = capsys.readouterr()
    forecast = json.loads(Path("mmars/demo/models/forecast.json").read_text())
    assert json.loads(output)["forecast"] == forecast
    assert "forecast: 5 short trainings take 0.1 min together" in errors
    training = len(json.loads(VALIDATION.read_text())["training"])
    assert [cases for cases, _, _ in forecast["runs"]] == [*[training] * 3, -(-training // 2), -(-training // 4)]
    assert forecast["metric"] == "mean_dice"
    for point in forecast["points"]:
        assert 0 <= point["low"] <= point["dice"] <= point["high"] <= 1
    assert [(p["cases"], p["minutes"]) for p in forecast["points"]] == [
        (training, 60.0),
        (2 * training, 60.0),
        (training, 120.0),
    ]
    assert not list(Path("mmars/demo/models").glob("**/*.pt"))
    assert "p0_1" not in json.dumps(forecast)


@pytest.mark.usefixtures("_workspace")
@pytest.mark.parametrize(
    ("part", "count", "line"),
    [
        ("training", 7, "needs 8 labelled cases to learn from and 3 to validate on, there are 7 and 3"),
        ("validation", 2, "needs 8 labelled cases to learn from and 3 to validate on, there are 9 and 2"),
    ],
)
def test_too_few_cases_are_one_line(part: str, count: int, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    content = json.loads(VALIDATION.read_text())
    content[part] = content[part][:count]
    VALIDATION.write_text(json.dumps(content))
    assert main(["plan", "demo", "--forecast", "--apply"]) == 2
    assert capsys.readouterr().err.splitlines() == [f"voxflow plan: error: {VALIDATION}: --forecast {line}"]
    assert "plan: auto" in Path("params.yaml").read_text()  # refused before anything is written


@pytest.mark.usefixtures("_workspace")
@pytest.mark.parametrize("minutes", ["0", "-1", "nan", "inf", "600"])
def test_times_that_no_short_training_can_have_are_one_line(minutes: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "demo", "--quick", "--forecast-minutes", minutes]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "each of 5 short trainings needs more than 0 and less than the training's 60 min" in line


@pytest.mark.usefixtures("_workspace")
def test_cases_that_training_learns_from_judge_no_forecast(capsys: pytest.CaptureFixture[str]) -> None:
    content = json.loads(VALIDATION.read_text())
    content["validation"][0] = content["training"][0]
    VALIDATION.write_text(json.dumps(content))
    assert main(["plan", "demo", "--forecast"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "p0_1" not in line
    assert line.endswith("--forecast: training learns from cases that validate it")


@pytest.mark.usefixtures("_workspace")
def test_the_words_stand_below_the_plan(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    forecast = make_forecast(Truth(3).measure_short_runs(), CASES, MINUTES, "mean_dice")
    monkeypatch.setattr("voxflow.planning.forecast_training", lambda *_: forecast)
    assert main(["plan", "demo", "--quick", "--forecast"]) == 0
    rows = dict(line.split(None, 1) for line in capsys.readouterr().out.splitlines())
    number = r"\d\.\d\d \(\d\.\d\d to \d\.\d\d\)"
    assert re.fullmatch(
        rf"Dice {number} after 60 min with 72 cases; {number} with 144 cases; {number} after 120 min", rows["forecast"]
    )
    assert rows["advice"] == forecast.advice


def test_radiographs_have_no_forecast(tmp_path: Path) -> None:
    proposal = propose(write_cases(tmp_path / "data", 104, "pneumonia"))
    target = Target(name="x", mmar=tmp_path, config=tmp_path / "config.json", evaluation=None, environment=None)
    study = Study(target, {"plan": "auto"}, Datalist(tmp_path / "d.json", tmp_path, {}), proposal, {})
    with pytest.raises(ConfigError, match="--forecast is for segmentation of volumes"):
        select_forecast_cases(study)
