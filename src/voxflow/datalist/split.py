"""Splitting a case table into parts: seeded, no patient in two parts, findings spread over all of them."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from voxflow.datalist.stratify import spread_patients
from voxflow.errors import DataError, join_names
from voxflow.findings import suggest
from voxflow.naming import shorten_pseudonym
from voxflow.tables import FINDING_PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pandas as pd

TRAINING, VALIDATION, TESTING, INFERENCE = "training", "validation", "testing", "inference"

PartChoice = Annotated[float, Field(ge=0)] | tuple[str, ...]
OWN = "dataset"  # the part that the data set itself keeps for testing
NO_TEST_PART = "no labelled case is of the data set's own test part"


class SplitOptions(BaseModel):
    """The key ``split`` of a workspace in params.yaml.

    Attributes:
        seed: decides the split, together with the patients' pseudonyms.
        testing: kept unseen for the evaluation: a share of the labelled patients (0.25), how many of them (20), a list
            of cases, patients or source files, or "dataset" for the data set's own test part; a case brings all cases
            of its patient with it. None: "dataset" where its test part has labels, else 0.2.
        validation: chooses the best model; in the same forms, of all labelled patients.
        folds: k > 1 also rotates training and validation k times; the testing part stays the same.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = 0
    testing: PartChoice | Literal["dataset"] | None = None
    validation: PartChoice = 0.2
    folds: int = Field(default=0, ge=0)

    @field_validator("testing", mode="before")
    @classmethod
    def _known_word(cls, value: Any) -> Any:
        if isinstance(value, str) and value != OWN and not re.fullmatch(r"[\d.]+", value):
            forms = "a share (0.2), a number of patients, a list of names, or 'dataset' for the data set's own part"
            near = suggest(value, [OWN])
            raise ValueError(f"expected {forms}{near if near.nearest else ''}")
        return value


def split_cases(table: pd.DataFrame, options: SplitOptions) -> list[dict[str, str]]:
    """Assign every case to a part.

    Args:
        table: one row a case, with the columns ``case``, ``patient``, ``label`` and, for classification,
            ``finding:NAME`` (0, 1 or empty); ``source`` where there is one.
        options: seed and shares.

    Returns:
        One mapping case → part a datalist: the first is the split itself, the others its folds. A case without a
        label, or with an unknown finding, goes to "inference", whatever part its patient is in.

    Raises:
        DataError: a part would be empty, there are fewer patients than parts or folds, a list names what the table
            does not have, or lists, or the data set itself, put a patient in two parts.

    Example:
        >>> import pandas as pd
        >>> table = pd.DataFrame({"case": list("abcdef"), "patient": list("ppqrst"), "label": "mask.nii.gz"})
        >>> split, = split_cases(table, SplitOptions(testing=1, validation=1))
        >>> split["a"] == split["b"]  # one patient's cases stay together
        True
        >>> sorted(set(split.values()))
        ['testing', 'training', 'validation']
    """
    labelled = table[_is_labelled(table)]
    options = _choose_testing(labelled, options)
    traits = _count_traits(labelled)
    order = sorted(traits, key=lambda patient: (_digest_patient(patient, options.seed), patient))
    fixed = _assign_listed(labelled, options)
    free = [patient for patient in order if patient not in fixed]
    parts = fixed | spread_patients(free, traits, _part_sizes(len(order), len(free), options))
    _require_no_empty_part(parts, options)
    unseen = [patient for patient in order if parts[patient] != TESTING]
    splits = [parts, *_make_folds(unseen, parts, traits, options.folds)]
    patient_of = dict(zip(labelled["case"], labelled["patient"].astype(str), strict=True))
    return [
        {str(case): split[patient_of[case]] if case in patient_of else INFERENCE for case in table["case"]}
        for split in splits
    ]


def _digest_patient(patient: str, seed: int) -> str:
    """Decide a patient's place in the order of the split.

    By a digest of seed and pseudonym, not by a shuffle: a patient that is added later moves no other. Of a pseudonym,
    its first 8 digits count, so that a split is the same as in earlier versions, which gave shorter ones.
    """
    return hashlib.sha256(f"{seed}:{shorten_pseudonym(patient)}".encode()).hexdigest()


def list_lacking_findings(table: pd.DataFrame) -> list[str]:
    """Say which part has no case with, or none without, a finding: its AUC can't be computed there.

    Args:
        table: one row a case, with ``part`` and ``finding:NAME``.
    """
    lacks = []
    for part in (TRAINING, VALIDATION, TESTING):
        rows = table[table["part"] == part]
        for column in _finding_columns(table):
            lacks += [
                f"{part} has no case {word} {column.removeprefix(FINDING_PREFIX)}"
                for value, word in ((1, "with"), (0, "without"))
                if not (rows[column] == value).any()
            ]
    return lacks


def _finding_columns(table: pd.DataFrame) -> list[str]:
    return [column for column in table.columns if column.startswith(FINDING_PREFIX)]


def _is_labelled(table: pd.DataFrame) -> pd.Series[bool]:
    findings = _finding_columns(table)
    if findings:
        return table[findings].notna().all(axis=1)
    return table["label"].fillna("") != ""


def _count_traits(labelled: pd.DataFrame) -> dict[str, Counter[str]]:
    """By patient: how many of its cases have each finding, and how many have it not."""
    findings = _finding_columns(labelled)
    traits: dict[str, Counter[str]] = {str(patient): Counter() for patient in labelled["patient"]}
    for row in labelled.to_dict("records"):
        traits[str(row["patient"])].update(f"{column}={int(row[column])}" for column in findings)
    return traits


def _part_sizes(patients: int, free: int, options: SplitOptions) -> dict[str, int]:
    """How many of the free patients go to each part."""
    sizes = {
        TESTING: _count_patients(options.testing, patients),
        VALIDATION: _count_patients(options.validation, patients),
    }
    return sizes | {TRAINING: max(0, free - sum(sizes.values()))}


def _count_patients(part: float | tuple[str, ...] | str | None, patients: int) -> int:
    if not isinstance(part, float | int):
        return 0
    if part >= 1:
        return round(part)
    return max(1, round(part * patients)) if part > 0 else 0


def _require_no_empty_part(parts: dict[str, str], options: SplitOptions) -> None:
    sizes = {part: list(parts.values()).count(part) for part in (TRAINING, VALIDATION, TESTING)}
    expected = _part_sizes(len(parts), 0, options)
    short = [part for part, size in sizes.items() if size < max(1, expected.get(part, 0))]
    if short:
        shares = ", ".join(f"{part} {_format_part(getattr(options, part))}" for part in (TESTING, VALIDATION))
        raise DataError(
            f"{len(parts)} labelled patients are too few: {' and '.join(short)} would be empty or smaller than asked "
            f"({shares}); add patients or change the shares"
        )


def _format_part(part: float | tuple[str, ...] | str) -> str:
    return f"{len(part)} listed" if isinstance(part, tuple) else part if isinstance(part, str) else f"{part:g}"


def _choose_testing(labelled: pd.DataFrame, options: SplitOptions) -> SplitOptions:
    """Put what ``testing`` stands for in its place."""
    if options.testing is not None:
        return options
    return options.model_copy(update={"testing": OWN if _own_parts(labelled).eq(TESTING).any() else 0.2})


def _own_parts(table: pd.DataFrame) -> pd.Series[str]:
    """What the data set itself uses each case for; empty where it does not say."""
    return table["subset"].fillna("") if "subset" in table.columns else table["case"].map(lambda _: "")


def _list_own_test_patients(labelled: pd.DataFrame) -> list[str]:
    """The patients of the data set's own test part."""
    parts, patients = _own_parts(labelled), labelled["patient"].astype(str)
    test_patients = set(patients[parts == TESTING])
    leaking = labelled["case"][patients.isin(test_patients) & (patients.isin(set(patients[parts == TRAINING])))]
    if len(leaking):
        raise DataError(
            f"leakage: the data set puts cases of one patient in training and in testing: {join_names(list(leaking))}"
        )
    if not test_patients:
        raise DataError(f"split.testing: dataset: {NO_TEST_PART}")
    return sorted(test_patients)


def list_own_test_cases(table: pd.DataFrame) -> list[str]:
    """List the cases that the data set keeps for testing, and that are learned from all the same.

    Args:
        table: one row a case, with ``part``, and ``subset`` where the data set has parts.
    """
    is_learned = table["part"].isin((TRAINING, VALIDATION)) & (_own_parts(table) == TESTING)
    return [str(case) for case in table["case"][is_learned]]


def _assign_listed(labelled: pd.DataFrame, options: SplitOptions) -> dict[str, str]:
    """The patients that options list by name."""
    patient_of = _map_patients(labelled)
    fixed = dict.fromkeys(_list_own_test_patients(labelled), TESTING) if options.testing == OWN else {}
    unknown, leaking = [], []
    for part in (TESTING, VALIDATION):
        choice = getattr(options, part)
        for name in choice if isinstance(choice, tuple) else ():
            if name not in patient_of:
                unknown.append(name)
            elif fixed.setdefault(patient_of[name], part) != part:
                leaking.append(patient_of[name])
    if unknown:
        raise DataError(f"no labelled case, patient or source file is called {join_names(unknown)}")
    if leaking:
        raise DataError(f"leakage: the lists put patients in testing and in validation: {join_names(leaking)}")
    return fixed


def _map_patients(labelled: pd.DataFrame) -> dict[str, str]:
    patient_of: dict[str, str] = {}
    short_names: dict[str, set[str]] = {}
    for column in ("source", "case", "patient"):
        if column in labelled.columns:
            pairs = zip(labelled[column].astype(str), labelled["patient"].astype(str), strict=True)
            patient_of |= dict(pairs)
    # Lists of earlier versions hold shorter pseudonyms.
    for name, patient in patient_of.items():
        short_names.setdefault(shorten_pseudonym(name), set()).add(patient)
    unique_names = {name: patients.pop() for name, patients in short_names.items() if len(patients) == 1}
    return unique_names | patient_of


def _make_folds(
    unseen: list[str], parts: dict[str, str], traits: dict[str, Counter[str]], folds: int
) -> Iterable[dict[str, str]]:
    if folds < 2:
        return []
    if len(unseen) < folds:
        raise DataError(f"{len(unseen)} patients outside testing can't make {folds} folds")
    share, more = divmod(len(unseen), folds)
    fold_of = spread_patients(unseen, traits, {str(fold): share + (fold < more) for fold in range(folds)})
    return [parts | {p: VALIDATION if fold_of[p] == str(fold) else TRAINING for p in unseen} for fold in range(folds)]
