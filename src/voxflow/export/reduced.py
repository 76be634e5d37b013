"""Owns OpenVINO models of less precision: bf16 arithmetic, and int8 calibrated on real cases by NNCF."""

from __future__ import annotations

import logging
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from voxflow.inference import plan_of
from voxflow.inference.blending import window_of
from voxflow.inference.predict import PredictOptions
from voxflow.inference.runtimes import PRECISION_RT_INFO, import_openvino

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from voxflow.export.options import Precision
    from voxflow.inference import Engine


def unavailable(precision: Precision) -> str | None:
    """Why a model of this precision can't be made here; None when it can."""
    if precision == "int8" and find_spec("nncf") is None:
        return "nncf is not installed (pip install 'voxflow[int8]')"
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
    # Activations may be unequally spread around zero, as they are behind most activation functions but ReLU.
    preset = nncf.QuantizationPreset.MIXED
    return nncf.quantize(model, nncf.Dataset(list(samples)), preset=preset, subset_size=len(samples))
