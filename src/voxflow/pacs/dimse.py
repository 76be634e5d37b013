"""Owns a PACS that speaks the classic services: C-FIND to find, C-MOVE to fetch, C-STORE to store."""

from __future__ import annotations

import contextlib
import logging
import socket
from typing import TYPE_CHECKING, Any

from voxflow.errors import ConfigError, MissingDependencyError, PacsError
from voxflow.pacs.archive import RemoteSeries, check_uid
from voxflow.pacs.receiver import Receiver

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from pathlib import Path

    from pydicom.dataset import Dataset

    from voxflow.pacs.archive import Query
    from voxflow.pacs.settings import DimseSettings

# PS3.4: Study Root Query/Retrieve Information Model.
FIND, MOVE = "1.2.840.10008.5.1.4.1.2.2.1", "1.2.840.10008.5.1.4.1.2.2.2"
PENDING, SUCCESS, UNKNOWN_DESTINATION, OUT_OF_RESOURCES = (0xFF00, 0xFF01), 0x0000, 0xA801, range(0xA700, 0xA800)
# Stored, with a remark on an element that was changed or does not fit.
STORED = (0x0000, 0xB000, 0xB006, 0xB007)
DUPLICATE = 0x0111
# PS3.8 9.3.4: who we are, or whom we asked for, is not known there.
NOT_RECOGNISED = {3: "does not know our AE title {own}", 7: "does not go by the AE title {called}"}
# UIDs go in one element of at most 64 KiB.
MAX_UIDS = 500
# A PDU of this size fills the pipe in a local network.
MAX_PDU = 131072


class DimseArchive:
    """See :class:`voxflow.pacs.archive.Archive`."""

    def __init__(self, name: str, settings: DimseSettings) -> None:
        try:
            import pynetdicom  # noqa: F401
        except ImportError as error:
            raise MissingDependencyError("DIMSE needs pynetdicom: pip install 'voxflow[pacs]'") from error
        self.name = f"{name} ({settings.aet} at {settings.host}:{settings.port})"
        self._pacs, self._settings = name, settings
        # What it would say stands in the one line of the error.
        logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)

    def find(self, query: Query) -> Iterator[RemoteSeries]:
        """See the protocol."""
        with self._association(FIND) as association:
            seen = set()
            for modality in query.modalities or ("",):
                asked = {"StudyInstanceUID": "", "StudyDate": query.date_range(), "ModalitiesInStudy": modality}
                studies = [str(each.StudyInstanceUID) for each in self._ask(association, "STUDY", asked)]
                for study in dict.fromkeys(studies):
                    for series in self._series(association, check_uid(study, self.name), modality):
                        if series.series_uid not in seen:
                            seen.add(series.series_uid)
                            yield series

    def instances(self, series: RemoteSeries) -> list[str]:
        """See the protocol."""
        asked = {"StudyInstanceUID": series.study_uid, "SeriesInstanceUID": series.series_uid, "SOPInstanceUID": ""}
        with self._association(FIND) as association:
            found = list(self._ask(association, "IMAGE", asked))
        return [check_uid(str(each.SOPInstanceUID), self.name) for each in found]

    def fetch(self, series: RemoteSeries, wanted: Collection[str], into: Path) -> None:
        """See the protocol."""
        uids = sorted(wanted)
        with Receiver(self._settings, set(uids), into, self.name), self._association(MOVE) as association:
            for begin in range(0, len(uids), MAX_UIDS):
                self._move(association, series, uids[begin : begin + MAX_UIDS])

    def store(self, files: Sequence[Path]) -> None:
        """See the protocol."""
        import pydicom

        tags = ["SOPClassUID"]
        heads = [pydicom.dcmread(file, specific_tags=tags, stop_before_pixels=True) for file in files]
        contexts = {(str(head.SOPClassUID), str(head.file_meta.TransferSyntaxUID)) for head in heads}
        if not files:
            return
        with self._association(*sorted(contexts)) as association:
            for file in files:
                self._store_one(association, file)

    def settled(self, series: RemoteSeries, wanted: Collection[str], into: Path) -> None:
        """A PACS need not know."""

    def close(self) -> None:
        """Each question has a connection of its own."""

    def _series(self, association: Any, study: str, modality: str) -> Iterator[RemoteSeries]:
        asked = {
            "StudyInstanceUID": study,
            "SeriesInstanceUID": "",
            "Modality": modality,
            "SeriesDescription": "",
            "NumberOfSeriesRelatedInstances": "",
        }
        for each in self._ask(association, "SERIES", asked):
            count = str(each.get("NumberOfSeriesRelatedInstances") or "")
            yield RemoteSeries(
                study,
                check_uid(str(each.SeriesInstanceUID), self.name),
                str(each.get("Modality") or ""),
                str(each.get("SeriesDescription") or ""),
                int(count) if count.isdecimal() else None,
            )

    def _ask(self, association: Any, level: str, asked: dict[str, str]) -> Iterator[Dataset]:
        for status, found in association.send_c_find(_build_identifier(level, asked), FIND):
            code = self._code(status, "C-FIND")
            if code in PENDING and found is not None:
                yield found
            elif code not in (*PENDING, SUCCESS):
                raise PacsError(f"{self.name}: C-FIND failed ({code:#06x})", lost=code in OUT_OF_RESOURCES)

    def _move(self, association: Any, series: RemoteSeries, uids: Sequence[str]) -> None:
        asked = {"StudyInstanceUID": series.study_uid, "SeriesInstanceUID": series.series_uid, "SOPInstanceUID": uids}
        own = self._settings.own_aet
        for status, _ in association.send_c_move(_build_identifier("IMAGE", asked), own, MOVE):
            code = self._code(status, "C-MOVE")
            listens = f"{own} at {self._settings.receive_host}:{self._settings.receive_port}"
            if code == UNKNOWN_DESTINATION:
                keys = f"pacs.{self._pacs}.own_aet, receive_host and receive_port"
                said = f"C-MOVE: knows no destination {own} ({code:#06x})"
                raise ConfigError(f"{self.name}: {said}; register {listens} there, or mend {keys}")
            if code not in (*PENDING, SUCCESS):
                failed = status.get("NumberOfFailedSuboperations")
                how_many = f", {failed} of {len(uids)} objects not sent" if failed else ""
                said = f"{self.name}: C-MOVE failed ({code:#06x}{how_many}); does it know {listens}?"
                raise PacsError(said, lost=code in OUT_OF_RESOURCES)

    def _store_one(self, association: Any, file: Path) -> None:
        try:
            status = association.send_c_store(file)
        except (ValueError, RuntimeError) as error:
            if not association.is_established:
                raise PacsError(f"{self.name}: C-STORE {file.name}: the connection was lost", lost=True) from error
            raise PacsError(f"{self.name}: C-STORE {file.name}: {error}") from error
        code = self._code(status, f"C-STORE {file.name}")
        if code not in (*STORED, DUPLICATE):
            raise PacsError(f"{self.name}: C-STORE {file.name}: refused ({code:#06x})", lost=code in OUT_OF_RESOURCES)

    def _code(self, status: Dataset, what: str) -> int:
        """The status; an empty one says that the connection is gone."""
        if "Status" not in status:
            raise PacsError(f"{self.name}: {what}: the connection was lost", lost=True)
        return int(status.Status)

    @contextlib.contextmanager
    def _association(self, *contexts: str | tuple[str, str]) -> Iterator[Any]:
        """A connection for the services named, each with its transfer syntax where it matters."""
        from pynetdicom import AE, evt

        settings = self._settings
        entity = AE(ae_title=settings.own_aet)
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = settings.timeout_s
        entity.connection_timeout = settings.timeout_s
        for context in contexts:
            entity.add_requested_context(*((context,) if isinstance(context, str) else context))
        # pynetdicom leaves a socket open where the other side was the first to close it.
        opened: list[Any] = []
        handlers: Any = [(evt.EVT_CONN_OPEN, lambda event: opened.append(event.assoc.dul.socket.socket))]
        self._check_reachable()
        association = entity.associate(
            settings.host, settings.port, ae_title=settings.aet, max_pdu=MAX_PDU, evt_handlers=handlers
        )
        try:
            if not association.is_established:
                raise self._refused(association)
            yield association
        finally:
            if association.is_established:
                association.release()
            if association.is_alive():
                association.join(settings.timeout_s)
            for each in opened:
                each.close()

    def _check_reachable(self) -> None:
        """Say why there is no connection, which pynetdicom does not tell."""
        settings = self._settings
        try:
            socket.create_connection((settings.host, settings.port), settings.timeout_s).close()
        except OSError as error:
            raise PacsError(f"{self.name}: no connection: {error.strerror or error}", lost=True) from error

    def _refused(self, association: Any) -> ConfigError | PacsError:
        if not association.is_rejected:
            return PacsError(f"{self.name}: the connection was lost while it was made", lost=True)
        told = association.acceptor.primitive
        reason = NOT_RECOGNISED.get(told.diagnostic) if told.result_source == 1 else None
        if reason:
            said = reason.format(own=self._settings.own_aet, called=self._settings.aet)
            return ConfigError(f"{self.name}: {said}; see pacs.{self._pacs} in params.yaml")
        return PacsError(f"{self.name}: it takes no connection now ({told.reason_str})", lost=True)


def _build_identifier(level: str, asked: dict[str, Any]) -> Dataset:
    from pydicom.dataset import Dataset

    identifier = Dataset()
    identifier.QueryRetrieveLevel = level
    for keyword, value in asked.items():
        setattr(identifier, keyword, list(value) if isinstance(value, list | tuple) else value)
    return identifier
