"""Names of cases, classes and metrics never meet: as many outputs as inputs, each found again by its name."""

from __future__ import annotations

import posixpath
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.utils.validation import _validate_metric_name

from voxflow.naming import (
    MAX_BYTES,
    RESERVED_CASES,
    fold_name,
    make_case_name,
    make_distinct_names,
    make_file_name,
    make_metric_name,
    name_cases,
    name_classes,
    name_files,
)

# Names that meet on purpose: few letters, in both cases, composed and decomposed, and what files do not take.
LETTERS = st.sampled_from([*"aA_- ./\\#,'\"()<>|{}%$@+1\n\t", "ü", "u\u0308", "ß", "ss", "肝", "\x00", "\ud800"])
NAMES = st.lists(LETTERS, max_size=6).map("".join) | st.text(max_size=300)
NAME_SETS = st.lists(NAMES, max_size=12, unique=True)
PEOPLES_NAMES = ["CT (1)", "scan#2", "a,b", "O'Brien", "50%", "{x}", "[1]", "Müller", "肝臓 $x$", "a" * 200]


@given(NAME_SETS)
def test_every_case_has_a_file_name_of_its_own(names: list[str]) -> None:
    ids = name_cases(names)
    assert list(ids) == names
    assert len({fold_name(case) for case in ids.values()} | set(RESERVED_CASES)) == len(names) + len(RESERVED_CASES)
    for case in ids.values():
        assert case == make_case_name(case)
        assert not re.search(r'[/\\:*?"<>|\x00-\x1f]', case)
        assert not case.startswith(("-", "."))
        assert 0 < len(case.encode()) <= MAX_BYTES + 8


@given(NAME_SETS, st.randoms())
def test_ids_do_not_depend_on_the_order_of_names(names: list[str], random: object) -> None:
    shuffled = list(names)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert name_cases(shuffled) == name_cases(names)


@pytest.mark.parametrize("name", PEOPLES_NAMES)
def test_names_that_people_have_stay(name: str) -> None:
    assert name_cases([name, "other"])[name] == name


@pytest.mark.parametrize(
    ("name", "case"),
    [
        ("..", "_"),
        ("../../etc/x", "__.._etc_x"),
        ("-rf", "_rf"),
        ("a\nb", "a_b"),
        ("", "_"),
        ("x. ", "x"),
        ("ü" * 200, "ü" * 100),
    ],
)
def test_what_no_file_can_be_called_is_changed(name: str, case: str) -> None:
    assert name_cases([name])[name] == case


@given(NAME_SETS)
def test_every_class_has_a_report_of_its_own(names: list[str]) -> None:
    files = name_files(names)
    assert len({fold_name(file) for file in files.values()}) == len(names)
    assert all(re.fullmatch(r"[\w.][\w.-]*", file) for file in files.values())


@given(NAME_SETS)
def test_every_metric_has_a_name_of_its_own_that_mlflow_takes(names: list[str]) -> None:
    distinct = make_distinct_names(names, make_metric_name)
    assert len({fold_name(name) for name in distinct.values()}) == len(names)
    for name in distinct.values():
        _validate_metric_name(name)
        assert posixpath.normpath(name) == name
        assert len(name) <= 250


def test_a_metric_is_called_alike_whatever_stands_beside_it() -> None:
    assert make_metric_name("dice_liver<1500") != make_metric_name("dice_liver>1500")
    assert make_metric_name("test/dice_left kidney") == "test/dice_left kidney"


@given(st.lists(NAMES, max_size=8), st.booleans())
def test_every_class_has_a_name_of_its_own(names: list[str], are_columns: bool) -> None:
    distinct = name_classes(names, are_columns=are_columns)
    assert len(set(distinct)) == len(names)
    assert all((name.strip() and name.isprintable()) or not name.isascii() for name in distinct)
    assert name_classes(distinct, are_columns=are_columns) == distinct
    if are_columns:
        columns = ["case", "image", "remark", *distinct, *(f"probability_{name}" for name in distinct)]
        assert len(set(columns)) == len(columns)


def test_classes_of_one_name_are_numbered() -> None:
    names = ["background", "background", "liver (1)", "liver", "liver", "+", "-", "7", ""]
    expected = ("background", "background (1)", "liver (1)", "liver", "liver (4)", "+", "-", "7", "class_8")
    assert name_classes(names) == expected
    assert name_classes(["case", "mean", "all", "remark"], are_columns=True) == (
        "case (0)",
        "mean",
        "all",
        "remark (3)",
    )


def test_class_names_of_one_punctuation_mark_keep_apart() -> None:
    assert len(set(name_files(["+", "-", "<", ".."]).values())) == 4
    assert make_file_name("left kidney") == "left_kidney"
