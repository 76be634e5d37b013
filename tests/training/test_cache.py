"""Prepared cases on disk: what is kept, when it is built again, and that damage is found."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.training.conftest import write_cube
from voxflow.components import Chain, Component
from voxflow.errors import DataError
from voxflow.training.cache import CaseCache, identify_head
from voxflow.training.casefile import CaseFile, CaseFileError, write_case
from voxflow.training.options import CacheOptions
from voxflow.training.store import CachedStore
from voxflow.volumes import Volume, read_volume, write_volume

if TYPE_CHECKING:
    from voxflow.datalist import Case, Datalist

LOAD = Component(name="LoadNifti", args={"fields": ["image", "label"]})
CROP = Component(name="FastCropByPosNegRatio", args={"fields": "image", "size": [8, 8, 8], "batch_size": 1})


def chain(*more: Component) -> Chain:
    return Chain.build([LOAD, *more, CROP])


def cache(folder: Path, **options: Any) -> CaseCache:
    return CaseCache.open(CacheOptions(folder=folder, **options))


def store(cases: Any, folder: Path, transforms: Chain | None = None, **options: Any) -> CachedStore:
    return CachedStore(cases, transforms or chain(), cache(folder), **{"threads": 2, "classes": 2, **options})


def built(folder: Path) -> dict[Path, int]:
    """Every file of a case, with the inode that changes when it is written again."""
    return {path: path.stat().st_ino for path in folder.rglob("*.case")}


def test_every_kind_of_value_comes_back_as_it_was(tmp_path: Path) -> None:
    sample = {
        "image": np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4),
        "turned": np.arange(6, dtype=np.int16).reshape(2, 3).T,
        "empty": np.zeros((0, 3), np.int64),
        "points": {0: np.array([1, 2]), 2: np.array([5])},
        "spacing": (1.0, 0.5, 2.0),
        "names": ["a", None, True, Path("x/y")],
        "count": np.int64(3),
    }
    write_case(tmp_path / "a.case", sample)
    file = CaseFile(tmp_path / "a.case")
    file.verify()
    read = file.map_sample()
    assert list(read) == list(sample)
    for name in ("image", "turned", "empty"):
        np.testing.assert_array_equal(read[name], sample[name])
        assert read[name].dtype == sample[name].dtype  # type: ignore[attr-defined]
    assert {key: value.tolist() for key, value in read["points"].items()} == {0: [1, 2], 2: [5]}
    assert (read["spacing"], read["names"], read["count"]) == (sample["spacing"], sample["names"], 3)
    assert file.read_value("count") == 3


def test_what_can_not_be_kept_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="a value of type object can't be kept"):
        write_case(tmp_path / "a.case", {"x": object()})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda raw: raw[:-1], "bytes instead of"),
        (lambda raw: b"", "no file of a case"),
        (lambda raw: raw[:30] + b"#" + raw[31:], "header is damaged"),
        (lambda raw: raw[:4200] + b"#" + raw[4201:], "array 0 is damaged"),
    ],
)
def test_damage_is_found(tmp_path: Path, damage: Any, message: str) -> None:
    path = tmp_path / "a.case"
    write_case(path, {"image": np.zeros(2000, np.float32)})
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(CaseFileError, match=message):
        CaseFile(path).verify()


def test_writing_into_a_sample_leaves_the_file_alone(tmp_path: Path) -> None:
    write_case(tmp_path / "a.case", {"image": np.zeros(5000, np.float32)})
    file = CaseFile(tmp_path / "a.case")
    file.map_sample()["image"][:] = 1
    assert not file.map_sample()["image"].any()


def test_a_second_training_reads_what_the_first_prepared(tmp_path: Path, cubes: Datalist) -> None:
    cases = cubes.parts["training"]
    first = store(cases, tmp_path)
    before = built(tmp_path)
    again = store(cases[::-1], tmp_path)
    assert built(tmp_path) == before
    assert len(before) == len(cases)
    assert [again[n]["case"] for n in range(4)] == [case.id for case in cases[::-1]]
    np.testing.assert_array_equal(first[0]["image"], again[3]["image"])
    expected = chain().run_head({"case": cases[0].id, "image": cases[0].image, "label": cases[0].label})
    assert expected.keys() <= first[0].keys()
    np.testing.assert_array_equal(first[0]["image"], expected["image"])


def test_centres_fall_on_small_classes_as_often_as_on_large_ones(tmp_path: Path, cubes: Datalist) -> None:
    """A class of one voxel among thousands, from the coordinates that the cache holds."""
    case = cubes.parts["training"][0]
    volume = read_volume(case.label)  # type: ignore[arg-type]
    label = volume.array.copy()
    label[tuple(np.argwhere(label == 0)[0])] = 2
    write_volume(tmp_path / "three.nii.gz", Volume(label, volume.geometry))
    args = {**CROP.args, "size": [1, 1, 1], "neg": 0.0, "batch_size": 400, "classes_alike": True}
    transforms = Chain.build([LOAD, Component(name=CROP.name, args=args)])
    opened = store([replace(case, label=tmp_path / "three.nii.gz")], tmp_path / "c", transforms, classes=3)
    patches = transforms.run_tail(opened[0], np.random.default_rng(0))
    assert 0.4 < np.mean([patch["label"].item() == 2 for patch in patches]) < 0.6
    assert all(patch["label"].item() > 0 for patch in patches)


def test_other_transforms_or_content_are_other_files(tmp_path: Path, cubes: Datalist) -> None:
    case = cubes.parts["training"][0]
    store([case], tmp_path / "c")
    moved = write_cube(tmp_path, "moved", 0)
    store([moved], tmp_path / "c")
    assert len(built(tmp_path / "c")) == 1, "the same content elsewhere and under another name is the same"
    store([write_cube(tmp_path, "moved", 7)], tmp_path / "c")
    assert len(built(tmp_path / "c")) == 2
    scale = Component(name="NormalizeNonzeroIntensities", args={"fields": "image"})
    store([case], tmp_path / "c", chain(scale))
    assert len(built(tmp_path / "c")) == 3


def test_the_library_version_is_part_of_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    before = identify_head(chain())
    monkeypatch.setattr("voxflow.training.cache.__version__", "9.9")
    assert identify_head(chain()) != before


def test_a_damaged_file_is_prepared_afresh(tmp_path: Path, cubes: Datalist, capsys: pytest.CaptureFixture[str]) -> None:
    opened = store(cubes.parts["training"][:1], tmp_path)
    (path,) = built(tmp_path)
    raw = path.read_bytes()
    path.write_bytes(raw[:5000] + b"####" + raw[5004:])
    sample = opened[0]
    assert sample["case"] == "cube0"
    assert path.read_bytes() == raw
    assert "case cube0 is prepared afresh" in capsys.readouterr().err


def test_a_file_that_another_process_removed_is_prepared_afresh(tmp_path: Path, cubes: Datalist) -> None:
    opened = store(cubes.parts["training"][:1], tmp_path)
    (path,) = built(tmp_path)
    path.unlink()
    assert opened[0]["image"].shape == (1, 24, 20, 16)


def test_two_that_build_at_once_build_each_case_once(
    tmp_path: Path, cubes: Datalist, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared: list[str] = []
    run_head = Chain.run_head

    def slow(self: Chain, sample: dict[str, Any]) -> dict[str, Any]:
        prepared.append(sample["case"])
        time.sleep(0.05)
        return run_head(self, sample)

    monkeypatch.setattr(Chain, "run_head", slow)
    cases = cubes.parts["training"]
    threads = [threading.Thread(target=store, args=(cases, tmp_path), kwargs={"turn": turn}) for turn in (0, 0.5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(prepared) == sorted(case.id for case in cases)


def test_pruning_takes_the_old_then_the_longest_unused_and_never_those_in_use(tmp_path: Path) -> None:
    small_cache = cache(tmp_path, max_days=10, max_gb=4e-5)
    paths = [small_cache.folder / "ab" / f"{n}.case" for n in range(4)]
    for days, path in zip((11, 9, 2, 1), paths, strict=True):
        write_case(path, {"image": np.zeros(2000, np.float32)})
        os.utime(path, (time.time() - days * 86400,) * 2)
    (small_cache.folder / "ab" / ".partial-x.case").write_bytes(b"half")
    os.utime(small_cache.folder / "ab" / ".partial-x.case", (0, 0))
    assert small_cache.prune(keep=[paths[1]]) == (2, 12288 + 4)
    assert [path.exists() for path in paths] == [False, True, True, True]
    assert replace(small_cache, options=CacheOptions(max_gb=1e-6)).prune(keep=[paths[1]])[0] == 2
    assert [path.exists() for path in paths] == [False, True, False, False]


def test_every_bad_case_is_named_at_once_or_left_out(
    tmp_path: Path, cubes: Datalist, capsys: pytest.CaptureFixture[str]
) -> None:
    good: Case = cubes.parts["training"][0]
    bad = [replace(write_cube(tmp_path, f"bad{n}", n), label=tmp_path / "none.nii.gz") for n in range(2)]
    with pytest.raises(DataError, match=r"case bad0: .*none.nii.gz.*\ncase bad1: "):
        store([good, *bad], tmp_path / "c")
    remaining = store([good, *bad], tmp_path / "c", skip=True)
    assert [remaining[n]["case"] for n in range(len(remaining))] == [good.id]
    assert "warning: left out: case bad1" in capsys.readouterr().err
    with pytest.raises(DataError, match="case bad0"):
        store(bad, tmp_path / "c", skip=True)


def test_a_label_too_high_is_found_in_what_another_training_prepared(tmp_path: Path, cubes: Datalist) -> None:
    store(cubes.parts["training"][:1], tmp_path)
    with pytest.raises(DataError, match="case cube0: label value 1, the data names 1 classes"):
        store(cubes.parts["training"][:1], tmp_path, classes=1)
