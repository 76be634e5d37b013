"""The registry keeps the two dialects' names apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from voxflow.components import Component, create
from voxflow.components import registry as names
from voxflow.components.registry import ComponentModel, canonical_name, find, kinds_of, known, plain_name, register
from voxflow.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def shouting() -> Iterator[type[ComponentModel]]:
    """A handler of TLT's that only this test knows."""

    @register("handler", dialect="tlt2", name="shouting_handler")
    class Shouting(ComponentModel):
        volume: int = 3

    yield Shouting
    del names._registry["handler"]["tlt2:shouting_handler"]


def test_a_component_of_tlt_stands_under_its_canonical_name(shouting: type[ComponentModel]) -> None:
    assert find("handler", canonical_name("handlers.shouting_handler", "tlt2")) is shouting
    assert shouting.component_name() == "tlt2:shouting_handler"
    assert plain_name(shouting.component_name()) == "shouting_handler"
    assert kinds_of("tlt2:shouting_handler") == ["handler"]


def test_each_dialect_offers_its_own_names_only(shouting: type[ComponentModel]) -> None:
    assert known("handler", "tlt2")["shouting_handler"] is shouting
    assert not any(name.startswith("tlt2:") or name == "shouting_handler" for name in known("handler"))


@pytest.mark.usefixtures("shouting")
def test_an_error_speaks_of_the_name_as_it_was_written() -> None:
    with pytest.raises(ConfigError, match=r"unknown handler 'whispering'; known: .*shouting_handler"):
        create("handler", Component(name="tlt2:whispering"))
    with pytest.raises(ConfigError, match="handler shouting_handler: volume: Input should be a valid integer"):
        create("handler", Component(name="tlt2:shouting_handler", args={"volume": "loud"}))
