"""Every model of the zoo trains a few steps on synthetic images of its form, by the workspace's own configuration."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.workspace.phantoms import use_cases, write_cases
from voxflow.cli.apps import evaluate_main, export_main, train_main
from voxflow.lint import check_workspace
from voxflow.planning import find_target
from voxflow.training import load_model
from voxflow.volumes import read_volume
from voxflow.workspace import make_mmar
from voxflow.workspace.zoo import read_zoo

if TYPE_CHECKING:
    from pathlib import Path

NAMES = sorted(read_zoo())
EDGE = 32  # voxels: the least that SegAhnet can halve five times
PIXELS = 64
# The way through the files is the same with the smallest of networks.
SMALL_NETWORK: dict[str, dict[str, Any]] = {
    "volume": {"train.model.args.nf_enc": [4, 8]},
    "brain": {"train.model.args.init_filters": 4, "train.model.args.use_group_normG": 4},
    "chestxray": {"train.model.args.block_config": [2, 2]},
}
QUICK = ["accelerator=cpu", "threads=1", "workers=0"]


@pytest.fixture(autouse=True)
def _no_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def workspace(folder: Path, name: str, variant: str) -> Path:
    """An MMAR of the zoo with synthetic cases: two to train, and one (radiographs: two) to validate."""
    model = read_zoo()[name]
    mmar = make_mmar(name, folder / "mmar", variant=variant)
    use_cases(mmar, folder / "images", model, write_cases(model, folder / "images"))
    return mmar


def small(name: str) -> dict[str, Any]:
    """Values of --set that make patches small and trainings short, and leave the network as it is."""
    family = read_zoo()[name].family
    values: dict[str, Any] = {
        "epochs": 1,
        "num_training_epoch_per_valid": 2,
        "train.image_pipeline.args.num_workers": 0,
    }
    if family == "chestxray":
        pipelines = {f"{part}.image_pipeline.args.output_crop_size": [PIXELS] * 2 for part in ("train", "validate")}
        scaled = {"train.pre_transforms[2]": 0, "validate.pre_transforms[1]": 0}
        values["epochs"] = 2
        return values | pipelines | {f"{place}.args.target_shape": [PIXELS] * 2 for place in scaled}
    crop = 4 if family == "brain" else 3
    sizes = {
        f"train.pre_transforms[{crop}].args.size": [EDGE] * 3,
        "train.image_pipeline.args.output_crop_size": [EDGE] * 3,
        "validate.inferer.args.roi_size": [EDGE] * 3,
    }
    # Batch norm wants two patches; the brain's network has none.
    patches = {f"train.pre_transforms[{crop}].args.batch_size": 2, "train.image_pipeline.args.output_batch_size": 2}
    return values | sizes | (patches if family == "volume" else {})


def settings(values: dict[str, Any]) -> list[str]:
    """Values as they are typed after --set or after a script."""
    return [f"{key}={json.dumps(value)}" for key, value in values.items()]


@pytest.mark.parametrize("name", NAMES)
def test_the_published_network_trains(tmp_path: Path, name: str) -> None:
    mmar = workspace(tmp_path, name, "published")
    assert train_main(["-m", str(mmar), "--write_train_stats", "--set", *QUICK, *settings(small(name))]) == 0
    stats = json.loads((mmar / "models/train_stats.json").read_text())
    assert stats["ending"] == "finished"
    assert stats["steps"] >= 2
    assert 0 <= stats[stats["key_metric"]] <= 1
    # The files that later commands start from say what the network is for.
    network, spec = load_model(mmar / "models/model_final.pt")
    model = read_zoo()[name]
    is_volume = model.family == "volume"
    assert spec.class_names == (tuple(model.labels.values()) if is_volume else model.outputs)
    assert spec.in_channels == (3 if model.family == "chestxray" else len(model.channels))
    assert spec.activation == ("softmax" if is_volume else "sigmoid")
    assert sum(weights.numel() for weights in network.parameters()) > 4e6


@pytest.mark.parametrize("name", NAMES)
def test_the_small_variant_goes_all_the_way(tmp_path: Path, name: str) -> None:
    model = read_zoo()[name]
    mmar = workspace(tmp_path, name, "cpu")
    values = [*QUICK, *settings(small(name)), *settings(SMALL_NETWORK[model.family])]
    assert train_main(["-m", str(mmar), "--set", *values]) == 0
    assert export_main(["--model_file_path", str(mmar / "models")]) == 0
    window = settings({"inferer.args.roi_size": [EDGE] * 3}) if model.task == "segmentation" else []
    assert evaluate_main(["-m", str(mmar), "--set", *window, "do_validation=true", "output_infer_result=false"]) == 0
    assert evaluate_main(["-m", str(mmar), "--set", *window, "do_validation=false", "output_infer_result=true"]) == 0
    scores = json.loads((mmar / "eval/metrics.json").read_text())
    if model.task == "classification":
        assert scores.keys() >= {"Average_AUC", *model.outputs}
        header = (mmar / "eval/preds_outputs.csv").read_text().splitlines()[0]
        assert all(finding in header for finding in model.outputs)
        return
    several = len(model.outputs) > 1
    assert scores.keys() >= ({f"mean_dice_{n.lower()}" for n in model.outputs} if several else {"mean_dice"})
    case = json.loads((mmar / "config/dataset_0.json").read_text())["validation"][0]
    masks = {path.name: read_volume(path) for path in (mmar / "eval").glob("*/*.nii.gz")}
    written = model.outputs if model.family == "brain" else [f"pred_class{n}" for n in range(model.classes)]
    assert len(masks) == len(written) + (model.family == "volume")
    truth = read_volume(tmp_path / "images" / case["label"])
    for mask in masks.values():
        assert mask.geometry.is_close(truth.geometry)
        assert int(mask.array.max()) < max(model.classes, 2)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("variant", ["published", "cpu"])
def test_a_workspace_with_cases_checks_clean(tmp_path: Path, name: str, variant: str) -> None:
    report = check_workspace(find_target(str(workspace(tmp_path, name, variant))))
    # The synthetic images are smaller than the published patches, and say so.
    assert [finding for finding in report.findings if finding.code != "patch-larger"] == []


def run_script(mmar: Path, script: str, *values: str, limit: int = 300) -> str:
    """Run one of the workspace's own scripts as a user does, from another folder."""
    process = subprocess.run(
        [str(mmar / "commands" / script), *values],
        cwd=mmar.parent,
        capture_output=True,
        text=True,
        timeout=limit,
        check=False,
    )
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout + process.stderr


@pytest.mark.parametrize("name", ["segmentation_mri_hippocampus", "classification_chestxray"])
def test_train_sh_trains_from_anywhere(tmp_path: Path, name: str) -> None:
    mmar = workspace(tmp_path, name, "cpu")
    values = {**small(name), "epochs": 3}
    output = run_script(mmar, "train.sh", *QUICK, *settings(values))
    assert f"MMAR_ROOT set to {mmar}" in output
    assert "3 epochs" in output
    assert (mmar / "models/model.pt").is_file()
    assert json.loads((mmar / "models/train_stats.json").read_text())["epochs"] == 3
