"""Owns the export of one checkpoint: every format that was asked for, each held against torch."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from voxflow.errors import DataError
from voxflow.export.formats import example_input, write_onnx, write_openvino, write_torchscript
from voxflow.export.parity import Parity, ParityReport, Reference, measure
from voxflow.export.reduced import calibration_samples, unavailable, write_reduced
from voxflow.export.tensorrt import write_tensorrt
from voxflow.inference import MODEL_FILES, open_engine, prepare_radiograph, prepare_volume, unusable
from voxflow.inference.cases import read_radiographs, read_volumes
from voxflow.inference.runtimes import TorchEngine
from voxflow.inference.tensorrt import sidecar
from voxflow.progress import say, track

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from voxflow.export.options import ExportFormat, ExportOptions
    from voxflow.inference import EngineName, InferenceCase
    from voxflow.spec import ModelSpec

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
    images = _noise(spec) if on_noise and not cases else _images(cases[: options.parity_cases], spec)
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
    if options.openvino_precision == "fp32" or "openvino" not in report.published:
        return report
    return _reduced(report, reference, out, options, calibration or cases)


def _reduced(
    report: ParityReport, reference: Reference, out: Path, options: ExportOptions, calibration: Sequence[InferenceCase]
) -> ParityReport:
    """Put an OpenVINO model of less precision in the place of the one in float32, if its masks are good enough."""
    name = f"openvino-{options.openvino_precision}"
    reason = unavailable(options.openvino_precision)
    if reason is not None:
        say(f"export: {name} left out, float32 stays: {reason}")
        return replace(report, left_out=report.left_out | {name: reason})
    model = out / MODEL_FILES["openvino"]
    engine = open_engine(model)
    images = _images(calibration[: options.calibration_cases], engine.spec) if calibration else list(reference.images)
    with tempfile.TemporaryDirectory(dir=out, prefix=".reduced-") as folder:
        made = Path(folder) / model.name
        write_reduced(model, made, options.openvino_precision, calibration_samples(engine, images))
        measured = measure(open_engine(made), reference, name)
        faults = measured.reduced_faults(options)
        if not faults:
            for path in (made.with_suffix(".bin"), made):
                path.replace(out / path.name)
    if faults:
        say(f"export: {name} not published, float32 stays: {faults}")
    withheld = {name: faults} if faults else {}
    return replace(report, measured=(*report.measured, measured), withheld=withheld)


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
        if "onnx" not in wanted:
            onnx_file.unlink()
    torch_engine.module.to(torch_engine.device)
    return left_out


def _images(cases: Sequence[InferenceCase], spec: ModelSpec) -> list[NDArray[np.float32]]:
    if not cases:
        raise DataError("no case to compare the exported engines on; the datalist's validation part is empty")
    if spec.task == "segmentation":
        return [_middle(prepare_volume(read_volumes(case), spec)[0], spec) for case in cases]
    return [prepare_radiograph(read_radiographs(case), spec) for case in cases]


def _noise(spec: ModelSpec) -> list[NDArray[np.float32]]:
    return [example_input(spec)[0].numpy(), example_input(spec, larger=1)[0].numpy()]


def _middle(image: NDArray[np.float32], spec: ModelSpec) -> NDArray[np.float32]:
    """The middle of a volume, a few windows at most: a whole CT would take torch minutes and tell no more."""
    most = [side + side // 2 for side in spec.window or image.shape[1:]]
    first = [max(0, (have - n) // 2) for have, n in zip(image.shape[1:], most, strict=True)]
    return image[:, *(slice(start, start + n) for start, n in zip(first, most, strict=True))]
