"""TLT's transforms by their own argument names, against NumPy, SciPy and MONAI."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from scipy import ndimage

from voxflow.components import Chain, Component, build_transform
from voxflow.components.transforms.cropping import FOREGROUND
from voxflow.errors import ConfigError
from voxflow.geometry import Geometry
from voxflow.volumes import Volume, write_radiograph, write_volume

if TYPE_CHECKING:
    from pathlib import Path


def build(name: str, **args: object) -> Any:
    return build_transform(Component(name=f"tlt2:{name}", args=args))


@pytest.fixture
def image() -> np.ndarray:
    values = np.random.default_rng(0).normal(5, 3, (2, 10, 8, 6)).astype(np.float32)
    values[:, :2] = 0
    return values


def draws(transform: Any, sample: dict[str, Any], key: str, count: int = 300) -> np.ndarray:
    rng = np.random.default_rng(1)
    return np.array([transform.draw(sample, rng)[key] for _ in range(count)])


def test_a_radiograph_passes_the_chain_of_the_tlt_example(tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 65535, (40, 30)).astype(np.uint16)
    write_radiograph(tmp_path / "a.png", array)
    chain = [
        build("LoadPng", fields=["image", "label"]),
        build("NPResizeImage", applied_keys=["image"], output_shape=[20, 16], data_format="grayscale"),
        build("NPExpandDims", applied_keys="image", expand_axis=2),
        build("NPRepChannels", applied_keys="image", channel_axis=2, repeat=3),
        build("CenterData", applied_keys="image", subtrahend=[2876.37] * 3, divisor=[883, 883, 883]),
    ]
    out: dict[str, Any] = {"image": tmp_path / "a.png", "label": [1, 0, 2]}
    for transform in chain:
        out = transform(out)
    assert out["image"].shape == (3, 20, 16)
    assert out["label"].tolist() == [1, 0, 2]
    np.testing.assert_array_equal(out["image"][0], out["image"][2])
    assert out["image"].mean() == pytest.approx((array.mean() - 2876.37) / 883, rel=0.02)


def test_channels_are_expanded_where_there_are_none() -> None:
    with pytest.raises(ValueError, match="expand_axis 1 is no place for channels, use 0 or 2"):
        build("NPExpandDims", applied_keys="image", expand_axis=1)({"image": np.ones((1, 4, 4))})
    with pytest.raises(ValueError, match="has 3 channels, there is nothing to expand"):
        build("NPExpandDims", applied_keys="image")({"image": np.ones((3, 4, 4))})
    with pytest.raises(ValueError, match="channel_axis 1 holds no channels, use 0 or 2"):
        build("NPRepChannels", applied_keys="image", channel_axis=1, repeat=2)({"image": np.ones((1, 4, 4))})


def test_volumes_get_a_channel_where_they_have_none() -> None:
    to_4d = build("VolumeTo4dArray", fields=["image"])
    assert to_4d({"image": np.ones((4, 5, 6))})["image"].shape == (1, 4, 5, 6)
    assert to_4d({"image": np.ones((2, 4, 5, 6))})["image"].shape == (2, 4, 5, 6)
    with pytest.raises(ValueError, match="expected a volume of 3 or 4 axes"):
        to_4d({"image": np.ones((4, 5))})


def test_resolution_and_shape_are_noted(tmp_path: Path) -> None:
    volume = Volume(np.zeros((4, 5, 6), np.float32), Geometry.from_parts((4, 5, 6), (1, 2, 3)))
    write_volume(tmp_path / "a.nii.gz", volume)
    out = build("LoadResolutionFromNifty", applied_key="image")({"image": tmp_path / "a.nii.gz"})
    assert out["image_resolution"] == pytest.approx((1, 2, 3))
    loaded = build("Load3DShapeFromNumpy", applied_key="image")(build("LoadNifty", fields="image")(out))
    assert loaded["image_shape"] == (4, 5, 6)
    late = build("LoadResolutionFromNifty", applied_key="image", new_key="mm")
    assert late(loaded)["mm"] == pytest.approx((1, 2, 3))
    assert set(late.makes()) == {"mm", "mm_affine", "mm_size"}


def test_center_data_takes_the_whole_arrays_mean(image: np.ndarray) -> None:
    out = build("CenterData", applied_keys=["image"])({"image": image})["image"]
    np.testing.assert_allclose(out, (image - image.mean()) / image.std(), rtol=1e-3, atol=1e-4)


def test_intensity_range_shifts_within_its_magnitude(image: np.ndarray) -> None:
    shift = build("ScaleIntensityRange", field="image", magnitude=0.3)
    parameters = draws(shift, {"image": image}, "shift")
    assert -0.3 <= parameters.min() < -0.28
    assert 0.28 < parameters.max() <= 0.3
    np.testing.assert_allclose(shift.apply({"image": image}, {"shift": 0.2})["image"], image + 0.2, rtol=1e-5)


@pytest.mark.parametrize("name", ["ScaleIntensityRange", "ScaleIntensityOscillation"])
def test_a_magnitude_must_be_greater_than_zero(name: str) -> None:
    with pytest.raises(ConfigError, match="magnitude: Input should be greater than 0"):
        build(name, field="image", magnitude=0)


def test_oscillation_multiplies_one_field(image: np.ndarray) -> None:
    oscillate = build("ScaleIntensityOscillation", field="image", magnitude=0.1)
    parameters = draws(oscillate, {"image": image}, "factor")
    assert 0.9 <= parameters.min() < parameters.max() <= 1.1
    np.testing.assert_allclose(oscillate.apply({"image": image}, {"factor": 1.05})["image"], image * 1.05, rtol=1e-6)


def test_noise_has_the_variance_that_was_drawn(image: np.ndarray) -> None:
    noise = build("AddGaussianNoise", field="image")
    parameters = draws(noise, {"image": image}, "deviation") ** 2
    assert 0 <= parameters.min() < 0.01
    assert 0.09 < parameters.max() <= 0.1
    flat = np.zeros((1, 40, 40, 40), np.float32)
    assert noise.apply({"image": flat}, {"deviation": 0.3, "seed": 1})["image"].std() == pytest.approx(0.3, rel=0.02)


def test_contrast_is_stretched_about_the_mean_within_the_range(image: np.ndarray) -> None:
    contrast = build("AdjustContrast", field="image")
    parameters = draws(contrast, {"image": image}, "factors").ravel()
    assert 0.75 <= parameters.min() < 0.78
    assert 1.22 < parameters.max() <= 1.25
    assert (parameters < 1).mean() == pytest.approx(0.5, abs=0.06)
    out = contrast.apply({"image": image}, {"factors": np.array([1.2, 0.8])})["image"]
    for channel, factor, result in zip(image, (1.2, 0.8), out, strict=True):
        expected = np.clip((channel - channel.mean()) * factor + channel.mean(), channel.min(), channel.max())
        np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["tlt2:AugmentIntensityRandomScaleShift", "ScaleShiftIntensity"])
def test_scale_and_shift_change_each_channel_on_its_own(name: str, image: np.ndarray) -> None:
    transform: Any = build_transform(Component(name=name, args={"fields": "image"}))
    factors = draws(transform, {"image": image}, "factors")
    shifts = draws(transform, {"image": image}, "shifts")
    assert factors.shape == (300, 2)
    assert 0.9 <= factors.min() < factors.max() <= 1.1
    assert -0.1 <= shifts.min() < shifts.max() <= 0.1
    parameters = {"factors": np.array([1.1, 0.9]), "shifts": np.array([0.1, -0.1])}
    out = transform.apply({"image": image}, parameters)["image"]
    np.testing.assert_allclose(out[0], image[0] * 1.1 + 0.1 * image[0][image[0] != 0].std(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(out[1], image[1] * 0.9 - 0.1 * image[1][image[1] != 0].std(), rtol=1e-4, atol=1e-5)


def test_nonzero_normalisation_is_by_channel(image: np.ndarray) -> None:
    out = build("NormalizeNonzeroIntensities", fields="image")({"image": image})["image"]
    assert (out[:, :2] == 0).all()
    for channel in out:
        assert channel[2:].mean() == pytest.approx(0, abs=1e-5)
        assert channel[2:].std() == pytest.approx(1, abs=1e-5)


def test_rotation_is_scipys_and_random_only_when_asked() -> None:
    picture = np.random.default_rng(0).normal(size=(1, 20, 20)).astype(np.float32)
    fixed = build("NP2DRotate", applied_keys=["image"], angle=30, data_format="grayscale")
    assert not fixed.is_random
    expected = ndimage.rotate(picture[0], 30, reshape=False, order=1, mode="nearest")
    np.testing.assert_allclose(fixed({"image": picture})["image"][0], expected, atol=1e-5)
    parameters = draws(build("NP2DRotate", applied_keys="image", angle=7, random=True), {"image": picture}, "angle")
    assert -7 <= parameters.min() < -6.5
    assert 6.5 < parameters.max() <= 7


def test_flips_mirror_only_the_named_axes(image: np.ndarray) -> None:
    flip = build("FlipAxisRandom", fields=["image"], axis=[0, 2])
    rng = np.random.default_rng(0)
    parameters = [flip.draw({"image": image}, rng).get("axes", ()) for _ in range(400)]
    assert set(parameters) == {(), (0,), (2,), (0, 2)}
    assert np.mean([0 in axes for axes in parameters]) == pytest.approx(0.5, abs=0.08)
    np.testing.assert_array_equal(flip.apply({"image": image}, {"axes": (0, 2)})["image"], image[:, ::-1, :, ::-1])
    with pytest.raises(ValueError, match="axis 2: the image has 2 spatial axes"):
        build("FlipAxisRandom", fields="image", axis=[2]).draw({"image": np.ones((1, 4, 4))}, rng)
    with pytest.raises(ConfigError, match=r"axis\.0: Input should be less than or equal to 2"):
        build("FlipAxisRandom", fields="image", axis=[3])


def test_flip_and_turn_follow_their_probability(image: np.ndarray) -> None:
    for name in ("NPRandomFlip3D", "NPRandomRot90_XY"):
        rng = np.random.default_rng(0)
        transform = build(name, applied_keys="image", probability=0.3)
        share = np.mean([bool(transform.draw({"image": image}, rng)) for _ in range(500)])
        assert share == pytest.approx(0.3, abs=0.06)
        assert not build(name, applied_keys="image", probability=0.0).is_random
        with pytest.raises(ConfigError, match="probability: Input should be less than or equal to 1"):
            build(name, applied_keys="image", probability=1.5)
    turn = build("NPRandomRot90_XY", applied_keys="image", probability=1.0)
    square = image[:, :8]
    np.testing.assert_array_equal(turn.apply({"image": square}, {"turns": 1})["image"], np.rot90(square, 1, (1, 2)))


def test_zoom_changes_the_size_unless_it_is_kept() -> None:
    smooth = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(1, 20, 16, 12)), (0, 2, 2, 2))
    smooth = smooth.astype(np.float32)
    limits = {"lower_limits": [0.9, 0.8, 1.0], "upper_limits": [1.1, 0.9, 1.5], "applied_keys": "image"}
    zoom = build("NPRandomZoom3D", **limits, data_format="channels_first", use_gpu=False)
    parameters = draws(zoom, {"image": smooth}, "factors")
    assert (parameters.min(0) >= [0.9, 0.8, 1.0]).all()
    assert (parameters.max(0) <= [1.1, 0.9, 1.5]).all()
    assert abs(np.corrcoef(parameters.T)[0, 1]) < 0.2
    out = zoom.apply({"image": smooth}, {"factors": np.array([1.1, 0.75, 1.5])})["image"]
    assert out.shape == (1, 22, 12, 18)
    expected = ndimage.zoom(smooth[0], (1.1, 0.75, 1.5), order=1, grid_mode=True, mode="nearest")
    np.testing.assert_allclose(out[0], expected, atol=1e-4)
    batches = build("NPRandomZoom3D", **limits, keep_size=True)
    assert batches.apply({"image": smooth}, {"factors": np.array([1.1, 0.75, 1.5])})["image"].shape == smooth.shape


def test_crops_of_fixed_size_lie_anywhere_inside_or_in_the_middle(image: np.ndarray) -> None:
    crop = build("CropSubVolumeRandomWithinBounds", fields=["image"], size=[4, 8, 2])
    starts = draws(crop, {"image": image}, "start")
    assert starts.min(0).tolist() == [0, 0, 0]
    assert starts.max(0).tolist() == [6, 0, 4]
    centre = build("CropSubVolumeCenter", fields=["image"], size=[4, 4, 8])
    out = centre({"image": image})["image"]
    np.testing.assert_array_equal(out[:, :, :, 1:7], image[:, 3:7, 2:6])
    assert not out[..., 0].any()
    assert not centre.is_random


def test_a_random_sub_image_keeps_the_aspect_and_its_limits() -> None:
    picture = np.arange(1200.0).reshape(1, 40, 30)
    crop = build(
        "CropRandomSubImageInRange",
        lower_size=0.5,
        max_displacement=200,
        keep_aspect=True,
        image_field="image",
        data_format="grayscale",
    )
    rng = np.random.default_rng(0)
    for _ in range(100):
        parameters = crop.draw({"image": picture}, rng)
        rows, columns = parameters["size"]
        assert 20 <= rows <= 40
        assert rows / 40 == pytest.approx(columns / 30, abs=0.04)
        assert (parameters["start"] >= 0).all()
        assert (parameters["start"] + parameters["size"] <= (40, 30)).all()
    pixels = build("CropRandomSubImageInRange", lower_size=[30, 25], max_displacement=2.5, image_field="image")
    parameters = [pixels.draw({"image": picture}, rng) for _ in range(100)]
    assert min(d["size"][0] for d in parameters) == 30
    assert max(abs(d["start"] - (np.array([40, 30]) - d["size"]) // 2).max() for d in parameters) == 2


def test_the_foreground_object_fills_the_crop() -> None:
    label = np.zeros((1, 20, 20, 20), np.uint8)
    label[0, 5:11, 8:12, 2:14] = 1
    image = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(20, 20, 20)), 1)[None].astype(np.float32)
    crop = build("CropForegroundObject", size=[12, 8, 24], image_field="image", label_field="label")
    out = crop({"image": image, "label": label})
    assert out["label"].shape == (1, 12, 8, 24)
    assert out["label"].all()
    expected = ndimage.zoom(image[0, 5:11, 8:12, 2:14], 2, order=1, grid_mode=True, mode="nearest")
    np.testing.assert_allclose(out["image"][0], expected, atol=1e-5)
    with pytest.raises(ValueError, match="needs a foreground voxel; the field 'label' has none"):
        crop({"image": image, "label": label * 0})


RATIOS = {"ratio_start": 2.0, "ratio_end": 0.5, "ratio_step": -0.5, "num_epochs": 10}


def test_the_ratio_moves_with_the_epoch_and_stops_at_its_end() -> None:
    crop = build("CropSubVolumePosNegRatioCtrlEpoch", image_field="image", size=[8, 8, 8], **RATIOS)
    assert [crop.ratio(epoch) for epoch in (1, 10, 11, 20, 21, 31, 500)] == [2, 2, 1.5, 1.5, 1, 0.5, 0.5]
    upwards = build(
        "CropSubVolumePosNegRatioCtrlEpoch",
        size=[8, 8, 8],
        ratio_start=0.0,
        ratio_end=1.0,
        ratio_step=0.4,
        num_epochs=1,
    )
    assert [upwards.ratio(epoch) for epoch in (1, 2, 3, 4, 9)] == pytest.approx([0, 0.4, 0.8, 1, 1])
    with pytest.raises(ConfigError, match="ratio_step must not be 0"):
        build("CropSubVolumePosNegRatioCtrlEpoch", size=[8, 8, 8], **RATIOS | {"ratio_step": 0})


def test_a_chain_takes_as_many_positive_patches_as_its_epoch_says() -> None:
    args = {"image_field": "image", "label_field": "label", "size": [1, 1, 1], **RATIOS | {"num_epochs": 1}}
    chain = Chain.build([Component(name="tlt2:CropSubVolumePosNegRatioCtrlEpoch", args=args)])
    label = np.zeros((1, 12, 12, 12), np.uint8)
    label[0, :3] = 1
    sample = chain.run_head({"image": label.astype(np.float32), "label": label})
    rng = np.random.default_rng(0)
    for epoch, share in ((1, 2 / 3), (3, 1 / 2), (9, 1 / 3)):
        patches = [chain.run_tail(sample, rng, epoch=epoch)[0] for _ in range(400)]
        assert np.mean([patch["label"].any() for patch in patches]) == pytest.approx(share, abs=0.07)
    assert FOREGROUND not in patches[0]


def test_one_hot_masks_say_what_is_positive_by_any_class_but_the_background() -> None:
    classes = np.zeros((12, 12, 12), int)
    classes[2, 3, 4], classes[8, 9, 1] = 1, 2
    with_background = np.moveaxis(np.eye(3, dtype=np.uint8)[classes], -1, 0)
    for label in (with_background, with_background[1:]):
        crop = build("TransformVolumeCropROIFastPosNegRatio", applied_keys=["image", "label"], size=[1, 1, 1], neg=0)
        patches = crop.run({"image": classes[None].astype(np.float32), "label": label}, np.random.default_rng(0))
        assert patches[0]["image"].max() > 0


def test_the_fast_crop_turns_and_bends_image_and_mask_alike() -> None:
    label = np.zeros((1, 30, 30, 30), np.uint8)
    label[0, 8:22, 10:20, 12:18] = 1
    crop = build(
        "TransformVolumeCropROIFastPosNegRatio",
        applied_keys=["image", "label"],
        size=[16, 16, 16],
        deform=True,
        rotation=True,
        rotation_degree=15,
        scale=True,
        scale_factor=0.1,
        pos=1,
        neg=0,
    )
    sample = {"image": label.astype(np.float32), "label": label, "spacing": (1.0, 1.0, 1.0)}
    parameters = [crop.draw(crop.prepare(sample), np.random.default_rng(n)) for n in range(200)]
    assert np.rad2deg(np.abs([d["angles"] for d in parameters]).max()) <= 15
    assert 0.9 <= min(d["factor"] for d in parameters) < max(d["factor"] for d in parameters) <= 1.1
    patch = crop.run(sample, np.random.default_rng(3))[0]
    assert patch["label"].any()
    assert np.mean((patch["image"] > 0.5) == patch["label"]) > 0.98
