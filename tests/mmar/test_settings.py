"""--set: values typed as JSON where they parse, strings otherwise; who wins over whom."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.mmar import families
from voxflow.config import load_evaluation
from voxflow.config.source import set_nested
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


@pytest.mark.parametrize(
    ("stated", "environment", "settings", "key"),
    [
        ("test", {}, {}, "test"),
        ("test", {"DATA_LIST_KEY": "training"}, {}, "test"),
        ("test", {"DATA_LIST_KEY": "training"}, {"DATA_LIST_KEY": "validation"}, "validation"),
        ("{DATA_LIST_KEY}", {}, {}, "validation"),
        ("{DATA_LIST_KEY}", {"DATA_LIST_KEY": "training"}, {}, "training"),
        ("absent", {}, {}, "absent"),
    ],
)
def test_clara_4_takes_the_cases_that_its_configuration_names(
    tmp_path: Path, stated: str, environment: dict[str, str], settings: dict[str, str], key: str
) -> None:
    root = families.getting_started4(tmp_path / "mmar")
    config = root / "config/config_inference.json"
    content = json.loads(config.read_text())
    content["dataset"]["data_list_key"] = stated
    write_json(config, content)
    variables = root / "config/environment.json"
    write_json(variables, {**json.loads(variables.read_text()), **environment})
    mmar = Mmar.open(root, "config/config_inference.json", values=settings)
    evaluation = load_evaluation(
        mmar.config, environment=mmar.environment, overrides=mmar.overrides, workspace=mmar.root
    )
    assert evaluation.image_pipeline is not None
    assert evaluation.image_pipeline.args["data_list_key"] == key


@pytest.mark.parametrize(
    ("place", "value", "line"),
    [
        ("dataset.name", "Dtaset", "dataset.name: unknown dataset 'Dtaset'; did you mean 'Dataset'?"),
        ("inferer.args.overlap", 1.5, "overlap: expected a number from 0 to below 1, received 1.5"),
        ("inferer.args.overlap", "0.5", "overlap: expected a number from 0 to below 1, received '0.5'"),
        ("metrics[0].args.output_transform", "lambda x: x['pred']", "names 1 field(s), pred; a metric compares two"),
        ("model", None, "model: missing; name a file (ts_path, ckpt_path), or describe a network"),
    ],
)
def test_clara_4_refuses_what_an_evaluation_would_not_obey(tmp_path: Path, place: str, value: Any, line: str) -> None:
    root = families.getting_started4(tmp_path / "mmar")
    config = root / "config/config_validation.json"
    content = json.loads(config.read_text())
    set_nested(content, place, value)
    write_json(config, content)
    mmar = Mmar.open(root, "config/config_validation.json")
    with pytest.raises(ConfigError) as caught:
        load_evaluation(mmar.config, environment=mmar.environment, overrides=mmar.overrides, workspace=mmar.root)
    assert line in str(caught.value)
