"""A PACS that says that it knows no place to send to: one error about the settings, no failure of each series."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest
from pydicom.dataset import Dataset

from tests.ports import reserve_port
from voxflow.errors import EXIT_WRONG_INPUT, ConfigError
from voxflow.pacs import IngestOptions, Ledger, ingest, open_archive, parse_settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SERIES = ("1.2.840.99.1.1", "1.2.840.99.1.2")


def find_series(event: Any) -> Iterator[tuple[int, Dataset]]:
    """One study of two series with an object each."""
    level = event.identifier.QueryRetrieveLevel
    open_pacs = getattr(event.identifier, "SeriesInstanceUID", "")
    for series in SERIES[:1] if level == "STUDY" else SERIES:
        answer = Dataset()
        answer.QueryRetrieveLevel = level
        answer.StudyInstanceUID = "1.2.840.99.1"
        if level != "STUDY":
            answer.SeriesInstanceUID, answer.Modality = series, "CT"
        if level == "IMAGE":
            answer.SOPInstanceUID = f"{series}.1"
        if level != "IMAGE" or series == open_pacs:
            yield 0xFF00, answer


def unknown(_event: Any) -> Iterator[tuple[None, None]]:
    """What pynetdicom answers with 0xA801."""
    yield None, None


@contextlib.contextmanager
def archive_of_strangers() -> Iterator[int]:
    """A port behind which C-FIND works and C-MOVE knows no destination."""
    pynetdicom = pytest.importorskip("pynetdicom", reason="pynetdicom is not installed (pip install 'voxflow[pacs]')")
    from pynetdicom import sop_class

    entity = pynetdicom.AE(ae_title="PACS")
    for name in ("Find", "Move"):
        entity.add_supported_context(getattr(sop_class, f"StudyRootQueryRetrieveInformationModel{name}"))
    port = reserve_port()
    handlers = [(pynetdicom.evt.EVT_C_FIND, find_series), (pynetdicom.evt.EVT_C_MOVE, unknown)]
    server = entity.start_server(("127.0.0.1", port), block=False, evt_handlers=handlers)
    try:
        yield port
    finally:
        server.shutdown()


def test_an_unknown_destination_is_one_error_that_says_what_to_register(tmp_path: Path) -> None:
    listen = reserve_port()
    with archive_of_strangers() as port, Ledger(tmp_path / "ledger") as ledger:
        block = {"protocol": "dimse", "host": "127.0.0.1", "port": port, "aet": "PACS", "own_aet": "OURS"}
        settings = parse_settings({"clinic": block | {"receive_port": listen, "timeout_s": 10}}, "clinic")
        with (
            open_archive("clinic", settings) as archive,
            pytest.raises(ConfigError, match=rf"0xa801\).*register OURS at 127\.0\.0\.1:{listen} there") as caught,
        ):
            ingest(archive, tmp_path / "inbox", ledger, IngestOptions(pacs="clinic", settle_s=0))
        assert "pacs.clinic.own_aet" in str(caught.value)
        assert caught.value.exit_code == EXIT_WRONG_INPUT
        assert ledger.count_states()["failed"] == 0
    assert not list((tmp_path / "inbox").rglob("*.dcm"))
