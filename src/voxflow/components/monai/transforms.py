"""MONAI's dictionary transforms as components: arrays in, MetaTensors through, arrays out.

Samples hold NumPy arrays with the channels first; what ``FIELD_affine`` says beside an image (see ``grids``) goes along
as the MetaTensor's own affine, so that transforms that move the grid find it, and comes back. A mask stays an integer
array.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from pydantic import PrivateAttr, model_validator

from voxflow.components.monai.names import OPEN_CONFIG, MonaiAdapter, adapts, modernise_arguments
from voxflow.components.registry import register
from voxflow.components.transforms.base import LABEL, Draw, FieldNames, RandomTransform, Sample, Transform, is_mask
from voxflow.components.transforms.grids import SPACING, affine_key, return_to_source
from voxflow.components.transforms.loading import LoadNifti, LoadPng
from voxflow.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from numpy.typing import NDArray

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])  # its own inverse
# Inference brings images to the network's grid itself, and cuts no image.
_GRID_TRANSFORMS = ("Spacingd", "Orientationd", "Resized", "Zoomd", "Rotate90d", "Flipd")
# What MONAI's ConvertToMultiChannelBasedOnBratsClasses makes, in its order; the value 3 is none of them.
BRATS_CLASSES = {"TC": (1, 4), "WT": (2, 1, 4), "ET": (4,)}
_CROP_WORDS = ("Crop", "Pad")
_RADIOGRAPHS = (".png",)


@adapts("transform")
class MonaiTransform(Transform, MonaiAdapter):
    """Any transform of ``monai.transforms`` that works on a dictionary; its arguments are MONAI's.

    Attributes:
        keys: the sample's fields.
    """

    _built: threading.local = PrivateAttr(default_factory=threading.local)

    keys: FieldNames

    @model_validator(mode="before")
    @classmethod
    def _modernise(cls, values: Any) -> Any:
        if cls.target == "AsDiscreted" and isinstance(values, dict):
            values = _modern_as_discrete(values)
        return modernise_arguments(values, cls.parameter_names()) if isinstance(values, dict) and cls.target else values

    @classmethod
    def fit(cls, target: Any) -> type[MonaiAdapter]:
        """MONAI's random transforms are Randomizable."""
        from monai.transforms import Randomizable, RandomizableTrait

        return MonaiRandomTransform if issubclass(target, Randomizable | RandomizableTrait) else MonaiTransform

    @property
    def arguments(self) -> dict[str, Any]:
        """What MONAI's class is built with."""
        return {"keys": list(self.keys), **super().arguments}

    def makes(self) -> tuple[str, ...]:
        """Its keys, and the new fields that its arguments name."""
        extra = self.model_extra or {}
        suffixes, names = extra.get("output_postfixes"), extra.get("names", extra.get("name"))
        split = [f"{key}_{suffix}" for key in self.keys for suffix in (suffixes if isinstance(suffixes, list) else ())]
        new = [names] if isinstance(names, str) else names if isinstance(names, list) else []
        return (*self.keys, *split, *map(str, new))

    @property
    def fields(self) -> tuple[str, ...]:
        """The same as ``keys``, by Voxflow's word."""
        return self.keys

    def __call__(self, sample: Sample) -> Sample:
        """Return the transformed sample."""
        samples = self._call(sample)
        if len(samples) != 1:
            message = f"{self.target} makes {len(samples)} samples of one; it belongs behind the random transforms"
            raise ValueError(message)
        return samples[0]

    def _call(self, sample: Sample, seed: int | None = None) -> list[Sample]:
        transform = self._monai_object()
        if seed is not None:
            transform.set_random_state(seed=seed)
        result = transform(_to_tensors(sample))
        return [_to_arrays(sample, item, self.target) for item in (result if isinstance(result, list) else [result])]

    def _monai_object(self) -> Any:
        """MONAI's object, one a thread: random ones keep what they drew in themselves."""
        if not hasattr(self._built, "transform"):
            self._built.transform = self.find_target()(**self.arguments)
        return self._built.transform

    def patch(self) -> tuple[int, ...] | None:
        """The size of a crop that is always the same."""
        extra = self.model_extra or {}
        size = extra.get("spatial_size", extra.get("roi_size"))
        fixed = "Crop" in self.target and not extra.get("random_size", self.target == "RandSpatialCropd")
        return tuple(size) if fixed and isinstance(size, list) and all(isinstance(n, int) for n in size) else None

    def channels_after(self, channels: Mapping[str, int]) -> Mapping[str, int]:
        """One a class of BraTS, where it makes those."""
        return dict.fromkeys(self.keys, len(BRATS_CLASSES)) if self._makes_brats_classes else {}

    def list_regions(self, values: Collection[int]) -> Mapping[str, tuple[int, ...]]:
        """The classes of BraTS, where it makes those."""
        return BRATS_CLASSES if self._makes_brats_classes and LABEL in self.keys else {}

    @property
    def _makes_brats_classes(self) -> bool:
        return self.target.startswith("ConvertToMultiChannelBasedOnBratsClasses")

    def for_field(self, name: str) -> dict[str, Any] | None:
        """The arguments that do the same to one field alone; None for what inference does not repeat.

        Inference brings images to the network's grid itself, and cuts none.
        """
        moves = self.target in _GRID_TRANSFORMS or any(word in self.target for word in _CROP_WORDS)
        if moves or name not in self.keys:
            return None
        index = self.keys.index(name)
        # MONAI takes one value for all keys or a list with one each.
        extra = {
            key: value[index] if isinstance(value, list) and _is_by_key(key, value, len(self.keys)) else value
            for key, value in (self.model_extra or {}).items()
        }
        return {"keys": [name], **extra}

    @property
    def target_shape(self) -> tuple[int, ...] | None:
        """The size that it brings every image to, as far as that is known before any is read."""
        size = (self.model_extra or {}).get("spatial_size")
        return tuple(size) if self.target == "Resized" and isinstance(size, list) else None

    @property
    def target_resolution(self) -> tuple[float, float, float] | None:
        """The spacing in mm that it brings volumes to; None where it leaves it."""
        pixdim = (self.model_extra or {}).get("pixdim")
        if self.target != "Spacingd" or not isinstance(pixdim, list) or len(pixdim) != 3:
            return None
        return float(pixdim[0]), float(pixdim[1]), float(pixdim[2])

    @property
    def axcodes(self) -> str | None:
        """The orientation, such as "RAS", that it turns volumes to; None where it leaves it."""
        axcodes = (self.model_extra or {}).get("axcodes")
        return axcodes if self.target == "Orientationd" and isinstance(axcodes, str) else None


class MonaiRandomTransform(MonaiTransform, RandomTransform):
    """One that draws: a seed is drawn, MONAI's object draws the rest from it."""

    model_config = OPEN_CONFIG

    def draw(self, sample: Sample, rng: np.random.Generator) -> Draw:
        """Choose the seed."""
        return {"seed": int(rng.integers(2**32))}

    def apply(self, sample: Sample, parameters: Draw) -> Sample:
        """Return the first sample that it makes."""
        return self._call(sample, parameters["seed"])[0]

    def __call__(self, sample: Sample, rng: np.random.Generator | None = None) -> Sample:
        """Draw and apply once."""
        return self.apply(sample, self.draw(sample, rng or np.random.default_rng()))

    def run(self, sample: Sample, rng: np.random.Generator) -> list[Sample]:
        """Return every sample that it makes."""
        return self._call(sample, self.draw(sample, rng)["seed"])


class _StandIn(Transform):
    """What a component of MONAI's name that Voxflow does itself has in common: further arguments say nothing."""

    model_config = OPEN_CONFIG

    keys: FieldNames

    @property
    def fields(self) -> tuple[str, ...]:
        """The same as ``keys``."""
        return self.keys


@register("transform", "clara4", name="LoadImaged")
class LoadImaged(_StandIn):
    """Reads NIfTI, MetaImage, NRRD and PNG as Voxflow does: channels first, (rows, columns) for radiographs.

    No other reader can be named: MONAI would import whatever stands there.
    """

    takes_paths: ClassVar[bool] = True

    @model_validator(mode="after")
    def _check_reader(self) -> Self:
        if (self.model_extra or {}).get("reader"):
            raise ValueError("'reader' can't be given: files are read by Voxflow's own readers")
        return self

    def makes(self) -> tuple[str, ...]:
        """Its fields, and the spacing."""
        return (*self.keys, "spacing")

    def for_field(self, name: str) -> dict[str, Any] | None:
        """Nothing: inference reads images itself."""
        return None

    def __call__(self, sample: Sample) -> Sample:
        """Read every field that is a path."""
        loaded = dict(sample)
        for name in self.keys:
            path = _first_path(sample.get(name))
            if path is None:
                continue
            loader = LoadPng if path.suffix.lower() in _RADIOGRAPHS else LoadNifti
            loaded = loader(fields=(name,))(loaded)
        return loaded


class _NoOperation(_StandIn):
    """Accepted and without effect: every array here has its channels first and the type that training wants."""

    def for_field(self, name: str) -> dict[str, Any] | None:
        """Nothing."""
        return None

    def __call__(self, sample: Sample) -> Sample:
        """Return the sample as it is."""
        return sample


for _name in (
    "EnsureChannelFirstd",
    "AsChannelFirstd",
    "AddChanneld",
    "ToTensord",
    "ToNumpyd",
    "EnsureTyped",
    "CastToTyped",
    "ToDeviced",
):
    register("transform", "clara4", name=_name)(type(_name, (_NoOperation,), {"__module__": __name__}))


@register("transform", "clara4", name="Invertd")
class Invertd(_StandIn):
    """Brings an answer back to the grid of the image's file, as MONAI does by undoing the transforms before the model.

    Attributes:
        nearest_interp: take the nearest voxel instead of blending.
    """

    nearest_interp: bool | list[bool] = True

    def for_field(self, name: str) -> dict[str, Any] | None:
        """Nothing: inference returns masks to the image by itself."""
        return None

    def __call__(self, sample: Sample) -> Sample:
        """Resample every key; a sample that knows no grid of a file stays as it is."""
        inverted = dict(sample)
        for number, name in enumerate(self.keys):
            if name in inverted:
                nearest = self.nearest_interp[number] if isinstance(self.nearest_interp, list) else self.nearest_interp
                inverted |= return_to_source(inverted, name, is_nearest=nearest)
        return inverted


def _first_path(value: Any) -> Path | None:
    first = value[0] if isinstance(value, list | tuple) and value else value
    return Path(first) if isinstance(first, str | Path) else None


def _modern_as_discrete(values: dict[str, Any]) -> dict[str, Any]:
    """``to_onehot: true, n_classes: 2`` became ``to_onehot: 2``, ``threshold_values`` a ``threshold``."""
    arguments = {name: value for name, value in values.items() if name not in _OLD_DISCRETE}
    count = values.get("n_classes", values.get("num_classes"))
    if count is not None and "to_onehot" in values:
        flags = values["to_onehot"]
        counts = [count if flag else None for flag in (flags if isinstance(flags, list) else [flags])]
        arguments["to_onehot"] = counts if isinstance(flags, list) else counts[0]
    if values.get("threshold_values"):
        arguments["threshold"] = values.get("logit_thresh", 0.5)
    return arguments


_OLD_DISCRETE = ("n_classes", "num_classes", "threshold_values", "logit_thresh", "rounding_values")


def _is_by_key(name: str, value: list[Any], count: int) -> bool:
    return count > 1 and len(value) == count and name in ("mode", "padding_mode", "align_corners", "dtype", "argmax")


def _to_tensors(sample: Sample) -> dict[str, Any]:
    """The sample for MONAI: every image and mask a MetaTensor with its affine."""
    import torch
    from monai.data import MetaTensor

    tensors: dict[str, Any] = {}
    grids = {affine_key(name) for name in sample}
    for name, value in sample.items():
        if isinstance(value, np.ndarray) and value.ndim >= 3:
            affine = sample.get(affine_key(name))
            tensor = torch.from_numpy(np.ascontiguousarray(value))
            tensors[name] = MetaTensor(tensor, affine=None if affine is None else torch.as_tensor(LPS_TO_RAS @ affine))
        elif name not in grids:
            tensors[name] = value
    return tensors


def _to_arrays(before: Sample, answer: dict[str, Any], target: str) -> Sample:
    """MONAI's answer as a sample."""
    import torch
    from monai.data import MetaTensor

    after: Sample = {}
    for name, value in answer.items():
        key = affine_key(name)
        if isinstance(value, MetaTensor) and key in before:
            after[key] = LPS_TO_RAS @ value.affine.numpy().astype(np.float64)
        after[name] = _to_array(before.get(name), value, name, target) if isinstance(value, torch.Tensor) else value
    if affine_key("image") in after and SPACING in after:
        after[SPACING] = tuple(float(n) for n in np.linalg.norm(after[affine_key("image")][:3, :3], axis=0))
    return after


def _to_array(before: Any, value: Any, name: str, target: str) -> NDArray[Any]:
    """An image is float32; what was a mask stays one."""
    array: NDArray[Any] = np.asarray(value.detach().cpu().numpy())
    if not (isinstance(before, np.ndarray) and is_mask(before)):
        return array.astype(np.float32) if array.dtype == np.float64 else array
    if array.dtype == np.bool_:
        return array.astype(np.uint8)
    if is_mask(array):
        return array
    whole = np.rint(array)
    if not np.array_equal(whole, array):
        raise DataError(f"{target} made values of the mask {name!r} that are no whole numbers; use mode 'nearest'")
    return np.asarray(whole, dtype=before.dtype)
