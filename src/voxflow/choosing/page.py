"""Writes a choice down: choice.json with every number, and choice.md for a person."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from voxflow.files import write_json, write_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from voxflow.choosing.decision import Decision

JSON, PAGE = "choice.json", "choice.md"


def write_page(
    folder: Path,
    workspace: str,
    minutes: float,
    decision: Decision,
    scores: Mapping[str, Sequence[Mapping[str, float]]],
) -> None:
    """Write both files.

    Args:
        folder: for them.
        workspace: name.
        minutes: of each training.
        decision: what was chosen, and why.
        scores: by candidate and fold the Dice of each held-out case.
    """
    content: dict[str, Any] = {"workspace": workspace, "minutes": minutes, **decision.model_dump(mode="json")}
    content["cases"] = [
        {name: {case: round(dice, 4) for case, dice in folds[n].items()} for name, folds in scores.items()}
        for n in range(len(next(iter(scores.values()))))
    ]
    write_json(folder / JSON, _leave_out_undefined(content))
    write_text(folder / PAGE, "\n".join(_make_lines(workspace, minutes, decision)) + "\n")


def _leave_out_undefined(value: Any) -> Any:
    """JSON knows no NaN: the Dice of a case without any class, say."""
    if isinstance(value, dict):
        return {key: _leave_out_undefined(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_leave_out_undefined(item) for item in value]
    return value if not isinstance(value, float) or math.isfinite(value) else None


def _make_lines(workspace: str, minutes: float, decision: Decision) -> list[str]:
    folds = len(decision.candidates[0].by_fold)
    head = ["candidate", "mean Dice", *(f"fold {n}" for n in range(1, folds + 1)), "gain", "± error", "p", "better"]
    rows = [
        [
            candidate.name,
            f"{candidate.dice:.4f}",
            *(f"{dice:.4f}" for dice in candidate.by_fold),
            *(
                ["", "", "", ""]
                if candidate is decision.candidates[0]
                else [
                    f"{candidate.gain:+.4f}",
                    f"{candidate.standard_error:.4f}",
                    f"{candidate.p:.2g}",
                    "yes" if candidate.is_better else "no",
                ]
            ),
        ]
        for candidate in decision.candidates
    ]
    return [
        f"# Choice of the configuration of {workspace}",
        f"Chosen: **{decision.chosen}**. {decision.reason}.",
        "",
        f"Each candidate was trained for {minutes:g} minutes on each of {folds} folds, and judged on the cases that "
        "the fold held out: mean Dice over classes of the last state.",
        "",
        *("| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows)),
        "",
        f"Gains are against {decision.candidates[0].name}, case by case. A candidate is better where a one-sided "
        f"paired t-test says so at a level of {decision.level:g} for all candidates together. The error counts the "
        "noise of the trainings' seeds, too.",
    ]
