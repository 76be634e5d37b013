"""Labels of brain tumours as the nested classes of BraTS, and an organ's extreme points as a channel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import BeforeValidator, Field, PositiveFloat

from voxflow.components.registry import register
from voxflow.components.transforms.base import (
    LABEL,
    Draw,
    FieldNames,
    FieldTransform,
    RandomTransform,
    Sample,
    get_field,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from numpy.typing import NDArray

Tumour = Literal["TC", "WT", "ET"]
# Label values of each class: 1 the necrotic and solid core, 2 oedema, 4 enhancing tumour, which some data sets call 3.
BRATS_VALUES: dict[Tumour, tuple[int, ...]] = {"TC": (1, 4, 3), "WT": (2, 1, 4, 3), "ET": (4, 3)}
LARGEST_PERTURBATION = 4.0  # voxels, where a configuration only says that there is one


@register("transform", dialect="tlt2")
class BratsConvertLabels(FieldTransform):
    """Turn BraTS label values into one mask for each of the nested classes.

    Attributes:
        classes: tumour core, whole tumour and enhancing tumour, in the order of the channels.
    """

    fields: FieldNames
    classes: Annotated[
        tuple[Tumour, ...], BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else value)
    ] = ("TC", "WT", "ET")

    def channels_after(self, channels: Mapping[str, int]) -> Mapping[str, int]:
        """One a class."""
        return dict.fromkeys(self.fields, len(self.classes))

    def list_regions(self, values: Collection[int]) -> Mapping[str, tuple[int, ...]]:
        """The values of each class; of 3 and 4, which mean the same, the one that the data have."""
        if LABEL not in self.fields:
            return {}
        return {name: select_present(BRATS_VALUES[name], values) for name in self.classes}

    def change(self, array: NDArray[Any]) -> NDArray[Any]:
        """Turn label values into one mask a class.

        Args:
            array: (1, i, j, k) of the values 0 to 4.

        Returns:
            (class, i, j, k) uint8.

        Raises:
            ValueError: the label has several channels, or other values.
        """
        unknown = set(np.unique(array).tolist()) - {0, 1, 2, 3, 4}
        if len(array) != 1 or unknown:
            received = f"{len(array)} channels" if len(array) != 1 else f"values {sorted(unknown)}"
            raise ValueError(f"a BraTS label has one channel of values 0 to 4, received {received}")
        return np.concatenate([np.isin(array, BRATS_VALUES[name]) for name in self.classes]).astype(np.uint8)


def select_present(values: tuple[int, ...], present: Collection[int]) -> tuple[int, ...]:
    """The values that the data have; all of them where the data have none, or where that is not known.

    Example:
        >>> select_present((1, 4, 3), {0, 1, 2, 3}), select_present((4, 3), ())
        ((1, 3), (4, 3))
    """
    return tuple(value for value in values if value in present) or values


@register("transform", dialect="tlt2")
class AddExtremePointsChannel(RandomTransform):
    """Add a channel to the image in which the outermost points of the label, two an axis, are Gaussians.

    Of several points that are equally far out the middle one is taken, or with ``pert`` any, and then moved.

    Attributes:
        sigma: standard deviation of the Gaussians, voxels.
        pert: move each point at random, by up to so many voxels along each axis; true: by up to 4.
    """

    image_field: str = "image"
    label_field: str = "label"
    sigma: PositiveFloat = 3.0
    pert: Annotated[
        float,
        Field(ge=0),
        BeforeValidator(lambda value: LARGEST_PERTURBATION * value if isinstance(value, bool) else value),
    ] = 0.0

    @property
    def is_random(self) -> bool:
        """Where points are moved."""
        return self.pert > 0

    def makes(self) -> tuple[str, ...]:
        """The image."""
        return (self.image_field,)

    def channels_after(self, channels: Mapping[str, int]) -> Mapping[str, int]:
        """One more."""
        return {self.image_field: channels[self.image_field] + 1} if self.image_field in channels else {}

    def draw(self, sample: Sample, rng: np.random.Generator) -> Draw:
        """Choose the outermost points of the label, two an axis.

        Returns:
            "points": (axis × 2, axis) voxel indices.

        Raises:
            ValueError: the label is empty.
        """
        label = get_field(sample, self.label_field, self).any(0)
        inside = np.argwhere(label)
        if not len(inside):
            raise ValueError(f"AddExtremePointsChannel needs a foreground voxel; {self.label_field!r} has none")
        points = []
        for axis in range(label.ndim):
            for extreme in (inside[:, axis].min(), inside[:, axis].max()):
                # A flat face has many outermost voxels; without chance its middle one stands for all.
                equal = inside[inside[:, axis] == extreme]
                points.append(equal[rng.integers(len(equal)) if self.is_random else len(equal) // 2])
        moved = np.array(points) + rng.uniform(-self.pert, self.pert, (len(points), label.ndim)) * self.is_random
        return {"points": np.clip(np.rint(moved), 0, np.array(label.shape) - 1).astype(int)}

    def apply(self, sample: Sample, parameters: Draw) -> Sample:
        """Add the points to the image as Gaussians.

        Returns:
            The sample with one more channel of the image, float32 from -1 (far away) to 1 (at a point).
        """
        from scipy import ndimage

        image = get_field(sample, self.image_field, self)
        marks = np.zeros(image.shape[1:], np.float32)
        marks[tuple(np.asarray(parameters["points"]).T)] = 1
        spread = ndimage.gaussian_filter(marks, self.sigma, mode="constant")
        low, high = float(spread.min()), float(spread.max())
        channel = (spread - low) / max(high - low, np.finfo(np.float32).tiny) * 2 - 1
        return sample | {self.image_field: np.concatenate([image, channel[None].astype(np.float32)])}
