"""Owns splitting a case table into parts: seeded, no patient in two parts, findings spread over all of them."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from voxflow.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

FINDING = "finding:"
TRAINING, VALIDATION, TESTING, INFERENCE = "training", "validation", "testing", "inference"


class SplitOptions(BaseModel):
    """How to split.

    Attributes:
        seed: decides the split, together with the patients' pseudonyms.
        testing: share of the labelled patients, or how many (1 or more), kept unseen for the evaluation.
        validation: share of the labelled patients, or how many, that choose the best model.
        folds: k > 1 also rotates training and validation k times; the testing part stays the same.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = 0
    testing: float = Field(default=0.2, ge=0)
    validation: float = Field(default=0.2, ge=0)
    folds: int = Field(default=0, ge=0)


def split_cases(table: pd.DataFrame, options: SplitOptions) -> list[dict[str, str]]:
    """Assign every case to a part.

    Args:
        table: one row a case, with the columns ``case``, ``patient``, ``label`` and, for classification,
            ``finding:NAME``.
        options: seed and shares.

    Returns:
        One mapping case → part a datalist: the first is the split itself, the others its folds.

    Raises:
        DataError: a part would be empty, or there are fewer patients than parts or folds.
    """
    labelled = _labelled(table)
    groups = _patients(table[labelled])
    counts = _counts(len(groups), options)
    unlabelled = dict.fromkeys(table[~labelled]["case"], INFERENCE)
    order = sorted(groups, key=lambda patient: hashlib.sha256(f"{options.seed}:{patient}".encode()).hexdigest())
    testing = _spread(order, groups, [counts[TESTING], len(groups) - counts[TESTING]])
    rest = [patient for patient in order if testing[patient] == 1]
    validation = _spread(rest, groups, [counts[VALIDATION], len(rest) - counts[VALIDATION]])
    parts = {p: TESTING if testing[p] == 0 else VALIDATION if validation[p] == 0 else TRAINING for p in order}
    splits = [parts]
    if options.folds > 1:
        if len(rest) < options.folds:
            raise DataError(f"{len(rest)} patients outside testing can't make {options.folds} folds")
        fold_of = _spread(rest, groups, [len(rest) / options.folds] * options.folds)
        splits += [
            {p: TESTING if testing[p] == 0 else VALIDATION if fold_of[p] == fold else TRAINING for p in order}
            for fold in range(options.folds)
        ]
    return [unlabelled | {c: split[p] for p in order for c in groups[p].cases} for split in splits]


class _Group:
    """One patient: its cases and how often each finding is positive and negative among them."""

    def __init__(self) -> None:
        self.cases: list[str] = []
        self.findings: dict[str, int] = defaultdict(int)


def _labelled(table: pd.DataFrame) -> pd.Series[bool]:
    findings = [column for column in table.columns if column.startswith(FINDING)]
    if findings:
        return table[findings].notna().all(axis=1)
    return table["label"].fillna("") != ""


def _patients(table: pd.DataFrame) -> dict[str, _Group]:
    findings = [column for column in table.columns if column.startswith(FINDING)]
    groups: dict[str, _Group] = defaultdict(_Group)
    for row in table.to_dict("records"):
        group = groups[str(row["patient"])]
        group.cases.append(str(row["case"]))
        for column in findings:
            group.findings[f"{column}={int(row[column])}"] += 1
    return dict(groups)


def _counts(patients: int, options: SplitOptions) -> dict[str, int]:
    counts = {TESTING: _count(options.testing, patients), VALIDATION: _count(options.validation, patients)}
    counts[TRAINING] = patients - sum(counts.values())
    empty = [part for part, count in counts.items() if count < 1]
    if empty:
        raise DataError(
            f"{patients} labelled patients leave {' and '.join(empty)} empty "
            f"(testing {options.testing:g}, validation {options.validation:g}); add patients or change the shares"
        )
    return counts


def _count(share: float, patients: int) -> int:
    return round(share) if share >= 1 else max(1, round(share * patients)) if share > 0 else 0


def _spread(order: Sequence[str], groups: Mapping[str, _Group], sizes: Sequence[float]) -> dict[str, int]:
    """Deal patients to parts of given sizes so that each finding is shared out in proportion.

    Greedy iterative stratification (Sechidis, Tsoumakas and Vlahavas 2011) on patients: those with the rarest
    finding are dealt first, each to the part that lacks that finding most.
    """
    share = [size / max(1, sum(sizes)) for size in sizes]
    totals: dict[str, int] = defaultdict(int)
    for patient in order:
        for finding, count in groups[patient].findings.items():
            totals[finding] += count
    wanted = [{finding: total * part for finding, total in totals.items()} for part in share]
    room = list(sizes)
    dealt: dict[str, int] = {}
    for patient in sorted(order, key=lambda p: min((totals[f] for f in groups[p].findings), default=0)):
        rarest = min(groups[patient].findings, key=lambda finding: totals[finding], default="")
        open_parts = [n for n in range(len(sizes)) if room[n] > 0] or list(range(len(sizes)))
        part = max(open_parts, key=lambda n: (wanted[n].get(rarest, 0.0), room[n]))
        dealt[patient] = part
        room[part] -= 1
        for finding, count in groups[patient].findings.items():
            wanted[part][finding] -= count
    return dealt
