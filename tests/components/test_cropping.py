"""Crops: where they lie, what they read, and what a turned patch holds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from voxflow.components import Component, build_transform
from voxflow.components.transforms.boxes import crop_or_pad, cut_window
from voxflow.components.transforms.cropping import FOREGROUND
from voxflow.components.transforms.patches import patch_points, rotation_matrix, sample_at


def build(name: str, **args: object) -> Any:
    return build_transform(Component(name=name, args={"fields": "image", **args}))


@pytest.fixture
def sample() -> dict[str, Any]:
    image = np.random.default_rng(0).normal(size=(1, 30, 24, 20)).astype(np.float32)
    label = np.zeros((1, 30, 24, 20), np.uint8)
    label[0, 20:24, 4:8, 12:16] = 1
    return {"image": image, "label": label, "spacing": (1.0, 1.0, 2.0)}


def test_positive_patches_hold_the_label_and_negative_ones_begin_anywhere(sample: dict[str, Any]) -> None:
    crop = build("FastCropByPosNegRatio", size=[8, 8, 8], pos=1, neg=0, batch_size=20)
    patches = crop.run(sample, np.random.default_rng(0))
    assert len(patches) == 20
    assert all(patch["label"].any() and patch["image"].shape == (1, 8, 8, 8) for patch in patches)
    assert all(FOREGROUND not in patch for patch in patches)
    outside = build("FastCropByPosNegRatio", size=[8, 8, 8], pos=0, neg=1, batch_size=60)
    share = np.mean([patch["label"].any() for patch in outside.run(sample, np.random.default_rng(0))])
    assert share < 0.6


def test_pos_and_neg_are_weights(sample: dict[str, Any]) -> None:
    crop = build("FastCropByPosNegRatio", size=[1, 1, 1], pos=3, neg=1, batch_size=400)
    share = np.mean([patch["label"].any() for patch in crop.run(sample, np.random.default_rng(0))])
    assert share == pytest.approx(0.75, abs=0.06)


def test_a_crop_reads_the_same_voxels_of_image_and_label(sample: dict[str, Any]) -> None:
    crop = build("FastCropByPosNegRatio", size=[8, 6, 4])
    out = crop.apply(sample, {"start": np.array([3, 2, 1])})
    np.testing.assert_array_equal(out["image"], sample["image"][:, 3:11, 2:8, 1:5])
    np.testing.assert_array_equal(out["label"], sample["label"][:, 3:11, 2:8, 1:5])


@pytest.mark.parametrize("name", ["FastCropByPosNegRatio", "FastPosNegRatioCropROI"])
def test_an_image_smaller_than_the_patch_is_padded_in_the_middle(name: str, sample: dict[str, Any]) -> None:
    patch = build(name, size=[32, 24, 24]).run(sample, np.random.default_rng(0))[0]
    np.testing.assert_allclose(patch["image"][:, 1:31, :, 2:22], sample["image"], atol=1e-4)
    assert not patch["image"][:, 0].any()
    np.testing.assert_array_equal(patch["label"][:, 1:31, :, 2:22], sample["label"])


def test_a_label_without_foreground_still_gives_patches(sample: dict[str, Any]) -> None:
    empty = sample | {"label": np.zeros_like(sample["label"])}
    assert build("FastCropByPosNegRatio", size=[8, 8, 8], pos=1, neg=0).run(empty, np.random.default_rng(0))


def test_the_turned_patch_matches_scipy_in_true_angles(sample: dict[str, Any]) -> None:
    image, spacing = ndimage.gaussian_filter(sample["image"][0], 2), np.array([1.0, 1.0, 2.0])
    angles, centre, size = np.deg2rad([20.0, -10.0, 5.0]), np.array([14.0, 12.0, 9.0]), (9, 7, 5)
    points = patch_points(size, centre, spacing, angles=angles, factor=1.2)
    out = sample_at(image[None], points)[0]
    matrix = np.diag(1 / spacing) @ rotation_matrix(angles) @ np.diag(spacing) / 1.2
    offset = centre - matrix @ ((np.array(size) - 1) / 2)
    expected = ndimage.affine_transform(image, matrix, offset, output_shape=size, order=1)
    np.testing.assert_allclose(out, expected, atol=1e-4)


def test_rotation_keeps_lengths_and_turns_i_towards_j() -> None:
    matrix = rotation_matrix(np.array([0.3, -0.2, 0.9]))
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(rotation_matrix(np.array([0, 0, np.pi / 2])) @ [1, 0, 0], [0, 1, 0], atol=1e-12)


def test_masks_keep_their_values_when_turned_and_bent(sample: dict[str, Any]) -> None:
    crop = build("FastPosNegRatioCropROI", size=[16, 16, 8], rotation=True, scale=True, deform=True, pos=1, neg=0)
    patch = crop.run(sample | {"label": sample["label"] * 7}, np.random.default_rng(2))[0]
    assert set(np.unique(patch["label"])) == {0, 7}
    assert patch["label"].dtype == np.uint8


def test_without_augmentation_the_roi_crop_is_a_plain_crop(sample: dict[str, Any]) -> None:
    crop = build("FastPosNegRatioCropROI", size=[5, 5, 5])
    parameters = {"centre": np.array([10.0, 10, 10]), "angles": np.zeros(3), "factor": 1.0, "bend": None}
    np.testing.assert_allclose(crop.apply(sample, parameters)["image"], sample["image"][:, 8:13, 8:13, 8:13], atol=1e-5)


def test_random_size_crop_stays_inside_and_within_its_limits() -> None:
    crop = build("CropRandomSizeWithDisplacement", lower_size=[0.5, 20], max_displacement=3)
    image = np.arange(1200.0).reshape(1, 40, 30)
    for seed in range(50):
        parameters = crop.draw({"image": image}, np.random.default_rng(seed))
        start, size = parameters["start"], parameters["size"]
        assert (start >= 0).all()
        assert (start + size <= (40, 30)).all()
        assert size[0] >= 20
        assert size[1] >= 20
        assert (abs(start - (np.array([40, 30]) - size) // 2) <= 3).all()
        assert crop.apply({"image": image}, parameters)["image"].shape == (1, *size)


def test_cut_pads_outside_with_zero_and_fit_keeps_whole_axes() -> None:
    array = np.arange(12).reshape(1, 3, 4)
    np.testing.assert_array_equal(cut_window(array, np.array([-1, 2]), (3, 3))[0], [[0, 0, 0], [2, 3, 0], [6, 7, 0]])
    assert crop_or_pad(array, (-1, 2)).tolist() == [[[1, 2], [5, 6], [9, 10]]]
    assert crop_or_pad(array, (5, -1)).shape == (1, 5, 4)
