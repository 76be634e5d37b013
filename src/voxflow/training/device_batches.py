"""Makes batches where the network is: what is random is drawn on the processor, and applied on the device.

Cases stay in the device's memory, in the type that they are stored in, as long as a bound allows. The others stay in
their files, which are mapped into memory, and only the box that a patch needs is copied, through page-locked memory. So
neither memory grows with the number of cases.
"""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from voxflow.components import TensorBatch, crop_or_pad, plain_name
from voxflow.progress import say
from voxflow.training.data import FIELDS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import torch
    from numpy.typing import NDArray

    from voxflow.components import Chain, Draw, Sample
    from voxflow.training.data import Batches
    from voxflow.training.options import TrainOptions

MB = 2**20
# The share of a GPU's free memory that cases may take; the network gets the rest.
FREE_SHARE = 0.4
GPU_WORKERS = 4  # threads that draw


class DeviceCases:
    """Cases after their deterministic transforms, as tensors.

    Args:
        device: where the network is.
        limit_mb: how much of the device's memory cases may take; None: four tenths of what is free on a GPU now, and
            nothing on a processor, where they need not be copied.
    """

    def __init__(self, device: torch.device, limit_mb: int | None) -> None:
        self.device = device
        self._bytes_left = _count_free_bytes(device) if limit_mb is None else limit_mb * MB
        self._residents: dict[int, dict[str, torch.Tensor]] = {}
        self._lock = threading.Lock()

    def release(self) -> bool:
        """Give the device's memory back, and keep no case there any more; tell whether there was one."""
        with self._lock:
            had_cases, self._residents, self._bytes_left = bool(self._residents), {}, 0
        return had_cases

    @property
    def used_bytes(self) -> int:
        """Memory of the device that cases take by now."""
        return sum(tensor.nbytes for tensors in self._residents.values() for tensor in tensors.values())

    def forecast_bytes(self, count: int) -> int:
        """Estimate the memory of the device that so many cases will take, by those that are there."""
        return min(self.used_bytes + self._bytes_left, self.used_bytes * count // max(1, self.count))

    @property
    def count(self) -> int:
        """How many cases are in the device's memory by now."""
        return len(self._residents)

    def fetch(self, index: int, sample: Sample, names: Sequence[str]) -> Mapping[str, torch.Tensor]:
        """Return the fields of a case as tensors, and keep them in the device's memory where there is room.

        Args:
            index: of the case.
            sample: the case, whose arrays are mapped.
            names: the fields that transforms read.

        Returns:
            Tensors on the device, or of the mapped arrays.
        """
        resident = self._residents.get(index)
        if resident is not None:
            return resident
        arrays = {name: sample[name] for name in names if isinstance(sample.get(name), np.ndarray)}
        tensors = {name: _as_tensor(array) for name, array in arrays.items()}
        with self._lock:
            if index not in self._residents:
                self._upload(index, tensors)
        return self._residents.get(index, tensors)

    def _upload(self, index: int, tensors: Mapping[str, torch.Tensor]) -> None:
        import torch

        size = sum(tensor.nbytes for tensor in tensors.values())
        if size > self._bytes_left:
            return
        try:
            # Waits until it is there, so that every stream may read it.
            self._residents[index] = {name: tensor.to(self.device, copy=True) for name, tensor in tensors.items()}
            self._bytes_left -= size
        except torch.OutOfMemoryError:
            self._bytes_left = 0
            torch.cuda.empty_cache()
            say(f"the GPU has no room for more than {self.count} cases; the others are copied patch by patch")


def place_batches(batches: Batches, options: TrainOptions, device: torch.device, threads: int) -> Batches:
    """Decide where batches are made, and say so where it is not where the network is.

    Args:
        batches: as :func:`voxflow.training.session.prepare_data` returns them.
        options: where to, how much memory cases may take, how many threads draw.
        device: where the network is.
        threads: those that this process may use.
    """
    is_gpu = device.type == "cuda"
    batches = replace(batches, pin=is_gpu)
    if options.augment_on == "processor" or (options.augment_on == "auto" and not is_gpu):
        return batches
    transform = batches.chain.find_array_transform()
    if transform is not None:
        name = plain_name(transform.component_name())
        say(f"batches are made on the processor: {name} has no code for a {'GPU' if is_gpu else 'device'} at its place")
        return batches
    cases = DeviceCases(device, options.gpu_cache_mb)
    augmenter = DeviceAugmenter(cases, batches.chain, batches.pipeline.output_crop_size, FIELDS)
    # Drawing takes little time, but a GPU takes none for a step.
    workers = min(GPU_WORKERS, threads - 1) if is_gpu and options.workers is None else batches.workers
    return replace(batches, augmenter=augmenter, workers=workers)


@dataclass(frozen=True, eq=False)
class DrawnCase:
    """What was drawn of a case.

    Attributes:
        name: of the case.
        tensors: its fields.
        draws: of each patch, the parameters of each random transform.
    """

    name: str
    tensors: Mapping[str, torch.Tensor]
    draws: list[tuple[Draw, ...]]


class DeviceAugmenter:
    """Draws patches of cases on the processor, and makes batches of them on a device.

    Args:
        cases: those to learn from.
        chain: its tail is drawn and applied.
        size: voxels of each axis that images and masks are cropped or padded to; -1 leaves an axis as it is.
        fields: the fields of a batch.
    """

    def __init__(self, cases: DeviceCases, chain: Chain, size: tuple[int, ...], fields: tuple[str, ...]) -> None:
        self._cases, self._chain, self._size, self._fields = cases, chain, size, fields
        self._names = tuple(dict.fromkeys([*fields, *(name for t in chain.tail for name in t.reads())]))
        self._stream: Any = _open_stream(cases.device)

    @property
    def cases(self) -> DeviceCases:
        """The cases that patches are drawn from."""
        return self._cases

    def draw(self, sample: Sample, index: int, rng: np.random.Generator, epoch: int) -> DrawnCase:
        """Draw the patches of one case.

        Args:
            sample: the case after its deterministic transforms.
            index: of the case.
            rng: the place's own generator.
            epoch: from 1.
        """
        with self._use_stream():
            tensors = self._cases.fetch(index, sample, self._names)
        return DrawnCase(str(sample["case"]), tensors, self._chain.draw_tail(sample, rng, epoch))

    def apply(self, cases: Sequence[DrawnCase], epoch: int) -> tuple[dict[str, Any], Any]:
        """Make the patches that were drawn.

        Args:
            cases: in the order of the batch.
            epoch: from 1.

        Returns:
            Each field of the batch (batch, ...), or a list where patches differ in shape; and an event that says when
            they are there, None on a processor.
        """
        import torch

        pairs = [(case.tensors, parameters) for case in cases for parameters in case.draws]
        items = {name: [tensors[name] for tensors, _ in pairs] for name in self._names if name in cases[0].tensors}
        with torch.no_grad(), self._use_stream() as stream:
            batch = TensorBatch(items, self._cases.device)
            batch = self._chain.apply_tail(batch, [parameters for _, parameters in pairs], epoch)
            fields = {name: self._fit(batch.gather(name)) for name in self._fields}
            return fields, None if stream is None else stream.record_event()

    def make_room_after(self, error: BaseException) -> None:
        """Give up the cases that are kept on the device, if an error says that its memory is too small."""
        import torch

        if isinstance(error, torch.OutOfMemoryError):
            # What the failed attempt held hangs on the frames of its traceback.
            error.__traceback__ = None
            self._cases.release()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()

    @contextlib.contextmanager
    def _use_stream(self) -> Iterator[Any]:
        """Work beside what the network computes; on a GPU alone."""
        import torch

        with contextlib.nullcontext() if self._stream is None else torch.cuda.stream(self._stream):
            yield self._stream

    def _fit(self, items: Any) -> Any:
        import torch

        # A list of findings has one axis and no size; only images and masks are fitted.
        if items[0].ndim != len(self._size) + 1:
            return items
        fitted = [crop_or_pad(item, self._size) for item in items]
        is_same = all(after.shape == before.shape for after, before in zip(fitted, items, strict=True))
        if isinstance(items, torch.Tensor) and is_same:
            return items
        return torch.stack(fitted) if len({item.shape for item in fitted}) == 1 else fitted


def _open_stream(device: torch.device) -> Any:
    """A stream beside the one in which the network computes; None on a processor."""
    import torch

    return torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]


def _count_free_bytes(device: torch.device) -> int:
    import torch

    return int(torch.cuda.mem_get_info(device)[0] * FREE_SHARE) if device.type == "cuda" else 0


def _as_tensor(array: NDArray[Any]) -> torch.Tensor:
    """A tensor of the same memory; of unsigned types that torch hardly knows, a copy of a type with a sign."""
    import torch

    native = array.astype(array.dtype.newbyteorder("="), copy=False)
    if native.dtype.kind == "u" and native.dtype.itemsize > 1:
        native = native.astype(f"i{min(8, 2 * native.dtype.itemsize)}")
    return torch.from_numpy(np.ascontiguousarray(native) if min(native.strides, default=0) < 0 else native)
