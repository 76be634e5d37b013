"""Writes what a comparison with the original came to: adopted.json and adopted.html."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from voxflow.adopt.steps import find_first_difference
from voxflow.files import write_json, write_text

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from voxflow.adopt.parity import CaseParity, ParityResult

RECORD, PAGE = "adopted.json", "adopted.html"
TEMPLATE = "adopted.html.j2"


def describe_parity(result: ParityResult) -> dict[str, Any]:
    """Describe a comparison; names of cases stay out, since they may be those of patients."""
    compared = [case for case in result.cases if not case.reason]
    content: dict[str, Any] = {"compared_cases": len(compared)}
    if compared:
        content["least_equal_share"] = min(case.equal for case in compared)
        content["differing_voxels"] = sum(case.differing for case in compared)
    content["cases"] = [_describe_case(case, result) for case in result.cases]
    if result.original:
        content["original_seconds"] = round(result.original.total_seconds, 3)
    if result.steps:
        first = find_first_difference(result.steps)
        content["first_difference"] = first.step if first else None
        content["steps_of_the_worst_case"] = [vars(step) for step in result.steps]
    return content


def write_parity_report(folder: Path, name: str, record: Mapping[str, Any], result: ParityResult | None) -> None:
    """Write the record of an adoption and, where it was compared, its page.

    Args:
        folder: that gets both files.
        name: of the workspace.
        record: what :func:`describe_adoption` says.
        result: the comparison; None: there was none.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / RECORD, record)
    if result is None:
        return
    from voxflow.reporting import render_template

    facts = {"workspace": name, "origin": record["from"], "alert": bool(result.problem)} | _list_facts(result)
    write_text(folder / PAGE, render_template(TEMPLATE, facts))


def _list_facts(result: ParityResult) -> dict[str, Any]:
    """What the page shows of a comparison, by the template's names."""
    from voxflow.reporting import KeyFigure, make_table

    worst = result.worst
    share = f"{worst.equal:.6f}" if worst else "none"
    differing = sum(case.differing for case in result.cases)
    steps = [
        {"step": step.step, "same": "no" if step.differs else "yes", "measured": step.numbers} for step in result.steps
    ]
    rows = [_make_row(case, number, result) for number, case in enumerate(result.cases, 1)]
    not_run = "The steps were not compared: the original was not run here, or no voxel differs."
    return {
        "verdict": _word_verdict(result),
        "tiles": (
            KeyFigure(str(len(result.cases)), "cases", f"{len(result.failed)} could not be compared"),
            KeyFigure(share, "least share of equal voxels", f"at least {result.least_equal:g} are needed"),
            KeyFigure(str(differing), "voxels differ", "in all cases together"),
        ),
        "cases": make_table(rows, missing="No case was compared."),
        "steps": make_table(steps, missing=not_run),
    }


def _describe_case(case: CaseParity, result: ParityResult) -> dict[str, Any]:
    if case.reason:
        return {"compared": False}
    content: dict[str, Any] = {
        "equal_share": case.equal,
        "differing_voxels": case.differing,
        "voxels": case.voxels,
        "dice": {name: None if math.isnan(dice) else dice for name, dice in case.dice.items()},
    }
    if result.original and case.case in result.original.seconds:
        content["original_seconds"] = round(result.original.seconds[case.case], 3)
    return content


def _make_row(case: CaseParity, number: int, result: ParityResult) -> dict[str, str]:
    if case.reason:
        return {"case": str(number), "differing voxels": "not compared"}
    seconds = result.original.seconds.get(case.case) if result.original else None
    return {
        "case": str(number),
        "differing voxels": str(case.differing),
        "share of equal voxels": f"{case.equal:.6f}",
        **{f"Dice of {name}": "" if math.isnan(dice) else f"{dice:.4f}" for name, dice in case.dice.items()},
        "seconds of the original": "" if seconds is None else f"{seconds:.1f}",
    }


def _word_verdict(result: ParityResult) -> str:
    first = find_first_difference(result.steps)
    if not result.problem:
        differing = sum(case.differing for case in result.cases)
        return (
            "The masks are those of the original."
            if not differing
            else "The masks are those of the original, but for few voxels."
        )
    if result.failed:
        return f"Not adopted: {len(result.failed)} case(s) could not be compared."
    return "Not adopted: the masks are not those of the original." + (
        f" They part at the step {first.step}." if first else ""
    )
