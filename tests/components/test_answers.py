"""What is made of answers and labels, against NumPy and MONAI: BraTS classes, extreme points, one mask a class."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from monai.transforms import ConvertToMultiChannelBasedOnBratsClasses
from monai.transforms.utils import extreme_points_to_image
from scipy import ndimage

from voxflow.components import Component, build_transform
from voxflow.errors import ConfigError


def build(name: str, **args: object) -> Any:
    return build_transform(Component(name=name, args=args))


def test_brats_labels_become_monais_nested_classes() -> None:
    label = np.random.default_rng(0).choice([0, 1, 2, 4], (1, 8, 8, 8)).astype(np.uint8)
    convert = build("tlt2:BratsConvertLabels", fields=["label"], classes=["TC", "WT", "ET"])
    expected = ConvertToMultiChannelBasedOnBratsClasses()(torch.from_numpy(label)).numpy()
    out = convert({"label": label})["label"]
    np.testing.assert_array_equal(out, expected)
    assert out.dtype == np.uint8
    assert convert.channels_after({"label": 1}) == {"label": 3}


def test_enhancing_tumour_is_3_or_4_whichever_the_data_set_uses() -> None:
    label = np.random.default_rng(0).choice([0, 1, 2, 4], (1, 8, 8, 8)).astype(np.uint8)
    convert = build("tlt2:BratsConvertLabels", fields="label")
    of_threes = convert({"label": np.where(label == 4, 3, label)})["label"]
    np.testing.assert_array_equal(of_threes, convert({"label": label})["label"])


def test_classes_come_in_the_order_that_is_asked_for() -> None:
    label = np.array([[[[0, 1, 2, 4]]]])
    out = build("tlt2:BratsConvertLabels", fields="label", classes=["ET", "WT"])({"label": label})["label"]
    assert out[:, 0, 0].tolist() == [[0, 0, 0, 1], [0, 1, 1, 1]]
    with pytest.raises(ConfigError, match=r"classes\.0: Input should be 'TC', 'WT' or 'ET'"):
        build("tlt2:BratsConvertLabels", fields="label", classes=["CT"])


@pytest.mark.parametrize(
    ("label", "message"), [(np.full((1, 2, 2, 2), 7), r"received values \[7\]"), (np.ones((3, 2, 2, 2)), "3 channels")]
)
def test_a_label_that_is_no_brats_label_is_refused(label: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build("tlt2:BratsConvertLabels", fields="label")({"label": label})


@pytest.fixture
def organ() -> dict[str, Any]:
    grid = np.stack(np.meshgrid(*[np.arange(24) - 11] * 3, indexing="ij"))
    label = ((grid[0] / 8) ** 2 + (grid[1] / 6) ** 2 + (grid[2] / 4) ** 2 <= 1)[None].astype(np.uint8)
    return {"image": np.zeros((1, 24, 24, 24), np.float32), "label": label}


def test_extreme_points_become_monais_channel(organ: dict[str, Any]) -> None:
    add = build("tlt2:AddExtremePointsChannel", image_field="image", label_field="label", sigma=3.0, pert=False)
    assert not add.is_random
    points = add.draw(organ, np.random.default_rng(0))["points"]
    assert sorted(map(tuple, points.tolist())) == sorted(
        [(3, 11, 11), (19, 11, 11), (11, 5, 11), (11, 17, 11), (11, 11, 7), (11, 11, 15)]
    )
    out = add(organ)["image"]
    assert out.shape == (2, 24, 24, 24)
    expected = extreme_points_to_image(
        [tuple(p) for p in points.tolist()], torch.from_numpy(organ["label"]).float(), sigma=3.0
    )
    inside = (slice(6, 18),) * 3  # MONAI ends its Gaussians earlier, which shows far from the points
    np.testing.assert_allclose(out[1][inside], expected.numpy()[0][inside], atol=0.05)
    assert (out[1].min(), out[1].max()) == (-1, 1)
    assert add.channels_after({"image": 4}) == {"image": 5}


def test_extreme_points_are_moved_only_as_far_as_is_asked(organ: dict[str, Any]) -> None:
    still, moving = build("tlt2:AddExtremePointsChannel"), build("tlt2:AddExtremePointsChannel", pert=2.0)
    assert moving.is_random
    assert build("tlt2:AddExtremePointsChannel", pert=True).pert == 4
    fixed = still.draw(organ, np.random.default_rng(0))["points"]
    points = np.array([moving.draw(organ, np.random.default_rng(n))["points"] for n in range(50)])
    assert 0 < abs(points - fixed).max() <= 2
    with pytest.raises(ValueError, match="needs a foreground voxel; 'label' has none"):
        still.draw(organ | {"label": organ["label"] * 0}, np.random.default_rng(0))


def test_argmax_and_one_mask_a_value() -> None:
    model = np.random.default_rng(0).normal(size=(3, 4, 4, 4)).astype(np.float32)
    affine = np.diag([1.0, 2, 3, 1])
    largest = build("ArgmaxAcrossChannels", fields="model")({"model": model, "model_affine": affine})
    np.testing.assert_array_equal(largest["model"][0], model.argmax(0))
    split = build("SplitBasedOnLabel", field="model", label_names=["none", "liver", "tumour"])(largest)
    for value, name in enumerate(("none", "liver", "tumour")):
        np.testing.assert_array_equal(split[name][0], model.argmax(0) == value)
        np.testing.assert_array_equal(split[f"{name}_affine"], affine)


def test_thresholded_channels_become_fields() -> None:
    model = np.array([[[[0.2, 0.5]]], [[[0.51, 0.9]]]], np.float32)
    out = build("tlt2:ThresholdValues", applied_key="model", threshold=0.5)({"model": model})
    assert out["model"].tolist() == [[[[0, 0]]], [[[1, 1]]]]
    split = build("tlt2:SplitAcrossChannels", applied_key="model", channel_names=["TC", "WT"])(out)
    assert (split["TC"].shape, split["WT"].tolist()) == ((1, 1, 1, 2), [[[[1, 1]]]])
    assert "model1" in build("tlt2:SplitAcrossChannels", applied_key="model")(out)
    with pytest.raises(ValueError, match=r"3 names .* for the 2 channels of 'model'"):
        build("tlt2:SplitAcrossChannels", applied_key="model", channel_names=["a", "b", "c"])(out)


def test_copied_properties_lie_where_the_other_field_lies() -> None:
    affine = np.diag([1.0, 2, 3, 1])
    sample = {"image": np.ones((1, 4, 4, 4)), "image_affine": affine, "mask": np.ones((1, 4, 4, 4))}
    copy = build("CopyProperties", fields=["mask"], from_field="image", properties=["affine"])
    np.testing.assert_array_equal(copy(sample)["mask_affine"], affine)
    with pytest.raises(ValueError, match=r"'mask' has shape \(2, 2, 2\), 'image' has \(4, 4, 4\)"):
        copy(sample | {"mask": np.ones((1, 2, 2, 2))})
    with pytest.raises(ConfigError, match=r"properties\.0: Input should be 'affine'"):
        build("CopyProperties", fields="mask", from_field="image", properties=["spacing"])


def test_batch_and_patch_axes_are_merged() -> None:
    merge = build("MergeBatchDims", fields=["image"])
    patches = np.random.default_rng(0).normal(size=(4, 3, 1, 5, 5, 5))
    out = merge({"image": patches})["image"]
    assert out.shape == (12, 1, 5, 5, 5)
    np.testing.assert_array_equal(out[3 * 2 + 1], patches[2, 1])
    assert merge({"image": out})["image"] is out


def test_a_fixed_size_crop_of_clara_pads_what_is_smaller() -> None:
    image = np.random.default_rng(0).normal(size=(2, 6, 4, 9)).astype(np.float32)
    crop = build("CropFixedSizeRandomCenter", fields="image", size=[4, 8, 9])
    parameters = crop.draw({"image": image}, np.random.default_rng(0))
    assert parameters["start"].tolist()[1:] == [-2, 0]
    patch = crop.apply({"image": image}, parameters)["image"]
    begin = int(parameters["start"][0])
    np.testing.assert_array_equal(patch[:, :, 2:6], image[:, begin : begin + 4])
    assert crop.patch() == (4, 8, 9)


def test_the_zoom_of_clara_takes_an_image_field_and_its_mask() -> None:
    image = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(1, 16, 16, 16)), (0, 2, 2, 2))
    sample = {"image": image.astype(np.float32), "label": (image > 0).astype(np.uint8)}
    zoom = build("RandomZoom", image_field="image", label_field="label", lower_limits=[1.2] * 3, upper_limits=[1.2] * 3)
    out = zoom(sample)
    assert zoom.changed_fields == ("image", "label")
    assert np.mean((out["image"] > 0) == out["label"]) > 0.95
    assert not np.array_equal(out["label"], sample["label"])


def test_published_arguments_of_clara_are_taken() -> None:
    build("FastCropByPosNegRatio", fields="image", size=[8, 8, 8], batch_size=3, batches_to_gen_at_once=48)
    crop = build("FastPosNegRatioCropROI", image_field="image", label_field="label", size=[8, 8, 8], fast_crop=True)
    assert crop.fields == ("image",)
    shifted = build("ScaleIntensityRange", fields="image", a_min=0, a_max=10, b_min=0, b_max=1, a_offset=5)
    assert shifted({"image": np.array([[0.0, 5.0]])})["image"].tolist() == [[0.5, 1.0]]
    oscillate = build("ScaleIntensityOscillation", fields="image", magnitude=0.1, probability=0.1)
    draws = [oscillate.draw({}, np.random.default_rng(n)) for n in range(300)]
    assert np.mean([bool(d) for d in draws]) == pytest.approx(0.1, abs=0.05)


def test_a_transform_tells_how_to_do_the_same_to_one_field() -> None:
    center = build("tlt2:CenterData", applied_keys=["image", "other"], divisor=[2.0])
    assert center.component_name() == "tlt2:CenterData"
    assert center.for_field("image") == {"applied_keys": ["image"], "divisor": [2.0]}
    assert center.for_field("label") is None
    again = build_transform(Component(name=center.component_name(), args=center.for_field("image")))
    image = np.random.default_rng(0).normal(size=(1, 4, 4)).astype(np.float32)
    np.testing.assert_array_equal(again({"image": image})["image"], center({"image": image, "other": image})["image"])
    resample = build("tlt2:ResampleVolume", applied_key="image", resolution=[1, 1, 1], target_resolution=[2, 2, 2])
    assert resample.for_field("image")["applied_key"] == "image"
