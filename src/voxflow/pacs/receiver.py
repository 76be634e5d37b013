"""Receives the objects that a PACS sends after a C-MOVE; all others are refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from voxflow.errors import PacsError
from voxflow.files import atomic_path

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from voxflow.pacs.settings import DimseSettings

SUCCESS, OUT_OF_RESOURCES, NOT_ASKED_FOR = 0x0000, 0xA700, 0x0124


class Receiver:
    """Takes C-STORE of the objects wanted, from entering the block to leaving it.

    Args:
        settings: where to listen, and under which AE title.
        wanted: SOPInstanceUIDs.
        into: where ``UID.dcm`` is written.
        archive: for messages.
    """

    def __init__(self, settings: DimseSettings, sop_uids: Collection[str], folder: Path, archive: str) -> None:
        self._settings, self._sop_uids, self._folder, self._archive = settings, sop_uids, folder, archive
        self._server: Any = None

    def __enter__(self) -> Receiver:
        from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts, evt

        entity = AE(ae_title=self._settings.own_aet)
        # Whoever calls us by another title has not been asked by us.
        entity.require_called_aet = True
        entity.network_timeout = entity.dimse_timeout = self._settings.timeout_s
        for context in AllStoragePresentationContexts:
            entity.add_supported_context(str(context.abstract_syntax), ALL_TRANSFER_SYNTAXES)
        address = (self._settings.receive_host, self._settings.receive_port)
        try:
            self._server = entity.start_server(
                address, block=False, evt_handlers=[(evt.EVT_C_STORE, self._store_object)]
            )
        except OSError as error:
            listen_address = f"{address[0]}:{address[1]}"
            raise PacsError(
                f"{self._archive}: can't listen at {listen_address}: {error.strerror}", lost=True
            ) from error
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()

    def _store_object(self, event: Any) -> int:
        uid = str(event.request.AffectedSOPInstanceUID)
        if uid not in self._sop_uids:
            return NOT_ASKED_FOR
        try:
            with atomic_path(self._folder / f"{uid}.dcm") as temporary:
                temporary.write_bytes(event.encoded_dataset())
        except OSError:
            return OUT_OF_RESOURCES
        return SUCCESS
