"""Check a workspace's volumes or radiographs with Great Expectations before a training uses them."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING

from tasks.common.case_table import read_cases
from tasks.common.stage import Stage, main
from voxflow.errors import EXIT_OK
from voxflow.files import atomic_directory, read_text, write_json
from voxflow.images import find_channel_modalities, read_channel_rules, read_ignore, read_regions
from voxflow.progress import say
from voxflow.quality import (
    CheckOutcome,
    DataCheck,
    ValidateOptions,
    build_radiograph_checks,
    build_volume_checks,
    check_labels,
    keep_history,
    measure_cases,
    require_critical,
    run_checks,
    run_suites,
    write_quality_report,
)
from voxflow.texts import parse_json
from voxflow.volumes import CHANNEL_SEPARATOR

if TYPE_CHECKING:
    import pandas as pd


def run(stage: Stage) -> int:
    """Write data/quality/WS: measurements.csv, report.json and the pages of Great Expectations.

    Raises:
        QualityError: a critical check failed. The same files then lie in data/quality/WS.failed, since DVC removes the
            outputs of a stage that fails.
    """
    options = stage.options(ValidateOptions)
    table = read_cases(stage.volumes / "cases.csv")
    measured = measure_cases(table, stage.volumes, ignore=read_ignore(stage.volumes))
    failed = stage.quality.with_name(f"{stage.workspace}.failed")
    shutil.rmtree(failed, ignore_errors=True)
    with atomic_directory(stage.quality) as folder:
        measured.to_csv(folder / "measurements.csv", index=False)
        outcomes = run_checks(
            measured, _build_checks(stage, options, measured, table), name=stage.workspace, docs=folder / "docs"
        )
        if stage.task == "segmentation":
            outcomes += check_labels(measured, table, _read_classes(stage), options, ignore=read_ignore(stage.volumes))
        outcomes += run_suites(measured, options.suites, docs=folder / "docs")
        write_quality_report(folder / "report.json", outcomes, len(table))
        history = stage.quality.with_name(f"{stage.workspace}.history")
        keep_history(history, folder, f"Data quality of {stage.workspace}, run by run")
        # DVC drops the outputs of a failed stage; the reader still needs them.
        if any(not outcome.success and outcome.check.severity == "critical" for outcome in outcomes):
            with atomic_directory(failed) as copy:
                shutil.copytree(folder, copy, dirs_exist_ok=True)
        require_critical(outcomes, failed / "report.json")
    write_json(stage.metrics, {"cases": len(table), "checks": len(outcomes), "failed": _count_failed(outcomes)})
    warned = "".join(f"\n  warning: {outcome.format_line()}" for outcome in outcomes if not outcome.success)
    say(f"validate {stage.workspace}: {len(outcomes)} checks on {len(table)} cases → {stage.quality}{warned}")
    return EXIT_OK


def _read_classes(stage: Stage) -> dict[str, tuple[int, ...]]:
    """The label values of each class: of the regions, or of what labels.json names."""
    labels: dict[str, str] = parse_json(read_text(stage.volumes / "labels.json"))
    named: dict[str, tuple[int, ...]] = {}
    for value, name in labels.items():
        if int(value):
            named[str(name)] = (*named.get(str(name), ()), int(value))
    return read_regions(stage.volumes) or named


def _count_failed(outcomes: list[CheckOutcome]) -> int:
    return sum(not outcome.success for outcome in outcomes)


def _build_checks(
    stage: Stage, options: ValidateOptions, measured: pd.DataFrame, table: pd.DataFrame
) -> list[DataCheck]:
    labels = parse_json(read_text(stage.volumes / "labels.json"))
    modalities = sorted({modality for modality in measured["modality"] if modality})
    rules = read_channel_rules(stage.volumes)
    only = modalities[0] if len(modalities) == 1 else ""
    channels = find_channel_modalities(rules, only) if len(rules) > 1 else {}
    if stage.task == "classification":
        return build_radiograph_checks(options, modalities, labels["findings"])
    values = [int(value) for value in labels]
    return build_volume_checks(
        options,
        modalities,
        values,
        channels,
        ignore=read_ignore(stage.volumes),
        has_several_images=any(CHANNEL_SEPARATOR in cell for cell in table["image"]),
    )


if __name__ == "__main__":
    sys.exit(main("validate", run))
