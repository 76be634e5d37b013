"""Owns the export of one checkpoint: every format that was asked for, each held against torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from voxflow.engines import MODEL_FILES, TorchEngine, open_engine, sidecar, unusable
from voxflow.export.formats import write_onnx, write_openvino, write_torchscript
from voxflow.export.images import images_of, noise
from voxflow.export.parity import Parity, ParityReport, Reference, measure
from voxflow.export.reduced import publish_reduced
from voxflow.export.tensorrt import write_tensorrt
from voxflow.progress import say, track

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from voxflow.engines import EngineName
    from voxflow.export.options import ExportFormat, ExportOptions
    from voxflow.inference import InferenceCase

# The engine that runs each format.
ENGINE_OF: dict[ExportFormat, EngineName] = {
    "torchscript": "torchscript",
    "onnx": "onnxruntime",
    "openvino": "openvino",
    "tensorrt": "tensorrt",
}


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
        out: an existing folder; gets model.ts, model.onnx, model.xml with model.bin, model.engine, as asked for. A
            file that is not the same model, by the options' bounds, is removed again and named in the report.
        options: formats and bounds.
        cases: real images to compare on; at most ``options.parity_cases`` are read.
        calibration: training cases for int8; where there are none, ``cases`` serve.
        on_noise: compare on noise of the training window's size where there is no case.

    Raises:
        DataError: there is no case to compare on, or none can be read.
        VoxflowError: the network can't be expressed in a format.
    """
    torch_engine = TorchEngine(model)
    spec = torch_engine.spec
    images = noise(spec) if on_noise and not cases else images_of(cases[: options.parity_cases], spec)
    reference = Reference(torch_engine, images)
    left_out = _write(torch_engine, out, options)
    made = [name for name in options.engines if name not in left_out]
    measured: list[Parity] = []
    refused: dict[str, str] = {}
    for name in track(made, "comparing with torch"):
        engine = ENGINE_OF[name]
        measured.append(measure(open_engine(out / MODEL_FILES[engine], engine), reference))
        faults = measured[-1].faults(options)
        if faults:
            refused[engine] = faults
            remove_engine(out, engine)
    report = ParityReport(tuple(measured), refused, left_out, min(len(cases), len(reference.images)))
    report = publish_reduced(report, reference, out, options, calibration or cases)
    if "onnx" not in options.engines:
        (out / MODEL_FILES["onnxruntime"]).unlink(missing_ok=True)
    return report


def remove_engine(out: Path, engine: EngineName) -> None:
    """Remove an engine's files from a folder of exported models."""
    file = out / MODEL_FILES[engine]
    for path in (file, file.with_suffix(".bin") if engine == "openvino" else sidecar(file)):
        path.unlink(missing_ok=True)


def _write(torch_engine: TorchEngine, out: Path, options: ExportOptions) -> dict[str, str]:
    """Write every format; return those that can't be made here, with the reason."""
    module, spec = torch_engine.module.cpu(), torch_engine.spec
    left_out: dict[str, str] = {}
    wanted = set(options.engines)
    if "torchscript" in wanted:
        write_torchscript(module, spec, out / MODEL_FILES["torchscript"])
    reason = unusable("tensorrt") if "tensorrt" in wanted else None
    if reason is not None:
        left_out["tensorrt"] = reason
        say(f"export: TensorRT engine left out: {reason}")
        wanted.discard("tensorrt")
    if wanted - {"torchscript"}:
        onnx_file = out / MODEL_FILES["onnxruntime"]
        if not write_onnx(module, spec, onnx_file, options.opset):
            say(f"export: the ONNX file takes one size only, {spec.window or spec.size}; windows of it are used")
        if "openvino" in wanted:
            write_openvino(onnx_file, spec, out / MODEL_FILES["openvino"], fp16_weights=options.fp16_weights)
        if "tensorrt" in wanted:
            write_tensorrt(onnx_file, spec, out / MODEL_FILES["tensorrt"], options)
    torch_engine.module.to(torch_engine.device)
    return left_out
