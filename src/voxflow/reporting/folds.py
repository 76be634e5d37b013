"""Tabulates a cross-validation for the report: the folds beside each other, their spread, and the ensemble."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from voxflow.files import read_json_or_none
from voxflow.reporting.tables import Table, make_table, parse_number
from voxflow.tables import Row, read_rows

if TYPE_CHECKING:
    from voxflow.reporting.sources import ReportSources

FOLD, ENSEMBLE, MEAN, STD = "fold ", "ensemble", "mean", "std"
NOT_SCORES = ("model", "on", "cases")


@dataclass(frozen=True)
class CrossValidation:
    """The part of the page.

    Attributes:
        folds: number of folds; 0 where the workspace has none.
        table: a row a score.
        run_id: the MLflow run that is the folds' parent; empty when it is not known.
    """

    folds: int
    table: Table
    run_id: str = ""


def tabulate_folds(sources: ReportSources) -> CrossValidation:
    """Tabulate each fold's scores on the cases that it held out, their mean ± deviation, and the ensemble's.

    Returns:
        A row a score; a table without rows where the workspace has no folds.
    """
    folder = sources.evaluation / "ensemble"
    by_model = {row.get("model", ""): row for row in read_rows(folder / "cross_validation.csv") or []}
    folds = [name for name in by_model if name.startswith(FOLD)]
    if not folds:
        return CrossValidation(0, Table())
    names = [name for name in by_model[folds[0]] if name not in NOT_SCORES]
    rows = [_make_row("cases", by_model, folds, "")]
    rows += [_make_row(name, by_model, folds, _format_spread(by_model, name)) for name in names]
    run = read_json_or_none(folder / "run.json") or {}
    return CrossValidation(len(folds), make_table(rows, missing="", rounded=True), str(run.get("run_id") or ""))


def _make_row(name: str, by_model: dict[str, Row], folds: list[str], spread: str) -> Row:
    held_out = {fold: _format_count(by_model[fold].get(name)) for fold in folds}
    ensemble_score = _format_count(by_model.get(ENSEMBLE, {}).get(name))
    return {"score": name.replace("_", " "), "mean ± std": spread, **held_out, "ensemble, unseen cases": ensemble_score}


def _format_spread(by_model: dict[str, Row], name: str) -> str:
    mean, std = (parse_number(by_model.get(model, {}).get(name)) for model in (MEAN, STD))
    return "" if mean is None or std is None else f"{mean:.3f} ± {std:.3f}"


def _format_count(text: str | None) -> str:
    """A count without its decimals."""
    value = parse_number(text)
    return f"{value:.0f}" if value is not None and value == round(value) else text or ""
