"""Intensity transforms against their formulas."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from voxflow.components import Component, build_transform
from voxflow.components.transforms.base import RandomTransform
from voxflow.errors import ConfigError, DataError


def build(name: str, **args: object) -> Any:
    return build_transform(Component(name=name, args={"fields": ["image"], **args}))


@pytest.fixture
def image() -> np.ndarray:
    values = np.random.default_rng(0).normal(50, 100, (2, 6, 5, 4)).astype(np.float32)
    values[:, :2] = 0
    return values


def test_scale_intensity_range_maps_ends_and_clips(image: np.ndarray) -> None:
    scale = build("ScaleIntensityRange", a_min=-57, a_max=164, b_min=0.0, b_max=1.0, clip=True)
    out = scale({"image": image})["image"]
    assert out.dtype == np.float32
    np.testing.assert_allclose(out, np.interp(image, [-57, 164], [0, 1]), atol=1e-6)


def test_scale_intensity_range_extrapolates_without_clip(image: np.ndarray) -> None:
    scale = build("ScaleIntensityRange", a_min=0, a_max=10, b_min=-1.0, b_max=1.0)
    np.testing.assert_allclose(scale({"image": image})["image"], image / 5 - 1, rtol=1e-5, atol=1e-6)


def test_scale_intensity_range_refuses_an_empty_interval() -> None:
    with pytest.raises(ConfigError, match="a_min and a_max must differ, both are 3"):
        build("ScaleIntensityRange", a_min=3, a_max=3, b_min=0, b_max=1)


def test_center_data_uses_given_numbers_by_channel(image: np.ndarray) -> None:
    out = build("CenterData", subtrahend=[10.0, 20.0], divisor=[2.0, 4.0])({"image": image})["image"]
    np.testing.assert_allclose(out[0], (image[0] - 10) / 2, rtol=1e-5)
    np.testing.assert_allclose(out[1], (image[1] - 20) / 4, rtol=1e-5)


def test_center_data_falls_back_on_mean_and_deviation(image: np.ndarray) -> None:
    out = build("CenterData")({"image": image})["image"]
    np.testing.assert_allclose(out.mean((1, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(out.std((1, 2, 3)), 1, atol=1e-5)


def test_nonzero_normalisation_leaves_zeros_and_scales_the_rest(image: np.ndarray) -> None:
    out = build("NormalizeNonzeroIntensities")({"image": image})["image"]
    assert (out[:, :2] == 0).all()
    for channel, source in zip(out, image, strict=True):
        inside = source[source != 0]
        np.testing.assert_allclose(channel[source != 0], (inside - inside.mean()) / inside.std(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("value", [0.0, 7.0])
def test_normalisation_of_a_constant_image_is_finite(value: float) -> None:
    out = build("NormalizeNonzeroIntensities")({"image": np.full((1, 3, 3, 3), value, np.float32)})["image"]
    assert (out == 0).all()


def test_channels_are_normalised_by_the_data_sets_numbers_or_their_own() -> None:
    rng = np.random.default_rng(0)
    image = np.stack([rng.uniform(-1000, 1000, (4, 5, 6)), rng.uniform(0, 9, (4, 5, 6))]).astype(np.float32)
    out = build("NormalizeChannels", channels=[[-150, 250, 40, 60], None])({"image": image})["image"]
    np.testing.assert_allclose(out[0], (np.clip(image[0], -150, 250) - 40) / 60, rtol=1e-5, atol=1e-6)
    own = build("NormalizeNonzeroIntensities")({"image": image[1:]})["image"]
    np.testing.assert_array_equal(out[1], own[0])
    with pytest.raises(DataError, match="states 2 channels, the image has 1"):
        build("NormalizeChannels", channels=[None, None])({"image": image[:1]})


def test_oscillation_multiplies_by_one_factor_within_the_magnitude(image: np.ndarray) -> None:
    oscillate = build("ScaleIntensityOscillation", magnitude=0.1)
    assert isinstance(oscillate, RandomTransform)
    rng = np.random.default_rng(1)
    factors = [oscillate.draw({"image": image}, rng)["factor"] for _ in range(200)]
    assert 0.9 <= min(factors) < 0.92
    assert 1.08 < max(factors) <= 1.1
    np.testing.assert_allclose(oscillate.apply({"image": image}, {"factor": 1.05})["image"], image * 1.05, rtol=1e-6)


def test_noise_is_replayed_by_its_draw(image: np.ndarray) -> None:
    noise = build("AddGaussianNoise", magnitude=2.0)
    assert isinstance(noise, RandomTransform)
    parameters = {"deviation": 1.5, "seed": 3}
    first, second = (noise.apply({"image": image}, parameters)["image"] for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert (first - image).std() == pytest.approx(1.5, rel=0.15)
    never = build("AddGaussianNoise", probability=0.0)
    assert isinstance(never, RandomTransform)
    assert never({"image": image})["image"] is image
