"""The stage validate on cases of several channels: every finding names its channel; swapped ones are found."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from tasks import resample, validate
from tests.tasks.demo_cases import VOLUMES, run
from tests.volumes.test_channel_profile import draw_body
from voxflow.drift import MonitorOptions, compare_samples, measure_incoming
from voxflow.engines import Engine
from voxflow.errors import DataError
from voxflow.evaluation import EvaluateOptions, evaluate_segmentation
from voxflow.files import write_json
from voxflow.geometry import Geometry
from voxflow.inference import (
    InferenceCase,
    InferOptions,
    ResultLedger,
    check_channel_order,
    infer_cases,
    read_volumes,
)
from voxflow.places import Places
from voxflow.quality import profile_suites
from voxflow.spec import ModelSpec
from voxflow.volumes import Volume, read_fingerprint, read_volume, write_volume

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from voxflow.prediction import SwapHandling

CASES = 12


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write_cohort(folder: Path = VOLUMES, seed: int = 1, gain: float = 1.0) -> list[dict[str, str]]:
    """Cases of a CT and a PET of half its resolution."""
    rows = []
    for n in range(CASES):
        ct, pet = draw_body(np.random.default_rng([seed, n]))
        pet = Volume((pet.array * gain).astype(np.float32), pet.geometry)
        names = [f"images/p{n:02}_1_{number}.nii.gz" for number in ("0000", "0001")]
        for name, volume in zip(names, (ct, pet), strict=True):
            write_volume(folder / name, volume)
        rows.append({"case": f"p{n:02}_1", "patient": f"p{n:02}", "modality": "CT;PT", "image": ";".join(names)})
    write_rows(rows, folder)
    write_json(folder / "labels.json", {"0": "background", "1": "tumour"})
    write_json(
        folder / "case_form.json",
        {"channels": ["CT", "PET"], "rules": {"CT": {"modality": "CT"}, "PET": {"modality": "PT"}}},
    )
    return rows


def write_rows(rows: list[dict[str, str]], folder: Path = VOLUMES) -> None:
    table = pd.DataFrame([{"label": "", **row} for row in rows]).assign(size="", spacing_mm="", orientation="")
    table.to_csv(folder / "cases.csv", index=False)


def list_failures(folder: str) -> dict[str, dict[str, str]]:
    """By check, the value of each case that fails it."""
    report: dict[str, Any] = json.loads((Path(folder) / "report.json").read_text())
    return {check["name"]: check["failures"] for check in report["checks"] if check["failures"]}


def test_each_channel_is_measured_and_a_swapped_case_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = write_cohort()
    rows[4]["image"] = ";".join(reversed(rows[4]["image"].split(";")))
    write_rows(rows)
    assert run(validate, monkeypatch, {"warning": ["bright values are of the modality"]}) == 0
    failures = list_failures("data/quality/demo")
    assert failures["channels are in their places"] == {"p04_1": "CT and PET look swapped"}
    assert failures["channels share one grid"]["p00_1"] == "PET: 20 × 20 × 15 voxels of 8 × 8 × 8 mm"
    assert failures["dark values are of the modality: PET"].keys() == {"p04_1"}
    assert "warning: channels are in their places: p04_1 (CT and PET look swapped)" in capsys.readouterr().err
    measured = pd.read_csv("data/quality/demo/measurements.csv")
    assert measured["percentile_1:CT"][0] < -900 < measured["percentile_1:PET"][0]
    assert "percentile_99:PET" in profile_suites(measured)["CT;PT"]


def test_missing_repeated_distant_and_empty_channels_are_critical_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = write_cohort()
    files = [row["image"].split(";") for row in rows]
    rows[0]["image"] = files[0][1]
    rows[1]["image"] = f"{files[1][0]};{files[1][0]}"
    (VOLUMES / files[2][1]).unlink()
    far, empty = (draw_body(np.random.default_rng(n))[1] for n in (98, 99))
    moved = Volume(far.array, type(far.geometry).from_parts(far.array.shape, (8, 8, 8), (900, 0, 0)))
    write_volume(VOLUMES / files[3][1], moved)
    write_volume(VOLUMES / files[4][1], Volume(empty.array * 0, empty.geometry))
    write_rows(rows)
    assert run(validate, monkeypatch) == 1
    failures = list_failures("data/quality/demo.failed")
    assert failures["channels are complete"] == {"p00_1": "CT"}
    assert failures["channels are different images"].keys() == {"p01_1"}
    assert failures["files can be read"]["p02_1"].startswith("PET: file not found")
    assert "lie beside each other" in failures["channels show one place"]["p03_1"]
    assert failures["image is not constant: PET"]["p04_1"] == "0.0"


def write_labelled_cohort() -> list[dict[str, str]]:
    """Cases whose channels share a grid, with a label of two nested regions."""
    rows = write_cohort()
    for row in rows:
        ct, pet = (VOLUMES / name for name in row["image"].split(";"))
        grid = read_volume(ct).geometry
        image = read_volume(pet).array.repeat(2, 0).repeat(2, 1).repeat(2, 2)
        write_volume(pet, Volume(image, grid))
        label = (image > np.percentile(image, 90)).astype(np.uint8) + (image > np.percentile(image, 98))
        row["label"] = f"labels/{row['case']}.nii.gz"
        write_volume(VOLUMES / row["label"], Volume(label, grid))
    write_json(VOLUMES / "labels.json", {"0": "background", "1": "rim", "2": "core"})
    form = json.loads((VOLUMES / "case_form.json").read_text())
    write_json(VOLUMES / "case_form.json", form | {"regions": {"whole": [1, 2], "core": [2]}})
    write_rows(rows)
    return rows


def lose_channel(row: dict[str, str]) -> None:
    row["image"] = row["image"].split(";")[0]


def swap_channels(row: dict[str, str]) -> None:
    row["image"] = ";".join(reversed(row["image"].split(";")))


def move_channel(row: dict[str, str]) -> None:
    path = VOLUMES / row["image"].split(";")[1]
    volume = read_volume(path)
    geometry = Geometry.from_parts(volume.geometry.size, volume.geometry.spacing, (3, 0, 0))
    write_volume(path, Volume(volume.array, geometry))


def relabel(row: dict[str, str], old: int, new: int) -> None:
    volume = read_volume(VOLUMES / row["label"])
    write_volume(VOLUMES / row["label"], Volume(np.where(volume.array == old, new, volume.array), volume.geometry))


@pytest.mark.parametrize(
    ("damage", "code", "check", "reason"),
    [
        (lose_channel, 1, "channels are complete", "PET"),
        (swap_channels, 0, "channels are in their places", "CT and PET look swapped"),
        (move_channel, 0, "channels share one grid", "PET: 40 × 40 × 30 voxels of 4 × 4 × 4 mm"),
        (partial(relabel, old=2, new=1), 0, "classes are in the case", "no core"),
        (partial(relabel, old=2, new=255), 1, "label values are known", "0 1 255"),
    ],
    ids=["missing channel", "swapped channels", "channel on another grid", "empty region", "value to ignore"],
)
def test_every_fault_of_channels_and_regions_is_a_finding_of_its_case(
    damage: Callable[[dict[str, str]], None], code: int, check: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = write_labelled_cohort()
    assert run(validate, monkeypatch) == 0
    assert check not in list_failures("data/quality/demo")
    damage(rows[4])
    write_rows(rows)
    assert run(validate, monkeypatch) == code
    failures = list_failures("data/quality/demo.failed" if code else "data/quality/demo")
    assert failures[check].keys() == {"p04_1"}
    assert failures[check]["p04_1"].startswith(reason)


def make_pet_ct_spec() -> ModelSpec:
    """Of a model that learned from the resampled cohort."""
    profile = read_fingerprint(Path("data/resampled/demo/fingerprint.json")).profile
    assert profile is not None
    return ModelSpec(
        task="segmentation",
        class_names=("background", "tumour"),
        activation="softmax",
        in_channels=2,
        channels=("CT", "PET"),
        onto="PET",
        profile=profile.model_dump(mode="json"),
    )


def test_a_model_refuses_channels_that_look_swapped(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = write_cohort()
    assert run(resample, monkeypatch, {"onto": "PET"}) == 0
    kept = ModelSpec.model_validate_json(make_pet_ct_spec().model_dump_json())
    for row in rows:
        images = tuple(VOLUMES / name for name in row["image"].split(";"))
        assert check_channel_order(read_volumes(InferenceCase("a", images), kept), kept, "refuse") == ""
        swapped = read_volumes(InferenceCase("a", images[::-1]), kept)
        with pytest.raises(DataError, match=r"CT and PET look swapped, .*set swapped_channels: warn"):
            check_channel_order(swapped, kept, "refuse")


class SumEngine(Engine):
    """Calls bright voxels a tumour."""

    name = "torch"
    is_local = True

    def __init__(self, spec: ModelSpec) -> None:
        self.spec = spec

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        total = batch.sum(axis=1, keepdims=True)
        return np.concatenate([np.zeros_like(total), total], axis=1)


def test_a_swapped_case_is_refused_or_goes_on_with_a_remark(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = write_cohort()
    assert run(resample, monkeypatch, {"onto": "PET"}) == 0
    engine = SumEngine(make_pet_ct_spec())
    cases = []
    for number, row in enumerate(rows[:2]):
        images = tuple(VOLUMES / name for name in row["image"].split(";"))
        label = Path(f"label{number}.nii.gz")
        grid = read_volume(images[1])
        write_volume(label, Volume((grid.array > 1).astype(np.uint8), grid.geometry))
        cases.append(InferenceCase(row["case"], images[::-1] if number else images, label))
    reason = "CT and PET look swapped, by what the channels of the training's cases are like"
    failed_cases: dict[SwapHandling, int] = {"refuse": 1, "warn": 0}
    for handling, failed in failed_cases.items():
        infer_options = InferOptions(swapped_channels=handling, overlays=0)
        out = [Path(f"{name}_{handling}") for name in ("infer", "evaluate")]
        for folder in out:
            folder.mkdir()
        ledger = ResultLedger(out[0], "maker")
        infer_cases(engine, cases, out[0], infer_options, ledger=ledger)
        capsys.readouterr()
        # What is there already is not made again, and keeps its remark.
        options = infer_options.model_copy(update={"overwrite": False})
        result = infer_cases(engine, cases, out[0], options, ledger=ledger)
        assert result.metrics["failed_cases"] == failed
        evaluation = evaluate_segmentation(engine, cases, out[1], EvaluateOptions(swapped_channels=handling))
        assert evaluation.metrics["failed_cases"] == failed
        masks = pd.read_csv(out[0] / "preds_outputs.csv", keep_default_na=False)
        scores = pd.read_csv(out[1] / "per_case.csv", keep_default_na=False).set_index("case")
        if handling == "refuse":
            assert "remark" not in masks
            assert result.failures.rows[0]["reason"].startswith(reason)
        else:
            assert list(masks["remark"]) == ["", reason]
            assert scores["remark"][cases[1].id].startswith(reason)
            assert f"warning: case {cases[1].id}: {reason}" in capsys.readouterr().err


def test_drift_names_the_channel_that_moved() -> None:
    samples = []
    for name, seed, gain in (("old", 1, 1.0), ("new", 2, 5.0)):
        write_cohort(Path(name), seed, gain)
        samples.append(measure_incoming(Path(name), Places("demo", {"task": "segmentation", "source": "raw"})))
    result = compare_samples(samples[0], samples[1], MonitorOptions())
    moved = {feature.name for feature in result.moved_features}
    assert "percentile_99:PET" in moved
    assert not any(name.endswith(":CT") for name in moved)
    assert "percentile_99" not in samples[0].features
