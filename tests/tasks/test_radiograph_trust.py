"""The stages evaluate and infer of a classifier: calibrated by held-out radiographs, and new ones answered by it."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import yaml
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss

from tasks import evaluate, infer
from tasks.common.folds import main
from tests.inference.models import BrightnessEngine
from tests.tables import read_table
from voxflow.files import write_json
from voxflow.inference import InferOptions, ModelFolders, open_any_reviewer
from voxflow.prediction import Ensemble
from voxflow.tracking import NullTracker
from voxflow.trust import RadiographCalibration
from voxflow.volumes import write_radiograph

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from voxflow.engines import Engine

WS = Path("mmars/ws")
TEST, INFER = WS / "eval/test", WS / "eval/infer"
COUNTS = {"training": 4, "validation": 60, "testing": 40, "inference": 3}


class ExportedEngine(BrightnessEngine):
    """A classifier by its brightness, as if it were exported."""

    name = "onnxruntime"


class ShiftedEngine(ExportedEngine):
    """A classifier that sees everything brighter than it is."""

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        return super().run(batch) + np.array([[0.5, 0]], np.float32)


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Engine]:
    """A workspace whose stages up to export have run; brightness is three times as sure of a mass as it may be."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    rows: list[str] = []
    parts: dict[str, list[dict[str, Any]]] = {}
    for part, count in COUNTS.items():
        entries = parts[part] = []
        for number in range(count):
            # Odd, so that no probability lies on the edge of a bin.
            case, grey = f"{part[0]}{number:03}", 2 * int(rng.integers(10, 90)) + 1
            label = [int(rng.random() < 1 / (1 + np.exp(-(grey - 100) / 60))), 0]
            write_radiograph(Path(f"data/volumes/ws/{case}.png"), np.full((32, 32), grey, np.uint8))
            rows.append(f"{case},{case},{case}.png,,,\n")
            entries.append({"image": f"{case}.png", "case": case} | ({} if part == "inference" else {"label": label}))
    Path("data/volumes/ws/cases.csv").write_text("case,patient,image,label,series_uid,source\n" + "".join(rows))
    Path("data/resampled").mkdir()
    Path("data/resampled/ws").symlink_to(Path("data/volumes/ws").absolute())
    write_json(Path("data/datalists/ws/dataset_0.json"), {"label_format": [1, 1], **parts})
    for folder in (WS / "models", WS / "models/folds/1", WS / "models/folds/2"):
        (folder / "export").mkdir(parents=True)
        (folder / "export/model.onnx").write_text(str(folder))
        write_json(folder / "train/run.json", {"run_id": "", "experiment": "ws"})
    change()
    engines: list[Engine] = [ExportedEngine()]
    monkeypatch.setattr(evaluate, "open_engine", lambda *_: engines[0])
    monkeypatch.setattr(evaluate, "open_ensemble", lambda *_: Ensemble(engines))
    monkeypatch.setattr(ModelFolders, "open", lambda self: Ensemble(engines) if self.is_ensemble else engines[0])
    return engines


def change(**options: dict[str, Any]) -> None:
    block: dict[str, Any] = {"evaluate": {"calibrate": True}, "infer": {}, **options}
    block |= {"task": "classification", "source": "x", "evaluate": block["evaluate"] | {"bootstrap": 20}}
    params = {
        "workspaces": {"ws": block},
        "folds": {f"ws-{n}": {"workspace": "ws", "fold": n} for n in (1, 2)},
        "ensembles": {"ws": {"folds": [1, 2]}},
    }
    Path("params.yaml").write_text(yaml.safe_dump(params))


def run(stage: Any, *flags: str) -> int:
    name = stage.__name__.removeprefix("tasks.")
    sys.argv = [stage.__name__, "ws", *flags]
    return main(name, stage.run, run_ensemble=stage.run_ensemble)


def read_column(rows: list[dict[str, str]], name: str) -> NDArray[Any]:
    return np.array([float(row[name]) for row in rows])


@pytest.mark.usefixtures("workspace")
def test_a_classifier_is_calibrated_by_its_validation_and_new_radiographs_are_answered_so(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert (run(evaluate), run(infer)) == (0, 0)
    calibration = RadiographCalibration.read(TEST / "trust.json")
    assert (calibration.corrected, calibration.cases) == (["mass"], 60)
    platt = calibration.findings["mass"].platt
    assert 0.2 < platt.slope < 0.6
    printed = capsys.readouterr().err
    assert "probabilities of mass are calibrated; too few held-out patients for nodule (0 with, 60 without)" in printed
    rows = read_table(INFER / "preds_outputs.csv")
    assert list(rows[0])[2:] == ["mass", "nodule", *(f"{kind}_{name}" for kind in ("uncalibrated", "labels")
                                                     for name in ("mass", "nodule")), "verdict", "reasons"]  # fmt: skip
    raw = read_column(rows, "uncalibrated_mass")
    assert read_column(rows, "mass") == pytest.approx(platt.apply(np.log(raw / (1 - raw))), abs=1e-4)
    assert read_column(rows, "nodule") == pytest.approx(read_column(rows, "uncalibrated_nodule"))
    assert {row["verdict"] for row in rows} == {"review"}  # no nodule was held out, so that none can be excluded
    change(infer={"calibrated": False})
    assert run(infer) == 0
    rows = read_table(INFER / "preds_outputs.csv")
    assert list(rows[0]) == ["case", "image", "mass", "nodule"]
    assert read_column(rows, "mass") == pytest.approx(raw, abs=1e-5)


@pytest.mark.usefixtures("workspace")
def test_reliability_is_what_scikit_learn_computes() -> None:
    assert run(evaluate) == 0
    cases = read_table(TEST / "per_case.csv")
    truth = read_column(cases, "mass")
    row = next(
        row for row in read_table(TEST / "reliability.csv") if (row["finding"], row["on"]) == ("mass", "unseen cases")
    )
    bins = read_table(TEST / "reliability_bins.csv")
    columns = {"before": "uncalibrated_mass", "after": "probability_mass"}
    for state, column in columns.items():
        probabilities = read_column(cases, column)
        assert float(row[f"brier_{state}"]) == pytest.approx(brier_score_loss(truth, probabilities), abs=1e-5)
        shares, means = calibration_curve(truth, probabilities, n_bins=10)
        own = [row for row in bins if (row["finding"], row["on"], row["state"]) == ("mass", "unseen cases", state)]
        assert read_column(own, "share_positive") == pytest.approx(shares, abs=1e-5)
        assert read_column(own, "mean_probability") == pytest.approx(means, abs=1e-5)
        counts = read_column(own, "radiographs")
        error = (counts * np.abs(shares - means)).sum() / counts.sum()
        assert float(row[f"ece_{state}"]) == pytest.approx(error, abs=1e-5)
    metrics = json.loads(Path("data/metrics/ws/evaluate.json").read_text())
    assert metrics["mean_brier"] == pytest.approx(float(row["brier_after"]), abs=1e-5)
    assert metrics["mean_brier"] < metrics["mean_brier_uncalibrated"]
    assert metrics["held_out_ece"] < metrics["held_out_ece_uncalibrated"]
    assert metrics["label_sets_right"] > 0.8
    assert (TEST / "overlays/reliability.png").is_file()


@pytest.mark.usefixtures("workspace")
def test_another_model_or_use_is_answered_as_the_model_says(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(evaluate) == 0
    change(infer={"flips": ["j"]})
    assert run(infer) == 0
    assert "probabilities are not calibrated: calibrated with flips: []" in capsys.readouterr().err
    assert list(read_table(INFER / "preds_outputs.csv")[0]) == ["case", "image", "mass", "nodule"]
    change()
    (WS / "models/export/model.onnx").write_text("trained again")
    assert run(infer) == 0
    assert "probabilities are not calibrated: the calibration is of another model" in capsys.readouterr().err


@pytest.mark.usefixtures("workspace")
def test_too_small_a_validation_calibrates_nothing_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    path = Path("data/datalists/ws/dataset_0.json")
    content = json.loads(path.read_text())
    write_json(path, content | {"validation": content["validation"][:15]})
    assert (run(evaluate), run(infer)) == (0, 0)
    assert "not calibrated; it takes 10 held-out patients with a finding and 10 without" in capsys.readouterr().err
    assert json.loads((TEST / "trust.json").read_text()) == {}
    assert list(read_table(INFER / "preds_outputs.csv")[0]) == ["case", "image", "mass", "nodule"]


def test_a_finding_that_is_called_as_a_column_leaves_the_model_uncalibrated(
    workspace: list[Engine], capsys: pytest.CaptureFixture[str]
) -> None:
    workspace[0].spec = workspace[0].spec.model_copy(update={"class_names": ("mass", "verdict")})
    assert run(evaluate) == 0
    assert "not calibrated: a finding is called as a column of the table is" in capsys.readouterr().err
    assert json.loads((TEST / "trust.json").read_text()) == {}
    assert {row["verdict"] for row in read_table(TEST / "per_case.csv")} == {"0"}


@pytest.mark.usefixtures("workspace")
def test_without_the_key_nothing_changes() -> None:
    change(evaluate={})
    assert (run(evaluate), run(infer)) == (0, 0)
    assert json.loads((TEST / "trust.json").read_text()) == {}
    assert not (TEST / "reliability.csv").exists()
    columns = ["case", "mass", "nodule", "probability_mass", "probability_nodule", "remark"]
    assert list(read_table(TEST / "per_case.csv")[0]) == columns
    assert "mean_brier" not in json.loads(Path("data/metrics/ws/evaluate.json").read_text())


def test_folds_are_calibrated_by_what_each_held_out(
    workspace: list[Engine], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace.append(ShiftedEngine())
    monkeypatch.setattr(evaluate, "begin_run", lambda *_, **__: contextlib.nullcontext(NullTracker("")))
    monkeypatch.setattr(evaluate, "find_common_parent", lambda _: None)
    content = json.loads(Path("data/datalists/ws/dataset_0.json").read_text())
    change(evaluate={})
    for number, engine in enumerate(list(workspace), 1):
        entries = content["validation"][number - 1 :: 2]
        parts = {"validation": entries, "training": content["validation"][2 - number :: 2]}
        write_json(Path(f"data/datalists/ws/fold_{number}.json"), {"label_format": [1, 1], **parts})
        monkeypatch.setattr(evaluate, "open_engine", lambda *_, engine=engine: engine)
        sys.argv = ["tasks.evaluate", "ws", "--fold", str(number)]
        assert main("evaluate", evaluate.run, run_fold=evaluate.run_fold) == 0
    change()
    assert (run(evaluate, "--ensemble"), run(infer, "--ensemble")) == (0, 0)
    calibration = RadiographCalibration.read(WS / "eval/ensemble/test/trust.json")
    finding = calibration.findings["mass"]
    assert [len(own) + len(others) for own, others in zip(finding.positives, finding.negatives, strict=True)] == [
        30,
        30,
    ]
    assert "mean AUC" in capsys.readouterr().err
    rows = read_table(WS / "eval/ensemble/infer/preds_outputs.csv")
    assert all(0 < float(row["spread_mass"]) < 0.2 and float(row["spread_nodule"]) == 0 for row in rows)
    assert {row["labels_mass"] for row in rows} <= {"present", "absent", "either", "neither"}
    folders = [WS / f"models/folds/{n}/export" for n in (2, 1)]
    reviewer = open_any_reviewer(Ensemble(workspace[::-1]), folders, InferOptions(confidence=0.8))
    assert reviewer is not None
    assert (getattr(reviewer, "order", None), getattr(reviewer, "confidence", None)) == ((1, 0), 0.8)
