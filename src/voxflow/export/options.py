"""What the export stage may be told."""

from __future__ import annotations

from pydantic import Field, PositiveInt

from voxflow.engines import ExportFormat, WriteOptions, exported_kinds


def _all_formats() -> tuple[str, ...]:
    return tuple(kind.format for kind in exported_kinds() if kind.format)


class ExportOptions(WriteOptions):
    """Which files to make, how to write them, and how far each may be from torch.

    Attributes:
        engines: the formats; what can't be built here, as TensorRT without a GPU, is left out with a line.
        parity_cases: how many real cases each engine is compared on.
        max_abs_difference: greatest difference of any probability.
        min_dice: least Dice between an engine's masks and torch's, of any class with a thousand voxels or more; for
            a classification the least share of findings on which both agree.
        calibration_cases: how many training cases int8 is calibrated on.
        reduced_min_dice: as ``min_dice``, for bf16, int8 and fp16.
    """

    engines: tuple[ExportFormat, ...] = Field(default_factory=_all_formats)
    parity_cases: PositiveInt = 2
    max_abs_difference: float = Field(default=1e-2, gt=0)
    min_dice: float = Field(default=0.999, ge=0, le=1)
    calibration_cases: PositiveInt = 16
    reduced_min_dice: float = Field(default=0.99, ge=0, le=1)
