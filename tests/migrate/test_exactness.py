"""What a migration calls exact is the same on data: transforms by all that they can make, metrics, windows, batches."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from tests.migrate.conftest import OPTIONS
from tests.migrate.test_translation import RADIOGRAPH, VOLUME, build_nodes, monai_chain
from tests.mmar import families
from tests.mmar.conftest import QUICK
from tests.tables import read_table
from voxflow.cli.apps import train_main
from voxflow.components import Chain, Component, build_transform, create, find_component
from voxflow.config.check import list_argument_names
from voxflow.files import write_json
from voxflow.migrate import migrate_to_bundle
from voxflow.migrate.translation import Facts, list_translatable, translate
from voxflow.mmar.passage import Passage
from voxflow.training import read_checkpoint

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.filterwarnings("ignore")
BOTH = {"fields": ["image", "label"]}
TWO = Facts("segmentation", 2, ("background", "organ"))
SQUARE = Facts("segmentation", 1, ("background", "organ"), patch=(4, 4, 3))
RATIO: dict[str, Any] = {"fields": "image", "label_field": "label", "size": [4, 4, 4]}
Case = tuple[str, dict[str, Any], tuple[int, ...], Facts]
# Name, arguments, an image's size, facts; one that draws is tried often enough to make all that it can.
CASES: list[Case] = [
    ("RandomAxisFlip", BOTH, (2, 3, 4), VOLUME),
    ("tlt2:NPRandomFlip3D", BOTH, (2, 3, 4), VOLUME),
    ("RandomSpatialFlip", BOTH, (2, 3, 4), VOLUME),
    ("RandomSpatialFlip", {**BOTH, "axes": ["i", "k"], "probability": 0.3}, (2, 3, 4), VOLUME),
    ("tlt2:FlipAxisRandom", {**BOTH, "axis": [0, 2]}, (2, 3, 4), VOLUME),
    ("tlt2:FlipAxisRandom", BOTH, (2, 3, 4), VOLUME),
    ("RandomRotate3D", BOTH, (4, 4, 3), SQUARE),
    ("tlt2:NPRandomRot90_XY", BOTH, (4, 4, 3), SQUARE),
    ("CropFixedSizeRandomCenter", {**BOTH, "size": [3, 3, 3]}, (5, 4, 2), VOLUME),
    ("tlt2:CropSubVolumeRandomWithinBounds", {**BOTH, "size": [3, 3, 3]}, (5, 4, 2), VOLUME),
    ("tlt2:CropSubVolumeCenter", {**BOTH, "size": [4, 2, 6]}, (5, 6, 7), VOLUME),
    ("tlt2:CropSubVolumeCenter", {**BOTH, "size": [4, 4, 6]}, (9, 2, 4), VOLUME),
    ("FastCropByPosNegRatio", RATIO, (5, 5, 4), VOLUME),
    ("FastCropByPosNegRatio", {**RATIO, "batches_to_gen_at_once": 3, "batch_size": 2}, (3, 5, 5), VOLUME),
    ("ThresholdValues", {"fields": "image", "threshold": 100.0}, (4, 4, 4), VOLUME),
    ("RandomRotate2D", {**BOTH, "angle": 20.0, "is_random": False}, (12, 10, 5), VOLUME),
    ("tlt2:NP2DRotate", {**BOTH, "angle": 20.0}, (12, 11), RADIOGRAPH),
    ("ArgmaxAcrossChannels", {"fields": "image"}, (4, 4, 4), TWO),
    ("ScaleToShape", {**BOTH, "target_shape": [6, 7, 8]}, (9, 8, 7), VOLUME),
    ("ScaleToShape", {**BOTH, "target_shape": [6, 7, 8]}, (20, 21, 5), VOLUME),
    ("RepeatChannel", {"fields": "image", "repeat_times": 2}, (4, 4, 4), TWO),
    ("tlt2:NPRepChannels", {"fields": "image", "repeat": 2}, (4, 4, 4), TWO),
    ("CenterData", {"fields": "image"}, (4, 4, 4), TWO),
    ("CenterData", {"fields": "image", "subtrahend": [1.0, 2.0], "divisor": [3.0, 4.0]}, (4, 4, 4), TWO),
    ("tlt2:CenterData", {"fields": "image"}, (4, 4, 4), TWO),
    ("tlt2:CenterData", {"fields": "image", "subtrahend": 5.0}, (4, 4, 4), TWO),
    ("NormalizeNonzeroIntensities", {"fields": "image"}, (4, 4, 4), TWO),
    ("NormalizeChannels", {"fields": "image", "channels": [[90, 120, 101.5, 7.25], None]}, (4, 4, 4), TWO),
    ("NormalizeChannels", {"fields": "image", "channels": [None, [90, 120, 101.5, 7.25]]}, (4, 4, 4), TWO),
    ("NormalizeChannels", {"fields": "image", "channels": [[80, 95, 1, 2], [90, 120, 3, 0.5]]}, (4, 4, 4), TWO),
    ("NormalizeChannels", {"fields": "image", "channels": [None, None]}, (4, 4, 4), TWO),
    ("ScaleIntensityRange", {"fields": "image", "a_min": 20, "a_max": 90, "b_min": 0, "b_max": 1}, (4, 4, 4), VOLUME),
    (
        "ScaleIntensityRange",
        {"fields": "image", "a_min": 80, "a_max": 120, "b_min": 0, "b_max": 1, "clip": True, "a_offset": 10},
        (4, 4, 4),
        VOLUME,
    ),
    (
        "ScaleIntensityRange",
        {"fields": "image", "a_min": 80, "a_max": 120, "b_min": 1, "b_max": 0, "clip": True},
        (4, 4, 4),
        VOLUME,
    ),
]
DRAWN = {  # by the sizes of what is drawn
    ("ScaleIntensityOscillation", 0.3): {"fields": "image", "magnitude": 0.2, "probability": 0.3},
    ("ScaleIntensityOscillation", 1.0): {"fields": "image", "magnitude": 0.2},
    ("tlt2:ScaleIntensityOscillation", 1.0): {"fields": "image", "magnitude": 0.2},
    ("RandomRotate2D", 1.0): {"fields": "image", "angle": 25.0},
    ("AddGaussianNoise", 0.5): {"fields": "image", "magnitude": 9.0},
    ("tlt2:AddGaussianNoise", 1.0): {"fields": "image", "magnitude": 9.0},
}
# Whose other tests stand in test_translation.py.
TESTED_THERE = {"LoadNifti", "LoadNifty", "LoadPng", "NPResizeImage", "BratsConvertLabels"}
NOTHING_TO_DO = {"ConvertToChannelsFirst", "ConvertToChannelsLast", "VolumeTo4dArray", "NPExpandDims", "CopyProperties"}
NOTHING_TO_DO |= {"LoadResolutionFromNifty", "Load3DShapeFromNumpy", "MergeBatchDims"}
# Each with arguments for which it must not be called exact.
NEVER_EXACT: dict[str, dict[str, Any]] = {
    "ScaleShiftIntensity": {"fields": "image"},
    "AugmentIntensityRandomScaleShift": {"fields": "image"},
    "AdjustContrast": {"fields": "image"},
    "RandomAppearance": {"fields": "image"},
    "SplitBasedOnLabel": {"field": "label", "label_names": ["a", "b"]},
    "SplitAcrossChannels": {"field": "label", "channel_names": ["a", "b"]},
    "ScaleByResolution": {"fields": "image", "target_resolution": [1, 1, 1]},
    "ResampleVolume": {"fields": "image", "target_resolution": [1, 1, 1]},
    "RandomZoom": {"fields": "image"},
    "NPRandomZoom3D": {"fields": "image"},
    "CropSubVolumePosNegRatioCtrlEpoch": {"fields": "image", "size": [4, 4, 4]},
    "FastPosNegRatioCropROI": {"fields": "image", "size": [4, 4, 4]},
    "TransformVolumeCropROIFastPosNegRatio": {"fields": "image", "size": [5, 5, 5]},
    "CropForegroundObject": {"size": [4, 4, 4]},
    "CropRandomSizeWithDisplacement": {"fields": "image", "lower_size": 0.5},
    "CropRandomSubImageInRange": {"fields": "image", "lower_size": 0.5},
    "AddExtremePointsChannel": {},
    "SaveAsNifti": {"fields": "image"},
    "WriteNiftyResults": {"fields": "image"},
    # Names that are exact for other arguments.
    "FastCropByPosNegRatio": {**RATIO, "classes_alike": True},
    "CropSubVolumeCenter": {"fields": "image", "size": [5, 4, 4]},
    "AddGaussianNoise": {"fields": "image", "variance": 0.2},
    "RandomRotate3D": {"fields": "image"},
    "tlt2:ScaleIntensityRange": {"fields": "image", "magnitude": 0.1},
}


def make_sample(size: tuple[int, ...], facts: Facts) -> dict[str, Any]:
    label = np.zeros((1, *size), np.uint8)
    label[(slice(None), slice(1, 2), slice(1, 3), slice(1, 2))[: len(size) + 1]] = 1
    image = np.random.default_rng(5).normal(100, 20, (facts.in_channels, *size)).astype(np.float32)
    image[(0,) * image.ndim] = 100  # the threshold itself
    return {"image": image, "label": label}


def transform_here(name: str, args: dict[str, Any], sample: dict[str, Any], count: int) -> list[dict[str, Any]]:
    model = find_component("transform", name)
    words = list_argument_names(model) if model else []
    field = next(word for word in ("fields", "applied_keys", "field", "image_field") if word in words)
    args = {field if key == "fields" else key: value for key, value in args.items()}
    chain, generator = Chain.build([Component(name=name, args=args)]), np.random.default_rng(0)
    head = chain.run_head(dict(sample))
    return [patch for _ in range(count) for patch in chain.run_tail(head, generator)] if chain.tail else [head]


def transform_there(
    name: str, args: dict[str, Any], sample: dict[str, Any], count: int, facts: Facts
) -> list[dict[str, Any]]:
    chain = monai_chain([(name, args)], facts)
    chain.set_random_state(seed=1)
    results = []
    for _ in range(count):
        result = chain({key: torch.as_tensor(np.array(value)) for key, value in sample.items()})
        results += result if isinstance(result, list) else [result]
    return [{key: np.asarray(item[key]) for key in ("image", "label")} for item in results]


def collect_outcomes(items: list[dict[str, Any]]) -> set[tuple[Any, ...]]:
    return {
        tuple((np.shape(item[key]), np.asarray(item[key], np.float32).round(2).tobytes()) for key in ("image", "label"))
        for item in items
    }


@pytest.mark.parametrize(("name", "args", "size", "facts"), CASES)
def test_an_exact_transform_makes_the_same_arrays(
    name: str, args: dict[str, Any], size: tuple[int, ...], facts: Facts
) -> None:
    assert translate("transform", Component(name=name, args=args), facts).verdict == "exact"
    sample = make_sample(size, facts)
    here = transform_here(name, args, sample, 200)
    if len(here) == 1:
        (there,) = transform_there(name, args, sample, 1, facts)
        for key in ("image", "label"):
            np.testing.assert_allclose(here[0][key], there[key], rtol=1e-5, atol=1e-3)
    else:
        assert collect_outcomes(here) == collect_outcomes(transform_there(name, args, sample, 200, facts))


def test_zeros_count_by_the_channel_they_lie_in() -> None:
    """A CT has air of 0 as any other value; in an MR 0 is no measurement."""
    args = {"fields": "image", "channels": [[-20, 120, 50.5, 7.25], None]}
    sample = make_sample((4, 4, 4), TWO)
    sample["image"][:, :2] = 0
    (here,) = transform_here("NormalizeChannels", args, sample, 1)
    (there,) = transform_there("NormalizeChannels", args, sample, 1, TWO)
    np.testing.assert_allclose(here["image"], there["image"], rtol=1e-6, atol=1e-5)
    assert (there["image"][1, :2] == 0).all()
    assert (there["image"][0, :2] < -6).all()


@pytest.mark.parametrize(("key", "args"), DRAWN.items())
def test_an_exact_transform_draws_the_same_strengths(key: tuple[str, float], args: dict[str, Any]) -> None:
    """How often the image changes, and how much: Kolmogorov and Smirnov's test of both samples."""
    from scipy.stats import ks_2samp

    name, probability = key
    assert translate("transform", Component(name=name, args=args), VOLUME).verdict == "exact"
    sample, count = make_sample((6, 6, 6), VOLUME), 100 if "Rotate" in name else 500
    strengths = []
    for items in (transform_here(name, args, sample, count), transform_there(name, args, sample, count, VOLUME)):
        ratios = [float(np.std(item["image"] / sample["image"]) + np.mean(item["image"]) / 100) for item in items]
        unchanged = [np.allclose(item["image"], sample["image"]) for item in items]
        assert 1 - np.mean(unchanged) == pytest.approx(probability, abs=0.08)
        strengths.append([ratio for ratio, same in zip(ratios, unchanged, strict=True) if not same])
    assert ks_2samp(*strengths).pvalue > 0.001


@pytest.mark.parametrize(("name", "args"), NEVER_EXACT.items())
def test_what_differs_is_not_called_exact(name: str, args: dict[str, Any]) -> None:
    translation = translate("transform", Component(name=name, args=args), VOLUME)
    assert translation.verdict != "exact"
    assert translation.why


def test_every_exact_transform_is_compared_on_data() -> None:
    compared = {name.removeprefix("tlt2:") for name in [*(case[0] for case in CASES), *(name for name, _ in DRAWN)]}
    names = {name.removeprefix("tlt2:") for name in list_translatable("transform")}
    others = {"CropByPosNegRatio", "CropByPosNegRatioLabelOnly"}  # of TLT, which no dialect reads any more
    assert names - others == compared | TESTED_THERE | NOTHING_TO_DO | {
        name.removeprefix("tlt2:") for name in NEVER_EXACT
    }
    assert not {name.removeprefix("tlt2:") for name, *_ in CASES} & NOTHING_TO_DO


def test_a_random_crop_of_validation_is_drawn_anew_by_monai(cube_workspace: Path, tmp_path: Path) -> None:
    config = json.loads((cube_workspace / "config/config_train.json").read_text())
    crop = {"name": "CropFixedSizeRandomCenter", "args": {**BOTH, "size": [16, 16, 16]}}
    config["validate"]["pre_transforms"].append(crop)
    write_json(tmp_path / "mmar/config/config_train.json", config)
    values = {"train.model.args.num_classes": 2, "DATA_ROOT": "none", "DATASET_JSON": "none"}
    report = migrate_to_bundle(tmp_path / "mmar", tmp_path / "bundle", overrides=values).report
    entry = next(entry for entry in report.entries if entry.name == "CropFixedSizeRandomCenter")
    assert (entry.verdict, "anew at every validation" in entry.why) == ("approximate", True)


# ------------------------------------------------------------------------------------------------------- Clara 4
KEYS = {"keys": ["image", "label"]}
STEPS4: list[tuple[str, dict[str, Any]]] = [
    ("LoadImaged", KEYS),
    ("EnsureChannelFirstd", KEYS),
    ("Orientationd", {**KEYS, "axcodes": "RAS"}),
    ("Spacingd", {**KEYS, "pixdim": [1.5, 1.5, 1.0], "mode": ["bilinear", "nearest"]}),
    ("ScaleIntensityRanged", {"keys": "image", "a_min": -57, "a_max": 164, "b_min": 0, "b_max": 1, "clip": True}),
    ("CropForegroundd", {**KEYS, "source_key": "image"}),
    ("NormalizeIntensityd", {"keys": "image", "nonzero": True, "channel_wise": True}),
    ("CenterSpatialCropd", {**KEYS, "roi_size": [9, 8, 7]}),
    ("SpatialPadd", {**KEYS, "spatial_size": [12, 12, 12]}),
    ("ToTensord", KEYS),
]
RANDOM4: list[tuple[str, dict[str, Any]]] = [
    ("RandCropByPosNegLabeld", {**KEYS, "label_key": "label", "spatial_size": [8, 8, 8], "num_samples": 1}),
    ("RandSpatialCropd", {**KEYS, "roi_size": [8, 8, 8], "random_size": False}),
    ("RandFlipd", {**KEYS, "prob": 0.5, "spatial_axis": 0}),
    ("RandRotate90d", {**KEYS, "prob": 0.5, "max_k": 3}),
    ("RandShiftIntensityd", {"keys": "image", "offsets": 0.1, "prob": 0.5}),
    ("RandScaleIntensityd", {"keys": "image", "factors": 0.1, "prob": 0.5}),
    ("RandGaussianNoised", {"keys": "image", "prob": 0.5, "std": 0.1}),
    ("RandZoomd", {**KEYS, "prob": 1.0, "min_zoom": 0.9, "max_zoom": 1.1, "mode": ["trilinear", "nearest"]}),
    ("RandAffined", {**KEYS, "prob": 1.0, "rotate_range": [0.1, 0.1, 0.1], "mode": ["bilinear", "nearest"]}),
]


@pytest.fixture(scope="module")
def spleen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clara 4's course, trained for an epoch."""
    root = families.getting_started4(tmp_path_factory.mktemp("clara4") / "mmar")
    config = json.loads((root / "config/config_train_Unet.json").read_text())
    # A validation that counts what is above 0.4, and fills holes.
    config["train"]["post_transforms"][1:] = [
        families.step("AsDiscreted#Pred", keys="pred", threshold=0.4),
        families.step("AsDiscreted#Label", keys="label", to_onehot=2),
        families.step("FillHolesd", keys="pred", applied_labels=[1]),
    ]
    steps = [{"ref": name} for name in ("Activationsd", "Pred", "Label", "FillHolesd")]
    config["validate"]["post_transforms"] = steps
    config["validate"]["inferer"]["args"] |= {"roi_size": [12, 12, 12], "overlap": 0.5}
    write_json(root / "config/config_train.json", config)
    places = ["MMAR_CKPT_DIR=models", "epochs=3"]
    assert train_main(["-m", str(root), "--set", *QUICK, *places]) == 0
    return root


def component4(name: str, args: dict[str, Any]) -> Component:
    return Component(name=f"monai:{name}", args=args)


def test_transforms_of_clara_4_make_the_same_arrays(spleen: Path) -> None:
    folder = spleen.parent / "sampleData"
    files = {"image": folder / "imagesTr/spleen_1.nii.gz", "label": folder / "labelsTr/spleen_1.nii.gz"}
    here: dict[str, Any] = {"image": (files["image"],), "label": files["label"]}
    there: Any = {key: str(path) for key, path in files.items()}
    for name, args in STEPS4:
        translation = translate("transform", component4(name, args), VOLUME)
        assert translation.verdict == "exact", name
        here = build_transform(component4(name, args))(here)
        for node in translation.nodes:
            there = build_nodes(node)(there)
        for key in files:
            np.testing.assert_allclose(here[key], np.asarray(there[key]), rtol=1e-4, atol=1e-3, err_msg=name)


@pytest.mark.parametrize(("name", "args"), RANDOM4)
def test_random_transforms_of_clara_4_make_the_same_arrays(name: str, args: dict[str, Any]) -> None:
    translation = translate("transform", component4(name, args), VOLUME)
    assert translation.verdict == "exact"
    sample = make_sample((12, 12, 12), VOLUME)
    here: Any = build_transform(component4(name, args))
    there = build_nodes(translation.nodes[0])
    for seed in range(6):
        draw = here.draw(sample, np.random.default_rng(seed))
        there.set_random_state(seed=draw["seed"])
        expected = here.apply(sample, draw)
        result = there({key: torch.as_tensor(value) for key, value in sample.items()})
        result = result[0] if isinstance(result, list) else result
        for key in sample:
            np.testing.assert_allclose(expected[key], np.asarray(result[key]), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["MeanDice", "MeanIoUHandler"])
@pytest.mark.parametrize("background", [True, False])
def test_metrics_of_clara_4_are_the_same_numbers(name: str, background: bool) -> None:
    """Three classes, one of which a case lacks, after steps of the configuration's own."""
    steps: list[tuple[str, dict[str, Any]]] = [
        ("Activationsd", {"keys": "pred", "softmax": True}),
        ("AsDiscreted", {"keys": ["pred", "label"], "argmax": [True, False], "to_onehot": 3}),
        ("FillHolesd", {"keys": "pred"}),
    ]
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(3, 3, 8, 7, 6, generator=generator)
    label = torch.randint(0, 3, (3, 1, 8, 7, 6), generator=generator)
    label[1][label[1] == 2] = 1
    args = {"name": "score", "args": {"include_background": background}}
    stated = {"post_transforms": [{"name": f"monai:{step}", "args": arguments} for step, arguments in steps]}
    metric = create("metric", component4(name, args | stated | {"field": "model"}))
    measured = metric.measure({"model": logits.numpy(), "label": label.numpy().astype(np.uint8)})
    translation = translate("metric", component4(name, args | stated), VOLUME)
    assert translation.verdict == "exact"
    nodes = [node for step in steps for node in translate("transform", component4(*step), VOLUME).nodes]
    chain = build_nodes({"_target_": "Compose", "transforms": nodes})
    items = [chain({"pred": pred, "label": true}) for pred, true in zip(logits, label, strict=True)]
    handler = build_nodes(translation.value, imports=["$import monai"])
    handler.update(handler._output_transform(items))
    expected = float(handler.metric_fn.aggregate())
    assert metric.summarise([measured], ("a", "b", "c"))["score"] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("shape", [(21, 17, 16), (9, 30, 12)])
@pytest.mark.parametrize("more", [{"overlap": 0.5}, {"mode": "gaussian", "overlap": 0.25}, {}])
def test_windows_of_clara_4_answer_with_the_same_logits(
    shape: tuple[int, ...], more: dict[str, Any], spleen: Path
) -> None:
    """As training validates, and as an evaluation and the service plan the same windows."""
    from voxflow.config import Evaluation
    from voxflow.engines import open_engine
    from voxflow.training import load_model

    args = {"roi_size": [12, 12, 16], "sw_batch_size": 3, **more}
    translation = translate("inferer", component4("SlidingWindowInferer", args), VOLUME)
    assert translation.verdict == "exact"
    network, _ = load_model(spleen / "models/model.pt")
    image = torch.randn(1, 1, *shape, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        expected = build_nodes(translation.value)(image, network)
        trained = create("inferer", component4("SlidingWindowInferer", args)).infer(network, image)
    torch.testing.assert_close(trained, expected)
    inferer = component4("SlidingWindowInferer", args)
    evaluation = Evaluation(task="segmentation", path=spleen, inferer=inferer, dialect="clara4")
    passage = Passage.build(evaluation, open_engine(spleen / "models/model.pt"), None)
    np.testing.assert_allclose(passage.compute_logits(image[0].numpy()), expected[0], rtol=1e-3, atol=2e-4)


def test_a_loss_and_a_schedule_of_clara_4_are_the_same_numbers() -> None:
    logits, label = torch.randn(2, 2, 5, 6, 7), torch.randint(0, 2, (2, 1, 5, 6, 7))
    for name, args in (
        ("DiceLoss", {"to_onehot_y": True, "softmax": True}),
        ("DiceCELoss", {"to_onehot_y": True, "softmax": True, "lambda_ce": 0.3}),
        ("FocalLoss", {"to_onehot_y": True, "use_softmax": True}),
    ):
        translation = translate("loss", component4(name, args), VOLUME)
        assert translation.verdict == "exact"
        expected = create("loss", component4(name, args)).build("softmax")(logits, label)
        torch.testing.assert_close(build_nodes(translation.value)(logits, label), expected)
    args = {"step_size": 3, "gamma": 0.5, "training_epochs": 10, "by_epoch": True}
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    definition = translate("lr_policy", component4("StepLR", args), VOLUME).value | {"optimizer": "@optimizer_of"}
    scheduler, policy = build_nodes(definition, optimizer_of=optimizer), create("lr_policy", component4("StepLR", args))
    for epoch in range(10):
        assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1 * policy.factor(epoch * 4, 40))
        optimizer.step()
        scheduler.step()


# ------------------------------------------------------------------------------------------------------- whole bundles
def evaluate_stock(bundle: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> list[float]:
    """The score of each case, as stock MONAI finds it."""
    from monai.bundle import run

    monkeypatch.chdir(bundle)
    fast = {"validate#dataloader#num_workers": 0, "train#dataloader#num_workers": 0}
    run(config_file=[f"configs/{file}.json" for file in ("train", "evaluate")], **fast)
    return [float(row["mean"]) for row in read_table(bundle / f"eval/{name}_raw.csv")]


def test_stock_evaluation_of_clara_4_finds_what_its_training_found(
    spleen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ignite")
    migration = migrate_to_bundle(spleen, tmp_path / "bundle", overrides={"MMAR_CKPT_DIR": "models"})
    verdicts = {entry.name: entry.verdict for entry in migration.report.entries if "validate." in entry.where}
    assert verdicts["MeanDice"] == verdicts["FillHolesd"] == "exact"
    train = json.loads((tmp_path / "bundle/configs/train.json").read_text())
    assert train["train"]["dataloader"]["batch_size"] == 1
    scores = evaluate_stock(tmp_path / "bundle", monkeypatch, "val_val_mean_dice")
    assert np.mean(scores) == pytest.approx(read_checkpoint(spleen / "models/model.pt")["metric"], abs=1e-4)


def test_a_bundle_trains_on_batches_of_the_configurations_size(spleen: Path, tmp_path: Path) -> None:
    values = {"train.dataloader.args.batch_size": 3, "MMAR_CKPT_DIR": "models"}
    bundle = migrate_to_bundle(spleen, tmp_path / "bundle", overrides=values).folder
    train = json.loads((bundle / "configs/train.json").read_text())
    assert train["train"]["dataloader"]["batch_size"] == 3
    assert train["validate"]["dataloader"]["batch_size"] == 1


@pytest.mark.parametrize("size", [[16, 16, 16], [14, 12, 16]])
def test_a_crop_of_validation_is_judged_by_the_bundle_too(
    size: list[int], cube_workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The crop has the size of the training's patch, as in nearly every published configuration of Clara 3."""
    pytest.importorskip("ignite")
    from tests.migrate.conftest import train_workspace
    from voxflow.training import DataFacts

    config = json.loads((cube_workspace / "config/config_train.json").read_text())
    config["validate"]["image_pipeline"]["args"]["output_crop_size"] = size
    config["validate"]["inferer"] = {"name": "TFSimpleInferer"}
    workspace = tmp_path / "cubes"
    write_json(workspace / "config/config_train.json", config)
    for name in ("environment.json", "dataset_0.json"):
        write_json(workspace / "config" / name, json.loads((cube_workspace / "config" / name).read_text()))
    train_workspace(workspace, cube_workspace.parent / "data", DataFacts(class_names=("background", "cube")))
    migration = migrate_to_bundle(workspace, tmp_path / "bundle")
    verdicts = {entry.where: entry.verdict for entry in migration.report.entries}
    assert verdicts["validate.image_pipeline"] == "exact"
    scores = evaluate_stock(tmp_path / "bundle", monkeypatch, "val_mean_dice")
    assert np.mean(scores) == pytest.approx(read_checkpoint(workspace / "models/train/model.pt")["metric"], abs=1e-3)
    assert OPTIONS.seed == 3


# ------------------------------------------------------------------------------------------------------- weights alone
def test_a_model_that_clara_4_trained_itself_is_no_untrained_one(spleen: Path, tmp_path: Path) -> None:
    """It holds weights alone; they are the bundle's, and give the same answer."""
    from voxflow.migrate.weights import build_bundle_network
    from voxflow.training import load_model

    config = json.loads((spleen / "config/config_train.json").read_text())
    for name in ("config_train.json", "environment.json"):
        write_json(tmp_path / "mmar/config" / name, json.loads((spleen / "config" / name).read_text()))
    weights = read_checkpoint(spleen / "models/model.pt")["state_dict"]
    (tmp_path / "mmar/models").mkdir()
    torch.save({"model": weights, "train_conf": config}, tmp_path / "mmar/models/model.pt")
    migration = migrate_to_bundle(tmp_path / "mmar", tmp_path / "bundle")
    assert not migration.weights_line
    assert migration.logit_difference == pytest.approx(0, abs=1e-6)
    definition = json.loads((tmp_path / "bundle/configs/train.json").read_text())["network_def"]
    network = build_bundle_network(definition).eval()
    network.load_state_dict(torch.load(tmp_path / "bundle/models/model.pt", weights_only=True))
    image = torch.randn(1, 1, 16, 16, 16)
    with torch.inference_mode():
        expected = load_model(spleen / "models/model.pt")[0](image)
        torch.testing.assert_close(network(image), expected, rtol=0, atol=1e-6)
    # Weights of another network are not this one's.
    del weights["model.0.conv.weight"]
    torch.save({"model": weights}, tmp_path / "mmar/models/model.pt")
    other = migrate_to_bundle(tmp_path / "mmar", tmp_path / "other")
    assert "is of another network than config_train.json" in other.weights_line


def test_a_model_of_tensorflow_is_named(spleen: Path, tmp_path: Path) -> None:
    for name in ("config_train.json", "environment.json"):
        write_json(tmp_path / "mmar/config" / name, json.loads((spleen / "config" / name).read_text()))
    models = tmp_path / "mmar/models"
    models.mkdir()
    for name in ("model.ckpt.index", "model.ckpt.data-00000-of-00001"):
        (models / name).write_bytes(b"tensors")
    migration = migrate_to_bundle(tmp_path / "mmar", tmp_path / "bundle", overrides={"MMAR_CKPT": ""})
    assert migration.weights_line == f"no weights: {models / 'model.ckpt.index'} is TensorFlow's, which can't be read"
    readme = (tmp_path / "bundle/docs/README.md").read_text()
    assert "model.ckpt.index of the workspace is TensorFlow's" in readme
