"""Islands and holes go, organs stay; held against SimpleITK's filters."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from scipy.ndimage import gaussian_filter

from voxflow.geometry import Geometry
from voxflow.prediction.cleaning import CleaningOptions, clean_mask
from voxflow.volumes import Volume

NAMES = {"liver": (1,), "spleen": (2,), "absent": (3,)}


def mask(seed: int = 0) -> Volume:
    noise = gaussian_filter(np.random.default_rng(seed).normal(size=(30, 28, 26)), 1.5)
    labels = np.digitize(noise, np.quantile(noise, [0.6, 0.85])).astype(np.uint8)
    return Volume(labels, Geometry.from_parts(labels.shape, (1.0, 2.0, 2.5)))


def clean_copy(volume: Volume, **options: object) -> np.ndarray:
    copy = Volume(volume.array.copy(), volume.geometry)
    clean_mask(copy, NAMES, CleaningOptions.model_validate(options))
    return copy.array


def test_nothing_asked_for_changes_nothing() -> None:
    assert np.array_equal(clean_copy(mask()), mask().array)


def components(binary: np.ndarray) -> np.ndarray:
    """SimpleITK's components, 1 the largest; voxels that touch by a corner belong together."""
    image = sitk.GetImageFromArray(binary.astype(np.uint8))
    return np.asarray(sitk.GetArrayFromImage(sitk.RelabelComponent(sitk.ConnectedComponent(image, True))))


@pytest.mark.parametrize("seed", range(3))
def test_the_largest_component_is_simpleitks(seed: int) -> None:
    volume = mask(seed)
    tidied = clean_copy(volume, largest_component=["all"])
    for value in (1, 2):
        assert np.array_equal(tidied == value, components(volume.array == value) == 1)


def test_only_the_named_class_loses_its_islands() -> None:
    volume = mask()
    tidied = clean_copy(volume, largest_component=["spleen"])
    assert np.array_equal(tidied == 1, volume.array == 1)
    assert 0 < (tidied == 2).sum() < (volume.array == 2).sum()


def test_small_components_become_background() -> None:
    volume = mask()
    single = Volume((volume.array == 2).astype(np.uint8) * 2, volume.geometry)
    kept_components = components(single.array)
    large = np.bincount(kept_components.ravel()) >= 40
    assert 1 < large[1:].sum() < large[1:].size
    # 40 voxels of 1 × 2 × 2.5 mm
    tidied = clean_copy(single, least_component_ml=40 * 5 / 1000)
    assert np.array_equal(tidied == 2, (kept_components > 0) & large[kept_components])


def test_holes_are_those_of_simpleitk() -> None:
    volume = mask()
    single = Volume((volume.array == 1).astype(np.uint8), volume.geometry)
    single.array[10:20, 10:20, 10:20] = 1
    single.array[14:16, 14:16, 14:16] = 0
    expected = sitk.GetArrayFromImage(sitk.BinaryFillhole(sitk.GetImageFromArray(single.array), False, 1))
    tidied = clean_copy(single, fill_holes=["liver"])
    assert tidied.sum() > single.array.sum()
    assert np.array_equal(tidied, expected)


def test_a_hole_that_holds_another_organ_keeps_it() -> None:
    volume = mask()
    volume.array[...] = 0
    volume.array[5:20, 5:20, 5:20] = 1
    volume.array[10:14, 10:14, 10:14] = 2
    assert np.array_equal(clean_copy(volume, fill_holes=["all"]), volume.array)


def test_a_class_that_the_model_lacks_is_named() -> None:
    assert CleaningOptions(largest_component=("kidney", "all")).find_unknown(NAMES) == ["kidney"]
