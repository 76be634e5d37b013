"""Files appear whole or not at all, whatever happens while they are written."""

from __future__ import annotations

import errno
import math
import os
import stat
from typing import TYPE_CHECKING

import numpy as np
import pytest

from voxflow.files import atomic_directory, atomic_path, write_json, write_text
from voxflow.geometry import Geometry
from voxflow.volumes import Volume, read_volume, write_volume

if TYPE_CHECKING:
    from pathlib import Path


def full_disk() -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def write_half(target: Path, failure: BaseException) -> None:
    with atomic_path(target) as temporary:
        temporary.write_text("ha")
        raise failure


def fill_half(target: Path, failure: BaseException) -> None:
    with atomic_directory(target) as temporary:
        (temporary / "half").touch()
        raise failure


def write_to_full_device(target: Path) -> None:
    with atomic_path(target) as temporary:
        temporary.unlink()
        temporary.symlink_to("/dev/full")
        temporary.write_text("x" * 100_000)


def test_a_file_appears_when_it_is_complete(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "new/a.nii.gz") as temporary:
        assert temporary.name.endswith(".nii.gz")
        temporary.write_text("whole")
        assert not (tmp_path / "new/a.nii.gz").exists()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.nii.gz"]


@pytest.mark.parametrize("failure", [full_disk(), KeyboardInterrupt()], ids=["full disk", "Ctrl-C"])
def test_a_failure_leaves_the_old_file_and_nothing_else(failure: BaseException, tmp_path: Path) -> None:
    target = tmp_path / "a.json"
    target.write_text("old")
    with pytest.raises(type(failure)):
        write_half(target, failure)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_is_replaced_when_it_is_complete(tmp_path: Path) -> None:
    target = tmp_path / "volumes"
    target.mkdir()
    (target / "old").touch()
    with atomic_directory(target) as temporary:
        (temporary / "new").touch()
        assert (target / "old").exists()
    assert [path.name for path in target.iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("failure", [full_disk(), KeyboardInterrupt()], ids=["full disk", "Ctrl-C"])
def test_a_failure_leaves_the_old_folder_and_nothing_else(failure: BaseException, tmp_path: Path) -> None:
    target = tmp_path / "volumes"
    target.mkdir()
    (target / "old").touch()
    with pytest.raises(type(failure)):
        fill_half(target, failure)
    assert [path.name for path in target.iterdir()] == ["old"]
    assert list(tmp_path.iterdir()) == [target]


def test_rights_are_those_of_any_new_file(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "a", "x")
        with atomic_directory(tmp_path / "b"):
            pass
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "b").stat().st_mode) == 0o750


def test_a_full_disk_while_writing_an_image_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import SimpleITK as sitk

    def write(image: object, name: str, **_: object) -> None:
        del image
        with open(name, "wb") as stream:  # noqa: PTH123
            stream.write(b"half")
        raise full_disk()

    monkeypatch.setattr(sitk, "WriteImage", write)
    mask = Volume(np.ones((2, 2, 2), dtype=np.uint8), Geometry.from_parts((2, 2, 2), (1, 1, 1)))
    with pytest.raises(OSError, match="No space left on device"):
        write_volume(tmp_path / "mask.nrrd", mask)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")  # noqa: PTH110
def test_a_truly_full_device_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space left on device"):
        write_to_full_device(tmp_path / "a.txt")
    assert list(tmp_path.iterdir()) == []


def test_json_keeps_its_order_and_its_letters(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"z": 1, "a": "Größe"})
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == '{\n  "z": 1,\n  "a": "Größe"\n}\n'


def test_json_has_no_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"dice": math.nan})
    assert list(tmp_path.iterdir()) == []


def test_a_mask_survives_the_trip(tmp_path: Path) -> None:
    volume = Volume(
        np.arange(24, dtype=np.uint8).reshape(2, 3, 4), Geometry.from_parts((2, 3, 4), (1, 2, 3), (4, 5, 6))
    )
    write_volume(tmp_path / "a.nii.gz", volume)
    again = read_volume(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(again.array, volume.array)
    assert again.geometry.is_close(volume.geometry)


def test_a_full_disk_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"No space left on device: '.*/table.csv'"), atomic_path(tmp_path / "table.csv"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert list(tmp_path.iterdir()) == []
