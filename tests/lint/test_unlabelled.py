"""The check names what can't leave out voxels and classes that nobody labelled, as the training does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.lint.workspace import component, segmentation, write_files, write_images
from voxflow.lint import check_workspace
from voxflow.planning import find_target

if TYPE_CHECKING:
    from collections.abc import Callable

CLARA4 = Path(__file__).parents[1] / "config" / "clara4" / "segmentation_ct_spleen.json"


def list_findings(folder: Path, files: dict[str, Any], **overrides: Any) -> dict[str, str]:
    """Messages of the code, by place."""
    write_files(folder / "ws", files)
    write_images(folder / "ws" / "data")
    report = check_workspace(find_target(str(folder / "ws"), overrides=overrides))
    return {finding.where: finding.message for finding in report.findings if finding.code == "unlabelled"}


def state_ignore(datalist: dict[str, Any]) -> None:
    datalist["ignore"] = 255


def name_ignore(datalist: dict[str, Any]) -> None:
    datalist["labels"]["255"] = "ignore"


def list_classes(datalist: dict[str, Any]) -> None:
    datalist["validation"][1]["labelled"] = ["cube"]


@pytest.mark.parametrize("change", [state_ignore, name_ignore, list_classes])
def test_metrics_transforms_and_operations_that_judge_all_voxels_are_named(
    tmp_path: Path, change: Callable[[dict[str, Any]], None]
) -> None:
    files = segmentation()
    assert not list_findings(tmp_path, files)
    change(files["dataset_0.json"])
    assert not list_findings(tmp_path, files)
    train = files["config_train.json"]
    train["train"]["pre_transforms"].append(component("CenterData", fields="label"))
    train["train"]["aux_ops"] = [component("DiceMaskedOutput")]
    findings = list_findings(tmp_path, files)
    assert findings["train.pre_transforms"].startswith("CenterData on the label can't leave out voxels")
    assert findings["train.aux_ops"].startswith("DiceMaskedOutput can't leave out voxels")


def test_cases_that_are_not_learned_from_say_nothing(tmp_path: Path) -> None:
    files = segmentation()
    files["dataset_0.json"]["testing"] = [{**files["dataset_0.json"]["validation"][0], "labelled": ["cube"]}]
    files["config_train.json"]["train"]["pre_transforms"].append(component("CenterData", fields="label"))
    assert not list_findings(tmp_path, files)


def test_clara4_s_named_metrics_are_refused_before_the_training(tmp_path: Path) -> None:
    files = segmentation() | {"config_train.json": json.loads(CLARA4.read_text())}
    files.pop("config_validation.json")
    keys = {"TRAIN_DATALIST_KEY": "training", "VAL_DATALIST_KEY": "validation"}
    assert not list_findings(tmp_path, files, **keys)
    files["dataset_0.json"]["ignore"] = 255
    findings = list_findings(tmp_path, files, **keys)
    assert "can't leave out voxels that nobody labelled; ComputeAverageDice can" in findings["validate.metrics"]
