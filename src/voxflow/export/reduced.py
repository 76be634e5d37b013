"""Models of lower precision, such as OpenVINO in int8: each replaces the float32 model if its masks stay the same."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from voxflow.engines import list_exported_kinds
from voxflow.export.images import prepare_images, read_middles
from voxflow.export.networks import list_networks, prepare_inputs
from voxflow.files import temporary_folder
from voxflow.prediction import PredictOptions, extract_window, plan_image
from voxflow.progress import say

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from voxflow.engines import Engine, EngineKind
    from voxflow.export.networks import ExportedModel, NetworksReference
    from voxflow.export.options import ExportOptions
    from voxflow.export.parity import ParityReport, Reference
    from voxflow.inference import InferenceCase


def publish_reduced(
    report: ParityReport,
    reference: Reference | NetworksReference,
    model: ExportedModel,
    options: ExportOptions,
    calibration: Sequence[InferenceCase],
) -> ParityReport:
    """Put models of less precision, where the options ask for them, in the place of those in float32.

    Args:
        report: what was published in float32; an engine that was not has none of less precision either.
        reference: what torch says of real images.
        model: what was exported, and into which folders.
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
            faults = (kind.explain_no_precision(precision, source) for source in model.sources)
            reason = next((fault for fault in faults if fault), None)
        if reason is None and kind.name in report.uncompared:
            _replace_uncompared(model, kind, precision)
        elif reason is None:
            samples = _read_samples(kind, model, calibration[: options.calibration_cases], precision, reference.engine)
            report = _publish(report, reference, model, options, kind=kind, precision=precision, samples=samples)
        else:
            say(f"export: {name} left out, float32 stays: {reason}")
            report = replace(report, left_out=report.left_out | {name: reason})
    return report


def _publish(
    report: ParityReport,
    reference: Reference | NetworksReference,
    model: ExportedModel,
    options: ExportOptions,
    *,
    kind: EngineKind,
    precision: str,
    samples: Sequence[Sequence[NDArray[np.float32]]],
) -> ParityReport:
    name = f"{kind.name}-{precision}"
    with _write_reduced(model, kind, precision, samples) as folders:
        measured = reference.measure(model.open(kind, folders), name)
        faults = measured.describe_reduced_faults(options)
        if not faults:
            _move_files(model, kind, folders)
    if faults:
        say(f"export: {name} not published, float32 stays: {faults}")
    withheld = report.withheld | ({name: faults} if faults else {})
    return replace(report, measured=(*report.measured, measured), withheld=withheld)


@contextmanager
def _write_reduced(
    model: ExportedModel, kind: EngineKind, precision: str, samples: Sequence[Sequence[NDArray[np.float32]]]
) -> Iterator[list[Path]]:
    """Write each network in less precision, into a folder of its own for the time being."""
    with temporary_folder(model.sources[0].folder) as scratch:
        folders = [scratch / str(number) for number in range(len(model.sources))]
        for source, folder, inputs in zip(model.sources, folders, samples, strict=True):
            folder.mkdir()
            kind.write_reduced(source, folder / kind.file, precision, inputs)
        yield folders


def _replace_uncompared(model: ExportedModel, kind: EngineKind, precision: str) -> None:
    """Put a model of less precision in place of one that can't run here either; its first use compares it."""
    with _write_reduced(model, kind, precision, [()] * len(model.sources)) as folders:
        _move_files(model, kind, folders)


def _move_files(model: ExportedModel, kind: EngineKind, folders: Sequence[Path]) -> None:
    for source, folder in zip(model.sources, folders, strict=True):
        for path, target in kind.pair_files(folder / kind.file, source.folder / kind.file):
            path.replace(target)


def _read_samples(
    kind: EngineKind, model: ExportedModel, cases: Sequence[InferenceCase], precision: str, engine: Engine
) -> list[list[NDArray[np.float32]]]:
    """The inputs of each network that a precision is calibrated on; none where it is not."""
    if not kind.is_calibrated(precision):
        return [[] for _ in model.sources]
    spec = engine.spec
    several = spec.has_several_networks
    inputs = prepare_inputs(read_middles(cases, spec), engine) if several else [prepare_images(cases, spec)]
    networks = list_networks(model.open(kind))
    return [cut_samples(network, images) for network, images in zip(networks, inputs, strict=True)]


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
