"""Random transforms on tensors: the same draw gives the same patch as on arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tests.conftest import ROOT
from voxflow.components import (
    Chain,
    Component,
    Dialect,
    TensorBatch,
    canonical_name,
    find_component,
    list_component_names,
)
from voxflow.components.transforms.base import Draw, RandomTransform, Transform
from voxflow.components.transforms.intensity import AddGaussianNoise
from voxflow.components.transforms.tensors import gather_items
from voxflow.config import load_workflow

DIALECTS: tuple[Dialect, ...] = ("clara3", "tlt2")
BOTH: dict[str, Any] = {"fields": ["image", "label"]}
CROP: dict[str, Any] = {"fields": "image", "label_field": "label", "size": [9, 11, 7], "batch_size": 2}
TURN = {**CROP, "rotation": True, "rotation_degree": 25, "scale": True, "scale_factor": 0.2}
TLT_CROP: dict[str, Any] = {"image_field": "image", "label_field": "label", "size": [9, 11, 7]}
RATIO = {"ratio_start": 4.0, "ratio_end": 1.0, "ratio_step": 1.0, "num_epochs": 1}
# Arguments of every random transform of the registry that takes tensors.
ARGUMENTS: dict[str, list[dict[str, Any]]] = {
    "FastCropByPosNegRatio": [CROP, {**CROP, "size": [30, 30, 30], "classes_alike": True}],
    "FastPosNegRatioCropROI": [
        TURN,
        {**TURN, "deform": True},
        {**TURN, "size": [31, 29, 15], "rotation_degree": 90},
        {**CROP, "deform": True},
    ],
    "CropRandomSizeWithDisplacement": [{**BOTH, "lower_size": [0.5, 0.6, 5.0], "max_displacement": 3}],
    "CropFixedSizeRandomCenter": [{**BOTH, "size": [9, 8, 20]}],
    "RandomAxisFlip": [BOTH],
    "RandomSpatialFlip": [BOTH, {**BOTH, "axes": ["i", "k"]}],
    "RandomRotate3D": [{**BOTH, "probability": 0.8}],
    "RandomRotate2D": [{**BOTH, "angle": 30, "is_random": True}],
    "RandomZoom": [
        {**BOTH, "lower_limits": 0.7, "upper_limits": 1.4},
        {"fields": "image", "label_field": "label", "lower_limits": [0.7, 1.0, 0.9], "upper_limits": [1.4, 1.0, 1.2]},
        {**BOTH, "probability": 0.5},
    ],
    "ScaleIntensityOscillation": [{"fields": "image", "magnitude": 0.3}],
    "AddGaussianNoise": [{"fields": "image"}, {"fields": "image", "magnitude": 0.5, "probability": 1.0}],
    "ScaleShiftIntensity": [{"fields": "image", "scale": 0.3, "shift": 0.4}],
    "RandomAppearance": [{"fields": "image"}],
    "tlt2:ScaleIntensityOscillation": [{"field": "image", "magnitude": 0.2}],
    "tlt2:ScaleIntensityRange": [{"field": "image", "magnitude": 0.2}],
    "tlt2:AddGaussianNoise": [{"field": "image"}],
    "tlt2:AugmentIntensityRandomScaleShift": [{"fields": "image"}],
    "tlt2:AdjustContrast": [{"field": "image"}],
    "tlt2:CropSubVolumeRandomWithinBounds": [{**BOTH, "size": [9, 8, 7]}],
    "tlt2:CropRandomSubImageInRange": [{"image_field": ["image", "label"], "lower_size": [0.5, 0.5, 0.9]}],
    "tlt2:CropSubVolumePosNegRatioCtrlEpoch": [TLT_CROP | RATIO],
    "tlt2:TransformVolumeCropROIFastPosNegRatio": [
        {"applied_keys": "image", "size": [9, 11, 7], "rotation": True, "deform": True}
    ],
    "tlt2:NP2DRotate": [{"applied_keys": ["image", "label"], "angle": 20, "random": True}],
    "tlt2:NPRandomFlip3D": [{"applied_keys": ["image", "label"]}],
    "tlt2:NPRandomRot90_XY": [{"applied_keys": ["image", "label"]}],
    "tlt2:NPRandomZoom3D": [
        {"applied_keys": ["image", "label"], "lower_limits": 0.8, "upper_limits": 1.2, "keep_size": True}
    ],
    "tlt2:FlipAxisRandom": [{"fields": ["image", "label"], "axis": [0, 2]}],
}


def make_case(seed: int = 0, shape: tuple[int, ...] = (21, 21, 13), channels: int = 2) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    image = rng.normal(size=(channels, *shape)).astype(np.float32)
    image[:, :4] = 0
    label = np.zeros((1, *shape), np.uint8)
    label[0, 5:12, 6:15, 2:9] = 1
    label[0, 7:10, 8:10, 4:6] = 2
    return {"case": str(seed), "image": image, "label": label, "spacing": (1.0, 1.5, 3.0)}


def run_on_both(
    chain: Chain, cases: list[dict[str, Any]], seed: int, epoch: int = 2
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The samples of the path for arrays, and the fields of the path for tensors."""
    samples: list[dict[str, Any]] = []
    draws: list[tuple[Draw, ...]] = []
    items: dict[str, list[torch.Tensor]] = {"image": [], "label": []}
    for place, case in enumerate(cases):
        sample = chain.run_head(case)
        samples += chain.run_tail(sample, np.random.default_rng((seed, place)), epoch)
        drawn = chain.draw_tail(sample, np.random.default_rng((seed, place)), epoch)
        draws += drawn
        for name in items:
            items[name] += [torch.from_numpy(sample[name])] * len(drawn)
    batch = chain.apply_tail(TensorBatch(items, torch.device("cpu")), draws, epoch)
    return samples, {name: gather_items(batch.fields[name], batch.device) for name in items}


def assert_alike(samples: list[dict[str, Any]], fields: dict[str, Any]) -> None:
    for number, sample in enumerate(samples):
        image, label = (fields[name][number].numpy() for name in ("image", "label"))
        assert image.shape == sample["image"].shape
        np.testing.assert_allclose(image, sample["image"], rtol=1e-4, atol=1e-4)
        # The nearest voxel of a place between two is a matter of rounding.
        assert (label != sample["label"]).mean() < 0.002
    assert len(samples) == len(fields["image"]) == len(fields["label"])


@pytest.mark.parametrize(("name", "args"), [(name, args) for name, forms in ARGUMENTS.items() for args in forms])
def test_the_same_draw_gives_the_same_patch(name: str, args: dict[str, Any]) -> None:
    chain = Chain.build([Component(name=name, args=args)])
    assert chain.find_array_transform() is None
    changed = False
    for seed in range(4):
        cases = [make_case(n) for n in range(3)]
        samples, fields = run_on_both(chain, cases, seed)
        assert_alike(samples, fields)
        per_case = len(samples) // len(cases)
        changed |= any(not np.array_equal(s["image"], cases[n // per_case]["image"]) for n, s in enumerate(samples))
    assert changed


@pytest.mark.parametrize("name", sorted(ARGUMENTS))
def test_nothing_waits_for_the_device(name: str) -> None:
    """Of a tensor without content nobody can read a value, as nobody should of one that a GPU still computes."""
    chain = Chain.build([Component(name=name, args=ARGUMENTS[name][0])])
    for seed in range(3):
        sample = chain.run_head(make_case(seed))
        draws = chain.draw_tail(sample, np.random.default_rng(seed))
        items = {key: [torch.from_numpy(sample[key])] * len(draws) for key in ("image", "label")}
        batch = chain.apply_tail(TensorBatch(items, torch.device("meta")), draws)
        arrays = chain.run_tail(sample, np.random.default_rng(seed))
        for key in items:
            assert tuple(batch.gather(key)[0].shape) == arrays[0][key].shape


def test_every_random_transform_of_the_registry_is_compared() -> None:
    names = [
        canonical_name(name, dialect) for dialect in DIALECTS for name in list_component_names("transform", dialect)
    ]
    random = {n for n in names if issubclass(find_component("transform", n) or object, RandomTransform)}
    # The first draws from voxels, after a crop, where only a first crop may. The second is compared by its own test
    # (test_previous_mask.py), since it waits for the device where it looks for components of a mask.
    assert random - set(ARGUMENTS) == {"tlt2:AddExtremePointsChannel", "ShowPreviousMask"}


@pytest.mark.parametrize("shapes", [[(21, 21, 13)] * 2, [(21, 21, 13), (12, 24, 15)]])
def test_a_whole_chain_is_drawn_in_the_same_order(shapes: list[tuple[int, ...]]) -> None:
    """Patches of several cases, each drawn from its own generator, through all kinds of transforms."""
    regions = {"fields": "label", "regions": {"organ": [1, 2], "tumour": [2]}}
    chain = Chain.build(
        [
            Component(name="NormalizeNonzeroIntensities", args={"fields": "image"}),
            Component(name="FastPosNegRatioCropROI", args={**TURN, "deform": True}),
            Component(name="RandomSpatialFlip", args=BOTH),
            Component(name="RandomZoom", args={**BOTH, "probability": 0.5}),
            Component(name="AddGaussianNoise", args={"fields": "image"}),
            Component(name="ScaleShiftIntensity", args={"fields": "image"}),
            Component(name="NormalizeNonzeroIntensities", args={"fields": "image"}),
            Component(name="ConvertToRegions", args=regions),
        ]
    )
    for seed in range(3):
        cases = [make_case(n, shape) for n, shape in enumerate(shapes)]
        assert_alike(*run_on_both(chain, cases, seed))


def test_whole_images_of_several_shapes_go_one_by_one() -> None:
    chain = Chain.build(
        [
            Component(name="RandomSpatialFlip", args=BOTH),
            Component(name="AddGaussianNoise", args={"fields": "image"}),
        ]
    )
    samples, fields = run_on_both(chain, [make_case(0), make_case(1, (12, 14, 16))], 5)
    assert_alike(samples, fields)


def test_radiographs_are_cut_resized_and_turned() -> None:
    chain = Chain.build(
        [
            Component(name="CropRandomSizeWithDisplacement", args={**BOTH, "lower_size": 0.7, "max_displacement": 4}),
            Component(name="ScaleToShape", args={**BOTH, "target_shape": [16, 24]}),
            Component(name="RandomRotate2D", args={**BOTH, "angle": 20}),
            Component(name="RepeatChannel", args={"fields": "image", "repeat_times": 3}),
            Component(name="ScaleIntensityOscillation", args={"fields": "image", "magnitude": 0.1}),
        ]
    )
    cases = [make_case(n, (21, 21, 13)) for n in range(3)]
    for case in cases:
        case["image"], case["label"] = case["image"][..., 5], case["label"][..., 5]
    assert_alike(*run_on_both(chain, cases, 1))


@pytest.mark.parametrize("seed", ["clara3_chestxray", "clara3_spleen", "tlt2_brats", "tlt2_plco"])
def test_published_configurations_have_a_path_for_tensors(seed: str) -> None:
    task = "segmentation" if seed in ("clara3_spleen", "tlt2_brats") else "classification"
    places = {"DATASET_JSON": "x", "DATA_ROOT": "x", "PROCESSING_TASK": task}
    workflow = load_workflow(ROOT / f"tests/config/seeds/{seed}_train.json", overrides=places)
    chain = Chain.build(workflow.train.pre_transforms)
    assert chain.find_array_transform() is None
    if task == "classification":
        # Without its loaders and the resizing to a large picture.
        case = {"case": "0", "image": make_picture((150, 140)), "label": np.ones((1, 4, 4))}
        samples, fields = run_on_both(Chain((), chain.tail), [case], 0)
        np.testing.assert_allclose(fields["image"][0].numpy(), samples[0]["image"], rtol=1e-3, atol=1e-3)


def make_picture(size: tuple[int, ...]) -> Any:
    rows = np.linspace(0, 3, size[0], dtype=np.float32)[:, None]
    return (np.sin(rows * 5) + np.cos(np.linspace(0, 9, size[1], dtype=np.float32)))[None]


@pytest.mark.parametrize("name", ["NormalizeNonzeroIntensities", "CenterData"])
def test_scaling_by_a_patchs_own_values_waits_for_nothing(name: str) -> None:
    transform: Any = Chain.build([Component(name=name, args={"fields": "image"})]).head[0]
    image = np.stack([make_case()["image"][0] * 100 + 3, np.zeros((21, 21, 13)), np.full((21, 21, 13), 7)])
    image[0, :5] = 0
    image = image.astype(np.float32)
    changed = transform.change_tensor(torch.from_numpy(image))
    np.testing.assert_allclose(changed.numpy(), transform.change(image), rtol=1e-5, atol=1e-6)
    assert transform.change_tensor(torch.from_numpy(image).to("meta")).shape == image.shape


def test_nothing_that_comes_in_is_written_into() -> None:
    for name in ("RandomZoom", "RandomRotate3D", "ScaleShiftIntensity", "tlt2:AdjustContrast"):
        chain, case = Chain.build([Component(name=name, args=ARGUMENTS[name][0])]), make_case()
        run_on_both(chain, [case], 3)
        np.testing.assert_array_equal(case["image"], make_case()["image"])


def test_what_knows_no_tensors_is_found() -> None:
    flip, crop = Component(name="RandomAxisFlip", args=BOTH), Component(name="FastCropByPosNegRatio", args=CROP)
    points = Component(name="tlt2:AddExtremePointsChannel", args={"pert": True})
    grown = Component(name="RandomZoom", args={**BOTH, "keep_size": False})
    assert Chain.build([crop, flip]).find_array_transform() is None
    for components, culprit in [([flip, crop], 1), ([crop, points], 1), ([grown], 0)]:
        chain = Chain.build(components)
        assert chain.find_array_transform() is chain.tail[culprit]


def test_a_class_that_changes_arrays_otherwise_is_not_taken_at_its_parents_word() -> None:
    class Louder(AddGaussianNoise):
        def change(self, array: Any, parameters: Draw) -> Any:
            return array + parameters["deviation"]

    transform: Transform = Louder(fields=("image",))
    assert not transform.takes_tensors
    assert AddGaussianNoise(fields=("image",)).takes_tensors


def test_regions_that_were_not_labelled_stay_unknown() -> None:
    args = {"fields": "label", "regions": {"organ": [1, 2], "tumour": [2]}}
    chain = Chain.build([Component(name="RandomAxisFlip", args=BOTH), Component(name="ConvertToRegions", args=args)])
    case = make_case() | {"unlabelled_regions": ["tumour"]}
    case["label"] = case["label"].astype(np.int8)
    case["label"][0, 0] = -1
    samples, fields = run_on_both(chain, [case], 0)
    assert (samples[0]["label"][1] == -1).all()
    np.testing.assert_array_equal(samples[0]["label"], fields["label"][0].numpy())


def test_labels_of_several_types_keep_their_values() -> None:
    """A case in which not everything was labelled has a label with a sign."""
    for name in ("FastPosNegRatioCropROI", "FastCropByPosNegRatio"):
        chain = Chain.build([Component(name=name, args={**CROP, "size": [31, 31, 15]})])
        cases = [make_case(0), make_case(1)]
        cases[1]["label"] = cases[1]["label"].astype(np.int8)
        cases[1]["label"][0, :, :4] = -1
        cases[0]["label"][cases[0]["label"] == 2] = 200
        samples, fields = run_on_both(chain, cases, 0)
        assert_alike(samples, fields)
        assert fields["label"].min() == -1
        assert fields["label"].max() == 200
