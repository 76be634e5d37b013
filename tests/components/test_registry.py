"""The registry keeps the two dialects' names apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from voxflow.components import (
    Component,
    ComponentModel,
    canonical_name,
    create,
    find_component,
    find_kinds,
    list_component_names,
    plain_name,
    registry,
)
from voxflow.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def shouting() -> Iterator[type[ComponentModel]]:
    """A handler of TLT's that only this test knows."""

    @registry.register("handler", dialect="tlt2", name="shouting_handler")
    class Shouting(ComponentModel):
        volume: int = 3

    yield Shouting
    del registry._components["handler"]["tlt2:shouting_handler"]


def test_a_component_of_tlt_stands_under_its_canonical_name(shouting: type[ComponentModel]) -> None:
    assert find_component("handler", canonical_name("handlers.shouting_handler", "tlt2")) is shouting
    assert shouting.component_name() == "tlt2:shouting_handler"
    assert plain_name(shouting.component_name()) == "shouting_handler"
    assert find_kinds("tlt2:shouting_handler") == ["handler"]


@pytest.mark.usefixtures("shouting")
def test_each_dialect_offers_its_own_names_only() -> None:
    assert "shouting_handler" in list_component_names("handler", "tlt2")
    assert not any(name.startswith("tlt2:") or name == "shouting_handler" for name in list_component_names("handler"))


@pytest.mark.usefixtures("shouting")
def test_an_error_speaks_of_the_name_as_it_was_written() -> None:
    with pytest.raises(ConfigError, match=r"unknown handler 'whispering'; known: .*shouting_handler"):
        create("handler", Component(name="tlt2:whispering"))
    with pytest.raises(ConfigError, match="handler shouting_handler: volume: Input should be a valid integer"):
        create("handler", Component(name="tlt2:shouting_handler", args={"volume": "loud"}))
