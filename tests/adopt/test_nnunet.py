"""Result folders of nnU-Net v2: what is read of them, and what is refused in one line."""

from __future__ import annotations

import json
import pickle
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from tests.adopt.folders import (
    make_architecture,
    make_dataset,
    make_plans,
    write_checkpoint,
    write_folder,
    write_image,
)
from voxflow.adopt import create_adopted, read_nnunet, read_postprocessing, write_adopted
from voxflow.adopt.plans import Plans
from voxflow.components import Component, build_network, complete_network
from voxflow.engines import TorchEngine, open_engine
from voxflow.errors import DataError
from voxflow.prediction import PredictOptions, predict_prepared, predict_volume, prepare_image
from voxflow.training import load_model, load_weights, read_weights
from voxflow.volumes import read_volume

if TYPE_CHECKING:
    from pathlib import Path


def write_model(folder: Path, plans: dict[str, Any] | None = None, dataset: dict[str, Any] | None = None) -> Path:
    """A result folder with the checkpoint of one fold, whose names are those of nnU-Net: some weights stand twice."""
    content = dataset or make_dataset()
    write_folder(folder, plans or make_plans(), content)
    write_checkpoint(folder / "fold_0/checkpoint_final.pth", make_weights(folder))
    return folder


def make_weights(
    folder: Path, seed: int = 0, configuration: str = "3d_fullres", extra_channels: int = 0
) -> dict[str, torch.Tensor]:
    """Weights of the folder's network, with the copies that dynamic_network_architectures has."""
    plans = Plans(folder / "plans.json", configuration)
    dataset = json.loads((folder / "dataset.json").read_text())
    labels = [name for name in dataset["labels"] if name != "ignore"]
    classes = len(labels) - 1 if "regions_class_order" in dataset else len(labels)
    torch.manual_seed(seed)
    channels = len(dataset["channel_names"]) + extra_channels
    network = build_network(complete_network(plans.read_network(), in_channels=channels, num_classes=classes))
    weights = dict(network.state_dict())
    for name in [name for name in weights if "seg_layers" in name]:
        weights[name] = torch.zeros_like(weights[name]) if name.endswith("bias") else 8 * weights[name]
    for name in [name for name in weights if name.startswith("encoder.")]:
        weights[f"decoder.{name}"] = weights[name]
    for name in [name for name in weights if ".conv.weight" in name]:
        weights[name.replace(".conv.", ".all_modules.0.")] = weights[name]
    return weights


def change(content: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy of a JSON object with another value; None: without it."""
    copied: dict[str, Any] = json.loads(json.dumps(content))
    place: Any = copied
    *keys, last = path.split("/")
    for key in keys:
        place = place[key]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return copied


def test_a_folder_becomes_a_model_file_that_predicts(tmp_path: Path) -> None:
    model = read_nnunet(write_model(tmp_path / "model"))
    assert model.folds == ("fold_0",)
    write_adopted(model, tmp_path / "model.pt")
    _, spec = load_model(tmp_path / "model.pt")
    assert spec == model.spec
    assert (spec.class_names, spec.window, spec.overlap) == (("background", "liver", "tumour"), (16, 24, 24), 0.5)
    assert spec.mirrored == ("i", "j", "k")
    assert spec.nnunet is not None
    assert spec.nnunet.axes == (2, 1, 0)
    assert spec.nnunet.spacing_mm == (1.5, 1.0, 1.0)
    image = read_volume(write_image(tmp_path / "image.nii.gz", size=(20, 22, 9), border=4))
    mask = predict_volume(open_engine(tmp_path / "model.pt", "torch"), image).mask
    assert mask.geometry.is_close(image.geometry)
    # What is cropped off, the zeros around the image, is background.
    assert not mask.array[:4].any()
    assert mask.array.any()


@pytest.mark.parametrize("transpose", [(0, 1, 2), (1, 0, 2), (2, 0, 1)])
def test_a_training_begins_from_its_weights_along_our_axes(tmp_path: Path, transpose: tuple[int, int, int]) -> None:
    strides = [[1, 1, 1], [1, 2, 2], [2, 2, 1]]
    architecture = make_architecture(strides=strides)
    architecture["arch_kwargs"]["kernel_sizes"] = [[1, 3, 3], [3, 3, 1], [3, 3, 3]]
    plans = make_plans(architecture=architecture, transpose=transpose)
    model = read_nnunet(write_model(tmp_path / "model", plans))
    folder = create_adopted("liver", model, source="images", root=tmp_path)
    description = json.loads((folder / "models/network.json").read_text())
    network = build_network(complete_network(Component(**description), in_channels=1, num_classes=3)).eval()
    file = folder / "models/model.pt"
    report = load_weights(network, read_weights(file), file)
    assert set(report.loaded) == set(network.state_dict())
    assert model.spec.nnunet is not None
    axes = model.spec.nnunet.axes
    image = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 1, 16, 24, 20)).astype(np.float32))
    # The network of the model sees (i, j, k) in its own order of axes.
    with torch.inference_mode():
        expected = model.network(image.permute(0, 1, *(2 + axis for axis in axes)))
        answer = network(image).permute(0, 1, *(2 + axis for axis in axes))
    torch.testing.assert_close(answer, expected, rtol=1e-4, atol=1e-4)


def test_no_training_begins_from_several_folds_or_planes(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model")
    write_checkpoint(folder / "fold_1/checkpoint_final.pth", make_weights(folder, 1))
    planes = make_plans(patch=(24, 24), spacing=(1.0, 1.0), architecture=make_architecture(dimensions=2))
    flat = write_folder(tmp_path / "flat", planes, make_dataset())
    write_checkpoint(flat / "fold_0/checkpoint_final.pth", make_weights(flat), mirrored=(0, 1))
    for name, place in (("folds", folder), ("planes", flat)):
        adopted = create_adopted(name, read_nnunet(place), source="images", root=tmp_path)
        assert (adopted / "models/model.pt").exists()
        assert not (adopted / "models/network.json").exists()


def test_weights_of_half_precision_are_run_in_single_precision(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model")
    weights = make_weights(folder)
    write_checkpoint(folder / "fold_0/checkpoint_final.pth", {name: value.half() for name, value in weights.items()})
    network = read_nnunet(folder).network
    assert {value.dtype for value in network.state_dict().values()} == {torch.float32}
    with torch.inference_mode():
        assert torch.isfinite(network(torch.randn(1, 1, 8, 8, 8))).all()


def test_two_channels_of_one_name_have_none(tmp_path: Path) -> None:
    plans = make_plans(schemes=("NoNormalization",) * 2, masks=(False, False))
    spec = read_nnunet(write_model(tmp_path / "model", plans, make_dataset(channels=("CT", "CT")))).spec
    assert (spec.channels, spec.image_count) == ((), 2)


def test_planes_are_mirrored_along_their_own_axes_alone(tmp_path: Path) -> None:
    plans = make_plans(spacing=(1.2, 1.0), patch=(24, 16), architecture=make_architecture(dimensions=2))
    folder = write_model(tmp_path / "model", plans)  # whose checkpoint names three axes
    with pytest.raises(DataError, match="the network has 2 axes, from 0; received 2"):
        read_nnunet(folder)


def test_the_mean_of_two_folds_is_that_of_their_logits(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model")
    write_checkpoint(folder / "fold_1/checkpoint_best.pth", make_weights(folder, seed=1))
    singles = [read_nnunet(folder, [fold]).network for fold in ("0", "1")]
    both = read_nnunet(folder)
    assert both.folds == ("fold_0", "fold_1")
    image = torch.randn(1, 1, 8, 8, 8)
    with torch.inference_mode():
        torch.testing.assert_close(both.network(image), (singles[0](image) + singles[1](image)) / 2)


def test_regions_write_their_values_one_after_the_other(tmp_path: Path) -> None:
    labels = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3, "ignore": 4}
    spec = read_nnunet(write_model(tmp_path / "model", dataset=make_dataset(labels, order=(1, 2, 3)))).spec
    assert spec.regions == ((1, 2, 3), (2, 3), (3,))
    assert spec.region_values == (1, 2, 3)
    assert spec.activation == "sigmoid"


def test_a_network_of_two_dimensions_sees_planes(tmp_path: Path) -> None:
    architecture = make_architecture(dimensions=2)
    plans = make_plans(spacing=(1.2, 1.0), patch=(24, 16), architecture=architecture)
    folder = write_model(tmp_path / "model", plans)
    write_checkpoint(folder / "fold_0/checkpoint_final.pth", make_weights(folder), mirrored=(0, 1))
    model = read_nnunet(folder)
    assert model.spec.window == (1, 24, 16)
    assert model.spec.mirrored == ("j", "k")
    image = torch.randn(1, 1, 3, 8, 12)
    with torch.inference_mode():
        whole = model.network(image)
        planes = [model.network(image[:, :, n : n + 1]) for n in range(3)]
    torch.testing.assert_close(whole, torch.cat(planes, 2))


def test_plans_of_earlier_versions_describe_the_same_network(tmp_path: Path) -> None:
    plans = make_plans()
    new = Plans(write_folder(tmp_path / "new", plans, make_dataset()) / "plans.json", "3d_fullres").read_network()
    base = plans["configurations"]["base"]
    del base["architecture"]
    base |= {
        "UNet_class_name": "PlainConvUNet",
        "UNet_base_num_features": 8,
        "unet_max_num_features": 16,
        "n_conv_per_stage_encoder": [2, 1, 2],
        "n_conv_per_stage_decoder": [1, 2],
        "pool_op_kernel_sizes": [[1, 1, 1], [2, 2, 2], [2, 2, 2]],
        "conv_kernel_sizes": [[3, 3, 3]] * 3,
    }
    old = Plans(write_folder(tmp_path / "old", plans, make_dataset()) / "plans.json", "3d_fullres").read_network()
    assert old.args | {"features_per_stage": [8, 12, 16]} == new.args
    assert old.args["features_per_stage"] == [8, 16, 16]


ARCHITECTURE = "configurations/base/architecture"


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (f"{ARCHITECTURE}/network_class_name", "os.system", "an unknown network, os.system"),
        (
            f"{ARCHITECTURE}/network_class_name",
            "dynamic_network_architectures.architectures.primus.Primus",
            "an unknown network",
        ),
        (f"{ARCHITECTURE}/arch_kwargs/attention", True, r"arch_kwargs\.attention: an unknown argument"),
        (f"{ARCHITECTURE}/arch_kwargs/norm_op", "my.Norm", "an unknown norm, Norm"),
        (f"{ARCHITECTURE}/arch_kwargs/nonlin", "my.Swish", "no network can be built"),
        (f"{ARCHITECTURE}/arch_kwargs/strides", [[1, 1, 1]], "no network can be built"),
        ("configurations/base/previous_stage", "3d_lowres", "a cascade"),
        ("configurations/base/preprocessor_name", "MyPreprocessor", "prepared by MyPreprocessor"),
        ("configurations/base/resampling_fn_data", "my_resampling", "no resampling that is known: my_resampling"),
        ("configurations/base/previous_stage", 3, "needs the name of a configuration"),
        ("configurations/base/previous_stage", "../3d_lowres", "needs the name of a configuration"),
        ("configurations/base/resampling_fn_probabilities_kwargs/order", 6, "arguments that are not known"),
        ("configurations/base/resampling_fn_probabilities_kwargs/is_seg", True, "is_seg is meant for label maps"),
        ("configurations/base/normalization_schemes", ["MyNormalization"], "no normalisation that is known"),
        ("configurations/base/normalization_schemes", ["NoNormalization"] * 2, "2 normalisations"),
        (f"{ARCHITECTURE}/arch_kwargs/n_stages", 10**9, "2 to 20 stages"),
        (f"{ARCHITECTURE}/arch_kwargs/n_conv_per_stage", 10**9, "at most 100 a stage"),
        (f"{ARCHITECTURE}/arch_kwargs/features_per_stage", 10**5, "not the weights of the network"),
        (f"{ARCHITECTURE}/arch_kwargs/norm_op_kwargs", {"width": 1}, "no network can be built"),
        (f"{ARCHITECTURE}/arch_kwargs/nonlin_kwargs", {"slope": 1}, "no network can be built"),
        (f"{ARCHITECTURE}/arch_kwargs/features_per_stage", None, "no network can be built"),
        ("configurations/base/spacing", [1, 0, 1], "numbers above 0"),
        ("configurations/base/spacing", [1, 1], "2 numbers for a patch of 3"),
        ("configurations/base/patch_size", [17, 24, 24], "no multiple of the network's strides"),
        ("configurations/base/patch_size", [16.5, 24, 24], "needs whole numbers"),
        ("configurations/base/patch_size", [16, 24, 10**9], "needs whole numbers"),
        ("transpose_forward", ["0", "1", "2"], "transposition"),
        ("configurations/base/patch_size", None, "patch_size: missing"),
        ("configurations/3d_fullres/inherits_from", "3d_fullres", "inherits from itself"),
        ("configurations/3d_fullres", None, "no configuration '3d_fullres'"),
        ("transpose_forward", [0, 0, 1], "transposition"),
        ("transpose_backward", [2, 1, 0], r"transpose_backward: undoes \[0, 1, 2\] by \[0, 1, 2\], received"),
        ("configurations/3d_fullres/inherits_from", ["base"], "needs the name of a configuration"),
        ("configurations/base/use_mask_for_norm", ["no"], "needs true or false for each channel"),
        ("image_reader_writer", "MyReader", "read by MyReader"),
        ("foreground_intensity_properties_per_channel/0/mean", "high", "mean: needs a number"),
    ],
)
def test_plans_that_ask_for_more_are_refused_with_their_place(
    path: str, value: Any, message: str, tmp_path: Path
) -> None:
    folder = write_model(tmp_path / "model")
    (folder / "plans.json").write_text(json.dumps(change(make_plans(), path, value)))
    with pytest.raises(DataError, match=message) as failure:
        read_nnunet(folder)
    assert "\n" not in str(failure.value)
    assert "plans.json" in str(failure.value)
    assert str(failure.value).isprintable()


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (make_dataset({"background": 1, "liver": 0}), "background is 0"),
        (make_dataset({"background": 0, "liver": 2}), "values of classes are 0, 1, 2"),
        (make_dataset({"background": 0, "whole": [1, 2], "core": 2}, order=(1,)), "each of 2 regions"),
        (make_dataset({"background": 0, "whole": [1, 2]}), "regions_class_order: missing"),
        (make_dataset({"background": 0, "liver": "one"}), "labels.liver: needs a label value"),
        (make_dataset(channels=("CT", "PET")), "1 normalisation"),
        (make_dataset() | {"file_ending": 5}, "file_ending: needs text, received 5"),
        (make_dataset() | {"channel_names": {"0": None}}, r"channel_names\.0: needs text, received None"),
    ],
)
def test_data_sets_that_nnunet_would_not_train_with_are_refused(
    dataset: dict[str, Any], message: str, tmp_path: Path
) -> None:
    folder = write_model(tmp_path / "model")
    (folder / "dataset.json").write_text(json.dumps(dataset))
    with pytest.raises(DataError, match=message):
        read_nnunet(folder)


class Harmful:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return self.path.write_text, ("run",)


def test_no_code_of_a_checkpoint_is_run(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model")
    path, trace = folder / "fold_0/checkpoint_final.pth", tmp_path / "trace"
    write_checkpoint(path, make_weights(folder), logging=Harmful(trace))
    with pytest.raises(DataError, match="runs no code of a file of weights") as failure:
        read_nnunet(folder)
    assert "\n" not in str(failure.value)
    path.write_bytes(pickle.dumps(Harmful(trace)))
    with pytest.raises(DataError, match="no checkpoint of nnU-Net v2"):
        read_nnunet(folder)
    assert not trace.exists()


def test_damaged_and_foreign_checkpoints_are_refused_in_one_line(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model")
    path = folder / "fold_0/checkpoint_final.pth"
    whole, weights = path.read_bytes(), make_weights(folder)

    def refuse(message: str) -> None:
        with pytest.raises(DataError, match=message) as failure:
            read_nnunet(folder)
        assert "\n" not in str(failure.value)
        assert "checkpoint_final.pth" in str(failure.value)

    path.write_bytes(whole[: len(whole) // 2])
    refuse("only a part of one")
    for place in range(len(whole) // 8, len(whole) - 99, len(whole) // 8):
        path.write_bytes(whole[:place] + bytes(byte ^ 1 for byte in whole[place : place + 64]) + whole[place + 64 :])
        refuse("damaged|can't be read")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("notes.txt", "nothing")
    refuse("no checkpoint that can be adopted")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\0" * (1 << 22))
    refuse("its parts are compressed")
    torch.save({"state": weights, "version": 3}, path)
    refuse("network_weights: missing; no checkpoint of a version")
    write_checkpoint(path, {name: value for name, value in weights.items() if "seg_layers.1.bias" not in name})
    refuse("not the weights of the network in plans.json")
    write_checkpoint(path, weights | {"encoder.stages.0.0.convs.0.conv.bias": torch.full((8,), torch.nan)})
    refuse("values that are no numbers")
    write_checkpoint(path, weights | {"decoder.encoder.stages.0.0.convs.0.conv.bias": torch.ones(8)})
    refuse("differs from its own copy")
    name = "encoder.stages.0.0.convs.0.conv.weight"
    repeated = torch.zeros(1).expand(10**12)
    for value in (weights[name].to(torch.complex64), weights[name].to_sparse(), weights[name].to("meta"), repeated):
        write_checkpoint(path, weights | {name: value})
        refuse("needs a dense array of real numbers")
    write_checkpoint(path, weights | {"decoder.seg_layers.0.bias": torch.ones(3, dtype=torch.int32)})
    refuse("not the weights of the network in plans.json")
    write_checkpoint(path, weights, mirrored=(0, 0))
    refuse("needs axes 0, 1, 2, each once")
    write_checkpoint(path, weights, mirrored=(5,))
    refuse("needs axes 0, 1, 2")
    write_checkpoint(path, weights, configuration="3d_lowres_of_tomorrow")
    with pytest.raises(DataError, match="no configuration '3d_lowres_of_tomorrow'; there are base, 3d_fullres"):
        read_nnunet(folder)


def test_folders_without_a_model_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no folder"):
        read_nnunet(tmp_path / "none")
    with pytest.raises(DataError, match=r"it has no plans\.json"):
        read_nnunet(tmp_path)
    folder = write_model(tmp_path / "model")
    assert read_nnunet(tmp_path).folds == ("fold_0",)
    with pytest.raises(DataError, match=r"fold_3: no checkpoint_final\.pth or checkpoint_best\.pth"):
        read_nnunet(folder, ["3"])
    with pytest.raises(DataError, match=r"no fold with a other\.pth"):
        read_nnunet(folder, checkpoint="other.pth")
    write_folder(tmp_path / "second", make_plans(), make_dataset())
    with pytest.raises(DataError, match="several trained configurations, model, second"):
        read_nnunet(tmp_path)


def test_an_image_of_other_channels_is_refused_before_it_is_prepared(tmp_path: Path) -> None:
    write_adopted(read_nnunet(write_model(tmp_path / "model")), tmp_path / "model.pt")
    image = read_volume(write_image(tmp_path / "image.nii.gz", size=(8, 8, 8), border=0))
    engine = open_engine(tmp_path / "model.pt", "torch")
    with pytest.raises(DataError, match=r"takes 1 channel\(s\), the image has 2"):
        predict_volume(engine, [image, image], PredictOptions())


@pytest.mark.parametrize(
    "labels",
    [
        {"background": 0, "liver": 1},
        {"background": 0, "liver": 1, "tumour": 2},
        {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3},
    ],
)
def test_tensors_give_the_masks_of_arrays(labels: dict[str, Any], tmp_path: Path) -> None:
    plans = make_plans(spacing=(4.0, 0.8, 1.0), patch=(8, 16, 16), transpose=(0, 2, 1))
    dataset = make_dataset(labels, order=(1, 2, 3) if len(labels) == 4 else ())
    model = read_nnunet(write_model(tmp_path / "model", plans, dataset))
    engine = TorchEngine.wrap(model.network, model.spec)
    volume = read_volume(write_image(tmp_path / "image.nii.gz", size=(20, 22, 9), spacing=(1.0, 0.9, 4.6)))
    arrays = predict_volume(engine, volume).mask.array
    tensors = predict_prepared(engine, prepare_image([volume], model.spec, "cpu"), PredictOptions()).mask.array
    assert len(np.unique(arrays)) > 1
    assert tensors.dtype == arrays.dtype
    assert (arrays == tensors).mean() > 0.9999


def test_mirroring_is_the_models_own_unless_it_is_set(tmp_path: Path) -> None:
    spec = read_nnunet(write_model(tmp_path / "model")).spec
    assert PredictOptions().list_flips(spec) == ("i", "j", "k")
    assert PredictOptions(flips=()).list_flips(spec) == ()
    assert PredictOptions(flips=("j",)).list_flips(spec) == ("j",)


# What nnU-Net pickles: its function by name, and arguments. The module is not here, so that it is written by hand.
FUNCTION = b"cnnunetv2.postprocessing.remove_connected_components\nremove_all_but_largest_component_from_segmentation\n"


def test_postprocessing_is_read_without_its_functions(tmp_path: Path) -> None:
    path = tmp_path / "postprocessing.pkl"
    path.write_bytes(b"(" + b"(l" + FUNCTION + b"a" + b"(l(dS'labels_or_regions'\n(lI1\naI2\nasa" + b"t.")
    assert read_postprocessing(path) == ((1, 2),)
    path.write_bytes(pickle.dumps(([], [])))
    assert read_postprocessing(path) == ()


def test_no_code_of_a_postprocessing_is_run(tmp_path: Path) -> None:
    path, trace = tmp_path / "postprocessing.pkl", tmp_path / "trace"
    path.write_bytes(pickle.dumps(([Harmful(trace)], [{}])))
    with pytest.raises(DataError, match="Voxflow runs no code of a file"):
        read_postprocessing(path)
    path.write_bytes(b"(cos\nsystem\nS'touch %s'\no." % str(trace).encode())
    with pytest.raises(DataError, match=r"it names os\.system"):
        read_postprocessing(path)
    assert not trace.exists()
    for content in (b"", b"nonsense", pickle.dumps([1]), pickle.dumps((["f"], [{}]))):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"no postprocessing of nnU-Net|needs a function"):
            read_postprocessing(path)


def test_numbers_of_a_log_are_read(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model")
    path = folder / "fold_0/checkpoint_final.pth"
    numbers = [np.float64(1.5), np.float32(2), np.int64(3), np.bool_(True), np.array(1.5, dtype=np.float32)]
    log = {"mean": numbers, "name": np.str_("x"), "all": np.arange(3)}
    write_checkpoint(path, make_weights(folder), logging=log)
    assert read_nnunet(folder).epochs == 3
    write_checkpoint(path, make_weights(folder), logging=np.array([Harmful(tmp_path / "trace")], dtype=object))
    with pytest.raises(DataError, match="runs no code of a file of weights"):
        read_nnunet(folder)
    assert not (tmp_path / "trace").exists()
