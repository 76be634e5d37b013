"""The stages evaluate and infer together: a model is calibrated on unseen patients, and new cases are sorted by it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.tasks.test_export_evaluate_infer import contents, stage, volumes
from voxflow.trust import read_calibration

__all__ = ["volumes"]  # a fixture

from tests.tables import read_table

if TYPE_CHECKING:
    from collections.abc import Callable

TEST, INFER = Path("mmars/ws/eval/test"), Path("mmars/ws/eval/infer")


def change(**options: dict[str, Any]) -> None:
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["workspaces"]["ws"] |= {"export": {"engines": ["onnx"], "parity_cases": 1}} | options
    Path("params.yaml").write_text(yaml.safe_dump(params))


def change_datalist(work: Callable[[dict[str, Any]], None]) -> None:
    path = Path("data/datalists/ws/dataset_0.json")
    content = json.loads(path.read_text())
    work(content)
    path.write_text(json.dumps(content))


@pytest.mark.usefixtures("volumes")
def test_a_calibrated_workspace_sorts_its_new_cases(capsys: pytest.CaptureFixture[str]) -> None:
    change(evaluate={"calibrate": True}, infer={"review_below": 0.99})
    assert (stage("export"), stage("evaluate"), stage("infer")) == (0, 0, 0)
    calibration = read_calibration(TEST / "trust.json")
    assert (calibration.signal, calibration.part, len(calibration.dice)) == ("probabilities", "testing", 2)
    dices = [float(row["mean_dice"]) for row in read_table(TEST / "per_case.csv")]
    assert calibration.dice == pytest.approx(dices, abs=1e-5)
    rows = read_table(INFER / "preds_outputs.csv")
    assert {row["verdict"] for row in rows} == {"review"}
    assert all(float(row["bound_holds"]) == pytest.approx(0.6667) for row in rows)
    assert {row["case"] for row in read_table(INFER / "review.csv")} == {"u1", "u2"}
    printed = capsys.readouterr().err
    assert "rests on 2 patients" in printed
    assert "too few for 90%: it holds for 67% of such cases" in printed
    assert "2 of 2 cases to review" in (INFER / "review.html").read_text()


@pytest.mark.usefixtures("volumes")
def test_another_model_is_not_judged_by_it() -> None:
    change(evaluate={"calibrate": True}, infer={"review_below": 0.0})
    assert (stage("export"), stage("evaluate"), stage("infer")) == (0, 0, 0)
    assert {row["verdict"] for row in read_table(INFER / "preds_outputs.csv")} == {"send"}
    content = json.loads((TEST / "trust.json").read_text())
    content["models"] = [dict.fromkeys(content["models"][0], "0" * 64)]
    (TEST / "trust.json").write_text(json.dumps(content))
    assert stage("infer") == 0
    rows = read_table(INFER / "preds_outputs.csv")
    assert {row["reasons"] for row in rows} == {"no estimate: the calibration is of another model"}


@pytest.mark.usefixtures("volumes")
def test_cases_and_patients_that_the_model_learned_from_do_not_count() -> None:
    change(evaluate={"calibrate": True})

    def leak(content: dict[str, Any]) -> None:
        content["testing"][0]["patient"] = content["validation"][0]["patient"]

    change_datalist(leak)
    assert (stage("export"), stage("evaluate")) == (0, 0)
    calibration = read_calibration(TEST / "trust.json")
    assert len(calibration.dice) == 1
    assert calibration.left_out == {"the model learned from the case or its patient": 1}


@pytest.mark.usefixtures("volumes")
@pytest.mark.parametrize("key", ["validation", "training"])
def test_a_calibration_on_what_the_model_saw_is_refused(key: str, capsys: pytest.CaptureFixture[str]) -> None:
    change(evaluate={"calibrate": True, "key": key})
    assert stage("export") == 0
    assert stage("evaluate") == 2
    assert f"the model learned from the cases under {key!r}" in capsys.readouterr().err


@pytest.mark.usefixtures("volumes")
def test_nothing_changes_where_nobody_asks() -> None:
    change()
    assert (stage("export"), stage("evaluate"), stage("infer")) == (0, 0, 0)
    assert json.loads((TEST / "trust.json").read_text()) == {}
    names = set(contents(str(INFER)))
    assert {"review.csv", "review.html", "u1/u1_trust.json"}.isdisjoint(names)
    before = {name: content for name, content in contents(str(INFER)).items() if name.endswith(".nii.gz")}
    change(infer={"review_below": 0.5})
    assert stage("infer") == 0
    after = contents(str(INFER))
    assert all(after[name] == content for name, content in before.items())
