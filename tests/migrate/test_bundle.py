"""A migrated workspace: stock MONAI trains, evaluates and infers with it, and it answers as Voxflow does."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from voxflow.bundle import BundleTarget, check_bundle
from voxflow.cli.main import main
from voxflow.errors import ConfigError, ParityError
from voxflow.files import write_json
from voxflow.migrate import migrate_to_bundle
from voxflow.migrate.weights import build_bundle_network, write_weights
from voxflow.training import load_model, read_checkpoint
from voxflow.volumes import read_volume

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[2]
pytest.importorskip("ignite", reason="MONAI's engines need pytorch-ignite: pip install voxflow[bundle]")
pytest.importorskip("fire", reason="MONAI's command line needs fire: pip install voxflow[bundle]")
# What MONAI and ignite warn of in their own modules is not this project's to mend.
stock = pytest.mark.filterwarnings("ignore")

# The keys that MONAI's meta_schema_20240725.json asks for.
TENSOR = ["type", "format", "num_channels", "spatial_shape", "dtype", "value_range"]
METADATA = [
    "schema",
    "version",
    "monai_version",
    "pytorch_version",
    "numpy_version",
    "required_packages_version",
    "task",
]
METADATA += ["description", "authors", "copyright", "network_data_format"]


@pytest.fixture(scope="module")
def cube_bundle(cube_workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return migrate_to_bundle(cube_workspace, tmp_path_factory.mktemp("bundles") / "cubes").folder


@pytest.fixture(scope="module")
def corner_bundle(corner_workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return migrate_to_bundle(corner_workspace, tmp_path_factory.mktemp("bundles") / "corners").folder


def run_stock(bundle: Path, monkeypatch: pytest.MonkeyPatch, *names: str, **overrides: Any) -> None:
    from monai.bundle import run

    monkeypatch.chdir(bundle)
    run(config_file=[f"configs/{name}.json" for name in names], **overrides)


def test_monais_own_program_trains_it(cube_workspace: Path, tmp_path: Path) -> None:
    untrained = shutil.copytree(cube_workspace / "config", tmp_path / "cubes" / "config").parent
    # A network that MONAI has no class for travels as a script.
    network = {"nf_enc": [4, 8], "nf_dec": [8, 4, 4, 4], "use_group_norm": True}
    bundle = migrate_to_bundle(untrained, tmp_path / "bundle", overrides={"train.model.args": network}).folder
    assert {"__init__.py", "norms.py", "skip_unet.py"} == {path.name for path in (bundle / "scripts").iterdir()}
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", "configs/train.json", "--epochs", "2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, cwd=bundle, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    assert "Epoch: 2/2, Iter: 2/2 -- train_loss" in result.stdout + result.stderr
    assert "Epoch[2] Metrics -- val_mean_dice" in result.stdout + result.stderr
    assert {"model.pt", "model_final.pt"} == {path.name for path in (bundle / "models").iterdir()}


@stock
def test_stock_inference_gives_the_mask_that_voxflow_gives(
    cube_bundle: Path, cube_workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from voxflow.engines import open_engine
    from voxflow.prediction import PredictOptions, predict_volume

    run_stock(cube_bundle, monkeypatch, "inference")
    masks = read_volume(cube_bundle / "eval/cube3/cube3_seg.nii.gz")
    image = read_volume(cube_workspace.parent / "data/cube3.nii.gz")
    engine = open_engine(cube_workspace / "models/train/model.pt")
    expected = predict_volume(engine, image, PredictOptions(plan="windows", back="probabilities")).mask
    np.testing.assert_allclose(masks.geometry.affine, image.geometry.affine, atol=1e-5)
    assert np.mean(masks.array == expected.array) > 0.999


@stock
def test_stock_evaluation_finds_the_dice_that_voxflow_found(
    cube_bundle: Path, cube_workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_stock(cube_bundle, monkeypatch, "train", "evaluate")
    _, row = (cube_bundle / "eval/val_mean_dice_raw.csv").read_text().splitlines()
    file, _, mean = row.split(",")
    assert file.endswith("cube3.nii.gz")
    dice = read_checkpoint(cube_workspace / "models/train/model.pt")["metric"]
    assert float(mean) == pytest.approx(dice, abs=1e-3)


@stock
def test_a_classification_trains_and_its_inference_agrees_with_voxflow(
    corner_bundle: Path, corner_workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from voxflow.engines import open_engine
    from voxflow.prediction import predict_radiograph
    from voxflow.volumes import read_radiograph

    run_stock(corner_bundle, monkeypatch, "inference")
    rows = [line.split(",") for line in (corner_bundle / "eval/preds_outputs.csv").read_text().splitlines()]
    engine = open_engine(corner_workspace / "models/train/model.pt")
    for name, *chances in rows:
        expected = predict_radiograph(engine, read_radiograph(corner_workspace.parent / "data" / name.split("/")[-1]))
        np.testing.assert_allclose([float(chance) for chance in chances], list(expected.values()), atol=1e-4)
    bundle = shutil.copytree(corner_bundle, tmp_path / "bundle")
    run_stock(bundle, monkeypatch, "train", epochs=1, val_interval=1)
    assert (bundle / "models/model_final.pt").is_file()


@stock
@pytest.mark.parametrize("name", ["cube_bundle", "corner_bundle"])
def test_metadata_holds_against_the_schema_and_the_network(
    name: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from monai.bundle import verify_metadata, verify_net_in_out

    bundle: Path = request.getfixturevalue(name)
    tensors = {"type": "object", "patternProperties": {".": {"type": "object", "required": TENSOR}}, "minProperties": 1}
    nets = {"type": "object", "properties": {"inputs": tensors, "outputs": tensors}, "required": ["inputs", "outputs"]}
    schema = {"type": "object", "required": METADATA, "properties": {"network_data_format": nets}}
    write_json(tmp_path / "schema.json", schema)
    monkeypatch.chdir(bundle)
    # A schema that lies there already is not downloaded.
    verify_metadata(meta_file="configs/metadata.json", filepath=str(tmp_path / "schema.json"))
    verify_net_in_out("network_def", meta_file="configs/metadata.json", config_file="configs/inference.json")
    report = check_bundle(BundleTarget(name, bundle))
    assert [finding.line for finding in report.findings if finding.severity == "error"] == []


@pytest.mark.parametrize("name", ["cube", "corner"])
def test_the_bundles_network_gives_the_same_logits(name: str, request: pytest.FixtureRequest) -> None:
    workspace: Path = request.getfixturevalue(f"{name}_workspace")
    bundle: Path = request.getfixturevalue(f"{name}_bundle")
    trained, spec = load_model(workspace / "models/train/model.pt")
    twin = build_bundle_network(json.loads((bundle / "configs/inference.json").read_text())["network_def"])
    twin.load_state_dict(torch.load(bundle / "models/model.pt", weights_only=True))
    example = torch.randn(2, spec.in_channels, *((16, 16, 16) if name == "cube" else (32, 32)))
    with torch.inference_mode():
        torch.testing.assert_close(twin.eval()(example), trained(example), rtol=0, atol=1e-6)


def test_weights_that_mean_something_else_are_refused(cube_workspace: Path, tmp_path: Path) -> None:
    model = cube_workspace / "models/train/model.pt"
    arguments = {"spatial_dims": 3, "in_channels": 1, "out_channels": 2, "strides": [[2, 2, 2]], "num_res_units": 1}
    network = {"_target_": "UNet", **arguments, "channels": [4, 8], "act": "relu", "norm": "instance"}
    with pytest.raises(ParityError, match=r"weights don't fit the bundle's network"):
        write_weights(model, network, tmp_path / "model.pt")
    network |= {"act": ["prelu", {"init": 0.2}], "norm": ["instance", {"eps": 10.0}]}
    with pytest.raises(ParityError, match=r"answers otherwise, by 0\.\d+"):
        write_weights(model, network, tmp_path / "model.pt")
    assert not (tmp_path / "model.pt").exists()


def test_the_command_says_what_became_of_each_component(
    cube_workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "made"
    assert main(["migrate", str(cube_workspace), "--to", "bundle", "--output", str(target)]) == 0
    output = capsys.readouterr().err
    assert "→ SpatialPadd, RandCropByPosNegLabeld" in output
    assert output.splitlines()[-1].startswith(
        "migrate cubes: 15 exact, 2 approximate, 0 not carried; weights with the same"
    )
    report = json.loads((target / "docs/migration.json").read_text())
    assert report["counts"] == {"exact": 15, "approximate": 2, "not carried": 0}
    assert {"model.pt"} == {path.name for path in (target / "models").iterdir()}
    assert main(["migrate", str(cube_workspace), "--to", "bundle", "--output", str(target)]) == 2
    assert "exists already; name another folder" in capsys.readouterr().err


def test_what_stands_nowhere_in_monai_is_not_carried(
    cube_workspace: Path, tmp_path: Path, content: Callable[[Path], Any]
) -> None:
    config = content(cube_workspace / "config/config_train.json")
    config["train"]["pre_transforms"].insert(
        0, {"name": "ScaleIntensityOscillation", "args": {"fields": "image", "magnitude": 0.1}}
    )
    bare = tmp_path / "bare"
    write_json(bare / "config/config_train.json", config)
    write_json(bare / "config/environment.json", {"DATA_ROOT": "nowhere", "DATASET_JSON": "nowhere.json"})
    with pytest.raises(ConfigError, match=r"number of classes is stated nowhere.*--set train.model.args.num_classes=N"):
        migrate_to_bundle(bare, tmp_path / "bundle")
    migration = migrate_to_bundle(bare, tmp_path / "bundle", overrides={"train.model.args.num_classes": 2})
    assert migration.logit_difference is None
    assert not list((migration.folder / "models").iterdir())
    assert content(migration.folder / "configs/train.json")["dataset_dir"].endswith("nowhere")


@stock
def test_a_clara4_workspace_keeps_its_components(
    cube_workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = json.loads((ROOT / "tests/config/clara4/segmentation_ct_spleen.json").read_text())
    workspace = shutil.copytree(cube_workspace / "config", tmp_path / "cubes" / "config").parent
    write_json(workspace / "config/config_train.json", config)
    small = {
        "train.model.args.channels": [4, 8],
        "train.model.args.strides": [2],
        "train.pre_transforms[4].args.spatial_size": [16, 16, 16],
        "validate.inferer.args.roi_size": [16, 16, 16],
        **{"TRAIN_DATALIST_KEY": "training", "VAL_DATALIST_KEY": "validation", "MMAR_CKPT_DIR": "m"},
    }
    migration = migrate_to_bundle(workspace, tmp_path / "bundle", overrides=small)
    assert migration.report.count("not carried") == 0
    train = json.loads((migration.folder / "configs/train.json").read_text())
    assert train["network_def"]["_target_"] == "UNet"
    assert train["optimizer"]["_target_"] == "torch.optim.Adam"
    assert train["train"]["handlers"][1]["epoch_level"] is True
    fast = {"train#dataloader#num_workers": 0, "validate#dataloader#num_workers": 0}
    run_stock(migration.folder, monkeypatch, "train", epochs=1, val_interval=1, **fast)
    assert (migration.folder / "models/model.pt").is_file()


def test_the_named_configuration_decides_the_network_and_the_weights(
    cube_workspace: Path, tmp_path: Path, content: Callable[[Path], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    workspace = shutil.copytree(cube_workspace, tmp_path / "cubes")
    config = content(workspace / "config/config_train.json")
    config["train"]["model"]["args"]["nf_enc"] = [4, 12]
    write_json(workspace / "config/config_b.json", config)
    command = ["migrate", str(workspace), "--to", "bundle", "--config", "config_b.json"]
    assert main([*command, "--output", str(tmp_path / "other"), "--set", "train.model.args.num_classes=2"]) == 0
    said = capsys.readouterr().err
    assert "train/model.pt is of another network than config_b.json; name its own by MMAR_CKPT" in said
    assert "not trained" not in said
    assert content(tmp_path / "other/configs/train.json")["network_def"]["channels"] == [4, 12]
    assert not list((tmp_path / "other/models").iterdir())


@pytest.mark.parametrize(
    "values", [{"MMAR_CKPT_DIR": "models/b"}, {"MMAR_CKPT_DIR": "none", "MMAR_CKPT": "models/b/model.pt"}]
)
def test_weights_are_looked_for_where_the_variables_say(
    cube_workspace: Path, tmp_path: Path, values: dict[str, str]
) -> None:
    workspace = shutil.copytree(cube_workspace, tmp_path / "cubes")
    (workspace / "models/train").rename(workspace / "models/b")
    migration = migrate_to_bundle(workspace, tmp_path / "bundle", overrides=values)
    assert migration.logit_difference is not None
    assert not migration.weights_line


def test_a_centre_crop_that_is_not_judged_is_said(
    cube_workspace: Path, tmp_path: Path, content: Callable[[Path], Any]
) -> None:
    workspace = shutil.copytree(cube_workspace, tmp_path / "cubes")
    config = content(workspace / "config/config_train.json")
    config["validate"]["image_pipeline"]["args"]["output_crop_size"] = [16, 16, 16]
    config["validate"]["inferer"] = {"name": "TFScanWindowInferer", "args": {"roi_size": [16, 16, 16]}}
    write_json(workspace / "config/config_train.json", config)
    migration = migrate_to_bundle(workspace, tmp_path / "bundle")
    entry = next(e for e in migration.report.entries if e.where == "validate.image_pipeline")
    assert entry.verdict == "approximate"
    assert "whole volumes are judged" in entry.why
    steps = content(migration.folder / "configs/train.json")["validate"]["preprocessing"]["transforms"]
    assert "ResizeWithPadOrCropd" not in {step["_target_"] for step in steps}
