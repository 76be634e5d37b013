"""Splits are seeded, keep patients whole, and spread every finding over all parts."""

from __future__ import annotations

from collections import Counter
from typing import Any, Literal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voxflow.datalist import SplitOptions, list_own_test_cases, split_cases
from voxflow.datalist.split import list_lacking_findings
from voxflow.datalist.stratify import spread_patients
from voxflow.errors import DataError

TRAINED_ON = {"training", "validation", "testing"}


def volumes(patients: int, unlabelled: int = 0) -> pd.DataFrame:
    names = [f"p{n:02}" for n in range(patients + unlabelled)]
    labels = [f"labels/{name}.nii.gz" if n < patients else "" for n, name in enumerate(names)]
    return pd.DataFrame({"case": [f"{name}_1" for name in names], "patient": names, "label": labels})


def radiographs(seed: int = 0, patients: int = 80, shares: tuple[float, ...] = (0.5, 0.2, 0.06)) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    patient = rng.integers(0, patients, patients * 2)
    table = pd.DataFrame({"case": [f"c{n}" for n in range(len(patient))], "patient": [f"p{n}" for n in patient]})
    for number, share in enumerate(shares):
        table[f"finding:f{number}"] = (rng.random(len(table)) < share).astype(float)
    return table.assign(label="")


def parts(table: pd.DataFrame, split: dict[str, str]) -> pd.DataFrame:
    return table.assign(part=table["case"].map(split))


def test_shares_are_of_patients_and_unlabelled_cases_are_set_apart() -> None:
    table = volumes(12, unlabelled=2)
    (split,) = split_cases(table, SplitOptions(testing=0.25, validation=0.2))
    assert Counter(split.values()) == {"training": 7, "validation": 2, "testing": 3, "inference": 2}
    assert {split["p12_1"], split["p13_1"]} == {"inference"}


def test_counts_may_be_given_instead_of_shares() -> None:
    (split,) = split_cases(volumes(100), SplitOptions(testing=20, validation=10))
    assert Counter(split.values()) == {"training": 70, "validation": 10, "testing": 20}


def test_the_seed_decides_whatever_the_order_of_rows() -> None:
    table = volumes(30)
    shuffled = table.sample(frac=1, random_state=1)
    assert split_cases(table, SplitOptions(seed=3)) == split_cases(table, SplitOptions(seed=3))
    assert split_cases(table, SplitOptions(seed=3))[0] == split_cases(shuffled, SplitOptions(seed=3))[0]
    assert split_cases(table, SplitOptions(seed=3)) != split_cases(table, SplitOptions(seed=4))


@pytest.mark.parametrize("seed", range(5))
def test_patients_stay_whole_and_findings_are_everywhere(seed: int) -> None:
    table = radiographs(seed)
    (split,) = split_cases(table, SplitOptions(seed=seed, testing=0.25, validation=0.15))
    table_of_parts = parts(table, split)
    assert set(table_of_parts["part"]) == TRAINED_ON
    assert table_of_parts.groupby("patient")["part"].nunique().max() == 1
    assert list_lacking_findings(table_of_parts) == []
    share = table_of_parts.groupby("part")["finding:f1"].mean()
    assert share.max() - share.min() < 0.06


def test_a_patient_with_many_cases_weighs_as_many() -> None:
    table = pd.DataFrame({"case": [f"c{n}" for n in range(60)], "label": ""})
    table["patient"] = ["many"] * 20 + [f"p{n}" for n in range(40)]
    table["finding:mass"] = (np.arange(60) % 2).astype(float)
    for seed in range(10):
        (split,) = split_cases(table, SplitOptions(seed=seed, testing=0.2, validation=0.2))
        counted = Counter(split.values())
        assert split["c0"] == "training"
        assert counted["testing"] == counted["validation"] == 8


def test_a_finding_of_three_patients_is_in_all_three_parts() -> None:
    table = volumes(40)
    table["finding:common"] = (np.arange(40) % 2).astype(float)
    table["finding:rare"] = np.isin(np.arange(40), (5, 6, 7)).astype(float)
    for seed in range(20):
        (split,) = split_cases(table, SplitOptions(seed=seed, testing=0.2, validation=0.1))
        assert {split[f"p0{n}_1"] for n in (5, 6, 7)} == TRAINED_ON


def test_a_finding_that_too_few_patients_have_is_named() -> None:
    table = volumes(20)
    table["finding:rare"] = (np.arange(20) == 3).astype(float)
    (split,) = split_cases(table, SplitOptions())
    lacks = list_lacking_findings(parts(table, split))
    assert len(lacks) == 2
    assert all(line.endswith("has no case with rare") for line in lacks)


def test_a_case_with_an_unknown_finding_is_for_inference_only() -> None:
    table = radiographs()
    table.loc[3, "finding:f1"] = np.nan
    (split,) = split_cases(table, SplitOptions())
    assert split["c3"] == "inference"
    assert Counter(split.values())["inference"] == 1


@pytest.mark.parametrize("table", [volumes(23), radiographs()], ids=["volumes", "radiographs"])
def test_folds_validate_on_every_unseen_patient_once(table: pd.DataFrame) -> None:
    first, *folds = split_cases(table, SplitOptions(testing=0.2, folds=4))
    assert len(folds) == 4
    testing = {case for case, part in first.items() if part == "testing"}
    validated: list[str] = []
    for fold in folds:
        assert {case for case, part in fold.items() if part == "testing"} == testing
        assert parts(table, fold).groupby("patient")["part"].nunique().max() == 1
        validated += [case for case, part in fold.items() if part == "validation"]
    assert sorted(validated) == sorted(set(first) - testing)


def test_lists_fix_who_is_tested_and_bring_the_whole_patient() -> None:
    table = pd.concat([volumes(10), volumes(1).assign(case="p00_2")])
    table["source"] = "imagesTr/" + table["case"] + ".nii.gz"
    options = SplitOptions(testing=("p00_2", "p03", "imagesTr/p05_1.nii.gz"), validation=2)
    (split,) = split_cases(table, options)
    assert sorted(case for case, part in split.items() if part == "testing") == ["p00_1", "p00_2", "p03_1", "p05_1"]
    assert Counter(split.values()) == {"testing": 4, "validation": 2, "training": 5}


@pytest.mark.parametrize(
    ("patients", "options", "message"),
    [
        (2, {}, "2 labelled patients are too few: training would be empty"),
        (0, {}, "0 labelled patients are too few"),
        (9, {"testing": 0}, r"testing would be empty .*\(testing 0, validation 0.2\)"),
        (9, {"testing": 8}, "training and validation would be empty or smaller than asked"),
        (9, {"testing": 20}, "9 labelled patients are too few: training and validation and testing"),
        (5, {"folds": 9}, "4 patients outside testing can't make 9 folds"),
        (9, {"testing": ("p01", "nobody")}, "no labelled case, patient or source file is called nobody"),
        (9, {"testing": ("p01",), "validation": ("p01_1",)}, "leakage: .*testing and in validation: p01"),
    ],
)
def test_an_impossible_split_is_refused(patients: int, options: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        split_cases(volumes(patients), SplitOptions(**options))


@settings(deadline=None, max_examples=60)
@given(
    rows=st.lists(st.tuples(st.integers(0, 30), st.booleans(), st.booleans()), min_size=1, max_size=80),
    sizes=st.lists(st.integers(1, 9), min_size=2, max_size=4),
)
def test_whatever_the_patients_all_are_dealt_once(rows: list[tuple[int, bool, bool]], sizes: list[int]) -> None:
    traits = {f"p{n}": {f"a={int(a)}": 1, f"b={int(b)}": 2} for n, a, b in rows}
    expected = {str(part): size for part, size in enumerate(sizes)}
    dealt = spread_patients(list(traits), traits, expected)
    assert dealt.keys() == traits.keys()
    counted = Counter(dealt.values())
    if len(traits) <= sum(sizes):
        assert all(counted[part] <= size for part, size in expected.items())
    else:
        assert all(counted[part] == size for part, size in expected.items() if part != str(len(sizes) - 1))


def own_parts(subsets: str, patients: str | None = None) -> pd.DataFrame:
    """One case a letter: R for training, E for testing, - for neither; patients likewise by letters."""
    words = {"R": "training", "E": "testing", "-": ""}
    cases = [f"c{n:02}" for n in range(len(subsets))]
    table = pd.DataFrame({"case": cases, "patient": list(patients or cases), "label": "mask.nii.gz"})
    return table.assign(subset=[words[letter] for letter in subsets])


@pytest.mark.parametrize("testing", [None, "dataset"])
@pytest.mark.parametrize("folds", [0, 3])
def test_the_data_sets_own_test_part_is_the_test_part(testing: Literal["dataset"] | None, folds: int) -> None:
    table = own_parts("RRRRRRRREEE")
    for number, split in enumerate(split_cases(table, SplitOptions(testing=testing, folds=folds))):
        own = set(table["case"][table["subset"] == "testing"])
        assert {case for case, part in split.items() if part == "testing"} == own, number
        assert set(split.values()) == {"training", "validation", "testing"}


def test_another_case_of_a_test_patient_goes_with_it_and_an_unlabelled_one_is_inferred() -> None:
    table = own_parts("RRRRE-E", "abcdeef")
    table.loc[6, "label"] = ""
    (split,) = split_cases(table, SplitOptions())
    assert [split[case] for case in ("c04", "c05", "c06")] == ["testing", "testing", "inference"]


def test_a_patient_in_both_parts_of_the_data_set_is_refused_with_the_cases() -> None:
    with pytest.raises(DataError, match="training and in testing: c01, c05"):
        split_cases(own_parts("RRRRRE", "abcdeb"), SplitOptions())


def test_a_data_set_without_a_labelled_test_part_is_split_by_shares_unless_asked() -> None:
    table = own_parts("RRRRRRRRRR")
    (split,) = split_cases(table, SplitOptions())
    assert split == split_cases(table.drop(columns="subset"), SplitOptions(testing=0.2))[0]
    with pytest.raises(DataError, match="no labelled case is of the data set's own test part"):
        split_cases(table, SplitOptions(testing="dataset"))


def test_own_test_cases_that_a_share_puts_into_training_are_listed() -> None:
    table = own_parts("RRRREEEEEE")
    (split,) = split_cases(table, SplitOptions(testing=1, validation=1))
    expected = [case for case in table["case"][4:] if split[case] != "testing"]
    assert list_own_test_cases(parts(table, split)) == expected
    assert expected
