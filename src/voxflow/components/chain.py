"""Owns transforms in a row: building them, and splitting the deterministic head from the random tail."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from voxflow.components.catalogue import create
from voxflow.components.transforms.base import RandomTransform, Sample, Transform

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np

    from voxflow.components.component import ComponentReference


def build_transform(component: ComponentReference) -> Transform:
    """Build a transform from its name and arguments; call it on a sample (see ``Sample``)."""
    return cast("Transform", create("transform", component))


@dataclass(frozen=True)
class Chain:
    """Transforms in order.

    Attributes:
        head: those before the first random one; they give the same for a case each time, so they run once.
        tail: the first random one and all that follow.
    """

    head: tuple[Transform, ...]
    tail: tuple[Transform, ...]

    @classmethod
    def build(cls, components: Iterable[ComponentReference]) -> Chain:
        """Build every component and split them."""
        transforms = [build_transform(component) for component in components]
        first = next((n for n, t in enumerate(transforms) if t.is_random), len(transforms))
        return cls(tuple(transforms[:first]), tuple(transforms[first:]))

    def run_head(self, sample: Sample) -> Sample:
        """Run the deterministic part, and what the tail's transforms want to know once."""
        for transform in self.head:
            sample = transform(sample)
        if self.tail and isinstance(self.tail[0], RandomTransform):
            sample = self.tail[0].prepare(sample)
        return sample

    def run_tail(self, sample: Sample, rng: np.random.Generator, epoch: int = 1) -> list[Sample]:
        """Run the random part as it is in an epoch, from 1; a crop may make several samples."""
        samples = [sample]
        for transform in self.tail:
            now = transform.at_epoch(epoch)
            samples = [result for patch in samples for result in now.run(patch, rng)]
        return samples
