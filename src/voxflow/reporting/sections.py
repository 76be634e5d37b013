"""Reads the content of each part of a report from the stages' files.

Each function returns what one part of the template shows. Where a stage has not run, its table has no rows, and says in
``missing`` which file is not there and which stage writes it: a report can be written at any time.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from voxflow.config import set_nested
from voxflow.errors import join_names
from voxflow.files import read_json_or_none
from voxflow.places import ADOPTED, ADOPTED_MODEL
from voxflow.reporting.charts import Chart, class_colour, draw_lines, series_colour
from voxflow.reporting.forecast import describe_forecast
from voxflow.reporting.scores import FEW_CASES, is_class_score, list_class_names
from voxflow.reporting.tables import Table, make_table, parse_number, spell_name
from voxflow.tables import Row, read_rows

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from voxflow.reporting.sources import ReportSources

NOT_CURVES = ("epoch", "learning_rate", "seconds")
PARTS = ("training", "validation", "testing", "inference")
PART_NAMES = {"training": "to learn from", "validation": "to choose by", "testing": "unseen", "inference": "no label"}
KEY_SCORES = {"segmentation": ("mean_dice", "mean Dice"), "classification": ("mean_auc", "mean AUC")}
FAILING = ("resample", "evaluate", "infer")  # stages that leave out bad cases, each with its reason
MOST_NAMED = 5  # cases that a row of the data checks names
BOUNDS = ("margin", "alpha", "worst_class", "parity", "test_part_sha256", "decided")
DECISIONS = {
    "promoted": "this model became champion",
    "kept": "this model did not become champion",
    "champion": "this model was champion already",
    "undecided": "not decided",
}


@dataclass(frozen=True)
class KeyFigure:
    """One number at the top of the page: what it is, and on what."""

    value: str
    label: str
    note: str = ""


def make_key_figures(sources: ReportSources) -> tuple[KeyFigure, ...]:
    """Make the numbers that a reader looks for first; those that are not known are left out.

    Returns:
        The key score, cases of training, best epoch, series in quarantine and failed cases, in this order.
    """
    scores, training = _read_numbers(sources, "evaluate"), _read_numbers(sources, "train")
    figures = []
    key, title = KEY_SCORES[sources.task]
    if key in scores:
        figures.append(KeyFigure(f"{scores[key]:.3f}", title, f"on {scores.get('cases', 0):.0f} unseen cases"))
    counts = count_parts(sources)
    if counts:
        figures.append(KeyFigure(str(counts.get("training", 0)), "training cases", _describe_other_parts(counts)))
    if "best_epoch" in training and "seconds" in training:
        minutes = training["seconds"] / 60
        figures.append(
            KeyFigure(f"{training['best_epoch']:.0f}", "best epoch", f"of {training['epochs']:.0f}, {minutes:.1f} min")
        )
    rows = read_rows(sources.volumes / "conversion.csv")
    if rows is not None:
        verdicts = Counter(row.get("verdict", "") for row in rows)
        figures.append(
            KeyFigure(str(verdicts["quarantined"]), "series in quarantine", f"of {len(rows)} series or files")
        )
    failed = {s: n for s in FAILING if (n := _read_numbers(sources, s).get("failed_cases")) is not None}
    if failed:
        stages = "resampling, evaluation and inference" if "resample" in failed else "evaluation and inference"
        figures.append(KeyFigure(f"{sum(failed.values()):.0f}", "failed cases", f"in {stages}"))
    return tuple(figures)


def count_parts(sources: ReportSources) -> dict[str, int]:
    """Count the cases in each part of the datalist; empty when there is no datalist."""
    datalist = read_json_or_none(sources.datalist)
    if not isinstance(datalist, dict):
        return {}
    return {part: len(datalist[part]) for part in PARTS if isinstance(datalist.get(part), list)}


def read_header(sources: ReportSources) -> dict[str, Any]:
    """Read what the datalist says of itself.

    Returns:
        Its block ``metadata``; without one, as in the Medical Decathlon's dataset.json, the datalist itself.
    """
    datalist = read_json_or_none(sources.datalist)
    if not isinstance(datalist, dict):
        return {}
    block = datalist.get("metadata")
    return block if isinstance(block, dict) else datalist


def draw_curves(sources: ReportSources) -> tuple[Chart, ...]:
    """Draw the training's curves.

    Returns:
        One chart of the losses and one of the metrics, by epoch; none where the training has left no curves.csv.
    """
    rows = read_rows(sources.models / "curves.csv") or []
    names = [name for name in (rows[0] if rows else {}) if name not in NOT_CURVES]
    losses = {name: _read_points(rows, "epoch", name) for name in names if "loss" in name}
    metrics = {name: _read_points(rows, "epoch", name) for name in names if "loss" not in name}
    charts = []
    if any(losses.values()):
        charts.append(_make_chart("Loss", losses, ("epoch", "loss"), None))
    if any(metrics.values()):
        title = "Metrics on validation cases"
        charts.append(_make_chart(title, metrics, ("epoch", "score"), _choose_range(metrics)))
    return tuple(charts)


def draw_roc(sources: ReportSources) -> tuple[Chart, ...]:
    """Draw sensitivity against the false positive rate, a line a finding; nothing for a segmentation.

    The legend has each AUC with its interval, and says where too few cases have a finding for it to mean much.
    """
    rows = read_rows(sources.evaluation / "test" / "roc.csv") or []
    names = list(dict.fromkeys(row.get("class", "") for row in rows))
    lines = {name: _read_points([row for row in rows if row.get("class") == name], "fpr", "tpr") for name in names}
    drawable = {name: line for name, line in lines.items() if line}
    if not drawable:
        return ()
    order = list_class_names(sources) or names
    colours = [class_colour(order.index(name) + 1 if name in order else n) for n, name in enumerate(drawable, start=1)]
    titles = ("1 - specificity (false positive rate)", "sensitivity (true positive rate)")
    svg = draw_lines(
        drawable, x_title=titles[0], y_title=titles[1], y_range=(0.0, 1.0), colours=colours, has_diagonal=True
    )
    legend = tuple((_describe_ranking(sources, name), colour) for name, colour in zip(drawable, colours, strict=True))
    return (Chart("ROC on unseen cases; the dashed line is a guess", svg, legend),)


def _describe_ranking(sources: ReportSources, name: str) -> str:
    summary = read_json_or_none(sources.evaluation / "test" / "summary.json")
    per_class = summary.get("per_class") if isinstance(summary, dict) else None
    row = next((row for row in per_class or () if row.get("name") == name), None)
    if row is None or row.get("auc") is None:
        return spell_name(name)
    low, high = (row.get("intervals") or {}).get("auc") or (None, None)
    interval = "" if low is None else f" ({low:.2f} to {high:.2f})"
    few = ", too few to tell" if min(row["positives"], row["negatives"]) < FEW_CASES else ""
    return f"{spell_name(name)}: AUC {row['auc']:.2f}{interval}, {row['positives']} positive{few}"


def tabulate_scores(sources: ReportSources) -> Table:
    """Tabulate the numbers of the stage evaluate that are of no class, with their 95 % interval where there is one.

    Args:
        sources: metrics/evaluate.json holds the numbers, eval/test/summary.json the intervals.
    """
    summary = read_json_or_none(sources.evaluation / "test" / "summary.json")
    bounds = summary.get("intervals_95", {}) if isinstance(summary, dict) else {}
    classes = list_class_names(sources)
    rows = [
        {
            "score": spell_name(name),
            "value": f"{value:.6g}",
            "95 % interval": "{:.3f} to {:.3f}".format(*bounds[name]) if name in bounds else "",
        }
        for name, value in _read_numbers(sources, "evaluate").items()
        if not is_class_score(name, classes)
    ]
    return make_table(rows, missing=_explain_absence(sources.metrics / "evaluate.json", "evaluate"), rounded=True)


def tabulate_cases(sources: ReportSources) -> Table:
    """Tabulate the scores case by case, the worst first; cases without a defined score come before all others."""
    path = sources.evaluation / "test" / "per_case.csv"
    rows = sorted(read_rows(path) or [], key=_rank_badness, reverse=True)
    table = make_table(rows, missing=_explain_absence(path, "evaluate"), rounded=True)
    return replace(table, links={case: f"viewer.html#{quote(case)}" for case in sources.viewer_cases})


def _rank_badness(row: Row) -> float:
    """Greater is worse: one minus Dice, or the greatest distance of a probability from the truth; undefined first."""
    if "mean_dice" in row:
        dice = parse_number(row["mean_dice"])
        return 2.0 if dice is None else 1.0 - dice
    names = [name.removeprefix("probability_") for name in row if name.startswith("probability_")]
    pairs = [(parse_number(row.get(name)), parse_number(row[f"probability_{name}"])) for name in names]
    return max(
        (abs(truth - probability) for truth, probability in pairs if truth is not None and probability is not None),
        default=2.0,
    )


def tabulate_failures(sources: ReportSources) -> Table:
    """Tabulate the cases that could not be resampled, or used in evaluation or inference, each with its reason."""
    folders = {
        "resample": sources.resampled,
        "evaluate": sources.evaluation / "test",
        "infer": sources.evaluation / "infer",
    }
    rows = [
        {"stage": stage, "case": str(row.get("case", "")), "reason": str(row.get("reason", ""))}
        for stage, folder in folders.items()
        for row in (folder and read_json_or_none(folder / "failures.json")) or []
    ]
    return make_table(rows, missing="None: every case went through.")


def tabulate_verdicts(sources: ReportSources) -> Table:
    """Count the series by verdict and modality.

    Args:
        sources: conversion.csv of the stage convert has a row a series.
    """
    path = sources.volumes / "conversion.csv"
    counts = Counter((row.get("verdict", ""), row.get("modality", "")) for row in read_rows(path) or [])
    rows = [{"verdict": key[0], "modality": key[1], "series": str(count)} for key, count in sorted(counts.items())]
    return make_table(rows, missing=_explain_absence(path, "convert"))


def tabulate_set_aside(sources: ReportSources) -> Table:
    """Tabulate the series in quarantine and those that were used after a remedy, with the reasons.

    No UID is shown: a report may leave the hospital, and a UID leads back to the patient.
    """
    path = sources.volumes / "conversion.csv"
    rows = read_rows(path)
    if rows is None:
        return Table(missing=_explain_absence(path, "convert"))
    series = [row for row in rows if row.get("verdict") in ("quarantined", "remedied")]
    series.sort(key=lambda row: row.get("verdict", ""))
    columns = ("verdict", "series", "modality", "files", "reason", "remedy", "case")
    return make_table(series, columns, missing="None: every series was converted or skipped as no image of this task.")


def tabulate_checks(sources: ReportSources) -> Table:
    """Tabulate the data checks with their outcome, those that failed first, as report.json lists them.

    Returns:
        A row a check, with at most five of the cases that fail it.
    """
    path = sources.quality / "report.json"
    report = read_json_or_none(path)
    if not isinstance(report, dict):
        return Table(missing=_explain_absence(path, "validate"))
    rows = [_make_check_row(check) for check in report.get("checks", [])]
    return make_table(rows, missing=f"Not available: {path} lists no check.")


def _make_check_row(check: Mapping[str, Any]) -> Row:
    failed = [f"{case} ({value})" for case, value in (check.get("failures") or {}).items()]
    return {
        "outcome": "passed" if check.get("success") else "failed",
        "severity": str(check.get("severity", "")),
        "check": str(check.get("name", "")),
        "column": str(check.get("column", "")),
        "cases that fail it": join_names(failed, MOST_NAMED),
    }


def tabulate_parity(sources: ReportSources) -> Table:
    """Tabulate how far each exported engine is from torch.

    Args:
        sources: parity.json holds a block for each engine.
    """
    path = sources.models / "parity.json"
    report = read_json_or_none(path)
    blocks = report if isinstance(report, dict) else {}
    rows = [
        {"engine": engine} | {name: _format_parity(name, value) for name, value in block.items()}
        for engine, block in blocks.items()
        if isinstance(block, dict)
    ]
    # An engine that was not compared has columns of its own.
    columns = list(dict.fromkeys(name for row in rows for name in row))
    return make_table(rows, columns, missing=_explain_absence(path, "export"), rounded=True)


def _format_parity(name: str, value: Any) -> str:
    if name == "published":
        return "yes" if value else "no, it differs too much"
    if name == "compared":
        return "at its first use"
    if isinstance(value, dict):
        return ", ".join(
            str(part) if part_name == "device" else f"{part_name} {part}" for part_name, part in value.items()
        )
    return f"{value:g}" if isinstance(value, (int, float)) else str(value)


def tabulate_decision(sources: ReportSources) -> Table:
    """Tabulate whether this model became champion, why, and by which numbers.

    Args:
        sources: eval/decision.json, which the stage promote writes.
    """
    path = sources.evaluation / "decision.json"
    record = read_json_or_none(path)
    if not isinstance(record, dict):
        return Table(missing=_explain_absence(path, "promote"))
    numbers = record.get("numbers") or {}
    classes = {f"change of {name}": value for name, value in (numbers.get("classes") or {}).items()}
    low, high = numbers.get("interval") or (None, None)
    facts = {
        "decision": DECISIONS.get(str(record.get("verdict")), str(record.get("verdict"))),
        "why": "; ".join(map(str, record.get("reasons") or ())),
        "challenger": _format_version(record.get("challenger")),
        "champion until then": _format_version(record.get("champion")),
        **{name: value for name, value in numbers.items() if name not in ("classes", "interval")},
        "gain, 95 % interval": None if low is None else f"{low:+.4f} to {high:+.4f}",
        **classes,
        **{name: record.get(name) for name in BOUNDS},
    }
    rows = [{"what": spell_name(name), "value": str(value)} for name, value in facts.items() if value not in (None, "")]
    return make_table(rows, missing="", rounded=True)


def _format_version(number: Any) -> str:
    return f"version {number}" if number else ""


def tabulate_training(sources: ReportSources) -> Table:
    """Tabulate what was trained: the configured components, the options of the stages and the training's numbers.

    Args:
        sources: the training configuration, the workspace's block of params.yaml and models/train.json.
    """
    config = read_json_or_none(sources.config)
    planned = read_json_or_none(sources.models / "train" / "plan.json") or {}
    for json_path, value in (planned.get("set") or {}).items() if isinstance(config, dict) else ():
        set_nested(config, json_path, value)
    rows = _describe_adopted(sources) if sources.settings.get("kind") == ADOPTED else []
    if isinstance(config, dict) and isinstance(config.get("train"), dict):
        parts = {"network": "model", "loss": "loss", "optimizer": "optimizer", "learning rate policy": "lr_policy"}
        for title, key in parts.items():
            block = config["train"].get(key)
            if isinstance(block, dict):
                arguments = ", ".join(f"{name}={value}" for name, value in (block.get("args") or {}).items())
                name = block.get("name") or block.get("path")
                rows.append({"what": title, "value": f"{name}({arguments})" if arguments else str(name)})
    for stage in ("resample", "split", "train"):
        rows += [
            {"what": f"{stage}: {name}", "value": str(value)}
            for name, value in (sources.settings.get(stage) or {}).items()
        ]
    numbers = _read_numbers(sources, "train")
    rows += describe_forecast(sources, numbers)
    rows += [{"what": spell_name(name), "value": f"{value:g}"} for name, value in numbers.items()]
    return make_table(rows, missing=_explain_absence(sources.config, "the workspace"), rounded=True)


def _describe_adopted(sources: ReportSources) -> list[dict[str, str]]:
    """Tell where a model that was not trained here comes from, and that none of the cases here taught it."""
    record = read_json_or_none(sources.config.with_name(ADOPTED_MODEL.name).with_suffix(".json"))
    origin = record if isinstance(record, dict) else {}
    facts = [str(origin[name]) for name in ("from", "configuration", "trainer") if origin.get(name)]
    compared = f"{origin['compared_cases']} cases" if origin.get("compared_cases") else "not compared"
    return [
        {"what": "trained elsewhere", "value": ", ".join(facts) or "adopted"},
        {"what": "cases of this workspace that it was trained on", "value": "unknown; none by this workspace"},
        {"what": "compared with the original's masks", "value": compared},
    ]


def _read_numbers(sources: ReportSources, stage: str) -> dict[str, float]:
    # A training's numbers lie beside its model; those of earlier versions lie with the other stages'.
    content = read_json_or_none(sources.models / f"{stage}.json") or read_json_or_none(
        sources.metrics / f"{stage}.json"
    )
    return {name: float(value) for name, value in content.items()} if isinstance(content, dict) else {}


def _describe_other_parts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{counts[part]} {PART_NAMES[part]}" for part in PARTS[1:] if counts.get(part))


def _read_points(rows: list[Row], x: str, y: str) -> list[tuple[float, float]]:
    pairs = [(parse_number(row.get(x)), parse_number(row.get(y))) for row in rows]
    return [(across, up) for across, up in pairs if across is not None and up is not None]


def _choose_range(lines: Mapping[str, list[tuple[float, float]]]) -> tuple[float, float] | None:
    """Scores between 0 and 1 are drawn from 0 to 1, so that a small gain looks small."""
    values = [y for line in lines.values() for _, y in line]
    return (0.0, 1.0) if values and min(values) >= 0 and max(values) <= 1 else None


def _make_chart(
    title: str,
    lines: Mapping[str, list[tuple[float, float]]],
    axes: tuple[str, str],
    y_range: tuple[float, float] | None,
) -> Chart:
    drawable = {spell_name(name): line for name, line in lines.items() if line}
    legend = tuple((name, series_colour(index)) for index, name in enumerate(drawable))
    return Chart(title, draw_lines(drawable, x_title=axes[0], y_title=axes[1], y_range=y_range), legend)


def _explain_absence(path: Path, stage: str) -> str:
    return f"Not available: {path} is not there; {stage} writes it."
