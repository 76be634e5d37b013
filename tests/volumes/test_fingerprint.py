"""A fingerprint is what is counted by hand; a spacing is what most images have."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from voxflow.errors import DataError
from voxflow.geometry import Geometry
from voxflow.volumes import (
    Volume,
    list_values,
    measure_fingerprint,
    read_fingerprint,
    target_spacing,
    write_fingerprint,
    write_volume,
)

if TYPE_CHECKING:
    from pathlib import Path


def write(folder: Path, name: str, array: np.ndarray, spacing: tuple[float, float, float]) -> Path:
    path = folder / f"{name}.nii.gz"
    write_volume(path, Volume(array, Geometry.from_parts(array.shape, spacing)))
    return path


def cases(folder: Path) -> list[tuple[tuple[Path, ...], Path | None]]:
    """Two labelled images, inside whose labels voxels are 100 and 300, and one without a label."""
    paths: list[tuple[tuple[Path, ...], Path | None]] = []
    for number, (size, mm, value) in enumerate([((10, 8, 6), 1.0, 100), ((12, 8, 4), 2.0, 300)]):
        mask = np.zeros(size, np.uint8)
        mask[:2, :5, :2], mask[5, 5, 0] = 1, 2 * number
        image = np.where(mask > 0, value, -1000).astype(np.int16)
        spacing = (1.0, 1.0, mm)
        paths.append(((write(folder, f"i{number}", image, spacing),), write(folder, f"l{number}", mask, spacing)))
    paths.append(((write(folder, "i2", np.full((14, 8, 2), 9, np.int16), (1.0, 1.0, 3.0)),), None))
    return paths


def test_sizes_spacings_and_classes_are_counted(tmp_path: Path) -> None:
    fingerprint = measure_fingerprint(cases(tmp_path), "CT")
    assert (fingerprint.cases, fingerprint.labelled, fingerprint.channels, fingerprint.modality) == (3, 2, 1, "CT")
    assert [fingerprint.size.least, fingerprint.size.median, fingerprint.size.most] == [
        (10, 8, 2),
        (12, 8, 4),
        (14, 8, 6),
    ]
    assert fingerprint.spacing_mm.median == pytest.approx((1, 1, 2))
    first, second = fingerprint.classes
    # 20 voxels in either case: of 1 mm³ and of 2.
    assert (first.value, first.cases) == (1, 2)
    assert first.median_ml == pytest.approx(0.030)
    assert first.share == pytest.approx(40 / (480 + 384), rel=1e-3)
    assert (second.value, second.cases) == (2, 1)
    assert second.median_ml == pytest.approx(0.002)


def test_a_class_counts_only_where_somebody_looked_for_it(tmp_path: Path) -> None:
    labelled = [list_values(names, {"organ": (1,), "tumour": (2,)}) for names in (["organ"], None, None)]
    first, second = measure_fingerprint(cases(tmp_path), labelled=labelled).classes
    assert first.share == pytest.approx(40 / (480 + 384), rel=1e-3)
    assert second.share == pytest.approx(1 / 384, rel=1e-3)


def test_intensities_are_those_inside_the_labels(tmp_path: Path) -> None:
    inside = measure_fingerprint(cases(tmp_path)).intensity[0]
    values = [100] * 20 + [300] * 21
    assert (inside.mean, inside.deviation) == pytest.approx((np.mean(values), np.std(values)), rel=1e-4)
    assert (inside.percentile_00_5, inside.median, inside.percentile_99_5) == (100, 300, 300)


def test_without_labels_all_voxels_count(tmp_path: Path) -> None:
    fingerprint = measure_fingerprint(cases(tmp_path)[2:])
    assert (fingerprint.intensity[0].mean, fingerprint.labelled, fingerprint.classes) == (9, 0, ())


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    fingerprint = measure_fingerprint(cases(tmp_path))
    write_fingerprint(tmp_path / "f.json", fingerprint)
    assert read_fingerprint(tmp_path / "f.json") == fingerprint
    assert fingerprint.to_metrics()["class_2_cases"] == 1


def test_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "f.json").write_text('{"cases": 3}')
    with pytest.raises(DataError, match=r"f.json: no fingerprint: labelled: Field required"):
        read_fingerprint(tmp_path / "f.json")
    with pytest.raises(DataError, match="the stage resample writes it"):
        read_fingerprint(tmp_path / "none.json")


def test_channels_that_only_some_cases_have_are_left_out(tmp_path: Path) -> None:
    (images, label), *single_channel_cases = cases(tmp_path)
    assert measure_fingerprint([((*images, *images), label), *single_channel_cases]).channels == 1


def test_a_label_of_another_size_is_named(tmp_path: Path) -> None:
    (images, _), (_, label), _ = cases(tmp_path)
    with pytest.raises(DataError, match=r"l1.nii.gz: its grid is not the image's, .*: size 10 × 8 × 6 and 12 × 8 × 4,"):
        measure_fingerprint([(images, label)])


@pytest.mark.parametrize(
    ("spacings", "expected"),
    [
        ([(1, 1, 1), (1, 1, 1.2), (1, 1, 3)], (1, 1, 1.2)),
        # Thick slices: the finer tenth of the images counts, here between 2.0 and 5.0.
        ([(0.8, 0.8, 5)] * 10 + [(0.8, 0.8, 2)], (0.8, 0.8, 5)),
        ([(0.8, 0.8, 5)] * 6 + [(0.8, 0.8, 2)] * 4, (0.8, 0.8, 2)),
    ],
)
def test_the_spacing_is_what_most_images_have(
    spacings: list[tuple[float, float, float]], expected: tuple[float, float, float]
) -> None:
    assert target_spacing([(100, 100, 50)] * len(spacings), spacings) == expected


def test_images_of_too_many_voxels_get_larger_ones_along_the_finest_axes() -> None:
    i, j, k = target_spacing([(512, 512, 400)], [(0.7, 0.7, 1.0)])
    assert i == j == k == pytest.approx((512 * 512 * 400 * 0.7 * 0.7 / 24e6) ** (1 / 3), abs=1e-3)
    i, j, k = target_spacing([(512, 512, 120)], [(0.8, 0.8, 5.0)])
    assert i == pytest.approx(0.8 * (512 * 512 * 120 / 24e6) ** 0.5, abs=1e-3)
    assert k == 5.0


def opposed_cases(folder: Path, second: slice, jitter: int) -> list[tuple[tuple[Path, ...], Path | None]]:
    """Two cubes of one size, the second further along i; jitter moves them the other way in every other case."""
    paths: list[tuple[tuple[Path, ...], Path | None]] = []
    for number in range(4):
        mask = np.zeros((24, 12, 10), np.uint8)
        mask[2:7, 3:8, 2:7] = 1
        mask[12:17, second, 2:7] = 2
        mask = mask[::-1] if jitter and number % 2 else mask
        image = write(folder, f"oi{number}", mask.astype(np.int16), (1.0, 1.0, 2.0))
        paths.append(((image,), write(folder, f"ol{number}", np.ascontiguousarray(mask), (1.0, 1.0, 2.0))))
    return paths


def test_classes_that_a_mirror_would_exchange_are_found(tmp_path: Path) -> None:
    fingerprint = measure_fingerprint(opposed_cases(tmp_path, slice(3, 8), 0))
    assert [(pair.values, pair.axis) for pair in fingerprint.opposed] == [((1, 2), "i")]
    write_fingerprint(tmp_path / "fingerprint.json", fingerprint)
    assert read_fingerprint(tmp_path / "fingerprint.json") == fingerprint


def test_classes_of_other_sizes_or_without_a_side_are_no_pair(tmp_path: Path) -> None:
    assert not measure_fingerprint(opposed_cases(tmp_path, slice(3, 5), 0)).opposed
    fingerprint = measure_fingerprint(opposed_cases(tmp_path, slice(3, 8), 1))
    assert not fingerprint.opposed
    # A data set without such a pair has the file that it had before there was this key.
    assert "opposed" not in fingerprint.model_dump()
