"""Several result folders as one model, as TotalSegmentator joins the parts of its task total."""

from __future__ import annotations

import json
from shutil import rmtree
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import numpy as np
import pytest

from tests.adopt.folders import CT, make_dataset, make_plans, write_checkpoint, write_folder, write_image
from tests.adopt.test_against_nnunet import run_nnunet
from tests.adopt.test_nnunet import make_weights
from tests.adopt.test_parity import StandIn
from voxflow.adopt import original, read_joined, read_nnunet, rename_classes, write_adopted, write_nnunet
from voxflow.cli.main import main
from voxflow.engines import TorchEngine, open_engine
from voxflow.errors import ConfigError, DataError, InputError
from voxflow.export import ExportOptions, export_model
from voxflow.inference import InferOptions, compute_maker_digest, describe_settings
from voxflow.places import read_workspaces
from voxflow.prediction import (
    CleaningOptions,
    Ensemble,
    PredictOptions,
    choose_signal,
    open_ensemble,
    predict_prepared,
    predict_volume,
    prepare_image,
)
from voxflow.prediction.nnunet import prepare_nnunet
from voxflow.spec import ModelSpec
from voxflow.training import load_model
from voxflow.volumes import Volume, read_volume

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

# In the form that map_to_binary.py has: tables by part of CT and of MR whose keys are the same, and a computed entry.
PROGRAM = """
class_map = {
    "total": {1: "rib", 2: "kidney", 3: "vertebra", 4: "disc", 5: "spleen", 6: "sternum"},
    "total_mr": {1: "liver"},
    "test": {1: "carpal"},
}
class_map_5_parts = {
    "class_map_part_organs": {1: "spleen", 2: "kidney"},
    "class_map_part_vertebrae": {1: "vertebra", 2: "disc"},
    "class_map_part_ribs": {1: "rib", 2: "sternum"},
    "test": class_map["test"],
}
class_map_parts_mr = {"class_map_part_organs": {1: "liver"}}
map_taskid_to_partname_ct = {
    291: "class_map_part_organs", 292: "class_map_part_vertebrae", 295: "class_map_part_ribs", 517: "test"
}
map_taskid_to_partname_mr = {850: "class_map_part_organs"}
"""
# By the names of class_map, in the order of the table of parts.
VALUES = {"Dataset291_organs": (0, 5, 2), "Dataset292_vertebrae": (0, 3, 4), "Dataset295_ribs": (0, 1, 6)}

BACKGROUND_BIAS = 2.0  # so that a part leaves something of those before it


def write_parts(root: Path, labels: dict[str, Any] | None = None) -> list[Path]:
    """Result folders of three parts; the last one scales intensities otherwise."""
    folders = []
    for seed, name in enumerate(VALUES):
        plans = make_plans(reader="NibabelIOWithReorient", spacing=(1.5, 1.3, 1.3))
        if name == "Dataset295_ribs":
            plans["foreground_intensity_properties_per_channel"] = {"0": CT | {"mean": 100.0}}
        dataset = make_dataset(labels or {"background": 0, "class_1": 1, "class_2": 2})
        folder = write_folder(root / name / "trainer__plans__3d_fullres", plans, dataset)
        weights = make_weights(folder, seed)
        for key in [key for key in weights if "seg_layers" in key and key.endswith("bias")]:
            weights[key][0] = BACKGROUND_BIAS
        write_checkpoint(folder / "fold_0/checkpoint_final.pth", weights, mirrored=(1,))
        folders.append(root / name)
    return folders


def join_masks(folders: list[Path], image: Volume) -> NDArray[np.uint8]:
    """What TotalSegmentator makes of the parts' own masks."""
    joined = np.zeros(image.array.shape, dtype=np.uint8)
    for folder in folders:
        model = read_nnunet(folder)
        mask = predict_volume(TorchEngine.wrap(model.network, model.spec), image).mask.array
        for value in (1, 2):
            joined[mask == value] = VALUES[folder.name][value]
    return joined


@pytest.fixture
def image(tmp_path: Path) -> Volume:
    return read_volume(write_image(tmp_path / "images/case_0000.nii.gz", size=(20, 22, 12), border=4))


@pytest.fixture
def program(tmp_path: Path) -> str:
    (tmp_path / "map_to_binary.py").write_text(PROGRAM)
    return f"{tmp_path / 'map_to_binary.py'}:total"


def test_the_mask_is_that_of_the_parts_written_over_each_other(tmp_path: Path, image: Volume, program: str) -> None:
    folders = write_parts(tmp_path)
    # Whatever order they are named in, the table's counts.
    write_adopted(read_joined(folders[::-1], classes=program), tmp_path / "model.pt")
    engine = open_engine(tmp_path / "model.pt", "torch")
    assert engine.spec.class_names == ("background", "rib", "kidney", "vertebra", "disc", "spleen", "sternum")
    expected = join_masks(folders, image)
    assert set(np.unique(expected)) == set(range(7))
    prediction = predict_volume(engine, image)
    np.testing.assert_array_equal(prediction.mask.array, expected)
    assert prediction.mask.array.dtype == np.uint8
    assert prediction.mask.geometry.is_close(image.geometry)
    assert not np.array_equal(join_masks(folders[::-1], image), expected)
    tensors = predict_prepared(engine, prepare_image([image], engine.spec, "cpu"), PredictOptions()).mask.array
    assert (tensors == expected).mean() > 0.9999


@pytest.mark.slow
def test_the_mask_is_that_of_nnunets_masks_written_over_each_other(
    tmp_path: Path, image: Volume, program: str, nnunet_python: Path
) -> None:
    folders, jobs = write_parts(tmp_path), []
    for number, folder in enumerate(folders):  # the number of a fold is the seed of its weights
        rmtree(folder / "trainer__plans__3d_fullres/fold_0")
        job: dict[str, Any] = {"folder": str(folder / "trainer__plans__3d_fullres"), "out": str(folder / "theirs")}
        job |= {"configuration": "3d_fullres", "mirroring": None}  # as TotalSegmentator's trainer
        jobs.append(job | {"folds": (number,), "images": {"case": [str(tmp_path / "images/case_0000.nii.gz")]}})
    run_nnunet(nnunet_python, tmp_path, jobs)
    expected = np.zeros(image.array.shape, dtype=np.uint8)
    for folder in folders:
        mask = read_volume(folder / "theirs/case.nii.gz").array
        for value in (1, 2):
            expected[mask == value] = VALUES[folder.name][value]
    assert len(np.unique(expected)) > 4
    model = read_joined(folders, classes=program)
    mask = predict_volume(TorchEngine.wrap(model.network, model.spec), image).mask.array
    assert (mask == expected).mean() >= 0.9999


def test_an_image_is_prepared_once_for_the_parts_that_do_it_alike(tmp_path: Path, image: Volume) -> None:
    spec = read_joined(write_parts(tmp_path)).spec
    with patch("voxflow.prediction.preparation.prepare_nnunet", wraps=prepare_nnunet) as prepare:
        prepared = prepare_image([image], spec)
    assert prepare.call_count == 2
    assert prepared.parts[0] is prepared.parts[1]
    assert not np.array_equal(np.asarray(prepared.parts[0].image), np.asarray(prepared.parts[2].image))


def test_without_a_class_map_classes_are_numbered_in_the_order_of_the_parts(tmp_path: Path, image: Volume) -> None:
    labels = {"background": 0, "spleen": 1, "liver": 2}
    model = read_joined(write_parts(tmp_path, labels)[:2])
    assert model.spec.class_names == ("background", "spleen", "liver")
    assert [part.values for part in model.spec.parts] == [(0, 1, 2), (0, 1, 2)]
    engine = TorchEngine.wrap(model.network, model.spec)
    options = PredictOptions(clean=CleaningOptions(largest_component=("spleen",)))
    cleaned, plain = (predict_volume(engine, image, choice).mask.array for choice in (options, PredictOptions()))
    assert 0 < (cleaned == 1).sum() < (plain == 1).sum()
    with pytest.raises(DataError, match="clean: no class ribs; the model has spleen, liver"):
        predict_volume(engine, image, PredictOptions(clean=CleaningOptions(largest_component=("ribs",))))


def test_a_joined_model_goes_through_the_commands_and_the_export(
    tmp_path: Path, image: Volume, program: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text("workspaces: {}\n")
    folders = write_parts(tmp_path)
    stand_in = StandIn()
    monkeypatch.setattr(original, "_run_program", stand_in)
    arguments = ["adopt", *map(str, folders), "--name", "total", "--classes", program]
    arguments += ["--images", "images", "--original-python", "python3"]
    assert main(arguments) == 0
    assert len(stand_in.jobs) == 3
    assert "parts are written over each other in this order: Dataset291_organs, " in capsys.readouterr().err
    record = json.loads((tmp_path / "mmars/total/config/adopted.json").read_text())
    assert (len(record["parts"]), record["differing_voxels"], record["original_seconds"] > 0) == (3, 0, True)
    assert read_workspaces()["total"]["export"] == {"engines": ["onnx", "openvino"]}
    assert main(["check", "total"]) == 0
    model = tmp_path / "mmars/total/config/adopted.pt"
    (tmp_path / "exported").mkdir()
    assert export_model(model, tmp_path / "exported", ExportOptions(engines=()), []).metrics() == {"cases": 0}
    expected = join_masks(folders, image)
    for engine in (open_engine(tmp_path / "exported"), open_ensemble([tmp_path / "exported"])):
        np.testing.assert_array_equal(predict_volume(engine, image).mask.array, expected)
    assert main(["infer", str(model), "--images", "images", "--out", "out"]) == 0
    np.testing.assert_array_equal(read_volume(next((tmp_path / "out").rglob("*.nii.gz"))).array, expected)
    with pytest.raises(ConfigError, match="a joined model is several result folders"):
        write_nnunet(model, tmp_path / "left", "Dataset001_Total")
    stand_in.broken = {"case"}
    assert main(["again" if word == "total" else word for word in arguments]) == 2
    assert "the original failed on every case; case: no image" in capsys.readouterr().err


def test_masks_of_another_original_are_not_adopted(
    tmp_path: Path, image: Volume, program: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    stand_in = StandIn()
    stand_in.change_mask = lambda mask: np.where(mask == 2, 1, mask)
    monkeypatch.setattr(original, "_run_program", stand_in)
    arguments = ["adopt", *map(str, write_parts(tmp_path)), "--name", "total", "--classes", program]
    assert main([*arguments, "--images", "images", "--original-python", "python3"]) != 0
    assert "the masks are not those of the original" in capsys.readouterr().err
    assert not (tmp_path / "total").exists()


def test_how_far_the_parts_agree_is_joined(tmp_path: Path, image: Volume, program: str) -> None:
    model = read_joined(write_parts(tmp_path), classes=program)
    engine = TorchEngine.wrap(model.network, model.spec)
    prepared = prepare_image([image], model.spec)
    agreement = predict_prepared(engine, prepared, InferOptions(review_below=0.8)).agreement
    assert agreement is not None
    assert set(agreement.classes) == set(model.spec.class_names[1:])
    assert agreement.score == pytest.approx(np.mean(list(agreement.classes.values())))


def test_a_calibration_is_of_the_mirroring_of_the_parts(tmp_path: Path, program: str) -> None:
    model = read_joined(write_parts(tmp_path), classes=program)
    engine = TorchEngine.wrap(model.network, model.spec)
    signals, settings = [], []
    for options in (InferOptions(), InferOptions(flips=()), InferOptions(flips=("j",))):
        signals.append(choose_signal(engine, options.list_flips(model.spec)))
        settings.append(describe_settings(options, model.spec))
    assert signals == ["mirrors", "probabilities", "mirrors"]
    assert settings[0] == settings[2] != settings[1]
    agreement = predict_volume(engine, read_volume(write_image(tmp_path / "i.nii.gz", size=(20, 22, 12))),
                               InferOptions(review_below=0.8)).agreement  # fmt: skip
    assert agreement is not None
    assert agreement.signal == "mirrors"


def test_a_result_is_made_anew_where_parts_are_mirrored_otherwise(tmp_path: Path, program: str) -> None:
    write_adopted(read_joined(write_parts(tmp_path), classes=program), tmp_path / "model.pt")
    engine = open_engine(tmp_path / "model.pt", "torch")
    digests = [
        compute_maker_digest(engine, [tmp_path / "model.pt"], options)
        for options in (InferOptions(), InferOptions(flips=()), InferOptions(flips=("j",)))
    ]
    assert digests[0] != digests[1]
    assert digests[0] == digests[2]


def test_what_does_not_belong_together_is_refused(tmp_path: Path, program: str) -> None:
    folders = write_parts(tmp_path)
    with pytest.raises(ConfigError, match="is named twice"):
        read_joined([folders[0], folders[0]])
    (tmp_path / "gaps.json").write_text('{"1": "spleen", "3": "kidney"}')
    with pytest.raises(DataError, match="has the values 1, 2, 3 and so on"):
        read_joined(folders[:2], classes=str(tmp_path / "gaps.json"))
    (tmp_path / "few.json").write_text('{"1": "class_1"}')
    with pytest.raises(DataError, match=r"few.json.*the class map has no class class_2, as .*Dataset291_organs"):
        read_joined(folders[:2], classes=str(tmp_path / "few.json"))
    plans = folders[1] / "trainer__plans__3d_fullres/plans.json"
    plans.write_text(json.dumps(make_plans(spacing=(1.5, 1.3, 1.3))))
    with pytest.raises(DataError, match=r"Dataset292.*takes other images than .*: its orientation is None instead of"):
        read_joined(folders, classes=program)


def test_absent_and_unnamed_classes_are_said(tmp_path: Path, program: str) -> None:
    folders = write_parts(tmp_path)
    assert "no part has rib, sternum" in read_joined(folders[:2], classes=program).notes
    (tmp_path / "map_to_binary.py").write_text(PROGRAM.replace('{1: "rib", 2: "sternum"}', '{1: "rib"}'))
    notes = read_joined(folders, classes=program).notes
    assert "Dataset295_ribs: its label values 2 have no name: left out" in notes
    (tmp_path / "map_to_binary.py").write_text(PROGRAM.replace('2: "sternum"}', '2: "sternum", 3: "more"}'))
    with pytest.raises(DataError, match="class_map_part_ribs names the label value 3; the model has 1 to 2"):
        read_joined(folders, classes=program)


def test_tables_of_one_name_are_told_apart_by_the_values_of_the_model(tmp_path: Path, program: str) -> None:
    model, file = read_nnunet(write_parts(tmp_path)[0]), program.removesuffix(":total")
    organs = rename_classes(model, f"{file}:class_map_part_organs")
    assert organs.spec.class_names == ("background", "spleen", "kidney")
    in_full = rename_classes(model, f"{file}:class_map_parts_mr.class_map_part_organs")
    assert in_full.spec.class_names == ("background", "liver", "class_2")
    (tmp_path / "map_to_binary.py").write_text(PROGRAM.replace('{1: "liver"}}', '{1: "liver", 2: "lung"}}'))
    with pytest.raises(DataError, match=r"2 of 2 class maps .*such as class_map_5_parts.class_map_part_organs, "):
        rename_classes(model, f"{file}:class_map_part_organs")


def test_several_joined_models_are_not_averaged(tmp_path: Path, image: Volume) -> None:
    model = read_joined(write_parts(tmp_path))
    engine = TorchEngine.wrap(model.network, model.spec)
    with pytest.raises(DataError, match="joined models can't be averaged"):
        Ensemble([engine, engine])
    with pytest.raises(RuntimeError, match="a joined model has 3 networks"):
        engine.run(np.zeros((1, 1, 16, 24, 24), dtype=np.float32))
    engine.parts = ()
    with pytest.raises(DataError, match="joins 3 networks, of which torch was given one"):
        predict_volume(engine, image)


def test_specs_of_other_models_stay_as_they_are(tmp_path: Path) -> None:
    model = read_joined(write_parts(tmp_path))
    assert "parts" not in model.spec.parts[0].spec.model_dump()
    content = model.spec.model_dump()
    for change, message in (
        ({"parts": [{**content["parts"][0], "values": (0, 1)}]}, "needs a label value"),
        ({"parts": [{**content["parts"][0], "values": (0, 1, 9)}]}, "needs a label value"),
        ({"in_channels": 2}, "take the same images"),
        ({"nnunet": content["parts"][0]["spec"]["nnunet"], "window": (16, 24, 24)}, "is prepared by its parts"),
    ):
        with pytest.raises(ValueError, match=message):
            ModelSpec.model_validate({**content, **change})
    write_adopted(model, tmp_path / "model.pt")
    _, spec = load_model(tmp_path / "model.pt")
    assert spec == model.spec


def test_other_kinds_of_models_are_not_joined(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = write_parts(tmp_path)
    arguments = ["adopt", *map(str, folders), "--name", "total"]
    assert main([*arguments, "--postprocessing", "postprocessing.pkl"]) == 2
    assert "--postprocessing is of one result folder, and several are joined" in capsys.readouterr().err
    regions = make_dataset({"background": 0, "whole": [1, 2], "core": 2}, order=(1, 2))
    folder = folders[1] / "trainer__plans__3d_fullres"
    (folder / "dataset.json").write_text(json.dumps(regions))
    write_checkpoint(folder / "fold_0/checkpoint_final.pth", make_weights(folder))
    with pytest.raises(InputError, match="a model of regions can't be a part"):
        read_joined(folders)
