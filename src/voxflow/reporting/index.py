"""Writes the index: one page with links to all others, for each workspace."""

from __future__ import annotations

import base64
import io
import os
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from voxflow.files import read_json_or_none, write_text
from voxflow.places import LAST_FLOW_RUNS
from voxflow.reporting.rendering import render_template

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

TEMPLATE = "index.html.j2"
THUMBNAIL_PX = 240
KEY_SCORES = {"mean_dice": "mean Dice", "mean_auc": "mean AUC"}


@dataclass(frozen=True)
class PageLink:
    """A page that is there.

    Attributes:
        title: the page's name.
        href: its address, relative to the index where it is a file.
        description: what it says, in a few words.
        written_at: when it was written.
    """

    title: str
    href: str
    description: str = ""
    written_at: str = ""


@dataclass(frozen=True)
class WorkspaceCard:
    """The part of the index about one workspace: key score, alerts, links, and what is not there yet.

    Attributes:
        thumbnail: a small picture of its best case, as an address that holds it; empty where there is none.
    """

    name: str
    task: str
    score: str
    alert: str
    links: tuple[PageLink, ...]
    missing: str
    thumbnail: str = ""


def write_index(root: Path, page: Path, blocks: Mapping[str, Mapping[str, Any]], services: Sequence[PageLink]) -> int:
    """Write the index; pages that are not there are named with what writes them.

    Args:
        root: the repository.
        page: the file.
        blocks: each workspace's block of params.yaml.
        services: pages that are served, such as Prefect's.

    Returns:
        How many pages it leads to.
    """
    cards = [_make_card(root, page.parent, name, block) for name, block in blocks.items()]
    write_text(page, render_template(TEMPLATE, {"cards": cards, "services": services}))
    return sum(len(card.links) for card in cards)


def _make_card(root: Path, page_folder: Path, name: str, block: Mapping[str, Any]) -> WorkspaceCard:
    evaluation, quality = root / "mmars" / name / "eval", root / "data/quality"
    drift = root / "data/drift" / name
    decision, drift_result = _read_object(evaluation / "decision.json"), _read_object(drift / "drift.json")
    report = _read_object(quality / name / "report.json")
    places = (
        ("Report", evaluation / "report.html", "scores, pictures, data, engines", f"dvc repro report@{name}"),
        ("Case viewer", evaluation / "viewer.html", "slices, masks, 3D", f"dvc repro report@{name}"),
        (
            "Champion or not",
            evaluation / "report.html#decision",
            _describe_decision(decision),
            f"dvc repro report@{name}",
        ),
        ("Comparison of two models", evaluation / "compare.html", "case by case", "voxflow compare"),
        ("Drift", drift / "drift.html", _describe_drift(drift_result), f"voxflow drift {name} FOLDER"),
        ("Data checks", _find_check_pages(quality, name), _describe_checks(report), f"dvc repro validate@{name}"),
        ("Data checks, all runs", quality / f"{name}.history/index.html", "", f"dvc repro validate@{name}"),
    )
    links, missing = [], []
    for title, path, description, written_by in places:
        if link := _link_page(title, path, description, page_folder):
            links.append(link)
        else:
            missing.append(f"{title} ({written_by})")
    # Only where cases are sorted (infer.review_below).
    answers = root / str((block.get("answer") or {}).get("out") or f"data/answers/{name}")
    worklists = {evaluation / "infer": "of this model", evaluation / "ensemble/infer": "of the folds together"}
    for folder, description in {**worklists, answers: "of the PACS"}.items():
        link = _link_page("Cases to review", folder / "review.html", description, page_folder)
        links += [link] if link else []
    # Written by the last flow run; a stage that a person started leaves none.
    links += _read_flow_links(root / LAST_FLOW_RUNS / f"{name}.json")
    failed = (quality / f"{name}.failed" / "report.json").is_file()
    alerts = [f"drift of {', '.join(drift_result.get('moved', []))}"] if drift_result.get("alert") else []
    alerts += ["critical data checks failed"] if failed else []
    score = _format_score(_read_object(root / "data/metrics" / name / "evaluate.json"))
    task, thumbnail = str(block.get("task", "")), _make_thumbnail(evaluation / "test" / "overlays")
    return WorkspaceCard(name, task, score, "; ".join(alerts), tuple(links), ", ".join(missing), thumbnail)


def _link_page(title: str, path: Path, description: str, page_folder: Path) -> PageLink | None:
    """A link, relative so that the whole repository can be copied or served anywhere; None where there is no page."""
    file = path.with_name(path.name.partition("#")[0])  # an address may point into a page
    if not file.is_file():
        return None
    written_at = datetime.fromtimestamp(file.stat().st_mtime).astimezone().strftime("%Y-%m-%d %H:%M")
    address = quote(os.path.relpath(path, page_folder).replace(os.sep, "/"), safe="/#")
    return PageLink(title, address, description, written_at)


def _make_thumbnail(overlays: Path) -> str:
    """A picture of the best case, or the sheet of a classification's, in few bytes."""
    pictures = [*sorted(overlays.glob("best_*.png")), *overlays.glob("contact_sheet.png")]
    if not pictures:
        return ""
    from PIL import Image

    try:
        with Image.open(pictures[0], formats=("PNG",)) as picture:
            small = picture.convert("RGB")
    except (OSError, SyntaxError, ValueError):
        return ""
    small.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
    content = io.BytesIO()
    small.save(content, format="JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(content.getvalue()).decode()}"


def _read_flow_links(path: Path) -> list[PageLink]:
    """Read the links that the last flow run left: to its own page and that of the MLflow run, where they are served."""
    content = read_json_or_none(path)
    return (
        [PageLink(link["title"], link["address"], link["about"]) for link in content]
        if isinstance(content, list)
        else []
    )


def _find_check_pages(quality: Path, name: str) -> Path:
    """Find the pages of the data checks: of the run that failed, where one did, since a person must see them."""
    failed = quality / f"{name}.failed" / "docs/index.html"
    return failed if failed.is_file() else quality / name / "docs/index.html"


def _format_score(metrics: Mapping[str, Any]) -> str:
    scores = [f"{title} {metrics[key]:.3f}" for key, title in KEY_SCORES.items() if key in metrics]
    return f"{scores[0]} on {metrics.get('cases', 0):.0f} unseen cases" if scores else "not evaluated yet"


def _describe_decision(decision: Mapping[str, Any]) -> str:
    return f"{decision['verdict']}: {'; '.join(decision.get('reasons', []))}" if "verdict" in decision else ""


def _describe_drift(drift_result: Mapping[str, Any]) -> str:
    if not drift_result:
        return ""
    count = f"{drift_result.get('incoming_patients', 0)} patients"
    if drift_result.get("moved"):
        return f"moved in {count}: {', '.join(drift_result['moved'])}"
    return f"{count} are too few to tell" if drift_result.get("too_few") else f"none in {count}"


def _describe_checks(report: Mapping[str, Any]) -> str:
    failed = sum(not check.get("success") for check in report.get("checks", []))
    return f"{failed} of {len(report['checks'])} failed" if report.get("checks") else ""


def _read_object(path: Path) -> dict[str, Any]:
    content = read_json_or_none(path)
    return content if isinstance(content, dict) else {}
