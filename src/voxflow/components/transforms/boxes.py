"""Boxes of voxels that are cut out of images, and padded with 0 where they reach beyond."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from voxflow.components.transforms.base import Draw, Sample, get_field
from voxflow.components.transforms.grids import shift_affines

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from voxflow.components.registry import ComponentModel
    from voxflow.components.transforms.tensors import Items, TensorBatch


def cut_fields(sample: Sample, names: tuple[str, ...], start: NDArray[Any], size: Any, *, by: ComponentModel) -> Sample:
    """Cut the same box out of every field, and move their affines along.

    Args:
        sample: left as it is.
        names: fields (channel, ...spatial) of one spatial shape.
        start: index of the box's first voxel; may be negative.
        size: voxels along each spatial axis.
        by: the transform that asks, for the error where a field is missing.
    """
    boxes = {name: cut_window(get_field(sample, name, by), start, size) for name in names}
    return sample | boxes | shift_affines(sample, names, start)


def cut_tensors(batch: TensorBatch, names: Sequence[str], draws: Sequence[Draw], size: Any = None) -> TensorBatch:
    """Cut the box that was drawn for each item out of its fields, wherever these lie, and bring it to the device.

    Args:
        batch: left as it is.
        names: fields of one spatial shape.
        draws: of each item: "start", and "size" where no ``size`` is named.
        size: voxels along each spatial axis.
    """
    from voxflow.components.transforms.tensors import gather_items

    boxes: dict[str, Items] = {}
    for name in names:
        pairs = zip(batch.fields[name], draws, strict=True)
        cuts = [
            cut_window(item, parameters["start"], parameters["size"] if size is None else size)
            for item, parameters in pairs
        ]
        boxes[name] = gather_items(cuts, batch.device)
    return batch.replace(boxes)


def cut_window(array: Any, start: NDArray[Any], size: Any) -> Any:
    """Cut a box out of an array, or out of a tensor; what lies outside of it is 0.

    Args:
        array: (channel, ...spatial).
        start: index of the box's first voxel; may be negative.
        size: voxels along each spatial axis.

    Returns:
        (channel, *size): a view where the box lies inside, else a padded copy.

    Example:
        >>> cut_window(np.arange(4).reshape(1, 4), np.array([2]), [3])
        array([[2, 3, 0]])
    """
    shape = np.array(array.shape[1:])
    begin, end = np.maximum(start, 0), np.minimum(np.asarray(start) + size, shape)
    box = array[(slice(None), *(slice(int(b), int(e)) for b, e in zip(begin, end, strict=True)))]
    before = begin - start
    after = np.asarray(size) - (end - begin) - before
    if not before.any() and not after.any():
        return box
    widths = [(0, 0), *((int(b), int(a)) for b, a in zip(before, after, strict=True))]
    if isinstance(box, np.ndarray):
        return np.pad(box, widths)
    from torch.nn.functional import pad

    # torch names the last axis first.
    return pad(box, [width for pair in reversed(widths) for width in pair])


def crop_or_pad(array: Any, size: tuple[int, ...]) -> Any:
    """Crop or pad an array, or a tensor, about its centre.

    Args:
        array: (channel, ...spatial).
        size: voxels along each spatial axis; -1 keeps an axis whole.

    Returns:
        (channel, *size); padding is 0.

    Example:
        >>> crop_or_pad(np.arange(12).reshape(1, 3, 4), (5, 2))
        array([[[ 0,  0],
                [ 1,  2],
                [ 5,  6],
                [ 9, 10],
                [ 0,  0]]])
    """
    shape = array.shape[1:]
    target = [n if s == -1 else s for n, s in zip(shape, size, strict=True)]
    start = np.array([(n - s) // 2 if n >= s else -((s - n) // 2) for n, s in zip(shape, target, strict=True)])
    return cut_window(array, start, target)
