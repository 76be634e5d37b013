"""What a reader finds: values to whoever inspects a configuration, a log and an exception to whoever loads it."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from voxflow.config import Workflow, inspect_configuration, load_workflow
from voxflow.findings import FaultyConfigError

if TYPE_CHECKING:
    from voxflow.config import Inspection

SPLEEN = Path(__file__).parent / "seeds" / "clara3_spleen_train.json"
PLACES = {"DATA_ROOT": "data", "DATASET_JSON": "list.json"}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """The configuration of the spleen with a search of AutoML's, which is warned about."""
    content: dict[str, Any] = json.loads(SPLEEN.read_text(encoding="utf-8"))
    content["train"]["model"]["search"] = []
    path = tmp_path / "config_train.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def inspect(path: Path, **overrides: Any) -> Inspection:
    return inspect_configuration(path, overrides=PLACES | overrides)


def test_a_warning_is_returned_to_who_inspects_and_logged_for_who_loads(
    config: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        (warning,) = inspect(config).findings
    assert (warning.severity, warning.code, warning.where) == ("warning", "ignored", "train.model.search")
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        load_workflow(config, overrides=PLACES)
    assert f"{config}: train.model.search: {warning.text}" in caplog.text


def test_a_fault_has_its_code_place_and_fix_as_values(config: Path) -> None:
    inspection = inspect(config, **{"train.loss.name": "Dise"})
    fault = inspection.findings[-1]
    assert (fault.code, fault.where, fault.message) == ("unknown-component", "train.loss.name", "unknown loss 'Dise'")
    assert fault.fix == "write 'Dice'"
    assert inspection.loaded is None
    assert inspection.is_read


def test_who_loads_gets_the_same_faults_in_one_exception(config: Path) -> None:
    with pytest.raises(
        FaultyConfigError, match=r"train\.loss\.name: unknown loss 'Dise'; did you mean 'Dice'\?"
    ) as caught:
        load_workflow(config, overrides=PLACES | {"train.loss.name": "Dise"})
    assert caught.value.faults == inspect(config, **{"train.loss.name": "Dise"}).findings[-1:]


def test_every_component_carries_its_typed_arguments(config: Path) -> None:
    inspection = inspect(config)
    assert isinstance(inspection.loaded, Workflow)
    assert all(component.typed is not None for _, component in inspection.components)
    assert inspection.loaded.train.loss.typed in [component.typed for _, component in inspection.components]


def test_what_is_no_json_is_a_finding_too(tmp_path: Path) -> None:
    path = tmp_path / "config_train.json"
    path.write_text('{"epochs": Ture}')
    inspection = inspect(path)
    (fault,) = inspection.findings
    assert (fault.code, fault.where, fault.fix) == ("syntax", "line 1, column 12", "write true")
    assert not inspection.is_read
