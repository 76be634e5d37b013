"""How a model's images are prepared and its answers brought back, step by step; parts of :mod:`voxflow.spec`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

Interpolation = Literal["area", "nearest", "nearest-exact", "linear", "bilinear", "trilinear"]


class TransformSpec(BaseModel):
    """One deterministic transform of the image: a component's name and arguments, as the configuration gave them.

    Attributes:
        name: the component's name.
        args: its arguments.
        path: a user's own class, which lives in the workspace and not in the model file.
        custom: the workspace's folder that it is looked for in; never written, so that a file names no folder.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    args: dict[str, Any] = Field(default_factory=dict)
    path: str | None = None
    custom: Path | None = Field(default=None, exclude=True)


class NnunetNormalisation(BaseModel):
    """How nnU-Net scales the values of one channel, before it resamples them.

    Attributes:
        scheme: the class in nnU-Net's plans.
        uses_mask: of a z-score, whether only what lies inside the image's non-zero region counts and is changed.
        mean: of CT: of the training's foreground.
        std: of CT, too.
        percentile_00_5: of CT: the lower bound.
        percentile_99_5: of CT: the upper bound.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    scheme: Literal[
        "CTNormalization",
        "ZScoreNormalization",
        "NoNormalization",
        "RescaleTo01Normalization",
        "RGBTo01Normalization",
    ]
    uses_mask: bool = False
    mean: float = 0.0
    std: float = 1.0
    percentile_00_5: float = 0.0
    percentile_99_5: float = 0.0


class NnunetResampling(BaseModel):
    """How nnU-Net brings an array to another size.

    Attributes:
        order: of the spline.
        order_z: of the spline along the coarse axis of an anisotropic image, which is resampled by itself.
        separate_z: whether that axis is; None: where its spacing is ``threshold`` times another one's or more.
        threshold: see there.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    order: int = Field(ge=0, le=5)
    order_z: int = Field(default=0, ge=0, le=5)
    separate_z: bool | None = None
    threshold: float = 3.0


class NnunetSteps(BaseModel):
    """How an adopted nnU-Net prepares an image, and brings its logits back.

    Attributes:
        axes: of each axis of the network's input the axis (i, j, k) of the image that it follows.
        spacing_mm: along the axes of the network's input; None: an axis keeps the image's.
        normalisation: of each channel.
        image: how the image is resampled.
        logits: how the logits are.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    axes: tuple[int, int, int]
    spacing_mm: tuple[float | None, float | None, float | None]
    normalisation: tuple[NnunetNormalisation, ...]
    image: NnunetResampling
    logits: NnunetResampling

    @model_validator(mode="after")
    def _check_axes(self) -> Self:
        if sorted(self.axes) != [0, 1, 2]:
            raise ValueError(f"axes are 0, 1 and 2 in some order, received {list(self.axes)}")
        if any(spacing is not None and spacing <= 0 for spacing in self.spacing_mm):
            raise ValueError(f"spacing_mm is above 0, received {list(self.spacing_mm)}")
        return self


class MonaiResize(BaseModel):
    """How a bundle brings images to a size in voxels, as MONAI's Resize does.

    Attributes:
        after: how many transforms of ``preprocess`` are run before it.
        size: voxels (i, j, k), -1 where an axis keeps its own; one number: of the longest axis, the others go along.
        mode: of the interpolation, on the way back as well.
        align_corners: of linear interpolation; None: not said.
        antialias: smooth the image first along the axes that get coarser.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    after: int = Field(ge=0)
    size: tuple[int, int, int] | int
    mode: Interpolation = "area"
    align_corners: bool | None = None
    antialias: bool = False


class MonaiPad(BaseModel):
    """How a bundle pads images that are smaller than a size, as MONAI's SpatialPad does.

    Attributes:
        after: how many transforms of ``preprocess`` are run before it.
        size: least voxels (i, j, k); -1 where an axis is not padded.
        at_end: pad behind the last voxel alone, and not on both sides alike.
        mode: what is put there: ``value``, the outermost values, or the least value of each line.
        value: see there.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    after: int = Field(ge=0)
    size: tuple[int, int, int]
    at_end: bool = False
    mode: Literal["constant", "edge", "minimum"] = "constant"
    value: float = 0.0


class MonaiCleaning(BaseModel):
    """One step by which a bundle cleans its mask.

    Attributes:
        kind: keep the largest component of each of ``values``; fill what these enclose; or remove what is small.
        is_before: whether it is done on the network's grid, before the way back.
        values: label values; empty: all that the mask has.
        connectivity: how voxels touch: 1 by faces, 2 by edges, too, 3 by corners, too.
        least: what is smaller is removed: voxels, or mm³ where ``in_mm3``.
        in_mm3: see there.
        is_joint: whether components are counted over all labels together.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: Literal["largest", "fill_holes", "small_objects"]
    is_before: bool = False
    values: tuple[int, ...] = ()
    connectivity: int = Field(default=3, ge=1, le=3)
    least: float = Field(default=0.0, ge=0)
    in_mm3: bool = False
    is_joint: bool = False


class MonaiSteps(BaseModel):
    """How an adopted MONAI bundle prepares an image, lays its windows, and brings its answer back.

    Attributes:
        before: transforms of the values on the image's own grid, before it is resampled.
        crops_after: how many transforms of ``preprocess`` are run before the image is cropped to what is above 0; None:
            it is not cropped.
        blend: how overlapping windows are weighted.
        padding: what surrounds an image that is smaller than a window: zeros, or its outermost values.
        back: what is brought to the image's own grid, see :class:`voxflow.prediction.PredictOptions`.
        resize: how the image, or what was cropped of it, is brought to a size; None: it is not.
        pad: how it is padded behind that; None: it is not.
        cleaning: what is done to the mask, in this order.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    before: tuple[TransformSpec, ...] = ()
    crops_after: int | None = Field(default=None, ge=0)
    blend: Literal["constant", "gaussian"] = "constant"
    padding: Literal["constant", "replicate"] = "constant"
    back: Literal["labels", "probabilities", "logits"] = "probabilities"
    resize: MonaiResize | None = None
    pad: MonaiPad | None = None
    cleaning: tuple[MonaiCleaning, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _read_older(cls, content: Any) -> Any:
        """Read model files from before ``cleaning``, which had the largest components alone."""
        if not isinstance(content, dict) or "largest" not in content:
            return content
        values, is_before = content["largest"], content.get("cleans_before", False)
        rest = {key: value for key, value in content.items() if key not in ("largest", "cleans_before")}
        step = {"kind": "largest", "values": values, "is_before": is_before}
        return rest | ({"cleaning": [step]} if values else {})

    @model_serializer(mode="wrap")
    def _leave_out_what_is_new(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content: dict[str, Any] = serialise(self)
        return {key: value for key, value in content.items() if value or key not in ("resize", "pad", "cleaning")}

    @property
    def changes_size(self) -> bool:
        """Whether the network is shown an image of another size than its grid has."""
        return self.crops_after is not None or self.resize is not None or self.pad is not None


class TotalSegmentatorSteps(BaseModel):
    """What TotalSegmentator does around nnU-Net, for models that were adopted with it.

    Attributes:
        task: its name there, such as "total".
        spacing_mm: along the axes of the turned image (RAS), which it is brought to before nnU-Net gets it.
        order: of the spline by which it is.
        splits: whether an image that is very large there is divided in three along its last axis.
        removed: label values that become background.
        largest: label values of which only the largest component is kept.
        least_mm3: label values, each with the size that a component must exceed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    task: str
    spacing_mm: tuple[PositiveFloat, PositiveFloat, PositiveFloat]
    order: int = Field(default=1, ge=0, le=5)
    splits: bool = False
    removed: tuple[int, ...] = ()
    largest: tuple[int, ...] = ()
    least_mm3: tuple[tuple[int, float], ...] = ()
