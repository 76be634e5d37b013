"""A volume comes back on the grid that it came from, and what the network says lies where it belongs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import pytest
import SimpleITK as sitk
from scipy.ndimage import map_coordinates

from tests.inference.models import BrightnessEngine, ThresholdEngine, radiograph_spec, volume_spec
from voxflow.errors import DataError
from voxflow.geometry import Geometry
from voxflow.prediction import (
    PredictOptions,
    label_names,
    logits_to_labels,
    predict_prepared,
    predict_radiograph,
    predict_volume,
    prepare_image,
)
from voxflow.prediction.cleaning import CleaningOptions, clean_mask
from voxflow.prediction.grids import resample_to_network
from voxflow.prediction.mirroring import Axis, MirroringEngine
from voxflow.prediction.native_grid import NativeGridRestorer
from voxflow.spec import TransformSpec
from voxflow.volumes import Volume

if TYPE_CHECKING:
    from voxflow.prediction.windows import Plan
    from voxflow.spec import ModelSpec

WAYS: tuple[Literal["labels", "probabilities"], ...] = ("labels", "probabilities")
ORIENTATIONS = ("LPS", "RAS", "SPL", "ASR", "ILA")


def blob(spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> Volume:
    """An ellipsoid off the centre, smooth across its border, on an LPS grid with an odd origin."""
    size = [int(40 / mm) + n for n, mm in enumerate(spacing)]
    axes = np.meshgrid(*(np.arange(n) * mm for n, mm in zip(size, spacing, strict=True)), indexing="ij")
    away = sum(((x - c) / r) ** 2 for x, c, r in zip(axes, (15, 22, 18), (9, 12, 10), strict=True))
    return Volume((1 / (1 + away**2)).astype(np.float32), Geometry.from_parts(size, spacing, (-12.5, 30.25, 7)))


def turn(volume: Volume, orientation: str) -> Volume:
    """The same image stored along other axes, by SimpleITK."""
    return Volume.from_sitk(sitk.DICOMOrient(volume.to_sitk(), orientation))


def border(mask: np.ndarray) -> np.ndarray:
    """The voxels on both sides of the mask's surface."""
    image = sitk.GetImageFromArray(mask.astype(np.uint8))
    grown, shrunk = sitk.BinaryDilate(image, [1, 1, 1]), sitk.BinaryErode(image, [1, 1, 1])
    return np.asarray(sitk.GetArrayFromImage(grown) != sitk.GetArrayFromImage(shrunk))


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.8, 0.9, 3.0)])
@pytest.mark.parametrize("way_back", ["labels", "probabilities"])
def test_mask_lies_on_the_thresholded_image(
    orientation: str, spacing: tuple[float, float, float], way_back: str
) -> None:
    image = turn(blob(spacing), orientation)
    spec = volume_spec(spacing_mm=(1.5, 1.25, 2.0), orientation="RAS")
    mask = predict_volume(ThresholdEngine(spec), image, PredictOptions.model_validate({"back": way_back})).mask
    assert mask.geometry.is_close(image.geometry)
    expected = image.array > 0.5
    assert np.array_equal(mask.array[~border(expected)] > 0, expected[~border(expected)])


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_turning_alone_loses_no_voxel(orientation: str) -> None:
    image = turn(blob(), orientation)
    mask = predict_volume(ThresholdEngine(volume_spec(orientation="LPS")), image).mask
    assert np.array_equal(mask.array, image.array > 0.5)


def test_oblique_images_keep_their_direction() -> None:
    image = blob()
    tilt = np.deg2rad(20)
    direction = [np.cos(tilt), -np.sin(tilt), 0, np.sin(tilt), np.cos(tilt), 0, 0, 0, 1]
    oblique = Volume(image.array, Geometry.from_parts(image.geometry.size, (1, 1, 1), (3, 4, 5), direction))
    spec = volume_spec(orientation="RAS", spacing_mm=(1, 1, 1))
    mask = predict_volume(ThresholdEngine(spec), oblique).mask
    assert mask.geometry.is_close(oblique.geometry)
    assert np.array_equal(mask.array, oblique.array > 0.5)


def test_voxels_beyond_the_networks_last_centre_are_kept() -> None:
    image = Volume(np.ones((21, 21, 21), np.float32), Geometry.from_parts((21, 21, 21), (1, 1, 1)))
    mask = predict_volume(ThresholdEngine(volume_spec(spacing_mm=(4, 4, 4))), image).mask
    assert mask.array.all()


def test_way_back_is_simpleitks_nearest_neighbour() -> None:
    from voxflow.prediction.grids import resample_labels

    source = turn(blob((2.1, 1.7, 2.9)), "ASR")
    labels = Volume((source.array * 7).astype(np.uint8), source.geometry)
    target = blob((0.9, 1.3, 2.2)).geometry
    reference = sitk.Resample(
        labels.to_sitk(),
        Volume(np.zeros(target.size, np.uint8), target).to_sitk(),
        sitk.Transform(),
        sitk.sitkNearestNeighbor,
    )
    inside = sitk.Resample(
        Volume(np.ones(labels.array.shape, np.uint8), labels.geometry).to_sitk(),
        reference,
        sitk.Transform(),
        sitk.sitkNearestNeighbor,
    )
    covered = Volume.from_sitk(inside).array > 0
    assert np.array_equal(resample_labels(labels, target).array[covered], Volume.from_sitk(reference).array[covered])


@pytest.mark.parametrize("orientation", ["LPS", "SPL", "ASR"])
@pytest.mark.parametrize("plan", ["whole", "windows"])
def test_probabilities_come_back_as_scipy_interpolates_them(orientation: str, plan: Plan) -> None:
    image = turn(blob((1.1, 0.9, 1.3)), "LPS")
    spec = volume_spec(spacing_mm=(1.5, 1.25, 2.0), orientation=orientation)
    prepared = prepare_image([image], spec)
    probabilities = 1 / (1 + np.exp(0.5 - prepared.image[0].astype(np.float64)))
    to_source = np.linalg.solve(prepared.grid.affine, image.geometry.affine)
    index = np.indices(image.geometry.size).reshape(3, -1)
    at = to_source[:3, :3] @ index + to_source[:3, 3:]
    expected = map_coordinates(probabilities, at, order=1, mode="nearest").reshape(image.geometry.size)
    predicted = predict_prepared(ThresholdEngine(spec), prepared, PredictOptions(back="probabilities", plan=plan))
    clear = np.abs(expected - 0.5) > 1e-5
    assert np.array_equal(predicted.mask.array[clear] > 0, expected[clear] > 0.5)


class Slopes(ThresholdEngine):
    """Answers with logits that rise and fall across the window, a little noise, and as many classes as asked for."""

    def run(self, batch: np.ndarray) -> np.ndarray:
        random = np.random.default_rng(0)
        places = np.stack(np.meshgrid(*(np.arange(n) for n in batch.shape[2:]), indexing="ij")).astype(np.float32)
        waves = [np.sin(np.tensordot(random.normal(size=3) / 3, places, 1)) for _ in self.spec.class_names]
        logits = 3 * np.stack(waves) + random.normal(size=(len(waves), *batch.shape[2:])) / 4
        return logits[None].astype(np.float32)


SEVERAL = [("softmax", ("background", "a", "b", "c")), ("sigmoid", ("a", "b")), ("sigmoid", ("background", "a", "b"))]


@pytest.mark.parametrize(("activation", "names"), [*SEVERAL, ("softmax", ("background", "a")), ("sigmoid", ("a",))])
@pytest.mark.parametrize("spacing", [(1.5, 1.25, 2.0), (0.6, 3.0, 1.3)])
def test_the_strongest_class_is_that_of_every_class_interpolated(
    activation: str, names: tuple[str, ...], spacing: tuple[float, float, float]
) -> None:
    spec = volume_spec(
        spacing_mm=spacing, orientation="SPL", activation=activation, class_names=names, divisor=1, window=(8, 8, 8)
    )
    image = turn(blob((1.1, 0.9, 1.3)), "RAS")
    prepared = prepare_image([image], spec)
    logits = Slopes(spec).run(prepared.image[None])[0].astype(np.float64)
    scores = 1 / (1 + np.exp(-logits)) if activation == "sigmoid" else np.exp(logits) / np.exp(logits).sum(axis=0)
    to_source = np.linalg.solve(prepared.grid.affine, image.geometry.affine)
    at = to_source[:3, :3] @ np.indices(image.geometry.size).reshape(3, -1) + to_source[:3, 3:]
    interpolated = np.stack([map_coordinates(channel, at, order=1, mode="nearest") for channel in scores])
    first = int(activation == "sigmoid" and names[0] != "background")
    expected = interpolated.argmax(axis=0) + first
    best = np.sort(np.concatenate([interpolated, np.zeros((1, interpolated.shape[1]))]), axis=0)[-2:]
    clear = best[1] - best[0] > 1e-5
    if activation == "sigmoid":
        expected[best[1] <= 0.5] = 0
        clear &= abs(best[1] - 0.5) > 1e-5
    options = PredictOptions(back="probabilities", plan="whole")
    mask = predict_prepared(Slopes(spec), prepared, options).mask.array.ravel()
    assert clear.mean() > 0.99
    assert len(np.unique(expected)) >= len(names)
    assert np.array_equal(mask[clear], expected[clear])


NESTED = {"whole tumour": (1, 2, 4), "tumour core": (1, 4), "enhancing tumour": (4,)}
OVERLAPPING = {"liver": (1, 3), "tumour": (2, 3)}


def region_spec(regions: dict[str, tuple[int, ...]], **changes: object) -> ModelSpec:
    """A model of regions."""
    values = tuple(regions.values())
    return volume_spec(activation="sigmoid", class_names=tuple(regions), regions=values, divisor=1, **changes)


@pytest.mark.parametrize(
    ("regions", "expected"),
    [
        # Each row: is in the first, the second, the third region; then the value.
        (NESTED, {(0, 0, 0): 0, (1, 0, 0): 2, (1, 1, 0): 1, (1, 1, 1): 4, (0, 1, 0): 1, (1, 0, 1): 4, (0, 0, 1): 4}),
        (OVERLAPPING, {(0, 0): 0, (1, 0): 1, (0, 1): 2, (1, 1): 3}),
        ({"organ": (1,), "apart": (2,)}, {(1, 0): 1, (0, 1): 2, (1, 1): 2}),
        ({"only": (7,)}, {(0,): 0, (1,): 7}),
    ],
)
def test_regions_get_the_value_that_belongs_to_them(
    regions: dict[str, tuple[int, ...]], expected: dict[tuple[int, ...], int]
) -> None:
    logits = np.array([[1.0 if inside else -1.0 for inside in members] for members in expected]).T
    labels = logits_to_labels(logits, region_spec(regions))
    assert labels.tolist() == list(expected.values())


@pytest.mark.parametrize("regions", [NESTED, OVERLAPPING, {"only": (7,)}])
@pytest.mark.parametrize("spacing", [(1.5, 1.25, 2.0), (0.6, 3.0, 1.3)])
def test_regions_come_back_as_each_is_interpolated(
    regions: dict[str, tuple[int, ...]], spacing: tuple[float, float, float]
) -> None:
    spec = region_spec(regions, spacing_mm=spacing, orientation="SPL", window=(8, 8, 8))
    image = turn(blob((1.1, 0.9, 1.3)), "RAS")
    prepared = prepare_image([image], spec)
    probabilities = 1 / (1 + np.exp(-Slopes(spec).run(prepared.image[None])[0].astype(np.float64)))
    to_source = np.linalg.solve(prepared.grid.affine, image.geometry.affine)
    at = to_source[:3, :3] @ np.indices(image.geometry.size).reshape(3, -1) + to_source[:3, 3:]
    interpolated = np.stack([map_coordinates(channel, at, order=1, mode="nearest") for channel in probabilities])
    clear = (abs(interpolated - 0.5) > 1e-5).all(axis=0)
    options = PredictOptions(back="probabilities", plan="whole")
    mask = predict_prepared(Slopes(spec), prepared, options).mask.array.ravel()
    is_known = np.zeros_like(clear)
    for value in [0, *{value for values in regions.values() for value in values}]:
        pattern = np.array([value in values for values in regions.values()])
        has_pattern = ((interpolated > 0.5) == pattern[:, None]).all(axis=0) & clear
        assert (mask[has_pattern] == value).all()
        is_known |= has_pattern
    assert is_known.mean() > 0.4


@pytest.mark.parametrize(
    ("activation", "names"), [*SEVERAL, ("softmax", ("background", "a")), ("sigmoid", tuple(NESTED))]
)
def test_blocks_come_back_as_the_whole_does(activation: str, names: tuple[str, ...]) -> None:
    image = blob((1.1, 0.9, 1.3))
    regions = tuple(NESTED.values()) if names == tuple(NESTED) else ()
    spec = volume_spec(
        spacing_mm=(1.5, 1.25, 2.0), orientation="SPL", activation=activation, class_names=names, regions=regions
    )
    prepared = prepare_image([image], spec)
    logits = np.random.default_rng(0).normal(size=(len(names), *prepared.grid.size)).astype(np.float32)
    mask = {}
    for blocks in (1, 4):
        native, total = (
            NativeGridRestorer(prepared.grid, prepared.native, spec, 0, 2),
            np.full(prepared.native.size, 99),
        )
        edges = np.linspace(0, prepared.grid.size[2], blocks + 1).astype(int).tolist()
        for block in map(slice, edges, edges[1:]):
            needed, block_restorer = native.block(block)
            for part in (slice(0, 7), slice(7, 8), slice(8, prepared.grid.size[0])):
                passing = logits[:, part, :, needed].copy()
                for box, labels in block_restorer.labels(part, passing):
                    total[box] = labels
                passing[:] = np.nan  # its memory is used for the next
        mask[blocks] = total
    assert mask[1].max() < 99
    assert np.array_equal(mask[1], mask[4])


def test_where_the_grids_are_one_nothing_is_interpolated() -> None:
    spec = volume_spec(orientation="SPL", class_names=("background", "a", "b"))
    prepared = prepare_image([blob()], spec)
    assert NativeGridRestorer(prepared.grid, prepared.native, spec, 0, 1).is_exact
    first, second = (
        predict_prepared(Slopes(spec), prepared, PredictOptions(back=method)).mask.array for method in WAYS
    )
    assert np.array_equal(first, second)


def test_grids_that_are_rotated_against_each_other_are_refused() -> None:
    from voxflow.prediction.grids import resample_labels

    image = blob()
    tilted = Geometry.from_parts((40, 40, 40), (1, 1, 1), direction=[0.8, -0.6, 0, 0.6, 0.8, 0, 0, 0, 1])
    with pytest.raises(DataError, match="rotated against each other"):
        resample_labels(Volume(image.array.astype(np.uint8), image.geometry), tilted)


def test_preprocessing_travels_with_the_model() -> None:
    scale = {"fields": ["image"], "a_min": 0, "a_max": 1, "b_min": 0, "b_max": 10}
    spec = volume_spec(preprocess=(TransformSpec(name="ScaleIntensityRange", args=scale),))
    image = blob()
    mask = predict_volume(ThresholdEngine(spec, threshold=5), image).mask
    assert np.array_equal(mask.array, image.array > 0.5)


def test_several_channels_are_brought_to_the_first_ones_grid() -> None:
    image = blob()
    engine = ThresholdEngine(volume_spec(in_channels=2))
    mask = predict_volume(engine, [image, turn(image, "RAS")]).mask
    assert engine.shapes[0][1] == 2
    assert np.array_equal(mask.array, image.array > 0.5)


def test_wrong_number_of_channels_is_named() -> None:
    with pytest.raises(DataError, match=r"takes 2 channel\(s\), the image has 1"):
        predict_volume(ThresholdEngine(volume_spec(in_channels=2)), blob())


def test_a_classifier_segments_no_volume() -> None:
    with pytest.raises(DataError, match="the model does classification"):
        predict_volume(BrightnessEngine(), blob())


def test_radiograph_gets_a_probability_a_class() -> None:
    probabilities = predict_radiograph(BrightnessEngine(), np.full((64, 48), 120, np.uint16))
    assert probabilities == pytest.approx({"mass": 1 / (1 + np.exp(-1)), "nodule": 1 / (1 + np.exp(3))}, abs=1e-5)


def test_a_radiographs_answer_is_the_mean_over_its_mirror_images() -> None:
    class Corner(BrightnessEngine):
        """Answers with the first pixel, and its negative."""

        def run(self, batch: np.ndarray) -> np.ndarray:
            return np.stack([batch[:, 0, 0, 0], -batch[:, 0, 0, 0]], axis=1)

    image = np.zeros((32, 32), np.uint16)
    image[0, 0], image[0, -1], image[-1, 0], image[-1, -1] = 1, 2, 3, 6
    answers: list[tuple[list[Axis], float]] = [([], 1.0), (["j"], 1.5), (["i"], 2.0), (["i", "j"], 3.0)]
    for flips, mean in answers:
        assert predict_radiograph(Corner(), image, flips)["mass"] == pytest.approx(1 / (1 + np.exp(-mean)), rel=1e-5)
    with pytest.raises(DataError, match="a radiograph has the axes i"):
        predict_radiograph(Corner(), image, ("k",))


def sigmoid(names: tuple[str, ...]) -> ModelSpec:
    return volume_spec(activation="sigmoid", class_names=names)


def test_sigmoid_without_a_background_channel_counts_labels_from_one() -> None:
    logits = np.array([[-1.0, 2.0, 1.0], [-2.0, -1.0, 3.0]], np.float32)
    spec = sigmoid(("core", "edema"))
    assert logits_to_labels(logits, spec).tolist() == [0, 1, 2]
    assert label_names(spec) == {1: "core", 2: "edema"}
    assert label_names(sigmoid(("background", "organ"))) == {1: "organ"}
    assert radiograph_spec().out_channels == 2


def test_flips_average_the_answers_to_every_mirror_image() -> None:
    class Leaning(ThresholdEngine):
        """Answers by where a voxel lies in what it is shown."""

        def run(self, batch: np.ndarray) -> np.ndarray:
            i, j = np.meshgrid(np.arange(batch.shape[2]), np.arange(batch.shape[3]), indexing="ij")
            ramp = np.broadcast_to((i + 10 * j)[None, None, :, :, None], batch.shape).astype(np.float32)
            return np.concatenate([np.zeros_like(ramp), ramp], axis=1)

    batch = np.zeros((1, 1, 3, 4, 2), np.float32)
    once = Leaning().run(batch)[0, 1]
    flipped = MirroringEngine(Leaning(), ("j", "i")).run(batch)[0, 1]
    expected = np.mean([once, once[::-1], once[:, ::-1], once[::-1, ::-1]], axis=0)
    assert np.allclose(flipped, expected)
    assert np.allclose(MirroringEngine(Leaning(), ("i",)).run(batch)[0, 1], (once + once[::-1]) / 2)


def test_cleaning_is_done_on_the_native_grid() -> None:
    image = blob()
    image.array[1:3, 1:3, 1:3] = 1
    options = PredictOptions.model_validate({"clean": {"largest_component": ["all"]}})
    mask = predict_volume(ThresholdEngine(volume_spec()), image, options).mask.array
    assert mask[1, 1, 1] == 0
    assert mask.sum() == (blob().array > 0.5).sum()


def test_cleaning_takes_a_region_as_a_whole() -> None:
    labels = np.zeros((12, 4, 4), np.uint8)
    labels[0:5], labels[2:3], labels[8:10] = 2, 4, 4  # a tumour with its core, and an island of core
    mask = Volume(labels, Geometry.from_parts(labels.shape, (1, 1, 1)))
    clean_mask(mask, NESTED, CleaningOptions(largest_component=("whole tumour",)))
    assert mask.array[:, 0, 0].tolist() == [2, 2, 4, 2, 2, 0, 0, 0, 0, 0, 0, 0]


def test_cleaning_names_a_class_that_the_model_lacks() -> None:
    options = PredictOptions.model_validate({"clean": {"fill_holes": ["kidney"]}})
    with pytest.raises(DataError, match=r"clean: no class kidney; the model has organ"):
        predict_volume(ThresholdEngine(), blob(), options)


def test_the_grid_of_centres_is_that_of_monais_spacing() -> None:
    from monai.data import MetaTensor
    from monai.transforms import Spacing

    image = blob((0.8, 0.9, 3.0))
    ours = resample_to_network(image, volume_spec(spacing_mm=(1.5, 1.25, 2.0)).model_copy(update={"extent": "centres"}))
    resampled = Spacing((1.5, 1.25, 2.0))(MetaTensor(image.array[None], affine=image.geometry.affine_ras))
    assert resampled.shape[1:] == ours.array.shape
    assert np.allclose(resampled.affine, ours.geometry.affine_ras, atol=1e-6)
    inside = tuple(slice(0, n - 1) for n in ours.array.shape)  # beyond the last centre MONAI repeats the border
    assert np.allclose(resampled[0][inside], ours.array[inside], atol=1e-4)


def test_an_image_of_no_numbers_is_refused() -> None:
    image = blob()
    image.array[3, 3, 3] = np.nan
    with pytest.raises(DataError, match="NaN or infinite"):
        predict_volume(ThresholdEngine(), image)
