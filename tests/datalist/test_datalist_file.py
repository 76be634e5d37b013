"""A datalist is read strictly: every fault at once, paths stay inside, labels match their format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxflow.datalist import Datalist
from voxflow.errors import DataError
from voxflow.findings import Finding
from voxflow.naming import fold_name


def read(folder: Path, content: Any, **options: Any) -> Datalist:
    path = folder / "dataset_0.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return Datalist.read(path, **options)


def test_cases_of_every_form_are_read(tmp_path: Path) -> None:
    content = {
        "name": "spleen",
        "labels": {"0": "background", "1": "spleen"},
        "modality": ["CT"],
        "training": [{"image": "a.nii.gz", "label": "labels/a.nii.gz", "case": "A", "patient": "p1"}],
        "validation": [{"image": ["b_t1.nii.gz", "b_t2.nii.gz"], "label": "b.nii"}],
        "inference": [{"image": "images/c.nii.gz"}],
        "test": ["./imagesTs/d.nii.gz"],
    }
    datalist = read(tmp_path, content)
    (training,) = datalist.cases("training")
    assert (training.id, training.patient) == ("A", "p1")
    assert training.image == (tmp_path / "a.nii.gz",)
    assert training.label == tmp_path / "labels/a.nii.gz"
    (validation,) = datalist.cases("validation")
    assert [path.name for path in validation.image] == ["b_t1.nii.gz", "b_t2.nii.gz"]
    assert (validation.id, validation.patient) == ("b_t1", "b_t1")
    assert datalist.cases("inference")[0].label is None
    assert datalist.cases("test")[0].image == (tmp_path / "imagesTs/d.nii.gz",)
    assert set(datalist.metadata) == {"name", "labels", "modality"}


def test_paths_are_relative_to_the_root_that_is_given(tmp_path: Path) -> None:
    datalist = read(tmp_path, {"training": [{"image": "a.nii"}]}, root=tmp_path / "data")
    assert datalist.cases("training")[0].image == (tmp_path / "data/a.nii",)


def test_classes_match_their_format(tmp_path: Path) -> None:
    datalist = read(tmp_path, {"label_format": [1, 1, 3], "training": [{"image": "a.png", "label": [0, 1, 2]}]})
    assert datalist.label_format == (1, 1, 3)
    assert datalist.cases("training")[0].label == (0, 1, 2)


def test_images_of_one_name_are_told_apart(tmp_path: Path) -> None:
    content = {"training": [{"image": "p1/ct.nii.gz"}, {"image": "p2/ct.nii.gz"}, {"image": "p2/pet.nii.gz"}]}
    assert [case.id for case in read(tmp_path, content).cases("training")] == ["p1_ct", "p2_ct", "pet"]


def test_an_image_may_be_listed_twice(tmp_path: Path) -> None:
    assert len(read(tmp_path, {"training": [{"image": "a.nii"}] * 2}).cases("training")) == 2


def test_links_into_a_cache_are_inside_the_root(tmp_path: Path) -> None:
    cache, root = tmp_path / "cache", tmp_path / "root"
    cache.mkdir()
    root.mkdir()
    (cache / "7f3a").write_text("")
    (root / "a.nii").symlink_to(cache / "7f3a")
    read(root, {"training": [{"image": "a.nii"}]}).check_files()


def test_every_fault_is_reported_at_once(tmp_path: Path) -> None:
    content = {
        "label_format": [1, 1],
        "training": [
            {"label": [0, 1]},
            {"image": "b.png", "label": [0, 2]},
            {"image": "c.png", "label": [0]},
            {"image": "d.png", "label": [True, 0]},
            {"image": "../e.png", "label": 1},
            {"image": "/etc/f.png"},
            {"image": "g.png"},
            {"image": "h.png", "case": "same"},
            {"image": "i.png", "case": "same"},
            7,
        ],
    }
    with pytest.raises(DataError) as caught:
        read(tmp_path, content)
    text = str(caught.value)
    assert text.startswith(f"{tmp_path / 'dataset_0.json'}: 9 faults")
    for line in (
        "training[0].image: expected a path or a list of paths, received None",
        "training[1].label: [0, 2] has a value outside label_format [1, 1]",
        "training[2].label: 1 values, label_format has 2",
        "training[3].label: expected a path or a list of classes, received [True, 0]",
        "training[4].image: '../e.png' leaves the data root",
        "training[4].label: expected a path or a list of classes, received 1",
        "training[5].image: '/etc/f.png' leaves the data root",
        "training[8].case: another image before it is called 'same', too",
        "training[9].image: expected a path or a list of paths, received 7",
    ):
        assert line in text


def test_a_long_list_of_faults_is_capped(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"31 faults(.|\n)*and 11 more"):
        read(tmp_path, {"training": [{"image": ""}, *[{"image": 1}] * 30]})


def test_paths_may_leave_the_root_when_the_user_allows_it(tmp_path: Path) -> None:
    datalist = read(tmp_path, {"training": [{"image": "/data/a.nii"}]}, outside_root=True)
    assert str(datalist.cases("training")[0].image[0]) == "/data/a.nii"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"training": [}', "not valid JSON: .*line 1 column 15"),
        ("[]", "expected an object"),
        ('{"label_format": 3}', "label_format: expected a list"),
        ('{"training": [{"image": "a.png", "label": [1]}]}', r"training\[0\].label: .*needs the key label_format"),
    ],
)
def test_what_is_no_datalist_is_refused(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        read(tmp_path, text)


def test_a_missing_datalist_is_wrong_input(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent\.json: file not found"):
        Datalist.read(tmp_path / "absent.json")


def test_an_unknown_key_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no key 'testing' with cases; it has training"):
        read(tmp_path, {"training": [{"image": "a.nii"}]}).cases("testing")


def test_missing_files_are_named_with_their_place(tmp_path: Path) -> None:
    (tmp_path / "a.nii").touch()
    datalist = read(tmp_path, {"training": [{"image": "a.nii"}, {"image": "b.nii", "label": "b_seg.nii"}]})
    with pytest.raises(DataError, match=r"training\[1\]: file not found: .*b.nii\n.*file not found: .*b_seg.nii"):
        datalist.check_files(["training"])


def test_many_faults_are_not_compared_with_one_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(finding: Finding, other: object) -> bool:
        raise AssertionError("a wrong root makes 100,000 paths wrong, and comparing them takes half an hour")

    monkeypatch.setattr(Finding, "__eq__", refuse)
    names = [f"{number}.nii" for number in range(30)]
    with pytest.raises(DataError, match="30 faults"):
        read(tmp_path, {"training": [{"image": name} for name in names]}).check_files()
    with pytest.raises(DataError, match="30 faults"):
        read(tmp_path, {"training": [{"image": f"../{name}"} for name in names]})


@pytest.mark.parametrize(
    "name", ["CT (1)", "scan#2", "a,b", "O'Brien", "50%", "{x}", "Mu\u0308ller", "a" * 200, '"q"', "-x"]
)
def test_files_are_called_as_people_call_them(name: str, tmp_path: Path) -> None:
    (tmp_path / f"{name}.nii.gz").touch()
    datalist = read(tmp_path, {"training": [{"image": f"{name}.nii.gz"}]})
    datalist.check_files()
    expected = {'"q"': "_q_", "-x": "_x"}.get(name, name)
    assert datalist.cases("training")[0].id == expected


@given(st.lists(st.text(st.sampled_from("aA /:.\\ü"), min_size=1, max_size=4), min_size=1, max_size=8, unique=True))
def test_every_case_of_a_list_has_an_id_of_its_own(names: list[str]) -> None:
    items = [{"image": f"{number}.nii", "case": name} for number, name in enumerate(names)]
    cases = Datalist.of({"training": items}, Path("/data/list.json")).cases("training")
    assert len({fold_name(case.id) for case in cases}) == len(names)
    assert [case.image[0].name for case in cases] == [f"{number}.nii" for number in range(len(names))]


def test_images_whose_folders_meet_are_told_apart(tmp_path: Path) -> None:
    content = {"training": [{"image": "p/1/ct.nii"}, {"image": "p_1/ct.nii"}, {"image": "A.nii"}, {"image": "x/a.nii"}]}
    ids = [case.id for case in read(tmp_path, content).cases("training")]
    assert len({case.lower() for case in ids}) == 4
    assert ids[2] == "A"


def test_paths_that_windows_writes_are_found(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images/a.nii").touch()
    datalist = read(tmp_path, {"training": [{"image": "images\\a.nii"}]})
    datalist.check_files()
    assert datalist.cases("training")[0].id == "a"
    with pytest.raises(DataError, match="leaves the data root"):
        read(tmp_path, {"training": [{"image": "..\\a.nii"}]})
