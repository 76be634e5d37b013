"""Inferers: how validation brings a whole image through the network."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, cast

from pydantic import Field, PositiveInt

from voxflow.components.registry import ComponentModel, register

if TYPE_CHECKING:
    import torch


class Inferer(ComponentModel, ABC):
    """A way to infer on a whole image."""

    @abstractmethod
    def infer(self, network: torch.nn.Module, image: torch.Tensor) -> torch.Tensor:
        """Bring a whole image through the network.

        Args:
            network: answers with logits; may be bound to a window's size.
            image: (batch, channel, ...spatial), on the network's device.

        Returns:
            Logits (batch, class, ...spatial).
        """


@register("inferer")
class TFScanWindowInferer(Inferer):
    """A window slides over the volume; answers are blended where windows overlap, weighted by a Gaussian.

    Attributes:
        roi_size: the window (i, j, k) in voxels.
        batch_size: windows a pass.
        overlap: share of a window that neighbours share.
    """

    roi_size: tuple[PositiveInt, PositiveInt, PositiveInt]
    batch_size: PositiveInt = 1
    overlap: float = Field(default=0.25, ge=0, lt=1)

    def infer(self, network: torch.nn.Module, image: torch.Tensor) -> torch.Tensor:
        """Slide the window over the image and blend what overlaps.

        Args:
            network: sees ``batch_size`` windows of ``roi_size`` at a time.
            image: (batch, channel, i, j, k); padded with 0 where it is smaller than the window.

        Returns:
            Logits (batch, class, i, j, k).
        """
        from monai.inferers import sliding_window_inference

        logits = sliding_window_inference(
            image, self.roi_size, self.batch_size, network, overlap=self.overlap, mode="gaussian"
        )
        return cast("torch.Tensor", logits)


@register("inferer")
class TFSimpleInferer(Inferer):
    """The whole image in one pass."""

    def infer(self, network: torch.nn.Module, image: torch.Tensor) -> torch.Tensor:
        """Return the network's answer."""
        return cast("torch.Tensor", network(image))
