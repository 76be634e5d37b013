"""The published families of MMARs run their own scripts to the end, or end in the line that is documented."""

from __future__ import annotations

import csv
import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
import pytest
import torch

from tests.mmar import families
from tests.tables import read_table
from voxflow.cli.apps import evaluate_main, export_main, train_main
from voxflow.cli.main import main
from voxflow.components.metrics.overlap import compute_dice
from voxflow.config import APP_ADVICE
from voxflow.export import check_triton_config
from voxflow.files import write_json
from voxflow.training import load_model, read_checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.filterwarnings("ignore")
APPS = {"train": train_main, "export": export_main, "evaluate": evaluate_main}
# A program that notes how it was called; the test then runs what Python would have run.
NOTE = '#!/usr/bin/env bash\nprintf "%s\\n" "$0" "$@" > "$CALL"\n'


def run_script(mmar: Path, name: str, *arguments: str) -> int:
    """Run one of an MMAR's own scripts, and in this process what it asks Python for; a launcher's ranks are one."""
    programs, call = mmar.parent / "bin", mmar.parent / "call.txt"
    programs.mkdir(exist_ok=True)
    for program in ("python", "python3", "mpirun", "clear"):
        file = programs / program
        file.write_text(NOTE if program != "clear" else "#!/usr/bin/env bash\n", encoding="utf-8")
        file.chmod(0o755)
    environment = os.environ | {"PATH": f"{programs}:{os.environ['PATH']}", "CALL": str(call)}
    script = mmar / "commands" / name
    subprocess.run(["bash", str(script), *arguments], env=environment, check=True, capture_output=True, cwd="/")
    _, *words = call.read_text(encoding="utf-8").splitlines()
    number = next(n for n, word in enumerate(words) if word.split(".")[0] in ("nvmidl", "medl"))
    module, options = words[number], words[number + 1 :]
    if "torch.distributed.launch" in words:
        options = ["--local-rank=0", *options]
    family = module.split(".")[2]
    if family in APP_ADVICE:
        return refused(module)
    quick = ["accelerator=cpu", "precision=fp32", "threads=1", "workers=0"] if family == "train" else []
    return APPS[family]([*options, *(["--set", *quick] if quick else [])])


def refused(module: str) -> int:
    from voxflow.cli.refused_apps import refuse

    return refuse(module, ".".join(module.split(".")[:2]))


def read_mask(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)


def truth(mmar: Path, case: int) -> np.ndarray:
    return read_mask(mmar.parent / f"sampleData/labelsTr/spleen_{case}.nii.gz")


def test_getting_started_of_clara_3(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mmar = families.getting_started3(tmp_path / "GettingStarted")
    assert run_script(mmar, "train_W_Config.sh", "trn_base.json") == 0
    said = capsys.readouterr().err
    assert (
        "spleen_0.nii.gz is training[0], too; keep it in 'training' or in 'validation' only: allow_repeated_cases"
        in said
    )
    assert "TFScanWindowInferer judges whole volumes" in said
    assert "1 case(s) of validation are in training, too" in said
    models = mmar / "models/trn_base"
    assert (models / "model.pt").is_file()

    assert run_script(mmar, "export2Triton.sh") == 0
    triton = (models / "config.pbtxt").read_text()
    assert 'name: "trn_base"' in triton
    assert triton.partition("output")[0].count("dims: 16") == 3
    check_triton_config(models / "config.pbtxt", models / triton.split('default_model_filename: "')[1].split('"')[0])

    assert run_script(mmar, "validate.sh") == 0
    assert "2 case(s), 1 of them in its training, too" in capsys.readouterr().err
    raw = dict(line.split("\t") for line in (mmar / "eval/mean_dice_class1_raw_results.txt").read_text().splitlines())
    summary = dict(
        line.split("\t") for line in (mmar / "eval/mean_dice_class1_summary_results.txt").read_text().splitlines()
    )
    assert raw.keys() == {"filename", "spleen_0", "spleen_2"}
    values = [float(raw["spleen_0"]), float(raw["spleen_2"])]
    assert float(summary["mean"]) == pytest.approx(np.mean(values), abs=1e-3)
    assert [float(summary["min"]), float(summary["max"])] == pytest.approx(sorted(values), abs=1e-4)
    assert json.loads((mmar / "eval/metrics.json").read_text())["repeated_cases"] == 1

    assert run_script(mmar, "infer.sh") == 0
    mask = read_mask(mmar / "eval/spleen_2/spleen_2_model.nii.gz")
    assert compute_dice(mask > 0, truth(mmar, 2) > 0) == pytest.approx(float(raw["spleen_2"]), abs=1e-4)

    assert run_script(mmar, "train_finetune.sh") == 0
    assert "start weights from" in capsys.readouterr().err
    assert run_script(mmar, "train_2gpu.sh") == 0


@pytest.mark.parametrize("family", [families.performance3, families.automl3, families.federated3])
def test_further_trainings_of_clara_3(family: Callable[[Path], Path], tmp_path: Path) -> None:
    mmar = family(tmp_path / "mmar")
    assert run_script(mmar, "train_W_Config.sh", "trn_base.json") == 0
    curves = (mmar / "models/trn_base/curves.csv").read_text()
    assert "mean_dice" in curves
    assert "nan" not in curves


def test_own_components_of_clara_3(tmp_path: Path) -> None:
    mmar = families.custom3(tmp_path / "mmar")
    assert run_script(mmar, "train_W_Config.sh", "trn_base.json") == 0
    assert run_script(mmar, "validate.sh") == 0
    assert (mmar / "eval/mean_dice_class1_summary_results.txt").is_file()


def test_getting_started_of_clara_4(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mmar = families.getting_started4(tmp_path / "GettingStarted")
    assert run_script(mmar, "train_W_Config.sh", "config_train_Unet.json") == 0
    assert "start weights" not in capsys.readouterr().err
    models = mmar / "models/config_train_Unet"
    assert "val_mean_dice" in (models / "train_stats.json").read_text()
    assert run_script(mmar, "export.sh") == 0
    assert (models / "model.ts").is_file()

    assert run_script(mmar, "validate.sh") == 0
    numbers = json.loads((mmar / "eval/metrics.json").read_text())
    with (mmar / "eval/metrics.csv").open() as stream:
        assert {name: float(value) for name, value in csv.reader(stream)}.keys() == {"val_mean_dice", "val_acc"}
    rows = read_table(mmar / "eval/val_mean_dice_raw.csv")
    assert [Path(row["filename"]).name for row in rows] == ["spleen_0.nii.gz", "spleen_2.nii.gz"]
    assert np.mean([float(row["mean"]) for row in rows]) == pytest.approx(numbers["val_mean_dice"], abs=1e-3)
    assert (mmar / "eval/val_mean_dice_summary.csv").read_text().startswith("class,mean,median,max,min")
    mask = read_mask(mmar / "eval/spleen_2/spleen_2_seg.nii.gz")
    assert mask.shape == truth(mmar, 2).shape
    assert compute_dice(mask > 0, truth(mmar, 2) > 0) == pytest.approx(float(rows[1]["mean"]), abs=1e-3)

    # Validation slides larger windows than the training's patches; inference slides the same.
    assert json.loads(read_checkpoint(models / "model.pt")["spec"])["window"] == [20, 20, 20]

    for script in ("validate_ckpt.sh", "validate_multi_gpu_ckpt.sh"):
        assert run_script(mmar, script) == 0
        by_checkpoint = json.loads((mmar / "eval/metrics.json").read_text())
        assert by_checkpoint["val_mean_dice"] == pytest.approx(numbers["val_mean_dice"], abs=1e-3)

    # What Clara itself wrote: weights alone, for the network that the configuration describes.
    weights = read_checkpoint(models / "model.pt")["state_dict"]
    own = (models / "model.pt").read_bytes()
    torch.save({"model": weights}, models / "model.pt")
    assert run_script(mmar, "validate_ckpt.sh") == 0
    assert "holds weights alone" in capsys.readouterr().err
    by_weights = json.loads((mmar / "eval/metrics.json").read_text())
    assert by_weights["val_mean_dice"] == pytest.approx(numbers["val_mean_dice"], abs=1e-3)
    (models / "model.pt").write_bytes(own)

    (mmar / "eval/spleen_2/spleen_2_seg.nii.gz").unlink()
    assert run_script(mmar, "infer.sh") == 0
    np.testing.assert_array_equal(read_mask(mmar / "eval/spleen_2/spleen_2_seg.nii.gz"), mask)

    capsys.readouterr()
    assert run_script(mmar, "finetune.sh") == 0
    assert "weights taken" in capsys.readouterr().err
    assert run_script(mmar, "train_multi_gpu.sh") == 0
    assert "weights taken" not in capsys.readouterr().err


def test_files_that_clara_4_itself_wrote_are_judged_and_exported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A checkpoint of weights, in 4.1 with its configuration, and a TorchScript file that says nothing of itself."""
    mmar = families.getting_started4(tmp_path / "GettingStarted")
    assert run_script(mmar, "train_W_Config.sh", "config_train_Unet.json") == 0
    models, validation = mmar / "models/config_train_Unet", mmar / "config/config_validation.json"
    assert run_script(mmar, "export.sh") == 0
    assert run_script(mmar, "validate.sh") == 0
    expected = json.loads((mmar / "eval/metrics.json").read_text())["val_mean_dice"]

    network, _ = load_model(models / "model.pt")
    traced = torch.jit.trace(network, torch.zeros(1, 1, 20, 20, 20))  # type: ignore[no-untyped-call]
    torch.jit.save(traced, str(models / "model.ts"))
    capsys.readouterr()
    assert run_script(mmar, "validate.sh") == 0
    assert "it takes 1 channel(s) and answers 2 classes" in capsys.readouterr().err
    assert json.loads((mmar / "eval/metrics.json").read_text())["val_mean_dice"] == pytest.approx(expected, abs=1e-3)
    assert run_script(mmar, "infer.sh") == 0
    assert (mmar / "eval/spleen_2/spleen_2_seg.nii.gz").is_file()
    # Elsewhere it can't be used, which one line says.
    capsys.readouterr()
    images = str(tmp_path / "sampleData/imagesTr")
    assert main(["infer", str(models / "model.ts"), "--images", images, "--out", str(tmp_path / "out")]) == 2
    assert "export its checkpoint with Voxflow, or evaluate it by the ts_path" in capsys.readouterr().err

    configuration = json.loads((mmar / "config/config_train_Unet.json").read_text())
    torch.save({"model": network.state_dict(), "train_conf": configuration}, models / "model.pt")
    content = json.loads(validation.read_text())
    content["model"][1] = {"ckpt_path": "{MMAR_CKPT}", "disabled": "{dont_load_ckpt_model}"}
    write_json(validation, content)
    assert run_script(mmar, "validate_ckpt.sh") == 0
    assert json.loads((mmar / "eval/metrics.json").read_text())["val_mean_dice"] == pytest.approx(expected, abs=1e-3)

    (models / "model.ts").unlink()
    assert run_script(mmar, "export.sh") == 0
    assert "model.pt holds weights alone" in capsys.readouterr().err
    assert run_script(mmar, "validate.sh") == 0
    assert "answers 2 classes" not in capsys.readouterr().err
    assert json.loads((mmar / "eval/metrics.json").read_text())["val_mean_dice"] == pytest.approx(expected, abs=1e-3)

    torch.save(network.state_dict(), models / "model.pt")
    assert run_script(mmar, "validate_ckpt.sh") == 2
    assert "describe its network under model in the place of ckpt_path" in capsys.readouterr().err


def test_a_torchscript_file_of_something_else_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mmar = families.getting_started4(tmp_path / "mmar")
    models = mmar / "models/config_train_Unet"
    models.mkdir()
    for module, line in (
        (torch.nn.Conv3d(1, 2, 3), "with no logits of that size"),
        (torch.nn.Linear(4, 2), "it can't be run on an image of 1"),
    ):
        torch.jit.save(torch.jit.script(module), str(models / "model.ts"))
        assert run_script(mmar, "validate.sh") == 2
        said = capsys.readouterr().err.strip()
        assert line in said
        assert "\n" not in said
    (models / "model.ts").write_bytes(b"PK\x03\x04 no archive")
    assert run_script(mmar, "validate.sh") == 2
    assert "no TorchScript file" in capsys.readouterr().err


def test_an_evaluation_of_clara_4_1_inverts_to_the_images_own_grid(tmp_path: Path) -> None:
    """4.1 resamples the image alone, inverts the answer, and names the checkpoint itself."""
    mmar = families.getting_started4(tmp_path / "GettingStarted")
    assert run_script(mmar, "train_W_Config.sh", "config_train_Unet.json") == 0
    config = families.evaluation4(families.BOTH, "validation")
    step = families.step
    config["model"] = [{"ckpt_path": "{MMAR_CKPT}", "disabled": "{dont_load_ckpt_model}"}]
    config["pre_transforms"] = [
        step("LoadImaged", keys=families.BOTH),
        step("EnsureChannelFirstd", keys=families.BOTH),
        step("Spacingd", keys=["image"], pixdim=[1.5, 1.5, 2.0], mode=["bilinear"]),
        step("ScaleIntensityRanged", keys="image", **families.WINDOW),
        step("ToTensord", keys=families.BOTH),
    ]
    config["dataset"]["args"] = {"transform": "@pre_transforms"}
    config["handlers"] = []
    inversion = {"orig_keys": "image", "meta_keys": ["pred_meta_dict"], "nearest_interp": False, "device": "cuda"}
    config["post_transforms"] = [
        step("Activationsd", keys="pred", softmax=True),
        step("Invertd", keys=["pred"], transform="@pre_transforms", **inversion),
        step("AsDiscreted", keys=["pred", "label"], argmax=[True, False], to_onehot=2, n_classes=2),
        step("SaveImaged", keys="pred", output_dir="{MMAR_EVAL_OUTPUT_PATH}"),
    ]
    pair = {"output_transform": "#monai.handlers.from_engine(['pred', 'label'])"}
    config["key_metric"] = step("MeanDice", include_background=False, **pair) | {"log_label": "val_mean_dice"}
    config["additional_metrics"] = [step("Accuracy", **pair) | {"log_label": "val_acc"}]
    del config["metrics"]
    write_json(mmar / "config/config_validation.json", config)
    assert run_script(mmar, "validate_ckpt.sh") == 0
    numbers = json.loads((mmar / "eval/metrics.json").read_text())
    masks = [read_mask(mmar / f"eval/spleen_{n}/spleen_{n}_trans.nii.gz") for n in (0, 2)]
    scores = [compute_dice(mask > 0, truth(mmar, n) > 0) for mask, n in zip(masks, (0, 2), strict=True)]
    assert numbers["val_mean_dice"] == pytest.approx(np.mean(scores), abs=1e-4)
    right = np.mean([np.mean(mask == truth(mmar, n)) for mask, n in zip(masks, (0, 2), strict=True)])
    assert numbers["val_acc"] == pytest.approx(right, abs=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dont_load_ckpt_model": False}, "2 of 2 models take part, exactly one is needed; set dont_load_ts_model"),
        ({"model": {"name": "UNet", "args": families.UNET}}, "no CheckpointLoader is enabled among the handlers"),
        ({"post_transform": []}, "post_transform: unknown key; did you mean 'post_transforms'"),
        ({"dataset": []}, "expected a dataset such as Dataset, received []"),
        ({"handlers": [{"name": "MetricSaver"}]}, "unknown handler 'MetricSaver'; did you mean 'MetricsSaver'"),
        ({"handlers": 5}, "handlers: expected a list of components, received 5"),
        ({"handlers": [{"name": "StatsHandler", "args": [1]}]}, "args: expected an object, received [1]"),
        (
            {"inferer": {"name": "SlidingWindow"}},
            "unknown inferer 'SlidingWindow'; did you mean",
        ),
    ],
)
def test_what_is_wrong_with_an_evaluation_of_clara_4_is_said(
    change: dict[str, object], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mmar = families.getting_started4(tmp_path / "mmar")
    config = families.evaluation4(families.BOTH, "validation") | change
    write_json(mmar / "config/config_validation.json", config)
    assert evaluate_main(["-m", str(mmar)]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("family", "config", "line"),
    [
        (
            families.automl3,
            "config_automl.json",
            "AutoML's search over many trainings is not carried; train with other",
        ),
        (families.federated3, "config_fed_server.json", "federated learning between sites is not part of Voxflow"),
        (families.federated4, "config_fed_client.json", "federated learning between sites is not part of Voxflow"),
        (families.getting_started4, "config_aiaa.json", "serve the model with voxflow serve"),
        (
            families.deepgrow4,
            "config_train.json",
            "deepgrow, which learns from simulated clicks, is not carried; MONAI",
        ),
        (families.pathology4, "config_train.json", "whole-slide pathology is not carried: Voxflow reads volumes"),
    ],
)
def test_what_is_not_carried_says_what_to_use(
    family: Callable[[Path], Path], config: str, line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mmar = family(tmp_path / "mmar")
    assert train_main(["-m", str(mmar), "-c", f"config/{config}"]) == 2
    assert line in capsys.readouterr().err
    assert main(["check", str(mmar), "-c", f"config/{config}"]) == 2
    assert line in capsys.readouterr().out


@pytest.mark.parametrize("script", ["automl.sh", "start_client.sh"])
def test_programs_that_are_not_carried_answer_in_one_line(
    script: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mmar = families.federated3(tmp_path / "mmar")
    assert run_script(mmar, script) == 2
    said = capsys.readouterr().err.strip()
    assert "\n" not in said
    assert "train" in said


def test_a_program_that_is_not_carried_can_be_called() -> None:
    import sys

    command = [sys.executable, "-m", "medl.apps.automl.train", "-m", "x", "--set", "run_id=a"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr.strip().startswith("medl.apps.automl.train: AutoML's search over many trainings")
