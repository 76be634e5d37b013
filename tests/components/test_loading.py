"""Loaders: paths become arrays with channels first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from voxflow.components import Component, build_transform
from voxflow.errors import DataError
from voxflow.geometry import Geometry
from voxflow.volumes import Volume, write_radiograph, write_volume

if TYPE_CHECKING:
    from pathlib import Path


def load(**sample: Any) -> dict[str, Any]:
    return build_transform(Component(name="LoadNifti", args={"fields": list(sample)}))(sample)


def store(path: Path, array: np.ndarray) -> Path:
    size = (array.shape[0], array.shape[1], array.shape[2])
    write_volume(path, Volume(array, Geometry.from_parts(size, (1, 2, 3))))
    return path


def test_volumes_keep_their_axes_and_note_their_spacing(tmp_path: Path) -> None:
    array = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    out = load(image=(store(tmp_path / "a.nii.gz", array),), label=store(tmp_path / "b.nii.gz", array % 3))
    np.testing.assert_array_equal(out["image"][0], array)
    assert out["image"].dtype == np.float32
    assert out["label"].dtype == np.uint8
    assert out["spacing"] == pytest.approx((1, 2, 3))


def test_several_files_become_channels(tmp_path: Path) -> None:
    paths = tuple(store(tmp_path / f"{n}.nii.gz", np.full((2, 3, 4), n, np.int16)) for n in range(3))
    assert load(image=paths)["image"].mean((1, 2, 3)).tolist() == [0, 1, 2]


def test_channels_of_different_size_are_refused(tmp_path: Path) -> None:
    first, second = (store(tmp_path / f"{n}.nii.gz", np.zeros((2, 3, n), np.int16)) for n in (2, 3))
    with pytest.raises(DataError, match=r"3.nii.gz: its grid is not the image's"):
        load(image=(first, second))


@pytest.mark.parametrize(("value", "message"), [(0.5, "no whole numbers"), (-1.0, "between -1.0 and 0.0")])
def test_labels_that_are_no_classes_are_refused(tmp_path: Path, value: float, message: str) -> None:
    array = np.zeros((2, 2, 2), np.float32)
    array[0, 0, 0] = value
    with pytest.raises(DataError, match=message):
        load(label=store(tmp_path / "label.nii.gz", array))


def test_sixteen_bit_radiographs_keep_their_values(tmp_path: Path) -> None:
    array = np.array([[0, 40000], [65535, 1]], np.uint16)
    write_radiograph(tmp_path / "a.png", array)
    transform = build_transform(Component(name="LoadPng", args={"fields": "image"}))
    np.testing.assert_array_equal(transform({"image": tmp_path / "a.png"})["image"], array[None].astype(np.float32))


def test_repeat_channel_and_layout_names() -> None:
    image = np.ones((1, 2, 2), np.float32)
    for name in ("ConvertToChannelsFirst", "ConvertToChannelsLast"):
        assert build_transform(Component(name=name, args={"fields": "image"}))({"image": image})["image"] is image
    repeat = build_transform(Component(name="RepeatChannel", args={"fields": "image", "repeat_times": 3}))
    assert repeat({"image": image})["image"].shape == (3, 2, 2)


def test_a_field_that_nobody_made_is_named() -> None:
    with pytest.raises(KeyError, match=r"LoadNifti reads the field 'label'; the sample has \['image'\]"):
        build_transform(Component(name="LoadNifti", args={"fields": ["label"]}))({"image": np.ones(1)})
