"""What may be asked of the files that engines are written to."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt

# What OpenVINO's model computes in.
Precision = Literal["fp32", "bf16", "int8"]


class WriteOptions(BaseModel):
    """What engines read of the options of an export; :class:`voxflow.export.ExportOptions` says what each means."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    opset: int = Field(default=18, ge=13, le=20)
    fp16_weights: bool = False
    openvino_precision: Precision = "fp32"
    tensorrt_precision: Literal["fp32", "fp16"] = "fp32"
    tensorrt_batch: PositiveInt = 4
    tensorrt_scale: PositiveInt = 2
    tensorrt_workspace_mb: PositiveInt = 4096
    max_abs_difference: float = Field(default=1e-2, gt=0)
    min_dice: float = Field(default=0.999, ge=0, le=1)
    reduced_min_dice: float = Field(default=0.99, ge=0, le=1)
