"""``voxflow choose``: folds, resuming, the decision in params.yaml, and one line for what can't be compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import voxflow.choosing.trials as trials_module
from tasks import resample, split
from tests.tasks.demo_cases import run as run_stage
from tests.tasks.demo_cases import write_volumes
from voxflow.choosing.trials import draw_folds
from voxflow.cli.main import main
from voxflow.datalist import Datalist
from voxflow.geometry import Geometry
from voxflow.places import read_params
from voxflow.volumes import Volume, write_volume
from voxflow.workspace import create_workspace

PARAMS, DATALIST = Path("params.yaml"), Path("data/datalists/demo/dataset_0.json")
SPLIT = {"testing": 0.2, "validation": 0.2, "seed": 7}


@pytest.fixture(autouse=True)
def _workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A workspace of the template auto with bright boxes in noise, its stages run up to split."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VOXFLOW_CACHE", str(tmp_path / "cache"))
    write_volumes(cases=15, unlabelled=0)
    rng = np.random.default_rng(0)
    for path in Path("data/volumes/demo/labels").iterdir():
        image = rng.normal(0, 20, (12, 10, 6)).astype(np.int16)
        grid = Geometry.from_parts(image.shape, (1.0, 1.0, 3.0))
        label, (i, j, k) = np.zeros(image.shape, np.uint8), rng.integers(1, 4, 3)
        label[i : i + 5, j : j + 4, k : k + 2] = 1
        write_volume(Path("data/volumes/demo/images") / path.name, Volume(image + 100 * label.astype(np.int16), grid))
        write_volume(path, Volume(label, grid))
    assert run_stage(resample, monkeypatch, {"spacing_mm": "auto", "orientation": "LPS"}) == 0
    assert run_stage(split, monkeypatch, SPLIT) == 0
    PARAMS.write_text("workspaces: {}\n")
    Path("raw").mkdir()
    create_workspace("demo", Path("raw"), "auto")


def read_choice() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(Path("mmars/demo/models/choice/choice.json").read_text())
    return content


def pretend(monkeypatch: pytest.MonkeyPatch, gains: dict[str, float], stop_after: int = 99) -> list[str]:
    """Put given scores in the place of trainings; returns the folders of those that were asked for."""
    asked: list[str] = []

    def train(_workflow: Any, datalist: Datalist, options: Any, out: Path, **_: Any) -> Any:
        if len(asked) == stop_after:
            raise KeyboardInterrupt
        asked.append(out.relative_to("mmars/demo/models/choice").as_posix())
        assert (options.keep, options.schedule, options.max_minutes) == ("last", "minutes", 2.0)
        out.mkdir(parents=True, exist_ok=True)
        held_out = {case.id for case in datalist.cases("validation")}
        assert not held_out & {case.id for part in ("training", "testing") for case in datalist.cases(part)}
        return type("Result", (), {"ending": "finished"})

    def score(_workflow: Any, datalist: Datalist, _options: Any, model: Path, **_: Any) -> tuple[float, ...]:
        gain = gains[model.parent.parent.name]
        return tuple(
            0.8 + int(case.id.rpartition("_")[0][1:] or 0) / 500 + gain for case in datalist.cases("validation")
        )

    monkeypatch.setattr(trials_module, "train", train)
    monkeypatch.setattr(trials_module, "score_cases", score)
    return asked


def test_a_better_candidate_is_written_into_params_and_nothing_else_changes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = pretend(monkeypatch, {"full": 0.0, "2d": 0.1})
    before = PARAMS.read_text()
    assert main(["choose", "demo", "2d", "--folds", "3", "--minutes", "2", "--apply"]) == 0
    output, errors = capsys.readouterr()
    assert "choose demo: 6 trainings of 2 min (2 candidates, 3 folds): 12 min of training" in errors
    assert output.splitlines()[-1] == "chosen: 2d"
    # Fold by fold, the default first.
    assert asked == [f"{name}/fold_{fold}" for fold in (1, 2, 3) for name in ("full", "2d")]
    added = [line for line in PARAMS.read_text().splitlines() if line not in before.splitlines()]
    assert added == ["      configuration: 2d"]
    assert read_params()["workspaces"]["demo"]["train"]["configuration"] == "2d"
    assert main(["check", "demo"]) == 0
    choice = read_choice()
    assert sum(len(fold["2d"]) for fold in choice["cases"]) == 12
    assert [candidate["name"] for candidate in choice["candidates"]] == ["full", "2d"]
    assert "Chosen: **2d**" in Path("mmars/demo/models/choice/choice.md").read_text()


def test_an_equal_candidate_keeps_the_default_and_params(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, {"full": 0.0, "2d": 0.001})
    before = PARAMS.read_bytes()
    assert main(["choose", "demo", "2d", "--folds", "3", "--minutes", "2", "--apply"]) == 0
    assert read_choice()["chosen"] == "full"
    assert PARAMS.read_bytes() == before


def test_own_values_that_are_better_take_the_configuration_that_they_were_compared_with(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pretend(monkeypatch, {"full": 0.0, "slow": 0.1})
    PARAMS.write_text(PARAMS.read_text().replace("plan: auto\n", "plan: auto\n      configuration: 2d\n"))
    candidate = 'slow={"learning_rate": 0.001}'
    assert main(["choose", "demo", candidate, "--folds", "3", "--minutes", "2", "--apply"]) == 0
    assert read_params()["workspaces"]["demo"]["train"]["configuration"] == "full"
    assert "write these values below train.set in params.yaml yourself" in capsys.readouterr().err


def test_a_choice_that_was_cut_off_goes_on_and_one_with_other_minutes_begins_anew(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["choose", "demo", "2d", "--folds", "2", "--minutes", "2"]
    pretend(monkeypatch, {"full": 0.0, "2d": 0.0}, stop_after=3)
    assert main(command) == 130
    assert not Path("mmars/demo/models/choice/choice.json").exists()
    asked = pretend(monkeypatch, {"full": 0.0, "2d": 0.0})
    capsys.readouterr()
    assert main(command) == 0
    assert asked == ["2d/fold_2"]
    assert "2 folds), 3 of them done: 2 min of training" in capsys.readouterr().err
    # A training of other values is another one.
    PARAMS.write_text(PARAMS.read_text().replace("clip_norm: 12", "clip_norm: 11"))
    asked.clear()
    assert main(command) == 0
    assert len(asked) == 4


def test_folds_are_those_of_the_stage_split(monkeypatch: pytest.MonkeyPatch) -> None:
    folds = draw_folds(Datalist.read(DATALIST, Path("data/resampled/demo")), 3, seed=7)
    assert run_stage(split, monkeypatch, {**SPLIT, "folds": 3}) == 0
    for number, fold in enumerate(folds, 1):
        stage = Datalist.read(DATALIST.with_name(f"fold_{number}.json"), Path("data/resampled/demo"))
        for part in ("training", "validation", "testing"):
            assert {case.id for case in fold.cases(part)} == {case.id for case in stage.cases(part)}


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["demo", "3d"], "no configuration '3d'"),
        (["dmo", "2d"], "no workspace 'dmo'"),
        (["demo", "2d", "--folds", "1"], "--folds: 2 or more, received 1"),
        (["demo", "2d", "--folds", "0"], "--folds: 2 or more, received 0"),
        (["demo", "2d", "--folds", "13"], "12 patients outside testing can't make 13 folds"),
        (["demo", "2d", "--minutes", "0"], "--minutes: a number above 0, received 0"),
        (["demo", "2d", "--minutes", "nan"], "--minutes: a number above 0, received nan"),
        (["demo", 'wide={"train.modl.args.norm": "instance"}'], "train.modl.args.norm"),
        (["demo", 'wide={"train.model.args.norm": "layer"}'], "Input should be 'batch' or 'instance'"),
    ],
)
def test_what_can_not_be_compared_is_one_line(
    arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["choose", *arguments]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert line in errors[-1]
    # Faults of a configuration have a line that counts them, as everywhere.
    assert len(errors) == 1 + ("wide" in arguments[1])


def test_a_workspace_without_plan_auto_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    PARAMS.write_text(PARAMS.read_text().replace("plan: auto", "plan: config"))
    assert main(["choose", "demo", "2d"]) == 2
    assert "workspaces.demo.train.plan: voxflow choose compares what plan: auto lays out" in capsys.readouterr().err


def test_too_few_cases_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    content = json.loads(DATALIST.read_text())
    content["training"] = content["training"][:1]
    DATALIST.write_text(json.dumps(content))
    assert main(["choose", "demo", "2d"]) == 2
    assert "needs 5 labelled cases outside testing, there are 4" in capsys.readouterr().err


@pytest.mark.slow
def test_of_real_trainings_the_better_one_is_chosen_and_an_equal_one_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    # The workspace's own learning rate learns nothing.
    PARAMS.write_text(
        PARAMS.read_text().replace("      plan: auto\n", "      plan: auto\n      set: {learning_rate: 1.0e-9}\n")
    )
    better, equal = 'learning={"learning_rate": 0.004}', 'same={"learning_rate": 1.0e-9}'
    assert main(["choose", "demo", better, equal, "--folds", "2", "--minutes", "0.15"]) == 0
    choice = read_choice()
    assert choice["chosen"] == "learning"
    by_name = {candidate["name"]: candidate for candidate in choice["candidates"]}
    assert by_name["learning"]["is_better"]
    assert not by_name["same"]["is_better"]
    # Nothing but scores and the two files is left, and nothing is trained again.
    assert not list(Path("mmars/demo/models/choice").glob("**/*.pt"))
    capsys.readouterr()
    assert main(["choose", "demo", equal, "--folds", "2", "--minutes", "0.15"]) == 0
    assert "4 of them done: 0 min of training" in capsys.readouterr().err
    assert read_choice()["chosen"] == "full"


@pytest.mark.slow
def test_every_configuration_is_trained_and_compared() -> None:
    assert main(["choose", "demo", "2d", "residual", "--folds", "2", "--minutes", "0.2"]) == 0
    assert {candidate["cases"] for candidate in read_choice()["candidates"]} == {12}
