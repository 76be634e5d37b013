"""Draws batches: the deterministic transforms of each case run once, the random ones anew in every epoch.

The order of an epoch is a permutation that depends on the seed and the epoch's number alone. Every place in that order
has its own generator, seeded by (seed, epoch, place). So a batch depends on no other batch: threads may prepare
batches in any order, several processes share an epoch without talking to each other, and a continued training draws
what it would have.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

from voxflow.components import crop_or_pad
from voxflow.errors import DataError
from voxflow.progress import say

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    import torch
    from numpy.typing import NDArray

    from voxflow.components import Chain, Pipeline, Sample
    from voxflow.training.device_batches import DeviceAugmenter

FIELDS = ("image", "label")
Drawn = TypeVar("Drawn")


class SampleStore(Protocol):
    """Cases after their deterministic transforms, by position; see ``CachedStore``."""

    def __len__(self) -> int:
        """How many cases."""

    def __getitem__(self, index: int) -> Sample:
        """One case's sample; whoever reads it must not write into its arrays."""


@dataclass(frozen=True)
class Batch:
    """One batch of images with their labels.

    Attributes:
        image: (batch, channel, ...spatial), float32.
        label: masks (batch, 1, i, j, k), integers; findings (batch, finding), float32.
        cases: the case of each item.
        ready: of a batch that a GPU makes: the event after which it is there.
    """

    image: torch.Tensor
    label: torch.Tensor
    cases: tuple[str, ...]
    ready: Any = None

    def copy_to(self, device: torch.device, memory_format: torch.memory_format) -> tuple[torch.Tensor, torch.Tensor]:
        """Copy image and label to a device in the background.

        Args:
            device: where the network is.
            memory_format: of the image.
        """
        if self.ready is not None:
            import torch

            stream = torch.cuda.current_stream(device)
            stream.wait_event(self.ready)
            # Made in another stream, whose later batches must not take this memory before the step has used it.
            for tensor in (self.image, self.label):
                tensor.record_stream(stream)
        image = self.image.to(device, memory_format=memory_format, non_blocking=True)
        return image, self.label.to(device, non_blocking=True)


@dataclass(frozen=True)
class Batches:
    """Random batches of a store; the same seed gives the same, whatever the number of workers and processes.

    Every place in an epoch's order has its own random generator. So a batch depends on no batch before it, and two
    processes with batches of two draw the same patches as one process with batches of four.

    Attributes:
        store: the cases.
        chain: its tail is run.
        pipeline: says how many cases make a batch, and to which size images are fitted.
        seed: decides every random choice.
        workers: threads that prepare ahead; 0: the caller's own.
        rank: number of this process, counted from 0.
        world_size: number of processes that share an epoch.
        skip: a case whose transforms fail is named and replaced by the next one, instead of an error.
        pin: page-locked memory, from which a GPU copies in the background.
        augmenter: makes the batches on a device, of what is drawn here; None: they are made here.
    """

    store: SampleStore
    chain: Chain
    pipeline: Pipeline
    seed: int
    workers: int = 0
    rank: int = 0
    world_size: int = 1
    skip: bool = False
    pin: bool = False
    augmenter: DeviceAugmenter | None = None

    @property
    def steps(self) -> int:
        """Batches that this process takes an epoch; the last is filled up with cases from the epoch's beginning."""
        cases = len(self.pipeline.window(len(self.store), 1))
        return -(-cases // (self.pipeline.cases_per_step * self.world_size))

    @property
    def channels(self) -> int:
        """Channels of an image after every transform."""
        return int(self._make_batch([0], (self.seed, 1), 0).image.shape[1])

    def iterate_epoch(self, epoch: int, first_batch: int = 0) -> Iterator[Batch]:
        """Yield this process's batches of one epoch: every case once, in random order.

        Nothing is remembered from batch to batch, so that a continued epoch goes on with what it would have had.

        Args:
            epoch: counted from 1; decides the order and the patches.
            first_batch: batches to leave out at the beginning, which an interrupted training has had.

        Raises:
            DataError: a case can't be transformed, or the samples of one batch differ in shape.
        """
        order = np.random.default_rng((self.seed, epoch)).permutation(self.pipeline.window(len(self.store), epoch))
        cases_per_step = self.pipeline.cases_per_step
        # np.resize begins again with the first cases where the order is too short.
        case_rows = np.resize(order, (self.steps, self.world_size, cases_per_step))[:, self.rank]
        first_places = [(step * self.world_size + self.rank) * cases_per_step for step in range(self.steps)]
        jobs = [
            (list(map(int, cases)), (self.seed, epoch), place)
            for cases, place in zip(case_rows, first_places, strict=True)
        ]
        if not self.workers:
            for job in jobs[first_batch:]:
                yield self._make_batch(*job)
            return
        with ThreadPoolExecutor(self.workers) as pool:
            ahead: deque[Any] = deque()
            for job in jobs[first_batch:]:
                ahead.append(pool.submit(self._make_batch, *job))
                # One batch a worker is being made while the oldest is taken: memory holds workers + 1 batches.
                if len(ahead) > self.workers:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()

    def _make_batch(self, cases: list[int], seed: tuple[int, ...], first_place: int) -> Batch:
        seeds = [(case, (*seed, place)) for place, case in enumerate(cases, first_place)]
        if self.augmenter is None:
            return self._make_on_processor(seeds)
        return self._make_on_device(self.augmenter, seeds)

    def _make_on_processor(self, seeds: list[tuple[int, tuple[int, ...]]]) -> Batch:
        samples = [sample for case, seed in seeds for sample in self._try_case(case, seed, self._draw_patches)]
        batch = collate(samples, self.pipeline.output_crop_size)
        if not self.pin:
            return batch
        return Batch(batch.image.pin_memory(), batch.label.pin_memory(), batch.cases)

    def _make_on_device(self, augmenter: DeviceAugmenter, seeds: list[tuple[int, tuple[int, ...]]]) -> Batch:
        drawn = [self._try_case(case, seed, augmenter.draw) for case, seed in seeds]
        names = tuple(case.name for case in drawn for _ in case.draws)
        try:
            fields, ready = augmenter.apply(drawn, epoch=seeds[0][1][1])
            for name, items in fields.items():
                _require_one_shape(name, {tuple(item.shape) for item in items}, names)
            return Batch(fields["image"], fields["label"], names, ready)
        except (RuntimeError, ValueError, TypeError, LookupError, DataError) as error:
            augmenter.make_room_after(error)
            fault = f"{type(error).__name__}: {error}"
        # There a bad case is named, or replaced where that is allowed.
        batch = self._make_on_processor(seeds)
        say(f"warning: a batch was made on the processor (cases {', '.join(dict.fromkeys(names))}): {fault}")
        return batch

    def _draw_patches(self, sample: Sample, index: int, rng: np.random.Generator, epoch: int) -> list[Sample]:
        return self.chain.run_tail(sample, rng, epoch)

    def _try_case(
        self, index: int, seed: tuple[int, ...], draw: Callable[[Sample, int, np.random.Generator, int], Drawn]
    ) -> Drawn:
        """Draw from one case; from the next one where that fails and it is allowed.

        The seed is the training's own, then the epoch.
        """
        fault = ""
        for case in range(index, index + len(self.store)):
            sample: Sample = {"case": case}
            try:
                sample = self.store[case % len(self.store)]
                return draw(sample, case % len(self.store), np.random.default_rng(seed), seed[1])
            except Exception as error:
                fault = f"case {sample['case']}: {type(error).__name__}: {error}"
                if not self.skip:
                    raise DataError(f"{fault} (on_bad_case: skip goes on without it)") from error
                say(f"warning: {fault}; another case takes its place")
        raise DataError(f"no case is left that can be transformed; the last one: {fault}")


def collate(samples: Sequence[Sample], size: tuple[int, ...]) -> Batch:
    """Stack samples into one batch.

    Args:
        samples: each with ``image`` (channel, ...spatial), ``label`` and ``case``.
        size: voxels of each axis that images and masks are cropped or padded to; -1 leaves an axis as it is.

    Raises:
        DataError: the samples differ in shape.
    """
    import torch

    arrays = {name: [_fit_to_size(sample[name], size) for sample in samples] for name in FIELDS}
    for name, parts in arrays.items():
        _require_one_shape(name, {part.shape for part in parts}, [str(sample["case"]) for sample in samples])
    image, label = (torch.from_numpy(np.ascontiguousarray(np.stack(arrays[name]))) for name in FIELDS)
    return Batch(image, label, tuple(str(sample["case"]) for sample in samples))


def _require_one_shape(name: str, shapes: set[tuple[int, ...]], cases: Iterable[str]) -> None:
    if len(shapes) > 1:
        raise DataError(
            f"{name}s of one batch differ in shape: {sorted(shapes)} (cases {', '.join(cases)}); crop or scale them"
        )


def _fit_to_size(array: NDArray[Any], size: tuple[int, ...]) -> NDArray[Any]:
    # A list of findings has one axis and no size; only images and masks are fitted.
    return crop_or_pad(array, size) if array.ndim == len(size) + 1 else array
