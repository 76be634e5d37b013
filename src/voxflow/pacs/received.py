"""Checks what an archive sent: it is the requested object, and it is complete."""

from __future__ import annotations

from typing import TYPE_CHECKING

from voxflow.dicom import PARSE_ERRORS, read_dataset
from voxflow.errors import PacsError

if TYPE_CHECKING:
    from pathlib import Path


def check_received(path: Path, uid: str, archive: str) -> None:
    """Refuse a file that is no DICOM, or another object than the one that was asked for.

    Args:
        path: what was received.
        uid: the SOPInstanceUID (0008,0018) that was asked for.
        archive: its name, for messages.

    Raises:
        PacsError: it is.
    """
    try:
        received_uid = str(read_dataset(path, tags=["SOPInstanceUID"]).SOPInstanceUID)
    except PARSE_ERRORS as error:
        raise PacsError(f"{archive}: fetch {uid}: what it sent is no DICOM ({type(error).__name__})") from error
    if received_uid != uid:
        raise PacsError(f"{archive}: fetch {uid}: it sent another object, {received_uid[:80]}")
