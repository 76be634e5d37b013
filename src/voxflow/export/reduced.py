"""Owns models of less precision: OpenVINO in bf16, or int8 calibrated on real cases by NNCF; TensorRT in fp16.

Each is made after the one in float32 and takes its place where its masks are good enough.
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from voxflow.engines import MODEL_FILES, PRECISION_RT_INFO, import_openvino, open_engine, sidecar
from voxflow.export.half import write_half
from voxflow.export.images import images_of
from voxflow.export.parity import ParityReport, Reference, measure
from voxflow.export.tensorrt import write_tensorrt
from voxflow.prediction import PredictOptions, plan_of, window_of
from voxflow.progress import say

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from voxflow.engines import Engine, EngineName
    from voxflow.export.options import ExportOptions, Precision
    from voxflow.inference import InferenceCase


def publish_reduced(
    report: ParityReport, reference: Reference, out: Path, options: ExportOptions, calibration: Sequence[InferenceCase]
) -> ParityReport:
    """Put models of less precision, where the options ask for them, in the place of those in float32.

    Args:
        report: what was published in float32; an engine that was not has none of less precision either.
        reference: what torch says of real images.
        out: the folder of exported models.
        options: which precision, and how good the masks must be.
        calibration: training cases for int8; where there is none, there is no int8 either.
    """

    def openvino(made: Path) -> None:
        source = out / made.name
        engine = open_engine(source)
        is_calibrated = options.openvino_precision == "int8"
        images = images_of(calibration[: options.calibration_cases], engine.spec) if is_calibrated else []
        write_reduced(source, made, options.openvino_precision, calibration_samples(engine, images))

    def tensorrt(made: Path) -> None:
        half = made.with_suffix(".onnx")
        write_half(out / MODEL_FILES["onnxruntime"], half)
        write_tensorrt(half, reference.engine.spec, made, options)

    wanted: list[tuple[EngineName, str, Callable[[Path], None]]] = [
        ("openvino", options.openvino_precision, openvino),
        ("tensorrt", options.tensorrt_precision, tensorrt),
    ]
    for engine, precision, make in wanted:
        if precision == "fp32" or engine not in report.published:
            continue
        reason = _unavailable(engine, precision, out, calibration)
        if reason is None:
            report = _publish(report, reference, out, options, engine=engine, name=f"{engine}-{precision}", make=make)
        else:
            say(f"export: {engine}-{precision} left out, float32 stays: {reason}")
            report = replace(report, left_out=report.left_out | {f"{engine}-{precision}": reason})
    return report


def _publish(
    report: ParityReport,
    reference: Reference,
    out: Path,
    options: ExportOptions,
    *,
    engine: EngineName,
    name: str,
    make: Callable[[Path], None],
) -> ParityReport:
    with tempfile.TemporaryDirectory(dir=out, prefix=".reduced-") as folder:
        made = Path(folder) / MODEL_FILES[engine]
        make(made)
        measured = measure(open_engine(made), reference, name)
        faults = measured.reduced_faults(options)
        if not faults:
            beside = made.with_suffix(".bin") if engine == "openvino" else sidecar(made)
            for path in (beside, made):
                path.replace(out / path.name)
    if faults:
        say(f"export: {name} not published, float32 stays: {faults}")
    withheld = report.withheld | ({name: faults} if faults else {})
    return replace(report, measured=(*report.measured, measured), withheld=withheld)


def _unavailable(engine: EngineName, precision: str, out: Path, calibration: Sequence[InferenceCase]) -> str | None:
    """Why a model of this precision can't be made here; None when it can."""
    if precision == "int8" and not calibration:
        return "there is no case to calibrate it on"
    if precision == "int8" and find_spec("nncf") is None:
        return "nncf is not installed (pip install 'voxflow[int8]')"
    if engine == "tensorrt" and not (out / MODEL_FILES["onnxruntime"]).is_file():
        return "the ONNX file that it is made of was not published"
    return None


def write_reduced(source: Path, target: Path, precision: Precision, samples: Sequence[NDArray[np.float32]]) -> None:
    """Write a model of less precision from a model.xml; what it says of itself goes along.

    Args:
        source: the model in float32.
        target: model.xml of the new one, beside which comes model.bin.
        precision: "bf16" asks the engine to compute so where the processor can; "int8" quantises the weights, and the
            activations by what ``samples`` make of them.
        samples: inputs (1, channel, *space) that the network takes.
    """
    ov = import_openvino()
    model = ov.Core().read_model(str(source))
    if precision == "int8":
        model = _quantised(model, samples)
    else:
        model.set_rt_info("bf16", list(PRECISION_RT_INFO))
    ov.save_model(model, str(target), compress_to_fp16=False)


def calibration_samples(engine: Engine, images: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
    """Of each prepared image the window in its middle, as inference would cut it."""
    if engine.spec.task == "classification":
        return [image[None] for image in images]
    samples = []
    for image in images:
        plan = plan_of(image, engine, PredictOptions(plan="windows"))
        middle = [starts[len(starts) // 2] - before for starts, before in zip(plan.starts, plan.before, strict=True)]
        samples.append(np.ascontiguousarray(window_of(image, middle, plan)[None]))
    return samples


def _quantised(model: Any, samples: Sequence[NDArray[np.float32]]) -> Any:
    import_openvino()  # first, so that its sender of statistics is not there for NNCF either
    import nncf

    nncf.set_log_level(logging.ERROR)
    silence = io.StringIO()
    # Activations may be unequally spread around zero, as they are behind most activation functions but ReLU.
    preset = nncf.QuantizationPreset.MIXED
    # NNCF shows progress of its own, on the output that is for results.
    with contextlib.redirect_stdout(silence):
        return nncf.quantize(model, nncf.Dataset(list(samples)), preset=preset, subset_size=len(samples))
