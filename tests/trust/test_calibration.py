"""A calibration is of one model and its settings, counts patients and no leaks, and leaves out what tells nothing."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.trust.cohorts import MODELS, SETTINGS, calibrate, observe
from voxflow.errors import DataError
from voxflow.geometry import Geometry
from voxflow.trust import (
    Reviewer,
    build_calibration,
    measure_images,
    measure_review_share,
    read_calibration,
    trace_risk,
)
from voxflow.volumes import Volume

if TYPE_CHECKING:
    from pathlib import Path

    from voxflow.trust import Calibration

NAN = math.nan


@pytest.fixture
def calibration() -> Calibration:
    return calibrate(observe([0.9] * 12, [0.8 + n / 100 for n in range(12)], organ_ml=range(100, 112)))


def test_it_is_written_and_read_back(calibration: Calibration, tmp_path: Path) -> None:
    calibration.write(tmp_path / "trust.json")
    assert read_calibration(tmp_path / "trust.json") == calibration
    assert "p0001" not in (tmp_path / "trust.json").read_text()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dice": [0.5]}, "as many numbers"),
        ({"signal": "luck"}, "signal"),
        ({"agreement": ["x"]}, "agreement"),
        ({"cases": -1}, "cases"),
        ({"format": 2}, "format"),
    ],
)
def test_another_file_is_refused(
    calibration: Calibration, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    path = tmp_path / "trust.json"
    path.write_text(json.dumps(calibration.model_dump(mode="json") | change))
    with pytest.raises(DataError, match=message):
        read_calibration(path)


@pytest.mark.parametrize(
    ("models", "settings", "signal", "message"),
    [
        (MODELS, SETTINGS, "mirrors", ""),
        (({"model.onnx": "2e"},), SETTINGS, "mirrors", "of another model"),
        (({},), SETTINGS, "mirrors", "of another model"),
        ((*MODELS, *MODELS), SETTINGS, "mirrors", r"of 1 model\(s\), not of 2"),
        (MODELS, SETTINGS | {"flips": ["i"]}, "mirrors", "calibrated with flips"),
        (MODELS, SETTINGS, "folds", "agreement of mirrors, not of folds"),
    ],
)
def test_it_speaks_of_one_model_and_its_settings(
    calibration: Calibration, models: tuple[dict[str, str], ...], settings: dict[str, object], signal: str, message: str
) -> None:
    import re

    assert re.search(message, calibration.explain_mismatch(models, settings, signal))
    assert bool(message) == bool(calibration.explain_mismatch(models, settings, signal))


def test_a_patient_counts_once_and_a_leak_not_at_all() -> None:
    cases = observe([0.9, 0.8, 0.7, 0.6], [0.9, 0.8, 0.7, 0.6])
    patients = ["anna", "anna", "bert", "cora"]
    cases = [replace(case, patient=patient) for case, patient in zip(cases, patients, strict=True)]
    calibration = build_calibration(
        cases, signal="folds", models=MODELS, settings={}, part="testing", learned={"cora", "elsewhere"}
    )
    assert calibration.dice == (0.9, 0.7)
    assert calibration.left_out == {
        "a further case of a patient": 1,
        "the model learned from the case or its patient": 1,
    }


def test_cases_that_tell_nothing_are_counted_and_left_out() -> None:
    cases = observe([0.9, NAN, 0.7, 0.8], [0.9, 0.8, NAN, 0.0])
    calibration = calibrate([*cases[:3], replace(cases[3], is_empty=True)])
    assert calibration.dice == (0.9,)
    assert calibration.cases == 4
    assert sum(calibration.left_out.values()) == 3


def test_equal_dices_give_the_dice_as_bound() -> None:
    calibration = calibrate(observe([0.9] * 40, [0.75] * 40))
    trust = Reviewer(0.7, 0.9, calibration).assess(0.9, {}, is_empty=False)
    assert (trust.bound, trust.estimate, trust.verdict) == (0.75, 0.75, "send")
    assert trace_risk(calibration.agreement, calibration.dice) == [(1.0, 0.25)]


@pytest.mark.parametrize(
    ("agreement", "is_empty", "reason"),
    [
        (NAN, False, "no agreement"),
        (None, False, "no agreement"),
        (0.99, True, "empty mask"),
        (0.2, False, "as low as"),
    ],
)
def test_what_has_no_bound_is_reviewed(
    calibration: Calibration, agreement: float | None, is_empty: bool, reason: str
) -> None:
    trust = Reviewer(0.5, 0.9, calibration).assess(agreement, {"organ_ml": 105}, is_empty=is_empty)
    assert trust.verdict == "review"
    assert reason in trust.reasons[0]


def test_without_a_case_everything_is_reviewed() -> None:
    trust = Reviewer(0.0, 0.9, calibrate([])).assess(0.99, {}, is_empty=False)
    assert (trust.verdict, trust.bound) == ("review", None)
    assert measure_review_share(calibrate([]), 0.5, 0.9) is None


def test_a_case_unlike_the_calibration_is_reviewed_whatever_its_bound(calibration: Calibration) -> None:
    reviewer = Reviewer(0.1, 0.9, calibration)
    assert reviewer.assess(0.9, {"organ_ml": 108}, is_empty=False).verdict == "send"
    for volume in (0.0, 400.0, 10.0, NAN):
        trust = reviewer.assess(0.9, {"organ_ml": volume}, is_empty=False)
        assert "organ_ml" in trust.reasons[0]
        assert "may not hold" in trust.reasons[0]


def test_a_class_that_some_cases_lack_may_be_absent() -> None:
    calibration = calibrate(observe([0.9] * 6, [0.8] * 6, tumour_ml=[0, 0, 5, 6, 7, 8]))
    assert not calibration.find_unusual({"tumour_ml": 0.0})
    assert not calibration.find_unusual({"tumour_ml": 9.0})
    assert calibration.find_unusual({"tumour_ml": 90.0})


def test_images_are_measured_like_numpy_does() -> None:
    import numpy as np

    array = np.random.default_rng(0).normal(100, 20, (64, 60, 40)).astype(np.float32)
    volume = Volume(array, Geometry.from_parts(array.shape, (1, 1, 2.5)))
    features = measure_images([volume])
    assert features["spacing_k_mm"] == 2.5
    assert features["extent_k_mm"] == 100
    assert features["percentile_99"] == pytest.approx(np.percentile(array, 99), rel=0.02)
    assert features["deviation"] == pytest.approx(20, rel=0.02)
    names = set(measure_images([volume, volume], ["T1", "T2"]))
    assert {"percentile_1:T1", "percentile_1:T2"} <= names
