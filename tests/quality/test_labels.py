"""Findings about the classes of a data set: each with the case, the value and what would be right."""

from __future__ import annotations

from typing import Any

import pandas as pd

from voxflow.quality import ValidateOptions, check_labels


def find(values: list[str | None], classes: dict[str, tuple[int, ...]], **more: Any) -> dict[str, dict[str, str]]:
    """The failures by check, of cases c0, c1 ... with these label values."""
    cases = [f"c{n}" for n in range(len(values))]
    table = pd.DataFrame({"case": cases, **({"labelled": more.pop("labelled")} if "labelled" in more else {})})
    measured = pd.DataFrame({"case": cases, "label_values": values})
    outcomes = check_labels(measured, table, classes, more.pop("options", ValidateOptions()), **more)
    assert all(not outcome.success for outcome in outcomes)
    return {outcome.check.name: outcome.failures for outcome in outcomes}


def test_labels_in_order_give_no_outcome() -> None:
    assert find(["0 1 2", "0 1 2", None], {"liver": (1,), "tumour": (2,)}) == {}
    assert find(["0 1 2 4", "0 1 2 4"], {"whole": (1, 2, 4), "core": (1, 4)}) == {}
    assert find(["0 1 255", "0 1"], {"liver": (1,)}, ignore=255) == {}


def test_gap_comes_with_the_remapping() -> None:
    failures = find(["0 255", "0 255"], {"label_255": (255,)})
    text = '255 network answers for 1 classes; convert: labels: {255: "label_255"} numbers them from 1'
    assert failures == {"label values are counted from 1": {"all cases": text}}


def test_value_that_only_one_case_has_is_named_with_its_case() -> None:
    failures = find(["0 1", "0 1 7", "0 1"], {"liver": (1,), "node": (7,)})
    assert failures["label value is in several cases"] == {"c1": "7: node"}
    assert failures["classes are in the case"] == {"c0": "no node", "c2": "no node"}
    assert "label value is in several cases" not in find(["0 1", "0 1 7"], {"liver": (1,), "node": (7,)})


def test_class_that_is_nowhere_has_its_reason() -> None:
    classes: dict[str, tuple[int, ...]] = {"liver": (1,), "vein": (2,), "duct": (3,)}
    failures = find(["0 1 255", "0 1"], classes, ignore=255, labelled=["liver;vein", "liver;vein"])
    reasons = (
        "vein (2): no voxel in the 2 cases in which it was labelled, 1 of which are not whole",
        "duct (3): labelled in no case",
    )
    assert failures == {"class is in some case": {"all cases": "; ".join(reasons)}}


def test_empty_region_is_found_and_an_unlabelled_one_is_not_missing() -> None:
    classes = {"whole": (1, 4), "active": (4,)}
    assert find(["0 1 4", "0 1"], classes) == {"classes are in the case": {"c1": "no active"}}
    assert find(["0 1 4", "0 1"], classes, labelled=["", "whole"]) == {}


def test_options_decide_about_the_severity() -> None:
    options = ValidateOptions(critical=("class is in some case",))
    measured = pd.DataFrame({"case": ["a"], "label_values": ["0"]})
    outcomes = check_labels(measured, measured[["case"]], {"liver": (1,)}, options)
    assert {outcome.check.name: outcome.check.severity for outcome in outcomes} == {"class is in some case": "critical"}
