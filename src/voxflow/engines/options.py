"""The options for writing the files of engines."""

from __future__ import annotations

from typing import Literal, Protocol

# What OpenVINO's model computes in.
Precision = Literal["fp32", "bf16", "int8"]


class WriteOptions(Protocol):
    """What engines read of the options of an export; :class:`voxflow.export.ExportOptions` says what each means."""

    @property
    def opset(self) -> int: ...  # noqa: D102

    @property
    def fp16_weights(self) -> bool: ...  # noqa: D102

    @property
    def openvino_precision(self) -> Precision: ...  # noqa: D102

    @property
    def tensorrt_precision(self) -> Literal["fp32", "fp16"]: ...  # noqa: D102

    @property
    def tensorrt_batch(self) -> int: ...  # noqa: D102

    @property
    def tensorrt_scale(self) -> int: ...  # noqa: D102

    @property
    def tensorrt_workspace_mb(self) -> int: ...  # noqa: D102
