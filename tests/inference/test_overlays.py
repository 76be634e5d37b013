"""Pictures show the slice with most of the organ, upright, in the patient's proportions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from voxflow.colours import CLASS_COLOURS
from voxflow.geometry import Geometry
from voxflow.inference.overlays import (
    RadiographTile,
    draw_contact_sheet,
    find_largest_slice,
    write_contact_sheet,
    write_overlay,
)
from voxflow.viewing import compute_grey_window
from voxflow.volumes import Volume, resample, target_geometry

if TYPE_CHECKING:
    from pathlib import Path

ORGAN = {1: "organ"}


def scene(
    size: tuple[int, int, int] = (40, 20, 8), spacing: tuple[float, float, float] = (1, 2, 5)
) -> tuple[Volume, Volume]:
    geometry = Geometry.from_parts(size, spacing)
    image = np.random.default_rng(0).normal(size=size).astype(np.float32)
    mask = np.zeros(size, np.uint8)
    mask[5:15, 5:10, 5] = 1
    return Volume(image, geometry), Volume(mask, geometry)


def picture(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def drawn(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the image's own area: what is white, in a black frame."""
    inside = (picture(path) > 250).all(axis=2)
    box = inside.mean(axis=1) > 0.3, inside.mean(axis=0) > 0.3
    return np.flatnonzero(box[0]), np.flatnonzero(box[1])


def test_largest_slice_of_a_mask_and_the_middle_of_an_empty_one() -> None:
    assert find_largest_slice(scene()[1].array) == 5
    assert find_largest_slice(np.zeros((3, 3, 9))) == 4


@pytest.mark.parametrize(("size", "spacing", "ratio"), [((40, 20, 8), (1, 2, 5), 1.0), ((40, 20, 8), (1, 1, 5), 2.0)])
def test_pixels_have_the_patients_proportions(
    size: tuple[int, int, int], spacing: tuple[float, float, float], ratio: float, tmp_path: Path
) -> None:
    image, mask = scene(size, spacing)
    empty = Volume(np.zeros(size, np.float32), image.geometry)
    write_overlay(tmp_path / "a.png", empty, mask, ORGAN, title="a", modality="PT")
    rows, columns = drawn(tmp_path / "a.png")
    assert np.ptp(columns) / np.ptp(rows) == pytest.approx(ratio, rel=0.1)


@pytest.mark.parametrize(("modality", "middle"), [("CT", 40.0), ("PT", 5.0)])
def test_a_picture_has_the_window_of_its_modality(modality: str, middle: float, tmp_path: Path) -> None:
    image, mask = scene()
    values = np.where(np.arange(40)[:, None, None] < 20, middle, 200.0) * np.ones(image.array.shape)
    write_overlay(tmp_path / "a.png", Volume(values, image.geometry), mask, ORGAN, modality=modality)
    colours, counts = np.unique(picture(tmp_path / "a.png").reshape(-1, 3), axis=0, return_counts=True)
    usual = {tuple(colour) for colour in colours[np.argsort(counts)[-3:]].tolist()}
    assert any(max(abs(part - 127) for part in colour) <= 2 for colour in usual)


def test_the_picture_is_the_same_however_the_volume_is_stored(tmp_path: Path) -> None:
    image, mask = scene()
    write_overlay(tmp_path / "a.png", image, mask, ORGAN, label=mask, title="case")
    turned = [resample(v, target_geometry(v.geometry, None, "SRA"), "nearest") for v in (image, mask)]
    write_overlay(tmp_path / "b.png", turned[0], turned[1], ORGAN, label=turned[1], title="case")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_an_empty_prediction_is_drawn_without_contours(tmp_path: Path) -> None:
    image, mask = scene()
    write_overlay(tmp_path / "a.png", image, Volume(np.zeros_like(mask.array), mask.geometry), ORGAN, label=mask)
    assert picture(tmp_path / "a.png").shape[2] == 3


def test_grey_window_ignores_the_brightest_and_copes_with_flat_images() -> None:
    image = np.zeros((64, 64, 4))
    image[:32] = 1
    image[0, 0, 0] = 1e6
    assert compute_grey_window(image) == (0, 1)
    assert compute_grey_window(np.full((4, 4, 4), 7.0)) == (7, 8)


def test_long_titles_of_a_contact_sheet_stay_above_their_tiles() -> None:
    title = "5e327dbd957b26a3_1\neffusion 0.97\ntruth: mass + effusion + cardiomegaly + pneumothorax"
    wide = "0123456789abcdef0123456789abcdef\nENLARGED_CARDIOMEDIASTINUM_IN_AP_VIEW 0.97"
    sheet = draw_contact_sheet([RadiographTile(np.eye(30), title), RadiographTile(np.eye(30), wide)] * 4)
    renderer = FigureCanvasAgg(sheet).get_renderer()
    sheet.draw_without_rendering()
    boxes = [axes.title.get_window_extent(renderer) for axes in sheet.axes]
    pictures = [axes.get_window_extent(renderer) for axes in sheet.axes]
    for number, box in enumerate(boxes):
        assert box.x0 >= 0
        assert box.x1 <= sheet.bbox.x1
        others = [*boxes[:number], *boxes[number + 1 :], *pictures]
        assert not any(box.overlaps(other) for other in others), number


def test_the_sides_of_the_patient_stand_at_the_edges(tmp_path: Path) -> None:
    image, mask = scene((80, 80, 8), (2, 2, 5))
    empty = Volume(np.zeros_like(image.array), image.geometry)
    write_overlay(tmp_path / "a.png", empty, mask, ORGAN, modality="PT")
    rows, columns = drawn(tmp_path / "a.png")
    # The letters are white with a black outline, on images of any grey.
    letters = picture(tmp_path / "a.png").max(axis=2)[rows[0] : rows[-1], columns[0] : columns[-1]] < 60
    height, width = letters.shape
    for box in (
        letters[height * 4 // 10 : height * 6 // 10, : width // 15],
        letters[height * 4 // 10 : height * 6 // 10, -width // 15 :],
        letters[: height // 15, width * 4 // 10 : width * 6 // 10],
        letters[-height // 15 :, width * 4 // 10 : width * 6 // 10],
    ):
        assert box.any()


def test_contact_sheet_holds_its_tiles(tmp_path: Path) -> None:
    write_contact_sheet(tmp_path / "sheet.png", [RadiographTile(np.eye(30), f"case {n}") for n in range(5)])
    assert picture(tmp_path / "sheet.png").shape[0] > 400


@pytest.mark.parametrize("name", ["_organ", "$x^{", "a$b$c", "o" * 200, "#1 <b>"])
def test_names_are_drawn_as_they_are(name: str, tmp_path: Path) -> None:
    image, mask = scene()
    write_overlay(tmp_path / "a.png", image, mask, {1: name}, label=mask, title=name)
    write_overlay(tmp_path / "b.png", image, mask, {1: "other"}, label=mask, title=name)
    assert (picture(tmp_path / "a.png") != picture(tmp_path / "b.png")).any()
    write_contact_sheet(tmp_path / "sheet.png", [RadiographTile(np.zeros((4, 4)), name)])


def test_a_region_has_one_outline_around_all_of_its_values(tmp_path: Path) -> None:
    image, mask = scene()
    black = Volume(np.zeros_like(image.array), image.geometry)
    mask.array[mask.array > 0] = 3
    mask.array[8:11, 6:8, 5] = 5
    names, regions = {3: "whole", 5: "whole + core"}, {"whole": (3, 5), "core": (5,)}
    write_overlay(tmp_path / "regions.png", black, mask, names, regions=regions)
    colours = {
        tuple(int(colour[n : n + 2], 16) for n in (1, 3, 5)): n for n, colour in enumerate(CLASS_COLOURS, start=1)
    }
    shown = {colours.get(tuple(pixel)) for pixel in picture(tmp_path / "regions.png").reshape(-1, 3)} - {None}
    assert shown == {1, 2}
    write_overlay(tmp_path / "values.png", black, mask, names)
    shown = {colours.get(tuple(pixel)) for pixel in picture(tmp_path / "values.png").reshape(-1, 3)} - {None}
    assert shown == {3, 5}
