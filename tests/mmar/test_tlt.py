"""TLT 2's commands, in the order of the guide's BraTS tutorial, and its four demos of radiographs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
import SimpleITK as sitk

from tests.mmar.conftest import QUICK
from tests.mmar.workspaces import brats_experiment
from voxflow.cli.tlt import evaluate_main, infer_main, tlt_export_main, train_main
from voxflow.files import write_json
from voxflow.training import read_checkpoint

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def brats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tutorial's experiment, trained and exported."""
    folder = brats_experiment(tmp_path_factory.mktemp("brats"))
    flags = ["-e", f"{folder}/config_brats.json", "-d", f"{folder}/datalist.json", "-r", f"{folder}/output"]
    values = ["epochs=40", "num_training_epoch_per_valid=20", *QUICK]
    assert train_main(["segmentation", *flags, "--file_root", f"{folder}/data", "--set", *values]) == 0
    nodes = ["--input_node_names", "NV_INPUTALL_ITERATORGETNEXT", "--output_node_names", "NV_OUTPUT_LABEL"]
    assert tlt_export_main(["--model_name", "model", "--model_file_path", f"{folder}/output", *nodes]) == 0
    return folder


def judging(folder: Path, output: Path, *more: str) -> list[str]:
    return [
        *("--model_save_path", f"{folder}/output/model.trt.pb", "--model_format", "trtmodel"),
        *("--config", f"={folder}/config_validation.json", "--file_root", f"{folder}/data"),
        *("--data_file", f"{folder}/datalist.json", "--output_path", f"{output}", *more),
    ]


def test_evaluation_scores_each_region_and_writes_no_masks(brats: Path, tmp_path: Path) -> None:
    assert evaluate_main(judging(brats, tmp_path, "--setup", "scanning_window", "--no_overwrite")) == 0
    for region in ("tc", "wt", "et"):
        lines = (tmp_path / f"mean_dice_{region}_dice_report.txt").read_text().splitlines()
        assert [line.split()[0] for line in lines] == ["p2_t1c", "mean"]
        assert (tmp_path / f"mean_dice_{region}.txt").read_text().strip() == lines[1].split()[1]
    assert float((tmp_path / "mean_dice_wt.txt").read_text()) > 0.5
    assert not list(tmp_path.rglob("*.nii.gz"))


def test_inference_writes_a_mask_a_region_that_scores_the_same(brats: Path, tmp_path: Path) -> None:
    assert infer_main(judging(brats, tmp_path / "masks", "--metagraph_tag", "inference")) == 0
    assert evaluate_main(judging(brats, tmp_path / "scores")) == 0
    label = sitk.GetArrayFromImage(sitk.ReadImage(f"{brats}/data/p2/p2_seg.nii.gz"))
    for region, values in {"TC": (1, 4), "WT": (1, 2, 4), "ET": (4,)}.items():
        mask = sitk.ReadImage(str(tmp_path / "masks" / "p2_t1c" / f"p2_t1c_{region}.nii.gz"))
        assert mask.GetOrigin() == sitk.ReadImage(f"{brats}/data/p2/p2_seg.nii.gz").GetOrigin()
        predicted, truth = sitk.GetArrayFromImage(mask) > 0, np.isin(label, values)
        dice = 2 * (predicted & truth).sum() / (predicted.sum() + truth.sum())
        scored = float((tmp_path / "scores" / f"mean_dice_{region.lower()}.txt").read_text())
        assert scored == pytest.approx(dice, abs=1e-6)


def test_results_that_are_there_stay_with_no_overwrite(brats: Path, tmp_path: Path) -> None:
    assert infer_main(judging(brats, tmp_path)) == 0
    mask = tmp_path / "p2_t1c" / "p2_t1c_TC.nii.gz"
    mask.write_bytes(b"mine")
    assert infer_main(judging(brats, tmp_path, "--no_overwrite")) == 0
    assert mask.read_bytes() == b"mine"
    assert infer_main(judging(brats, tmp_path)) == 0
    assert mask.read_bytes() != b"mine"


def test_fine_tuning_with_fewer_channels_takes_what_fits(
    brats: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = json.loads((brats / "config_brats.json").read_text())
    datalist = json.loads((brats / "datalist.json").read_text())
    for item in [*datalist["training"], *datalist["validation"]]:
        item["image"] = item["image"][0]
    write_json(tmp_path / "t1c.json", config | {"num_channels": 1, "image_base_dir": f"{brats}/data"})
    write_json(tmp_path / "list.json", datalist)
    flags = ["-e", f"{tmp_path}/t1c.json", "-d", f"{tmp_path}/list.json", "-r", f"{tmp_path}/out"]
    assert train_main(["segmentation", *flags, "-c", f"{brats}/output/model.ckpt", "--set", "epochs=1", *QUICK]) == 0
    assert "of another shape, so fresh: " in capsys.readouterr().err
    assert json.loads(read_checkpoint(tmp_path / "out" / "model.pt")["spec"])["in_channels"] == 1


def test_epochs_that_a_checkpoint_has_behind_it_count_where_asked(
    brats: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = json.loads((brats / "config_brats.json").read_text())
    write_json(tmp_path / "on.json", config | {"continue_from_checkpoint_epoch": True, "epochs": 42})
    flags = ["-e", f"{tmp_path}/on.json", "-d", f"{brats}/datalist.json", "-r", f"{tmp_path}/out"]
    flags += ["-c", f"{brats}/output/model_final.ckpt", "--file_root", f"{brats}/data", "--set", *QUICK]
    assert train_main(["segmentation", *flags]) == 0
    assert "40 of 42 epochs are done, 2 follow" in capsys.readouterr().err
    assert train_main(["segmentation", *flags, "epochs=40"]) == 2
    assert "was trained for 40 already; ask for more" in capsys.readouterr().err


def radiograph_judging(root: Path, *more: str) -> list[str]:
    return [
        *(f"--config={root}/config/evaluation.json", "--model_format=trtmodel"),
        *(f"--model_save_path={root}/models/model.trt.pb", f"--data_file={root}/config/dataset_0.json"),
        *("--metagraph_tag=inference", "--signature_tag=inference_tensors", f"--output_path={root}/output"),
        *(f"--file_root={json.loads((root / 'config' / 'environment.json').read_text())['DATA_ROOT']}", *more),
    ]


@pytest.fixture
def radiographs(classification: Path) -> Path:
    """An evaluation in TLT's words for the trained classification."""
    judged = {"applied_key": "outputs", "label_key": "label"}
    content = {
        "input_nodes": {"image": "inputs"},
        "output_nodes": {"model": "outputs"},
        "batch_size": 40,
        "pre_transforms": [
            {"name": "transforms.LoadPng", "fields": ["image"]},
            {"name": "transforms.CenterData", "applied_keys": "image"},
        ],
        "writers": [{"applied_key": "outputs", "name": "writers.WriteClassificationResults"}],
        "val_metrics": [
            {"name": "MetricAUC", "tag": "Average_AUC", "auc_average": "macro", **judged},
            {"name": "MetricAUC", "tag": "Mass", "class_index": 1, **judged},
        ],
    }
    write_json(classification / "config" / "evaluation.json", content)
    return classification


def test_radiographs_are_predicted_and_judged(radiographs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert infer_main(radiograph_judging(radiographs)) == 0
    assert "no meaning here: --metagraph_tag (a model file holds one graph), --signature_tag" in capsys.readouterr().err
    rows = (radiographs / "output" / "preds.csv").read_text().splitlines()
    assert rows[0] == "case,Nodule,Mass"
    assert not (radiographs / "output" / "Mass.txt").exists()
    assert evaluate_main(radiograph_judging(radiographs)) == 0
    assert float((radiographs / "output" / "Mass.txt").read_text()) > 0.5


def test_no_overwrite_judges_the_predictions_that_are_there(radiographs: Path) -> None:
    assert infer_main(radiograph_judging(radiographs)) == 0
    file = radiographs / "output" / "preds_outputs.csv"
    header, *rows = file.read_text().splitlines()
    cells = [row.split(",") for row in rows]
    turned = [f"{case},{1 - float(first)},{1 - float(second)}" for case, first, second in cells]
    file.write_text("\n".join([header, *turned]) + "\n")
    assert evaluate_main(radiograph_judging(radiographs)) == 0
    right = float((radiographs / "output" / "Mass.txt").read_text())
    file.write_text("\n".join([header, *turned]) + "\n")
    assert evaluate_main(radiograph_judging(radiographs, "--no_overwrite")) == 0
    assert float((radiographs / "output" / "Mass.txt").read_text()) == pytest.approx(1 - right)
    assert file.read_text().splitlines()[1:] == turned


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--config", "none.json"], "none.json"),
        (["--data_file", "none.json"], "none.json: file not found"),
        (["--model_save_path", "none.trt.pb"], "no optimised model: looked for none.trt.engine"),
    ],
)
def test_what_is_missing_is_one_line(
    brats: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], message: str
) -> None:
    assert infer_main([*judging(brats, tmp_path), *flags]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert message in lines[0]


def test_an_unknown_setup_is_refused(brats: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="2"):
        infer_main(judging(brats, tmp_path, "--setup", "sliding"))
