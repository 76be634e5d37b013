"""What a transform is: a callable on a sample; a random one draws its parameters apart from applying them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

import numpy as np
from pydantic import BeforeValidator, Field

from voxflow.components.registry import ComponentModel

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    import torch
    from numpy.typing import NDArray

    from voxflow.components.transforms.tensors import TensorBatch

# A sample maps a field to its value. An image is float32 and a mask an integer array, both with axes
# (channel, i, j, k), radiographs (channel, rows, columns); before a loader has run the value is the path. Beside a
# volume FIELD its grid stands under FIELD_affine (see ``grids``).
Sample = dict[str, Any]
LABEL = "label"
Draw = dict[str, Any]


def _as_tuple(value: Any) -> Any:
    if isinstance(value, str):
        return (value,)
    return tuple(value) if isinstance(value, list) else value


FieldNames = Annotated[tuple[str, ...], BeforeValidator(_as_tuple), Field(min_length=1)]
Probability = Annotated[float, Field(ge=0, le=1)]


def is_mask(array: NDArray[Any]) -> bool:
    """Return whether an array holds label values, which must never be blended.

    Masks are integers or booleans, images are floats; this decides between the nearest voxel and interpolation.

    Example:
        >>> is_mask(np.zeros((1, 2, 2), np.uint8)), is_mask(np.zeros((1, 2, 2), np.float32))
        (True, False)
    """
    return array.dtype.kind in "iub"


class Transform(ComponentModel, ABC):
    """A deterministic transform of a sample; the sample that comes in is left as it is.

    A subclass names its arguments as fields and implements ``__call__``; most inherit from :class:`FieldTransform` or
    :class:`RandomFieldTransform`, which go through the named fields.

    Attributes:
        is_preprocessing: inference repeats it on the image where validation has it. False for what inference does in
            its own way: loading, arranging axes, resampling, resizing, cutting, writing.
        draws_from_voxels: what it draws depends on voxels, and not on shapes and plain values alone. On tensors it
            can only be the first random one.
    """

    is_preprocessing: ClassVar[bool] = True
    draws_from_voxels: ClassVar[bool] = False

    @abstractmethod
    def __call__(self, sample: Sample) -> Sample:
        """Return the transformed sample."""

    @property
    def is_random(self) -> bool:
        """Whether it may give another result each time."""
        return False

    def at_epoch(self, epoch: int) -> Self:
        """Return the transform as it is in an epoch; few change.

        Args:
            epoch: from 1.
        """
        return self

    def run(self, sample: Sample, rng: np.random.Generator) -> list[Sample]:
        """Return what comes out of one sample; crops may make several.

        Args:
            sample: left as it is.
            rng: for random transforms; this one ignores it.
        """
        return [self(sample)]

    @property
    def takes_tensors(self) -> bool:
        """Whether it does to tensors of any device what it does to arrays; see :meth:`apply_tensors`."""
        return False

    def draw_all(self, sample: Sample, rng: np.random.Generator) -> list[Draw]:
        """Draw the parameters of all that :meth:`run` makes of a sample: the same numbers in the same order.

        Args:
            sample: as for ``run``; unless it ``draws_from_voxels``, its arrays may have a shape and no content.
            rng: as for ``run``.
        """
        return [{}]

    def outline(self, sample: Sample, parameters: Draw) -> Sample:
        """Return a sample whose arrays have the shapes that they have after this transform, whatever they hold."""
        return sample

    def apply_tensors(self, batch: TensorBatch, draws: Sequence[Draw]) -> TensorBatch:
        """Do to a batch on a device what :meth:`run` does to each sample; where it ``takes_tensors``.

        Args:
            batch: left as it is.
            draws: of each item, as :meth:`draw_all` returned them.
        """
        raise NotImplementedError(self.component_name())

    def list_regions(self, values: Collection[int]) -> Mapping[str, tuple[int, ...]]:
        """List the label values that each channel of the label gets, where it turns a label map into masks.

        Args:
            values: those that the data have; empty where that is not known.

        Returns:
            Values by the channel's name; {} where it makes no masks, as by default.
        """
        return {}

    def for_field(self, name: str) -> dict[str, Any] | None:
        """The arguments, as a configuration gives them, that do the same to one field alone.

        Returns:
            None where the transform leaves that field as it is.
        """
        for argument in ("fields", "field"):
            value = getattr(self, argument, ())
            if name in ((value,) if isinstance(value, str) else value):
                args = self.model_dump(mode="json", exclude_defaults=True, by_alias=True)
                key = type(self).model_fields[argument].alias or argument
                return args | {key: name if isinstance(value, str) else [name]}
        return None


class FieldTransform(Transform):
    """The same change to each named field.

    Attributes:
        fields: names of the sample's fields, one or several.
    """

    fields: FieldNames

    def __call__(self, sample: Sample) -> Sample:
        """Return the sample with every field changed."""
        return sample | {name: self.change(get_field(sample, name, self)) for name in self.fields}

    @abstractmethod
    def change(self, array: NDArray[Any]) -> NDArray[Any]:
        """Change one array.

        Args:
            array: (channel, i, j, k), or (channel, rows, columns) for radiographs.

        Returns:
            The changed array, channels first; the one that came in is left as it is.
        """

    @property
    def takes_tensors(self) -> bool:
        """Where its class says what ``change`` does to a tensor, in a method ``change_tensor``."""
        return _is_told_of_tensors(type(self), "change_tensor")

    def apply_tensors(self, batch: TensorBatch, draws: Sequence[Draw]) -> TensorBatch:
        """Change every field of every item."""
        from voxflow.components.transforms.tensors import gather_items

        change: Any = getattr(self, "change_tensor")  # noqa: B009 (only some classes have it)
        items = {name: [change(item) for item in batch.gather(name)] for name in self.fields}
        return batch.replace({name: gather_items(tensors, batch.device) for name, tensors in items.items()})


class RandomTransform(Transform):
    """A random transform: ``draw`` chooses parameters, ``apply`` uses them, so that a draw can be replayed."""

    @abstractmethod
    def draw(self, sample: Sample, rng: np.random.Generator) -> Draw:
        """Choose the parameters for one sample.

        Args:
            sample: its shapes may limit what is chosen.
            rng: the only source of chance, so that a training repeats itself for its seed.

        Returns:
            Parameters by name; {} where the sample is to stay as it is.
        """

    @abstractmethod
    def apply(self, sample: Sample, parameters: Draw) -> Sample:
        """Apply parameters that were drawn before.

        Args:
            sample: left as it is.
            parameters: as :meth:`draw` returned them.
        """

    @property
    def is_random(self) -> bool:
        """Unless its probability is 0."""
        return getattr(self, "probability", 1.0) > 0

    def prepare(self, sample: Sample) -> Sample:
        """Add to a sample, once, what every later draw needs, such as where the label lies.

        Returns:
            The sample with further keys; it is cached so.
        """
        return sample

    def __call__(self, sample: Sample, rng: np.random.Generator | None = None) -> Sample:
        """Draw and apply once."""
        return self.apply(sample, self.draw(sample, rng or np.random.default_rng()))

    def run(self, sample: Sample, rng: np.random.Generator) -> list[Sample]:
        """Return what comes out of one sample."""
        return [self(sample, rng)]

    def draw_all(self, sample: Sample, rng: np.random.Generator) -> list[Draw]:
        """Draw once."""
        return [self.draw(sample, rng)]


class RandomFieldTransform(RandomTransform):
    """The same draw applied to each named field.

    Attributes:
        fields: names of the sample's fields, one or several.
    """

    fields: FieldNames

    def apply(self, sample: Sample, parameters: Draw) -> Sample:
        """Return the sample with every field changed alike; without parameters it stays as it is."""
        if not parameters:
            return sample
        return sample | {name: self.change(get_field(sample, name, self), parameters) for name in self.changed_fields}

    @property
    def changed_fields(self) -> tuple[str, ...]:
        """The fields that are changed."""
        return self.fields

    @abstractmethod
    def change(self, array: NDArray[Any], parameters: Draw) -> NDArray[Any]:
        """Change one array by the parameters that were drawn.

        Args:
            array: (channel, i, j, k), or (channel, rows, columns) for radiographs.
            parameters: as ``draw`` returned them, never empty.

        Returns:
            The changed array, channels first; the one that came in is left as it is.
        """

    @property
    def takes_tensors(self) -> bool:
        """Where its class says what ``change`` does to a batch of tensors, in a method ``change_tensors``."""
        return _is_told_of_tensors(type(self), "change_tensors")

    def apply_tensors(self, batch: TensorBatch, draws: Sequence[Draw]) -> TensorBatch:
        """Change every field of the items whose draw is not empty."""
        if not any(draws):
            return batch
        return batch.replace({name: self._change_drawn(batch.gather(name), draws) for name in self.changed_fields})

    def _change_drawn(self, items: Any, draws: Sequence[Draw]) -> Any:
        import torch

        numbers = [number for number, parameters in enumerate(draws) if parameters]
        if not isinstance(items, torch.Tensor):
            changed = list(items)
            for number in numbers:
                changed[number] = self.change_tensors(items[number][None], [draws[number]])[0]
            return changed
        if len(numbers) == len(draws):
            return self.change_tensors(items, draws)
        changed_items = self.change_tensors(torch.stack([items[n] for n in numbers]), [draws[n] for n in numbers])
        by_number = dict(zip(numbers, changed_items, strict=True))
        return torch.stack([by_number.get(number, item) for number, item in enumerate(items)])

    def change_tensors(self, tensors: torch.Tensor, draws: Sequence[Draw]) -> torch.Tensor:
        """Do to tensors of any device what :meth:`change` does to arrays, within rounding.

        It must not wait for the device: no ``item()``, no branch on a tensor's values, no index by a mask.

        Args:
            tensors: (batch, channel, ...spatial), left as they are.
            draws: of each item, never empty.

        Returns:
            (batch, channel, ...spatial).
        """
        raise NotImplementedError(self.component_name())

    def shape_of(self, sample: Sample) -> tuple[int, ...]:
        """The spatial shape of the first field."""
        shape: tuple[int, ...] = get_field(sample, self.fields[0], self).shape
        return shape[1:]


def outline_fields(
    sample: Sample, names: Collection[str], size: Sequence[int] | None = None, channels: int | None = None
) -> Sample:
    """Return the sample with arrays of another shape in some fields, which have no content and no memory.

    Args:
        sample: left as it is.
        names: the fields.
        size: spatial; None: as it is.
        channels: None: as they are.
    """
    outlines: Sample = {}
    for name in names:
        array = sample[name]
        shape = (channels or len(array), *(array.shape[1:] if size is None else size))
        outlines[name] = np.broadcast_to(np.zeros((), array.dtype), shape)
    return sample | outlines


def _is_told_of_tensors(component: type, method: str) -> bool:
    from voxflow.components.transforms.tensors import defines_below

    base = RandomFieldTransform if issubclass(component, RandomFieldTransform) else FieldTransform
    # Not the base's own, which only says that there is none.
    is_defined = getattr(component, method, None) is not vars(base).get(method)
    return is_defined and defines_below(component, method, ("change", "apply", "run", "__call__"))


def get_field(sample: Sample, name: str, transform: ComponentModel) -> Any:
    """Return a field of the sample.

    Raises:
        KeyError: no earlier transform and no datalist entry made it; the message lists those that exist.
    """
    if name not in sample:
        raise KeyError(f"{transform.component_name()} reads the field {name!r}; the sample has {sorted(sample)}")
    return sample[name]
