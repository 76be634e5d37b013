"""Spatial transforms against SciPy, NumPy and PIL."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from voxflow.components import Component, build_transform
from voxflow.components.transforms.base import RandomTransform
from voxflow.errors import ConfigError


def build(name: str, **args: object) -> Any:
    return build_transform(Component(name=name, args={"fields": ["image", "label"], **args}))


@pytest.fixture
def sample() -> dict[str, Any]:
    image = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(1, 16, 16, 10)), (0, 2, 2, 2))
    return {"image": image.astype(np.float32), "label": (image > 0).astype(np.uint8) * 3}


def test_scale_to_shape_keeps_label_values_and_means(sample: dict[str, Any]) -> None:
    out = build("ScaleToShape", target_shape=[32, 8, 20])(sample)
    assert out["image"].shape == out["label"].shape == (1, 32, 8, 20)
    assert set(np.unique(out["label"])) <= {0, 3}
    assert out["label"].dtype == np.uint8
    assert out["image"].mean() == pytest.approx(sample["image"].mean(), abs=0.02)


def test_scale_to_shape_of_a_radiograph_matches_pil() -> None:
    from PIL import Image

    radiograph = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(60, 40)), 3).astype(np.float32)
    out = build("ScaleToShape", fields="image", target_shape=[30, 20])({"image": radiograph[None]})["image"][0]
    reference = np.asarray(Image.fromarray(radiograph).resize((20, 30), Image.Resampling.BILINEAR))
    np.testing.assert_allclose(out, reference, atol=1e-4)


def test_scale_to_shape_refuses_another_dimension(sample: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"target_shape \(8, 8\) does not fit an image of shape \(16, 16, 10\)"):
        build("ScaleToShape", target_shape=[8, 8])(sample)


def test_axis_flip_mirrors_image_and_label_alike(sample: dict[str, Any]) -> None:
    flip = build("RandomAxisFlip", probability=1.0)
    values = {flip.draw(sample, np.random.default_rng(n))["axes"] for n in range(30)}
    assert values == {(0,), (1,), (2,)}
    out = flip.apply(sample, {"axes": (2,)})
    np.testing.assert_array_equal(out["image"], sample["image"][..., ::-1])
    np.testing.assert_array_equal(out["label"], sample["label"][..., ::-1])


@pytest.mark.parametrize("name", ["RandomAxisFlip", "RandomSpatialFlip", "RandomRotate3D"])
def test_probability_zero_changes_nothing(name: str, sample: dict[str, Any]) -> None:
    transform = build(name, probability=0.0)
    assert isinstance(transform, RandomTransform)
    assert transform(sample, np.random.default_rng(0)) is sample


def test_spatial_flip_chooses_each_axis_on_its_own(sample: dict[str, Any]) -> None:
    flip = build("RandomSpatialFlip", probability=0.5)
    axes = [flip.draw(sample, np.random.default_rng(n)).get("axes", ()) for n in range(60)]
    assert len(set(axes)) == 8


def test_spatial_flip_leaves_axes_alone_that_are_not_named(sample: dict[str, Any]) -> None:
    flip = build("RandomSpatialFlip", probability=0.9, axes=["i", "k"])
    axes = {flip.draw(sample, np.random.default_rng(n)).get("axes", ()) for n in range(60)}
    assert axes == {(), (0,), (2,), (0, 2)}


def test_quarter_turns_only_where_the_plane_is_square(sample: dict[str, Any]) -> None:
    turn = build("RandomRotate3D", probability=1.0)
    assert {turn.draw(sample, np.random.default_rng(n))["turns"] for n in range(30)} == {1, 2, 3}
    out = turn.apply(sample, {"turns": 1})["image"]
    np.testing.assert_array_equal(out[0, 0, :], sample["image"][0, :, -1])
    oblong = {"image": sample["image"][:, :9], "label": sample["label"][:, :9]}
    assert {turn.draw(oblong, np.random.default_rng(n))["turns"] for n in range(10)} == {2}


def test_rotate_2d_by_a_fixed_angle_matches_scipy() -> None:
    image = np.random.default_rng(0).normal(size=(1, 20, 20)).astype(np.float32)
    out = build("RandomRotate2D", fields="image", angle=30, is_random=False)({"image": image})["image"][0]
    np.testing.assert_allclose(out, ndimage.rotate(image[0], 30, reshape=False, order=1, mode="nearest"), atol=1e-5)


def test_rotate_2d_draws_within_its_angle() -> None:
    turn = build("RandomRotate2D", fields="image", angle=7, is_random=True)
    angles = [turn.draw({}, np.random.default_rng(n))["angle"] for n in range(100)]
    assert -7 <= min(angles) < -5
    assert 5 < max(angles) <= 7


def test_zoom_magnifies_about_the_centre(sample: dict[str, Any]) -> None:
    zoom = build("RandomZoom", lower_limits=2.0, upper_limits=2.0)
    label = np.zeros((1, 17, 17, 17), np.uint8)
    label[0, 6:11, 6:11, 6:11] = 1
    out = zoom({"image": label.astype(np.float32), "label": label})["label"]
    assert out.sum() == pytest.approx(8 * label.sum(), rel=0.35)
    assert ndimage.center_of_mass(out[0]) == pytest.approx((8, 8, 8), abs=0.6)


def test_zoom_with_crossed_limits_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"lower_limits 2.0 exceed upper_limits 1.0"):
        build("RandomZoom", lower_limits=2.0, upper_limits=1.0)
