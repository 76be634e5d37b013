"""Batches of torch tensors on a device, and what transforms need to work on them as they do on arrays.

A training draws every random parameter on the processor, from the generator of each place, and applies it where the
network is. What a transform computes of a tensor is what it computes of an array, within rounding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import torch
    from numpy.typing import NDArray

    # (batch, channel, ...spatial), or one tensor (channel, ...spatial) an item where these differ in shape.
    Items = torch.Tensor | Sequence[torch.Tensor]


@dataclass(frozen=True, eq=False)
class TensorBatch:
    """Fields of several samples, on their way through the random transforms.

    Attributes:
        fields: the items of each field; before the first transform they may lie on the processor.
        device: where transforms work, and where their results are.
    """

    fields: Mapping[str, Items]
    device: torch.device

    def gather(self, name: str) -> Items:
        """Return a field's items on the device, as one tensor where their shapes agree."""
        return gather_items(self.fields[name], self.device)

    def replace(self, fields: Mapping[str, Items]) -> TensorBatch:
        """Return the batch with some fields changed."""
        return TensorBatch({**self.fields, **fields}, self.device)


def gather_items(items: Items, device: torch.device) -> Items:
    """Bring items (channel, ...spatial) to a device; stack them where their shapes agree."""
    import torch

    if isinstance(items, torch.Tensor):
        return bring_to_device(items, device)
    on_device = [bring_to_device(item, device) for item in items]
    return torch.stack(on_device) if len({item.shape for item in on_device}) == 1 else on_device


def bring_to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Copy a tensor to a device if it is not there; to a GPU in the background, from page-locked memory."""
    if device.type != "cuda" or tensor.device.type == "cuda":
        return tensor.to(device)
    return tensor.contiguous().pin_memory().to(device, non_blocking=True)


def upload(values: NDArray[Any], device: torch.device) -> torch.Tensor:
    """Copy an array to a device, without waiting for what the device is busy with."""
    import torch

    return bring_to_device(torch.from_numpy(np.ascontiguousarray(values)), device)


def spread(values: Sequence[Any], like: torch.Tensor) -> torch.Tensor:
    """Upload one number, or one a channel, for each item of a batch, so that it fits the batch's axes.

    Args:
        values: for each item a number or (channel,).
        like: (batch, channel, ...spatial).

    Returns:
        (batch, 1 or channel, 1, ...), float32.

    Example:
        >>> import torch
        >>> spread([0.5, 2.0], torch.zeros(2, 1, 8, 8)).shape
        torch.Size([2, 1, 1, 1])
    """
    numbers = np.asarray(values, dtype=np.float32)
    return upload(numbers.reshape(*numbers.shape, *(1,) * (like.ndim - numbers.ndim)), like.device)


def is_mask_tensor(tensor: torch.Tensor) -> bool:
    """Return whether a tensor holds label values, which must never be blended; see ``is_mask``."""
    return not tensor.is_floating_point()


def sample_tensors(
    tensors: torch.Tensor, grid: torch.Tensor, outside: Literal["zeros", "border"] = "zeros"
) -> torch.Tensor:
    """Read tensors at fractional places; linear for images, nearest for masks.

    Args:
        tensors: (batch, channel, ...spatial).
        grid: (batch, ...new spatial, axis): places along the axes, the last axis first, -1 at the centre of the first
            voxel and 1 at that of the last.
        outside: 0, or the nearest voxel inside.

    Returns:
        (batch, channel, ...new spatial) of the tensors' type.
    """
    from torch.nn.functional import grid_sample

    mode = "nearest" if is_mask_tensor(tensors) else "bilinear"
    sampled = grid_sample(tensors.float(), grid, mode=mode, padding_mode=outside, align_corners=True)
    return sampled.to(tensors.dtype)


def defines_below(component: type, name: str, others: tuple[str, ...]) -> bool:
    """Tell whether a class defines a method at least as far down its line as each of some others.

    A subclass that changes what is done to arrays, and not what is done to tensors, must not be taken by the latter.

    Args:
        component: the class.
        name: the method that must be the newest.
        others: the methods that it goes along with.
    """
    line = [vars(ancestor) for ancestor in component.__mro__]
    places = {key: next((n for n, names in enumerate(line) if key in names), len(line)) for key in (name, *others)}
    return places[name] < len(line) and all(places[name] <= places[key] for key in others)
