"""Export of one checkpoint: every format that was asked for is written, and each is compared with torch."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from voxflow.engines import ExportSource, TorchEngine, get_engine_kind, list_exported_kinds
from voxflow.export.images import make_noise, make_noise_volumes, prepare_images, read_middles
from voxflow.export.networks import ExportedModel, NetworksReference, lay_out_for_export, make_sources
from voxflow.export.parity import Parity, ParityReport, Reference
from voxflow.export.reduced import publish_reduced
from voxflow.files import atomic_path, temporary_folder
from voxflow.progress import say, track

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from voxflow.export.options import ExportOptions
    from voxflow.inference import InferenceCase
    from voxflow.volumes import Volume


def export_model(
    model: Path,
    out: Path,
    options: ExportOptions,
    cases: Sequence[InferenceCase],
    *,
    calibration: Sequence[InferenceCase] = (),
    on_noise: bool = False,
) -> ParityReport:
    """Export a checkpoint and compare every file with it.

    Args:
        model: model.pt.
        out: an existing folder; gets the files of every engine that was asked for, such as model.onnx. A file that is
            not the same model, by the options' bounds, is removed again and named in the report.
        options: formats and bounds.
        cases: real images to compare on; at most ``options.parity_cases`` are read.
        calibration: training cases for int8; where there are none, ``cases`` serve.
        on_noise: compare on noise of the training window's size where there is no case.

    Raises:
        DataError: there is no case to compare on, or none can be read.
        VoxflowError: the network can't be expressed in a format.
    """
    engine = TorchEngine(model)
    if engine.spec.has_several_networks:
        _copy_model(model, out)
        if not options.engines:
            return ParityReport((), {}, {}, 0)
        volumes = [] if on_noise and not cases else read_middles(cases[: options.parity_cases], engine.spec)
        return _export_networks(engine, volumes, out, options, calibration=calibration or cases)
    if on_noise and not cases:
        return export_engine(engine, [], out, options)
    images = prepare_images(cases[: options.parity_cases], engine.spec)
    return export_engine(engine, images, out, options, calibration=calibration or cases)


def export_engine(
    torch_engine: TorchEngine,
    images: Sequence[NDArray[np.float32]],
    out: Path,
    options: ExportOptions,
    *,
    calibration: Sequence[InferenceCase] = (),
) -> ParityReport:
    """Export a network that is loaded, and compare every file with it.

    Args:
        torch_engine: runs the network.
        images: prepared inputs (channel, *space) to compare on; none: noise of the training window's size serves.
        out: as :func:`export_model` takes it.
        options: formats and bounds.
        calibration: cases for int8.

    Raises:
        VoxflowError: the network can't be expressed in a format.
    """
    reference = Reference(torch_engine, images or make_noise(torch_engine.spec))
    model = ExportedModel((ExportSource(torch_engine.module, torch_engine.spec, out, options),))
    return _export(model, reference, options, len(images), calibration)


def _export_networks(
    engine: TorchEngine,
    cases: Sequence[Sequence[Volume]],
    out: Path,
    options: ExportOptions,
    *,
    calibration: Sequence[InferenceCase],
) -> ParityReport:
    """Export a cascade or a joined model, each network to a file of its own."""
    reference = NetworksReference(engine, cases or make_noise_volumes(engine.spec))
    with temporary_folder(out) as scratch:
        model = make_sources(engine, scratch, options)
        report = _export(model, reference, options, len(cases), calibration)
        model.move_to(out)
    return report


def _copy_model(model: Path, out: Path) -> None:
    """Copy the model file of several networks, which torch runs."""
    target = out / get_engine_kind(TorchEngine.name).file
    if target.resolve() != model.resolve():
        with atomic_path(target) as temporary:
            shutil.copyfile(model, temporary)
    say("export: the model file, which holds all networks, is copied")


def _export(
    model: ExportedModel,
    reference: Reference | NetworksReference,
    options: ExportOptions,
    cases: int,
    calibration: Sequence[InferenceCase],
) -> ParityReport:
    """Write every format, compare it, and put models of less precision in place."""
    with lay_out_for_export(model, reference.engine.device):
        left_out = _write_formats(model, options.engines)
    uncompared = _list_uncompared(options.engines, left_out)
    measured, refused = _compare(reference, model, options, left_out, uncompared)
    report = ParityReport(tuple(measured), refused, left_out, cases, uncompared=uncompared)
    report = publish_reduced(report, reference, model, options, calibration)
    written = list_exported_kinds(name for name in options.engines if name not in left_out)
    if not uncompared and not any(kind.is_compared_at_first_use for kind in written):
        # Else the ONNX file is what they are compared with at their first use.
        model.remove_unasked(options.engines)
    return report


def _write_formats(model: ExportedModel, formats: Sequence[str]) -> dict[str, str]:
    """Write every format; returns those that can't be made here, with the reason."""
    kinds = [kind for kind in list_exported_kinds() if kind.format in formats]
    left_out = {}
    for kind in kinds:
        reason = kind.explain_unwritable()
        if reason is not None:
            left_out[str(kind.format)] = reason
            say(f"export: {kind.title} engine left out: {reason}")
    for kind in kinds:
        if kind.format not in left_out:
            model.write(kind)
    return left_out


def _list_uncompared(formats: Sequence[str], left_out: Collection[str]) -> dict[str, str]:
    """The engines that were built here and can't run here, with the reason: they are compared at their first use."""
    uncompared = {}
    for kind in list_exported_kinds(name for name in formats if name not in left_out):
        reason = kind.explain_unavailable()
        if reason is not None:
            uncompared[kind.name] = reason
            say(f"export: the {kind.title} engine is compared at its first use: {reason}")
    return uncompared


def _compare(
    reference: Reference | NetworksReference,
    model: ExportedModel,
    options: ExportOptions,
    left_out: Collection[str],
    uncompared: Collection[str],
) -> tuple[list[Parity], dict[str, str]]:
    """Compare every file that was written with torch; removes those that are too far, and returns why."""
    formats = [name for name in options.engines if name not in left_out]
    kinds = [kind for kind in list_exported_kinds(formats) if kind.name not in uncompared]
    measured: list[Parity] = []
    refused: dict[str, str] = {}
    for kind in track(kinds, "comparing with torch"):
        measured.append(reference.measure(model.open(kind)))
        faults = measured[-1].describe_faults(options)
        if faults:
            refused[kind.name] = faults
            model.remove(kind)
    return measured, refused
