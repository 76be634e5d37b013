"""Forgiven and unforgiven JSON."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING

import pytest

from voxflow.config import read_json
from voxflow.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


def written(folder: Path, text: str) -> Path:
    path = folder / "config.json"
    path.write_text(text, encoding="utf-8")
    return path


def test_forgives_comments_and_trailing_commas_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = written(tmp_path, '{\n  // how long\n  "epochs": 3, /* enough */\n  "list": [1, 2,],\n}')
    with caplog.at_level(logging.WARNING):
        assert read_json(path) == {"epochs": 3, "list": [1, 2]}
    assert "2 comment(s) and 2 trailing comma(s)" in caplog.text


def test_what_looks_like_a_comment_in_a_string_stays(tmp_path: Path) -> None:
    assert read_json(written(tmp_path, '{"a": "http://x/,]", "b": "\\"//"}')) == {"a": "http://x/,]", "b": '"//'}


def test_keys_with_two_underscores_are_comments(tmp_path: Path) -> None:
    assert read_json(written(tmp_path, '{"__note": 1, "a": {"__b": 2}}')) == {"a": {}}


def test_a_misspelled_true_is_named_by_line_and_column(tmp_path: Path) -> None:
    path = written(tmp_path, '{\n  // first\n  "multi_gpu": ture\n}')
    with pytest.raises(ConfigError, match=r"config.json: line 3, column 16: .*'\"multi_gpu\": ture'"):
        read_json(path)


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("ture", "did you mean true?"),
        ("True", "did you mean true?"),
        ("flase", "did you mean false?"),
        ("None", "did you mean null?"),
        ("image", "text stands in quotation marks"),
    ],
)
def test_a_bare_word_is_told_for_what_it_was_meant(tmp_path: Path, word: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=f"line 1, column 7: .*{re.escape(hint)}"):
        read_json(written(tmp_path, f'{{"a": {word}}}'))


def test_a_missing_comma_is_named_where_the_next_word_begins(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"line 3, column 3: .*Expecting ',' delimiter.*label"):
        read_json(written(tmp_path, '{\n  "image": "im1.png"\n  "label": [0]\n}'))


@pytest.mark.parametrize("text", ["", "[1]", "{"])
def test_refuses_what_is_no_object(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match="JSON"):
        read_json(written(tmp_path, text))


def test_nesting_without_end_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nested too deeply"):
        read_json(written(tmp_path, '{"a": ' + "[" * 100_000 + "]" * 100_000 + "}"))


def test_refuses_a_key_that_stands_twice(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="stands twice in one object: 'a'"):
        read_json(written(tmp_path, '{"a": 1, "a": 2}'))


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere.json: file not found"):
        read_json(tmp_path / "nowhere.json")
