"""Pseudonyms of patients: keyed, so that nobody without the key can find a patient by trying out ids.

A pseudonym is the beginning of a patient's digest. It is long enough that two patients practically never share it, and
a patient who has one keeps it, whoever is added later: see :class:`PseudonymBook`.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from collections import Counter
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from voxflow.files import read_text
from voxflow.places import find_home

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

KEY_VARIABLE = "VOXFLOW_PSEUDONYM_KEY"
KEY_FILE = Path(".voxflow/pseudonym.key")
# 64 bits: two of a million patients share them once in 37 million data sets. Eight digits met at 43,950 patients.
LENGTH, STEP = 16, 4
OLD_LENGTHS = (8, 12)  # of the pseudonyms that earlier versions gave


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


@dataclass
class PseudonymBook:
    """The pseudonyms that patients have.

    Attributes:
        key: the secret.
        names: pseudonym by the patient's digest, also of patients of earlier conversions.
        old_names: short pseudonyms of an earlier version whose patients' digests are not known. A patient whose digest
            begins with one keeps it.
    """

    key: bytes
    names: dict[str, str] = field(default_factory=dict)
    old_names: set[str] = field(default_factory=set)

    def digest_patient(self, patient: str) -> str:
        """HMAC-SHA256 of a patient, as 64 hex digits."""
        return hmac.new(self.key, patient.encode("utf-8", "surrogateescape"), hashlib.sha256).hexdigest()

    def assign(self, patients: Iterable[str]) -> dict[str, str]:
        """Give each patient a pseudonym: the first 16 hex digits of the digest, more where two would be the same.

        A patient who has one keeps it. Of patients who come together, the order does not matter.

        Args:
            patients: texts that tell patients apart.

        Returns:
            Pseudonym by patient.

        Example:
            >>> PseudonymBook(b"secret").assign(["id 4711", "id 4712"])
            {'id 4711': 'ffa291df73c64984', 'id 4712': '314672ab94db5759'}
        """
        digests = {patient: self.digest_patient(patient) for patient in patients}
        waiting = {digest for digest in digests.values() if digest not in self.names}
        for length in OLD_LENGTHS:
            waiting -= self._name(waiting, length, lambda name: name in self.old_names)
        for length in range(LENGTH, 64 + STEP, STEP):
            waiting -= self._name(waiting, length, lambda _: True)
        return {patient: self.names[digest] for patient, digest in digests.items()}

    def _name(self, digests: set[str], length: int, is_allowed: Callable[[str], bool]) -> set[str]:
        """Give names of one length where no two patients would share one; return the digests that got one."""
        # Joining two patients would leak one into the other's training and test cases.
        counts = Counter(digest[:length] for digest in digests)
        used = set(self.names.values()) if digests else set()
        named = {d for d in digests if counts[d[:length]] == 1 and d[:length] not in used and is_allowed(d[:length])}
        self.names |= {digest: digest[:length] for digest in named}
        return named


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
