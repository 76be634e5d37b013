"""MONAI's classes as components: the same numbers as MONAI's own, masks kept, spacing kept, chance repeatable."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from tests.training.conftest import write_cube
from voxflow.components import Chain, Component, RandomTransform, build_transform, create, read_network
from voxflow.errors import ConfigError, DataError

if TYPE_CHECKING:
    from pathlib import Path

BOTH = ["image", "label"]
LPS_TO_RAS = np.diag([-1, -1, 1, 1])
# MONAI's own modules warn of their age.
pytestmark = pytest.mark.filterwarnings("ignore")


def component(name: str, /, **args: Any) -> Component:
    return Component(name=f"monai:{name}", args=args)


@pytest.fixture
def sample(tmp_path: Path) -> dict[str, Any]:
    case = write_cube(tmp_path, "cube", 1)
    return build_transform(component("LoadImaged", keys=BOTH))({"image": case.image, "label": case.label})


def run_monai(tmp_path: Path, *transforms: Any) -> dict[str, Any]:
    from monai.transforms import Compose, LoadImaged

    paths = {"image": str(tmp_path / "cube.nii.gz"), "label": str(tmp_path / "cube_label.nii.gz")}
    result: dict[str, Any] = Compose([LoadImaged(BOTH, ensure_channel_first=True), *transforms])(paths)
    return result


def test_a_case_is_read_as_monai_reads_it(sample: dict[str, Any], tmp_path: Path) -> None:
    expected = run_monai(tmp_path)
    for field in BOTH:
        np.testing.assert_array_equal(sample[field], expected[field].numpy())
    np.testing.assert_allclose(LPS_TO_RAS @ sample["image_affine"], expected["image"].affine)
    assert sample["label"].dtype == np.uint8
    assert sample["spacing"] == (1, 1, 2)


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("Spacingd", {"keys": BOTH, "pixdim": [2.0, 1.5, 1.5], "mode": ["bilinear", "nearest"]}),
        ("Orientationd", {"keys": BOTH, "axcodes": "RAS"}),
        ("CropForegroundd", {"keys": BOTH, "source_key": "label"}),
        ("ScaleIntensityRanged", {"keys": "image", "a_min": 0, "a_max": 99, "b_min": 0, "b_max": 1, "clip": True}),
        ("NormalizeIntensityd", {"keys": "image", "nonzero": True}),
        ("SpatialPadd", {"keys": BOTH, "spatial_size": [30, 30, 30]}),
    ],
)
def test_a_transform_gives_what_monai_gives(
    name: str, args: dict[str, Any], sample: dict[str, Any], tmp_path: Path
) -> None:
    import monai.transforms

    result = build_transform(component(name, **args))(sample)
    expected = run_monai(tmp_path, getattr(monai.transforms, name)(**args))
    for field in BOTH:
        np.testing.assert_allclose(result[field], expected[field].numpy(), rtol=1e-5)
        np.testing.assert_allclose(LPS_TO_RAS @ result[f"{field}_affine"], expected[field].affine, atol=1e-6)
    assert result["label"].dtype == np.uint8
    np.testing.assert_allclose(result["spacing"], expected["image"].pixdim, rtol=1e-6)


def test_a_mask_that_was_blended_is_refused(sample: dict[str, Any]) -> None:
    blending = component("Spacingd", keys="label", pixdim=[0.7, 0.7, 0.7], mode="bilinear")
    with pytest.raises(DataError, match="Spacingd made values of the mask 'label' that are no whole numbers"):
        build_transform(blending)(sample)


def test_what_is_random_is_in_the_tail_and_repeats_itself(sample: dict[str, Any]) -> None:
    crop = component("RandCropByPosNegLabeld", keys=BOTH, label_key="label", spatial_size=[8, 8, 8], num_samples=3)
    shift = component("RandShiftIntensityd", keys="image", offsets=5.0, prob=1.0)
    chain = Chain.build([component("EnsureChannelFirstd", keys=BOTH), crop, shift])
    assert [len(chain.head), len(chain.tail)] == [1, 2]
    assert all(isinstance(transform, RandomTransform) for transform in chain.tail)
    assert chain.tail[0].patch() == (8, 8, 8)
    first, again, second = (chain.run_tail(sample, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert {patch["image"].shape for patch in first} == {(1, 8, 8, 8)}
    assert len(first) == 3
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a["image"], b["image"])
    assert any((a["image"] != b["image"]).any() for a, b in zip(first, second, strict=True))
    assert first[0]["label"].dtype == np.uint8


def test_threads_do_not_share_what_was_drawn(sample: dict[str, Any]) -> None:
    from concurrent.futures import ThreadPoolExecutor

    noise = build_transform(component("RandGaussianNoised", keys="image", prob=1.0))
    alone = [noise.run(sample, np.random.default_rng(seed))[0]["image"] for seed in range(8)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda seed: noise.run(sample, np.random.default_rng(seed))[0]["image"], range(8)))
    for a, b in zip(alone, together, strict=True):
        np.testing.assert_array_equal(a, b)


def test_inference_repeats_what_changes_intensities_and_leaves_the_grid_alone() -> None:
    def repeat(name: str, **args: Any) -> Any:
        return build_transform(component(name, **args)).for_field("image")

    scaled = repeat("ScaleIntensityRanged", keys=BOTH, a_min=0, a_max=1, b_min=0, b_max=1)
    assert scaled == {"keys": ["image"], "a_min": 0, "a_max": 1, "b_min": 0, "b_max": 1}
    assert repeat("Spacingd", keys=BOTH, pixdim=[1, 1, 1]) is None
    assert repeat("CropForegroundd", keys=BOTH, source_key="image") is None
    assert repeat("LoadImaged", keys=BOTH) is None
    assert repeat("ToTensord", keys=BOTH) is None


@pytest.mark.parametrize(
    ("name", "args", "divisor"),
    [
        ("UNet", {"dimensions": 3, "channels": [4, 8, 8], "strides": [2, [2, 2, 1]]}, 4),
        ("SegResNet", {"init_filters": 8, "blocks_down": [1, 1], "blocks_up": [1]}, 2),
        ("BasicUNet", {"features": [4, 4, 4, 4, 4, 4]}, 16),
    ],
)
def test_a_network_is_built_with_the_channels_of_the_data(name: str, args: dict[str, Any], divisor: int) -> None:
    network = read_network(component(name, **args, in_channels=1, num_classes=3))
    assert network.divisor == divisor
    assert network.build().eval()(torch.zeros(1, 1, 32, 32, 32)).shape == (1, 3, 32, 32, 32)


def test_channels_that_contradict_the_classes_are_refused() -> None:
    args = {"spatial_dims": 3, "channels": [4, 8], "strides": [2], "in_channels": 1}
    with pytest.raises(ConfigError, match="out_channels is 2, but 3 classes are learnt"):
        read_network(component("UNet", **args, out_channels=2, num_classes=3))


def test_losses_get_labels_as_they_want_them() -> None:
    from torch.nn import functional

    logits, label = torch.randn(2, 3, 4, 4, 4), torch.randint(0, 3, (2, 1, 4, 4, 4), dtype=torch.uint8)
    cross_entropy = create("loss", component("CrossEntropyLoss")).build("softmax")(logits, label)
    torch.testing.assert_close(cross_entropy, functional.cross_entropy(logits, label[:, 0].long()))
    from monai.losses import DiceLoss

    dice = create("loss", component("DiceLoss", to_onehot_y=True, softmax=True)).build("softmax")(logits, label)
    torch.testing.assert_close(dice, DiceLoss(to_onehot_y=True, softmax=True)(logits, label))
    findings, truth = torch.randn(4, 2), torch.tensor([[0.0, 1], [1, 1], [0, 0], [1, 0]])
    result = create("loss", component("BCEWithLogitsLoss")).build("sigmoid")(findings, truth)
    torch.testing.assert_close(result, functional.binary_cross_entropy_with_logits(findings, truth))


def test_optimizers_are_torchs_and_monais() -> None:
    from monai.optimizers import Novograd

    weights = [torch.nn.Parameter(torch.zeros(2))]
    result = create("optimizer", component("Novograd", lr=0.002, betas=[0.9, 0.99])).build(weights, 1.0, 0.0)
    assert isinstance(result, Novograd)
    assert result.param_groups[0]["lr"] == 0.002
    plain = create("optimizer", component("AdamW")).build(weights, 0.3, 0.0)
    assert (plain.param_groups[0]["lr"], plain.param_groups[0]["weight_decay"]) == (0.3, 0.01)
    assert create("optimizer", component("SGD", momentum=0.9)).build(weights, 0.3, 0.2).defaults["momentum"] == 0.9


@pytest.mark.parametrize("by_epoch", [True, False])
def test_a_scheduler_gives_the_rates_that_torch_gives(*, by_epoch: bool) -> None:
    args = {"milestones": [2, 4], "gamma": 0.1}
    policy = create("lr_policy", component("MultiStepLR", **args, training_epochs=6, by_epoch=by_epoch))
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, **args)  # type: ignore[arg-type]
    for step in range(30):
        assert policy.factor(step, 30) == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if not by_epoch or step % 5 == 4:
            scheduler.step()


def test_windows_are_monais() -> None:
    from monai.inferers import SlidingWindowInferer

    network = torch.nn.Conv3d(1, 2, 3, padding=1)
    image = torch.randn(1, 1, 20, 12, 9)
    args: dict[str, Any] = {"roi_size": [8, 8, 8], "sw_batch_size": 2, "overlap": 0.5}
    inferer = create("inferer", component("SlidingWindowInferer", **args))
    assert (inferer.roi_size, inferer.overlap) == ((8, 8, 8), 0.5)
    torch.testing.assert_close(inferer.infer(network, image), SlidingWindowInferer(**args)(image, network))


def outputs(classes: int = 3) -> dict[str, Any]:
    rng = np.random.default_rng(1)
    label = rng.integers(0, classes, (2, 1, 8, 8, 8)).astype(np.uint8)
    return {"model": rng.normal(size=(2, classes, 8, 8, 8)).astype(np.float32), "label": label}


DISCRETE = [
    {"name": "monai:Activationsd", "args": {"keys": "pred", "softmax": True}},
    {
        "name": "monai:AsDiscreted",
        "args": {"keys": ["pred", "label"], "argmax": [True, False], "to_onehot": True, "n_classes": 3},
    },
]


@pytest.mark.parametrize(
    ("name", "monais"), [("MeanDice", "DiceMetric"), ("HausdorffDistance", "HausdorffDistanceMetric")]
)
def test_a_metric_gives_what_monai_gives(name: str, monais: str) -> None:
    import monai.metrics
    from monai.networks import one_hot

    metric = create(
        "metric",
        component(name, name="m", is_key_metric=True, post_transforms=DISCRETE, args={"include_background": False}),
    )
    batch = outputs()
    expected = getattr(monai.metrics, monais)(include_background=False)
    predicted = torch.as_tensor(batch["model"]).argmax(1, keepdim=True)
    expected(one_hot(predicted, 3), one_hot(torch.as_tensor(batch["label"]), 3))
    assert metric.summarise([metric.measure(batch)], ()) == {"m": pytest.approx(expected.aggregate().item())}


def test_auc_and_accuracy_are_those_of_scikit_learn() -> None:
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(2)
    logits, label = rng.normal(size=(20, 2)).astype(np.float32), rng.integers(0, 2, (20, 2)).astype(np.float32)
    sigmoid = [{"name": "monai:Activationsd", "args": {"keys": "pred", "sigmoid": True}}]
    metric = create("metric", component("ROCAUC", name="auc", post_transforms=sigmoid))
    batches = [metric.measure({"model": logits[part], "label": label[part]}) for part in (slice(0, 7), slice(7, 20))]
    assert metric.summarise(batches, ())["auc"] == pytest.approx(roc_auc_score(label, logits))
    accuracy = create("metric", component("Accuracy", name="a", post_transforms=DISCRETE))
    batch = outputs()
    right = (batch["model"].argmax(1) == batch["label"][:, 0]).mean()
    assert accuracy.summarise([accuracy.measure(batch)], ()) == {"a": pytest.approx(right)}


@pytest.mark.parametrize("name", ["os.system", "_Loss", "Compose", "ScaleIntensity", "DataLoader", "eval", ""])
def test_only_public_classes_of_the_kind_can_be_named(name: str) -> None:
    with pytest.raises(ConfigError, match=f"unknown transform {name!r}"):
        build_transform(component(name, keys="image"))


@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        ("MeanDice", {"includ_background": False}, "takes no argument 'includ_background'; did you mean 'include_back"),
        ("MeanDice", {"include_background": "false"}, "include_background: expected bool, received 'false'"),
        ("MeanDice", {"reduction": "mean_channel"}, "reduction: 'mean_channel' is not carried; write 'mean'"),
        ("HausdorffDistance", {"symmetric": True}, "takes no argument 'symmetric'"),
        ("Accuracy", {"is_multilabel": True}, "is_multilabel: True is not carried"),
    ],
)
def test_a_metrics_argument_that_is_not_computed_is_refused(name: str, args: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        create("metric", component(name, name="score", args=args))
    fixed = {"reduction": "mean", "save_details": False, "device": "cpu"}
    assert create("metric", component("MeanDice", name="score", args=fixed)).name == "score"
