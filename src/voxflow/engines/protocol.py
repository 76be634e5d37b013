"""Owns what an engine is: one small protocol for everything that runs a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from voxflow.spec import ModelSpec

EngineName = Literal["torch", "torchscript", "onnxruntime", "openvino", "tensorrt"]
# Other ways to run model.pt; never taken unasked, since no file of theirs passed the parity gate.
TorchWay = Literal["torch-bf16", "torch-compiled"]
EngineChoice = Literal[
    "auto", "torch", "torch-bf16", "torch-compiled", "torchscript", "onnxruntime", "openvino", "tensorrt"
]


class Engine(Protocol):
    """A loaded model.

    Attributes:
        name: which engine it is.
        spec: what the model file says of itself.
        smallest: least spatial size (i, j, k) or (rows, columns) of an input; None: no bound but the divisor.
        largest: greatest one; equal to ``smallest`` where the file allows one size only.
        is_local: whether a voxel's answer depends on a bounded neighbourhood alone, as with plain convolutions and
            batch norm; instance norm, say, averages over the window, so that a larger one changes every answer.
        batch: how many windows it takes at a time where memory allows; 1 where more are no faster.
    """

    @property
    def name(self) -> EngineName: ...  # noqa: D102

    @property
    def spec(self) -> ModelSpec: ...  # noqa: D102

    @property
    def smallest(self) -> tuple[int, ...] | None: ...  # noqa: D102

    @property
    def is_local(self) -> bool: ...  # noqa: D102

    @property
    def largest(self) -> tuple[int, ...] | None: ...  # noqa: D102

    @property
    def batch(self) -> int: ...  # noqa: D102

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map (batch, channel, *space) to logits: (batch, class, *space), or (batch, class) for classification."""


@runtime_checkable
class Prefetchable(Protocol):
    """An engine that gains from knowing what will come."""

    def expect(self, shape: tuple[int, ...]) -> None:
        """Get ready for inputs (batch, channel, *space) of a shape, from another thread; returns at once."""
