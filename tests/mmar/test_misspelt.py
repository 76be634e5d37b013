"""Fields, keys and sizes that are misspelt or do not fit: one line before a case runs, with what was meant."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.mmar import families
from tests.mmar.families import step
from voxflow.cli.apps import evaluate_main, train_main
from voxflow.components import Component, build_network, complete_network
from voxflow.config import load_workflow
from voxflow.errors import ConfigError
from voxflow.files import write_json

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CLARA3, CLARA4 = "config/config_validation_chpt.json", "config/config_validation.json"
ENSEMBLE = "several models that answer together are not carried in one file; validate each by its own ckpt_path"


def change_file(file: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = copy.deepcopy(json.loads(file.read_text()))
    change(content)
    write_json(file, content)


def rename(holder: dict[str, Any], name: str, other: str) -> None:
    holder[other] = holder.pop(name)


@pytest.mark.parametrize(
    ("config", "change", "lines"),
    [
        (
            CLARA4,
            lambda c: c["metrics"][0]["args"].update(output_transform="lambda x: (x['prd'], x['label'])"),
            ["metrics[0].args.output_transform: MeanDice reads the field 'prd'", "write 'pred' (there are", "label"],
        ),
        (
            CLARA4,
            lambda c: c["handlers"][2]["args"].update(output_transform="lambda x: x['prd']"),
            ["handlers[2].args.output_transform: SegmentationSaver reads the field 'prd'", "write 'pred'"],
        ),
        (
            CLARA3,
            lambda c: c["val_metrics"][0]["args"].update(field="pred_class7"),
            ["val_metrics[0].args.field: ComputeAverageDice reads the field 'pred_class7'", "pred_class1"],
        ),
        (
            CLARA3,
            lambda c: c["writers"][1]["args"].update(field="pred_clas1"),
            ["writers[1].args.field: WriteNifti reads the field 'pred_clas1'", "write 'pred_class1'"],
        ),
        (
            CLARA3,
            lambda c: c["pre_transforms"][1]["args"].update(fields=["imge"]),
            ["pre_transforms[1].args.fields: ConvertToChannelsFirst reads the field 'imge'", "write 'image'"],
        ),
        (
            CLARA3,
            lambda c: c["label_transforms"][0]["args"].update(fields="lable"),
            ["label_transforms[0].args.fields: LoadNifti reads the field 'lable'", "write 'label'"],
        ),
        (CLARA4, lambda c: c.update(model={"ckpt_pth": "x.pt"}), ["model.ckpt_pth: unknown key", "mean 'ckpt_path'"]),
        (
            CLARA4,
            lambda c: rename(c["dataset"], "data_list_key", "data_list_ky"),
            ["dataset.data_list_ky: unknown key; did you mean 'data_list_key'"],
        ),
        (
            CLARA4,
            lambda c: rename(c["handlers"][2]["args"], "output_dir", "outputdir"),
            ["handlers[2].args.outputdir: unknown key; did you mean 'output_dir'"],
        ),
        (
            CLARA4,
            lambda c: rename(c["handlers"][0], "disabled", "disabld"),
            ["handlers[0].disabld: unknown key; did you mean 'disabled'"],
        ),
        (CLARA4, lambda c: c.update(evaluator={"name": "EnsembleEvaluator"}), ["evaluator.name: Ens", ENSEMBLE]),
        (CLARA4, lambda c: c.update(model=[{"ckpt_path": "a.pt"}, {"ckpt_path": "b.pt"}]), ["2 of 2 models", ENSEMBLE]),
        (
            CLARA4,
            lambda c: c["post_transforms"].insert(0, step("VoteEnsembled", keys=["a", "b"], output_key="pred")),
            ["post_transforms[0]: VoteEnsembled", ENSEMBLE],
        ),
        (CLARA4, lambda c: c.update(evaluator={"name": "Evaluator"}), ["'Evaluator' is not carried", "SupervisedEv"]),
    ],
)
def test_one_line_names_the_place_before_a_case_is_read(
    config: str,
    change: Callable[[dict[str, Any]], object],
    lines: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """There is no model, so that a run which came to the cases would end otherwise."""
    mmar = (families.getting_started3 if config == CLARA3 else families.getting_started4)(tmp_path / "mmar")
    change_file(mmar / config, change)
    assert evaluate_main(["-m", str(mmar), "-c", config]) == 2
    said = capsys.readouterr().err
    assert all(line in said for line in lines), said


def test_a_field_that_only_metrics_read_stops_no_inference(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mmar = families.getting_started3(tmp_path / "mmar")
    change_file(mmar / CLARA3, lambda c: c["val_metrics"][0]["args"].update(field="pred_class7"))
    evaluate_main(["-m", str(mmar), "-c", CLARA3, "--set", "do_validation=false"])
    assert "reads the field" not in capsys.readouterr().err


def test_training_of_clara_4_refuses_metrics_of_unknown_fields(tmp_path: Path) -> None:
    mmar = families.getting_started4(tmp_path / "mmar")
    file = mmar / "config/config_train_Unet.json"
    change_file(
        file,
        lambda c: c["validate"]["metrics"][1]["args"].update(output_transform="lambda x: (x['prd'], x['label'])"),
    )
    with pytest.raises(ConfigError, match=r"validate\.metrics\[1\]\.args\.output_transform.*did you mean 'pred'"):
        load_workflow(file, environment=mmar / "config/environment.json", workspace=mmar)


def test_cases_without_labels_and_windows_of_two_axes_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mmar = families.getting_started4(tmp_path / "mmar")
    assert train_main(["-m", str(mmar), "-c", "config/config_train_Unet.json", "--set", "workers=0"]) == 0
    model = {"ckpt_path": "models/model.pt"}
    change_file(mmar / CLARA4, lambda c: c.update(model=model))
    change_file(mmar / CLARA4, lambda c: c["dataset"].update(data_list_key="test"))
    assert evaluate_main(["-m", str(mmar), "-c", CLARA4]) == 1
    assert "the case has no label to compare with" in (mmar / "eval/failures.json").read_text()
    change_file(mmar / CLARA4, lambda c: c["inferer"]["args"].update(roi_size=[20, 20]))
    capsys.readouterr()
    assert evaluate_main(["-m", str(mmar), "-c", CLARA4]) == 2
    assert "inferer.args.roi_size: [20, 20] has 2 axes, and the model's images have 3" in capsys.readouterr().err
    network = {"name": "UNet", "args": families.UNET | {"out_channels": 3}}
    change_file(mmar / CLARA4, lambda c: c.update(model=network))
    loader = step("CheckpointLoader", load_path="models/model.pt")
    change_file(mmar / CLARA4, lambda c: c.update(handlers=[loader]))
    change_file(mmar / CLARA4, lambda c: c["inferer"]["args"].update(roi_size=[20, 20, 20]))
    assert evaluate_main(["-m", str(mmar), "-c", CLARA4]) == 2
    assert "model: UNet as the file describes it has other weights" in (said := capsys.readouterr().err)
    assert "out_channels is 3, where it has 2" in said


def test_the_refusal_of_channels_begins_with_the_network() -> None:
    component = Component(name="monai:UNet", args=families.UNET | {"out_channels": 3})
    with pytest.raises(ConfigError, match=r"^network UNet: out_channels is 3, but 2 classes are learnt$"):
        build_network(complete_network(component, in_channels=1, num_classes=2))


def test_networks_of_slices_are_refused_in_plain_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mmar = families.getting_started4(tmp_path / "mmar")
    file = "config/config_train_Unet.json"
    change_file(mmar / file, lambda c: c["train"]["model"]["args"].update(dimensions=2, strides=[2]))
    assert train_main(["-m", str(mmar), "-c", file]) == 2
    assert "masks are learnt on whole volumes in 3D, not in 2D or 2.5D" in capsys.readouterr().err
