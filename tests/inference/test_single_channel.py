"""A model of one image, and a folder that holds the channels of each case side by side: the right one, or none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.inference.models import volume_spec
from voxflow.dicom import ConvertOptions
from voxflow.files import write_json
from voxflow.geometry import Geometry
from voxflow.inference import choose_channel_rules, find_cases
from voxflow.volumes import Volume, write_volume

if TYPE_CHECKING:
    from pathlib import Path

    from voxflow.spec import ModelSpec

GRID = Geometry.from_parts((5, 4, 3), (1, 1, 2))
FLAIR = {"channels": {"FLAIR": {"modality": "MR"}}}


def write(folder: Path, *names: str, spacing: tuple[float, ...] = (1,)) -> None:
    """Write volumes on one grid, or with a spacing for each in turn."""
    for number, name in enumerate(names):
        grid = Geometry.from_parts((5, 4, 3), (spacing[number % len(spacing)], 1, 2))
        path = folder / f"{name}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_volume(path, Volume(np.full(GRID.size, number, np.int16), grid))


def find(folder: Path, spec: ModelSpec) -> tuple[list[str], list[str]]:
    """Cases, and those that are refused."""
    inputs = find_cases(folder, folder.parent, spec)
    return [case.images[0].name for case in inputs.cases], [row["case"] for row in inputs.refused]


def test_cases_of_nnunets_single_channel_are_as_they_were(tmp_path: Path) -> None:
    write(tmp_path / "in", "a_0000", "b_0000")
    inputs = find_cases(tmp_path / "in", tmp_path, volume_spec())
    assert [case.id for case in inputs.cases] == ["a_0000", "b_0000"]


@pytest.mark.parametrize(
    ("names", "spacing"),
    [
        (("img_0001", "img_0002", "img_0003"), (1,)),  # not counted from 0
        (("img_0000", "img_0002"), (1,)),
        (tuple(f"img_{n:04d}" for n in range(20)), (1,)),  # more than channels
        (("img_0000", "img_0001", "img_0002"), (1, 0.9)),  # grids of their own
        (("ann_t1", "ann_t2"), (1, 0.9)),  # two scans
        (("ann_ct", "bob_ct"), (1,)),
        (("scan12", "scan2"), (1,)),
    ],
)
def test_files_that_stand_alone_are_cases(tmp_path: Path, names: tuple[str, ...], spacing: tuple[float, ...]) -> None:
    write(tmp_path / "in", *names, spacing=spacing)
    cases, refused = find(tmp_path / "in", volume_spec())
    assert (len(cases), refused) == (len(names), [])


@pytest.mark.parametrize(
    "names",
    [
        ("a_0000", "a_0001", "b_0000", "b_0001"),
        ("a_0000", "a_0001", "b_0001"),  # b lacks its first
        ("a_t1c", "a_flair", "b_T1c", "b_FLAIR"),
        ("a/ct", "a/pet", "b/ct", "b/pet"),
        ("a-t1", "a-t2", "b-t1", "b-t2"),
    ],
)
def test_channels_of_a_case_are_refused_where_nothing_says_which_is_the_models(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    write(tmp_path / "in", *names, "c")
    cases, refused = find(tmp_path / "in", volume_spec())
    assert (cases, sorted(refused)) == (["c.nii.gz"], ["a", "b"])
    reason = find_cases(tmp_path / "in", tmp_path, volume_spec()).refused[0]["reason"]
    assert "channels of one case, by their names; the model takes one image" in reason


@pytest.mark.parametrize(
    ("changes", "names", "expected"),
    [
        ({"convert": FLAIR}, ("a_t1c", "a_t2f"), ["a_t2f"]),
        ({"convert": FLAIR}, ("a/T1", "a/FLAIR"), ["FLAIR"]),
        ({"modality": "CT"}, ("a_ct", "a_pet"), ["a_ct"]),
        ({"modality": "PT"}, ("a_CT", "a_PET"), ["a_PET"]),
        ({"convert": {"channels": {"X": {"suffix": "_0001"}}}}, ("a_0000", "a_0001"), ["a_0001"]),
        ({"convert": FLAIR}, ("a_t1c", "a_t2"), []),
        ({"modality": "MR"}, ("a_t1c", "a_t2"), []),
    ],
)
def test_the_models_own_channel_is_taken(
    tmp_path: Path, changes: dict[str, Any], names: tuple[str, ...], expected: list[str]
) -> None:
    write(tmp_path / "in", *names)
    cases, refused = find(tmp_path / "in", volume_spec(**changes))
    assert cases == [f"{name}.nii.gz" for name in expected]
    assert len(refused) == (not expected)


@pytest.mark.parametrize("place", ["", "imagesTs"])
def test_numbers_have_the_names_of_the_data_sets_description(tmp_path: Path, place: str) -> None:
    write(tmp_path / "in/imagesTs", "a_0000", "a_0001", "b_0000", "b_0001")
    content = {"channel_names": {"0": "T1c", "1": "FLAIR"}, "labels": {"background": 0, "x": 1}, "numTraining": 0}
    write_json(tmp_path / "in/dataset.json", content)
    cases, refused = find(tmp_path / "in" / place, volume_spec(convert=FLAIR))
    assert (cases, refused) == (["a_0001.nii.gz", "b_0001.nii.gz"], [])


def test_a_file_that_is_named_is_meant(tmp_path: Path) -> None:
    write(tmp_path / "in", "a_0000", "a_0001")
    inputs = find_cases(tmp_path / "in/a_0001.nii.gz", tmp_path, volume_spec())
    assert [case.id for case in inputs.cases] == ["a_0001"]


def test_the_end_of_a_name_says_nothing_of_dicom() -> None:
    options = ConvertOptions.model_validate({"channels": {"T1c": {"suffix": "_t1c"}}})
    spec = volume_spec(convert=options.list_for_model())
    assert spec.convert == {"channels": {"T1c": {"suffix": "_t1c"}}}
    assert choose_channel_rules(ConvertOptions(), spec).channels is None


@pytest.mark.parametrize(
    ("changes", "name", "is_refused"),
    [
        ({"convert": FLAIR}, "a_t1ce", True),
        ({"convert": FLAIR}, "a_t2f", False),
        ({"convert": FLAIR}, "a_mr", False),
        ({"convert": FLAIR}, "a_ct", True),
        ({"modality": "CT"}, "a_pet", True),
        ({"modality": "CT"}, "a_t2", False),  # a time
        ({"modality": "CT"}, "a_flair", True),
        ({"modality": "MR"}, "a_flair", False),
        ({"convert": {"channels": {"X": {"modality": "MR"}}}}, "a_flair", False),
        ({}, "a_flair", False),
    ],
)
def test_a_lone_file_of_another_channel_is_refused(
    tmp_path: Path, changes: dict[str, Any], name: str, is_refused: bool
) -> None:
    write(tmp_path / "in", name, "b")
    cases, refused = find(tmp_path / "in", volume_spec(**changes))
    assert cases == [f"{file}.nii.gz" for file in ([] if is_refused else [name]) + ["b"]]
    assert refused == ([f"{name}.nii.gz"] if is_refused else [])


def test_labels_are_no_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "in", "images/a", "images/b", "labels/a", "c", "c_seg")
    assert find(tmp_path / "in", volume_spec()) == (["c.nii.gz", "a.nii.gz", "b.nii.gz"], [])
    said = capsys.readouterr().err
    assert "2 of 5 files are labels by their names, and are left out: c_seg.nii.gz, labels/a.nii.gz" in said
    assert find(tmp_path / "in/labels", volume_spec()) == (["a.nii.gz"], [])
    write(tmp_path / "seg", "a_seg", "b_seg")
    assert find(tmp_path / "seg", volume_spec()) == (["a_seg.nii.gz", "b_seg.nii.gz"], [])


def test_the_file_that_nnunet_calls_as_a_case_is_no_image(tmp_path: Path) -> None:
    write(tmp_path / "in", "a_0000", "a_0001", "a", "b_0000", "b_0001")
    assert find(tmp_path / "in", volume_spec()) == ([], ["a", "b"])
