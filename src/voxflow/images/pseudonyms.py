"""Pseudonyms of patients: keyed, so that nobody without the key can find a patient by trying out ids."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from voxflow.files import read_text
from voxflow.places import find_home

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

KEY_VARIABLE = "VOXFLOW_PSEUDONYM_KEY"
KEY_FILE = Path(".voxflow/pseudonym.key")
LENGTH = 8


def load_pseudonym_key(configured_key: str | None, key_file: Path | None = None) -> bytes:
    """Load the secret that pseudonyms are made with.

    Args:
        configured_key: the option ``pseudonym_key``; it comes first.
        key_file: else, and after ``VOXFLOW_PSEUDONYM_KEY``, this file; None: ``.voxflow/pseudonym.key``. It is
            made when it is missing, readable by its owner alone.
    """
    text = configured_key or os.environ.get(KEY_VARIABLE)
    if text:
        return text.encode()
    key_file = key_file or find_home() / KEY_FILE
    if not key_file.is_file():
        key_file.parent.mkdir(parents=True, exist_ok=True)
        # Exclusively, so that of two processes at once only one makes a key; for its owner from the first byte on.
        handle = os.open(key_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="ascii") as stream:
            stream.write(secrets.token_hex(32) + "\n")
    return read_text(key_file).strip().encode()


def assign_pseudonyms(patients: Iterable[str], key: bytes) -> dict[str, str]:
    """Assign a pseudonym to each patient: the first 8 hex digits of HMAC-SHA256, more where two would be the same.

    Args:
        patients: texts that tell patients apart.
        key: the secret.

    Returns:
        Pseudonym by patient. It depends on patient and key alone, so that a patient keeps it from run to run.

    Example:
        >>> assign_pseudonyms(["id 4711", "id 4712"], b"secret")
        {'id 4711': 'ffa291df', 'id 4712': '314672ab'}
    """
    digests = {
        patient: hmac.new(key, patient.encode("utf-8", "surrogateescape"), hashlib.sha256).hexdigest()
        for patient in patients
    }
    length = LENGTH
    # Joining two patients would leak one into the other's training and test cases.
    while len({digest[:length] for digest in digests.values()}) < len(digests):
        length += 4
    return {patient: digest[:length] for patient, digest in digests.items()}


def number_cases(patients: Iterable[str], names: dict[str, str], other_ids: Collection[str] = ()) -> list[str]:
    """Make a case id for each image: its patient's pseudonym and a running number.

    Args:
        patients: of each image, in a stable order.
        names: pseudonym by patient.
        other_ids: of other cases, which are left out.

    Example:
        >>> number_cases(["ann", "bob", "ann"], {"ann": "3f2a", "bob": "9c01"})
        ['3f2a_1', '9c01_1', '3f2a_2']
    """
    counts: dict[str, int] = {}
    cases = []
    for patient in patients:
        numbers = count(counts.get(patient, 0) + 1)
        counts[patient] = next(n for n in numbers if f"{names[patient]}_{n}" not in other_ids)
        cases.append(f"{names[patient]}_{counts[patient]}")
    return cases
