"""Islands and holes go, organs stay; held against MONAI's transforms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.transforms import FillHoles, KeepLargestConnectedComponent, RemoveSmallObjects
from scipy.ndimage import gaussian_filter

from voxflow.geometry import Geometry
from voxflow.inference.cleaning import CleaningOptions, clean
from voxflow.volumes import Volume

NAMES = {1: "liver", 2: "spleen", 3: "absent"}


def mask(seed: int = 0) -> Volume:
    noise = gaussian_filter(np.random.default_rng(seed).normal(size=(30, 28, 26)), 1.5)
    labels = np.digitize(noise, np.quantile(noise, [0.6, 0.85])).astype(np.uint8)
    return Volume(labels, Geometry.from_parts(labels.shape, (1.0, 2.0, 2.5)))


def cleaned(volume: Volume, **options: object) -> np.ndarray:
    copy = Volume(volume.array.copy(), volume.geometry)
    clean(copy, NAMES, CleaningOptions.model_validate(options))
    return copy.array


def test_nothing_asked_for_changes_nothing() -> None:
    assert np.array_equal(cleaned(mask()), mask().array)


@pytest.mark.parametrize("seed", range(3))
def test_the_largest_component_is_monais(seed: int) -> None:
    volume = mask(seed)
    expected = KeepLargestConnectedComponent(applied_labels=[1, 2], independent=True)(
        torch.from_numpy(volume.array)[None]
    )
    assert np.array_equal(cleaned(volume, largest_component=["all"]), np.asarray(expected)[0])


def test_only_the_named_class_loses_its_islands() -> None:
    volume = mask()
    done = cleaned(volume, largest_component=["spleen"])
    assert np.array_equal(done == 1, volume.array == 1)
    assert 0 < (done == 2).sum() < (volume.array == 2).sum()


def test_small_components_are_those_of_monai() -> None:
    volume = mask()
    single = Volume((volume.array == 2).astype(np.uint8) * 2, volume.geometry)
    expected = RemoveSmallObjects(min_size=40, connectivity=3)(torch.from_numpy(single.array)[None])
    # 40 voxels of 1 × 2 × 2.5 mm
    assert np.array_equal(cleaned(single, least_component_ml=40 * 5 / 1000), np.asarray(expected)[0])


def test_holes_are_those_of_monai() -> None:
    volume = mask()
    single = Volume((gaussian_filter((volume.array > 0).astype(float), 0.5) > 0.4).astype(np.uint8), volume.geometry)
    expected = FillHoles(applied_labels=[1])(torch.from_numpy(single.array)[None])
    done = cleaned(single, fill_holes=["liver"])
    assert done.sum() > single.array.sum()
    assert np.array_equal(done, np.asarray(expected)[0])


def test_a_hole_that_holds_another_organ_keeps_it() -> None:
    volume = mask()
    volume.array[...] = 0
    volume.array[5:20, 5:20, 5:20] = 1
    volume.array[10:14, 10:14, 10:14] = 2
    assert np.array_equal(cleaned(volume, fill_holes=["all"]), volume.array)


def test_a_class_that_the_model_lacks_is_named() -> None:
    assert CleaningOptions(largest_component=("kidney", "all")).unknown(NAMES) == ["kidney"]
