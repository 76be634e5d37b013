"""The model's specification, which is stored in every model file, so that the file alone is enough to infer."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from voxflow.naming import name_classes

Task = Literal["segmentation", "classification"]


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


class ModelSpec(BaseModel):
    """How to feed a network and how to read its answer.

    Spatial axes are (i, j, k), the axes of a volume's array; channels come first.

    Attributes:
        task: what the answer means: a class of each voxel, or findings of a radiograph.
        in_channels: channels of the input tensor.
        class_names: segmentation: name of label value 0, 1, ... in order of the output channels; classification:
            name of each finding. No two are the same, see :func:`voxflow.naming.name_classes`.
        activation: what turns logits into probabilities; the exported network returns logits.
        spacing_mm: segmentation: voxel spacing along (i, j, k) that the network was trained at; None: native.
        orientation: segmentation: where (i, j, k) increase to, such as "LPS"; None: as stored.
        extent: segmentation: what of the box stayed: the first voxel's outer corner ("faces") or its centre.
        interpolation: segmentation: how images were brought to that spacing.
        antialias: segmentation: whether they were smoothed first along the axes that got coarser.
        size: classification: (rows, columns) that images are brought to; None: as stored.
        preprocess: transforms of the image after resampling, in order.
        window: segmentation: training patch (i, j, k); the smallest sensible inference window.
        divisor: each spatial size of the input must be a multiple of this (the network's total stride).
        overlap: segmentation: share of a window that neighbours share.
        regions: segmentation: the label values of each output channel, where a voxel may belong to several of them;
            else empty.
        modality: DICOM modality of the images, such as "CT"; empty when unknown.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: Task
    in_channels: int = 1
    class_names: tuple[str, ...]
    activation: Literal["softmax", "sigmoid"]
    spacing_mm: tuple[float, float, float] | None = None
    orientation: str | None = None
    extent: Literal["faces", "centres"] = "faces"
    interpolation: Literal["linear", "nearest", "bspline"] = "linear"
    antialias: bool = False
    size: tuple[int, int] | None = None
    preprocess: tuple[TransformSpec, ...] = ()
    window: tuple[int, int, int] | None = None
    divisor: int = 1
    overlap: float = 0.25
    modality: str = ""
    regions: tuple[tuple[int, ...], ...] = ()

    @model_validator(mode="after")
    def _name_classes(self) -> Self:
        # The model is frozen; model files of earlier versions may name two classes alike.
        names = name_classes(self.class_names, are_columns=self.task == "classification")
        object.__setattr__(self, "class_names", names)
        if self.regions and (len(self.regions) != len(names) or self.activation != "sigmoid"):
            raise ValueError(f"{len(self.regions)} regions need as many classes and a sigmoid")
        return self

    @model_serializer(mode="wrap")
    def _leave_out_no_regions(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # A model without regions has the file that it had before there were any.
        content: dict[str, Any] = serialise(self)
        if not self.regions:
            content.pop("regions", None)
        return content

    def with_custom_folder(self, folder: Path | None) -> ModelSpec:
        """Return this spec with the place of its custom transforms, which a model file does not hold.

        Args:
            folder: where the workspace keeps its custom components; None: nowhere.
        """
        transforms = [
            transform.model_copy(update={"custom": folder if transform.path else None}) for transform in self.preprocess
        ]
        return self.model_copy(update={"preprocess": tuple(transforms)})

    @property
    def out_channels(self) -> int:
        """Channels of the network's answer.

        Example:
            >>> names = ("background", "liver", "spleen")
            >>> ModelSpec(task="segmentation", class_names=names, activation="softmax").out_channels
            3
        """
        return len(self.class_names)
