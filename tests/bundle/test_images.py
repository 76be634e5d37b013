"""A bundle is given images that Voxflow has read: bad ones are left out by name, turned labels are turned back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from voxflow.bundle.images import check_images
from voxflow.errors import DataError
from voxflow.geometry import Geometry
from voxflow.volumes import Volume, read_volume, write_volume

GRID = Geometry.from_parts((4, 5, 6), (1, 1, 2))
FLIPPED = Geometry.from_parts((4, 5, 6), (1, 1, 2), (3, 0, 0), (-1, 0, 0, 0, 1, 0, 0, 0, 1))


def write_item(folder: Path, name: str, value: float = 1, label_grid: Geometry = GRID) -> dict[str, str]:
    label = np.zeros(GRID.size, np.uint8)
    label[0] = 1
    write_volume(folder / f"{name}.nii.gz", Volume(np.full(GRID.size, value, np.float32), GRID))
    write_volume(folder / f"{name}_label.nii.gz", Volume(label, label_grid))
    return {"image": str(folder / f"{name}.nii.gz"), "label": str(folder / f"{name}_label.nii.gz")}


def test_bad_items_are_left_out_and_named_or_are_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = {"train": [write_item(tmp_path, "good"), write_item(tmp_path, "bad", np.nan)]}
    failures: list[dict[str, str]] = []
    with check_images(data, failures) as checked:
        assert checked == {"train": data["train"][:1]}
    assert failures == [
        {"case": "bad.nii.gz", "reason": f"{tmp_path}/bad.nii.gz: the image holds NaN or infinite values"}
    ]
    assert "left out" in capsys.readouterr().err
    with pytest.raises(DataError, match=r"bad\.nii\.gz: the image holds NaN"), check_images(data):
        pass
    with pytest.raises(DataError, match="holds NaN"), check_images({"infer": data["train"][1:]}, []):
        pass


def test_a_turned_label_is_given_as_a_copy_on_the_images_grid(tmp_path: Path) -> None:
    item = write_item(tmp_path, "a", label_grid=FLIPPED)
    with check_images({"train": [item]}) as checked:
        (checked_item,) = checked["train"]
        label = read_volume(Path(checked_item["label"]))
        assert checked_item["image"] == item["image"]
        assert label.geometry.is_close(GRID)
        assert label.array[:, 0, 0].tolist() == [0, 0, 0, 1]
    assert not Path(checked_item["label"]).exists()
