"""A drifted inbox raises the alert and names what moved; one like the training data does not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from voxflow.drift import DriftResult, MonitorOptions, PatientFeatures, compare_samples

if TYPE_CHECKING:
    from voxflow.drift.features import Value

OPTIONS = MonitorOptions()
KERNELS = ("B30f", "B40f", "B60f")


def fingerprint(
    seed: int, patients: int, *, spacing: float = 1.0, intensity: float = 1.0, vendor: str = "Siemens"
) -> PatientFeatures:
    """CT studies of one hospital: slices of 1, 3 or 5 mm, several kernels, two vendors."""
    rng = np.random.default_rng(seed)
    rows: list[tuple[str, dict[str, Value]]] = []
    for n in range(patients):
        thickness = float(rng.choice([1.0, 3.0, 5.0], p=[0.2, 0.5, 0.3])) * spacing
        pixel = round(float(rng.uniform(0.6, 0.98)), 4) * spacing
        row: dict[str, Value] = {
            "modality": "CT",
            "spacing_i_mm": pixel,
            "spacing_j_mm": pixel,
            "spacing_k_mm": thickness,
            "extent_i_mm": 512 * pixel,
            "extent_k_mm": float(rng.integers(60, 140)) * 3.0,
            "percentile_1": -1000.0 * intensity,
            "percentile_99": float(rng.normal(320, 60)) * intensity,
            "deviation": float(rng.normal(480, 40)) * intensity,
            "manufacturer": str(rng.choice([vendor, "GE"], p=[0.7, 0.3])),
            "kernel": str(rng.choice(KERNELS)),
            "predicted_spleen_ml": float(rng.lognormal(5.2, 0.4)),
        }
        rows.append((f"{seed}-{n}", row))
    sample = PatientFeatures()
    sample.add(rows)
    return sample


def check(incoming: PatientFeatures, reference: int = 60) -> DriftResult:
    return compare_samples(fingerprint(1000, reference), incoming, OPTIONS)


@pytest.mark.parametrize("seed", range(20))
def test_studies_like_the_training_data_raise_no_alert(seed: int) -> None:
    assert check(fingerprint(seed, 15)).moved_features == ()


@pytest.mark.parametrize("seed", range(20))
def test_another_spacing_and_another_intensity_scale_are_named(seed: int) -> None:
    moved = {f.name for f in check(fingerprint(seed, 15, spacing=2.0)).moved_features}
    assert moved == {"spacing_i_mm", "spacing_j_mm", "extent_i_mm"} | (moved & {"spacing_k_mm"})
    moved = {f.name for f in check(fingerprint(seed, 15, intensity=0.5)).moved_features}
    assert moved == {"percentile_1", "percentile_99", "deviation"}


def test_another_vendor_is_named() -> None:
    (moved,) = check(fingerprint(3, 15, vendor="Canon")).moved_features
    assert moved.name == "manufacturer"
    assert moved.before.startswith("Siemens")
    assert moved.now.startswith("Canon")
    assert moved.outside > 0.4


def test_the_alert_is_as_rare_as_alpha_says() -> None:
    options = MonitorOptions(alpha=0.05, psi=0.01)
    pairs = [(fingerprint(2 * n, 25), fingerprint(2 * n + 1, 25)) for n in range(60)]
    assert np.mean([bool(compare_samples(*pair, options).moved_features) for pair in pairs]) <= 0.05


def test_two_studies_are_too_few_and_that_is_said() -> None:
    result = check(fingerprint(0, 2, intensity=0.5))
    assert result.moved_features == ()
    assert result.too_few
    assert result.line() == "2 patients are too few to tell drift from chance"


def test_many_studies_of_one_patient_count_once() -> None:
    sample = PatientFeatures()
    sample.add([("p", {"spacing_k_mm": value}) for value in (1.0, 5.0, 3.0)] + [("q", {"spacing_k_mm": 2.0})])
    assert sample.features == {"spacing_k_mm": {"p": 3.0, "q": 2.0}}
    assert sample.patients == 2


def test_a_feature_can_be_left_out() -> None:
    options = MonitorOptions(ignore=("percentile_1", "percentile_99"))
    result = compare_samples(fingerprint(1000, 60), fingerprint(0, 15, intensity=0.5), options)
    assert [f.name for f in result.moved_features] == ["deviation"]


def test_a_feature_of_one_side_alone_is_not_compared() -> None:
    incoming = fingerprint(0, 15)
    del incoming.features["predicted_spleen_ml"]
    assert "predicted_spleen_ml" not in {f.name for f in check(incoming).features}


def test_the_line_names_what_moved_with_numbers() -> None:
    result = check(fingerprint(0, 15, intensity=0.5))
    assert result.line().startswith("DRIFT in 15 patients: ")
    assert "percentile_1: -1000 → -500 (PSI " in result.line()
