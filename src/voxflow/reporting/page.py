"""Writes the report, one HTML page that loads nothing else, and the model card."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from voxflow.files import read_json_or_none, write_text
from voxflow.reporting import sections
from voxflow.reporting.corrections import tabulate_corrections
from voxflow.reporting.folds import tabulate_folds
from voxflow.reporting.rendering import render_template
from voxflow.reporting.scores import draw_dice_strips, tabulate_classes
from voxflow.reporting.sources import ReportOptions, ReportSources, installed_versions
from voxflow.reporting.tables import make_table, read_pictures
from voxflow.reporting.trust import describe_trust

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PAGE, CARD = "report.html.j2", "model_card.md.j2"


def write_report(sources: ReportSources, page: Path, card: Path, options: ReportOptions | None = None) -> None:
    """Write the report and the model card; a part that is missing is named with the reason.

    Args:
        sources: folders and files of the workspace.
        page: the HTML file; everything that it shows is inside it.
        card: the Markdown file.
        options: title, description, how many pictures.

    Raises:
        OSError: a file could not be written.
    """
    facts = _collect_facts(sources, options or ReportOptions())
    write_text(page, render_template(PAGE, facts))
    write_text(card, render_template(CARD, facts))


def _collect_facts(sources: ReportSources, options: ReportOptions) -> dict[str, Any]:
    header = sections.read_header(sources)
    run = read_json_or_none(sources.models / "train" / "run.json") or {}
    provenance = {**sources.provenance, "mlflow_run": run.get("run_id") or "none"}
    versions = {**installed_versions(), **provenance}
    return {
        "title": options.title or sources.workspace,
        "workspace": sources.workspace,
        "task": sources.task,
        "description": options.description or str(header.get("description") or ""),
        "modality": _describe_images(header),
        # Where classes overlap, the values of the label map are combinations of them.
        "labels": ", ".join(header.get("regions") or ()) or _to_words(header.get("labels")),
        "counts": sections.count_parts(sources),
        "tiles": sections.make_key_figures(sources),
        "curves": sections.draw_curves(sources),
        "roc": sections.draw_roc(sources),
        "classes": tabulate_classes(sources),
        "strips": draw_dice_strips(sources),
        "viewer_count": len(sources.viewer_cases),
        "scores": sections.tabulate_scores(sources),
        "folds": tabulate_folds(sources),
        "trust": describe_trust(sources),
        "corrections": tabulate_corrections(sources),
        "per_case": sections.tabulate_cases(sources),
        "failures": sections.tabulate_failures(sources),
        "test_pictures": read_pictures(sources.evaluation / "test" / "overlays", 4, order=("best", "worst")),
        "infer_pictures": read_pictures(
            sources.evaluation / "infer" / "overlays", options.overlays, order=("contact_sheet",)
        ),
        "verdicts": sections.tabulate_verdicts(sources),
        "set_aside": sections.tabulate_set_aside(sources),
        "quality": sections.tabulate_checks(sources),
        "parity": sections.tabulate_parity(sources),
        "decision": sections.tabulate_decision(sources),
        "training": sections.tabulate_training(sources),
        "mlflow_page": _find_run_page(run),
        "versions": make_table([{"what": name, "value": value} for name, value in versions.items()], missing=""),
        "settings": json.dumps(dict(sources.settings), indent=2, default=str),
    }


def _describe_images(header: Mapping[str, Any]) -> str:
    """The modality, and the names of several channels."""
    channels = ", ".join(header.get("channels") or ())
    words = _to_words(header.get("modality"))
    return f"{words} ({channels})" if words and channels else words or channels


def _find_run_page(run: Mapping[str, Any]) -> str:
    """The page of the training's MLflow run, as far as the run's own file tells; empty where the store is no server.

    Nothing else may decide: the report is one of DVC's outputs, the same whoever runs the stage.
    """
    address = str(run.get("tracking_uri") or "")
    return f"{address.rstrip('/')}/#/runs/{run['run_id']}" if address.startswith("http") and run.get("run_id") else ""


def _to_words(value: Any) -> str:
    """A datalist's modality or labels as words, whether text, list or mapping; background is nothing to find."""
    if isinstance(value, dict):
        return ", ".join(str(word) for word in value.values() if word != "background")
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value or "")
