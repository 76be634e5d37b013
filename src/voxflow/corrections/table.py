"""The tables of corrections: every object that was looked at with its state, and by class what it changed.

They name cases by pseudonyms and UIDs, and authors by a digest: no name, no date of a patient, no text of DICOM.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Literal

from voxflow.tables import read_rows, write_table

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from voxflow.corrections.compare import ClassChange

# label: learned from; superseded: a later version is; held: a correction that is not learned from; unchanged: nobody
# changed anything; other: nobody's correction; quarantined: it can't be used.
State = Literal["label", "superseded", "held", "unchanged", "other", "quarantined"]
CHANGES = ("dice", "mask_ml", "corrected_ml", "added_ml", "removed_ml", "slices", "surface_mm", "outward_mm")
CLASS_COLUMNS = ("sop_uid", "digest", "class", *CHANGES, "inward_mm", "earlier_dice")


@dataclass
class Correction:
    """One row: an object that came, and what became of it.

    Attributes:
        received: when it was taken in, UTC, as ISO 8601.
        state: what became of it.
        reason: why, and what the user should know.
        kind: "SEG" or "RTSTRUCT".
        link: how it was recognised.
        role: of its author, as params.yaml says.
        author: a keyed digest of its author's name; empty where it names nobody.
        case, patient: pseudonyms; the case is empty where it is not one of the training data yet.
        part: of the patient in the split, when it was taken in.
        unit: series (or study) UID of the image; ``number`` its volume.
        version: of the corrections of one image, from 1.
        model: what made the mask.
        mask_uid: SOPInstanceUID of the mask.
        sop_uid, series_uid, study_uid: its own.
        digest: SHA-256 of the file.
        trained: when a training that saw it ended, UTC; empty where none did.
    """

    received: str
    state: State
    reason: str = ""
    kind: str = ""
    link: str = ""
    role: str = ""
    author: str = ""
    case: str = ""
    patient: str = ""
    part: str = ""
    unit: str = ""
    number: str = ""
    version: str = ""
    model: str = ""
    mask_uid: str = ""
    sop_uid: str = ""
    series_uid: str = ""
    study_uid: str = ""
    digest: str = ""
    trained: str = ""


COLUMNS = tuple(field.name for field in fields(Correction))


class CorrectionTable:
    """The tables of one workspace, and the objects themselves beside them.

    Args:
        folder: of the workspace; made when something is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows = [
            Correction(**{name: row.get(name) or "" for name in COLUMNS})  # type: ignore[arg-type]
            for row in read_rows(folder / "corrections.csv") or []
        ]
        self.class_rows: list[dict[str, object]] = [dict(row) for row in read_rows(folder / "classes.csv") or []]

    @property
    def sop_uids(self) -> set[str]:
        """The objects that were looked at."""
        return {row.sop_uid for row in self.rows}

    def has(self, sop_uid: str, digest: str) -> bool:
        """Whether an object was looked at with this very content."""
        return any((row.sop_uid, row.digest) == (sop_uid, digest) for row in self.rows)

    def list_versions(self, unit: str, number: int) -> list[Correction]:
        """List the corrections of one image, in the order in which they came."""
        states = ("label", "superseded", "held")
        return [row for row in self.rows if (row.unit, row.number) == (unit, str(number)) and row.state in states]

    def find_object(self, row: Correction) -> Path:
        """Where the object of a row is kept."""
        return self.folder / "objects" / f"{row.sop_uid or 'unknown'}-{row.digest[:12]}.dcm"

    def add(self, row: Correction, changes: Mapping[str, ClassChange]) -> None:
        """Add a row, and a row of each class."""
        self.rows.append(row)
        self.class_rows += [
            {"sop_uid": row.sop_uid, "digest": row.digest, "class": name, **_round_change(change)}
            for name, change in changes.items()
        ]

    def replace(self, earlier: Correction, row: Correction, changes: Mapping[str, ClassChange]) -> None:
        """Put a row in the place of an earlier one of the same object, which goes with its rows of classes."""
        self.rows.remove(earlier)
        same = (earlier.sop_uid, earlier.digest)
        self.class_rows = [entry for entry in self.class_rows if (entry["sop_uid"], entry["digest"]) != same]
        self.add(row, changes)

    def mark_trained(self, sop_uids: Collection[str], moment: str) -> None:
        """Note that a training has seen labels."""
        for row in self.rows:
            if row.sop_uid in sop_uids and row.state in ("label", "superseded") and not row.trained:
                row.trained = moment

    def write(self) -> None:
        """Write both tables, each whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_table(self.folder / "classes.csv", self.class_rows, CLASS_COLUMNS)
        write_table(self.folder / "corrections.csv", [asdict(row) for row in self.rows], COLUMNS)


def list_due(table: CorrectionTable) -> list[str]:
    """List the SOPInstanceUIDs of the corrected labels that no training has seen."""
    return [row.sop_uid for row in table.rows if row.state == "label" and not row.trained]


def _round_change(change: ClassChange) -> dict[str, object]:
    return {name: round(value, 6) if isinstance(value, float) else value for name, value in asdict(change).items()}
