"""Rewrites an OpenVINO model's transposed convolutions of few channels, which its CPU code runs slowly.

A transposed convolution of stride s gives each voxel's s × s × s new voxels by weights of their own: it is a plain
convolution with s³ times the channels, whose blocks are then laid out side by side (Shi et al. 2016, arXiv:1609.07009).
The same products are summed. OpenVINO pads channels to 16 where it transposes, so that the last layer of a U-Net, two
channels at the image's size, takes 1.3 to 2 times as long as it does so (measured with 1 to 4 channels; 8 are slower).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Channels of the plain convolution up to which it is faster.
MOST_CHANNELS = 32


def use_subpixels(model: Any) -> int:
    """Rewrite the slow layers of an openvino.Model in place.

    Args:
        model: read, and not yet compiled.

    Returns:
        How many layers were rewritten.
    """
    layers = [op for op in model.get_ordered_ops() if op.get_type_name() == "ConvolutionBackpropData"]
    return sum(_rewrite(op) for op in layers)


def _rewrite(op: Any) -> bool:
    from openvino import opset8 as ops

    layer = _Layer.of(op)
    if layer is None:
        return False
    low, high = layer.reach
    n = layer.dimensions
    blocks = ops.convolution(
        op.input_value(0), ops.constant(layer.plain_weights()), [1] * n, [-low] * n, [high] * n, [1] * n
    )
    op.output(0).replace(ops.depth_to_space(blocks, "blocks_first", layer.stride).output(0))
    return True


@dataclass(frozen=True, eq=False)
class _Layer:
    """A transposed convolution whose output is ``stride`` times as large as its input along every axis.

    Attributes:
        weights: (channel in, channel out, *kernel), the same size along every axis.
        stride, padding: the same along every axis.
    """

    weights: NDArray[np.float32]
    stride: int
    padding: int

    @classmethod
    def of(cls, op: Any) -> _Layer | None:
        """Read an operator; None where it is no such layer, or one that is fast enough."""
        attributes, constant = op.get_attributes(), op.input_value(1).get_node()
        if op.get_input_size() != 2 or constant.get_type_name() != "Constant" or attributes["auto_pad"] != "explicit":
            return None
        weights = np.array(constant.get_data(), dtype=np.float32)
        names = ("strides", "pads_begin", "pads_end", "output_padding", "dilations")
        axes = (weights.shape[2:], *(attributes[name] or [0] for name in names))
        values = [{int(value) for value in by_axis} for by_axis in axes]
        if any(len(distinct) > 1 for distinct in values):
            return None
        side, stride, padding, behind, extra, dilation = (distinct.pop() for distinct in values)
        is_multiple = dilation == 1 and stride > 1 and side + extra - stride == padding + behind
        is_slow = weights.shape[1] * stride ** (weights.ndim - 2) <= MOST_CHANNELS
        return cls(weights, stride, padding) if is_multiple and is_slow else None

    @property
    def dimensions(self) -> int:
        """Axes of space."""
        return self.weights.ndim - 2

    @property
    def reach(self) -> tuple[int, int]:
        """The first and the last input voxel that a block takes, counted from its own: ≤ 0 and ≥ 0."""
        places = [place for phase in range(self.stride) for place, _ in self._taps(phase)]
        return min(0, *places), max(0, *places)

    def _taps(self, phase: int) -> list[tuple[int, int]]:
        """For one of the new voxels along an axis: the input voxels that it takes, and their places in the kernel."""
        side = self.weights.shape[2]
        return [
            ((phase + self.padding - tap) // self.stride, tap)
            for tap in range(side)
            if (phase + self.padding - tap) % self.stride == 0
        ]

    def plain_weights(self) -> NDArray[np.float32]:
        """Return the plain convolution's weights.

        Returns:
            (block × channel out, channel in, *kernel), where the blocks come in the order of their voxels.
        """
        low, high = self.reach
        n, (channels_in, channels_out) = self.dimensions, self.weights.shape[:2]
        plain = np.zeros((*(self.stride,) * n, channels_out, channels_in, *(high - low + 1,) * n), dtype=np.float32)
        for phases in product(range(self.stride), repeat=n):
            for taps in product(*(self._taps(phase) for phase in phases)):
                target: Any = (*phases, slice(None), slice(None), *(place - low for place, _ in taps))
                source: Any = (slice(None), slice(None), *(tap for _, tap in taps))
                plain[target] = self.weights[source].T
        return plain.reshape(-1, channels_in, *plain.shape[n + 2 :])
