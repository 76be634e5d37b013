"""A case in two parts: an error, unless a person's datalist is allowed to repeat it; then every report says so."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.mmar.conftest import QUICK
from tests.mmar.families import getting_started3
from voxflow.cli.apps import train_main
from voxflow.cli.main import main
from voxflow.datalist import SPLIT_MARK
from voxflow.files import write_json

if TYPE_CHECKING:
    from pathlib import Path

CONFIG = "config/trn_base.json"


@pytest.fixture
def mmar(tmp_path: Path) -> Path:
    """Its datalist validates on a case that training learns from, and on another."""
    return getting_started3(tmp_path / "mmar")


def change_environment(mmar: Path, **values: Any) -> None:
    path = mmar / "config/environment.json"
    write_json(path, json.loads(path.read_text()) | values)


def test_voxflows_own_commands_refuse_it_and_say_what_allows_it(mmar: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(mmar), "-c", CONFIG]) == 2
    assert "or set allow_repeated_cases to true if it is meant" in capsys.readouterr().out
    assert main(["train", str(mmar), "-c", CONFIG, "--set", *QUICK]) == 2
    assert main(["check", str(mmar), "-c", CONFIG, "--set", "allow_repeated_cases=true"]) == 0
    assert "its score says nothing of other patients" in capsys.readouterr().out


def test_the_environment_allows_it_and_every_report_counts_it(mmar: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change_environment(mmar, allow_repeated_cases=True)
    assert main(["check", str(mmar), "-c", CONFIG]) == 0
    assert main(["train", str(mmar), "-c", CONFIG, "--write_train_stats", "--set", *QUICK]) == 0
    assert "1 case(s) of validation are in training, too" in capsys.readouterr().err
    assert json.loads((mmar / "models/train_stats.json").read_text())["repeated_cases"] == 1


def test_claras_own_scripts_go_on_unless_told_not_to(mmar: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["-m", str(mmar), "-c", CONFIG, "--set", *QUICK]
    assert train_main([*arguments, "allow_repeated_cases=false"]) == 2
    assert "spleen_0.nii.gz is training[0], too" in capsys.readouterr().err
    assert train_main(arguments) == 0


def test_the_datalist_of_a_split_never_may(mmar: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = mmar.parent / "sampleData/dataset.json"
    write_json(path, json.loads(path.read_text()) | {"description": f"spleen, {SPLIT_MARK}"})
    arguments = ["-m", str(mmar), "-c", CONFIG, "--set", *QUICK, "allow_repeated_cases=true"]
    assert train_main(arguments) == 2
    assert "keep it in 'training' or in 'validation' only" in capsys.readouterr().err
