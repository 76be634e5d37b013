"""What a data set's labels say of its classes: gaps in their values, values of one case, classes that are nowhere.

Only what is wrong becomes an outcome, so that a data set in order has the report that it had without these checks.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from voxflow.errors import join_names
from voxflow.images import format_proposal, propose_labels
from voxflow.quality.checks import CheckOutcome, DataCheck
from voxflow.tables import LABELLED

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

    from voxflow.quality.suites import ValidateOptions

COLUMN = "label_values"
GAPS, RARE, ABSENT, LACKING = LABEL_CHECKS = (
    "label values are counted from 1",
    "label value is in several cases",
    "class is in some case",
    "classes are in the case",
)
ALL = "all cases"
LEAST_LABELLED = 3  # in two cases, a value of one says nothing
MOST_NAMED = 5


def check_labels(
    measured: pd.DataFrame,
    table: pd.DataFrame,
    classes: Mapping[str, Sequence[int]],
    options: ValidateOptions,
    *,
    ignore: int | None = None,
) -> list[CheckOutcome]:
    """Compare the values in all labels with the classes.

    Args:
        measured: one row a case with its ``label_values``.
        table: cases.csv, which may say in ``labelled`` which classes were labelled.
        classes: the label values of each class, without the background.
        options: severities.
        ignore: the label value of voxels that nobody labelled.

    Returns:
        What is wrong; all of it warnings unless the options say otherwise.
    """
    if COLUMN not in measured:
        return []
    labelled = dict(zip(table["case"], table[LABELLED], strict=True)) if LABELLED in table else {}
    values_by_case = {
        str(case): _parse_values(text)
        for case, text in zip(measured["case"], measured[COLUMN], strict=True)
        if isinstance(text, str)
    }
    expected = {
        case: {n: set(v) for n, v in classes.items() if not labelled.get(case) or n in labelled[case].split(";")}
        for case in values_by_case
    }
    failures = {
        GAPS: _find_gaps(classes),
        RARE: _find_rare(values_by_case, classes, ignore),
        ABSENT: _find_absent(values_by_case, expected, classes, ignore),
    }
    nowhere = {name for name, values in classes.items() if not any(set(values) & v for v in values_by_case.values())}
    failures[LACKING] = {
        case: f"no {join_names(lacking, MOST_NAMED)}"
        for case, values in values_by_case.items()
        if (lacking := [n for n, members in expected[case].items() if n not in nowhere and not members & values])
    }
    severities = dict.fromkeys(options.warning, "warning") | dict.fromkeys(options.critical, "critical")
    return [
        CheckOutcome(DataCheck(name, COLUMN, "values").with_severity(severities.get(name, "warning")), False, cases)
        for name, cases in failures.items()
        if cases
    ]


def _parse_values(text: str) -> set[int]:
    return {int(float(value)) for value in text.split() if float(value).is_integer()}


def _find_gaps(classes: Mapping[str, Sequence[int]]) -> dict[str, str]:
    """Of classes that exclude each other; a network has an answer for each value up to the highest."""
    values = [value for members in classes.values() for value in members]
    proposal = propose_labels(values)
    if not proposal or len(values) > len(classes):
        return {}
    names = {members[0]: name for name, members in classes.items()}
    text = format_proposal({value: names[value] for value in proposal})
    return {ALL: f"{max(values)} network answers for {len(values)} classes; convert: {text} numbers them from 1"}


def _find_rare(
    values_by_case: Mapping[str, set[int]], classes: Mapping[str, Sequence[int]], ignore: int | None
) -> dict[str, str]:
    if len(values_by_case) < LEAST_LABELLED:
        return {}
    counts = Counter(value for values in values_by_case.values() for value in values)
    names = {value: name for name, members in classes.items() for value in members}
    rare = [value for value, count in counts.items() if count == 1 and value not in (0, ignore)]
    return {
        case: join_names([f"{value}: {names.get(value, 'no class')}" for value in sorted(found)], MOST_NAMED)
        for case, values in values_by_case.items()
        if (found := values & set(rare))
    }


def _find_absent(
    values_by_case: Mapping[str, set[int]],
    expected: Mapping[str, Mapping[str, Any]],
    classes: Mapping[str, Sequence[int]],
    ignore: int | None,
) -> dict[str, str]:
    """Classes that no case has, with the reason: nobody labelled them, or no voxel has their value."""
    reasons = []
    for name, members in classes.items():
        if not values_by_case or any(set(members) & values for values in values_by_case.values()):
            continue
        count = sum(name in names for names in expected.values())
        ignored = sum(ignore in values for values in values_by_case.values()) if ignore is not None else 0
        value = " + ".join(map(str, members))
        reason = f"{name} ({value}): no voxel in the {count} cases in which it was labelled" if count else ""
        reason += f", {ignored} of which are not whole" if count and ignored else ""
        reasons.append(reason or f"{name} ({value}): labelled in no case")
    return {ALL: "; ".join(reasons)} if reasons else {}
