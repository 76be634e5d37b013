"""Owns the transforms that turn paths into arrays, and those that only arrange axes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import PositiveInt  # noqa: TC002 (pydantic reads annotations at run time)

from voxflow.components.registry import register
from voxflow.components.transform import FieldNames, FieldTransform, Sample, Transform, field_of
from voxflow.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

LABEL_FIELD = "label"


@register("transform")
class LoadNifti(Transform):
    """Read NIfTI, MetaImage or NRRD volumes: paths become (channel, i, j, k).

    Several paths become several channels. The field "label" is read as integers, every other one as float32.
    ``sample["spacing"]`` becomes the voxel spacing along (i, j, k) in mm.
    """

    takes_paths: ClassVar[bool] = True

    fields: FieldNames

    def makes(self) -> tuple[str, ...]:
        """Its fields, and the spacing."""
        return (*self.fields, "spacing")

    def __call__(self, sample: Sample) -> Sample:
        """Read every field that is a path; a field that is an array already stays."""
        from voxflow.volumes import read_volume

        made = dict(sample)
        for name in self.fields:
            paths = _paths(field_of(sample, name, self))
            if not paths:
                continue
            volumes = [read_volume(path) for path in paths]
            shapes = {volume.array.shape for volume in volumes}
            if len(shapes) > 1:
                raise DataError(f"channels of one image differ in size: {sorted(shapes)}", path=paths[0])
            array = np.stack([volume.array for volume in volumes])
            made[name] = _mask(array, paths[0]) if name == LABEL_FIELD else array.astype(np.float32)
            made.setdefault("spacing", volumes[0].geometry.spacing)
        return made


@register("transform")
class LoadPng(Transform):
    """Read 8 or 16 bit PNG radiographs: paths become (channel, rows, columns), float32, values as stored."""

    takes_paths: ClassVar[bool] = True

    fields: FieldNames

    def __call__(self, sample: Sample) -> Sample:
        """Read every field that is a path; a field that is an array already stays."""
        from voxflow.volumes import read_radiograph

        made = dict(sample)
        for name in self.fields:
            paths = _paths(field_of(sample, name, self))
            if paths:
                made[name] = np.stack([read_radiograph(path) for path in paths]).astype(np.float32)
        return made


@register("transform")
class ConvertToChannelsFirst(FieldTransform):
    """Accepted and without effect: every array here has its channels first, from the loader on."""

    def change(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return the array as it is."""
        return array


@register("transform")
class ConvertToChannelsLast(FieldTransform):
    """Accepted and without effect: transforms find the channels first, whatever TensorFlow wanted."""

    def change(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return the array as it is."""
        return array


@register("transform")
class RepeatChannel(FieldTransform):
    """Repeat every channel ``repeat_times`` times, so that a grey image feeds a colour network."""

    repeat_times: PositiveInt

    def channels_after(self, channels: Mapping[str, int]) -> Mapping[str, int]:
        """Every channel, so many times."""
        return {name: channels[name] * self.repeat_times for name in self.fields if name in channels}

    def change(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return (channel × repeat_times, ...)."""
        return np.repeat(array, self.repeat_times, axis=0)


def _paths(value: Any) -> list[Path]:
    values = [value] if isinstance(value, str | Path) else value
    if isinstance(values, list | tuple) and all(isinstance(item, str | Path) for item in values):
        return [Path(item) for item in values]
    return []


def _mask(array: NDArray[Any], path: Path) -> NDArray[Any]:
    values = array if array.dtype.kind in "iub" else np.rint(array)
    if values is not array and not np.array_equal(values, array):
        raise DataError("a label holds values that are no whole numbers", path=path)
    if values.size and (values.min() < 0 or values.max() > np.iinfo(np.int16).max):
        raise DataError(f"label values lie between {values.min()} and {values.max()}, expected 0 to 32767", path=path)
    return values.astype(np.uint8 if values.max(initial=0) < 256 else np.int16)
