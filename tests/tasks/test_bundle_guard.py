"""A bundle judges the weights that its stage trained, reads the stage's cases, and writes to its folder alone."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import nibabel
import numpy as np
import pytest
import torch

from tests.bundle.spleen import evaluate_config, inference_config, train_config
from tests.tasks.test_bundle import block, tracker
from voxflow.bundle import BundleOptions, evaluate_bundle, infer_bundle, train_bundle
from voxflow.errors import ConfigError, VoxflowError
from voxflow.files import write_json
from voxflow.tracking import NullTracker

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["block", "tracker"]  # fixtures
pytest.importorskip("ignite", reason="MONAI's engines need pytorch-ignite: pip install voxflow[bundle]")
pytestmark = pytest.mark.filterwarnings("ignore")
EPOCH = {"train#trainer#max_epochs": 1}


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle with weights of its own, which are not the stage's; images lie beside it."""
    configs = tmp_path / "mmars/ws/config/configs"
    write_json(configs / "train.json", train_config())
    write_json(configs / "evaluate.json", evaluate_config())
    write_json(configs / "inference.json", inference_config())
    (configs.parent / "models").mkdir()
    return configs.parent


@pytest.fixture
def items(tmp_path: Path) -> list[dict[str, Any]]:
    label = np.zeros((16, 16, 16), np.uint8)
    label[4:12, 4:12, 4:12] = 1
    folder = tmp_path / "data/volumes/ws/images"
    folder.mkdir(parents=True)
    for n in range(2):
        nibabel.save(nibabel.Nifti1Image(label.astype(np.float32) * 200, np.eye(4)), folder / f"i{n}.nii.gz")
        nibabel.save(nibabel.Nifti1Image(label, np.eye(4)), folder / f"l{n}.nii.gz")
    return [{"image": str(folder / f"i{n}.nii.gz"), "label": str(folder / f"l{n}.nii.gz")} for n in range(2)]


@pytest.fixture
def model(tmp_path: Path, bundle: Path, items: list[dict[str, Any]]) -> Path:
    """The folder of a trained model."""
    out = tmp_path / "mmars/ws/models/train"
    data = {"train#dataset#data": items, "validate#dataset#data": items}
    options = BundleOptions(set=EPOCH)
    train_bundle(bundle, out, options, data=data, tracker=NullTracker(), curves=out.parent / "curves.csv")
    weights = torch.load(out / "model.pt", weights_only=True)
    torch.save({name: torch.zeros_like(value) for name, value in weights.items()}, bundle / "models/model.pt")
    return out


def change(bundle: Path, name: str, **changes: Any) -> None:
    path = bundle / f"configs/{name}.json"
    write_json(path, json.loads(path.read_text()) | changes)


def evaluate(bundle: Path, model: Path, items: list[dict[str, Any]], **options: Any) -> dict[str, float]:
    out = model.parents[1] / "eval/test"
    out.mkdir(parents=True, exist_ok=True)
    data = {"validate#dataset#data": items}
    return evaluate_bundle(bundle, model, out, BundleOptions(**options), data=data).numbers


def test_a_loader_with_a_path_of_its_own_loads_what_the_stage_trained(
    bundle: Path, model: Path, items: list[dict[str, Any]]
) -> None:
    expected = evaluate(bundle, model, items)["val_mean_dice"]
    loader = evaluate_config()["validate#handlers"][0] | {"load_path": "$@bundle_root + '/models/model.pt'"}
    change(bundle, "evaluate", **{"validate#handlers": [loader]})
    assert evaluate(bundle, model, items)["val_mean_dice"] == expected


def test_weights_that_an_expression_loads_are_refused_unless_they_are_the_stages(
    bundle: Path, model: Path, items: list[dict[str, Any]]
) -> None:
    load = "$@network.load_state_dict(torch.load(@bundle_root + '/models/model.pt', weights_only=True))"
    change(bundle, "evaluate", **{"validate#handlers": [], "initialize": ["$import torch", load]})
    with pytest.raises(
        VoxflowError, match=r"the bundle loads .*config/models/model.pt, where .*train/model.pt is to be"
    ):
        evaluate(bundle, model, items)
    (bundle / "models/model.pt").write_bytes((model / "model.pt").read_bytes())
    assert evaluate(bundle, model, items)["cases"] == 2


def test_a_configuration_that_loads_no_weights_judges_nothing(
    bundle: Path, model: Path, items: list[dict[str, Any]]
) -> None:
    change(bundle, "evaluate", **{"validate#handlers": []})
    with pytest.raises(ConfigError, match=r"the configuration loaded no weights, so that .*model.pt was not judged"):
        evaluate(bundle, model, items)


def test_cases_under_another_id_are_refused_and_taken_once_the_id_is_named(
    tmp_path: Path, bundle: Path, items: list[dict[str, Any]]
) -> None:
    config = train_config()
    for part in ("train", "validate"):
        config[f"{part}_ds"] = config[part].pop("dataset") | {"data": items[:1]}
        config[part]["dataloader"]["dataset"] = f"@{part}_ds"
    write_json(bundle / "configs/train.json", config)
    out, options = tmp_path / "mmars/ws/models/train", BundleOptions(set=EPOCH)
    data = {options.train_data: items, options.validate_data: items}
    with pytest.raises(ConfigError, match=r"train.json: no id 'train#dataset#data' that the split's cases"):
        train_bundle(bundle, out, options, data=data, tracker=NullTracker(), curves=tmp_path / "curves.csv")
    named = options.model_copy(update={"train_data": "train_ds#data", "validate_data": "validate_ds#data"})
    data = {named.train_data: items, named.validate_data: items}
    result = train_bundle(bundle, out, named, data=data, tracker=NullTracker(), curves=tmp_path / "curves.csv")
    assert result.numbers["steps"] == 1


def test_an_image_that_is_no_case_of_the_split_is_not_read(
    bundle: Path, model: Path, items: list[dict[str, Any]]
) -> None:
    other = {"_target_": "Dataset", "data": items[1:], "transform": "@validate#preprocessing"}
    loader = {"_target_": "DataLoader", "dataset": other, "batch_size": 1}
    change(bundle, "evaluate", **{"validate#evaluator#val_data_loader": loader})
    with pytest.raises(VoxflowError, match=r"the bundle reads .*i1.nii.gz, which is no case of the stage"):
        evaluate(bundle, model, items[:1])


def test_masks_that_keep_a_tree_below_another_root_stay_in_the_stages_folder(
    bundle: Path, model: Path, items: list[dict[str, Any]]
) -> None:
    config = inference_config()
    config["postprocessing"]["transforms"][1]["data_root_dir"] = "$@bundle_root + '/test_data'"
    write_json(bundle / "configs/inference.json", config)
    before = set(bundle.parents[2].rglob("*.nii.gz"))
    out = model.parents[1] / "eval/infer"
    out.mkdir(parents=True)
    images = [{"image": item["image"]} for item in items]
    assert infer_bundle(bundle, model, out, BundleOptions(), data={"dataset#data": images}).numbers == {"cases": 2}
    masks = set(bundle.parents[2].rglob("*.nii.gz")) - before
    assert masks == {out / f"i{n}/i{n}_trans.nii.gz" for n in range(2)}


@pytest.mark.parametrize("argument", ["output_dir", "save_dir"])
def test_a_component_that_writes_elsewhere_is_named_before_the_run(
    bundle: Path, model: Path, items: list[dict[str, Any]], argument: str, tmp_path: Path
) -> None:
    handlers = evaluate_config()["validate#handlers"]
    handlers[1] = {"_target_": "MetricsSaver", "save_dir": "@output_dir", argument: "/var/voxflow_elsewhere"}
    change(bundle, "evaluate", **{"validate#handlers": handlers})
    with pytest.raises(ConfigError, match=rf"validate#handlers#1#{argument}: writes to /var/voxflow_elsewhere"):
        evaluate(bundle, model, items)


def test_a_file_beside_the_inputs_is_not_opened_to_write(
    bundle: Path, model: Path, items: list[dict[str, Any]]
) -> None:
    spoil = f"$open('{items[0]['image']}', 'wb')"
    change(bundle, "evaluate", **{"run": [spoil, "$@validate#evaluator.run()"]})
    size = len(nibabel.load(items[0]["image"]).get_fdata())
    with pytest.raises(VoxflowError, match=r"the bundle writes .*i0.nii.gz, outside of .*eval/test"):
        evaluate(bundle, model, items)
    assert len(nibabel.load(items[0]["image"]).get_fdata()) == size


def test_one_id_may_name_the_folder_of_checkpoints_and_of_all_else(
    tmp_path: Path, bundle: Path, items: list[dict[str, Any]]
) -> None:
    one_id = {"ckpt_dir": "@output_dir"}
    change(bundle, "train", **one_id)
    out, options = tmp_path / "mmars/ws/models/train", BundleOptions(set=EPOCH, checkpoints="output_dir")
    data = {options.train_data: items, options.validate_data: items}
    train_bundle(bundle, out, options, data=data, tracker=NullTracker(), curves=out.parent / "curves.csv")
    assert (out / "model.pt").is_file()
    before = (out / "model.pt").read_bytes()
    assert evaluate(bundle, out, items, checkpoints="output_dir")["cases"] == 2
    assert (out / "model.pt").read_bytes() == before
