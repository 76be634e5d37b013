"""Holds the forecast of ``voxflow plan --forecast`` against what the training has reached."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from voxflow.files import read_json_or_none

if TYPE_CHECKING:
    from collections.abc import Mapping

    from voxflow.reporting.sources import ReportSources

SAME_MINUTES = 0.1  # a training within a tenth of the minutes that were forecast is the one that was


def describe_forecast(sources: ReportSources, numbers: Mapping[str, float]) -> list[dict[str, str]]:
    """Describe forecast, interval, and the validation's Dice that came out; nothing where there is no forecast.

    Args:
        sources: models/forecast.json.
        numbers: of the training; empty where it has not run.
    """
    content = read_json_or_none(sources.models / "forecast.json")
    try:
        point: Mapping[str, Any] = content["points"][0]
        dice, low, high = (float(point[name]) for name in ("dice", "low", "high"))
        minutes, cases, level = float(point["minutes"]), int(point["cases"]), float(content["level"])
        outcome = numbers.get(str(content["metric"]))
    except (KeyError, IndexError, TypeError, ValueError):
        return []
    text = f"Dice {dice:.2f} ({low:.2f} to {high:.2f}, {level:.0%}) after {minutes:.3g} min with {cases} cases"
    if outcome is not None:
        text += f"; {outcome:.3f} came out, "
        text += _explain_difference(sources, numbers, content, minutes, cases) or (
            "inside" if low <= outcome <= high else "below" if outcome < low else "above"
        )
    return [{"what": "forecast, on the validation cases", "value": text}]


def _explain_difference(
    sources: ReportSources, numbers: Mapping[str, float], forecast: Mapping[str, Any], minutes: float, cases: int
) -> str:
    """Say how the training differs from the one that was forecast; empty where it does not."""
    earlier = forecast.get("earlier_training")
    if earlier and earlier == read_json_or_none(sources.models / "train.json"):
        return "not comparable: the training was there before the forecast"
    taken = numbers.get("seconds", 0.0) / 60
    datalist = read_json_or_none(sources.datalist)
    part = datalist.get("training") if isinstance(datalist, dict) else None
    learnt = sum(bool(case.get("label")) for case in part or () if isinstance(case, dict))
    if abs(taken - minutes) <= SAME_MINUTES * minutes and learnt in (0, cases):
        return ""
    return f"not comparable: the training took {taken:.3g} min with {learnt or cases} cases"
