"""Prediction on torch tensors, of any device: what is done otherwise there than on NumPy arrays.

A volume goes to the device once, in the type that it is stored in. It is resampled and scaled there; windows, sums, the
way back and the choice of a class follow there, too (:mod:`voxflow.prediction.blending`, ``native_grid``); the mask
comes down. The arithmetic is that of the NumPy code, operation by operation where that costs nothing, so that on one
processor both give the same values but for rounding. torch is imported by whoever made the first tensor.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from voxflow.prediction.grids import network_grid, resample_to_network
from voxflow.prediction.labels import combine_regions, first_label, label_type, single_value
from voxflow.volumes import compute_parallel_taps, require_finite, smooth_for_grid

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from numpy.typing import NDArray

    from voxflow.geometry import Geometry
    from voxflow.spec import ModelSpec
    from voxflow.volumes import Taps, Volume

# Scores that are interpolated at a time: half a gigabyte in single precision.
SCORES = 1 << 27
# What is held of them at a time: what comes in, both neighbours of what is made.
SCORES_HELD = 3
# The share of a GPU's free memory that a prediction may take; the rest is for what libraries hold.
FREE_SHARE = 0.9


def is_tensor(array: Any) -> bool:
    """Tell whether an array is a torch tensor; torch is not imported for it."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(array, torch.Tensor)


def count_free_bytes(tensor: torch.Tensor) -> int | None:
    """Count the bytes that a prediction may take on a tensor's device; None where ``memory_mb`` says so alone."""
    import torch

    if tensor.device.type != "cuda":
        return None
    try:
        free = torch.cuda.mem_get_info(tensor.device)[0]
    except RuntimeError:
        return None  # a driver that does not say
    # What torch has reserved and does not use is free to us.
    unused = torch.cuda.memory_reserved(tensor.device) - torch.cuda.memory_allocated(tensor.device)
    return int((free + unused) * FREE_SHARE)


def count_score_bytes(source: Geometry, target: Geometry, spec: ModelSpec) -> int:
    """Count the bytes that the way back takes on a device beside the logits and the mask.

    Args:
        source: the network's grid.
        target: the image's native grid.
        spec: of the model; its number of classes decides.
    """
    voxels = max(math.prod(source.size), math.prod(target.size))
    return SCORES_HELD * np.dtype(np.float32).itemsize * min(SCORES, spec.out_channels * voxels)


@dataclass(frozen=True, eq=False)
class DeviceImage:
    """An image on a device.

    Attributes:
        image: (channel, i, j, k), float32, preprocessed.
        grid: where its voxels lie.
    """

    image: torch.Tensor
    grid: Geometry


def prepare_on_device(volumes: Sequence[Volume], spec: ModelSpec, device: str) -> DeviceImage:
    """Bring an image to a device, and there to the network's grid and values.

    Args:
        volumes: the channels, in the network's order.
        spec: of the model.
        device: such as "cuda" or "cpu".

    Raises:
        DataError: values that are no numbers.
    """
    import torch

    grid = network_grid(volumes[spec.reference].geometry, spec)
    channels = [_bring_to_grid(volume, grid, spec, device) for volume in volumes]
    return DeviceImage(_run_preprocessing(torch.stack(channels), spec), grid)


def upload(array: NDArray[Any], device: str) -> torch.Tensor:
    """Copy an array to a device in the type that it has; of unsigned 16 bits, which torch hardly knows, in 32 bits.

    Args:
        array: of any layout.
        device: such as "cuda".
    """
    import torch

    native = array.astype(array.dtype.newbyteorder("="), copy=False)
    # Of a transposed array the memory is copied as it lies, and turned where it arrives.
    order = np.argsort([-abs(stride) for stride in native.strides], kind="stable")
    lying = np.ascontiguousarray(native.transpose(order))
    if lying.dtype == np.uint16:
        tensor = torch.from_numpy(lying.view(np.int16)).to(device).to(torch.int32) & 0xFFFF
    elif lying.dtype.kind == "u" and lying.dtype.itemsize > 2:
        tensor = torch.from_numpy(lying.astype(np.float64)).to(device)
    else:
        tensor = torch.from_numpy(lying if lying.flags.writeable else lying.copy()).to(device)
    return tensor.permute(np.argsort(order).tolist())


def _bring_to_grid(volume: Volume, grid: Geometry, spec: ModelSpec, device: str) -> torch.Tensor:
    """One channel (i, j, k) on a grid, float32; what is not linear between parallel axes is done on the processor."""
    import torch

    is_placed = volume.geometry.is_close(grid, tolerance_mm=1e-6)
    taps = None if is_placed or spec.interpolation != "linear" else compute_parallel_taps(volume.geometry, grid)
    if not is_placed and taps is None:
        require_finite(volume.array)
        return upload(resample_to_network(volume, spec, grid).array, device).to(torch.float32)
    smooth = smooth_for_grid(volume, grid) if spec.antialias and taps is not None else volume
    tensor = upload(smooth.array, device)
    if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
        require_finite(volume.array)
    if taps is None:
        return tensor.to(torch.float32)
    fill = float(volume.array.min()) if smooth is not volume else float(tensor.min())
    slow, *within = sorted(range(3), key=lambda axis: -abs(smooth.array.strides[axis]))
    resampled = resample_tensor(tensor, taps, (slow, within[0], within[1]), fill, smooth.array.dtype)
    # A smoothed image of whole numbers is rounded as the others are.
    return (resampled.round_() if volume.array.dtype.kind in "iu" else resampled).to(torch.float32)


def resample_tensor(
    tensor: torch.Tensor, taps: Sequence[Taps], order: tuple[int, int, int], fill: float, stored: np.dtype[Any]
) -> torch.Tensor:
    """Interpolate linearly onto the grid that the taps were made for, as ``voxflow.volumes.resample_parallel`` does.

    Args:
        tensor: voxels (i, j, k).
        taps: of each of its axes.
        order: its axes from the slowest to the fastest in the array's memory, which is the order of the sums.
        fill: the value outside of the image.
        stored: the type of the voxels in the image: whole numbers are rounded; those of 16 bits and float32 are
            computed in single precision, others in double.
    """
    import torch

    slow, *within = order
    is_single = stored.itemsize <= 2 or stored == np.float32
    values = tensor.to(torch.float32 if is_single else torch.float64)
    # The axis that shrinks most goes first, so that the second has less to do.
    for axis in (*sorted(within, key=lambda axis: taps[axis].count / tensor.shape[axis]), slow):
        values = interpolate_axis(values, taps[axis], axis)
    if stored.kind in "iu":
        values = values.round_()
    for axis, tap in enumerate(taps):
        values.narrow(axis, 0, tap.first).fill_(fill)
        values.narrow(axis, tap.last, tap.count - tap.last).fill_(fill)
    new_axes = [tap.axis for tap in taps]
    return values.permute([new_axes.index(axis) for axis in range(3)])


def interpolate_axis(values: torch.Tensor, taps: Taps, axis: int) -> torch.Tensor:
    """Interpolate along one axis.

    Args:
        values: of any number of axes.
        taps: of the axis.
        axis: which.
    """
    import torch

    def place(numbers: NDArray[Any], dtype: torch.dtype) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(numbers)).to(values.device, dtype)

    shape = [1] * values.ndim
    shape[axis] = -1
    below = values.index_select(axis, place(taps.low, torch.int64))
    above = values.index_select(axis, place(taps.high, torch.int64))
    above -= below
    above *= place(taps.weight, values.dtype).reshape(shape)
    return below.add_(above)


def take_nearest(labels: torch.Tensor, nearest: Sequence[NDArray[Any]], order: Sequence[int]) -> torch.Tensor:
    """Take the voxels of the numbers along each axis, and turn the axes.

    Args:
        labels: (i, j, k).
        nearest: numbers of the voxels to take along each axis.
        order: of the axes afterwards.
    """
    import torch

    for axis, numbers in enumerate(nearest):
        labels = labels.index_select(axis, torch.from_numpy(numbers.astype(np.int64)).to(labels.device))
    return labels.permute(list(order))


def _run_preprocessing(image: torch.Tensor, spec: ModelSpec) -> torch.Tensor:
    """Run the transforms of the spec; one that knows no tensors has the image brought to the processor."""
    from voxflow.components import build_transform

    for transform_spec in spec.preprocess:
        transform = build_transform(transform_spec)
        change = getattr(transform, "change_tensor", None)
        if change is not None and getattr(transform, "fields", ()) == ("image",):
            image = change(image)
        else:
            array = transform({"image": image.cpu().numpy()})["image"]
            image = upload(np.ascontiguousarray(array, dtype=np.float32), str(image.device))
    return image.contiguous()


def activate(logits: torch.Tensor, spec: ModelSpec) -> torch.Tensor:
    """Map logits (class, ...) to probabilities of the same shape, float32."""
    values = logits.float()
    return values.sigmoid() if spec.activation == "sigmoid" else values.softmax(0)


def pick_labels(scores: torch.Tensor, spec: ModelSpec, threshold: float = 0.0) -> torch.Tensor:
    """Map logits, or probabilities, to label values; see :func:`voxflow.prediction.labels.logits_to_labels`.

    Args:
        scores: (class, ...).
        spec: activation and class names of the model.
        threshold: above which a class of a sigmoid counts: 0 for logits, 0.5 for probabilities.

    Returns:
        Label values (...), of the type that :func:`mask_type` names.
    """
    if spec.regions:
        regions: torch.Tensor = combine_regions(scores > threshold, spec)
        return regions
    best, labels = scores.max(0)
    labels = (labels + first_label(spec)).to(mask_type(spec))
    if spec.activation == "sigmoid":
        labels[~(best > threshold)] = 0
    return labels


def mask_type(spec: ModelSpec) -> torch.dtype:
    """Tell the type that holds a model's label values on a device: torch hardly knows unsigned 16 bits."""
    import torch

    return torch.uint8 if label_type(spec) is np.uint8 else torch.int32


def download_mask(mask: torch.Tensor, spec: ModelSpec) -> NDArray[Any]:
    """Copy label values (i, j, k) to NumPy, in the type that the model's masks have."""
    return np.ascontiguousarray(mask.cpu().numpy()).astype(label_type(spec), copy=False)


class TensorPlanes:
    """The planes of probabilities along an axis, on their way back to the image's grid.

    It does for tensors what ``planes``'s classes do for arrays, with all classes of all voxels: on a GPU
    looking for the voxels between classes would take longer.
    """

    def __init__(self, spec: ModelSpec, along: int, *, is_one_map: bool, of_logits: bool = False) -> None:
        self._spec, self._along, self._is_one_map = spec, along, is_one_map
        self._of_logits = of_logits
        self._logits: torch.Tensor | None = None
        self._planes: torch.Tensor | None = None

    @property
    def planes(self) -> int:
        """How many are held, up to the last one that was added."""
        return 0 if self._planes is None else int(self._planes.shape[self._along + 1])

    def start(self, logits: torch.Tensor, filled: int) -> int:
        """Begin with logits (class, i, j, k), each of whose planes fills so many voxels.

        Returns:
            How many planes to take at a time.
        """
        self._logits = logits
        plane = logits[0].numel() // max(1, logits.shape[self._along + 1])
        return max(1, SCORES // max(1, len(logits) * max(filled, plane)))

    def add(self, part: slice) -> None:
        """Take in some planes of the logits; of those before, only the last is kept."""
        import torch

        if self._logits is None:
            raise RuntimeError("start comes first")
        axis = self._along + 1
        logits = self._logits.narrow(axis, part.start, part.stop - part.start)
        if self._is_one_map:
            scores = (logits[1:].float() - logits[:1]) if len(logits) == 2 else logits.float()
            new = scores if self._of_logits else scores.sigmoid()
        else:
            new = logits.float() if self._of_logits else activate(logits, self._spec)
        front = [] if self._planes is None else [self._planes.narrow(axis, self.planes - 1, 1)]
        self._planes = torch.cat([*front, new], axis) if front else new

    def end(self) -> None:
        """Make do without the logits from here on."""
        self._logits = None

    def labels(self, taps: Sequence[Taps]) -> torch.Tensor:
        """Interpolate the planes in memory to the voxels that the taps reach, and take the strongest class there."""
        if self._planes is None:
            raise RuntimeError("add comes first")
        threshold = 0.0 if self._of_logits else 0.5
        planes, size = self._planes, self._planes.shape[1:]
        for axis in sorted(range(3), key=lambda axis: taps[axis].count / size[axis]):
            planes = interpolate_axis(planes, taps[axis], axis + 1)
        if not self._is_one_map:
            return pick_labels(planes, self._spec, threshold)
        return (planes[0] > threshold).to(mask_type(self._spec)) * single_value(self._spec)
