"""Says when a training is due: after drift, or when enough labelled cases are there that no training has seen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from voxflow.tables import is_labelled, read_rows

if TYPE_CHECKING:
    from voxflow.drift.check import DriftResult
    from voxflow.drift.options import RetrainOptions
    from voxflow.places import Places


def count_new_labelled_cases(places: Places) -> int:
    """Count the labelled cases that no training has seen.

    Returns:
        Cases with a label in cases.csv that split.csv does not have, or has as cases without a label.
    """
    split = read_rows(places.datalists / "split.csv") or []
    in_split = {row["case"] for row in split if row["part"] != "inference"}
    return sum(
        is_labelled(row) and row["case"] not in in_split for row in read_rows(places.volumes / "cases.csv") or []
    )


def list_reasons_to_retrain(drift: DriftResult | None, labelled: int, options: RetrainOptions) -> list[str]:
    """List why a training is due, in words; the list is empty when none is.

    Args:
        drift: what the check of incoming studies found; None: no study came.
        labelled: as :func:`count_new_labelled_cases` counts them.
        options: whether drift counts, and how many new labelled cases make a training due.
    """
    reasons = []
    if options.on_drift and drift is not None and drift.moved_features:
        reasons.append(f"drift of {', '.join(feature.name for feature in drift.moved_features)}")
    if options.new_labelled and labelled >= options.new_labelled:
        reasons.append(f"{labelled} labelled cases that no training has seen (from {options.new_labelled} on)")
    return reasons
