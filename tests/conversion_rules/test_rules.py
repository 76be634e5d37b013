"""Each rule of conversion, with an input just inside and one just outside; the table in the docs names each rule."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conversion_rules import rules_damage, rules_files, rules_labels, rules_values, rules_volumes
from tests.tables import read_table
from voxflow.dicom import ConvertOptions, convert_folder
from voxflow.errors import DataError

if TYPE_CHECKING:
    from tests.conversion_rules.rule import Rule

RULES = rules_volumes.RULES + rules_values.RULES + rules_labels.RULES + rules_files.RULES + rules_damage.RULES
PAGE = Path(__file__).parents[2] / "docs/conversion.md"


def convert(rule: Rule, folder: Path, is_inside: bool) -> list[dict[str, str]]:
    rule.write(folder / "in", is_inside)
    options = ConvertOptions.model_validate({"pseudonym_key": "key", "workers": 1} | rule.options)
    try:
        convert_folder(folder / "in", folder / "out", options)
    except DataError as error:  # nothing at all could be converted, and the message holds the reasons
        return [{"verdict": rule.verdict, "reason": str(error)}]
    return read_table(folder / "out/conversion.csv")


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_an_input_inside_the_rule_is_taken_and_one_outside_has_its_reason(tmp_path: Path, rule: Rule) -> None:
    inside = convert(rule, tmp_path / "inside", True)
    outside = convert(rule, tmp_path / "outside", False)
    assert tuple(row["verdict"] for row in inside) == rule.inside
    assert not [row for row in inside if rule.reason in row["reason"]]
    assert not rule.inside_reason or [row for row in inside if rule.inside_reason in row["reason"]]
    assert [row for row in outside if rule.reason in row["reason"] and row["verdict"] == rule.verdict], outside
    if rule.check:
        rule.check(tmp_path / "inside/out", tmp_path / "outside/out")


def test_the_docs_list_every_rule() -> None:
    section = PAGE.read_text(encoding="utf-8").split("\n## Rules\n", 1)[1].split("\n## ", 1)[0]
    names = re.findall(r"^\| ([^|]+?) \|", section, re.MULTILINE)[1:]
    assert sorted(names) == sorted(rule.name for rule in RULES)
