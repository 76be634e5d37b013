"""--set: values typed as JSON where they parse, strings otherwise; who wins over whom."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from voxflow.errors import ConfigError
from voxflow.files import write_json
from voxflow.mmar import Mmar, parse_settings

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("false", False),
        ("True", True),
        ("1260", 1260),
        ("1e-4", 1e-4),
        ("[96, 96]", [96, 96]),
        ('"20191201"', "20191201"),
        ("", ""),
        ("/a/b=c.json", "/a/b=c.json"),
        ("NaN", "NaN"),
        ("0123", "0123"),
    ],
)
def test_values_are_json_or_else_text(text: str, value: Any) -> None:
    read = parse_settings([f"key={text}"])["key"]
    assert read == value
    assert type(read) is type(value)


def test_every_pair_without_a_value_is_named() -> None:
    with pytest.raises(ConfigError, match="received 'epochs', '=3'"):
        parse_settings(["epochs", "=3", "a=1"])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_json(tmp_path / "m" / "config" / "config_train.json", {"DATA_LIST_KEY": "mine", "MMAR_CKPT_DIR": "a"})
    write_json(tmp_path / "m" / "config" / "environment.json", {"MMAR_CKPT_DIR": "b", "DATA_ROOT": "images"})
    return tmp_path / "m"


def test_set_wins_over_environment_over_configuration(folder: Path) -> None:
    assert Mmar.open(folder).variables["DATA_LIST_KEY"] == "mine"
    assert Mmar.open(folder).models == folder / "b"
    assert Mmar.open(folder, values={"MMAR_CKPT_DIR": "c"}).models == folder / "c"
    assert Mmar.open(folder).eval == folder / "eval"


def test_inputs_are_looked_for_in_the_mmar_then_here_then_in_the_repository(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    current = folder.parent / "here"
    current.mkdir()
    monkeypatch.chdir(current)
    assert Mmar.open(folder).variables["DATA_ROOT"] == (folder / "images").as_posix()
    for name in ("dvc.yaml", "params.yaml"):
        (folder.parent / name).touch()
    (folder.parent / "images").mkdir()
    assert Mmar.open(folder).variables["DATA_ROOT"] == (folder.parent / "images").as_posix()
    (current / "images").mkdir()
    assert Mmar.open(folder).variables["DATA_ROOT"] == (current / "images").as_posix()
    (folder / "images").mkdir()
    assert Mmar.open(folder).variables["DATA_ROOT"] == (folder / "images").as_posix()


def test_what_is_missing_is_named(folder: Path) -> None:
    with pytest.raises(ConfigError, match="no such MMAR folder"):
        Mmar.open(folder / "none")
    with pytest.raises(ConfigError, match=r"config_x\.json: file not found, neither there nor at "):
        Mmar.open(folder, "config/config_x.json")
