"""Configurations, datalists, params and bundles that an enemy wrote: each is one line, at once, at whatever door."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from voxflow.bundle.reading import read_config_file
from voxflow.config import read_json
from voxflow.datalist import Datalist
from voxflow.errors import InputError
from voxflow.files import read_json_or_none, read_text
from voxflow.places import read_params
from voxflow.tables import read_rows, write_table

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.timeout(60)

JSON_DOORS: dict[str, Callable[[Path], Any]] = {
    "config_train.json": read_json,
    "dataset.json": Datalist.read,
    "bundle.json": read_config_file,
}
YAML_DOORS: dict[str, Callable[[Path], Any]] = {"params.yaml": read_params, "bundle.yaml": read_config_file}
NINE_OF_NINE = "a: &a [1,1,1,1,1,1,1,1,1]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefghi", "bcdefghij", strict=True)
)


@pytest.mark.parametrize("name", JSON_DOORS)
@pytest.mark.parametrize(
    "text",
    [
        pytest.param('{"a":' * 100_000, id="deep objects"),
        pytest.param('{"a": ' + "[" * 5000 + "]" * 5000 + "}", id="deep lists"),
        pytest.param('{"a": ' + "9" * 5000 + "}", id="thousands of digits"),
        pytest.param('{"a": NaN}', id="NaN"),
        pytest.param('{"a": 1e999}', id="infinite"),
        pytest.param("/*" * 200_000, id="comments without an end"),
        pytest.param('{"a": ' + '"\\' * 200_000, id="strings without an end"),
        pytest.param("{" + '"a' * 200_000, id="quotes"),
        pytest.param("{" + "," * 400_000, id="commas"),
        pytest.param('{"a": 1} ' + "x" * 300_000, id="a long line behind"),
        pytest.param("\0" * 1000, id="NUL"),
        pytest.param("[1]", id="a list"),
        pytest.param("", id="nothing"),
    ],
)
def test_hostile_json_is_one_short_line(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError) as caught:
        JSON_DOORS[name](tmp_path / name)
    assert name in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_thousands_of_repeated_keys_take_no_time(tmp_path: Path) -> None:
    text = json.dumps({f"key{n}": n for n in range(60_000)})
    for name, read in JSON_DOORS.items():
        (tmp_path / name).write_text(text[:-1] + ", " + text[1:])
        if name == "bundle.json":  # MONAI takes the last of them
            assert len(read(tmp_path / name)) == 60_000
            continue
        with pytest.raises(InputError, match="twice"):
            read(tmp_path / name)


@pytest.mark.parametrize("name", YAML_DOORS)
@pytest.mark.parametrize(
    "text",
    [
        pytest.param("a: " + "[" * 100_000, id="deep lists"),
        pytest.param("a:\n" + "- " * 50_000, id="deep dashes"),
        pytest.param(NINE_OF_NINE, id="a billion laughs"),
        pytest.param("a: &a [*a]\n", id="itself"),
        pytest.param("a: " + "9" * 5000, id="thousands of digits"),
        pytest.param("a: !!python/object/apply:os.system [x]", id="code"),
        pytest.param("a: \0", id="NUL"),
        pytest.param("a: 2001-99-99", id="no date"),
    ],
)
def test_hostile_yaml_is_one_short_line(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError) as caught:
        YAML_DOORS[name](tmp_path / name)
    assert name in str(caught.value)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("name", [*JSON_DOORS, *YAML_DOORS])
def test_a_text_of_a_hundred_megabytes_is_refused(tmp_path: Path, name: str) -> None:
    with (tmp_path / name).open("wb") as stream:
        stream.write(b"{" if name.endswith("json") else b"a: ")
        stream.truncate(100_000_000)
    with pytest.raises(InputError):
        (JSON_DOORS | YAML_DOORS)[name](tmp_path / name)


def test_no_text_of_a_gigabyte_is_read(tmp_path: Path) -> None:
    with (tmp_path / "table.csv").open("wb") as stream:
        stream.truncate(1 << 30)
    for read in (read_text, read_rows):
        with pytest.raises(InputError, match=r"a text of 1,073,741,824 bytes; at most 268,435,456 are read"):
            read(tmp_path / "table.csv")
    assert read_json_or_none(tmp_path / "table.csv") is None


def test_no_text_is_read_from_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.json")
    with pytest.raises(InputError, match="a named pipe, expected a file"):
        read_text(tmp_path / "a.json")
    assert read_json_or_none(tmp_path / "a.json") is None


@pytest.mark.parametrize("value", [10**9, 70_000])
def test_a_label_of_a_billion_values_takes_no_memory(tmp_path: Path, value: int) -> None:
    from voxflow.training import read_facts

    (tmp_path / "labels.json").write_text(json.dumps({"0": "background", str(value): "spleen"}))
    with pytest.raises(InputError, match="label values must be 0 to 65535"):
        read_facts(tmp_path / "labels.json", {}, {})
    (tmp_path / "dataset.json").write_text(json.dumps({"label_format": [value], "training": []}))
    with pytest.raises(InputError, match="whole numbers from 1 to 10000"):
        Datalist.read(tmp_path / "dataset.json")


def test_no_cell_of_a_table_is_longer_than_excel_takes(tmp_path: Path) -> None:
    write_table(tmp_path / "a.csv", [{"reason": "x" * 100_000}], ["reason"])
    rows = read_rows(tmp_path / "a.csv") or []
    assert len(rows[0]["reason"]) == 32_767
    assert rows[0]["reason"].endswith("…")
