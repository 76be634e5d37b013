"""Transforms in a row: building them, and splitting what is the same every time from what is random."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from voxflow.components.catalogue import create
from voxflow.components.transforms.base import Draw, RandomTransform, Sample, Transform
from voxflow.components.unlabelled import mark_unlabelled

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy as np

    from voxflow.components.component import ComponentReference
    from voxflow.components.transforms.tensors import TensorBatch


def build_transform(component: ComponentReference) -> Transform:
    """Build a transform from its name and arguments.

    Args:
        component: its name in the registry and its arguments as plain JSON values.

    Returns:
        A callable on a sample (see ``Sample``).

    Raises:
        ConfigError: the name is unknown or an argument does not fit.

    Example:
        >>> import numpy as np
        >>> from voxflow.components import Component
        >>> repeat = build_transform(Component(name="RepeatChannel", args={"fields": ["image"], "repeat_times": 3}))
        >>> repeat({"image": np.zeros((1, 4, 4, 4))})["image"].shape
        (3, 4, 4, 4)
    """
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
        """Build every component and split them before the first random one.

        Raises:
            ConfigError: a name is unknown or an argument does not fit.
        """
        transforms = [build_transform(component) for component in components]
        first = next((n for n, t in enumerate(transforms) if t.is_random), len(transforms))
        return cls(tuple(transforms[:first]), tuple(transforms[first:]))

    def run_head(self, sample: Sample) -> Sample:
        """Run the deterministic part of the chain on one case.

        Returns:
            What may be cached for the whole training: the sample, with what the first random transform needs to know of
            it beside it (a crop notes where the label lies).
        """
        for transform in self.head:
            sample = mark_unlabelled(transform(sample))
        # Later random transforms see what the first has drawn, so that nothing can be known once for them.
        if self.tail and isinstance(self.tail[0], RandomTransform):
            sample = self.tail[0].prepare(sample)
        return sample

    def run_tail(self, sample: Sample, rng: np.random.Generator, epoch: int = 1) -> list[Sample]:
        """Run the random part of the chain on what the head has made of one case.

        Args:
            sample: the head's result; it stays as it is.
            rng: the case's own generator, so that the result does not hang on the order of cases.
            epoch: from 1; a crop may change its ratio from epoch to epoch.

        Returns:
            One sample, or several where a crop makes more than one patch.
        """
        samples = [sample]
        for transform in self.tail:
            now = transform.at_epoch(epoch)
            samples = [result for patch in samples for result in now.run(patch, rng)]
        return samples

    def find_array_transform(self) -> Transform | None:
        """Find the first transform of the tail that works on arrays alone; None: a batch of tensors can take the tail.

        One that draws from voxels can only be the first: later ones are drawn before anything was applied.
        """
        for number, transform in enumerate(self.tail):
            if not transform.takes_tensors or (number and transform.draws_from_voxels):
                return transform
        return None

    def draw_tail(self, sample: Sample, rng: np.random.Generator, epoch: int = 1) -> list[tuple[Draw, ...]]:
        """Draw what :meth:`run_tail` would, the same numbers in the same order, and apply nothing.

        Args:
            sample: the head's result.
            rng: the case's own generator.
            epoch: from 1.

        Returns:
            The parameters of each transform of the tail, for each sample that ``run_tail`` would return.
        """
        outlines: list[tuple[Sample, tuple[Draw, ...]]] = [(sample, ())]
        for transform in self.tail:
            now = transform.at_epoch(epoch)
            outlines = [
                (now.outline(outline, parameters), (*earlier, parameters))
                for outline, earlier in outlines
                for parameters in now.draw_all(outline, rng)
            ]
        return [parameters for _, parameters in outlines]

    def apply_tail(self, batch: TensorBatch, draws: Sequence[tuple[Draw, ...]], epoch: int = 1) -> TensorBatch:
        """Apply to a batch of tensors what was drawn for each of its items.

        Args:
            batch: fields as the head has made them, for each item those of its case.
            draws: of each item, as :meth:`draw_tail` returned them.
            epoch: from 1.

        Returns:
            The samples that ``run_tail`` would return, on the batch's device.
        """
        for number, transform in enumerate(self.tail):
            batch = transform.at_epoch(epoch).apply_tensors(batch, [parameters[number] for parameters in draws])
        return batch
