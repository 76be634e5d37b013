"""A model that was trained here, as a result folder of nnU-Net: its weights, its plans, and what is refused."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from tests.adopt.folders import make_architecture, make_dataset, make_plans, write_checkpoint, write_image
from tests.adopt.test_nnunet import make_weights, write_model
from voxflow.adopt import NnunetOriginal, read_nnunet, write_adopted, write_nnunet
from voxflow.cli.main import main
from voxflow.components import Component, build_network
from voxflow.engines import open_engine
from voxflow.errors import ConfigError, ParityError
from voxflow.prediction import predict_volume
from voxflow.spec import ModelSpec, TransformSpec
from voxflow.training import save_model
from voxflow.volumes import read_volume

if TYPE_CHECKING:
    from pathlib import Path

CONTRAST = 8.0
WINDOW = {"fields": ["image"], "a_min": -400, "a_max": 500, "b_min": -1, "b_max": 1, "clip": True}
PLAIN = Component(
    name="PlainUnet",
    args={
        "in_channels": 1,
        "num_classes": 3,
        "nf_enc": [8, 12, 16],
        "strides": [[2, 2, 1], [2, 2, 2]],
        "kernels": [[3, 3, 1], [3, 3, 3], [3, 3, 3]],
        "down": [1, 2, 2],
        "up": [2, 1],
        "norm": "instance",
    },
)
RESIDUAL = Component(
    name="ResidualEncoderUNet",
    args={
        "in_channels": 1,
        "num_classes": 3,
        "features_per_stage": [8, 12, 16],
        "kernel_sizes": [[3, 3, 3]] * 3,
        "strides": [[1, 1, 1], [2, 2, 2], [2, 2, 2]],
        "n_blocks_per_stage": [1, 2, 2],
        "n_conv_per_stage_decoder": [1, 1],
        "norm": "batch",
        "activation": "LeakyReLU",
        "activation_args": {"inplace": True},
        "bottleneck_channels": [4, 6, 8],
        "stem_channels": 6,
    },
)


def make_spec(**changes: Any) -> ModelSpec:
    values: dict[str, Any] = {
        "task": "segmentation",
        "class_names": ("air", "liver", "tumour"),
        "activation": "softmax",
        "spacing_mm": (1.0, 1.0, 2.0),
        "orientation": "RAS",
        "preprocess": (TransformSpec(name="ScaleIntensityRange", args=WINDOW),),
        "window": (16, 24, 8),
        "overlap": 0.5,
        "modality": "CT",
    }
    return ModelSpec.model_validate(values | changes)


def write_trained(path: Path, component: Component = PLAIN, **changes: Any) -> Path:
    """A model file with random weights whose answers differ from voxel to voxel."""
    torch.manual_seed(0)
    network = build_network(component).train()
    with torch.no_grad():
        for _ in range(3):  # so that norms by batch have numbers of their own
            network(torch.randn(2, 1, 16, 24, 8))
        for name, value in network.named_parameters():
            if "head" in name or "seg_layers" in name:
                value.mul_(CONTRAST if name.endswith("weight") else 0)
    save_model(path, network.eval(), component, spec=make_spec(**changes), epoch=3, metric=math.nan)
    return path


@pytest.mark.parametrize("component", [PLAIN, RESIDUAL], ids=lambda component: component.name)
def test_the_network_of_the_folder_has_the_same_logits(component: Component, tmp_path: Path) -> None:
    model = write_trained(tmp_path / "model.pt", component)
    written = write_nnunet(model, tmp_path / "out", "liver")
    assert "half a window apart" in written.remark
    adopted = read_nnunet(tmp_path / "out")
    image = torch.randn(1, 1, 16, 24, 8)
    engine: Any = open_engine(model, "torch")
    with torch.inference_mode():
        expected = torch.from_numpy(engine.run(image.numpy()))
        torch.testing.assert_close(adopted.network(image), expected, rtol=1e-4, atol=1e-4)
    steps = adopted.spec.nnunet
    assert steps is not None
    assert (steps.axes, steps.spacing_mm) == ((0, 1, 2), (1.0, 1.0, 2.0))
    assert adopted.spec.class_names == ("background", "liver", "tumour")
    (normalisation,) = steps.normalisation
    values = np.array([-900.0, -400.0, 50.0, 700.0])
    scaled = np.clip(values, normalisation.percentile_00_5, normalisation.percentile_99_5)
    np.testing.assert_allclose((scaled - normalisation.mean) / normalisation.std, [-1, -1, 0, 1])


def test_images_on_the_models_grid_get_the_same_masks_back_and_forth(tmp_path: Path) -> None:
    model = write_trained(tmp_path / "model.pt")
    # Of one window: both tools then show the network the same voxels.
    image = write_image(tmp_path / "images/a_0000.nii.gz", size=(16, 24, 8), spacing=(1.0, 1.0, 2.0), border=0)
    written = write_nnunet(model, tmp_path / "out", "liver", images=tmp_path / "images")
    assert written.cases[0].equal >= 0.9999
    write_adopted(read_nnunet(tmp_path / "out"), tmp_path / "adopted.pt")
    masks = [predict_volume(open_engine(file, "torch"), read_volume(image)).mask.array
             for file in (model, tmp_path / "adopted.pt")]  # fmt: skip
    assert len(np.unique(masks[0])) == 3
    assert (masks[0] == masks[1]).mean() >= 0.9999


def test_a_folder_with_other_masks_is_not_written(tmp_path: Path) -> None:
    model = write_trained(tmp_path / "model.pt")
    write_image(tmp_path / "images/a_0000.nii.gz", size=(30, 30, 12), spacing=(0.7, 0.7, 1.3))
    with pytest.raises(ParityError, match=r"other masks than the model: a: \d+ of 10800 voxels differ"):
        write_nnunet(model, tmp_path / "out", "liver", images=tmp_path / "images")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("dimensions", [2, 3])
def test_an_adopted_model_leaves_as_it_came(dimensions: int, tmp_path: Path) -> None:
    flat: dict[str, Any] = {"spacing": (1.2, 1.0), "patch": (24, 16), "architecture": make_architecture(dimensions=2)}
    plans = make_plans(transpose=(1, 0, 2), reader="NibabelIOWithReorient", **(flat if dimensions == 2 else {}))
    labels = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3}
    folder = write_model(tmp_path / "model", plans, make_dataset(labels, order=(1, 2, 3)))
    for fold in (0, 1):
        file = folder / f"fold_{fold}/checkpoint_final.pth"
        write_checkpoint(file, make_weights(folder, seed=fold), mirrored=(1,))
    model = read_nnunet(folder)
    write_adopted(model, tmp_path / "model.pt")
    assert not write_nnunet(tmp_path / "model.pt", tmp_path / "out", "brain").remark
    again = read_nnunet(tmp_path / "out")
    assert again.folds == ("fold_0", "fold_1")
    assert again.configuration == ("2d" if dimensions == 2 else "3d_fullres")
    assert again.spec == model.spec
    assert again.component == model.component
    for name, value in model.network.state_dict().items():
        assert torch.equal(value, again.network.state_dict()[name]), name


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"spacing_mm": None}, "images keep their spacing"),
        ({"orientation": "LPS"}, "turned to LPS; nnU-Net turns them to RAS, or not at all"),
        (
            {"antialias": True, "extent": "centres"},
            "outer voxels stay where they are, not their faces; images are smooth",
        ),
        (
            {"preprocess": (TransformSpec(name="monai:HistogramNormalized", args={"keys": ["image"]}),)},
            "HistogramNormalized with these arguments; nnU-Net has no such normalisation",
        ),
        ({"preprocess": (TransformSpec(name="CenterData", args={"fields": ["image"]}),) * 2}, "several transforms"),
        (
            {"preprocess": (TransformSpec(name="ScaleIntensityRange", args=WINDOW | {"b_max": -2}),)},
            "ScaleIntensityRange with these arguments",
        ),
        ({"activation": "sigmoid"}, "classes exclude each other, or are regions"),
        ({"activation": "sigmoid", "regions": ((1,), (2,), (3,))}, "no region has two label values"),
        ({"activation": "sigmoid", "regions": ((1,), (1, 2), (1, 2, 3))}, "not painted one over the other"),
        ({"class_names": ("air", "liver", "ignore")}, "keeps the name 'ignore'"),
    ],
)
def test_what_nnunet_has_no_word_for_is_refused_with_the_reason(
    changes: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    model = write_trained(tmp_path / "model.pt", **changes)
    with pytest.raises(ConfigError, match=reason) as failure:
        write_nnunet(model, tmp_path / "out", "liver")
    assert "\n" not in str(failure.value)
    assert not (tmp_path / "out").exists()


def test_another_network_can_not_leave(tmp_path: Path) -> None:
    component = Component(
        name="monai:SegResNet", args={"in_channels": 1, "out_channels": 3, "init_filters": 8, "spatial_dims": 3}
    )
    save_model(tmp_path / "model.pt", build_network(component), component, spec=make_spec(), epoch=1, metric=math.nan)
    with pytest.raises(ConfigError, match="nnU-Net has no network monai:SegResNet; those that can leave are PlainConv"):
        write_nnunet(tmp_path / "model.pt", tmp_path / "out", "liver")


@pytest.mark.parametrize(
    ("name", "args", "expected"),
    [
        ("NormalizeChannels", {"channels": [[-100.0, 200.0, 40.0, 60.0]]}, ("CTNormalization", 40, 60)),
        ("NormalizeChannels", {"channels": [None]}, ("ZScoreNormalization", 0, 1)),
        ("CenterData", {}, ("ZScoreNormalization", 0, 1)),
        ("CenterData", {"subtrahend": [40.0], "divisor": [60.0]}, ("CTNormalization", 40, 60)),
        ("NormalizeNonzeroIntensities", {}, ("ZScoreNormalization", 0, 1)),
        ("monai:NormalizeIntensityd", {"keys": ["image"], "nonzero": True}, ("ZScoreNormalization", 0, 1)),
    ],
)
def test_normalisations_have_their_names_in_nnunets_plans(
    name: str, args: dict[str, Any], expected: tuple[str, float, float], tmp_path: Path
) -> None:
    fields = {} if name.startswith("monai:") else {"fields": ["image"]}
    model = write_trained(tmp_path / "model.pt", preprocess=(TransformSpec(name=name, args=fields | args),))
    write_nnunet(model, tmp_path / "out", "liver")
    steps = read_nnunet(tmp_path / "out").spec.nnunet
    assert steps is not None
    (normalisation,) = steps.normalisation
    assert (normalisation.scheme, normalisation.mean, normalisation.std) == expected
    plans = json.loads((tmp_path / "out/plans.json").read_text())
    assert plans["transpose_forward"] == [2, 1, 0]
    assert plans["image_reader_writer"] == "NibabelIOWithReorient"


def test_the_command_writes_it_beside_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ws/models/train").mkdir(parents=True)
    (tmp_path / "ws/config").mkdir()
    write_trained(tmp_path / "ws/models/train/model.pt")
    assert main(["migrate", "ws", "--to", "nnunet"]) == 0
    assert "its masks are close, not equal" in capsys.readouterr().err
    assert read_nnunet(tmp_path / "ws_nnunet").epochs == 3
    assert main(["migrate", "ws", "--to", "nnunet"]) == 2
    assert "exists already" in capsys.readouterr().err
    assert main(["migrate", "ws/models/train/model.pt", "--to", "nnunet", "--output", "other"]) == 0
    assert main(["migrate", "ws", "--to", "bundle", "--images", "images"]) == 2
    assert "--images goes with --to nnunet" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("component", [PLAIN, RESIDUAL], ids=lambda component: component.name)
def test_nnunets_predictor_loads_the_folder_and_gives_the_masks(
    component: Component, tmp_path: Path, nnunet_python: Path
) -> None:
    model = write_trained(tmp_path / "model.pt", component)
    folder = write_nnunet(model, tmp_path / "out", "liver").folder
    image = write_image(
        tmp_path / "a_0000.nii.gz",
        size=(16, 24, 8),
        spacing=(1.0, 1.0, 2.0),
        direction=(-1, 0, 0, 0, -1, 0, 0, 0, 1),
        border=0,
    )
    (tmp_path / "masks").mkdir()
    tool = NnunetOriginal(str(nnunet_python), folder, ("fold_0",), ".nii.gz")
    # In single precision: answers of random weights are too alike for nnU-Net's sums in half precision.
    run = tool.segment({"a": [image]}, tmp_path / "masks", keeps_arrays=True)
    assert not run.failures
    theirs = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "masks/a.nii.gz"))).T
    ours = predict_volume(open_engine(model, "torch"), read_volume(image)).mask.array
    assert len(np.unique(theirs)) == 3
    assert (ours == theirs).mean() >= 0.9999
