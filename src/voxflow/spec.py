"""The model's specification, which is stored in every model file, so that the file alone is enough to infer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer, model_validator

from voxflow.naming import name_classes
from voxflow.steps import (
    Interpolation,
    MonaiCleaning,
    MonaiPad,
    MonaiResize,
    MonaiSteps,
    NnunetNormalisation,
    NnunetResampling,
    NnunetSteps,
    TotalSegmentatorSteps,
    TransformSpec,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = [
    "Interpolation",
    "ModelPart",
    "ModelSpec",
    "MonaiCleaning",
    "MonaiPad",
    "MonaiResize",
    "MonaiSteps",
    "NnunetNormalisation",
    "NnunetResampling",
    "NnunetSteps",
    "PreviousStage",
    "Task",
    "TotalSegmentatorSteps",
    "TransformSpec",
]

Task = Literal["segmentation", "classification"]
# What only some models need, and the others' files do not have.
_LATER_KEYS = (
    "regions",
    "channels",
    "rules",
    "onto",
    "modalities",
    "profile",
    "convert",
    "mirrored",
    "region_values",
    "nnunet",
    "previous",
    "fixed_window",
    "monai",
    "divisors",
    "parts",
    "totalsegmentator",
)


class PreviousStage(BaseModel):
    """The first stage of a cascade, whose mask the network is shown beside the image.

    Attributes:
        spec: of its network.
        values: the label values of its mask that become channels, one each, 1 inside and 0 outside, behind the image's.
        mask: how the mask is brought to the network's grid, of an adopted nnU-Net; None: each voxel takes the nearest
            one of the mask.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    spec: ModelSpec
    values: tuple[int, ...]
    mask: NnunetResampling | None = None


class ModelPart(BaseModel):
    """One of the adopted models whose masks are joined into one.

    Attributes:
        spec: of its network.
        values: the label value in the joined mask of each of its classes, in their order; 0: the class is not written.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    spec: ModelSpec
    values: tuple[int, ...]


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
        divisors: the same of each axis (i, j, k), where the training's patch needs it to be told apart, such as 1 along
            the axis across which patches are single slices; empty: ``divisor`` along each.
        overlap: segmentation: share of a window that neighbours share.
        regions: segmentation: the label values of each output channel, where a voxel may belong to several of them;
            else empty.
        modality: DICOM modality of the images, such as "CT"; empty when unknown.
        channels: names of the images that make up a case, in the network's order; empty for a single one, and where
            nothing named them.
        rules: by which rule each channel's series is chosen among those of a study, in the order of ``channels``; as
            ``convert.channels`` in params.yaml has them. Empty for files that are no DICOM.
        modalities: DICOM's word for the modality of each of ``channels``, in their order, "" where nobody knows; empty
            where none is known.
        profile: what the channels of the training's cases are like, see :class:`voxflow.volumes.ChannelProfile`; empty
            where a case has one, or nobody measured it.
        onto: the channel whose grid the others are brought to, and which the mask lies on; empty: the images of a case
            lie on one grid.
        convert: options of the conversion that differ from the defaults, and that decide which images a study gives and
            their values, as ``convert`` in params.yaml has them; the rule of a single channel is among them.
        mirrored: axes along which the training mirrored images, where its configuration lets inference do so, too.
        region_values: the value that each region writes, one after the other; empty: the regions' own rules.
        nnunet: how an adopted nnU-Net prepares images, and brings its answer back.
        previous: of a cascade, the stage before.
        fixed_window: the network is shown windows of this one size, as an adopted program of another tool is.
        monai: how an adopted MONAI bundle prepares images, and brings its answer back.
        parts: of a joined model, the models that answer one after the other; a later one's classes are written over
            those of an earlier one. Each prepares the image by its own spec.
        totalsegmentator: what is done around an adopted nnU-Net, or around all parts, as TotalSegmentator does it.
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
    channels: tuple[str, ...] = ()
    rules: tuple[dict[str, Any], ...] = ()
    onto: str = ""
    modalities: tuple[str, ...] = ()
    profile: dict[str, Any] = {}
    convert: dict[str, Any] = {}
    mirrored: tuple[Literal["i", "j", "k"], ...] = ()
    region_values: tuple[int, ...] = ()
    nnunet: NnunetSteps | None = None
    previous: PreviousStage | None = None
    fixed_window: bool = False
    monai: MonaiSteps | None = None
    divisors: tuple[int, ...] = ()
    parts: tuple[ModelPart, ...] = ()
    totalsegmentator: TotalSegmentatorSteps | None = None

    @model_validator(mode="after")
    def _name_classes(self) -> Self:
        # The model is frozen; model files of earlier versions may name two classes alike.
        names = name_classes(self.class_names, are_columns=self.task == "classification")
        object.__setattr__(self, "class_names", names)
        if self.regions and (len(self.regions) != len(names) or self.activation != "sigmoid"):
            raise ValueError(f"{len(self.regions)} regions need as many classes and a sigmoid")
        if self.region_values and len(self.region_values) != len(self.regions):
            raise ValueError(f"{len(self.region_values)} region_values need as many regions")
        if self.nnunet and (self.window is None or len(self.nnunet.normalisation) != self.image_count):
            raise ValueError("an adopted nnU-Net has a window, and a normalisation for each channel")
        if self.previous and (self.monai or self.previous.spec.previous):
            raise ValueError("a cascade is no adopted bundle, and has two stages")
        if self.previous and (self.nnunet is None) != (self.previous.mask is None):
            raise ValueError(
                "the mask of a cascade has a resampling of nnU-Net where it is an adopted nnU-Net, else none"
            )
        if self.fixed_window and self.window is None:
            raise ValueError("fixed_window needs a window")
        if self.nnunet and self.monai:
            raise ValueError("a model is adopted from nnU-Net or from MONAI, not from both")
        self._check_parts()
        if len(set(self.channels)) < len(self.channels):
            raise ValueError(f"two channels have one name: {', '.join(self.channels)}")
        if self.rules and len(self.rules) != len(self.channels):
            raise ValueError(f"{len(self.rules)} rules need as many channels; there are {len(self.channels)}")
        if self.modalities and len(self.modalities) != len(self.channels):
            raise ValueError(f"{len(self.modalities)} modalities need as many channels; there are {len(self.channels)}")
        if len(self.divisors) not in (0, 3):
            raise ValueError(f"divisors are those of three axes, received {list(self.divisors)}")
        if self.onto and self.onto not in self.channels:
            raise ValueError(f"onto: {self.onto!r} is not among the channels {', '.join(self.channels)}")
        return self

    def _check_parts(self) -> None:
        for part in self.parts:
            if not part.spec.nnunet or part.spec.previous or part.spec.regions:
                raise ValueError("a part of a joined model is an adopted nnU-Net of one stage, and without regions")
            if len(part.values) != part.spec.out_channels or not all(0 <= n < self.out_channels for n in part.values):
                raise ValueError("each class of a part needs a label value of the joined model")
            if part.spec.image_count != self.image_count or part.spec.reference != self.reference:
                raise ValueError("the parts of a joined model take the same images")
            if part.spec.totalsegmentator:
                raise ValueError("what TotalSegmentator does is done around all parts of a joined model")
        if self.parts and (self.nnunet or self.previous or self.monai):
            raise ValueError("a joined model is prepared by its parts")
        if self.totalsegmentator and (self.previous or self.image_count > 1 or not (self.parts or self.nnunet)):
            raise ValueError("TotalSegmentator runs an nnU-Net of one image and one stage, or several such")

    @model_serializer(mode="wrap")
    def _leave_out_what_is_new(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # A model of one image and of classes that exclude each other has the file that it had before these keys.
        content: dict[str, Any] = serialise(self)
        for key in _LATER_KEYS:
            if key in content and not content[key]:
                del content[key]
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

    def round_up(self, size: Sequence[int]) -> tuple[int, ...]:
        """Return the smallest size that holds another one and that the network can take.

        Args:
            size: voxels along (i, j, k), or pixels along (rows, columns).

        Example:
            >>> names = ("background", "liver")
            >>> spec = ModelSpec(task="segmentation", class_names=names, activation="softmax", divisor=16)
            >>> spec.round_up((60, 64, 5)), spec.model_copy(update={"divisors": (16, 16, 1)}).round_up((60, 64, 5))
            ((64, 64, 16), (64, 64, 5))
        """
        divisors = self.divisors or (self.divisor,) * len(size)
        return tuple(-(-n // divisor) * divisor for n, divisor in zip(size, divisors, strict=True))

    @property
    def out_channels(self) -> int:
        """Channels of the network's answer.

        Example:
            >>> names = ("background", "liver", "spleen")
            >>> ModelSpec(task="segmentation", class_names=names, activation="softmax").out_channels
            3
        """
        return len(self.class_names)

    @property
    def image_count(self) -> int:
        """How many images a case has: the channels that have names; else as many as the network takes."""
        return len(self.channels) or self.of_image.in_channels

    def describe_use(self) -> dict[str, Any]:
        """Describe what a model takes and means, as plain values; what its training's cases were like is left out."""
        cases = {"profile", "modalities"}
        content: dict[str, Any] = self.model_dump(
            mode="json", exclude={**dict.fromkeys(cases, True), "previous": {"spec": cases}}
        )
        return content

    @property
    def of_image(self) -> ModelSpec:
        """The spec of a network that is shown the image alone: that of a cascade without the mask; else this one."""
        if self.previous is None:
            return self
        channels = self.in_channels - len(self.previous.values)
        return self.model_copy(update={"previous": None, "in_channels": channels})

    @property
    def of_network(self) -> ModelSpec:
        """The spec of the network that a model file itself holds: of a joined model its first part's; else this one."""
        return self.parts[0].spec if self.parts else self

    @property
    def has_several_networks(self) -> bool:
        """Whether it is of a cascade or a joined model, whose networks are run one after the other."""
        return bool(self.previous or self.parts)

    @property
    def has_several_images(self) -> bool:
        """Whether a case is several volumes."""
        return self.task == "segmentation" and self.image_count > 1

    @property
    def keeps_window(self) -> bool:
        """Whether the network is only ever shown windows of ``window``'s size."""
        return self.fixed_window or self.nnunet is not None or (self.monai is not None and self.window is not None)

    @property
    def takes_own_grids(self) -> bool:
        """Whether a case's channels may lie on grids of their own, as series of a study do."""
        return bool(self.onto)

    @property
    def reference(self) -> int:
        """Which of a case's images all others are brought to, from 0; the mask lies on its grid.

        Example:
            >>> spec = ModelSpec(task="segmentation", class_names=("background", "tumour"), activation="softmax")
            >>> spec.model_copy(update={"channels": ("CT", "PET"), "onto": "PET"}).reference
            1
        """
        return self.channels.index(self.onto) if self.onto else 0
