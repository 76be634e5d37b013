"""Writes compare.html: paired scores, the better model for each class, differences, pictures of the largest changes."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import quote

from voxflow.comparing.pictures import draw_changes
from voxflow.comparing.seeds import measure_seed_noise, word_seed_noise
from voxflow.errors import DataError, join_names
from voxflow.files import write_text
from voxflow.promotion import PairedResult, PromoteOptions, compare_cases, compute_case_gains
from voxflow.reporting import Chart, KeyFigure, Table, draw_scatter, make_table, render_template, series_colour
from voxflow.viewing import ConvertedCases, write_viewer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from voxflow.comparing.sides import Side
    from voxflow.promotion import CaseScores

TEMPLATE = "compare.html.j2"
PICTURES = 4  # of the cases that gained most, and as many of those that lost most
PROVENANCE_TAGS = ("git_commit", "git_dirty", "dvc_lock_sha256", "datalist_sha256", "dvc_exp", "dvc_exp_baseline")


def write_comparison(
    old: Side, new: Side, page: Path, volumes: Path, options: PromoteOptions | None = None
) -> PairedResult:
    """Write one HTML page that needs nothing but itself.

    Args:
        old: the model to compare with.
        new: the model in question.
        page: the file.
        volumes: what the stage convert made, for the pictures; may be missing.
        options: seed and number of permutations of the paired test; None: the defaults.

    Raises:
        DataError: both have no case in common, or answer different questions.
    """
    common = sorted({*old.scores.values} & {*new.scores.values})
    if not common:
        raise DataError(f"{old.name} and {new.name} have no case in common")
    first, second = _restrict_to(old.scores, common), _restrict_to(new.scores, common)
    compared = compare_cases(second, first, options or PromoteOptions())
    gains = compute_case_gains(second, first)
    ranked = sorted(gains, key=lambda case: (gains[case], case))
    worst = [case for case in ranked if gains[case] < 0][:PICTURES]
    best = [case for case in reversed(ranked) if gains[case] > 0][:PICTURES]
    is_segmentation = new.scores.task == "segmentation"
    facts = {
        "old": old.name,
        "new": new.name,
        "metric": compared.metric,
        "task": new.scores.task,
        "tiles": _make_key_figures(compared),
        "verdict": _word_verdict(compared),
        "noise": word_seed_noise(measure_seed_noise(old, new), compared.gain),
        "notices": _list_notices(old, new, common),
        "scatter": _draw_scatter(old, new, gains, common),
        "classes": _tabulate_classes(second, first, compared),
        "cases": _tabulate_cases(old, new, gains),
        "params": _tabulate_differences(old, new, old.params, new.params),
        "made_of": _tabulate_differences(old, new, _select_tags(old), _select_tags(new)),
        "viewer": _write_case_viewer(old, new, page, volumes, worst + best) if is_segmentation else "",
        "lost": draw_changes(old, new, gains, worst, volumes) if is_segmentation else [],
        "gained": draw_changes(old, new, gains, best, volumes) if is_segmentation else [],
    }
    write_text(page, render_template(TEMPLATE, facts))
    return compared


def _write_case_viewer(old: Side, new: Side, page: Path, volumes: Path, cases: Sequence[str]) -> str:
    """Write the viewer of the largest changes beside the page: the label and both masks; return its address."""
    if not cases or not (volumes / "cases.csv").is_file():
        return ""
    converted = ConvertedCases.read(volumes)
    names = (old.name, new.name) if old.name != new.name else (f"old: {old.name}", f"new: {new.name}")
    opened = []
    for case in cases:
        masks = dict(zip(names, (side.folder / "masks" / f"{case}.nii.gz" for side in (old, new)), strict=True))
        if case in converted.rows and all(mask.is_file() for mask in masks.values()):
            opened.append(converted.open_case(case, masks))
    if not opened:
        return ""
    viewer = page.with_name(f"{page.stem}_viewer.html")
    write_viewer(viewer, f"{old.name} → {new.name}", opened, parent_page=quote(page.name), remark="the largest changes")
    return quote(viewer.name)


def _restrict_to(scores: CaseScores, cases: list[str]) -> CaseScores:
    values = {case: scores.values[case] for case in cases}
    return replace(scores, values=values, truth={case: scores.truth[case] for case in cases if case in scores.truth})


def _make_key_figures(compared: PairedResult) -> tuple[KeyFigure, ...]:
    low, high = compared.interval
    return (
        KeyFigure(f"{compared.gain:+.3f}", f"change of {compared.metric}", f"95 % {low:+.3f} to {high:+.3f}"),
        KeyFigure(f"{compared.old:.3f} → {compared.new:.3f}", compared.metric, f"on {compared.cases} cases"),
        KeyFigure(f"{compared.wins} : {compared.losses}", "cases better : worse", f"{compared.ties} equal"),
        KeyFigure(f"{compared.p_value:.3g}", "p of the gain", "paired, one-sided"),
    )


def _word_verdict(compared: PairedResult) -> str:
    low, high = compared.interval
    # The interval, not p, decides here: it answers both "better" and "worse", and p only the first.
    if compared.cases and low > 0:
        return "The new model is better on these cases."
    return "The new model is worse on these cases." if high < 0 else "These cases do not tell which one is better."


def _list_notices(old: Side, new: Side, common: list[str]) -> list[str]:
    notices = []
    for side in (old, new):
        alone = sorted({*side.scores.values} - {*common})
        if alone:
            notices.append(f"Only {side.name} has scores of {join_names(alone, 5)}; they are left out here.")
    return notices


def _draw_scatter(old: Side, new: Side, gains: dict[str, float], common: list[str]) -> tuple[Chart, ...]:
    if new.scores.task == "segmentation":
        points = [(case, _mean_dice(old, case), _mean_dice(new, case)) for case in common if case in gains]
        title = "Dice"
    else:
        points = [(case, _mean_certainty(old, case), _mean_certainty(new, case)) for case in common if case in gains]
        title = "probability of the right answer"
    defined = [point for point in points if not any(math.isnan(value) for value in point[1:])]
    svg = draw_scatter(defined, x_title=f"{title}, {old.name}", y_title=f"{title}, {new.name}")
    legend = (("better or equal", series_colour(0)), ("worse", series_colour(1)))
    return (Chart("Each case once: above the line the new model is better", svg, legend),) if svg else ()


def _mean_dice(side: Side, case: str) -> float:
    values = [value for value in side.scores.values[case] if not math.isnan(value)]
    return sum(values) / len(values) if values else math.nan


def _mean_certainty(side: Side, case: str) -> float:
    pairs = zip(side.scores.values[case], side.scores.truth[case], strict=True)
    certainties = [value if truth else 1 - value for value, truth in pairs]
    return sum(certainties) / len(certainties)


def _tabulate_classes(new: CaseScores, old: CaseScores, compared: PairedResult) -> Table:
    rows = []
    for n, name in enumerate(new.classes):
        scores = [(new.values[case][n], old.values[case][n]) for case in new.values]
        pairs = [(a, b) for a, b in scores if not (math.isnan(a) or math.isnan(b))]
        rows.append(
            {
                "class": name,
                "change": _format_change(compared.classes[name]),
                "cases better": str(sum(a > b for a, b in pairs)),
                "cases worse": str(sum(a < b for a, b in pairs)),
                "cases": str(len(pairs)),
            }
            if new.task == "segmentation"
            else {"class": name, "change of AUC": _format_change(compared.classes[name])}
        )
    return make_table(rows, missing="No class.")


def _tabulate_cases(old: Side, new: Side, gains: dict[str, float]) -> Table:
    """Every case, the largest loss first."""
    show = _mean_dice if new.scores.task == "segmentation" else _mean_certainty
    rows: list[dict[str, str]] = []
    for case in sorted(gains, key=lambda c: (gains[c], c)):
        row = {"case": case, old.name: _format_score(show(old, case)), new.name: _format_score(show(new, case))}
        row["change"] = _format_change(gains[case])
        for n, name in enumerate(new.scores.classes):
            row[f"{name}: {old.name}"] = _format_score(old.scores.values[case][n])
            row[f"{name}: {new.name}"] = _format_score(new.scores.values[case][n])
        rows.append(row)
    return make_table(rows, missing="No case has a score.")


def _select_tags(side: Side) -> dict[str, str]:
    return {tag: side.tags[tag] for tag in PROVENANCE_TAGS if tag in side.tags}


def _tabulate_differences(old: Side, new: Side, before: Mapping[str, str], after: Mapping[str, str]) -> Table:
    rows = [
        {"what": key, old.name: before.get(key, "–"), new.name: after.get(key, "–")}
        for key in sorted({*before, *after})
        if before.get(key) != after.get(key)
    ]
    return make_table(rows, missing="None that is known.")


def _format_score(value: float) -> str:
    return "undefined" if math.isnan(value) else f"{value:.3f}"


def _format_change(value: float) -> str:
    return "undefined" if math.isnan(value) else f"{value:+.3f}"
