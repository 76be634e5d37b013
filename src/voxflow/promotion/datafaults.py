"""Finds what is wrong with the data of a model: labels that were merged from several series, and failed data checks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from voxflow.errors import join_names
from voxflow.files import read_json_or_none
from voxflow.tables import read_rows

if TYPE_CHECKING:
    from pathlib import Path

    from voxflow.places import WorkspaceLayout

LABEL_OBJECTS = ("SEG", "RTSTRUCT")
USABLE = ("converted", "remedied")


@dataclass(frozen=True)
class DataFaults:
    """What is wrong with the data that a model was trained and judged on.

    Attributes:
        merged_labels: the cases whose label is made of label objects of several series.
        failed_checks: the names of the checks of the stage validate that failed.
    """

    merged_labels: tuple[str, ...] = ()
    failed_checks: tuple[str, ...] = ()

    def explain_merged_labels(self) -> str:
        """Say which labels were merged, and what to do."""
        return (
            f"the label of {len(self.merged_labels)} case(s) ({join_names(self.merged_labels)}) was merged from "
            "several series, some of which may have been drawn on another image: look at them, and take what does not "
            "belong there out of the source, or write promote.allow_merged_labels: true"
        )

    def explain_failed_checks(self) -> str:
        """Say which checks failed, and what to do."""
        return (
            f"{len(self.failed_checks)} data check(s) failed ({join_names(self.failed_checks)}): correct the data or "
            "the check's bounds, or write promote.allow_failed_checks: true"
        )


def find_data_faults(places: WorkspaceLayout) -> DataFaults:
    """Find the faults of a workspace's data, in what the stages convert and validate left.

    Raises:
        DataError: conversion.csv can't be read.
    """
    failed = places.quality.with_name(f"{places.quality.name}.failed")
    checks = {name: None for folder in (places.quality, failed) for name in _list_failed_checks(folder / "report.json")}
    return DataFaults(_list_merged_labels(places.volumes / "conversion.csv"), tuple(checks))


def _list_merged_labels(table: Path) -> tuple[str, ...]:
    series: dict[str, set[str]] = {}
    for row in read_rows(table) or []:
        if row.get("modality") in LABEL_OBJECTS and row.get("verdict") in USABLE and row.get("case"):
            series.setdefault(row["case"], set()).add(row.get("series_uid", ""))
    return tuple(sorted(case for case, uids in series.items() if len(uids) > 1))


def _list_failed_checks(report: Path) -> list[str]:
    content: Any = read_json_or_none(report)
    checks = content.get("checks") if isinstance(content, dict) else None
    return [str(check["name"]) for check in checks or [] if not check.get("success")]
