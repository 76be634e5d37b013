"""What a page shows of a case: the right side up in every storage order, the right numbers, and no more than fits."""

from __future__ import annotations

import base64
import zlib
from typing import TYPE_CHECKING, Any

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from scipy.ndimage import maximum_filter, minimum_filter

from tests.viewing.phantom import BACK, BODY, HEAD, LEFT_ARM, ORIENTATIONS, draw_phantom, make_grid, paint
from voxflow.errors import DataError
from voxflow.evaluation.overlap import measure_overlap
from voxflow.geometry import Geometry
from voxflow.viewing.cases import ViewerCase, ViewerLayer, encode_case
from voxflow.viewing.encoding import choose_steps, limit_grid, number_values, quantise
from voxflow.viewing.windows import choose_window, name_unit
from voxflow.volumes import Volume, write_radiograph, write_volume

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

PLENTY = 10_000_000


def unpack(text: str, size: list[int]) -> NDArray[np.uint8]:
    """Voxels (i, j, k) as the page's script gets them."""
    differences = np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8)
    return np.cumsum(differences, dtype=np.uint8).reshape(size[::-1]).transpose(2, 1, 0)


def decode(encoded: dict[str, Any], channel: int = 0) -> NDArray[np.float64]:
    entry = encoded["channels"][channel]
    return np.array(entry["steps"])[unpack(entry["data"], encoded["size"])]


def write_case(folder: Path, volume: Volume, **more: Any) -> ViewerCase:
    write_volume(folder / "image.nii.gz", volume)
    return ViewerCase("a_1", (folder / "image.nii.gz",), **more)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_every_storage_order_shows_the_same_picture(tmp_path: Path, orientation: str) -> None:
    encoded = encode_case(write_case(tmp_path, draw_phantom(orientation)), PLENTY)
    assert encoded["spacing"] == pytest.approx([1.5, 1.0, 2.0])
    # LPS: the first axis to the left, the second to the back, the third to the head.
    assert np.abs(decode(encoded) - draw_phantom("LPS").array).max() < 2
    assert encoded["notes"] == []


@pytest.mark.parametrize("orientation", ["LPS", "PIL", "RAS"])
def test_an_oblique_image_shows_the_same_picture_along_the_patients_axes(tmp_path: Path, orientation: str) -> None:
    encoded = encode_case(write_case(tmp_path, draw_phantom(orientation, turn_degrees=17)), PLENTY)
    assert encoded["notes"] == ["The image is oblique; it is shown along the patient's axes."]
    shown = decode(encoded)
    middle = (np.array(encoded["size"]) - 1) / 2  # the patient's origin
    index = np.stack(np.meshgrid(*(np.arange(n) for n in encoded["size"]), indexing="ij"), -1)
    truth = paint((index - middle) * encoded["spacing"])
    # Away from the borders of the marks, which interpolation softens, and of the box.
    is_inner = maximum_filter(truth, 5) == minimum_filter(truth, 5)
    assert {int(value) for value in np.unique(truth[is_inner])} == {0, BODY, LEFT_ARM, BACK, HEAD}
    assert np.abs(shown - truth)[is_inner].max() < 3


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_sides_agree_with_nibabel_and_simpleitk(tmp_path: Path, orientation: str) -> None:
    case = write_case(tmp_path, draw_phantom(orientation))
    shown = decode(encode_case(case, PLENTY))
    canonical = nibabel.as_closest_canonical(nibabel.load(case.images[0]))
    ras = np.asarray(canonical.dataobj)
    assert np.abs(shown - ras[::-1, ::-1]).max() < 2
    lps = sitk.DICOMOrient(sitk.ReadImage(str(case.images[0])), "LPS")
    assert np.abs(shown - sitk.GetArrayFromImage(lps).transpose(2, 1, 0)).max() < 2


def test_masks_lie_on_their_image_in_every_order(tmp_path: Path) -> None:
    for orientation in ORIENTATIONS:
        volume = draw_phantom(orientation)
        write_volume(tmp_path / "mask.nii.gz", Volume((volume.array == LEFT_ARM).astype(np.uint8), volume.geometry))
        layers = (ViewerLayer("label", tmp_path / "mask.nii.gz"),)
        encoded = encode_case(write_case(tmp_path, volume, layers=layers, classes={"arm": (1,)}), PLENTY)
        mask = unpack(encoded["layers"][0]["data"], encoded["size"])
        assert np.array_equal(mask > 0, np.abs(decode(encoded) - LEFT_ARM) < 2)


def test_dice_and_volumes_are_those_of_the_evaluation(tmp_path: Path) -> None:
    grid = make_grid("RAS")
    draw = np.random.default_rng(0)
    label, prediction = (Volume(draw.integers(0, 4, grid.size).astype(np.uint8), grid) for _ in range(2))
    label.array[:5] = 255
    for name, mask in {"label": label, "prediction": prediction}.items():
        write_volume(tmp_path / f"{name}.nii.gz", mask)
    layers = tuple(ViewerLayer(name, tmp_path / f"{name}.nii.gz") for name in ("label", "prediction"))
    regions = {"whole": (1, 2), "core": (2,), "other": (3,)}
    case = write_case(
        tmp_path, draw_phantom("RAS"), layers=layers, classes=regions, ignore=255, labelled=("whole", "core")
    )
    rows = {row["name"]: row for row in encode_case(case, PLENTY)["classes"]}
    for name in ("whole", "core"):
        expected = measure_overlap(prediction, label, regions[name], ignore=255)
        assert rows[name]["dice"] == [pytest.approx(expected.dice, abs=1e-4)]
        first, second = rows[name]["ml"]
        assert second - first == pytest.approx(expected.volume_error_ml, abs=2e-3)
    assert rows["other"]["dice"] == [None]  # nobody labelled it


def test_a_large_image_is_shown_more_coarsely_and_says_so(tmp_path: Path) -> None:
    encoded = encode_case(write_case(tmp_path, draw_phantom("RAS")), 10_000)
    assert np.prod(encoded["size"]) <= 10_000
    assert encoded["notes"][0].startswith("Shown at ")
    extent = np.array(encoded["size"]) * encoded["spacing"]
    assert extent == pytest.approx([72, 60, 52], abs=0.1)


def test_soft_tissue_keeps_steps_of_3_hu() -> None:
    values = np.arange(-1024, 3000).astype(np.int16)
    steps = choose_steps(values, "HU")
    shown = steps[quantise(values, steps)]
    soft = (values >= -150) & (values <= 250)
    assert np.abs(shown - values)[soft].max() <= 1.6
    assert np.abs(shown - values)[values < 1600].max() <= 15
    assert len(steps) == 256
    assert np.all(np.diff(steps) > 0)


def test_few_integers_stay_exact() -> None:
    values = np.arange(-20, 200).astype(np.int16)
    steps = choose_steps(values, "HU")
    assert np.array_equal(steps[quantise(values, steps)], values)


def test_more_label_values_than_a_page_tells_apart_are_joined() -> None:
    mask = np.repeat(np.arange(400), 1 + np.arange(400)).astype(np.uint16)
    numbers, values = number_values(mask)
    assert len(values) == 252
    assert values[-1] == -1
    assert set(np.unique(numbers[mask < 150])) == {0, 251}


def test_a_grid_that_fits_stays() -> None:
    grid = Geometry.from_parts((10, 10, 10), (1, 1, 1))
    assert limit_grid(grid, 1000) is grid


@pytest.mark.parametrize(
    ("array", "modality", "unit"),
    [
        (np.array([-1000.0, 40, 300]), "", "HU"),
        (np.array([0.0, 8, 20]), "PT", "SUV"),
        (np.array([0.0, 8, 20_000]), "PT", ""),
        (np.array([0.0, 8, 300]), "MR", ""),
        (np.array([-800.0, 0, 300]), "MR", ""),
    ],
)
def test_units_are_named_only_where_they_are_known(array: NDArray[Any], modality: str, unit: str) -> None:
    assert name_unit(array, modality) == unit


def test_a_ct_is_windowed_for_what_is_labelled() -> None:
    image = np.full((4, 4, 4), 40.0)
    mask = np.zeros(image.shape, np.uint8)
    image[0], mask[0] = -850, 1
    assert choose_window(image, "CT", mask).name == "Lung"
    assert choose_window(image, "CT", np.roll(mask, 1, axis=0)).name == "Abdomen"
    assert choose_window(np.abs(image) / 100, "PT").is_inverted


def test_pictures_have_one_plane_and_no_millimetres(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 60_000, (30, 40)).astype(np.uint16)
    write_radiograph(tmp_path / "a.png", pixels)
    encoded = encode_case(ViewerCase("a_1", (tmp_path / "a.png",)), PLENTY)
    assert encoded["flat"] is True
    assert encoded["size"] == [40, 30, 1]
    assert np.abs(decode(encoded)[:, :, 0].T - pixels).max() < 300


def test_values_that_are_no_numbers_are_said(tmp_path: Path) -> None:
    volume = draw_phantom("LPS")
    array = volume.array.astype(np.float32)
    array[0, 0, 0] = np.nan
    encoded = encode_case(write_case(tmp_path, Volume(array, volume.geometry)), PLENTY)
    assert "NaN" in encoded["notes"][0]


def test_a_mask_of_another_grid_is_refused(tmp_path: Path) -> None:
    write_volume(
        tmp_path / "mask.nii.gz", Volume(np.ones((4, 4, 4), np.uint8), Geometry.from_parts((4, 4, 4), (1, 1, 1)))
    )
    case = write_case(tmp_path, draw_phantom("LPS"), layers=(ViewerLayer("label", tmp_path / "mask.nii.gz"),))
    with pytest.raises(DataError, match=r"mask\.nii\.gz"):
        encode_case(case, PLENTY)
