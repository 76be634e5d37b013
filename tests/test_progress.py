"""Long work shows itself: plain lines without a terminal, a bar on one, and never on stdout."""

from __future__ import annotations

from typing import TYPE_CHECKING

from voxflow.progress import say, track

if TYPE_CHECKING:
    import pytest


def test_plain_lines_say_how_far_it_is(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("voxflow.progress.PLAIN_INTERVAL_S", 0.0)
    assert list(track(["a", "b", "c"], "converting")) == ["a", "b", "c"]
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == ["converting: 0 of 3", "converting: 1 of 3", "converting: 2 of 3"]


def test_work_of_unknown_length_counts_only(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("voxflow.progress.PLAIN_INTERVAL_S", 0.0)
    assert sum(track(iter(range(3)), "reading")) == 3
    assert capsys.readouterr().err.splitlines() == ["reading: 0", "reading: 1", "reading: 2"]


def test_quick_work_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(track(range(100), "reading")) == list(range(100))
    assert capsys.readouterr() == ("", "")


def test_a_terminal_gets_a_bar_on_stderr(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    assert list(track(range(3), "resampling")) == [0, 1, 2]
    assert capsys.readouterr().out == ""


def test_a_line_is_written_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    say("convert demo: 3 of 3")
    assert capsys.readouterr() == ("", "convert demo: 3 of 3\n")
