"""Masks of a first stage: each case gets that of the fold that held it out, on the grid of the second stage."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from voxflow.datalist import Case, Datalist
from voxflow.errors import DataError
from voxflow.geometry import Geometry
from voxflow.inference import InferenceCase, assign_folds, bring_masks
from voxflow.volumes import Volume, read_volume, target_geometry, write_volume


def listing(**parts: str) -> Datalist:
    """A letter a case; of two letters in capitals and not, one patient."""
    cases = {
        key: tuple(Case(name, (Path(name),), Path("mask"), name.lower()) for name in names)
        for key, names in parts.items()
    }
    return Datalist(Path("list.json"), Path(), cases)


SECOND = listing(training="abc", validation="d", testing="t")
FOLDS = {
    1: listing(training="cd", validation="ab", testing="t"),
    2: listing(training="ab", validation="cd", testing="t"),
}


def test_a_case_gets_the_fold_that_held_it_out() -> None:
    assert assign_folds(SECOND, FOLDS, "low") == {"a": 1, "b": 1, "c": 2, "d": 2}
    # The first stage failed on case n before its split.
    assert assign_folds(listing(training="abcn", validation="d", testing="t"), FOLDS, "low") == {
        "a": 1,
        "b": 1,
        "c": 2,
        "d": 2,
    }


@pytest.mark.parametrize(
    ("second", "fold_1", "fold_2", "message"),
    [
        ({}, {"training": "acd"}, {}, "leakage: case a is held out by fold 1, which learns from it"),
        ({}, {"training": "cdA"}, {}, "leakage: case a is held out by fold 1, which learns from its patient"),
        ({"testing": "tx"}, {"training": "cdx"}, {}, "leakage: fold 1 of low has seen x, which testing holds"),
        ({"testing": "T"}, {}, {"validation": "cdt"}, "leakage: fold 2 of low has seen T, which testing holds"),
        ({"training": "abcn"}, {"testing": "tn"}, {}, "case n is held out by none of the folds of low; expected"),
        ({"training": "xy", "validation": "z"}, {}, {}, "low has none of the cases; both need the same source"),
        ({}, {}, {"validation": "acd"}, "case a is held out by 1 and 2 of the folds of low"),
    ],
)
def test_what_a_model_may_have_seen_is_refused(
    second: dict[str, str], fold_1: dict[str, str], fold_2: dict[str, str], message: str
) -> None:
    own = {"training": "abc", "validation": "d", "testing": "t"} | second
    first = {"training": "cd", "validation": "ab", "testing": "t"} | fold_1
    other = {"training": "ab", "validation": "cd", "testing": "t"} | fold_2
    with pytest.raises(DataError, match=message):
        assign_folds(listing(**own), {1: listing(**first), 2: listing(**other)}, "low")


def place_case(folder: Path, name: str = "a") -> tuple[Case, InferenceCase, InferenceCase, Path]:
    """An image on its own grid, turned and resampled for the second stage, and a mask of three classes."""
    rng = np.random.default_rng(1)
    native = Geometry.from_parts((14, 12, 9), (1.1, 0.9, 2.3), (-3, 5, 7))
    image = folder / f"{name}.nii.gz"
    write_volume(image, Volume(rng.normal(size=native.size).astype(np.float32), native))
    grid = target_geometry(native, (0.7, 1.3, 1.7), "RAS")
    resampled = folder / f"{name}_resampled.nii.gz"
    write_volume(resampled, Volume(np.zeros(grid.size, np.float32), grid))
    mask = folder / f"{name}_mask.nii.gz"
    write_volume(mask, Volume(rng.integers(0, 4, native.size).astype(np.uint8), native))
    converted = InferenceCase(name, (image,))
    return Case(name, (resampled,), image), converted, converted, mask


def test_a_mask_comes_to_the_grid_by_the_nearest_voxel_as_simpleitk_has_it(tmp_path: Path) -> None:
    case, converted, earlier, mask = place_case(tmp_path)
    out = tmp_path / "out"
    out.mkdir()
    digests, failures = bring_masks([(case, converted, earlier, mask)], out)
    assert set(digests) == {"a"}
    assert not failures
    written = read_volume(out / "a.nii.gz")
    reference = sitk.Resample(
        sitk.ReadImage(str(mask)), sitk.ReadImage(str(case.image[0])), sitk.Transform(), sitk.sitkNearestNeighbor, 9
    )
    expected = sitk.GetArrayFromImage(reference).transpose(2, 1, 0)
    # Beyond the outermost centres SimpleITK has nothing; there the outermost voxel goes on.
    is_inside = expected != 9
    assert is_inside.mean() > 0.7
    sitk_grid = sitk.GetArrayFromImage(sitk.ReadImage(str(out / "a.nii.gz"))).transpose(2, 1, 0)
    np.testing.assert_array_equal(sitk_grid[is_inside], expected[is_inside])
    assert written.geometry.is_close(read_volume(case.image[0]).geometry)
    assert set(np.unique(written.array)) == {0, 1, 2, 3}


def test_a_bad_case_is_named_and_the_others_go_on(tmp_path: Path) -> None:
    cases = [place_case(tmp_path, name) for name in "abcd"]
    other = tmp_path / "other.nii.gz"
    grid = Geometry.from_parts((14, 12, 9), (1.1, 0.9, 2.3), (-3, 5, 7))
    write_volume(other, Volume(np.ones(grid.size, np.float32), grid))
    cases[1] = (*cases[1][:2], InferenceCase("b", (other,)), cases[1][3])
    cases[2] = (*cases[2][:3], cases[2][0].image[0])
    cases[3] = (*cases[3][:3], tmp_path / "missing.nii.gz")
    out = tmp_path / "out"
    out.mkdir()
    digests, failures = bring_masks(cases, out)
    assert set(digests) == {"a"}
    assert "another image than" in failures["b"]
    assert "lies on another grid than the images of its case" in failures["c"]
    assert "the first stage made no mask of this case" in failures["d"]
