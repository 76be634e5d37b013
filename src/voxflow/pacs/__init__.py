"""Owns the way to and from a hospital's archive: what is new there comes in once, masks go back beside their study."""

from voxflow.pacs.answer import Answered, AnswerOptions, Desk, answer_new
from voxflow.pacs.archive import Archive, Query, RemoteSeries, open_archive
from voxflow.pacs.folder import DropFolder
from voxflow.pacs.ingest import Ingested, IngestOptions, ingest
from voxflow.pacs.ledger import Ledger
from voxflow.pacs.settings import DicomWebSettings, DimseSettings, PacsSettings, parse_settings

__all__ = [
    "AnswerOptions",
    "Answered",
    "Archive",
    "Desk",
    "DicomWebSettings",
    "DimseSettings",
    "DropFolder",
    "IngestOptions",
    "Ingested",
    "Ledger",
    "PacsSettings",
    "Query",
    "RemoteSeries",
    "answer_new",
    "ingest",
    "open_archive",
    "parse_settings",
]
