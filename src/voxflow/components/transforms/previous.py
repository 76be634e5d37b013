"""The mask of a first stage beside the image, for the network of the second: as channels, disturbed a little.

In training a first stage has seen other cases, and its mask is as wrong as that of a new case, but always in the same
way. So nnU-Net's trainer changes it each time (``nnUNetTrainer.get_training_transforms``), with the probabilities that
are repeated here: it grows, shrinks, opens or closes each class, and removes small components.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field

from voxflow.components.registry import register
from voxflow.components.transforms.base import Draw, Probability, RandomTransform, Sample, get_field, outline_fields
from voxflow.components.transforms.loading import IMAGE_FIELD, PREVIOUS_FIELD

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import torch
    from numpy.typing import NDArray

    from voxflow.components.transforms.tensors import TensorBatch

SHARE_CHANGED, SHARE_REMOVED = 0.4, 0.2  # of the patches
LARGEST_REMOVED = 0.15  # of the patch's voxels
# Half the edge of a cube, voxels: the largest has as many voxels as nnU-Net's largest ball, of radius 8.
RADII = (1, 6)
OPERATIONS = ("grow", "shrink", "open", "close")
STEPS: Mapping[str, tuple[bool, ...]] = {  # True: grow; False: shrink
    "grow": (True,),
    "shrink": (False,),
    "open": (False, True),
    "close": (True, False),
}


@register("transform")
class ShowPreviousMask(RandomTransform):
    """Put the mask of the first stage behind the image's channels: for each class 1 inside and 0 outside.

    Attributes:
        field: the image, (channel, i, j, k) float32.
        previous_field: the mask, (1, i, j, k) of label values on the image's grid.
        values: the label values that become channels, in this order.
        disturbance: 1: each class of the mask is changed as often as nnU-Net does; 0: never, as in validation.

    Example:
        >>> show = ShowPreviousMask(field="image", values=(1, 2))
        >>> sample = {"image": np.zeros((1, 1, 1, 3), np.float32), "previous": np.array([[[[0, 2, 1]]]], np.uint8)}
        >>> show(sample)["image"][:, 0, 0].tolist()
        [[0.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0]]
    """

    is_preprocessing: ClassVar[bool] = False

    field: str = IMAGE_FIELD
    previous_field: str = PREVIOUS_FIELD
    values: tuple[int, ...] = Field(min_length=1)
    disturbance: Probability = 0.0

    @property
    def is_random(self) -> bool:
        """Where it disturbs the mask."""
        return self.disturbance > 0

    def reads(self) -> tuple[str, ...]:
        """The image and the mask."""
        return self.field, self.previous_field

    def makes(self) -> tuple[str, ...]:
        """The image."""
        return (self.field,)

    def channels_after(self, channels: Mapping[str, int]) -> Mapping[str, int]:
        """The image has one more for each class."""
        return {self.field: channels[self.field] + len(self.values)} if self.field in channels else {}

    def draw(self, sample: Sample, rng: np.random.Generator) -> Draw:
        """Choose what is changed.

        Returns:
            "operations": for each class a name of OPERATIONS, or ""; "radii" of their cubes, voxels; "removed": for
            each class which of its components is removed, as a share from 0 to 1 of their number, or -1 for none.
        """
        count = len(self.values)
        # Everything is drawn whatever is used, so that one chance leaves the others as they were.
        is_changed, is_removed = rng.random(2) < np.array((SHARE_CHANGED, SHARE_REMOVED)) * self.disturbance
        operations = rng.choice(OPERATIONS, count).tolist()
        radii = rng.integers(RADII[0], RADII[1] + 1, count).tolist()
        shares = rng.random(count).tolist()
        return {
            "operations": operations if is_changed else [""] * count,
            "radii": radii,
            "removed": shares if is_removed else [-1.0] * count,
        }

    def apply(self, sample: Sample, parameters: Draw) -> Sample:
        """Return the sample with the classes of the mask behind the image's channels, changed as drawn."""
        import torch

        image, mask = get_field(sample, self.field, self), get_field(sample, self.previous_field, self)
        channels = self._make_channels(torch.from_numpy(np.ascontiguousarray(mask)), parameters).numpy()
        return sample | {self.field: np.concatenate([np.asarray(image, dtype=np.float32), channels])}

    @property
    def takes_tensors(self) -> bool:
        """It computes by torch; but components are found on the processor."""
        return True

    def outline(self, sample: Sample, parameters: Draw) -> Sample:
        """The image has one more channel for each class."""
        return outline_fields(sample, (self.field,), channels=len(sample[self.field]) + len(self.values))

    def apply_tensors(self, batch: TensorBatch, draws: Sequence[Draw]) -> TensorBatch:
        """Do to each item what :meth:`apply` does to a sample."""
        import torch

        from voxflow.components.transforms.tensors import gather_items

        triples = zip(batch.gather(self.field), batch.gather(self.previous_field), draws, strict=True)
        items = [torch.cat([image.float(), self._make_channels(mask, drawn)]) for image, mask, drawn in triples]
        return batch.replace({self.field: gather_items(items, batch.device)})

    def _make_channels(self, mask: torch.Tensor, parameters: Draw) -> torch.Tensor:
        """Make the channels (class, i, j, k), float32, of a mask (1, i, j, k)."""
        import torch

        if len(mask) != 1:
            raise ValueError(f"the mask of a first stage has one channel, received {len(mask)}")
        channels = torch.stack([mask[0] == value for value in self.values]).float()
        for number, operation in enumerate(parameters["operations"]):
            if operation:
                _change_shape(channels, number, operation, parameters["radii"][number])
        for number, share in enumerate(parameters["removed"]):
            if share >= 0:
                _remove_component(channels[number], share)
        return channels


def _change_shape(channels: torch.Tensor, number: int, operation: str, radius: int) -> None:
    """Change one class by a cube, in place; the others lose what it gains."""
    changed = channels[number]
    for grows in STEPS[operation]:
        changed = _grow(changed, radius) if grows else 1 - _grow(1 - changed, radius)
    gained = changed * (1 - channels[number])
    channels *= 1 - gained
    channels[number] = changed


def _grow(mask: torch.Tensor, radius: int) -> torch.Tensor:
    """Set each voxel (i, j, k) that has one of the mask within a cube; beyond the patch there is none."""
    from torch.nn.functional import max_pool3d

    grown = mask[None, None]
    for axis in range(3):  # a cube is as quick axis by axis as a line
        kernel, padding = [1, 1, 1], [0, 0, 0]
        kernel[axis], padding[axis] = 2 * radius + 1, radius
        grown = max_pool3d(grown, kernel, stride=1, padding=padding)
    return grown[0, 0]


def _remove_component(channel: torch.Tensor, share: float) -> None:
    """Set one connected component (i, j, k) to 0 in place, of those that cover little of the patch."""
    import torch
    from scipy.ndimage import label

    components, count = label(channel.cpu().numpy(), structure=np.ones((3, 3, 3)))
    sizes = np.bincount(components.ravel(), minlength=count + 1)[1:]
    small: NDArray[np.intp] = np.flatnonzero(sizes < LARGEST_REMOVED * components.size) + 1
    if len(small):
        chosen = small[min(int(share * len(small)), len(small) - 1)]
        is_removed: Any = torch.from_numpy(components == chosen).to(channel.device)
        channel.masked_fill_(is_removed, 0)
