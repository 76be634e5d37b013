"""Cells of tables: numbers are rounded, names never are."""

from __future__ import annotations

import pytest

from voxflow.reporting.tables import make_table, parse_number


@pytest.mark.parametrize(
    ("text", "value"), [("0.25", 0.25), ("-3", -3.0), ("1e-05", 1e-5), ("2.5e+16", 2.5e16), ("7.", 7.0)]
)
def test_numbers_are_read(text: str, value: float) -> None:
    assert parse_number(text) == value


@pytest.mark.parametrize("text", ["", None, "spleen", "98e65432_1", "12e45678", "1_000", "inf", "nan"])
def test_words_and_names_are_no_numbers(text: str | None) -> None:
    assert parse_number(text) is None


def test_a_case_whose_name_looks_like_a_huge_number_is_shown_as_it_is() -> None:
    table = make_table([{"case": "98e65432_1", "dice": "0.912345"}], missing="", rounded=True)
    assert table.rows == (("98e65432_1", "0.912"),)


def test_columns_that_spell_alike_keep_their_names() -> None:
    table = make_table([{"case": "a", "dice_left_kidney": "1", "dice_left kidney": "0"}], missing="")
    assert table.columns == ("case", "dice_left_kidney", "dice_left kidney")
