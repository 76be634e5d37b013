"""Export the best checkpoint to every engine that this machine can build, and compare each with torch."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from tasks.common import bundle_export
from tasks.common.bundle import is_bundle
from tasks.common.folds import main
from voxflow.datalist import Datalist
from voxflow.engines import get_engine_kind
from voxflow.errors import EXIT_OK
from voxflow.export import ExportOptions, export_model
from voxflow.files import atomic_directory, write_json
from voxflow.inference import InferenceCase
from voxflow.progress import say
from voxflow.tracking import continue_run, read_run_file

if TYPE_CHECKING:
    from tasks.common.stage import Stage
    from voxflow.export import ParityReport
    from voxflow.tracking import Tracker


def run(stage: Stage) -> int:
    """Write every engine's file and parity.json, and keep the ONNX model with the MLflow run.

    Raises:
        ParityError: an engine differs from torch by more than its bound; its file is removed.
    """
    if is_bundle(stage):
        return bundle_export.export(stage)
    options = stage.options(ExportOptions)
    cases, calibration = _choose_cases(stage, options)
    with continue_run(read_run_file(stage.models / "train" / "run.json")) as tracker:
        with atomic_directory(stage.models / "export") as out:
            report = export_model(stage.models / "train" / "model.pt", out, options, cases, calibration=calibration)
        _record(stage, report, tracker)
        report.require_published()
    engines = ", ".join(name for name in report.published_engines if "-" not in name)
    left_out = f" ({', '.join(report.left_out)} left out)" if report.left_out else ""
    notes = report.describe_reduced() + left_out + report.describe_uncompared()
    summary = f"{engines} equal torch on {report.cases} cases{notes}" if engines else f"torch alone runs it{notes}"
    say(f"export {stage.title}: {summary} → {stage.models / 'export'}")
    return EXIT_OK


def _choose_cases(stage: Stage, options: ExportOptions) -> tuple[list[InferenceCase], list[InferenceCase]]:
    """Cases that the network may have seen, on its own grid, to compare and to calibrate on; labels are not needed."""
    parts = Datalist.read(stage.datalist, stage.resampled).parts
    training = parts.get("training", ())
    candidates = [*parts.get("validation", ()), *training]
    compared, calibration = candidates[: options.parity_cases], training[: options.calibration_cases]
    return [InferenceCase(case.id, case.image) for case in compared], [
        InferenceCase(case.id, case.image) for case in calibration
    ]


def _record(stage: Stage, report: ParityReport, tracker: Tracker) -> None:
    parity = stage.models / "parity.json"
    write_json(parity, report.metrics())
    tracker.log_artifact(parity, "export")
    for engine in report.measured:
        tracker.log_metrics({f"parity/{engine.engine}_max_probability_difference": engine.max_probability_difference})
        tracker.log_metrics({f"parity/{engine.engine}_min_dice": engine.min_dice})
    kind = get_engine_kind("onnxruntime")
    onnx_file = stage.models / "export" / kind.file
    if kind.list_files(onnx_file) == (onnx_file,):  # one of several networks is no model by itself
        tracker.log_model(onnx_file)


if __name__ == "__main__":
    sys.exit(main("export", run, run_fold=run))
