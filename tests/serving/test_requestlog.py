"""The log of the service is bounded, and a disk that is full stops no request."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from voxflow.serving import start_log, stop_log
from voxflow.serving.requestlog import LOG_FILES, RequestRecord

if TYPE_CHECKING:
    import pytest


def test_the_log_begins_a_new_file_when_it_is_full(tmp_path: Path) -> None:
    handler = start_log(tmp_path / "new" / "serve.log", 1)
    handler.maxBytes = 1000  # type: ignore[attr-defined]
    try:
        for _ in range(200):
            RequestRecord("POST", "/predict", "10.0.0.7", 200, received=12).write()
    finally:
        stop_log(handler)
    files = list((tmp_path / "new").iterdir())
    assert len(files) == LOG_FILES + 1
    assert max(file.stat().st_size for file in files) <= 1000
    line = (tmp_path / "new" / "serve.log").read_text().splitlines()[0]
    assert line.split(" ", 1)[1].startswith(
        "10.0.0.7 POST /predict 200 received=12 waited=0.000 inference=0.000 total=0."
    )


def test_a_log_that_can_not_be_written_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    handler = start_log(Path("/dev/full"), 1)
    try:
        for _ in range(3):
            RequestRecord().write()
    finally:
        stop_log(handler)
    assert capsys.readouterr().err.count("can't be written") == 1
