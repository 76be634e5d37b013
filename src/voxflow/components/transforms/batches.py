"""Transforms of whole batches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from voxflow.components.registry import register
from voxflow.components.transforms.base import FieldTransform

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray


@register("transform")
class MergeBatchDims(FieldTransform):
    """Make one axis of batch and patch, where a crop makes several patches of each case.

    Attributes:
        spatial_dims: axes of an image without channels; a batch of more than these and two others is merged. Batches
            here come merged already, so that nothing is left to do.
    """

    spatial_dims: Literal[2, 3] = 3

    def change(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return the batch with its first two axes made one.

        Args:
            array: (batch, patch, channel, ...spatial), or a batch that is merged already.
        """
        if array.ndim <= self.spatial_dims + 2:
            return array
        return np.ascontiguousarray(array).reshape(-1, *array.shape[2:])

    def change_tensor(self, tensor: torch.Tensor) -> torch.Tensor:
        """Do what :meth:`change` does to a tensor of any device."""
        return tensor.flatten(0, 1) if tensor.ndim > self.spatial_dims + 2 else tensor
