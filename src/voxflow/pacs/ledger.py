"""The ledger of a workspace: which series were fetched, and their state. It stays correct after any interruption."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import TracebackType

LEDGER_FOLDER = Path(".voxflow/ledger")
BUSY_S = 60.0

AnswerState = Literal["made", "sent", "kept", "refused"]
ANSWERS: tuple[AnswerState, ...] = ("made", "sent", "kept", "refused")

# Series and objects by their UIDs alone: nothing here names a patient.
_TABLES = """
CREATE TABLE IF NOT EXISTS series (
    series_uid TEXT PRIMARY KEY, study_uid TEXT NOT NULL, seen INTEGER NOT NULL, seen_at REAL NOT NULL,
    taken INTEGER NOT NULL DEFAULT 0, taken_at REAL, reason TEXT NOT NULL DEFAULT '');
CREATE TABLE IF NOT EXISTS answers (
    series_uid TEXT NOT NULL, instances INTEGER NOT NULL, state TEXT NOT NULL, reason TEXT NOT NULL DEFAULT '',
    model TEXT NOT NULL DEFAULT '', at REAL NOT NULL, PRIMARY KEY (series_uid, instances));
CREATE TABLE IF NOT EXISTS own (series_uid TEXT PRIMARY KEY);
"""


@dataclass(frozen=True)
class LedgerEntry:
    """What the ledger knows of one series.

    Attributes:
        series_uid, study_uid: of the series.
        seen_count: how many objects the archive held when it was last looked at.
        unchanged_since: since when it has held so many, seconds since 1970.
        taken_count: how many objects are in the inbox, all in their place; 0: none is.
        reason: why the last attempt to take it failed; empty when it did not.
    """

    series_uid: str
    study_uid: str
    seen_count: int
    unchanged_since: float
    taken_count: int
    reason: str


class Ledger:
    """A SQLite file that notes what happened to series; every call is one transaction.

    Series and objects stand in it by their UIDs alone: nothing in it names a patient.

    Args:
        path: the file; made when missing.

    Example:
        >>> with Ledger(Path("ledger.sqlite")) as ledger:
        ...     entry = ledger.record_seen("1.2.3", "1.2", count=90)
        ...     ledger.record_taken("1.2.3", 90)
        ...     print([entry.series_uid for entry in ledger.list_waiting()])
        ...     ledger.record_answer("1.2.3", 90, "sent", model="spleen")
        ...     print(ledger.list_waiting(), ledger.find_answer("1.2.3", 90))
        ['1.2.3']
        [] sent
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
        self._connection.executescript(_TABLES)

    @classmethod
    def of(cls, workspace: str, folder: Path = LEDGER_FOLDER) -> Ledger:
        """Open the ledger of a workspace.

        Args:
            workspace: its name.
            folder: that all ledgers lie in.
        """
        return cls(folder / f"{workspace}.sqlite")

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._connection.close()

    def find_entry(self, series_uid: str) -> LedgerEntry | None:
        """Find what is known of a series; None where it was never seen."""
        row = self._connection.execute(
            "SELECT series_uid, study_uid, seen, seen_at, taken, reason FROM series WHERE series_uid = ?", (series_uid,)
        ).fetchone()
        return LedgerEntry(*row) if row else None

    def record_seen(self, series_uid: str, study_uid: str, count: int) -> LedgerEntry:
        """Note how many objects the archive holds now.

        Args:
            series_uid: of the series.
            study_uid: of its study.
            count: of its objects.

        Returns:
            The entry; ``unchanged_since`` stands still while the count does.
        """
        with self._transaction():
            self._connection.execute(
                "INSERT INTO series (series_uid, study_uid, seen, seen_at) VALUES (?, ?, ?, ?) "
                "ON CONFLICT (series_uid) DO UPDATE SET "
                "seen_at = CASE WHEN seen = excluded.seen THEN seen_at ELSE excluded.seen_at END, seen = excluded.seen",
                (series_uid, study_uid, count, time.time()),
            )
        entry = self.find_entry(series_uid)
        if entry is None:
            raise sqlite3.DatabaseError(f"the ledger lost {series_uid}")
        return entry

    def record_taken(self, series_uid: str, count: int) -> None:
        """Note that so many objects of a series are in their place."""
        self._connection.execute(
            "UPDATE series SET taken = ?, taken_at = ?, reason = '' WHERE series_uid = ?",
            (count, time.time(), series_uid),
        )

    def record_failure(self, series_uid: str, reason: str) -> None:
        """Note why a series could not be taken; it is tried again."""
        self._connection.execute("UPDATE series SET reason = ? WHERE series_uid = ?", (reason, series_uid))

    def is_own_mask(self, series_uid: str) -> bool:
        """Whether a series holds masks that we sent to the PACS ourselves; they are never taken in."""
        return self._connection.execute("SELECT 1 FROM own WHERE series_uid = ?", (series_uid,)).fetchone() is not None

    def find_answer(self, series_uid: str, instances: int) -> AnswerState | None:
        """Find what became of a series while it had so many objects.

        Returns:
            "made", "sent", "kept" (masks stay here) or "refused"; None where it has no answer.
        """
        row = self._connection.execute(
            "SELECT state FROM answers WHERE series_uid = ? AND instances = ?", (series_uid, instances)
        ).fetchone()
        return row[0] if row else None

    def record_answer(
        self,
        series_uid: str,
        instances: int,
        state: AnswerState,
        *,
        reason: str = "",
        model: str = "",
        mask_series_uids: Sequence[str] = (),
    ) -> None:
        """Note what became of a series.

        Args:
            series_uid: the series.
            instances: how many objects it had.
            state: what became of it.
            reason: why it was refused.
            model: what made the masks.
            mask_series_uids: the series of what was made, so that it is never taken for something new.
        """
        with self._transaction():
            self._connection.execute(
                "INSERT OR REPLACE INTO answers (series_uid, instances, state, reason, model, at) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                (series_uid, instances, state, reason, model, time.time()),
            )
            self._connection.executemany("INSERT OR IGNORE INTO own VALUES (?)", [(uid,) for uid in mask_series_uids])

    def list_waiting(self) -> list[LedgerEntry]:
        """List the series in the inbox that have no answer yet, or one that was not sent.

        Returns:
            Their entries, in the order in which they came.
        """
        rows = self._connection.execute(
            "SELECT s.series_uid, s.study_uid, s.seen, s.seen_at, s.taken, s.reason FROM series s "
            "LEFT JOIN answers a ON a.series_uid = s.series_uid AND a.instances = s.taken "
            "WHERE s.taken > 0 AND (a.state IS NULL OR a.state = 'made') ORDER BY s.taken_at, s.series_uid"
        )
        return [LedgerEntry(*row) for row in rows]

    def list_study(self, study_uid: str) -> list[LedgerEntry]:
        """List the series of a study that are in the inbox, whatever became of them, in the order of their UIDs."""
        rows = self._connection.execute(
            "SELECT series_uid, study_uid, seen, seen_at, taken, reason FROM series "
            "WHERE study_uid = ? AND taken > 0 ORDER BY series_uid",
            (study_uid,),
        )
        return [LedgerEntry(*row) for row in rows]

    def count_states(self) -> dict[str, int]:
        """Count the series of each kind: taken, failed, and those of :data:`ANSWERS`."""
        taken_count, failed_count = self._connection.execute(
            "SELECT COALESCE(SUM(taken > 0), 0), COALESCE(SUM(reason <> ''), 0) FROM series"
        ).fetchone()
        states = dict(self._connection.execute("SELECT state, COUNT(*) FROM answers GROUP BY state").fetchall())
        return {"taken": taken_count, "failed": failed_count} | {state: states.get(state, 0) for state in ANSWERS}

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")
