"""What proportions leave out is mended, and mending takes nothing away."""

from __future__ import annotations

from voxflow.datalist.stratify import _mend_parts, spread_patients


def test_a_part_without_a_trait_gets_it_in_exchange() -> None:
    traits = {"a": {"x=1": 1}, "b": {"x=1": 1}, "c": {"x=0": 1}, "d": {"x=0": 1}}
    dealt = {"a": "first", "b": "first", "c": "second", "d": "second"}
    _mend_parts(dealt, list(traits), traits, ["first", "second"])
    for part in ("first", "second"):
        assert {trait for name in traits if dealt[name] == part for trait in traits[name]} == {"x=0", "x=1"}


def test_the_only_holder_of_a_common_trait_is_not_given_away() -> None:
    traits = {"a": {"x": 1, "y": 1}, "b": {"x": 1}, "c": {"y": 1}, "d": {"z": 1}}
    dealt = {"a": "first", "b": "first", "c": "second", "d": "second"}
    _mend_parts(dealt, list(traits), traits, ["first", "second"])
    for part in ("first", "second"):
        assert {"x", "y"} <= {trait for name in traits if dealt[name] == part for trait in traits[name]}


def test_what_one_patient_alone_has_stays_where_it_is() -> None:
    traits = {"a": {"rare": 1}, "b": {}, "c": {}}
    dealt = {"a": "first", "b": "second", "c": "second"}
    _mend_parts(dealt, list(traits), traits, ["first", "second"])
    assert dealt["a"] == "first"


def test_ten_thousand_patients_are_dealt_in_a_moment() -> None:
    traits = {f"p{n}": {f"f{m}={int(n % (m + 2) == 0)}": 1 for m in range(15)} for n in range(10_000)}
    dealt = spread_patients(list(traits), traits, {"testing": 2000, "validation": 1000, "training": 7000})
    assert sum(part == "testing" for part in dealt.values()) == 2000
