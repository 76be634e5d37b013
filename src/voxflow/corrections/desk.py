"""Takes corrections in, one object after the other: recognise, compare, keep, and let it become a label.

Nothing is decided about training data here but for one place: the folder ``corrections`` of the workspace's source has
at most one label for each image, that of the latest version. What conversion, split and training make of it is theirs.
"""

from __future__ import annotations

import datetime
import shutil
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from voxflow.corrections.facts import ObjectFacts, digest_file, read_facts
from voxflow.corrections.placing import LabelPlace, explain_no_place
from voxflow.corrections.recognise import SAME_OBJECT, Recognition, explain_no_person, recognise
from voxflow.corrections.results import retain_mask
from voxflow.corrections.table import Correction, CorrectionTable
from voxflow.corrections.versions import VersionComparison, compare_version
from voxflow.dicom import PARSE_ERRORS, ConvertOptions, explain_parse_error
from voxflow.errors import InputError
from voxflow.files import atomic_path, read_json_or_none, write_json
from voxflow.images import PseudonymBook, load_pseudonym_key
from voxflow.naming import shorten_pseudonym
from voxflow.progress import say
from voxflow.tables import is_labelled, read_rows

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from voxflow.corrections.compare import ClassChange
    from voxflow.corrections.results import OwnResult
    from voxflow.places import WorkspaceLayout
    from voxflow.tables import Row

TESTING = "testing"
PENDING = "pending.json"  # names the correction whose label is being put in its place


@dataclass
class CorrectionDesk:
    """Takes label objects in and decides about each.

    Attributes:
        places: of the workspace.
        results: our masks.
        table: of what came before; it is written after each object.
        role: of the people who correct.
        source_is_sample: the stage sample makes the workspace's source.
        absent: ``hold`` or ``empty``: what becomes of a correction that lacks classes of our mask.
        decisions: the rows that were added.
    """

    places: WorkspaceLayout
    results: Sequence[OwnResult]
    table: CorrectionTable
    role: str = "person"
    source_is_sample: bool = False
    absent: str = "hold"
    decisions: list[Correction] = field(default_factory=list)

    @cached_property
    def convert(self) -> ConvertOptions:
        """How the workspace converts; one image after another, without files that lead to patients."""
        options = self.places.options_of("convert", ConvertOptions)
        return options.model_copy(update={"mapping": False, "workers": 1})

    def take(self, path: Path) -> Correction | None:
        """Take one label object in; a bad one never stops the others.

        Args:
            path: a DICOM SEG or RTSTRUCT, which is copied.

        Returns:
            Its row; None where it was looked at before, or is our own mask as we sent it.

        Raises:
            OSError: something could not be written.
        """
        row = Correction(_now(), "quarantined", digest=digest_file(path))
        changes: dict[str, ClassChange] = {}
        try:
            facts = read_facts(path)
            if self.table.has(facts.sop_uid, row.digest):
                return None
            _describe_object(row, facts)
            recognition = recognise(facts, self.results)
            if recognition.link == SAME_OBJECT and row.digest == recognition.result.facts.digest:
                return None
            changes = self._examine(row, recognition)
        except InputError as error:
            row.state, row.reason = "quarantined", error.message.splitlines()[0]
        except PARSE_ERRORS as error:
            row.state, row.reason = "quarantined", explain_parse_error(error)
        if not row.sop_uid and any(earlier.digest == row.digest for earlier in self.table.rows):
            return None
        self._keep(row, path)
        self.table.add(row, changes)
        self._report(row)
        return row

    def reconsider_held(self) -> None:
        """Decide anew about held corrections, since what held them may be gone; those of the test part stay.

        Raises:
            OSError: something could not be written.
        """
        for earlier in [row for row in self.table.rows if row.state == "held" and row.part != TESTING]:
            path = self.table.find_object(earlier)
            if not path.is_file():
                continue
            row = Correction(earlier.received, "held", digest=earlier.digest)
            try:
                facts = read_facts(path)
                _describe_object(row, facts)
                changes = self._examine(row, recognise(facts, self.results))
            except (InputError, *PARSE_ERRORS) as error:
                say(f"{earlier.kind} {earlier.sop_uid}: stays held; it can't be read again: {error}")
                continue
            if row.state != "held":
                row.version = earlier.version
                self.table.replace(earlier, row, changes)
                self._report(row)

    def _examine(self, row: Correction, recognition: Recognition) -> dict[str, ClassChange]:
        """Fill a row in, and return what changed in each class."""
        self._describe_recognition(row, recognition)
        comparison = self._judge(row, recognition)
        return comparison.changes if comparison else {}

    def _report(self, row: Correction) -> None:
        self.table.write()
        (self.table.folder / PENDING).unlink(missing_ok=True)
        self.decisions.append(row)
        say(f"{row.kind or 'object'} {row.sop_uid}: {row.state}{f': {row.reason}' if row.reason else ''}")

    def _describe_recognition(self, row: Correction, recognition: Recognition) -> None:
        facts, result = recognition.facts, recognition.result
        row.link, row.unit, row.number = recognition.link, result.unit, str(result.number)
        row.model, row.mask_uid, row.role = result.model, result.facts.sop_uid, self.role
        if facts.person:
            book = PseudonymBook(load_pseudonym_key(self.convert.pseudonym_key))
            # Apart from those of patients: a radiologist may be one.
            row.author = book.digest_patient(f"author {facts.person}")[:8]

    def _judge(self, row: Correction, recognition: Recognition) -> VersionComparison | None:
        """Decide what becomes of a recognised object; None where there is nothing to compare."""
        if recognition.facts.is_rejected:
            row.reason = "(300E,0002): it was rejected by who reviewed it"
            return None
        reason = explain_no_person(recognition)
        if reason:
            row.state, row.reason = "other", reason
            return None
        place = LabelPlace(self.places.source, recognition.result)
        # A run that was ended may have put this very label there, and not noted it.
        is_pending = read_json_or_none(self.table.folder / PENDING) == {"digest": row.digest}
        earlier = None if is_pending else place.label
        comparison = compare_version(recognition, earlier, self.places, self.convert)
        row.patient = comparison.patient
        row.reason = "; ".join(comparison.remarks)
        if comparison.is_unchanged:
            row.state = "unchanged"
            return comparison
        retain_mask(recognition.result, self.table.folder)
        self._find_case(row, recognition.result)
        row.version = str(len(self.table.list_versions(row.unit, int(row.number))) + 1)
        self._decide_about_label(row, recognition, place, comparison)
        return comparison

    def _find_case(self, row: Correction, result: OwnResult) -> None:
        """Note which case the image is, and the part of its patient."""
        case = self._find_case_row(result)
        split = read_rows(self.places.datalists / "split.csv") or []
        row.case = case["case"] if case else ""
        names = {row.patient, shorten_pseudonym(row.patient), *([case["patient"]] if case else [])}
        parts = {entry["part"] for entry in split if entry["patient"] in names}
        row.part = next((part for part in (TESTING, "validation", "training", "inference") if part in parts), "")

    def _find_case_row(self, result: OwnResult) -> Row | None:
        rows = read_rows(self.places.volumes / "cases.csv") or []
        return next((row for row in rows if result.image_series & set((row.get("series_uid") or "").split(";"))), None)

    def _decide_about_label(
        self, row: Correction, recognition: Recognition, place: LabelPlace, comparison: VersionComparison
    ) -> None:
        """Let a correction become the label of its image, or say why it does not."""
        case = self._find_case_row(recognition.result)
        if row.part == TESTING:
            obstacle = "its patient is in the test part, whose labels stay as they are"
        elif case and is_labelled(case) and not place.label.is_file():
            obstacle = "its case has a label of its own, which stays"
        else:
            obstacle = explain_no_place(self.places, self.convert, is_sample=self.source_is_sample)
        obstacle = obstacle or self._explain_absent(row, comparison)
        if obstacle:
            row.state = "held"
            row.reason = "; ".join(text for text in (obstacle, row.reason) if text)
            return
        current = next((r for r in self.table.list_versions(row.unit, int(row.number)) if r.state == "label"), None)
        if current and self._is_older(row, recognition.facts, current):
            row.state = "superseded"
            row.reason = "; ".join(text for text in ("made before the version that is the label", row.reason) if text)
            return
        self.table.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.table.folder / PENDING, {"digest": row.digest})
        place.put(comparison, self.places, self.convert)
        row.state = "label"
        if current:
            current.state = "superseded"

    def _explain_absent(self, row: Correction, comparison: VersionComparison) -> str:
        """Say why missing classes hold a correction: many programs send only what was edited; empty if they do not."""
        names = ", ".join(comparison.missing)
        if not names:
            return ""
        if self.convert.absent_labels == "empty" and self.absent == "hold":
            for name in comparison.missing:
                # Nobody said that the class is gone, so that the report must not count it as taken out.
                del comparison.changes[name]
            return f"{names}: in our mask, missing in it; send all classes, or set corrections.absent to empty"
        meaning = "taken as empty" if self.convert.absent_labels == "empty" else "not labelled"
        remark = f"{names} is missing in it: {meaning} (convert.absent_labels)"
        row.reason = "; ".join(text for text in (row.reason, remark) if text)
        return ""

    def _is_older(self, row: Correction, facts: ObjectFacts, current: Correction) -> bool:
        try:
            current_facts = read_facts(self.table.find_object(current))
        except (InputError, OSError, *PARSE_ERRORS):
            return False
        moment, current_moment = _find_moment(row, facts), _find_moment(current, current_facts)
        return bool(moment and current_moment and moment < current_moment)

    def _keep(self, row: Correction, path: Path) -> None:
        """Keep the object as it came; it may name the patient, as everything in the inbox does."""
        copy = self.table.find_object(row)
        copy.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(copy) as temporary:
            shutil.copyfile(path, temporary)


def _describe_object(row: Correction, facts: ObjectFacts) -> None:
    row.kind, row.sop_uid, row.series_uid, row.study_uid = facts.kind, facts.sop_uid, facts.series_uid, facts.study_uid


def _find_moment(row: Correction, facts: ObjectFacts) -> str:
    """When an object was made, YYYYMMDDHHMMSS, by its own clock; when it came, where that was ahead by over a day."""
    arrival = datetime.datetime.fromisoformat(row.received).astimezone()
    if facts.moment > f"{arrival + datetime.timedelta(days=1):%Y%m%d%H%M%S}":
        return f"{arrival:%Y%m%d%H%M%S}"
    return facts.moment


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
