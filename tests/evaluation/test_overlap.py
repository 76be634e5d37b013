"""Overlap measures equal MONAI's and SimpleITK's; empty masks follow the documented rule."""

from __future__ import annotations

import math

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from monai.metrics import compute_dice, compute_hausdorff_distance, compute_iou, compute_surface_dice

from voxflow.errors import DataError
from voxflow.evaluation.overlap import measure_overlap
from voxflow.geometry import Geometry
from voxflow.volumes import Volume

SPACING = (0.8, 1.1, 3.0)


def ball(centre: tuple[float, float, float], radius: float) -> Volume:
    grid = np.meshgrid(*(np.arange(n) * mm for n, mm in zip((48, 40, 20), SPACING, strict=True)), indexing="ij")
    inside = sum((x - c) ** 2 for x, c in zip(grid, centre, strict=True)) < radius**2
    return Volume(inside.astype(np.uint8), Geometry.from_parts((48, 40, 20), SPACING))


PAIRS = [((20, 20, 30), 9, (22, 19, 33), 11), ((5, 20, 30), 9, (30, 22, 28), 8), ((0, 0, 0), 12, (4, 2, 3), 9)]


# MONAI 1.6 calls its own deprecated argument.
@pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")
@pytest.mark.parametrize(("first", "radius", "second", "moved"), PAIRS)
def test_measures_are_monais(first: tuple[float, ...], radius: float, second: tuple[float, ...], moved: float) -> None:
    mask, reference = ball(first, radius), ball(second, moved)  # type: ignore[arg-type]
    overlap = measure_overlap(mask, reference, 1)
    a, b = (torch.from_numpy(volume.array[None, None]) for volume in (mask, reference))
    assert overlap.dice == pytest.approx(float(compute_dice(a, b)), abs=1e-6)
    assert overlap.jaccard == pytest.approx(float(compute_iou(a, b)), abs=1e-6)
    distance = compute_hausdorff_distance(a, b, include_background=True, percentile=95, spacing=list(SPACING))
    assert overlap.hd95_mm == pytest.approx(float(distance), abs=1e-3)
    for tolerance in (0.5, 2.0, 4.0):
        agreed = compute_surface_dice(a, b, [tolerance], include_background=True, spacing=list(SPACING))
        assert measure_overlap(mask, reference, 1, tolerance).surface_dice == pytest.approx(float(agreed), abs=1e-6)
    assert overlap.remark == ""


def test_dice_and_volume_are_simpleitks() -> None:
    mask, reference = ball((20, 20, 30), 9), ball((22, 19, 33), 11)
    measures = sitk.LabelOverlapMeasuresImageFilter()
    measures.Execute(reference.to_sitk(), mask.to_sitk())
    shapes = [sitk.LabelShapeStatisticsImageFilter(), sitk.LabelShapeStatisticsImageFilter()]
    for shape, volume in zip(shapes, (mask, reference), strict=True):
        shape.Execute(volume.to_sitk())
    overlap = measure_overlap(mask, reference, 1)
    assert overlap.dice == pytest.approx(measures.GetDiceCoefficient(1))
    difference = (shapes[0].GetPhysicalSize(1) - shapes[1].GetPhysicalSize(1)) / 1000
    assert overlap.volume_error_ml == pytest.approx(difference)


def test_equal_masks_are_at_distance_zero() -> None:
    overlap = measure_overlap(ball((20, 20, 30), 9), ball((20, 20, 30), 9), 1)
    assert (overlap.dice, overlap.jaccard, overlap.surface_dice) == (1, 1, 1)
    assert (overlap.hd95_mm, overlap.volume_error_ml) == (0, 0)


def test_nothing_is_measured_where_both_are_empty() -> None:
    overlap = measure_overlap(ball((20, 20, 30), 9), ball((20, 20, 30), 9), 2)
    assert math.isnan(overlap.dice)
    assert overlap.remark == "empty in reference and mask"


@pytest.mark.parametrize(("radii", "remark"), [((0, 9), "empty in the mask"), ((9, 0), "empty in the reference")])
def test_one_empty_side_scores_zero_and_has_no_distance(radii: tuple[float, float], remark: str) -> None:
    overlap = measure_overlap(ball((20, 20, 30), radii[0]), ball((20, 20, 30), radii[1]), 1)
    assert (overlap.dice, overlap.jaccard, overlap.surface_dice, overlap.remark) == (0, 0, 0, remark)
    assert math.isnan(overlap.hd95_mm)


def test_different_grids_are_refused() -> None:
    mask = ball((20, 20, 30), 9)
    moved = Volume(mask.array, Geometry.from_parts((48, 40, 20), SPACING, (1, 0, 0)))
    with pytest.raises(DataError, match="different grids"):
        measure_overlap(mask, moved, 1)


def make_pair(shift: int, unknown: slice) -> tuple[Volume, Volume]:
    """A box and the same box shifted along i, on 20³ voxels; some planes of the reference nobody labelled."""
    grid = Geometry.from_parts((20, 20, 20), (1, 1, 2))
    mask, reference = np.zeros((2, 20, 20, 20), np.uint8)
    mask[6 + shift : 10 + shift, 6:10, 6:10] = 1
    reference[6:10, 6:10, 6:10] = 1
    reference[unknown] = 255
    return Volume(mask, grid), Volume(reference, grid)


def test_voxels_that_nobody_labelled_are_left_out_of_every_measure() -> None:
    mask, reference = make_pair(1, slice(8, None))
    overlap = measure_overlap(mask, reference, 1, ignore=255)
    cut = [Volume(volume.array[:8], Geometry.from_parts((8, 20, 20), (1, 1, 2))) for volume in (mask, reference)]
    expected = measure_overlap(cut[0], cut[1], 1)
    assert (overlap.dice, overlap.jaccard) == (expected.dice, expected.jaccard)
    assert overlap.volume_error_ml == expected.volume_error_ml
    assert math.isnan(overlap.surface_dice)
    assert math.isnan(overlap.hd95_mm)
    assert overlap.remark == "surfaces not measured: voxels that nobody labelled lie too near"


def test_surfaces_far_from_voxels_that_nobody_labelled_are_measured() -> None:
    far, near, whole = make_pair(1, slice(14, None)), make_pair(3, slice(14, None)), make_pair(1, slice(20, None))
    assert measure_overlap(*far, 1, ignore=255) == measure_overlap(*whole, 1)
    assert math.isnan(measure_overlap(*near, 1, ignore=255).hd95_mm)


def test_case_that_nobody_labelled_has_no_scores() -> None:
    mask, reference = make_pair(1, slice(None))
    overlap = measure_overlap(mask, reference, 1, ignore=255)
    assert math.isnan(overlap.dice)
    assert overlap.remark == "not labelled"
