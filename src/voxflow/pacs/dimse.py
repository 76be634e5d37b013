"""A PACS that speaks DIMSE (PS3.4, PS3.7): C-FIND to find series, C-MOVE to fetch them, C-STORE to store masks."""

from __future__ import annotations

import contextlib
import logging
import socket
from typing import TYPE_CHECKING, Any

from voxflow.errors import ConfigError, MissingDependencyError, PacsError
from voxflow.pacs.archive import RemoteSeries, accept_uid, check_uid
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
    """A PACS that speaks C-FIND, C-MOVE and C-STORE, as an archive.

    Args:
        name: of the entry below ``pacs`` in params.yaml.
        settings: its address and titles.

    Raises:
        MissingDependencyError: pynetdicom is not installed.
    """

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
        """Find series by C-FIND, study by study: the level SERIES knows no dates."""
        with self._open_association(FIND) as association:
            series_uids = set()
            for modality in query.modalities or ("",):
                keys = {"StudyInstanceUID": "", "StudyDate": query.format_date_range(), "ModalitiesInStudy": modality}
                studies = [str(study_keys.StudyInstanceUID) for study_keys in self._query(association, "STUDY", keys)]
                for study in dict.fromkeys(studies):
                    if not accept_uid(study, self.name, "study"):
                        continue
                    for series in self._find_series(association, study, modality):
                        is_new = series.series_uid not in series_uids
                        if is_new and accept_uid(series.series_uid, self.name, "series"):
                            series_uids.add(series.series_uid)
                            yield series

    def list_instances(self, series: RemoteSeries) -> list[str]:
        """List SOPInstanceUIDs by C-FIND on the level IMAGE."""
        keys = {"StudyInstanceUID": series.study_uid, "SeriesInstanceUID": series.series_uid, "SOPInstanceUID": ""}
        with self._open_association(FIND) as association:
            answers = list(self._query(association, "IMAGE", keys))
        return [check_uid(str(instance.SOPInstanceUID), self.name) for instance in answers]

    def fetch(self, series: RemoteSeries, sop_uids: Collection[str], folder: Path) -> None:
        """Ask by C-MOVE that objects be sent to us, and take them in by C-STORE meanwhile.

        Raises:
            ConfigError: the PACS does not know our AE title or address as a destination.
            PacsError: objects could not be sent.
        """
        ordered = sorted(sop_uids)
        # Listening before asking: the first object may come before the answer.
        with Receiver(self._settings, set(ordered), folder, self.name), self._open_association(MOVE) as association:
            for begin in range(0, len(ordered), MAX_UIDS):
                self._move_objects(association, series, ordered[begin : begin + MAX_UIDS])

    def store(self, files: Sequence[Path]) -> None:
        """Send DICOM files by C-STORE, in the transfer syntax that they are in.

        Raises:
            PacsError: one is refused, or the connection is lost.
        """
        import pydicom

        tags = ["SOPClassUID"]
        heads = [pydicom.dcmread(file, specific_tags=tags, stop_before_pixels=True) for file in files]
        contexts = {(str(head.SOPClassUID), str(head.file_meta.TransferSyntaxUID)) for head in heads}
        if not files:
            return
        with self._open_association(*sorted(contexts)) as association:
            for file in files:
                self._store_one(association, file)

    def acknowledge(self, series: RemoteSeries, sop_uids: Collection[str], folder: Path) -> None:
        """Do nothing: a PACS keeps what it holds."""

    def close(self) -> None:
        """Do nothing: each request has a connection of its own."""

    def _find_series(self, association: Any, study_uid: str, modality: str) -> Iterator[RemoteSeries]:
        keys = {
            "StudyInstanceUID": study_uid,
            "SeriesInstanceUID": "",
            "Modality": modality,
            "SeriesDescription": "",
            "NumberOfSeriesRelatedInstances": "",
        }
        for series in self._query(association, "SERIES", keys):
            count = str(series.get("NumberOfSeriesRelatedInstances") or "")
            yield RemoteSeries(
                study_uid,
                str(series.SeriesInstanceUID),
                str(series.get("Modality") or ""),
                str(series.get("SeriesDescription") or ""),
                int(count) if count.isdecimal() else None,
            )

    def _query(self, association: Any, level: str, keys: dict[str, str]) -> Iterator[Dataset]:
        for status, identifier in association.send_c_find(_build_identifier(level, keys), FIND):
            code = self._read_status(status, "C-FIND")
            if code in PENDING and identifier is not None:
                yield identifier
            elif code not in (*PENDING, SUCCESS):
                raise PacsError(f"{self.name}: C-FIND failed ({code:#06x})", lost=code in OUT_OF_RESOURCES)

    def _move_objects(self, association: Any, series: RemoteSeries, uids: Sequence[str]) -> None:
        query_keys = {
            "StudyInstanceUID": series.study_uid,
            "SeriesInstanceUID": series.series_uid,
            "SOPInstanceUID": uids,
        }
        own_aet = self._settings.own_aet
        for status, _ in association.send_c_move(_build_identifier("IMAGE", query_keys), own_aet, MOVE):
            code = self._read_status(status, "C-MOVE")
            listens = f"{own_aet} at {self._settings.receive_host}:{self._settings.receive_port}"
            if code == UNKNOWN_DESTINATION:
                keys = f"pacs.{self._pacs}.own_aet, receive_host and receive_port"
                message = f"C-MOVE: knows no destination {own_aet} ({code:#06x})"
                raise ConfigError(f"{self.name}: {message}; register {listens} there, or mend {keys}")
            if code not in (*PENDING, SUCCESS):
                failed = status.get("NumberOfFailedSuboperations")
                how_many = f", {failed} of {len(uids)} objects not sent" if failed else ""
                message = f"{self.name}: C-MOVE failed ({code:#06x}{how_many}); does it know {listens}?"
                raise PacsError(message, lost=code in OUT_OF_RESOURCES)

    def _store_one(self, association: Any, file: Path) -> None:
        try:
            status = association.send_c_store(file)
        except (ValueError, RuntimeError) as error:
            if not association.is_established:
                raise PacsError(f"{self.name}: C-STORE {file.name}: the connection was lost", lost=True) from error
            raise PacsError(f"{self.name}: C-STORE {file.name}: {error}") from error
        code = self._read_status(status, f"C-STORE {file.name}")
        if code not in (*STORED, DUPLICATE):
            raise PacsError(f"{self.name}: C-STORE {file.name}: refused ({code:#06x})", lost=code in OUT_OF_RESOURCES)

    def _read_status(self, status: Dataset, request: str) -> int:
        """The status; an empty one says that the connection is gone."""
        if "Status" not in status:
            raise PacsError(f"{self.name}: {request}: the connection was lost", lost=True)
        return int(status.Status)

    @contextlib.contextmanager
    def _open_association(self, *contexts: str | tuple[str, str]) -> Iterator[Any]:
        """A connection for the services named, each with its transfer syntax where it matters."""
        from pynetdicom import AE, evt
        from pynetdicom.pdu import A_ASSOCIATE_RJ

        settings = self._settings
        entity = AE(ae_title=settings.own_aet)
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = settings.timeout_s
        entity.connection_timeout = settings.timeout_s
        for context in contexts:
            entity.add_requested_context(*((context,) if isinstance(context, str) else context))
        # pynetdicom leaves a socket open where the other side was the first to close it.
        opened: list[Any] = []
        rejections: list[Any] = []

        # The flag is_rejected is not set where the other side rejects before pynetdicom has begun to wait.
        def keep_rejection(event: Any) -> None:
            if isinstance(event.pdu, A_ASSOCIATE_RJ):
                rejections.append(event.pdu)

        handlers: Any = [
            (evt.EVT_CONN_OPEN, lambda event: opened.append(event.assoc.dul.socket.socket)),
            (evt.EVT_PDU_RECV, keep_rejection),
        ]
        self._check_reachable()
        association = entity.associate(
            settings.host, settings.port, ae_title=settings.aet, max_pdu=MAX_PDU, evt_handlers=handlers
        )
        try:
            if not association.is_established:
                raise self._explain_failure(rejections)
            yield association
        finally:
            if association.is_established:
                association.release()
            if association.is_alive():
                association.join(settings.timeout_s)
            for connection in opened:
                connection.close()

    def _check_reachable(self) -> None:
        """Say why there is no connection, which pynetdicom does not tell."""
        settings = self._settings
        try:
            socket.create_connection((settings.host, settings.port), settings.timeout_s).close()
        except OSError as error:
            raise PacsError(f"{self.name}: no connection: {error.strerror or error}", lost=True) from error

    def _explain_failure(self, rejections: list[Any]) -> ConfigError | PacsError:
        """The reason why no connection was made, from the A-ASSOCIATE-RJ PDUs that came (none or one)."""
        if not rejections:
            return PacsError(f"{self.name}: the connection was lost while it was made", lost=True)
        rejection = rejections[0].to_primitive()
        reason = NOT_RECOGNISED.get(rejection.diagnostic) if rejection.result_source == 1 else None
        if reason:
            message = reason.format(own=self._settings.own_aet, called=self._settings.aet)
            return ConfigError(f"{self.name}: {message}; see pacs.{self._pacs} in params.yaml")
        return PacsError(f"{self.name}: it takes no connection now ({rejection.reason_str})", lost=True)


def _build_identifier(level: str, keys: dict[str, Any]) -> Dataset:
    from pydicom.dataset import Dataset

    identifier = Dataset()
    identifier.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(identifier, keyword, list(value) if isinstance(value, list | tuple) else value)
    return identifier
