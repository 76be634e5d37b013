"""Each translation that says "exact" is: the same arrays, losses and learning rates as Voxflow's own component."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from tests.training.conftest import write_corner, write_cube
from voxflow.components import Chain, Component, build_network, build_transform, create
from voxflow.migrate.translation import Facts, list_translatable, translate
from voxflow.migrate.weights import build_bundle_network

if TYPE_CHECKING:
    from pathlib import Path

VOLUME = Facts(task="segmentation", in_channels=1, class_names=("background", "cube"), learning_rate=0.02)
RADIOGRAPH = Facts("classification", 1, ("a", "b"), "sigmoid", spatial_dims=2)
# MONAI's own modules warn of their age.
pytestmark = pytest.mark.filterwarnings("ignore")


def build_nodes(value: Any, **more: Any) -> Any:
    """Build a bundle's value as MONAI does."""
    from monai.bundle import ConfigParser

    parser = ConfigParser({"imports": ["$import math", "$import torch"], "value": value, **more})
    parser.parse()
    return parser.get_parsed_content("value")


def monai_chain(names: list[tuple[str, dict[str, Any]]], facts: Facts) -> Any:
    nodes = [
        node for name, args in names for node in translate("transform", Component(name=name, args=args), facts).nodes
    ]
    return build_nodes({"_target_": "Compose", "transforms": nodes})


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("ConvertToChannelsFirst", {"fields": ["image", "label"]}),
        ("RepeatChannel", {"fields": "image", "repeat_times": 3}),
        ("ScaleIntensityRange", {"fields": "image", "a_min": 20, "a_max": 90, "b_min": 0, "b_max": 1, "clip": True}),
        ("CenterData", {"fields": "image"}),
        ("CenterData", {"fields": "image", "subtrahend": 50, "divisor": [12.5]}),
        ("NormalizeNonzeroIntensities", {"fields": "image"}),
        ("ScaleToShape", {"fields": ["image", "label"], "target_shape": [12, 21, 16]}),
    ],
)
def test_a_volume_comes_out_the_same(name: str, args: dict[str, Any], tmp_path: Path) -> None:
    case = write_cube(tmp_path, "cube", 1)
    chain = [("LoadNifti", {"fields": ["image", "label"]}), (name, args)]
    expected: Any = {"image": case.image, "label": case.label}
    for transform, its in chain:
        expected = build_transform(Component(name=transform, args=its))(expected)
    result = monai_chain(chain, VOLUME)({"image": str(case.image[0]), "label": str(case.label)})
    for field in ("image", "label"):
        np.testing.assert_allclose(result[field].numpy(), expected[field], rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("CenterData", {"fields": "image", "subtrahend": [1000.0], "divisor": [883]}),
        ("ScaleToShape", {"fields": "image", "target_shape": [17, 24]}),
    ],
)
def test_a_radiograph_comes_out_the_same(name: str, args: dict[str, Any], tmp_path: Path) -> None:
    case = write_corner(tmp_path, "corner", 1)
    chain = [("LoadPng", {"fields": "image"}), (name, args)]
    expected: Any = {"image": case.image}
    for transform, its in chain:
        expected = build_transform(Component(name=transform, args=its))(expected)
    result = monai_chain(chain, RADIOGRAPH)({"image": str(case.image[0])})
    np.testing.assert_allclose(result["image"].numpy(), expected["image"], rtol=1e-5, atol=1e-3)


def test_patches_hold_the_object_as_often_and_have_the_same_size(tmp_path: Path) -> None:
    case = write_cube(tmp_path, "cube", 1)
    args: dict[str, Any] = {
        "fields": "image",
        "label_field": "label",
        "size": [8, 8, 20],
        "pos": 3,
        "neg": 1,
        "batch_size": 40,
    }
    load: dict[str, Any] = {"fields": ["image", "label"]}
    chain = [("LoadNifti", load), ("FastCropByPosNegRatio", args)]
    whole: Any = {"image": case.image, "label": case.label}
    ours = Chain.build([Component(name=name, args=its) for name, its in chain])
    expected = ours.run_tail(ours.run_head(whole), np.random.default_rng(1))
    translated = monai_chain(chain, VOLUME)({"image": str(case.image[0]), "label": str(case.label)})
    assert (
        {patch["image"].shape for patch in translated}
        == {patch["image"].shape for patch in expected}
        == {(1, 8, 8, 20)}
    )
    inside = [np.mean([np.asarray(p["label"])[0, 4, 4, 10] > 0 for p in patches]) for patches in (translated, expected)]
    assert inside[0] == pytest.approx(inside[1], abs=0.3)
    assert min(inside) > 0.4


@pytest.mark.parametrize(
    ("name", "args", "facts"),
    [
        ("Dice", {"squared_pred": True, "skip_background": True}, VOLUME),
        ("DiceCE", {"lambda_ce": 0.3, "batch": True}, VOLUME),
        ("BinaryClassificationLoss", {"label_smoothing": 0.1}, RADIOGRAPH),
        ("BinaryClassificationLoss", {"positive_weights": [2.5, 4]}, RADIOGRAPH),
    ],
)
def test_a_loss_is_the_same_number(name: str, args: dict[str, Any], facts: Facts) -> None:
    component = Component(name=name, args=args)
    shape = (2, 2, 5, 6, 7) if facts is VOLUME else (3, 2)
    logits = torch.randn(shape)
    label = torch.randint(0, 2, (2, 1, 5, 6, 7)) if facts is VOLUME else torch.tensor([[1.0, 0], [-1, 1], [0, 0]])
    expected = create("loss", component).build(facts.activation)(logits, label)
    loss = build_nodes(translate("loss", component, facts).value)(logits, label)
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("DecayOnStep", {"decay_ratio": 0.5, "decay_freq": 7}),
        ("ReducePoly", {"poly_power": 0.8}),
        ("ReduceCosine", {"rate": 0.6}),
        ("OneCycle", {"warmup": 0.2}),
    ],
)
def test_a_policy_gives_the_same_rates(name: str, args: dict[str, Any]) -> None:
    component = Component(name=name, args=args)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    definition = translate("lr_policy", component, VOLUME).value | {"optimizer": "@optimizer_of"}
    scheduler = build_nodes(definition, optimizer_of=optimizer, total_steps=30)
    policy = create("lr_policy", component)
    for step in range(30):
        assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1 * policy.factor(step, 30), rel=1e-6, abs=1e-9)
        optimizer.step()
        scheduler.step()


def test_half_turns_stand_for_quarter_turns_of_a_patch_that_is_not_square() -> None:
    turn = Component(name="RandomRotate3D", args={"fields": ["image"], "probability": 1.0})
    assert translate("transform", turn, VOLUME).becomes == "RandRotate90d"
    long = Facts(task="segmentation", in_channels=1, class_names=("background", "cube"), patch=(8, 16, 8))
    translation = translate("transform", turn, long)
    assert translation.becomes == "RandLambdad"
    image = torch.arange(8 * 16 * 8.0).reshape(1, 8, 16, 8)
    torch.testing.assert_close(
        build_nodes(translation.nodes[0])({"image": image})["image"].as_tensor(), image.flip(1, 2)
    )


def test_brats_labels_become_core_whole_and_enhancing() -> None:
    component = Component(name="tlt2:BratsConvertLabels", args={"fields": ["label"], "classes": ["WT", "ET", "TC"]})
    label = np.arange(5, dtype=np.uint8).reshape(1, 5)
    masks = build_nodes(translate("transform", component, VOLUME).nodes[0])({"label": torch.as_tensor(label)})["label"]
    np.testing.assert_array_equal(masks, build_transform(component)({"label": label})["label"])


def test_what_differs_says_how() -> None:
    args = {"fields": "image", "size": [8, 8, 8], "rotation": True, "deform": True}
    translation = translate("transform", Component(name="FastPosNegRatioCropROI", args=args), VOLUME)
    assert translation.verdict == "approximate"
    assert "angles are on the voxel grid" in translation.why
    assert translation.why.endswith("deform is left out")
    assert translation.becomes == "SpatialPadd, RandCropByPosNegLabeld, RandAffined"
    assert all(n > 8 for n in translation.nodes[1]["spatial_size"])
    assert translate("transform", Component(name="MyOwn"), VOLUME).verdict == "not carried"


def test_every_transform_of_the_older_dialects_has_an_answer() -> None:
    names = """LoadNifty VolumeTo4dArray LoadPng NormalizeNonzeroIntensities AdjustContrast AddGaussianNoise
        ScaleIntensityRange ScaleIntensityOscillation CropSubVolumeRandomWithinBounds CropSubVolumeCenter
        CropForegroundObject CropRandomSubImageInRange NPResizeImage NP2DRotate NPExpandDims NPRepChannels CenterData
        NPRandomFlip3D NPRandomRot90_XY NPRandomZoom3D SplitAcrossChannels LoadResolutionFromNifty
        Load3DShapeFromNumpy ResampleVolume ThresholdValues WriteNiftyResults FlipAxisRandom BratsConvertLabels
        AddExtremePointsChannel CropSubVolumePosNegRatioCtrlEpoch TransformVolumeCropROIFastPosNegRatio
        LoadNifti ConvertToChannelsFirst ConvertToChannelsLast RandomSpatialFlip ArgmaxAcrossChannels
        FastCropByPosNegRatio RandomAxisFlip RandomRotate3D RandomRotate2D CropRandomSizeWithDisplacement ScaleToShape
        RepeatChannel CopyProperties SplitBasedOnLabel ScaleByResolution FastPosNegRatioCropROI
        CropFixedSizeRandomCenter RandomZoom ScaleShiftIntensity SaveAsNifti MergeBatchDims"""
    assert not set(names.split()) - list_translatable("transform")


@pytest.mark.parametrize(
    ("name", "args", "size"),
    [
        ("Unet", {"nf_enc": [4, 8], "residual_units": 1, "strides": [[2, 2, 1]]}, (8, 8, 5)),
        ("Unet", {"nf_enc": [4, 6], "use_group_norm": True, "use_group_normG": 4}, (8, 8, 8)),
        ("Unet", {"nf_enc": [4, 8], "nf_dec": [8, 4, 4, 4], "use_batch_norm": True}, (8, 8, 8)),
        ("PlainUnet", {"nf_enc": [4, 8], "strides": [[2, 2, 1]], "kernels": [[3, 3, 1], 3]}, (8, 8, 5)),
        ("SegResnet", {"init_filters": 4, "blocks_down": [1, 1], "blocks_up": [1]}, (8, 8, 8)),
        (
            "tlt2:SegmResnet",
            {"init_filters": 4, "blocks_down": "1,1", "blocks_up": "1", "use_groupnorm": False},
            (8, 8, 8),
        ),
        ("SegAhnet", {"plane": "x"}, (32, 64, 64)),
        ("DenseNet121", {"dropout": 0.1}, (32, 32)),
        ("ResNet", {"layers": [1, 1, 1, 1], "filters": [4, 4, 8, 8], "members": 2}, (64, 64)),
        ("ResNet", {"layers": [1, 1, 2, 1], "filters": [4, 8, 8, 16], "block": "bottleneck"}, (64, 64)),
        ("DenseNet", {"init_features": 8, "growth_rate": 4, "block_config": [1, 1]}, (32, 32)),
    ],
)
def test_a_network_takes_the_weights_and_gives_the_same_logits(
    name: str, args: dict[str, Any], size: tuple[int, ...]
) -> None:
    facts = VOLUME if len(size) == 3 else RADIOGRAPH
    component = Component(name=name, args={"in_channels": 1, "num_classes": 2, **args})
    network = build_network(component).eval()
    twin = build_bundle_network(translate("network", component, facts).nodes[0]).eval()
    twin.load_state_dict(network.state_dict())
    image = torch.randn(1, 1, *size)
    with torch.inference_mode():
        torch.testing.assert_close(twin(image), network(image), rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", [(21, 17, 16), (9, 30, 12)])
def test_windows_answer_with_the_same_logits(shape: tuple[int, ...]) -> None:
    component = Component(name="TFScanWindowInferer", args={"roi_size": [12, 8, 16], "batch_size": 3})
    network = torch.nn.Conv3d(1, 2, 3, padding=1)
    image = torch.randn(1, 1, *shape)
    with torch.inference_mode():
        expected = create("inferer", component).infer(network, image)
        windows = build_nodes(translate("inferer", component, VOLUME).value)
        torch.testing.assert_close(windows(image, network), expected)


@pytest.mark.parametrize(
    ("name", "args"),
    [("Adam", {"weight_decay": 0.1}), ("AdamW", {"lr": 0.01}), ("NovoGrad", {"beta1": 0.9, "grad_averaging": True})],
)
def test_an_optimizer_takes_the_same_steps(name: str, args: dict[str, Any]) -> None:
    component = Component(name=name, args=args)
    twins = [torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)]
    twins[1].load_state_dict(twins[0].state_dict())
    own = create("optimizer", component).build(twins[0].parameters(), 0.02, 0.0)
    definition = translate("optimizer", component, VOLUME).value | {"params": "$@twin.parameters()"}
    other = build_nodes(definition, twin=twins[1], learning_rate=0.02)
    batch = torch.randn(5, 3)
    for _ in range(4):
        for network, optimizer in zip(twins, (own, other), strict=True):
            optimizer.zero_grad()
            (network(batch) ** 2).sum().backward()
            optimizer.step()
    torch.testing.assert_close(twins[1].weight, twins[0].weight)


def test_a_masked_dice_that_is_called_exact_is_the_same_number() -> None:
    """What MONAI's handler computes of a bundle's postprocessed masks, where one case lacks a class."""
    args: dict[str, Any] = {"tags": ["dice", "one", "two"], "skip_background": True}
    operation = create("aux_op", Component(name="DiceMaskedOutput", args=args))
    classes = ("background", "one", "two")
    facts = Facts("segmentation", 1, classes, dice_fields={"dice": None, "one": 1, "two": 2}, dice_background=False)
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(3, 3, 6, 5, 4, generator=generator)
    label = torch.randint(0, 3, (3, 1, 6, 5, 4), generator=generator)
    label[1][label[1] == 2] = 1
    values = operation.compute({"model": logits.numpy(), "label": label.numpy(), "activation": "softmax"})
    masks = torch.nn.functional.one_hot(logits.argmax(1), 3).movedim(-1, 1).float()
    truth = torch.nn.functional.one_hot(label[:, 0], 3).movedim(-1, 1).float()
    items = [{"pred": mask, "label": true} for mask, true in zip(masks, truth, strict=True)]
    for field in args["tags"]:
        metric = Component(name="ComputeAverage", args={"name": "mean", "field": field})
        translation = translate("metric", metric, facts)
        typed = create("metric", metric)
        expected = typed.summarise([typed.measure(values)], classes)["mean"]
        handler = build_nodes(translation.value, imports=["$import monai"])
        handler.update(handler._output_transform(items))
        assert translation.verdict == "exact"
        assert float(handler.metric_fn.aggregate()) == pytest.approx(expected, abs=1e-5)
