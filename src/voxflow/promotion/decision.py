"""Decides whether a challenger becomes champion.

The rules, none of which is skipped, so that all reasons against are told at once:

1. The exported engines give what torch gives (parity).
2. Both models were judged on the same cases, with the same labels.
3. The gain of the key metric reaches ``margin``.
4. A paired test proves the gain: p is at most ``alpha``.
5. No class falls by more than ``worst_class``.

A first model, which is compared with no other, needs parity, a key metric that reaches the floor, and data without the
faults that ``options`` does not allow.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from voxflow.errors import DataError
from voxflow.naming import make_metric_name
from voxflow.promotion.datafaults import DataFaults
from voxflow.promotion.options import FLOORS
from voxflow.promotion.paired import compare_cases, compute_key_metric

if TYPE_CHECKING:
    from voxflow.promotion.options import PromoteOptions
    from voxflow.promotion.paired import PairedResult
    from voxflow.promotion.scores import CaseScores

Verdict = Literal["promoted", "kept", "champion", "undecided"]
DIGITS = 6  # of numbers in decision.json and tags


@dataclass(frozen=True)
class JudgedModel:
    """One model as the decision sees it.

    Attributes:
        name: how it is called in reasons, such as "version 3".
        scores: None where its evaluation left no table by case.
        test_part: digest of the cases that it was judged on; empty when it is not known.
        parity: why its exported engines can't be trusted; empty when they can.
        data: what is wrong with the data that it was trained and judged on.
    """

    name: str
    scores: CaseScores | None
    test_part: str
    parity: str = ""
    data: DataFaults = field(default_factory=DataFaults)


@dataclass(frozen=True)
class Decision:
    """What was decided, and why.

    Attributes:
        verdict: "promoted": the challenger becomes champion; "kept": it does not; "champion": it is already;
            "undecided": the registry could not be asked.
        reasons: one sentence for each rule that decided.
        compared: the paired comparison; None where there was none.
        facts: names, versions and bounds, as text.
    """

    verdict: Verdict
    reasons: tuple[str, ...]
    compared: PairedResult | None = None
    facts: dict[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return the content of decision.json; what is not defined is null, since JSON has no NaN."""
        numbers = self.compared
        return {
            "verdict": self.verdict,
            "reasons": list(self.reasons),
            **self.facts,
            "numbers": None if numbers is None else _round_numbers(numbers),
        }

    def tags(self) -> dict[str, str]:
        """Return the same facts as tags of the model version: flat, text, without what is not defined.

        Names of classes become part of tag names, where MLflow allows no other letters than ``_-. /``.
        """
        tags = {"decision": self.verdict, "decision_reason": "; ".join(self.reasons)[:1000], **self.facts}
        if self.compared is not None:
            flat = _round_numbers(self.compared)
            classes = flat.pop("classes")
            low, high = flat.pop("interval")
            flat |= {
                "gain_low": low,
                "gain_high": high,
                **{f"change_{name}": change for name, change in classes.items()},
            }
            tags |= {make_metric_name(name): f"{value}" for name, value in flat.items() if value is not None}
        return tags

    def line(self) -> str:
        """The verdict with its reasons, in one line for a person."""
        return f"{self.verdict}: {'; '.join(self.reasons)}"


def decide(
    challenger: JudgedModel, champion: JudgedModel | None, options: PromoteOptions, workspace: str = "WS"
) -> Decision:
    """Decide by the rules of ``options``; no rule is skipped, so that all reasons against are told at once.

    Args:
        challenger: the new model.
        champion: the present one; None: there is none, and the rules of a first champion decide.
        options: margin, test and bounds.
        workspace: its name, for the command that a reason names.
    """
    bounds = {"margin": f"{options.margin:g}", "alpha": f"{options.alpha:g}", "worst_class": f"{options.worst_class:g}"}
    facts = bounds | {"test_part_sha256": challenger.test_part, "parity": "failed" if challenger.parity else "passed"}
    objections = [f"parity: {challenger.parity}"] if challenger.parity else []
    if champion is None:
        return _decide_on_first(challenger, objections, options, facts)
    refusal = _explain_incomparable(challenger, champion, workspace)
    if refusal or challenger.scores is None or champion.scores is None:
        return Decision("kept", (*objections, refusal), facts=facts)
    try:
        compared = compare_cases(challenger.scores, champion.scores, options)
    except DataError as error:
        return Decision("kept", (*objections, str(error)), facts=facts)
    objections += _list_shortfalls(compared, options)
    if objections:
        return Decision("kept", tuple(objections), compared, facts)
    reason = f"{compared.metric} {compared.new:.4f} against {compared.old:.4f}: {_format_gain(compared)}"
    return Decision("promoted", (reason,), compared, facts)


def _decide_on_first(
    model: JudgedModel, objections: list[str], options: PromoteOptions, facts: dict[str, str]
) -> Decision:
    scores = model.scores
    floor = FLOORS[scores.task if scores else "segmentation"] if options.floor is None else options.floor
    value = compute_key_metric(scores) if scores else math.nan
    if scores is None or math.isnan(value):
        objections += ["the evaluation left no score, so that no floor is reached"] if floor > 0 else []
    elif value < floor:
        objections.append(f"{scores.key_metric} {value:.4f} is below {floor:g}, the floor of a first champion")
    if model.data.merged_labels and not options.allow_merged_labels:
        objections.append(model.data.explain_merged_labels())
    if model.data.failed_checks and not options.allow_failed_checks:
        objections.append(model.data.explain_failed_checks())
    facts = facts | {"floor": f"{floor:g}"}
    if objections:
        return Decision("kept", tuple(objections), facts=facts)
    reached = f"{scores.key_metric} {value:.4f} reaches the floor of {floor:g}, and " if scores and floor else ""
    return Decision("promoted", (f"the first model: {reached}its exported engines equal torch",), facts=facts)


def find_parity_fault(report: Any) -> str:
    """Say why a parity.json does not let a model be published.

    Args:
        report: the file's content: a block for each engine, with ``published``, and the count ``cases``. None where
            there is no such file.

    Returns:
        The reason; empty when the model may be published.

    Example:
        >>> find_parity_fault({"cases": 4, "onnx": {"published": 1}, "openvino": {"published": 0}})
        'openvino differ from torch by more than their bound'
        >>> uncompared = {"published": 1, "compared": 0, "reason": "torch sees no NVIDIA GPU"}
        >>> find_parity_fault({"cases": 4, "onnx": {"published": 1}, "tensorrt_rtx": uncompared})
        ''
    """
    if not isinstance(report, dict):
        return "there is no parity.json; the stage export writes it"
    blocks = {name: block for name, block in report.items() if isinstance(block, dict)}
    refused = [name for name, block in blocks.items() if not block.get("published")]
    if refused:
        return f"{', '.join(refused)} differ from torch by more than their bound"
    if blocks and not report.get("cases"):
        return "the engines were compared with torch on no case"
    if not blocks and not report:
        return "parity.json names no engine"
    return ""


def _explain_incomparable(challenger: JudgedModel, champion: JudgedModel, workspace: str) -> str:
    for model in (challenger, champion):
        if model.scores is None:
            return f"{model.name} has no table of scores by case, so that there is nothing to compare"
    if not challenger.test_part or challenger.test_part != champion.test_part:
        test_parts = (
            f"{model.name} on {model.test_part[:12] or 'a test part that is not known'}"
            for model in (challenger, champion)
        )
        return (
            f"they were judged on different test parts ({' and '.join(test_parts)}), which can't be compared; "
            f"`voxflow promote {workspace} --evaluate-champion` evaluates the champion on the present test part first"
        )
    return ""


def _list_shortfalls(compared: PairedResult, options: PromoteOptions) -> list[str]:
    shortfalls = []
    # "not ... >=": a gain that is not defined (NaN) is no gain.
    if not compared.gain >= options.margin:
        shortfalls.append(
            f"{compared.metric} {compared.new:.4f} against {compared.old:.4f}: a gain of {compared.gain:+.4f} is below "
            f"the margin of {options.margin:g}"
        )
    if compared.least_p > options.alpha:
        shortfalls.append(
            f"{compared.cases} cases are too few to prove anything: the least p is {compared.least_p:.3g}, "
            f"needed {options.alpha:g}"
        )
    elif not compared.p_value <= options.alpha:
        shortfalls.append(f"not proven: {_format_gain(compared)}, needed p of at most {options.alpha:g}")
    for name, change in compared.classes.items():
        if change < -options.worst_class:
            shortfalls.append(f"{name} falls by {-change:.4f}, allowed {options.worst_class:g}")
    return shortfalls


def _format_gain(compared: PairedResult) -> str:
    low, high = compared.interval
    interval = f"95 % {low:+.4f} to {high:+.4f}"
    return f"gain {compared.gain:+.4f} ({interval}), p = {compared.p_value:.3g} over {compared.cases} cases"


def _round_numbers(compared: PairedResult) -> dict[str, Any]:
    return {
        "metric": compared.metric,
        "cases": compared.cases,
        "challenger_score": _round_finite(compared.new),
        "champion_score": _round_finite(compared.old),
        "gain": _round_finite(compared.gain),
        "interval": [_round_finite(edge) for edge in compared.interval],
        "p_value": _round_finite(compared.p_value),
        "wins": compared.wins,
        "losses": compared.losses,
        "ties": compared.ties,
        "classes": {name: _round_finite(change) for name, change in compared.classes.items()},
    }


def _round_finite(value: float) -> float | None:
    return round(value, DIGITS) if math.isfinite(value) else None
