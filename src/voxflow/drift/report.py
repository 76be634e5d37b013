"""Writes what a drift check found: drift.csv, drift.json and drift.html."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from voxflow.drift.viewer import INCOMING_VIEWER
from voxflow.files import write_json, write_text
from voxflow.reporting import Chart, KeyFigure, draw_lines, make_table, render_template, series_colour, spell_name
from voxflow.tables import write_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from voxflow.drift.check import DriftResult, FeatureDrift
    from voxflow.drift.features import PatientFeatures, Value
    from voxflow.tables import Row

COLUMNS = ("name", "verdict", "psi", "statistic", "p_value", "adjusted", "before", "now", "outside")
TEMPLATE = "drift.html.j2"
CHARTS = 12  # features that are drawn, those that moved first


def write_drift(
    drift: DriftResult, reference: PatientFeatures, incoming: PatientFeatures, folder: Path, workspace: str
) -> None:
    """Write the table, the numbers and the page.

    Args:
        drift: the features with their verdicts.
        reference: the training's sample, for the plots.
        incoming: the other one.
        folder: gets drift.csv, drift.json, drift.html.
        workspace: its name, for the title.
    """
    checked_at = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    write_table(folder / "drift.csv", [vars(feature) for feature in drift.features], COLUMNS)
    write_json(folder / "drift.json", {"workspace": workspace, "checked": checked_at, **drift.as_json()})
    moved = ", ".join(spell_name(feature.name) for feature in drift.moved_features)
    charted = [feature.name for feature in drift.features][:CHARTS]
    facts = {
        "workspace": workspace,
        "viewer": _find_viewer(folder, workspace),
        "incoming_cases": {case: f"{INCOMING_VIEWER}#{quote(case)}" for case in incoming.viewer_cases},
        "when": checked_at,
        "line": f"Drift of {moved}" if moved else drift.line(),
        "alert": bool(drift.moved_features),
        "tiles": _make_key_figures(drift),
        "table_": make_table(
            [_make_row(feature) for feature in drift.features], missing="Both samples have no feature in common."
        ),
        "charts_": [chart for name in charted if (chart := _draw_distribution(name, reference, incoming)) is not None],
        "alpha": f"{drift.alpha:g}",
        "psi": f"{drift.psi:g}",
    }
    write_text(folder / "drift.html", render_template(TEMPLATE, facts))


def _find_viewer(folder: Path, workspace: str) -> str:
    """The address of the workspace's case viewer, as seen from the page; empty where there is none."""
    viewer = Path("mmars") / workspace / "eval/viewer.html"
    return quote(os.path.relpath(viewer, folder).replace(os.sep, "/")) if viewer.is_file() else ""


def _make_row(feature: FeatureDrift) -> Row:
    return {
        "outcome": feature.verdict,
        "feature": spell_name(feature.name),
        "training": feature.before,
        "incoming": feature.now,
        "PSI": f"{feature.psi:.2f}",
        "p, adjusted": f"{feature.adjusted:.2g}",
        "beyond training": f"{feature.outside:.0%}",
    }


def _make_key_figures(drift: DriftResult) -> tuple[KeyFigure, ...]:
    return (
        KeyFigure(str(len(drift.moved_features)), "features moved", f"of {len(drift.features)}"),
        KeyFigure(str(drift.incoming), "incoming patients", f"{drift.reference} in training"),
    )


def _draw_distribution(name: str, reference: PatientFeatures, incoming: PatientFeatures) -> Chart | None:
    """The share of patients up to each value; None for a category, which the table tells."""
    samples = {"training": reference.features[name], "incoming": incoming.features[name]}
    if not all(isinstance(value, float) for values in samples.values() for value in values.values()):
        return None
    everything = [float(value) for values in samples.values() for value in values.values()]
    low, high = min(everything), max(everything)
    lines = {title: _list_corners(list(values.values()), low, high) for title, values in samples.items()}
    svg = draw_lines(lines, x_title=spell_name(name), y_title="share of patients", y_range=(0.0, 1.0))
    return Chart(spell_name(name), svg, tuple((title, series_colour(n)) for n, title in enumerate(lines)))


def _list_corners(values: Sequence[Value], low: float, high: float) -> list[tuple[float, float]]:
    """An empirical distribution function as corners, more than a chart draws dots for."""
    ordered = sorted(float(value) for value in values)
    corners = [(low, 0.0)]
    for rank, value in enumerate(ordered):
        corners += [(value, rank / len(ordered)), (value, (rank + 1) / len(ordered))]
    return [*corners, (high, 1.0)]
