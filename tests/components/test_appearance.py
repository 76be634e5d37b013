"""The changes of appearance against SciPy and their own promises."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from voxflow.components import Component, build_transform

NOTHING: dict[str, Any] = {"deviation": 0.0, "seed": 0}
SHAPE = (2, 20, 18, 16)


def build(**args: object) -> Any:
    return build_transform(Component(name="RandomAppearance", args={"fields": "image", **args}))


@pytest.fixture
def image() -> np.ndarray:
    smooth = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=SHAPE), (0, 1, 1, 1))
    return np.asarray(4 * smooth, dtype=np.float32)


def draw(**changes: Any) -> dict[str, Any]:
    ones = {name: np.ones(2) for name in ("brightness", "contrast", "zoom", "inverted", "gamma")}
    return NOTHING | {"sigma": np.zeros(2)} | ones | changes


def test_blur_is_that_of_scipy(image: np.ndarray) -> None:
    blurred = build().change(image, draw(sigma=np.array([0.8, 0.0])))
    expected = ndimage.gaussian_filter(image[0], 0.8, radius=3, mode="nearest")
    np.testing.assert_allclose(blurred[0], expected, atol=1e-4)
    np.testing.assert_allclose(blurred[1], image[1], atol=1e-6)


def test_contrast_keeps_the_mean_and_the_range(image: np.ndarray) -> None:
    changed = build().change(image, draw(contrast=np.array([0.75, 1.25])))
    np.testing.assert_allclose(changed[0], (image[0] - image[0].mean()) * 0.75 + image[0].mean(), atol=1e-4)
    assert changed[1].max() <= image[1].max()
    assert changed[1].std() > image[1].std()


@pytest.mark.parametrize("name", ["gamma", "inverted"])
def test_gamma_keeps_mean_deviation_and_order(image: np.ndarray, name: str) -> None:
    changed = build().change(image, draw(**{name: np.array([1.4, 0.7])}))
    np.testing.assert_allclose(changed.mean((1, 2, 3)), image.mean((1, 2, 3)), atol=1e-4)
    np.testing.assert_allclose(changed.std((1, 2, 3)), image.std((1, 2, 3)), rtol=1e-3)
    order = np.argsort(image[0].ravel())
    assert (np.diff(changed[0].ravel()[order]) >= -1e-5).all()
    assert np.abs(changed - image).max() > 0.1


def test_a_lower_resolution_loses_detail_and_keeps_the_thick_axis() -> None:
    image = np.random.default_rng(1).normal(size=(1, 30, 30, 6)).astype(np.float32)
    changed = build().change(image, draw(zoom=np.array([0.5])))
    assert changed.shape == image.shape
    assert changed.std() < 0.8 * image.std()
    constant = np.broadcast_to(np.arange(6, dtype=np.float32), (1, 30, 30, 6))
    np.testing.assert_allclose(build().change(constant, draw(zoom=np.array([0.5]))), constant, atol=1e-5)


def test_a_smaller_strength_changes_less_and_more_rarely(image: np.ndarray) -> None:
    def change_by(strength: float) -> tuple[int, float]:
        change, rng = build(strength=strength), np.random.default_rng(4)
        differences = [np.abs(change({"image": image}, rng)["image"] - image).mean() for _ in range(100)]
        return sum(value > 0 for value in differences), float(np.mean(differences))

    (strong, far), (weak, near) = change_by(1.0), change_by(0.3)
    assert strong > 1.5 * weak > 0
    assert far > 2 * near
    assert not build(strength=0.0).is_random


def test_radiographs_are_changed_too() -> None:
    image, rng = np.random.default_rng(2).normal(size=(1, 24, 20)).astype(np.float32), np.random.default_rng(5)
    changed = [build()({"image": image}, rng)["image"] for _ in range(20)]
    assert all(value.shape == image.shape and np.isfinite(value).all() for value in changed)
    assert any((value != image).any() for value in changed)


def test_a_constant_image_stays_finite() -> None:
    image = np.zeros((1, 8, 8, 8), np.float32)
    changed = build().change(image, draw(**{key: np.array([0.7]) for key in ("contrast", "zoom", "inverted", "gamma")}))
    assert not changed.any()
