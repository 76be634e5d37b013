"""nnU-Net's preparation of an image, against the formulas that it is made of."""

from __future__ import annotations

from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, map_coordinates, zoom

from voxflow.errors import DataError
from voxflow.geometry import Geometry
from voxflow.prediction.nnunet import (
    compute_nnunet_importance,
    find_separate_axis,
    list_positions,
    make_spline_matrix,
    prepare_nnunet,
)
from voxflow.prediction.windows import plan_windows
from voxflow.spec import ModelSpec, NnunetNormalisation, NnunetResampling, NnunetSteps
from voxflow.volumes import Volume


def make_spec(
    *,
    axes: tuple[int, int, int] = (2, 1, 0),
    spacing: tuple[float | None, float | None, float | None] = (1.0, 1.0, 1.0),
    normalisation: tuple[NnunetNormalisation, ...] = (NnunetNormalisation(scheme="NoNormalization"),),
    separate_z: bool | None = None,
    orientation: str | None = None,
) -> ModelSpec:
    steps = NnunetSteps(
        axes=axes,
        spacing_mm=spacing,
        normalisation=normalisation,
        image=NnunetResampling(order=3, separate_z=separate_z),
        logits=NnunetResampling(order=1, separate_z=separate_z),
    )
    return ModelSpec(
        task="segmentation",
        in_channels=len(normalisation),
        class_names=("background", "liver"),
        activation="softmax",
        window=(8, 8, 8),
        overlap=0.5,
        orientation=orientation,
        nnunet=steps,
    )


def make_volume(size: tuple[int, int, int], spacing: tuple[float, float, float], *, zeros: int = 0) -> Volume:
    array = np.random.default_rng(3).normal(50, 20, size).astype(np.float32)
    array[:zeros] = 0
    return Volume(array, Geometry.from_parts(size, spacing, (3, -4, 5)))


def resize(array: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """What skimage.transform.resize does with order 3, mode "edge" and no smoothing."""
    factors = [1 / (old / new) for old, new in zip(array.shape, size, strict=True)]
    resized = zoom(array.astype(np.float64), factors, order=3, mode="nearest", grid_mode=True)
    return np.asarray(np.clip(resized, array.min(), array.max()))


def test_an_image_is_turned_cropped_and_resampled() -> None:
    volume = make_volume((12, 10, 9), (1.5, 0.8, 1.2), zeros=4)
    prepared = prepare_nnunet([volume], make_spec())
    turned = volume.array[4:].transpose(2, 1, 0)
    expected = resize(turned, (11, 8, 12))
    assert prepared.image.shape == (1, 11, 8, 12)
    np.testing.assert_allclose(prepared.image[0], expected, atol=2e-3)
    assert prepared.grid.spacing == pytest.approx((1.2 * 9 / 11, 0.8 * 10 / 8, 1.0))
    inserted = prepared.place.insert(np.ones(prepared.cropped.size, dtype=np.uint8))
    assert inserted.shape == volume.array.shape
    assert not inserted[:4].any()
    assert inserted[4:].all()


def test_a_coarse_axis_is_resampled_by_itself() -> None:
    volume = make_volume((10, 12, 4), (1.3, 1.1, 5.0))
    spec = make_spec(spacing=(2.5, 1.0, 1.0))
    prepared = prepare_nnunet([volume], spec)
    turned = volume.array.transpose(2, 1, 0)
    planes = np.stack([resize(plane, (13, 13)) for plane in turned])
    positions = np.meshgrid(0.5 * (np.arange(8) + 0.5) - 0.5, np.arange(13), np.arange(13), indexing="ij")
    expected = map_coordinates(planes, positions, order=0, mode="nearest")
    np.testing.assert_allclose(prepared.image[0], expected, atol=2e-3)
    back = list_positions(prepared.grid, prepared.cropped, spec)
    # Halves are rounded up, as map_coordinates does.
    assert back[0].tolist() == [1, 3, 5, 7]
    assert back[1] == pytest.approx(np.clip(13 / 12 * (np.arange(12) + 0.5) - 0.5, 0, 12))


def test_a_network_of_planes_keeps_the_spacing_across_them() -> None:
    prepared = prepare_nnunet([make_volume((10, 12, 4), (1.3, 1.1, 5.0))], make_spec(spacing=(None, 1.0, 1.0)))
    assert prepared.image.shape == (1, 4, 13, 13)


def test_a_turned_image_is_turned_back() -> None:
    volume = make_volume((6, 5, 4), (1, 1, 1))
    prepared = prepare_nnunet([volume], make_spec(orientation="RAS"))
    np.testing.assert_array_equal(prepared.image[0], volume.array[::-1, ::-1].transpose(2, 1, 0))
    np.testing.assert_array_equal(prepared.place.insert(prepared.image[0]), volume.array)


@pytest.mark.parametrize("axes", [(2, 1, 0), (1, 2, 0), (0, 2, 1), (2, 0, 1)])
def test_what_is_inserted_lies_where_it_was_taken_from(axes: tuple[int, int, int]) -> None:
    volume = make_volume((6, 5, 4), (1, 1, 1), zeros=2)
    prepared = prepare_nnunet([volume], make_spec(axes=axes, orientation="RPS"))
    np.testing.assert_array_equal(prepared.place.insert(prepared.image[0]), volume.array)


def test_values_are_scaled_as_nnunet_scales_them() -> None:
    volume = make_volume((6, 5, 4), (1, 1, 1))
    volume.array[2:4, 2:3, 1:3] = 0  # enclosed: inside
    volume.array[0, 0, 0] = 0
    schemes = [
        NnunetNormalisation(scheme="CTNormalization", mean=40, std=10, percentile_00_5=20, percentile_99_5=60),
        NnunetNormalisation(scheme="ZScoreNormalization"),
        NnunetNormalisation(scheme="ZScoreNormalization", uses_mask=True),
        NnunetNormalisation(scheme="RescaleTo01Normalization"),
        NnunetNormalisation(scheme="NoNormalization"),
    ]
    spec = make_spec(normalisation=tuple(schemes))
    image = prepare_nnunet([volume] * 5, spec).image.transpose(0, 3, 2, 1)
    array, is_inside = volume.array.astype(np.float64), np.ones(volume.array.shape, dtype=bool)
    is_inside[0, 0, 0] = False
    masked = np.where(is_inside, (array - array[is_inside].mean()) / array[is_inside].std(), array)
    expected = [
        (np.clip(array, 20, 60) - 40) / 10,
        (array - array.mean()) / array.std(),
        masked,
        (array - array.min()) / (array.max() - array.min()),
        array,
    ]
    for received, values in zip(image, expected, strict=True):
        np.testing.assert_allclose(received, values, atol=1e-4)


def test_colours_outside_of_their_range_are_refused() -> None:
    scheme = NnunetNormalisation(scheme="RGBTo01Normalization")
    volume = make_volume((6, 5, 4), (1, 1, 1))
    volume.array[0, 0, 0] = 300
    with pytest.raises(DataError, match="takes colours from 0 to 255"):
        prepare_nnunet([volume], make_spec(normalisation=(scheme,)))


def test_an_empty_image_is_not_cropped() -> None:
    volume = Volume(np.zeros((6, 5, 4), dtype=np.int16), Geometry.from_parts((6, 5, 4), (1, 1, 1)))
    assert prepare_nnunet([volume], make_spec()).image.shape == (1, 4, 5, 6)


@pytest.mark.parametrize(("have", "need"), list(product((1, 2, 5, 40), (1, 3, 7, 90))))
def test_matrices_are_scipys_zoom(have: int, need: int) -> None:
    matrix = make_spline_matrix(have, need, 3)
    values = np.random.default_rng(0).normal(size=have)
    if matrix is None:
        assert have == need
        return
    expected = zoom(values, 1 / (have / need), order=3, mode="nearest", grid_mode=True)
    np.testing.assert_allclose(matrix @ values, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("now", "wanted", "expected"),
    [
        ((1, 1, 1), (1, 1, 1), None),
        ((3, 1, 1), (1, 1, 1), None),  # the ratio must be exceeded
        ((3.5, 1, 1), (1, 1, 1), 0),
        ((1, 1, 1), (1, 1, 4), 2),
        ((5, 5, 1), (1, 1, 1), None),  # two coarse axes
    ],
)
def test_the_coarse_axis_is_found(now: tuple[float, ...], wanted: tuple[float, ...], expected: int | None) -> None:
    assert find_separate_axis(now, wanted, NnunetResampling(order=3)) == expected
    assert find_separate_axis(now, wanted, NnunetResampling(order=3, separate_z=False)) is None


def test_windows_count_as_scipys_gaussian_has_it() -> None:
    window = (12, 7, 20)
    point = np.zeros(window)
    point[6, 3, 10] = 1
    weight = gaussian_filter(point, [side / 8 for side in window], 0, mode="constant", cval=0)
    half = (weight / weight.max() * 10).astype(np.float16)
    half[half == 0] = half[half > 0].min()
    np.testing.assert_allclose(compute_nnunet_importance(window), half.astype(np.float32), rtol=1e-3, atol=1e-7)


def test_windows_lie_where_nnunet_lays_them() -> None:
    engine = SimpleNamespace(spec=make_spec(), is_local=True, smallest=None, largest=None, batch=2)
    plan = plan_windows((19, 8, 5), engine)  # type: ignore[arg-type]
    assert plan.window == (8, 8, 8)
    assert plan.starts == ((0, 4, 7, 11), (0,), (0,))
    assert plan.before == (0, 0, 1)
