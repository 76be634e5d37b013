"""Writes which cases are to be reviewed, and why: a table, and a page that opens by itself."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from voxflow.files import write_text
from voxflow.inference.review_viewer import VIEWER
from voxflow.reporting import make_table, render_template
from voxflow.tables import read_rows, write_table
from voxflow.trust import measure_review_share

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from voxflow.inference.cases import Failures
    from voxflow.trust import CaseTrust, Reviewer

TEMPLATE = "review.html.j2"
TABLE, PAGE = "review.csv", "review.html"
NAMED = 3  # features that a sentence names
COLUMNS = ("case", "verdict", "dice_bound", "bound_holds", "estimated_dice", "agreement", "reasons", "mask")


def write_worklist(
    out: Path,
    trusts: Mapping[str, CaseTrust],
    rows: Mapping[str, Mapping[str, Any]],
    reviewer: Reviewer,
    failures: Failures,
    *,
    show: Callable[[list[str]], list[str]] | None = None,
) -> int:
    """Write review.csv and review.html, the cases that need a look first.

    Args:
        out: the folder of the results.
        trusts: by case.
        rows: of preds_outputs.csv, by case; for the place of each mask.
        reviewer: who judged.
        failures: cases without a mask, which the page counts.
        show: makes review/viewer.html of the cases to review, and returns those that it shows; None: there is none.

    Returns:
        How many cases are to be reviewed.
    """
    ordered = sorted(trusts, key=lambda case: _rank(trusts[case], case))
    table = [{"case": case, "mask": rows[case]["mask"], **trusts[case].as_row()} for case in ordered]
    write_table(out / TABLE, table, COLUMNS)
    doubtful = [case for case in ordered if trusts[case].verdict == "review"]
    count = len(doubtful)
    shown = show(doubtful) if show else []
    texts = [{name: "" if value is None else str(value) for name, value in row.items()} for row in table]
    facts = {
        "why": _explain_share(trusts, count, reviewer),
        "failed": len(failures.cases),
        "viewer": VIEWER if shown else "",
        "unusual": make_table(_count_unusual(trusts), missing="None: every case lies near those of the calibration."),
    }
    _write_page(out, texts, {case: f"{VIEWER}#{quote(case)}" for case in shown}, reviewer, facts)
    return count


def join_worklists(out: Path, reviewer: Reviewer) -> int:
    """Write review.csv and review.html of all answers of a PACS, from the tables that each answer has.

    Args:
        out: the folder of the answers, in which each has a folder of its own.
        reviewer: who judges now; earlier answers keep their verdict.

    Returns:
        How many cases are to be reviewed.
    """
    rows = [
        row | {"mask": f"{path.parent.name}/{row['mask']}"}
        for path in sorted(out.glob(f"*/{TABLE}"))
        for row in read_rows(path) or []
    ]
    rows.sort(key=lambda row: (row["verdict"] == "send", float(row["dice_bound"] or -1), row["case"], row["mask"]))
    names: Counter[str] = Counter()
    links: dict[str, str] = {}
    for row in rows:
        # Each answer numbers a patient's cases from 1.
        case, names[row["case"]] = row["case"], names[row["case"]] + 1
        row["case"] = case if names[case] == 1 else f"{case} ({names[case]})"
        viewer = f"{row['mask'].partition('/')[0]}/{VIEWER}"
        if row["verdict"] == "review" and (out / viewer).is_file():
            links[row["case"]] = f"{quote(viewer)}#{quote(case)}"
    write_table(out / TABLE, rows, COLUMNS)
    unusual = make_table(None, missing="The reasons of each case name it.")
    _write_page(out, rows, links, reviewer, {"why": "", "failed": 0, "viewer": "", "unusual": unusual})
    return sum(row["verdict"] == "review" for row in rows)


def _write_page(
    out: Path, rows: Sequence[dict[str, str]], links: Mapping[str, str], reviewer: Reviewer, facts: Mapping[str, Any]
) -> None:
    """Write review.html of the rows of a worklist, with what else the page says of them."""
    count = sum(row["verdict"] == "review" for row in rows)
    shared_facts = {
        "line": f"{count} of {len(rows)} cases to review" if rows else "no case was segmented",
        "alert": bool(count),
        "basis": reviewer.describe(),
        "review_below": f"{reviewer.review_below:g}",
        "tiles": _make_tiles(len(rows), count, reviewer),
        "table_": replace(make_table(rows, COLUMNS[:-1], missing="No case was segmented."), links=links),
    }
    write_text(out / PAGE, render_template(TEMPLATE, shared_facts | dict(facts)))


def _rank(trust: CaseTrust, case: str) -> tuple[bool, float, str]:
    return trust.verdict == "send", -1.0 if trust.bound is None else trust.bound, case


def _count_unusual(trusts: Mapping[str, CaseTrust]) -> list[dict[str, str]]:
    """The features that drifted, with the number of cases of each, the most frequent first."""
    counts = Counter(name for trust in trusts.values() for name in trust.unusual or ())
    examples = {name: text for trust in trusts.values() for name, text in (trust.unusual or {}).items()}
    return [
        {"feature": name, "cases": f"{count} of {len(trusts)}", "for example": examples[name]}
        for name, count in counts.most_common()
    ]


def _explain_share(trusts: Mapping[str, CaseTrust], count: int, reviewer: Reviewer) -> str:
    """Why more cases than in the calibration are to be reviewed; empty where there is no more to say."""
    expected = _measure_expected(reviewer)
    if expected is None or not trusts or count / len(trusts) <= expected:
        return ""
    drifted: Sequence[dict[str, str]] = _count_unusual(trusts)
    shares = f"{count / len(trusts):.0%} are to be reviewed, and {expected:.0%} of the cases of the calibration"
    if not drifted:
        return f"{shares}: the model's answers agree less here, or few cases make the difference"
    features = ", ".join(f"{row['feature']} is unusual in {row['cases']}" for row in drifted[:NAMED])
    return f"{shares}: {features}"


def _measure_expected(reviewer: Reviewer) -> float | None:
    if reviewer.calibration is None:
        return None
    return measure_review_share(reviewer.calibration, reviewer.review_below, reviewer.confidence)


def _make_tiles(cases: int, count: int, reviewer: Reviewer) -> list[dict[str, str]]:
    expected = _measure_expected(reviewer)
    tiles = [
        {"value": str(count), "label": "to review", "note": f"of {cases} cases"},
        {"value": str(cases - count), "label": "to send", "note": f"bound of at least {reviewer.review_below:g}"},
    ]
    if expected is not None:
        tiles.append({"value": f"{expected:.0%}", "label": "expected to review", "note": "as in the calibration"})
    return tiles
