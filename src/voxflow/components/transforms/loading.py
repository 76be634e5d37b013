"""Transforms that turn paths into arrays, and those that only arrange axes."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import PositiveInt  # noqa: TC002 (pydantic reads annotations at run time)

from voxflow.components.registry import register
from voxflow.components.transforms.base import (
    Draw,
    FieldNames,
    FieldTransform,
    Sample,
    Transform,
    get_field,
    outline_fields,
)
from voxflow.components.transforms.grids import (
    NATIVE,
    SPACING,
    affine_entries,
    affine_key,
    note_native,
    read_native,
)
from voxflow.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch
    from numpy.typing import NDArray

    from voxflow.geometry import Geometry
    from voxflow.volumes import Volume

IMAGE_FIELD, LABEL_FIELD, PREVIOUS_FIELD = "image", "label", "previous"
MASKS = (LABEL_FIELD, PREVIOUS_FIELD)


@register("transform")
class LoadNifti(Transform):
    """Read NIfTI, MetaImage or NRRD volumes: paths become (channel, i, j, k).

    Several paths become several channels, and so do the volumes of a 4D file (a one-hot mask, say). The fields "label"
    and "previous" are read as integers, every other one as float32. All channels and fields must have the image's
    voxels: where only their axes run otherwise, they are turned to the image's. ``sample["spacing"]`` becomes the voxel
    spacing along (i, j, k) in mm, and each field's affine is noted beside it.

    Attributes:
        as_closest_canonical: turn and flip axes so that (i, j, k) increase to right, anterior and superior.
    """

    takes_paths: ClassVar[bool] = True
    is_preprocessing: ClassVar[bool] = False

    fields: FieldNames
    as_closest_canonical: bool = False

    def makes(self) -> tuple[str, ...]:
        """Its fields, their affines, the spacing, and the grid of the file."""
        return (*self.fields, *map(affine_key, self.fields), SPACING, NATIVE)

    def __call__(self, sample: Sample) -> Sample:
        """Read every field that is a path; a field that is an array already stays."""
        from voxflow.volumes import read_image, require_finite

        loaded = dict(sample)
        for name in self.fields:
            paths = list_paths(get_field(sample, name, self))
            if not paths:
                continue
            native = _find_native(loaded, name)
            channels = read_image(paths, native)
            if native is None or NATIVE not in loaded:
                loaded |= note_native(channels[0].geometry)
            volumes = [self._to_canonical(volume) for volume in channels]
            array = np.stack([volume.array for volume in volumes])
            if name in MASKS:
                loaded[name] = _to_mask(array, paths[0])
            else:
                require_finite(array, paths[0])
                loaded[name] = array.astype(np.float32)
            loaded |= affine_entries([name], volumes[0].geometry)
            loaded.setdefault(SPACING, volumes[0].geometry.spacing)
        return loaded

    def _to_canonical(self, volume: Volume) -> Volume:
        if not self.as_closest_canonical:
            return volume
        from voxflow.volumes import resample, target_geometry

        return resample(volume, target_geometry(volume.geometry, None, "RAS"), "nearest")


@register("transform")
class LoadPng(Transform):
    """Read 8 or 16 bit PNG radiographs: paths become (channel, rows, columns), float32, values as stored.

    A list of label values becomes an array.
    """

    takes_paths: ClassVar[bool] = True
    is_preprocessing: ClassVar[bool] = False

    fields: FieldNames

    def __call__(self, sample: Sample) -> Sample:
        """Read every field that is a path; a field that is an array already stays."""
        from voxflow.volumes import read_radiograph

        loaded = dict(sample)
        for name in self.fields:
            value = get_field(sample, name, self)
            paths = list_paths(value)
            if paths:
                loaded[name] = np.stack([read_radiograph(path) for path in paths]).astype(np.float32)
            elif isinstance(value, list | tuple):
                loaded[name] = np.asarray(value, np.float32)
        return loaded


@register("transform")
class ConvertToChannelsFirst(FieldTransform):
    """Accepted and without effect: every array here has its channels first, from the loader on."""

    is_preprocessing: ClassVar[bool] = False

    def change(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return the array as it is."""
        return array

    def change_tensor(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the tensor as it is."""
        return tensor


@register("transform")
class ConvertToChannelsLast(ConvertToChannelsFirst):
    """Accepted and without effect: transforms find the channels first, whatever TensorFlow wanted."""


@register("transform")
class RepeatChannel(FieldTransform):
    """Repeat every channel ``repeat_times`` times, so that a grey image feeds a colour network."""

    repeat_times: PositiveInt

    def channels_after(self, channels: Mapping[str, int]) -> Mapping[str, int]:
        """Every channel, so many times."""
        return {name: channels[name] * self.repeat_times for name in self.fields if name in channels}

    def change(self, array: NDArray[Any]) -> NDArray[Any]:
        """Repeat every channel.

        Args:
            array: (channel, ...spatial).

        Returns:
            (channel × repeat_times, ...spatial): each channel's copies stand beside it.
        """
        return np.repeat(array, self.repeat_times, axis=0)

    def change_tensor(self, tensor: torch.Tensor) -> torch.Tensor:
        """Repeat every channel."""
        return tensor.repeat_interleave(self.repeat_times, 0)

    def outline(self, sample: Sample, parameters: Draw) -> Sample:
        """The fields have so many times the channels."""
        for name in self.fields:
            sample = outline_fields(sample, (name,), channels=len(sample[name]) * self.repeat_times)
        return sample


def list_paths(value: Any) -> list[Path]:
    """Return the files that a field names.

    Args:
        value: a path or a list of paths, before a loader has run; anything else names none.

    Example:
        >>> list_paths(["t1.nii.gz", "t2.nii.gz"])
        [PosixPath('t1.nii.gz'), PosixPath('t2.nii.gz')]
    """
    values = [value] if isinstance(value, str | Path) else value
    if isinstance(values, list | tuple) and all(isinstance(item, str | Path) for item in values):
        return [Path(item) for item in values]
    return []


def _find_native(sample: Sample, name: str) -> Geometry | None:
    """The grid that a field must be on: the image's, whether it is loaded already or is yet to be."""
    from voxflow.volumes import read_geometry

    native = read_native(sample)
    paths = list_paths(sample.get(IMAGE_FIELD)) if native is None and name != IMAGE_FIELD else []
    if not paths:
        return native
    with suppress(DataError):  # loading the image will say why
        return read_geometry(paths[0], has_channels=True)
    return None


def _to_mask(array: NDArray[Any], path: Path) -> NDArray[Any]:
    from voxflow.volumes import round_labels

    # One byte a voxel where it does: masks are cached, and most have few classes.
    values = round_labels(array, path)
    if values.max(initial=0) > np.iinfo(np.int16).max:
        raise DataError(f"label values go up to {values.max()}, expected 0 to 32767", path=path)
    return values if values.dtype == np.uint8 else values.astype(np.int16)
