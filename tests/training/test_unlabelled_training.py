"""A training leaves out what nobody labelled: voxels of the ignore value, and classes of partially labelled cases."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.training.conftest import volume_config, workflow_of
from voxflow.bundle.parts import list_items
from voxflow.datalist import Case, Datalist
from voxflow.errors import ConfigError, DataError
from voxflow.geometry import Geometry
from voxflow.tracking import NullTracker
from voxflow.training import DataFacts, TrainOptions, train
from voxflow.training.distributed import World
from voxflow.training.session import plan_training_data, prepare_data
from voxflow.volumes import Volume, write_volume

if TYPE_CHECKING:
    from pathlib import Path

FACTS = DataFacts(class_names=("background", "cube", "core"), spacing_mm=(1, 1, 1), orientation="LPS")


def write_case(folder: Path, number: int, *, ignore: int | None, labelled: tuple[str, ...] | None) -> Case:
    """A bright cube with a brighter core; without the core's label where it was not labelled."""
    label = np.zeros((20, 20, 20), np.uint8)
    label[4:14, 4:14, 4:14] = 1
    label[6:12, 6:12, 6:12] = 2
    image = np.random.default_rng(number).normal(50, 5, label.shape) + 50 * label
    if labelled is not None:
        label[label == 2] = 0
    if ignore is not None:
        label[:, :, :5] = ignore
    grid = Geometry.from_parts(label.shape, (1, 1, 1))
    paths = folder / f"{number}.nii.gz", folder / f"{number}_label.nii.gz"
    write_volume(paths[0], Volume(image.astype(np.float32), grid))
    write_volume(paths[1], Volume(label, grid))
    return Case(str(number), (paths[0],), paths[1], str(number), ignore, labelled)


def make_datalist(folder: Path, **metadata: Any) -> Datalist:
    """Four cases to learn from, two of them without the label of the core, one of these without the lowest planes."""
    kinds: list[tuple[int | None, tuple[str, ...] | None]] = [
        (None, None),
        (255, None),
        (None, ("cube",)),
        (255, ("cube",)),
    ]
    cases = [
        write_case(folder, n, ignore=i, labelled=names) for n, (i, names) in enumerate([*kinds, kinds[1], kinds[2]])
    ]
    return Datalist(
        folder / "d.json", folder, {"training": tuple(cases[:4]), "validation": tuple(cases[4:])}, (), metadata
    )


def test_labels_are_marked_and_the_classes_are_learnt(tmp_path: Path, options: TrainOptions) -> None:
    datalist = make_datalist(tmp_path)
    workflow = workflow_of(volume_config(), tmp_path, epochs=60, num_training_epoch_per_valid=60)
    plan, training, _ = plan_training_data(workflow, datalist, FACTS)
    assert plan.unlabelled is not None
    assert plan.unlabelled.sets == ((2,),)
    _, store = prepare_data(plan, (training, training), options, World(), seed=0)
    values = [set(np.unique(store[n]["label"]).tolist()) for n in range(4)]
    assert values == [{0, 1, 2}, {-1, 0, 1, 2}, {-2, 1}, {-2, -1, 1}]
    result = train(workflow, datalist, options, tmp_path / "out", facts=FACTS, tracker=NullTracker())
    assert result.metrics["mean_dice_cube"] > 0.8
    assert result.metrics["mean_dice_core"] > 0.5


def test_components_that_can_not_leave_voxels_out_are_refused(tmp_path: Path) -> None:
    datalist = make_datalist(tmp_path)
    config = volume_config()
    config["train"]["pre_transforms"].append({"name": "CenterData", "args": {"fields": "label"}})
    config["train"]["aux_ops"] = [{"name": "DiceMaskedOutput"}]
    workflow = workflow_of(config, tmp_path)
    with pytest.raises(ConfigError) as caught:
        plan_training_data(workflow, datalist, FACTS)
    text = str(caught.value)
    assert "CenterData on the label can't leave out voxels that nobody labelled" in text
    assert "DiceMaskedOutput can't leave out voxels" in text
    whole = replace(datalist, parts={"training": datalist.parts["training"][:1], "validation": ()})
    assert plan_training_data(workflow, whole, FACTS)[0].unlabelled is None


def test_name_that_is_no_class_is_refused(tmp_path: Path) -> None:
    case = write_case(tmp_path, 0, ignore=None, labelled=("cub",))
    datalist = Datalist(tmp_path / "d.json", tmp_path, {"training": (case,), "validation": ()})
    with pytest.raises(DataError, match="case 0: labelled names cub; the classes are background, cube, core"):
        plan_training_data(workflow_of(volume_config(), tmp_path), datalist, FACTS)


def test_classes_that_overlap_can_not_be_partial_as_exclusive_ones(tmp_path: Path) -> None:
    datalist = make_datalist(tmp_path, regions={"cube": [1, 2], "core": [2]})
    with pytest.raises(ConfigError, match="only some classes were labelled, and classes overlap"):
        plan_training_data(workflow_of(volume_config(), tmp_path), datalist, FACTS)


def test_regions_are_unknown_where_nobody_labelled_them(tmp_path: Path, options: TrainOptions) -> None:
    config = volume_config()
    step = {"name": "ConvertToRegions", "args": {"fields": "label", "regions": {"cube": [1, 2], "core": [2]}}}
    for section in ("train", "validate"):
        config[section]["pre_transforms"] = [*config[section]["pre_transforms"], step]
    config["train"]["model"]["args"]["final_activation"] = "sigmoid"
    config["train"]["loss"]["args"] = {"is_onehot_targets": True}
    workflow = workflow_of(config, tmp_path, epochs=2, num_training_epoch_per_valid=2)
    datalist = make_datalist(tmp_path, regions={"cube": [1, 2], "core": [2]})
    plan, _, validation = plan_training_data(workflow, datalist, FACTS)
    _, store = prepare_data(plan, (validation, validation), options, World(), seed=0)
    labels = [plan.valid_chain.run_tail(store[n], np.random.default_rng(0))[0]["label"] for n in range(2)]
    assert [set(np.unique(channel).tolist()) for channel in labels[0]] == [{-1, 0, 1}, {-1, 0, 1}]
    assert [set(np.unique(channel).tolist()) for channel in labels[1]] == [{0, 1}, {-1}]
    result = train(workflow, datalist, options, tmp_path / "out", facts=FACTS, tracker=NullTracker())
    assert np.isfinite(result.train_loss)
    assert {"mean_dice_cube", "mean_dice_core"} <= result.metrics.keys()


def test_value_of_a_class_can_not_be_ignored(tmp_path: Path) -> None:
    case = write_case(tmp_path, 0, ignore=2, labelled=None)
    datalist = Datalist(tmp_path / "d.json", tmp_path, {"training": (case,), "validation": ()})
    with pytest.raises(DataError, match="case 0: ignore is 2, which is the value of a class"):
        plan_training_data(workflow_of(volume_config(), tmp_path), datalist, FACTS)


def test_datalist_may_have_the_value_among_its_labels(tmp_path: Path) -> None:
    items = [{"image": "a.nii.gz", "label": "b.nii.gz", "labelled": ["liver"]}]
    for labels in ({"0": "background", "1": "liver", "255": "ignore"}, {"background": 0, "liver": 1, "ignore": 255}):
        datalist = Datalist.of({"labels": labels, "training": items}, tmp_path / "d.json")
        case = datalist.cases("training")[0]
        assert (case.ignore, case.labelled) == (255, ("liver",))
        assert len(datalist.metadata["labels"]) == 2
    with pytest.raises(DataError, match="expected a label value above 0, such as 255, received 0"):
        Datalist.of({"ignore": 0, "training": items}, tmp_path / "d.json")


def test_bundle_is_not_trained_on_what_nobody_labelled(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="case 0 is not labelled everywhere"):
        list_items([write_case(tmp_path, 0, ignore=255, labelled=None)])
