"""The options of the stage export."""

from __future__ import annotations

from pydantic import Field, PositiveInt

from voxflow.engines import ExportFormat, WriteOptions, list_exported_kinds


def _all_formats() -> tuple[str, ...]:
    return tuple(kind.format for kind in list_exported_kinds() if kind.format)


class ExportOptions(WriteOptions):
    """Which files to make, and how far each may be from torch.

    Attributes:
        engines: the formats; what can't be built here, as TensorRT without a GPU, is left out with a line.
        parity_cases: how many real cases each engine is compared on.
        max_abs_difference: greatest difference of any probability.
        min_dice: least Dice between an engine's masks and torch's, of any class with a thousand voxels or more; for
            a classification the least share of findings on which both agree.
        opset: ONNX operator set.
        fp16_weights: OpenVINO weights stored in half precision: half the file, and not quite the same model.
        openvino_precision: of the OpenVINO model: "bf16" computes so where the processor can, "int8" is quantised by
            NNCF. Where the masks then differ by more than ``reduced_min_dice``, a line says so and float32 stays.
        calibration_cases: how many training cases int8 is calibrated on.
        reduced_min_dice: as ``min_dice``, for bf16, int8 and fp16.
        tensorrt_precision: of the TensorRT engine; "fp16" is built from an ONNX file in half precision whose norms
            and reductions stay in float32, and stands behind ``reduced_min_dice`` like bf16 and int8.
        tensorrt_batch: greatest batch of the TensorRT engine.
        tensorrt_scale: greatest spatial size of the TensorRT engine, in training windows an axis.
        tensorrt_workspace_mb: memory that TensorRT may use while it chooses kernels.
    """

    engines: tuple[ExportFormat, ...] = Field(default_factory=_all_formats)
    parity_cases: PositiveInt = 2
    calibration_cases: PositiveInt = 16
