"""Models of lower precision, such as OpenVINO in int8: each replaces the float32 model if its masks stay the same."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from voxflow.engines import list_exported_kinds
from voxflow.export.images import prepare_images
from voxflow.export.parity import ParityReport, Reference, measure_parity
from voxflow.files import temporary_folder
from voxflow.prediction import PredictOptions, extract_window, plan_image
from voxflow.progress import say

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from voxflow.engines import Engine, EngineKind, ExportSource
    from voxflow.export.options import ExportOptions
    from voxflow.inference import InferenceCase


def publish_reduced(
    report: ParityReport,
    reference: Reference,
    source: ExportSource,
    options: ExportOptions,
    calibration: Sequence[InferenceCase],
) -> ParityReport:
    """Put models of less precision, where the options ask for them, in the place of those in float32.

    Args:
        report: what was published in float32; an engine that was not has none of less precision either.
        reference: what torch says of real images.
        source: what was exported, and into which folder.
        options: which precision, and how good the masks must be.
        calibration: training cases for int8; where there is none, there is no int8 either.

    Returns:
        The report with an entry for each model of less precision: published, withheld or left out.
    """
    for kind in list_exported_kinds():
        precision = kind.read_precision(options)
        if precision == "fp32" or kind.name not in (*report.published_engines, *report.uncompared):
            continue
        name = f"{kind.name}-{precision}"
        if kind.is_calibrated(precision) and not calibration:
            reason: str | None = "there is no case to calibrate it on"
        else:
            reason = kind.explain_no_precision(precision, source)
        if reason is None and kind.name in report.uncompared:
            _replace_uncompared(source, kind, precision)
        elif reason is None:
            samples = _read_samples(kind, source, calibration[: options.calibration_cases], precision)
            report = _publish(report, reference, source, options, kind=kind, precision=precision, samples=samples)
        else:
            say(f"export: {name} left out, float32 stays: {reason}")
            report = replace(report, left_out=report.left_out | {name: reason})
    return report


def _publish(
    report: ParityReport,
    reference: Reference,
    source: ExportSource,
    options: ExportOptions,
    *,
    kind: EngineKind,
    precision: str,
    samples: Sequence[NDArray[np.float32]],
) -> ParityReport:
    name = f"{kind.name}-{precision}"
    with temporary_folder(source.folder) as folder:
        file = folder / kind.file
        kind.write_reduced(source, file, precision, samples)
        measured = measure_parity(kind.open_uncompared(file), reference, name)
        faults = measured.describe_reduced_faults(options)
        if not faults:
            _move_files(kind, file, source.folder)
    if faults:
        say(f"export: {name} not published, float32 stays: {faults}")
    withheld = report.withheld | ({name: faults} if faults else {})
    return replace(report, measured=(*report.measured, measured), withheld=withheld)


def _replace_uncompared(source: ExportSource, kind: EngineKind, precision: str) -> None:
    """Put a model of less precision in place of one that can't run here either; its first use compares it."""
    with temporary_folder(source.folder) as folder:
        kind.write_reduced(source, folder / kind.file, precision, ())
        _move_files(kind, folder / kind.file, source.folder)


def _move_files(kind: EngineKind, file: Path, folder: Path) -> None:
    # The model file comes last: what lies beside it must be there when somebody opens it.
    for path in (*kind.list_sidecars(file), file):
        path.replace(folder / path.name)


def _read_samples(
    kind: EngineKind, source: ExportSource, cases: Sequence[InferenceCase], precision: str
) -> list[NDArray[np.float32]]:
    """The inputs that a precision is calibrated on; none where it is not."""
    if not kind.is_calibrated(precision):
        return []
    return cut_samples(kind.open_uncompared(source.folder / kind.file), prepare_images(cases, source.spec))


def cut_samples(engine: Engine, images: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
    """Cut of each prepared image the window in its middle, as inference would.

    Args:
        engine: gives the sizes that it takes.
        images: (channel, i, j, k) or (channel, rows, columns).

    Returns:
        Inputs (1, channel, *space), one an image.
    """
    if engine.spec.task == "classification":
        return [image[None] for image in images]
    samples = []
    for image in images:
        plan = plan_image(image, engine, PredictOptions(plan="windows"))
        corner = [starts[len(starts) // 2] - before for starts, before in zip(plan.starts, plan.before, strict=True)]
        samples.append(np.ascontiguousarray(extract_window(image, corner, plan)[None]))
    return samples
