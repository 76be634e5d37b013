"""The masks that a chain makes of a label map are the model's regions, in every dialect."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.mmar.workspaces import brats_experiment
from tests.training.conftest import volume_config
from voxflow.config import load_workflow
from voxflow.errors import ConfigError
from voxflow.files import write_json
from voxflow.training import DataFacts
from voxflow.training.plan import TrainingPlan
from voxflow.workspace import make_mmar

if TYPE_CHECKING:
    from voxflow.spec import ModelSpec

PLACES = {"DATASET_JSON": "x", "DATA_ROOT": "y", "MMAR_CKPT_DIR": "m"}
CLARA4 = Path(__file__).parent.parent / "config" / "clara4" / "segmentation_ct_spleen.json"
NAMES = ("background", "necrosis", "oedema", "class_3", "enhancing")
FACTS = DataFacts(class_names=NAMES, label_values=(0, 1, 2, 4))
BRATS = {"TC": {1, 4}, "WT": {1, 2, 4}, "ET": {4}}
# MONAI's own modules warn of their age.
pytestmark = pytest.mark.filterwarnings("ignore")


def plan(config: Path, facts: DataFacts = FACTS, **overrides: Any) -> TrainingPlan:
    return TrainingPlan.build(load_workflow(config, overrides={**PLACES, **overrides}), facts)


def list_regions(spec: ModelSpec) -> dict[str, set[int]]:
    return {name: set(values) for name, values in zip(spec.class_names, spec.regions, strict=True)}


def clara4(folder: Path) -> Path:
    """The spleen's configuration with MONAI's converter of BraTS labels and sigmoids."""
    config = copy.deepcopy(json.loads(CLARA4.read_text()))
    convert = {"name": "ConvertToMultiChannelBasedOnBratsClassesd", "args": {"keys": "label"}}
    for section in ("train", "validate"):
        config[section]["pre_transforms"].insert(1, convert)
    config["train"]["loss"] = {"name": "DiceLoss", "args": {"sigmoid": True}}
    config["train"]["model"]["args"]["out_channels"] = 3
    config["validate"]["post_transforms"] = [{"name": "Activationsd", "args": {"keys": "pred", "sigmoid": True}}]
    write_json(folder / "config_train.json", config)
    return folder / "config_train.json"


def custom(folder: Path, name: str) -> Path:
    """A configuration with a user's own class, which makes two masks of the label."""
    config = volume_config()
    config["train"]["model"]["args"]["final_activation"] = "sigmoid"
    config["train"]["loss"]["args"] = {"is_onehot_targets": True}
    for section in ("train", "validate"):
        config[section]["pre_transforms"] = [*config[section]["pre_transforms"]]
        config[section]["pre_transforms"].insert(1, {"path": f"mine.{name}"})
    (folder / "config").mkdir()
    (folder / "custom").mkdir()
    (folder / "custom" / "mine.py").write_text(
        "import numpy as np\n"
        "class Nested:\n"
        "    def __call__(self, sample):\n"
        "        label = sample['label']\n"
        "        masks = [np.isin(label, [1, 2, 4]), label == 4]\n"
        "        return {**sample, 'label': np.concatenate(masks).astype(np.uint8)}\n"
        "class OneHot:\n"
        "    def __call__(self, sample):\n"
        "        label = sample['label']\n"
        "        return {**sample, 'label': np.concatenate([label == 0, label == 1]).astype(np.uint8)}\n"
        "class OfTheImage:\n"
        "    def __call__(self, sample):\n"
        "        return {**sample, 'image': sample['image'] / sample['image'].std(axis=(1, 2, 3), ddof=1)[7]}\n"
    )
    write_json(folder / "config" / "config_train.json", config)
    return folder / "config" / "config_train.json"


def test_tlt2_configuration_makes_regions(tmp_path: Path) -> None:
    config = brats_experiment(tmp_path, cases=1) / "config_brats.json"
    spec = plan(config).make_spec(4)
    assert list_regions(spec) == BRATS


def test_clara3_template_makes_regions_in_its_own_order(tmp_path: Path) -> None:
    mmar = make_mmar("brain_br16_full", tmp_path / "mmar", variant="cpu")
    spec = plan(mmar / "config" / "config_train.json").make_spec(4)
    assert list_regions(spec) == BRATS
    assert spec.class_names == ("TC", "WT", "ET")


def test_clara4_configuration_makes_monais_regions(tmp_path: Path) -> None:
    spec = plan(clara4(tmp_path), TRAIN_DATALIST_KEY="training", VAL_DATALIST_KEY="validation").make_spec(4)
    assert list_regions(spec) == BRATS


def test_value_3_is_enhancing_tumour_where_the_data_say_so(tmp_path: Path) -> None:
    config = brats_experiment(tmp_path, cases=1) / "config_brats.json"
    names = ("background", "necrosis", "oedema", "enhancing")
    facts = DataFacts(class_names=names, label_values=(0, 1, 2, 3), convert={"frame_of_reference": "any"})
    spec = plan(config, facts).make_spec(4)
    assert list_regions(spec) == {"TC": {1, 3}, "WT": {1, 2, 3}, "ET": {3}}
    assert spec.convert == {"frame_of_reference": "any"}


def test_region_of_no_value_of_the_data_is_refused(tmp_path: Path) -> None:
    names = ("background", "necrosis", "oedema", "enhancing")
    with pytest.raises(ConfigError, match=r"ET means label value 4, the data have 0, 1, 2, 3"):
        plan(
            clara4(tmp_path),
            DataFacts(class_names=names, label_values=(0, 1, 2, 3)),
            TRAIN_DATALIST_KEY="training",
            VAL_DATALIST_KEY="validation",
        )


def test_validation_with_its_channels_in_another_order_is_refused(tmp_path: Path) -> None:
    config = brats_experiment(tmp_path, cases=1) / "config_brats.json"
    with pytest.raises(ConfigError, match="masks differ between training and validation"):
        plan(config, FACTS, **{"validate.pre_transforms[1].classes": ["WT", "TC", "ET"]})


def test_masks_without_a_sigmoid_are_refused(tmp_path: Path) -> None:
    config = brats_experiment(tmp_path, cases=1) / "config_brats.json"
    with pytest.raises(ConfigError, match=r"net_config|final_activation.*write 'sigmoid'"):
        plan(config, FACTS, **{"net_config.final_activation": "softmax"})


def test_users_own_class_is_tried_on_each_value_of_the_data(tmp_path: Path) -> None:
    config = custom(tmp_path, "Nested")
    spec = plan(config).make_spec(1)
    assert list_regions(spec) == {"1+2+4": {1, 2, 4}, "4": {4}}


@pytest.mark.parametrize("name", ["OneHot", "OfTheImage"])
def test_users_own_class_of_other_effect_makes_no_regions(tmp_path: Path, name: str) -> None:
    facts = DataFacts(class_names=("background", "tumour"), label_values=(0, 1))
    assert plan(custom(tmp_path, name), facts).make_spec(1).regions == ()
