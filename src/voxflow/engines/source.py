"""What engines' files are written from: a network, its spec, an example of its input, and its ONNX file."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    import torch

    from voxflow.engines.options import WriteOptions
    from voxflow.spec import ModelSpec

# What every exported network calls its input and its output.
INPUT_NAME = "image"
OUTPUT_NAME = "logits"
# The side of an example where neither a window nor a size was trained at.
DEFAULT_SIDE = 32


@dataclass(frozen=True)
class ExportSource:
    """The model that is exported.

    Attributes:
        module: the network, on the CPU and in evaluation mode.
        spec: what it takes and means.
        folder: where the files of all engines go.
        options: how they are written.
    """

    module: torch.nn.Module
    spec: ModelSpec
    folder: Path
    options: WriteOptions

    @cached_property
    def onnx_file(self) -> Path:
        """The network in ONNX, which several engines are made from; written when it is first asked for."""
        from voxflow.engines.onnxruntime import write_source_onnx

        return write_source_onnx(self)

    def remove_unasked(self, formats: Collection[str]) -> None:
        """Remove the ONNX file that other engines were made from where it is none of the formats asked for."""
        from voxflow.engines.onnxruntime import OnnxRuntimeKind

        if OnnxRuntimeKind.format not in formats:
            (self.folder / OnnxRuntimeKind.file).unlink(missing_ok=True)


def make_example_input(spec: ModelSpec, *, larger: int = 0) -> torch.Tensor:
    """Draw a batch (1, channel, *space) of noise as large as one training window; the same at every call.

    Args:
        spec: gives channels, window or size, and the divisor that each side is rounded up to; of a joined model, those
            of its first part.
        larger: how many strides of the network, of eight voxels at least, each axis is longer; some models
            are only ever shown their own window.

    Example:
        >>> from voxflow.spec import ModelSpec
        >>> classes = {"class_names": ("background", "spleen"), "activation": "softmax"}
        >>> spec = ModelSpec(task="segmentation", window=(60, 60, 30), divisor=16, **classes)
        >>> tuple(make_example_input(spec).shape), tuple(make_example_input(spec, larger=1).shape)
        ((1, 1, 64, 64, 32), (1, 1, 80, 80, 48))
    """
    import torch

    spec = spec.of_network
    sides = spec.window or spec.size or (DEFAULT_SIDE,) * (3 if spec.task == "segmentation" else 2)
    larger = 0 if spec.keeps_window else larger
    size = [side + larger * max(spec.divisor, 8) for side in spec.round_up(sides)]
    generator = torch.Generator().manual_seed(0)
    return torch.randn((1, spec.in_channels, *size), generator=generator)
