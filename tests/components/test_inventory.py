"""Every name of the two products' inventory is in the registry, takes its arguments, and has its row in the table.

``inventory.json`` lists what TLT 2.0's (section E) and Clara 3.1's documents (F) and published configurations (G) name.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import AliasChoices

from tests.conftest import ROOT
from voxflow.components import canonical_name, find_component, list_component_names, plain_name

if TYPE_CHECKING:
    from voxflow.components import ComponentModel, Dialect

HERE = Path(__file__).parent
INVENTORY: list[dict[str, Any]] = json.loads((HERE / "inventory.json").read_text())
ROW = re.compile(r"^\| `([\w.]+)` \| ([\w\- ]+) \| (.+?) \| `(test_\w+\.py)` \| (.+?) \|$", re.MULTILINE)
SPOKEN = {"auxiliary output": "aux_op", "learning-rate policy": "lr_policy", "model loader": "model_loader"}
TITLES = {"## TLT 2.0": "tlt2", "## Clara 3.1": "clara3", "## Also in published": "clara3"}


def dialect_of(entry: dict[str, Any]) -> Dialect:
    return "tlt2" if entry["section"] == "E" else "clara3"


def table() -> dict[tuple[str, str, str], str]:
    """The test of each row by dialect, kind and name."""
    rows: dict[tuple[str, str, str], str] = {}
    dialect = ""
    for line in (ROOT / "docs" / "components.md").read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            dialect = next((value for title, value in TITLES.items() if line.startswith(title)), "")
        match = ROW.match(line)
        if match:
            name, kind, _, test, _ = match.groups()
            rows[dialect, SPOKEN.get(kind, kind), name] = test
    return rows


def arguments(component: type[ComponentModel]) -> set[str]:
    """Every name under which it takes an argument."""
    names: set[str] = set()
    for name, field in component.model_fields.items():
        alias = field.validation_alias
        choices = alias.choices if isinstance(alias, AliasChoices) else [alias or name]
        names |= {choice for choice in choices if isinstance(choice, str)}
    return names


@pytest.mark.parametrize("entry", INVENTORY, ids=lambda entry: f"{entry['section']}-{entry['kind']}-{entry['name']}")
def test_the_registry_knows_the_name_and_its_arguments(entry: dict[str, Any]) -> None:
    component = find_component(entry["kind"], canonical_name(entry["name"], dialect_of(entry)))
    assert component is not None
    assert set(entry["args"]) <= arguments(component)


def test_the_table_has_a_row_for_every_name_and_none_too_many() -> None:
    expected_rows = {(dialect_of(entry), entry["kind"], entry["name"]) for entry in INVENTORY}
    assert set(table()) == expected_rows


@pytest.mark.parametrize(("row", "test"), table().items(), ids=str)
def test_the_test_that_the_table_names_is_about_the_component(row: tuple[str, str, str], test: str) -> None:
    dialect, kind, name = row
    component = find_component(kind, canonical_name(name, dialect))  # type: ignore[arg-type]
    related = {
        plain_name(base.component_name())
        for base in (component.__mro__ if component else ())
        if hasattr(base, "component_name")
    }
    text = (HERE / test).read_text(encoding="utf-8")
    assert any(f'{mark}{plain}"' in text for plain in related for mark in ('"', "tlt2:"))


def test_nothing_of_tlts_is_known_that_the_inventory_does_not_name() -> None:
    inventory_names = {entry["name"].rpartition(".")[2] for entry in INVENTORY if entry["section"] == "E"}
    kinds = {entry["kind"] for entry in INVENTORY}
    assert {name for kind in kinds for name in list_component_names(kind, "tlt2")} == inventory_names
