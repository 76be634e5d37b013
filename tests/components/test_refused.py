"""What lives in TensorFlow alone is answered with the reason and what to use instead."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from voxflow.components import Component, create, find_kinds
from voxflow.components.refused import explain_refusal
from voxflow.config.check import check_component
from voxflow.errors import ConfigError
from voxflow.findings import FindingCollector


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        ("handler", "MMARHandler", "exists only for TensorFlow: AutoML ran many .* by --set, one run for each"),
        ("handler", "ModelAggregator", "learning between sites is not part of Voxflow; train at each site"),
        ("handler", "AdjustLayerLRs", "an own component in the workspace's custom folder"),
        ("inferer", "TRTISInference", "Triton's client; evaluate the exported model with one of the engines"),
        ("loss", "ai4med.components.losses.dice.Dice", "name the component without its module, or write an own one"),
    ],
)
def test_the_reason_is_given_where_a_component_is_built_or_checked(kind: Any, name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        create(kind, Component(name=name))
    findings = FindingCollector(Path("config_train.json"))
    assert check_component(kind, Component(name=name, where="train.x"), findings).typed is None
    with pytest.raises(ConfigError, match=message):
        findings.raise_errors()


def test_a_misspelled_name_is_no_such_case() -> None:
    assert explain_refusal("Dicee") is None


def test_nothing_that_is_refused_is_offered_as_well() -> None:
    from voxflow.components import refused

    assert not [name for name in refused._REASONS if find_kinds(name) or find_kinds(f"tlt2:{name}")]
