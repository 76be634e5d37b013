"""What may be asked of the files that engines are written to."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt

Precision = Literal["fp32", "bf16", "int8"]


class WriteOptions(BaseModel):
    """How engines' files are written.

    Attributes:
        opset: ONNX operator set.
        fp16_weights: OpenVINO weights stored in half precision: half the file, and not quite the same model.
        openvino_precision: of the OpenVINO model: "bf16" computes so where the processor can, "int8" is quantised by
            NNCF. Where the masks then differ by more than ``reduced_min_dice``, a line says so and float32 stays.
        tensorrt_precision: of the TensorRT engine; "fp16" is built from an ONNX file in half precision whose norms
            and reductions stay in float32, and stands behind ``reduced_min_dice`` like bf16 and int8.
        tensorrt_batch: greatest batch of the TensorRT engine.
        tensorrt_scale: greatest spatial size of the TensorRT engine, in training windows an axis.
        tensorrt_workspace_mb: memory that TensorRT may use while it chooses kernels.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    opset: int = Field(default=18, ge=13, le=20)
    fp16_weights: bool = False
    openvino_precision: Precision = "fp32"
    tensorrt_precision: Literal["fp32", "fp16"] = "fp32"
    tensorrt_batch: PositiveInt = 4
    tensorrt_scale: PositiveInt = 2
    tensorrt_workspace_mb: PositiveInt = 4096
