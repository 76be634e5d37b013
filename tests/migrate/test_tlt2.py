"""A TLT 2 workspace as a bundle: four modalities, nested classes, metrics by class, trained by stock MONAI."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from voxflow.files import write_json
from voxflow.geometry import Geometry
from voxflow.migrate import migrate_to_bundle
from voxflow.volumes import Volume, write_volume

pytest.importorskip("ignite", reason="MONAI's engines need pytorch-ignite: pip install voxflow[bundle]")
SEEDS = Path(__file__).resolve().parent.parent / "config" / "seeds"
# What MONAI and ignite warn of in their own modules is not this project's to mend.
stock = pytest.mark.filterwarnings("ignore")


def write_tumour(folder: Path, name: str, seed: int) -> dict[str, object]:
    rng = np.random.default_rng(seed)
    geometry = Geometry.from_parts((20, 18, 16), (1, 1, 1))
    label = np.zeros((20, 18, 16), np.uint8)
    label[4:14, 4:14, 4:12], label[6:12, 6:12, 6:10], label[8:10, 8:10, 7:9] = 2, 1, 4
    for n in range(4):
        image = (label * (n + 1) + rng.normal(9, 1, label.shape)).astype(np.float32)
        write_volume(folder / f"{name}_{n}.nii.gz", Volume(image, geometry))
    write_volume(folder / f"{name}_label.nii.gz", Volume(label, geometry))
    return {"image": [f"{name}_{n}.nii.gz" for n in range(4)], "label": f"{name}_label.nii.gz"}


@stock
def test_the_guides_brats_example_trains_as_a_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    datalist = [write_tumour(tmp_path / "data", f"case{n}", n) for n in range(3)]
    workspace = tmp_path / "brats"
    (workspace / "config").mkdir(parents=True)
    shutil.copyfile(SEEDS / "tlt2_brats_train.json", workspace / "config/config_train.json")
    write_json(workspace / "config/dataset_0.json", {"training": datalist[:2], "validation": datalist[2:]})
    places = {"DATA_ROOT": str(tmp_path / "data"), "DATASET_JSON": str(workspace / "config/dataset_0.json")}
    write_json(workspace / "config/environment.json", places)
    size = [16, 16, 16]
    small = {
        "network_input_size": size,
        "train.pre_transforms[2].size": size,
        "validate.pre_transforms[2].size": size,
        "epochs": 1,
    }
    migration = migrate_to_bundle(workspace, tmp_path / "bundle", overrides=small)
    assert migration.report.count("not carried") == 0
    train = json.loads((migration.folder / "configs/train.json").read_text())
    assert train["network_def"]["_target_"] == "scripts.norms.with_group_norm"
    assert [*train["validate"]["key_metric"], *train["validate"]["additional_metrics"]] == [
        "val_mean_dice",
        "val_mean_dice_tc",
        "val_mean_dice_wt",
        "val_mean_dice_et",
    ]
    from monai.bundle import run

    monkeypatch.chdir(migration.folder)
    monkeypatch.syspath_prepend(str(migration.folder))
    workers = {"train#dataloader#num_workers": 0, "validate#dataloader#num_workers": 0}
    run(config_file="configs/train.json", **workers)
    assert (migration.folder / "models/model.pt").is_file()
