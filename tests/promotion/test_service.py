"""A better challenger becomes champion, a worse one does not, a roll-back works, the numbers stand on the version."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
import yaml

from tasks import promote
from tasks.common.stage import main as stage_main
from tests.promotion.workspace import put, write_workspace
from voxflow.cli.main import main
from voxflow.errors import DataError
from voxflow.places import Places
from voxflow.promotion import Decision, PromoteOptions, judge_candidate, read_candidate
from voxflow.tracking import begin_run, fetch_folder, find_version, materialise_champion, write_run_file

OLD = [0.70, 0.72, 0.74, 0.76, 0.71, 0.73, 0.75, 0.77]
BETTER = [score + 0.05 for score in OLD]
WORSE = [score - 0.05 for score in OLD]


def put_forward(root: Path, dice: list[float], model: str, **more: object) -> Decision:
    places = write_workspace(root, dice, model=model, **more)  # type: ignore[arg-type]
    return judge_candidate(read_candidate(places), PromoteOptions(), moves_alias=True)


def champion() -> str:
    version = find_version("demo", "champion")
    return version.number if version else ""


def test_the_first_model_is_champion_by_itself(root: Path) -> None:
    decision = put_forward(root, OLD, "one")
    assert (decision.verdict, champion()) == ("promoted", "1")
    assert decision.reasons == (
        "the first model: mean Dice 0.7350 reaches the floor of 0.5, and its exported engines equal torch",
    )


def test_the_first_model_without_parity_is_not(root: Path) -> None:
    decision = put_forward(root, OLD, "one", published=0)
    assert (decision.verdict, champion()) == ("kept", "")
    assert decision.reasons == ("parity: onnx differ from torch by more than their bound",)


def test_a_better_challenger_is_promoted_and_a_worse_one_is_not(root: Path) -> None:
    put_forward(root, OLD, "one")
    worse = put_forward(root, WORSE, "two")
    assert (worse.verdict, champion()) == ("kept", "1")
    assert "below the margin of 0.005" in worse.reasons[0]
    challenger = find_version("demo", "challenger")
    assert challenger is not None
    assert challenger.number == "2"
    assert challenger.tags["decision"] == "kept"
    assert float(challenger.tags["gain"]) == pytest.approx(-0.05)
    better = put_forward(root, BETTER, "three")
    assert (better.verdict, champion()) == ("promoted", "3")
    version = find_version("demo", "3")
    assert version is not None
    assert float(version.tags["gain"]) == pytest.approx(0.05)
    assert float(version.tags["p_value"]) == pytest.approx(1 / 256, abs=1e-6)
    assert (version.tags["champion"], version.tags["cases"], version.tags["wins"]) == ("1", "8", "8")
    assert float(version.tags["change_spleen"]) == pytest.approx(0.05)
    assert find_version("demo", "challenger") is None
    record = json.loads((fetch_folder(version, "decision", root / "kept") / "decision.json").read_text())
    assert record["numbers"]["p_value"] == float(version.tags["p_value"])


def test_a_workspace_challenges_the_champion_of_another_one(root: Path) -> None:
    put_forward(root, OLD, "adopted")
    write_workspace(root, BETTER, model="trained here")
    block = {"task": "segmentation", "source": "data/raw/demo", "promote": {"model": "demo"}}
    demo, here = Places("demo", {}), Places("here", block)
    for folder in ("evaluation", "models", "datalists", "volumes"):
        shutil.copytree(getattr(demo, folder), getattr(here, folder))
    (root / "params.yaml").write_text(yaml.safe_dump({"workspaces": {"here": block}}))
    decision = judge_candidate(read_candidate(here), here.options_of("promote", PromoteOptions), moves_alias=True)
    assert (decision.verdict, champion()) == ("promoted", "2")
    version = find_version("demo", "champion")
    assert version is not None
    assert version.tags["workspace"] == "here"
    assert find_version("here", "champion") is None
    assert main(["rollback", "here", "--because", "a trial"]) == 0
    assert champion() == "1"
    put(here.volumes / "labels/t0.nii.gz", "another label")
    decision = judge_candidate(read_candidate(here), PromoteOptions(), moves_alias=True)
    assert "judged on different test parts" in decision.reasons[0]
    assert "`voxflow promote here --evaluate-champion`" in decision.reasons[0]


def test_the_champion_comes_with_its_calibration_and_with_a_later_one(root: Path) -> None:
    places = write_workspace(root, OLD, model="one")
    target = root / "served"
    judge_candidate(read_candidate(places), PromoteOptions(), moves_alias=True)
    materialise_champion("demo", target)
    assert not (target / "trust.json").exists()
    assert "trust_sha256" not in (target / "version.json").read_text()
    for text in ("of the evaluation", "of a later evaluation"):
        put(places.evaluation / "test/trust.json", text)
        judge_candidate(read_candidate(places), PromoteOptions(), moves_alias=True)
        version = materialise_champion("demo", target)
        assert (version.number, (target / "trust.json").read_text()) == ("1", text)
        assert (target / "model.onnx").read_text() == "one"
    (target / "trust.json").write_text("kept")
    materialise_champion("demo", target)
    assert (target / "trust.json").read_text() == "kept"  # nothing is fetched where the version is there already


def test_a_roll_back_is_one_command_and_is_not_undone_by_itself(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put_forward(root, OLD, "one")
    put_forward(root, BETTER, "two")
    assert main(["rollback", "demo", "--because", "misses small spleens"]) == 0
    assert "version 1 is champion again, version 2 was left" in capsys.readouterr().err
    assert champion() == "1"
    rolled_back = find_version("demo", "2")
    assert rolled_back is not None
    assert rolled_back.tags["rolled_back"].endswith("to version 1: misses small spleens")
    again = put_forward(root, BETTER, "two")
    assert (again.verdict, champion()) == ("kept", "1")
    assert "was rolled back" in again.reasons[0]
    assert main(["rollback", "demo"]) == 2
    assert "version 1 is the first champion of demo" in capsys.readouterr().err


@pytest.mark.usefixtures("root")
def test_a_roll_back_without_a_champion_is_wrong_input(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rollback", "demo"]) == 2
    assert "no version of demo is called 'champion'" in capsys.readouterr().err


def test_no_class_may_fall_by_more_than_the_bound(root: Path) -> None:
    put_forward(root, OLD, "one", classes={"liver": OLD, "tumour": OLD})
    mixed = {"liver": [score + 0.2 for score in OLD], "tumour": WORSE}
    decision = put_forward(root, BETTER, "two", classes=mixed)
    assert (decision.verdict, champion()) == ("kept", "1")
    assert decision.reasons == ("tumour falls by 0.0500, allowed 0.02",)


def test_another_test_part_is_refused_with_the_reason(root: Path) -> None:
    put_forward(root, OLD, "one")
    decision = put_forward(root, BETTER, "two", label="corrected")
    assert (decision.verdict, champion()) == ("kept", "1")
    assert "judged on different test parts" in decision.reasons[0]


def test_new_training_cases_do_not_change_the_test_part(root: Path) -> None:
    put_forward(root, OLD, "one")
    places = write_workspace(root, BETTER, model="two")
    datalist = json.loads((places.datalists / "dataset_0.json").read_text()) | {"training": [{"case": "new"}]}
    put(places.datalists / "dataset_0.json", json.dumps(datalist))
    assert judge_candidate(read_candidate(places), PromoteOptions(), moves_alias=True).verdict == "promoted"


def test_too_few_cases_are_told_from_no_gain(root: Path) -> None:
    put_forward(root, OLD[:3], "one")
    decision = put_forward(root, BETTER[:3], "two")
    assert decision.verdict == "kept"
    assert decision.reasons == ("3 cases are too few to prove anything: the least p is 0.125, needed 0.05",)


def test_the_same_model_is_registered_once(root: Path) -> None:
    put_forward(root, OLD, "one")
    again = put_forward(root, OLD, "one")
    assert again.verdict == "champion"
    assert find_version("demo", "2") is None


def test_a_promotion_can_wait_for_a_person(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put_forward(root, OLD, "one")
    places = write_workspace(root, BETTER, model="two")
    waiting = judge_candidate(read_candidate(places), PromoteOptions(), moves_alias=False)
    assert (waiting.verdict, champion()) == ("kept", "1")
    assert "waits for `voxflow promote`" in waiting.reasons[0]
    assert main(["promote", "demo"]) == 0
    assert champion() == "2"
    assert "promoted: mean Dice 0.7850 against 0.7350" in capsys.readouterr().err


def test_a_person_may_promote_by_hand_and_says_why(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put_forward(root, OLD, "one")
    put_forward(root, WORSE, "two")
    put_forward(root, WORSE, "three", published=0)
    assert main(["promote", "demo", "--version", "2"]) == 2
    assert main(["promote", "demo", "--because", "x"]) == 2
    assert "version 3 of demo did not pass parity" in capsys.readouterr().err
    assert main(["promote", "demo", "--version", "2", "--because", "new scanner"]) == 0
    version = find_version("demo", "champion")
    assert version is not None
    assert (version.number, version.tags["decision_reason"]) == ("2", "by hand: new scanner")
    assert main(["rollback", "demo"]) == 0
    assert champion() == "1"


def test_the_champions_files_are_brought_here_once(root: Path) -> None:
    put_forward(root, OLD, "one")
    folder = root / "served"
    assert materialise_champion("demo", folder).number == "1"
    assert sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()) == [
        "model.onnx",
        "openvino/model.xml",
        "version.json",
    ]
    assert (folder / "model.onnx").read_text() == "one"
    before = folder.stat().st_ino
    materialise_champion("demo", folder)
    assert folder.stat().st_ino == before
    put_forward(root, BETTER, "two")
    assert materialise_champion("demo", folder).number == "2"
    assert (folder / "model.onnx").read_text() == "two"


@pytest.mark.usefixtures("root")
def test_without_a_champion_the_message_says_what_to_do() -> None:
    with pytest.raises(DataError, match="`voxflow promote demo` chooses the champion"):
        materialise_champion("demo", Path("served"))


def test_a_version_belongs_to_the_run_of_its_training(root: Path) -> None:
    places = write_workspace(root, OLD)
    with begin_run("demo") as tracker:
        write_run_file(places.models / "train/run.json", tracker, "demo")
    judge_candidate(read_candidate(places), PromoteOptions(), moves_alias=True)
    version = find_version("demo", "champion")
    assert version is not None
    assert version.run_id == tracker.run_id


def stage(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    monkeypatch.setattr(sys, "argv", ["promote", "demo"])
    assert stage_main("promote", promote.run) == 0
    record: dict[str, object] = json.loads(Path("mmars/demo/eval/decision.json").read_text())
    return record


def test_the_stage_writes_the_decision(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_forward(root, OLD, "one")
    write_workspace(root, BETTER, model="two")
    decision = stage(monkeypatch)
    assert (decision["verdict"], decision["challenger"], decision["champion"]) == ("promoted", "2", "1")
    numbers = decision["numbers"]
    assert isinstance(numbers, dict)
    assert (numbers["metric"], numbers["wins"], numbers["classes"]) == ("mean Dice", 8, {"spleen": 0.05})


def test_an_experiment_is_not_put_forward(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_workspace(root, OLD)
    monkeypatch.setenv("DVC_EXP_NAME", "rusty-moon")
    assert stage(monkeypatch)["verdict"] == "undecided"
    assert find_version("demo", "1") is None


def test_a_registry_that_is_away_leaves_it_undecided(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_workspace(root, OLD)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////nowhere/at/all.db")
    decision = stage(monkeypatch)
    assert decision["verdict"] == "undecided"
    assert "`voxflow promote demo` decides when it is back" in str(decision["reasons"])
