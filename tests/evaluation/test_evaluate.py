"""Evaluation scores each case on its own grid, reports the bad ones, and writes every table."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.inference.models import BrightnessEngine, ThresholdEngine, volume_spec
from tests.tables import read_table
from voxflow.evaluation import EvaluateOptions, evaluate_classification, evaluate_segmentation
from voxflow.geometry import Geometry
from voxflow.inference import InferenceCase
from voxflow.volumes import Volume, read_volume, write_radiograph, write_volume

GRID = Geometry.from_parts((24, 20, 10), (0.8, 0.8, 3), (5, 6, 7))


def volume_case(folder: Path, name: str, *, shift: int = 0, organ: bool = True) -> InferenceCase:
    """An image with a bright box, and its label, ``shift`` voxels beside it."""
    image = np.zeros(GRID.size, np.float32)
    label = np.zeros(GRID.size, np.uint8)
    if organ:
        image[6:14, 5:13, 3:7] = 1
        label[6 + shift : 14 + shift, 5:13, 3:7] = 1
    write_volume(folder / f"{name}.nii.gz", Volume(image, GRID))
    write_volume(folder / f"{name}_label.nii.gz", Volume(label, GRID))
    return InferenceCase(name, (folder / f"{name}.nii.gz",), folder / f"{name}_label.nii.gz")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def test_scores_are_right_and_everything_is_written(tmp_path: Path, out: Path) -> None:
    cases = [volume_case(tmp_path, "good"), volume_case(tmp_path, "poor", shift=4)]
    evaluation = evaluate_segmentation(ThresholdEngine(), cases, out, EvaluateOptions())
    assert evaluation.metrics["dice_organ"] == evaluation.metrics["mean_dice"] == pytest.approx((1 + 0.5) / 2)
    assert evaluation.metrics["jaccard_organ"] == pytest.approx((1 + 1 / 3) / 2)
    summary = json.loads((out / "summary.json").read_text())
    assert summary["intervals_95"]["mean_dice"] == [0.5, 1]
    assert summary["per_case"]["poor"]["organ"]["surface_dice"] == pytest.approx(
        evaluation.metrics["surface_dice_organ"] * 2 - 1
    )
    assert evaluation.metrics["hd95_organ"] == pytest.approx(4 * 0.8 / 2)
    assert (evaluation.metrics["cases"], evaluation.metrics["failed_cases"]) == (2, 0)
    assert (out / "mean_dice.txt").read_text() == "good 1.000000\npoor 0.500000\nmean 0.750000\n"
    assert (out / "organ_dice_report.txt").read_text().splitlines()[-1] == "mean 0.750000"
    assert [row["dice_organ"] for row in read_table(out / "per_case.csv")] == ["1.0", "0.5"]
    assert read_volume(out / "masks" / "poor.nii.gz").geometry.is_close(GRID)
    assert sorted(path.name for path in (out / "overlays").iterdir()) == ["best_good.png", "worst_poor.png"]
    assert json.loads((out / "failures.json").read_text()) == []


def test_an_organ_that_is_nowhere_is_listed_and_not_averaged(tmp_path: Path, out: Path) -> None:
    cases = [volume_case(tmp_path, "full", shift=4), volume_case(tmp_path, "none", organ=False)]
    evaluation = evaluate_segmentation(ThresholdEngine(), cases, out, EvaluateOptions())
    assert evaluation.metrics["mean_dice"] == pytest.approx(0.5)
    assert evaluation.metrics["empty_organ"] == 1
    assert read_table(out / "per_case.csv")[1]["remark"] == "organ: empty in reference and mask"
    assert read_table(out / "per_case.csv")[1]["dice_organ"] == ""
    assert "none undefined" in (out / "mean_dice.txt").read_text()


def test_class_is_scored_in_the_cases_in_which_it_was_labelled(tmp_path: Path, out: Path) -> None:
    partial = replace(volume_case(tmp_path, "partial", organ=False), labelled=())
    wrong = replace(volume_case(tmp_path, "wrong"), labelled=("liver",))
    cases = [volume_case(tmp_path, "full", shift=4), partial, wrong]
    evaluation = evaluate_segmentation(ThresholdEngine(), cases, out, EvaluateOptions())
    assert evaluation.metrics["mean_dice"] == pytest.approx(0.5)
    assert evaluation.metrics["cases_organ"] == 1
    assert evaluation.metrics["empty_organ"] == 0
    assert {row["case"]: row["remark"] for row in read_table(out / "per_case.csv")} == {
        "full": "",
        "partial": "organ: not labelled",
        "wrong": "failed: labelled names liver, which the model does not know",
    }


def test_voxels_that_nobody_labelled_are_counted_and_left_out(tmp_path: Path, out: Path) -> None:
    cases = [replace(volume_case(tmp_path, name, shift=4), ignore=9) for name in ("some", "all", "none")]
    for case, planes in zip(cases, (slice(10, None), slice(None), slice(24, None)), strict=True):
        assert isinstance(case.label, Path)
        label = read_volume(case.label)
        array = label.array.copy()
        array[planes] = 9
        write_volume(case.label, Volume(array, GRID))
    evaluation = evaluate_segmentation(ThresholdEngine(), cases, out, EvaluateOptions())
    found = {row["case"]: row for row in read_table(out / "per_case.csv")}
    plane = GRID.size[1] * GRID.size[2]
    counts = {case: int(row["ignored_voxels"]) for case, row in found.items()}
    assert counts == {"some": 14 * plane, "all": 24 * plane, "none": 0}
    assert evaluation.metrics["ignored_voxels"] == 38 * plane
    # Of "some", the mask has planes 6 to 9 and the label none: it begins at 10.
    assert (found["some"]["dice_organ"], found["some"]["remark"]) == ("0.0", "organ: empty in the reference")
    assert (found["all"]["dice_organ"], found["all"]["remark"]) == ("", "organ: not labelled")
    assert (found["none"]["dice_organ"], found["none"]["hd95_mm_organ"]) == ("0.5", "3.2")
    assert evaluation.metrics["cases_organ"] == 2


def test_values_that_are_no_class_are_remarked_and_scored_as_background(
    tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = [replace(volume_case(tmp_path, name), ignore=9) for name in ("clean", "strange")]
    for case, value in zip(cases, (9, 255), strict=True):
        assert isinstance(case.label, Path)
        array = read_volume(case.label).array.copy()
        array[20:] = value
        write_volume(case.label, Volume(array, GRID))
    evaluation = evaluate_segmentation(ThresholdEngine(), cases, out, EvaluateOptions())
    remark = "label value 255 is no class of the model, and counts as background"
    assert [row["remark"] for row in read_table(out / "per_case.csv")] == ["", remark]
    assert evaluation.metrics["mean_dice"] == 1
    assert [line for line in capsys.readouterr().err.splitlines() if "warning" in line] == [
        f"warning: case strange: {remark}"
    ]


def test_bad_cases_are_named_and_the_others_go_on(tmp_path: Path, out: Path) -> None:
    broken = volume_case(tmp_path, "broken")
    broken.images[0].write_bytes(b"no image")
    other_grid = volume_case(tmp_path, "other_grid")
    write_volume(
        tmp_path / "other_grid_label.nii.gz",
        Volume(np.zeros((5, 5, 5), np.uint8), Geometry.from_parts((5, 5, 5), (1, 1, 1))),
    )
    cases = [broken, InferenceCase("gone", (tmp_path / "gone.nii.gz",)), other_grid, volume_case(tmp_path, "good")]
    evaluation = evaluate_segmentation(ThresholdEngine(), cases, out, EvaluateOptions())
    reasons = {row["case"]: row["reason"] for row in json.loads((out / "failures.json").read_text())}
    assert set(reasons) == {"broken", "gone", "other_grid"}
    assert "unreadable image" in reasons["broken"]
    assert "file not found" in reasons["gone"]
    assert "different grids" in reasons["other_grid"]
    assert (evaluation.metrics["cases"], evaluation.metrics["failed_cases"]) == (1, 3)
    table = read_table(out / "per_case.csv")
    assert [row["case"] for row in table] == ["broken", "gone", "other_grid", "good"]
    assert table[0]["remark"].startswith("failed: ")
    assert "unreadable image" in table[0]["remark"]
    summary = json.loads((out / "summary.json").read_text())
    assert next(iter(summary)) == "failures"
    assert len(summary["failures"]) == 3
    assert (out / "report.txt").read_text().startswith("3 failed\n  broken: ")
    assert evaluation.failures.exit_code(1) == 3
    assert evaluation.failures.exit_code(0) == 1


def test_every_class_gets_its_own_numbers(tmp_path: Path, out: Path) -> None:
    engine = ThresholdEngine(volume_spec(class_names=("background", "organ", "tumour of it")))
    evaluation = evaluate_segmentation(engine, [volume_case(tmp_path, "a")], out, EvaluateOptions())
    assert evaluation.metrics["dice_organ"] == 1
    assert "dice_tumour of it" not in evaluation.metrics
    assert evaluation.metrics["empty_tumour of it"] == 1
    assert (out / "tumour_of_it_dice_report.txt").is_file()


def radiograph_case(folder: Path, name: str, grey: int, label: tuple[int, ...]) -> InferenceCase:
    write_radiograph(folder / f"{name}.png", np.full((40, 30), grey, np.uint16))
    return InferenceCase(name, (folder / f"{name}.png",), label)


def test_classification_reports_classes_without_auc(tmp_path: Path, out: Path) -> None:
    greys = {"a": (60, 0), "b": (90, 0), "c": (110, 0), "d": (105, 1), "e": (140, 1)}
    cases = [radiograph_case(tmp_path, name, grey, (has, 0)) for name, (grey, has) in greys.items()]
    evaluation = evaluate_classification(BrightnessEngine(), cases, out)
    assert evaluation.metrics["auc_mass"] == evaluation.metrics["mean_auc"] == pytest.approx(5 / 6)
    assert "auc_nodule" not in evaluation.metrics
    assert evaluation.metrics["classes_without_auc"] == 1
    assert evaluation.metrics["accuracy"] == pytest.approx((4 + 5) / 10)
    assert [row["auc"] for row in read_table(out / "per_class.csv")] == ["0.833333", ""]
    assert evaluation.metrics["sensitivity_mass"] == 0.5
    assert "sensitivity_nodule" not in evaluation.metrics
    assert evaluation.metrics["brier_nodule"] == pytest.approx((1 / (1 + np.exp(3))) ** 2, abs=1e-4)
    assert [bool(row["auc_low"]) for row in read_table(out / "per_class.csv")] == [True, False]
    assert json.loads((out / "summary.json").read_text())["per_class"][1]["auc"] is None
    assert {row["class"] for row in read_table(out / "calibration.csv")} == {"mass", "nodule"}
    assert (out / "overlays" / "curves.png").is_file()
    assert read_table(out / "preds_outputs.csv")[4]["case"] == "e"
    assert read_table(out / "preds.csv") == read_table(out / "preds_outputs.csv")
    assert {row["class"] for row in read_table(out / "roc.csv")} == {"mass"}
    assert (out / "overlays" / "contact_sheet.png").is_file()


def test_classification_names_bad_cases(tmp_path: Path, out: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n nothing")
    cases = [InferenceCase("broken", (tmp_path / "broken.png",), (1, 0)), radiograph_case(tmp_path, "short", 9, (1,))]
    evaluation = evaluate_classification(BrightnessEngine(), cases, out)
    assert evaluation.failures.cases == {"broken", "short"}
    assert evaluation.metrics["cases"] == 0
    assert evaluation.failures.exit_code(0) == 1


def test_classes_whose_names_meet_keep_their_reports_and_numbers(tmp_path: Path, out: Path) -> None:
    classes = ("background", "liver<1500", "liver>1500", "GTV/28", "GTV 28", "Organ", "organ", "organ", "..")
    engine = ThresholdEngine(volume_spec(class_names=classes))
    evaluation = evaluate_segmentation(engine, [volume_case(tmp_path, "a")], out, EvaluateOptions(bootstrap=0))
    assert evaluation.metrics["dice_liver<1500"] == 1
    assert evaluation.metrics["empty_organ (7)"] == 1
    reports = {path.name.lower() for path in out.glob("*_dice_report.txt")}
    assert len(reports) == len(classes) - 1
    assert all((out / f"{name}_dice_report.txt").is_file() for name in ("Organ", "organ__7_"))


def test_findings_called_as_columns_of_the_table_have_columns_of_their_own(tmp_path: Path, out: Path) -> None:
    engine = BrightnessEngine()
    engine.spec = engine.spec.model_validate(engine.spec.model_dump() | {"class_names": ("case", "remark")})
    evaluate_classification(engine, [radiograph_case(tmp_path, "a", 140, (1, 0))], out)
    (row,) = read_table(out / "per_case.csv")
    assert (row["case"], row["case (0)"], row["remark (1)"], row["remark"]) == ("a", "1", "0", "")
    assert read_table(out / "preds_outputs.csv")[0]["case"] == "a"


def test_a_label_whose_axes_run_otherwise_is_judged_where_it_lies(tmp_path: Path, out: Path) -> None:
    case = volume_case(tmp_path, "a")
    assert isinstance(case.label, Path)
    label = read_volume(case.label)
    affine = label.geometry.affine * [-1, 1, 1, 1]
    affine[:3, 3] = label.geometry.to_physical(np.array([label.geometry.size[0] - 1, 0, 0]))
    # Fractions come of scaled labels.
    voxels = label.array[::-1].astype(np.float32) * np.float32(0.9999)
    write_volume(case.label, Volume(voxels, Geometry(label.geometry.size, affine)))
    assert evaluate_segmentation(ThresholdEngine(), [case], out, EvaluateOptions()).metrics["dice_organ"] == 1
