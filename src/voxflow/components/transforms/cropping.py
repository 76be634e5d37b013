"""Transforms that take patches out of an image, around its label or anywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

import numpy as np
from pydantic import (
    AliasChoices,
    BeforeValidator,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from voxflow.components.registry import register
from voxflow.components.transforms.base import (
    Draw,
    FieldNames,
    RandomFieldTransform,
    RandomTransform,
    Sample,
    get_field,
    outline_fields,
)
from voxflow.components.transforms.boxes import cut_fields, cut_tensors, cut_window
from voxflow.components.transforms.grids import move_affines, read_geometry
from voxflow.components.unlabelled import UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from voxflow.components.fields import GridShape
    from voxflow.components.transforms.tensors import TensorBatch

FOREGROUND = "foreground"  # the sample's key for flat indices of labelled voxels
BY_CLASS = "foreground_by_class"  # the same of each class apart
FIRST_CLASS = "foreground_first"  # the label's first channel that is no background
BACKGROUND = "labelled_background"  # flat indices of voxels outside every class, where some were not labelled
MAX_FOREGROUND = 100_000  # enough to draw centres from; keeps the cache small for large organs


Limits = Annotated[
    tuple[PositiveFloat, ...],
    BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else (value,)),
    Field(min_length=1),
]


class RatioCrop(RandomTransform):
    """Patches whose centre lies inside the label with probability pos / (pos + neg), and outside else.

    Attributes:
        fields: images to crop, also under the name ``image_field``; the label is cropped with them.
        label_field: the mask that says where inside is.
        size: (i, j, k) of a patch in voxels.
        pos: weight of centres inside the label.
        neg: weight of centres outside it.
        batch_size: patches taken from one sample.
        classes_alike: centres inside fall on each class of the label equally often, however small it is; else on
            each labelled voxel.
    """

    draws_from_voxels: ClassVar[bool] = True

    fields: FieldNames = Field(validation_alias=AliasChoices("fields", "image_field"))
    label_field: str = "label"
    size: tuple[PositiveInt, PositiveInt, PositiveInt]
    pos: NonNegativeFloat = 1.0
    neg: NonNegativeFloat = 1.0
    batch_size: PositiveInt = 1
    classes_alike: bool = False

    @model_validator(mode="after")
    def _check_ratio(self) -> Self:
        if self.pos + self.neg == 0:
            raise ValueError("pos and neg must not both be 0")
        return self

    def prepare(self, sample: Sample) -> Sample:
        """Note where the label lies: any class but the background, which of one-hot masks is the first channel.

        Returns:
            The sample with flat indices of labelled voxels, at most 100,000 of them, under "foreground".
        """
        label = get_field(sample, self.label_field, self)
        # One-hot masks have one class a voxel, the first the background; nested ones have voxels of none or several.
        first = int(len(label) > 1 and bool(((label != 0).sum(0) == 1).all()))
        foreground = label > 0 if label.dtype.kind == "i" else label
        inside = np.flatnonzero(foreground[first:].any(0) if len(label) > 1 else foreground[0])
        prepared = sample | {FOREGROUND: _thin_out(inside), FIRST_CLASS: first}
        if label.dtype.kind == "i" and label.min(initial=0) < 0:
            outside = (label != UNKNOWN).any(0) & ~foreground.any(0)
            prepared |= {BACKGROUND: _thin_out(np.flatnonzero(outside))}
        if not self.classes_alike:
            return prepared
        if len(label) > 1:
            by_class = {n: np.flatnonzero(foreground[n]) for n in range(first, len(label))}
        else:
            values = label[0].ravel()[inside]
            by_class = {int(value): inside[values == value] for value in np.unique(values)}
        return prepared | {BY_CLASS: {value: _thin_out(indices) for value, indices in by_class.items() if indices.size}}

    def run(self, sample: Sample, rng: np.random.Generator) -> list[Sample]:
        """Return ``batch_size`` patches of one sample, each drawn anew."""
        prepared = sample if FOREGROUND in sample else self.prepare(sample)
        patches = [self(prepared, rng) for _ in range(self.batch_size)]
        prepared_keys = (FOREGROUND, BY_CLASS, FIRST_CLASS, BACKGROUND)
        return [{key: value for key, value in patch.items() if key not in prepared_keys} for patch in patches]

    def draw_all(self, sample: Sample, rng: np.random.Generator) -> list[Draw]:
        """Draw ``batch_size`` patches."""
        prepared = sample if FOREGROUND in sample else self.prepare(sample)
        return [self.draw(prepared, rng) for _ in range(self.batch_size)]

    def outline(self, sample: Sample, parameters: Draw) -> Sample:
        """The fields have the patch's size."""
        return outline_fields(sample, self.cropped_fields, self.size)

    def draw_centre(self, sample: Sample, rng: np.random.Generator) -> NDArray[np.int64]:
        """Choose a voxel inside or outside the label.

        Outside needs no list of voxels: a few tries find one soon, since most of an image is background. Where some
        voxels were not labelled there is one, since these may be most of the image, as in nnU-Net.

        Returns:
            Its index (i, j, k).
        """
        label = sample[self.label_field][sample[FIRST_CLASS] :]
        inside = sample[FOREGROUND]
        if inside.size and rng.random() * (self.pos + self.neg) < self.pos:
            by_class = sample.get(BY_CLASS)
            if by_class:
                inside = by_class[sorted(by_class)[int(rng.integers(len(by_class)))]]
            return np.array(np.unravel_index(int(rng.choice(inside)), label.shape[1:]))
        outside = sample.get(BACKGROUND)
        if outside is not None and (outside.size or inside.size):
            flat = int(rng.choice(outside if outside.size else inside))
            return np.array(np.unravel_index(flat, label.shape[1:]))
        # Where 95 % of the image are labelled, 50 tries miss with 8 %; then the last one serves as it is.
        for _ in range(50):
            centre = rng.integers(label.shape[1:])
            if not label[(slice(None), *centre)].any():
                break
        return np.asarray(centre)

    @property
    def cropped_fields(self) -> tuple[str, ...]:
        """The fields that are cropped, label included."""
        return (*(name for name in self.fields if name != self.label_field), self.label_field)


def _thin_out(indices: NDArray[np.int64]) -> NDArray[np.int64]:
    """At most MAX_FOREGROUND of them, evenly."""
    # Division rounded up.
    return indices[:: max(1, -(-indices.size // MAX_FOREGROUND))].astype(np.int64)


@register("transform")
class FastCropByPosNegRatio(RatioCrop):
    """Crop patches that stay inside the image; an image smaller than a patch is padded with 0.

    Attributes:
        batches_to_gen_at_once: accepted: images stay at hand here, so that nothing is won by cutting patches ahead.
    """

    batches_to_gen_at_once: PositiveInt = 1

    def draw(self, sample: Sample, rng: np.random.Generator) -> Draw:
        """Choose the first voxel of the patch.

        Returns:
            "start": (i, j, k), kept so that the patch stays inside; negative where the image is smaller and padding
            begins.
        """
        shape = np.array(sample[self.label_field].shape[1:])
        size = np.array(self.size)
        start = np.clip(self.draw_centre(sample, rng) - size // 2, 0, np.maximum(shape - size, 0))
        return {"start": np.where(shape < size, -((size - shape) // 2), start)}

    def apply(self, sample: Sample, parameters: Draw) -> Sample:
        """Cut every field alike."""
        return cut_fields(sample, self.cropped_fields, parameters["start"], self.size, by=self)

    @property
    def takes_tensors(self) -> bool:
        """A window of a tensor is one of an array."""
        return True

    def apply_tensors(self, batch: TensorBatch, draws: Sequence[Draw]) -> TensorBatch:
        """Cut every field alike."""
        return cut_tensors(batch, self.cropped_fields, draws, self.size)


@register("transform")
class FastPosNegRatioCropROI(RatioCrop):
    """Crop patches rotated, scaled and deformed about their centre, all in one interpolation of the patch alone.

    Angles are true angles: the voxel spacing that the loader noted is respected. Outside the image is 0. A patch of one
    voxel along an axis is turned and bent in its plane alone.

    Attributes:
        rotation: turn about all three axes, each angle drawn from [-rotation_degree, rotation_degree].
        rotation_degree: degrees.
        scale: magnify by a factor drawn from [1 - scale_factor, 1 + scale_factor].
        scale_factor: share of the size.
        deform: bend by a smooth random field.
        deform_magnitude: standard deviation of the bending at its control points, mm.
        fast_crop: accepted: only the voxels that the patch needs are ever read.
    """

    rotation: bool = False
    rotation_degree: float = Field(default=15.0, ge=0, le=180)
    scale: bool = False
    scale_factor: float = Field(default=0.1, ge=0, lt=1)
    deform: bool = False
    deform_magnitude: PositiveFloat = 2.0
    fast_crop: bool = True

    def draw(self, sample: Sample, rng: np.random.Generator) -> Draw:
        """Choose the centre, angles, factor and control points of one patch.

        Returns:
            "centre": fractional voxel index (i, j, k); "angles": radians about (i, j, k); "factor": above 1 to magnify;
            "bend": displacements (3, 5, 5, 5) in mm, or None; "spacing": mm, of the image.
        """
        drawn: Draw = {
            # Drawn whatever is switched on, so that switching one off leaves the others as they were.
            "centre": self._centre(sample, rng),
            "angles": np.deg2rad(rng.uniform(-self.rotation_degree, self.rotation_degree, 3)) * self.rotation,
            "factor": 1 + rng.uniform(-self.scale_factor, self.scale_factor) * self.scale,
            "bend": rng.normal(0, self.deform_magnitude, (3, 5, 5, 5)) if self.deform else None,
            "spacing": np.asarray(read_geometry(sample, self.fields[0]).spacing),
        }
        for axis in (axis for axis, n in enumerate(self.size) if n == 1):
            # A single slice stays in its plane: between thick slices there is nothing to read.
            drawn["angles"] *= np.arange(3) == axis
            if drawn["bend"] is not None:
                drawn["bend"][axis] = 0
        return drawn

    def _centre(self, sample: Sample, rng: np.random.Generator) -> NDArray[np.float64]:
        """The patch's centre: kept inside the image, in its middle where the patch is larger."""
        shape = np.array(sample[self.label_field].shape[1:])
        half = (np.array(self.size) - 1) / 2
        centre = np.clip(self.draw_centre(sample, rng), half, np.maximum(shape - 1 - half, half))
        return np.where(shape <= self.size, (shape - 1) / 2, centre)

    def apply(self, sample: Sample, parameters: Draw) -> Sample:
        """Sample every field at the same points of space, and note the turned grid as its affine.

        Returns:
            The sample with fields (channel, *size); a bend is no part of the affine.
        """
        # Here, because it imports torch, which a check of a configuration does without.
        from voxflow.components.transforms.patches import patch_matrix, patch_points, sample_at

        spacing = np.asarray(read_geometry(sample, self.fields[0]).spacing)
        matrix = patch_matrix(spacing, parameters["angles"], parameters["factor"])
        begin = parameters["centre"] - matrix @ ((np.array(self.size) - 1) / 2)
        points = patch_points(
            self.size,
            parameters["centre"],
            spacing,
            angles=parameters["angles"],
            factor=parameters["factor"],
            bend=parameters["bend"],
        )
        patches = {name: sample_at(get_field(sample, name, self), points) for name in self.cropped_fields}
        return sample | patches | move_affines(sample, self.cropped_fields, matrix, begin)

    @property
    def takes_tensors(self) -> bool:
        """All items of a batch are sampled at once."""
        return True

    def apply_tensors(self, batch: TensorBatch, draws: Sequence[Draw]) -> TensorBatch:
        """Sample every field of every item, each at its own points."""
        from voxflow.components.transforms.patches import PatchPose, sample_patches

        poses: list[PatchPose] = [PatchPose.of_draw(parameters) for parameters in draws]
        names = self.cropped_fields
        return batch.replace(
            {name: sample_patches(batch.fields[name], poses, self.size, batch.device) for name in names}
        )


@register("transform")
class CropRandomSizeWithDisplacement(RandomFieldTransform):
    """Crop a box of random size about a displaced centre, inside the image.

    Attributes:
        lower_size: smallest size, one value or one an axis: a share of the image up to 1.0, or voxels above.
        max_displacement: farthest that the box's centre moves from the image's, voxels; it stays inside.
        keep_aspect: the box has the image's proportions.
    """

    lower_size: Limits
    max_displacement: NonNegativeFloat | tuple[NonNegativeFloat, ...] = 0.0
    keep_aspect: bool = False

    def grid_after(self, grid: GridShape) -> GridShape | None:
        """Chance decides."""
        return None

    def draw(self, sample: Sample, rng: np.random.Generator) -> Draw:
        """Choose the first voxel and the size of the box.

        Returns:
            "start" and "size", voxels along each spatial axis; the box stays inside the image.
        """
        shape = np.array(self.shape_of(sample))
        limits = np.broadcast_to(self.lower_size, shape.shape)
        lower = np.clip(np.ceil(np.where(limits <= 1, limits * shape, limits)), 1, shape).astype(int)
        if self.keep_aspect:
            size = np.maximum(1, np.rint(shape * rng.uniform((lower / shape).max(), 1))).astype(int)
        else:
            size = rng.integers(lower, shape, endpoint=True)
        reach = np.broadcast_to(np.floor(self.max_displacement).astype(int), shape.shape)
        start = (shape - size) // 2 + rng.integers(-reach, reach, endpoint=True)
        return {"start": np.clip(start, 0, shape - size), "size": size}

    def apply(self, sample: Sample, parameters: Draw) -> Sample:
        """Cut every field alike."""
        return cut_fields(sample, self.changed_fields, parameters["start"], parameters["size"], by=self)

    def change(self, array: NDArray[Any], parameters: Draw) -> NDArray[Any]:
        """Return (channel, *size)."""
        box: NDArray[Any] = cut_window(array, parameters["start"], parameters["size"])
        return box

    def outline(self, sample: Sample, parameters: Draw) -> Sample:
        """The fields have the size that was drawn."""
        return outline_fields(sample, self.changed_fields, parameters["size"])

    @property
    def takes_tensors(self) -> bool:
        """A window of a tensor is one of an array."""
        return True

    def apply_tensors(self, batch: TensorBatch, draws: Sequence[Draw]) -> TensorBatch:
        """Cut every field alike."""
        return cut_tensors(batch, self.changed_fields, draws)


@register("transform")
class CropFixedSizeRandomCenter(RandomFieldTransform):
    """Crop a box of fixed size anywhere inside the image; a smaller image is padded with 0 about its middle."""

    size: tuple[PositiveInt, ...] = Field(min_length=2, max_length=3)

    def draw(self, sample: Sample, rng: np.random.Generator) -> Draw:
        """Choose the first voxel of the box.

        Returns:
            "start": one index a spatial axis, negative where the image is smaller and padding begins.
        """
        shape, size = np.array(self.shape_of(sample)), np.array(self.size)
        start = rng.integers(0, np.maximum(shape - size, 0), endpoint=True)
        return {"start": np.where(shape < size, -((size - shape) // 2), start)}

    def apply(self, sample: Sample, parameters: Draw) -> Sample:
        """Cut every field alike."""
        return cut_fields(sample, self.fields, parameters["start"], self.size, by=self)

    def change(self, array: NDArray[Any], parameters: Draw) -> NDArray[Any]:
        """Return (channel, *size)."""
        box: NDArray[Any] = cut_window(array, parameters["start"], self.size)
        return box

    def outline(self, sample: Sample, parameters: Draw) -> Sample:
        """The fields have the size that is stated."""
        return outline_fields(sample, self.fields, self.size)

    @property
    def takes_tensors(self) -> bool:
        """A window of a tensor is one of an array."""
        return True

    def apply_tensors(self, batch: TensorBatch, draws: Sequence[Draw]) -> TensorBatch:
        """Cut every field alike."""
        return cut_tensors(batch, self.fields, draws, self.size)
