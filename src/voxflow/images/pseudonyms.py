"""Owns pseudonyms: keyed, so that who lacks the key can't go back from a case to a patient by trying out ids."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from voxflow.places import home

if TYPE_CHECKING:
    from collections.abc import Iterable

KEY_VARIABLE = "VOXFLOW_PSEUDONYM_KEY"
KEY_FILE = Path(".voxflow/pseudonym.key")
LENGTH = 8


def load_pseudonym_key(configured_key: str | None, key_file: Path | None = None) -> bytes:
    """The secret: the one given, else the environment's, else the key file's, which is made if need be."""
    text = configured_key or os.environ.get(KEY_VARIABLE)
    if text:
        return text.encode()
    key_file = key_file or home() / KEY_FILE
    if not key_file.is_file():
        key_file.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(key_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="ascii") as stream:
            stream.write(secrets.token_hex(32) + "\n")
    return key_file.read_text(encoding="ascii").strip().encode()


def assign_pseudonyms(patients: Iterable[str], key: bytes) -> dict[str, str]:
    """A pseudonym for each patient: the first 8 hex digits of HMAC-SHA256, more where two would be the same."""
    digests = {patient: hmac.new(key, patient.encode(), hashlib.sha256).hexdigest() for patient in patients}
    length = LENGTH
    while len({digest[:length] for digest in digests.values()}) < len(digests):
        length += 4
    return {patient: digest[:length] for patient, digest in digests.items()}


def number_cases(patients: Iterable[str], names: dict[str, str]) -> list[str]:
    """Case ids, pseudonym and running number, for images given by their patient in a stable order."""
    counts: dict[str, int] = {}
    cases = []
    for patient in patients:
        counts[patient] = counts.get(patient, 0) + 1
        cases.append(f"{names[patient]}_{counts[patient]}")
    return cases
