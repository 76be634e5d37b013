"""The programs of an MMAR: what they obey, what they leave, what they answer to wrong input."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest
import SimpleITK as sitk
from sklearn.metrics import roc_auc_score

from tests.mmar.conftest import QUICK
from tests.tables import read_table
from voxflow.cli.apps import evaluate_main, export_main, train_main
from voxflow.cli.main import main
from voxflow.files import write_json
from voxflow.training import read_checkpoint

if TYPE_CHECKING:
    from pathlib import Path


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err


def test_training_leaves_what_the_documents_name(segmentation: Path) -> None:
    assert train_main(["-m", str(segmentation), "--write_train_stats", "--set", "epochs=2", *QUICK]) == 0
    models = segmentation / "models"
    assert {"model.pt", "model_final.pt", "events", "train_stats.json"} <= {path.name for path in models.iterdir()}
    assert list(models.glob("events/events.out.tfevents.*"))
    stats = json.loads((models / "train_stats.json").read_text())
    assert (stats["epochs"], stats["ending"], stats["key_metric"]) == (2, "finished", "mean_dice")
    spec = json.loads(read_checkpoint(models / "model.pt")["spec"])
    assert (spec["class_names"], spec["modality"]) == (["background", "box"], "CT")


def test_fine_tuning_begins_with_the_best_model_of_the_same_folder(
    segmentation: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = f"MMAR_CKPT={segmentation}/models/model.ckpt"
    assert (
        train_main(["-m", str(segmentation), "--set", 'PRETRAIN_WEIGHTS_FILE=""', checkpoint, "epochs=1", *QUICK]) == 0
    )
    assert "model.pt: 15 of 15 weights taken" in said(capsys)


def test_a_second_datalist_and_models_folder_are_obeyed(segmentation: Path, tmp_path: Path) -> None:
    datalist = json.loads((segmentation / "config" / "dataset_0.json").read_text())
    write_json(tmp_path / "mine.json", {"training": datalist["training"], "unseen": datalist["validation"]})
    values = [f"DATASET_JSON={tmp_path}/mine.json", "MMAR_CKPT_DIR=elsewhere", "DATA_LIST_KEY=unseen", "epochs=1"]
    assert main(["train", str(segmentation), "--set", *values, *QUICK]) == 0
    noted = json.loads((segmentation / "elsewhere" / "data.json").read_text())
    assert (noted["datalist"], noted["key"]) == (f"{tmp_path}/mine.json", "unseen")
    spec = json.loads(read_checkpoint(segmentation / "elsewhere" / "model.pt")["spec"])
    assert spec["class_names"] == ["background", "class_1"]


def test_export_names_the_regular_and_the_optimised_model(
    segmentation: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--model_file_format", "CKPT", "--model_name", "model_final", "--input_node_names", "NV_MODEL_INPUT"]
    flags += ["--trt_min_seg_size", "50", "--trt_precision_mode", "FP32", "--max_batch_size", "2"]
    assert export_main(["--model_file_path", str(segmentation / "models"), *flags]) == 0
    files = {path.name for path in (segmentation / "models").glob("model_final.*")}
    assert {"model_final.fzn.onnx", "model_final.fzn.ts", "model_final.trt.xml", "model_final.trt.bin"} <= files
    lines = said(capsys).splitlines()
    assert [line for line in lines if line.startswith("no meaning here: --input_node_names ")]
    assert "equal torch on 2 case(s)" in lines[-1]
    assert not list((segmentation / "models").glob(".*"))


def test_export_without_the_cases_compares_on_noise(segmentation: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (segmentation / "models" / "data.json").unlink()
    assert main(["export", str(segmentation)]) == 0
    assert "equal torch on noise" in said(capsys)


def test_dice_and_masks_are_those_that_simpleitk_measures(segmentation: Path) -> None:
    assert evaluate_main(["-m", str(segmentation), "--set", "MMAR_EVAL_OUTPUT_PATH=found"]) == 0
    folder = segmentation / "found"
    data = json.loads((segmentation / "config" / "environment.json").read_text())["DATA_ROOT"]
    report = dict(line.split() for line in (folder / "mean_dice_dice_report.txt").read_text().splitlines())
    for case in ("box2", "box3"):
        mask = sitk.ReadImage(str(folder / case / f"{case}_model.nii.gz"))
        label = sitk.ReadImage(f"{data}/{case}_label.nii.gz")
        measure = sitk.LabelOverlapMeasuresImageFilter()
        measure.Execute(label, mask)  # refuses images that lie elsewhere
        assert float(report[case]) == pytest.approx(measure.GetDiceCoefficient(1), abs=1e-6)
        assert mask.GetPixelID() == sitk.sitkUInt8
        part = sitk.ReadImage(str(folder / case / f"{case}_pred_class1.nii.gz"))
        assert np.array_equal(sitk.GetArrayFromImage(part), sitk.GetArrayFromImage(mask) == 1)
    mean = (float(report["box2"]) + float(report["box3"])) / 2
    assert float(report["mean"]) == pytest.approx(mean, abs=1e-6)
    assert float((folder / "mean_dice.txt").read_text()) == pytest.approx(mean, abs=1e-6)
    assert mean > 0.5


@pytest.mark.parametrize(
    ("values", "measured", "written"),
    [
        (["do_validation=true", "output_infer_result=false"], True, False),
        (["do_validation=false", "output_infer_result=true"], False, True),
    ],
)
def test_validation_and_inference_are_chosen_by_two_values(
    segmentation: Path, values: list[str], measured: bool, written: bool
) -> None:
    assert evaluate_main(["-m", str(segmentation), "--set", *values]) == 0
    assert (segmentation / "eval" / "mean_dice.txt").is_file() is measured
    assert (segmentation / "eval" / "box2" / "box2_model.nii.gz").is_file() is written


def test_evaluation_leaves_out_what_the_datalist_ignores(segmentation: Path, tmp_path: Path) -> None:
    environment = json.loads((segmentation / "config" / "environment.json").read_text())
    data = tmp_path / "data"
    shutil.copytree(environment["DATA_ROOT"], data)
    write_json(segmentation / "config" / "environment.json", environment | {"DATA_ROOT": str(data)})
    datalist = json.loads((segmentation / "config" / "dataset_0.json").read_text())
    write_json(segmentation / "config" / "dataset_0.json", datalist | {"ignore": 255})
    planes = slice(0, 8)
    for case in ("box2", "box3"):
        image = sitk.ReadImage(f"{data}/{case}_label.nii.gz")
        array = sitk.GetArrayFromImage(image)
        array[planes] = 255
        changed = sitk.GetImageFromArray(array)
        changed.CopyInformation(image)
        sitk.WriteImage(changed, f"{data}/{case}_label.nii.gz")
    assert evaluate_main(["-m", str(segmentation), "--set", "MMAR_EVAL_OUTPUT_PATH=found"]) == 0
    folder = segmentation / "found"
    report = dict(line.split() for line in (folder / "mean_dice_dice_report.txt").read_text().splitlines())
    for case in ("box2", "box3"):
        mask = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / case / f"{case}_model.nii.gz")))
        label = sitk.GetArrayFromImage(sitk.ReadImage(f"{data}/{case}_label.nii.gz"))
        assert set(np.unique(mask)) <= {0, 1}
        known = label != 255
        dice = 2 * (mask * label)[known].sum() / (mask[known].sum() + label[known].sum())
        assert float(report[case]) == pytest.approx(dice, abs=1e-6)


def test_inference_needs_no_labels(segmentation: Path) -> None:
    datalist = json.loads((segmentation / "config" / "dataset_0.json").read_text())
    write_json(segmentation / "config" / "dataset_0.json", {"mine": [{"image": datalist["validation"][0]["image"]}]})
    assert main(["infer", str(segmentation), "--set", "DATA_LIST_KEY=mine"]) == 0
    assert (segmentation / "eval" / "box2" / "box2_model.nii.gz").is_file()


def test_auc_is_that_of_scikit_learn_on_the_predictions(classification: Path) -> None:
    datalist = json.loads((classification / "config" / "dataset_0.json").read_text())
    for item, label in zip(datalist["validation"], [(0, 1), (1, 0), (1, 0), (0, 1), (0, 1), (1, 0)], strict=True):
        item["label"] = list(label)  # two of them are wrong, so that the answer is not 1
    write_json(classification / "config" / "dataset_0.json", datalist)
    assert evaluate_main(["-m", str(classification)]) == 0
    folder = classification / "eval"
    assert (folder / "preds.csv").readlink().name == "preds_outputs.csv"
    rows = read_table(folder / "preds_outputs.csv")
    truth = {item["image"].removesuffix(".png"): item["label"] for item in datalist["validation"]}
    labels = np.array([truth[row["case"]] for row in rows])
    chances = np.array([[float(row[name]) for name in ("Nodule", "Mass")] for row in rows])
    assert ((chances > 0) & (chances < 1)).all()
    assert float((folder / "Average_AUC.txt").read_text()) == pytest.approx(roc_auc_score(labels, chances), abs=1e-6)
    assert roc_auc_score(labels, chances) < 1
    right = ((chances > 0.5) == (labels > 0)).mean()
    assert float((folder / "mean_accuracy.txt").read_text()) == pytest.approx(right, abs=1e-6)
    nodule = roc_auc_score(labels[:, 0], chances[:, 0])
    assert float((folder / "Nodule.txt").read_text()) == pytest.approx(nodule, abs=1e-6)


def test_a_bad_case_is_reported_and_the_others_go_on(segmentation: Path, capsys: pytest.CaptureFixture[str]) -> None:
    datalist = json.loads((segmentation / "config" / "dataset_0.json").read_text())
    datalist["validation"].insert(0, {"image": "gone.nii.gz", "label": "gone.nii.gz"})
    write_json(segmentation / "config" / "dataset_0.json", datalist)
    assert evaluate_main(["-m", str(segmentation)]) == 3
    assert "1 failed (failures.json; the first, gone:" in said(capsys)
    assert [row["case"] for row in json.loads((segmentation / "eval" / "failures.json").read_text())] == ["gone"]
    assert (segmentation / "eval" / "mean_dice_dice_report.txt").read_text().count("box") == 2


def test_an_export_older_than_its_checkpoint_is_said(segmentation: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (segmentation / "models" / "model.pt").touch()
    assert evaluate_main(["-m", str(segmentation)]) == 0
    assert "model.trt.xml is older than model.pt: export again" in said(capsys)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "epochs"], "--set takes KEY=VALUE, received 'epochs'"),
        (["--set", "epoch=3"], "no such value (variables are upper case); write 'epochs'"),
        (["--set", "epochs=many"], "received 'many'"),
        (["--set", "threads=0"], "--set threads: Input should be greater than 0, received 0"),
        (["-c", "config/config_trian.json"], "file not found, neither there nor at"),
        (["--set", "MMAR_CKPT=models/none.ckpt"], "models/none.ckpt; give the checkpoint to start from"),
        (["--set", "DATASET_JSON=none.json"], "none.json: the datalist is not there; correct DATASET_JSON"),
        (
            ["--set", "train.image_pipeline.args.data_list_key=trainings"],
            "has no cases under 'trainings'; write 'training'",
        ),
    ],
)
def test_wrong_input_is_told_before_anything_is_removed(
    segmentation: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert train_main(["-m", str(segmentation), *arguments]) == 2
    assert message in said(capsys)
    assert (segmentation / "models" / "model.pt").is_file()


def test_an_evaluation_without_a_model_says_what_it_looked_for(
    segmentation: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate_main(["-m", str(segmentation), "--set", "MMAR_CKPT_DIR=nowhere"]) == 2
    looked_for = "model.trt.engine, model.trt.rtx.engine, model.trt.xml"
    assert f"nowhere/model.trt.pb: no optimised model: looked for {looked_for}" in said(capsys)
    assert evaluate_main(["-m", str(segmentation / "none")]) == 2
    assert said(capsys).endswith("none: no such MMAR folder\n")
