"""What a header may claim: the limits, their keys in params.yaml, and what honest images need."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest

from voxflow.bounds import Limits, check_array, check_grid, check_picture, check_resampling, parse_limits, read_limits
from voxflow.errors import ConfigError, DataError
from voxflow.places import read_params

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("shape", "voxel_bytes", "file_bytes", "key"),
    [
        ((32767, 32767, 32767), 1, None, "voxels"),
        ((65535, 65535), 2, None, "voxels"),
        ((512, 512, 2000, 100), 2, None, "image_mb"),
        ((512, 512, 1100), 16, None, "image_mb"),
        ((1024, 1024, 550), 2, 2400, "expansion"),
        ((1024, 1024, 550), 2, 0, "expansion"),
    ],
)
def test_a_claim_beyond_a_limit_names_its_key(
    shape: tuple[int, ...], voxel_bytes: int, file_bytes: int | None, key: str
) -> None:
    with pytest.raises(DataError, match=rf"at most [\d,]+ are taken \(limits\.{key} in params\.yaml\)"):
        check_array(shape, voxel_bytes, file_bytes=file_bytes)


def test_honest_images_pass() -> None:
    check_array((512, 512, 2200), 2)  # a whole body
    check_array((512, 512, 512), 8, file_bytes=1_100_000)  # an empty mask of float64, deflated
    check_array((64, 64, 40, 1000), 4)  # functional MR
    check_picture(6000, 5000)
    check_grid((512, 512, 2200), (0.97, 0.97, 1), (-250, -250, -1800))
    check_resampling((64, 64, 64), (320, 320, 320))  # SPECT
    check_resampling((10, 10, 10), (190, 190, 190))  # few voxels may become as many as they like


@pytest.mark.parametrize("spacing", [1e300, 101, 0, -1, math.nan, math.inf, 1e-300])
def test_absurd_spacing_is_refused(spacing: float) -> None:
    with pytest.raises(DataError, match=r"voxels are .* mm apart"):
        check_grid((4, 4, 4), (1, 1, spacing))


@pytest.mark.parametrize("place", [1e300, -200_000, math.nan, math.inf])
def test_absurd_positions_are_refused(place: float) -> None:
    with pytest.raises(DataError, match=r"the image begins at .*limits\.position_mm"):
        check_grid((4, 4, 4), (1, 1, 1), (0, place, 0))


def test_absurd_extent_is_refused() -> None:
    with pytest.raises(DataError, match=r"the image is 51200 mm long: .*limits\.extent_mm"):
        check_grid((512, 512, 4), (1, 100, 1))


@pytest.mark.parametrize(("new_size", "key"), [((800, 800, 400), "upsampling"), ((1e200, 1e200, 1), "voxels")])
def test_a_grid_that_grows_beyond_bounds_is_refused(new_size: tuple[float, ...], key: str) -> None:
    with pytest.raises(DataError, match=rf"8 × 8 × 8 voxels would become .*limits\.{key}"):
        check_resampling((8, 8, 8), new_size)


def test_params_change_the_limits_at_once(tmp_path: Path) -> None:
    assert read_limits() == Limits()
    (tmp_path / "params.yaml").write_text("workspaces: {}\n")
    assert read_limits() == Limits()
    (tmp_path / "params.yaml").write_text("limits: {voxels: 1000}\n")
    with pytest.raises(DataError, match="at most 1,000 are taken"):
        check_array((11, 10, 10), 2)
    (tmp_path / "params.yaml").write_text("limits: {voxels: 2000, spacing_mm: 200}\n")
    check_array((11, 10, 10), 2)
    check_grid((4, 4, 4), (1, 1, 150))


def test_wrong_limits_are_named_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("limits: {voxel: 1000, pixels: -1}\n")
    for read in (read_params, read_limits):
        with pytest.raises(ConfigError) as caught:
            read()
        first, *lines = str(caught.value).splitlines()
        assert first.endswith("2 wrong limit(s)")
        assert lines[0].endswith("limits.voxel: unknown limit 'voxel'; did you mean 'voxels'?")
        assert "limits.pixels: Input should be greater than 0" in lines[1]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"limits": [1]}, "valid dictionary"),
        ({"limits": {"voxels": "many"}}, r"limits\.voxels: .*valid integer"),
        ({"limits": {"spacing_mm": math.nan}}, r"limits\.spacing_mm: "),
        ({"limit": {"voxels": 5}}, "unknown key 'limit'; did you mean 'limits'"),
        ({"Limits": {"voxels": 5}}, "unknown key 'Limits'; did you mean 'limits'"),
    ],
)
def test_limits_that_would_not_count_are_refused(content: dict[str, object], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        parse_limits(content)


def test_other_keys_of_params_are_none_of_the_limits() -> None:
    content: dict[object, object] = {
        "workspaces": {"a": {}},
        "dask": None,
        "pacs": {},
        "samples": {},
        "folds": {},
        1: 2,
    }
    assert parse_limits(content) == parse_limits({"limits": None}) == Limits()
