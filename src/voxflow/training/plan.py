"""Turns a checked workflow into the typed parts that the loop runs, and says what does not fit the data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from voxflow.components import (
    BratsConvertLabels,
    Chain,
    Component,
    ConvertToRegions,
    RandomSpatialFlip,
    ShowPreviousMask,
    complete_network,
    count_logits,
    create,
    name_logits,
    plain_name,
    read_network,
)
from voxflow.errors import ConfigError
from voxflow.findings import FindingCollector
from voxflow.naming import name_classes
from voxflow.spec import ModelSpec, TransformSpec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from voxflow.components import (
        AuxiliaryOperation,
        Inferer,
        LearningRatePolicy,
        Loss,
        Metric,
        Network,
        Optimizer,
        Pipeline,
        Transform,
    )
    from voxflow.config import Workflow
    from voxflow.training.options import DataFacts
    from voxflow.training.unlabelled import UnlabelledClasses

AxisName = Literal["i", "j", "k"]
AXES: tuple[AxisName, ...] = get_args(AxisName)


@dataclass(frozen=True)
class TrainingPlan:
    """Every part of a training, typed, before data is read and before torch is imported.

    Attributes:
        regions: the label values of each channel of the answer by its name, where the training's chain makes a mask
            of each; else empty.
        unlabelled: what to leave out; None where every class was labelled everywhere.
    """

    workflow: Workflow
    facts: DataFacts
    network: Network
    loss: Loss
    optimizer: Optimizer
    policy: LearningRatePolicy | None
    train_chain: Chain
    train_pipeline: Pipeline
    valid_chain: Chain
    valid_pipeline: Pipeline
    inferer: Inferer
    metrics: tuple[Metric, ...]
    aux_ops: tuple[AuxiliaryOperation, ...]
    regions: Mapping[str, tuple[int, ...]]
    unlabelled: UnlabelledClasses | None = None

    @classmethod
    def build(cls, workflow: Workflow, facts: DataFacts) -> TrainingPlan:
        """Build every part.

        Raises:
            ConfigError: the parts don't fit each other or the data, all at once.
        """
        train, validate = workflow.train, workflow.validate
        train_chain, valid_chain = Chain.build(train.pre_transforms), Chain.build(validate.pre_transforms)
        network = read_network(train.model)
        regions = _find_regions(train_chain, network, facts)
        names = name_classes(tuple(regions) or name_logits(facts.class_names, facts.label_format))
        plan = cls(
            workflow=workflow,
            facts=facts.model_copy(update={"class_names": names}),
            network=network,
            loss=create("loss", train.loss),
            optimizer=create("optimizer", train.optimizer),
            policy=create("lr_policy", train.lr_policy) if train.lr_policy else None,
            train_chain=train_chain,
            train_pipeline=create("pipeline", train.image_pipeline),
            valid_chain=valid_chain,
            valid_pipeline=create("pipeline", validate.image_pipeline),
            inferer=create("inferer", validate.inferer),
            metrics=tuple(create("metric", metric) for metric in validate.metrics),
            aux_ops=tuple(create("aux_op", operation) for operation in train.aux_ops),
            regions=regions,
        )
        plan._check()
        return plan

    def _check(self) -> None:
        findings = FindingCollector(self.workflow.path)
        classes, configured = len(self.facts.class_names), self.network.num_classes
        if configured is not None and configured != classes:
            names = ", ".join(self.facts.class_names)
            message = f"{configured}, but the data has {classes}: {names}"
            findings.error("class-count", "train.model.args.num_classes", message)
        if self.workflow.task == "segmentation":
            self._check_sizes(findings)
        elif self.facts.label_format and count_logits(self.facts.label_format) != classes:
            expected = count_logits(self.facts.label_format)
            message = f"label_format {list(self.facts.label_format)} asks for {expected} logits, not {classes}"
            findings.error("class-count", "train.model", message)
        # A crop of fixed size takes the same place of a case each time; see validation.
        changing = [transform for transform in self.valid_chain.tail if transform.is_random and not transform.patch()]
        if changing:
            name = plain_name(changing[0].component_name())
            message = f"{name} is random; validation must be the same each time"
            findings.error("random-validation", "validate.pre_transforms", message)
        self._check_regions(findings)
        if sum(metric.is_key_metric for metric in self.metrics) > 1:
            findings.error("key-metrics", "validate.metrics", "several metrics say is_key_metric; exactly one decides")
        findings.raise_errors()

    def _check_regions(self, findings: FindingCollector) -> None:
        """Masks that validation makes otherwise, that need a sigmoid each, or that stay empty in every case."""
        # As lists: the order of the channels counts.
        if [*self.regions.items()] != [*_find_regions(self.valid_chain, self.network, self.facts).items()]:
            message = "the label's masks differ between training and validation"
            findings.error("regions", "validate.pre_transforms", message)
        if self.regions and self.network.final_activation != "sigmoid":
            message = f"the label becomes a mask for each of {', '.join(self.regions)}: each is judged by itself"
            findings.error("activation", "train.model.args.final_activation", message, "write 'sigmoid'")
        values = self.facts.label_values
        for name, members in self.regions.items() if values else ():
            if not set(members) & set(values):
                means = f"{name} means label value {' or '.join(map(str, members))}"
                message = f"{means}, the data have {', '.join(map(str, values))}"
                findings.error("regions", "train.pre_transforms", message)

    def _check_sizes(self, findings: FindingCollector) -> None:
        """Windows that the network can't halve often enough, found before any data is read."""
        least = self.network.least_size
        sizes = {"train.pre_transforms": self.patch, "validate.inferer.args.roi_size": self.roi}
        for json_path, size in sizes.items():
            if size is not None and not self._fits_strides(size):
                message = f"size {list(size)} is no multiple of {self.network.divisor}, which {self._name} needs"
                findings.error("patch-divisor", json_path, message)
            elif size is not None and len(size) == len(least) and any(n < m for n, m in zip(size, least, strict=True)):
                message = f"size {list(size)} is smaller than {list(least)}, which {self._name} needs"
                findings.error("patch-divisor", json_path, message)

    def _fits_strides(self, size: Sequence[int]) -> bool:
        divisors = self.network.divisors
        if len(divisors) != len(size):
            return not any(n % self.network.divisor for n in size)
        return not any(n % divisor for n, divisor in zip(size, divisors, strict=True))

    @property
    def _divisors(self) -> tuple[int, ...]:
        """What the window's sizes are multiples of, where one of them is no multiple of the largest."""
        is_apart = self._window is not None and any(n % self.network.divisor for n in self._window)
        return self.network.divisors if is_apart else ()

    @property
    def _name(self) -> str:
        return self.network.component_name()

    @property
    def patch(self) -> tuple[int, int, int] | None:
        """The training patch (i, j, k); None when whole images are learnt from."""
        sizes = [transform.patch() for transform in (*self.train_chain.head, *self.train_chain.tail)]
        cropped = [(size[0], size[1], size[2]) for size in sizes if size is not None and len(size) == 3]
        return cropped[-1] if cropped else None

    @property
    def input_size(self) -> tuple[int, ...] | None:
        """The one size that the network sees in training; None when images differ."""
        size = self.train_pipeline.output_crop_size
        return self.patch if -1 in size else size

    @property
    def has_fixed_shapes(self) -> bool:
        """Whether the network sees one size of image in training, and one size of window in validation."""
        slides = self.workflow.task != "segmentation" or self.roi is not None
        return self.input_size is not None and -1 not in self.input_size and slides

    @property
    def roi(self) -> tuple[int, int, int] | None:
        """The window of validation (i, j, k), voxels; None where whole images are validated."""
        size = getattr(self.inferer, "roi_size", None)
        return (size[0], size[1], size[2]) if size and len(size) == 3 else None

    @property
    def _window(self) -> tuple[int, int, int] | None:
        """The window that inference slides: the training patch; in Clara 4 that of validation, which may be larger."""
        if self.workflow.dialect == "clara4" and self.roi is not None and min(self.roi) > 0:
            return self.roi
        return self.patch or self.roi

    @property
    def key_metric(self) -> Metric | None:
        """The metric that decides which model is the best: the one marked, else the first."""
        marked = [metric for metric in self.metrics if metric.is_key_metric]
        return next(iter([*marked, *self.metrics]), None)

    @property
    def label_values(self) -> int:
        """Values of a mask lie below this; where channels are judged by themselves even a single one has 0 and 1."""
        highest = max((value for values in self.regions.values() for value in values), default=0)
        classes = max(len(self.facts.class_names), highest + 1)
        return max(2, classes) if self.network.final_activation == "sigmoid" else classes

    def complete_network(self, in_channels: int) -> Component:
        """The network with its channel counts filled in.

        Raises:
            ConfigError: the configuration asks for another number of input channels than the images have.
        """
        configured_channels = {
            "train.model.args.in_channels": self.network.in_channels,
            "train.image_pipeline.args.output_image_channels": self.train_pipeline.output_image_channels,
        }
        for json_path, configured in configured_channels.items():
            if configured is not None and configured != in_channels:
                message = f"{configured}, but the images have {in_channels} channel(s) after the transforms"
                raise ConfigError(message, path=self.workflow.path, where=json_path)
        model = self.workflow.train.model
        classes = len(self.facts.class_names)
        return complete_network(model, in_channels=in_channels, num_classes=classes, patch=self.input_size)

    def make_spec(self, in_channels: int) -> ModelSpec:
        """Describe the model for its file: how to feed it, and what its answer means.

        Args:
            in_channels: channels of an image after the transforms.
        """
        is_volume = self.workflow.task == "segmentation"
        target_shapes = [size for t in self.valid_chain.head if (size := getattr(t, "target_shape", None))]
        size = (target_shapes[-1][0], target_shapes[-1][1]) if target_shapes and not is_volume else self.facts.size
        return ModelSpec(
            task=self.workflow.task,
            in_channels=in_channels,
            class_names=self.facts.class_names,
            activation=self.network.final_activation,
            spacing_mm=self._spacing,
            extent=self.facts.extent,
            interpolation=self.facts.interpolation,
            antialias=self.facts.antialias,
            orientation=self._orientation,
            size=None if is_volume else size,
            preprocess=tuple(filter(None, map(_read_preprocessing, self.valid_chain.head))),
            window=self._window if is_volume else None,
            divisor=self.network.divisor,
            divisors=self._divisors if is_volume else (),
            overlap=getattr(self.inferer, "overlap", 0.25),
            modality=self.facts.modality,
            regions=tuple(self.regions.values()),
            convert=self.facts.convert,
            mirrored=self._mirror_axes,
            **self._describe_channels(in_channels - len(self.previous_values)),
        )

    @property
    def previous_values(self) -> tuple[int, ...]:
        """The label values of a first stage's mask that are channels of the network's input; empty: there is none."""
        chain = (*self.valid_chain.head, *self.valid_chain.tail)
        return next((step.values for step in chain if isinstance(step, ShowPreviousMask)), ())

    @property
    def _mirror_axes(self) -> tuple[AxisName, ...]:
        """Axes that the training mirrors and inference may mirror, too."""
        flips = [t for t in self.train_chain.tail if isinstance(t, RandomSpatialFlip) and t.in_inference]
        axes = {axis for flip in flips for axis in (AXES if flip.axes is None else flip.axes)}
        # A radiograph has no third axis.
        own_axes = AXES if self.workflow.task == "segmentation" else AXES[:2]
        return tuple(axis for axis in own_axes if axis in axes)

    def _describe_channels(self, in_channels: int) -> dict[str, Any]:
        """Names, rules and reference of a case's images, where each image is one channel of the network's input."""
        if in_channels < 2 or len(self.facts.channels) != in_channels:
            return {}
        return {key: getattr(self.facts, key) for key in ("channels", "rules", "onto", "modalities", "profile")}

    @property
    def _spacing(self) -> tuple[float, float, float] | None:
        """The spacing in mm that validation resamples to last; else the data's own."""
        targets = [getattr(transform, "target_resolution", None) for transform in self.valid_chain.head]
        spacings = [target for target in targets if isinstance(target, tuple)]
        return spacings[-1] if spacings else self.facts.spacing_mm

    @property
    def _orientation(self) -> str | None:
        """The orientation, such as "LPS", that validation turns images to last; else the data's own."""
        axis_codes = [axes for transform in self.valid_chain.head if (axes := getattr(transform, "axcodes", None))]
        return axis_codes[-1] if axis_codes else self.facts.orientation


def _find_regions(chain: Chain, network: Network, facts: DataFacts) -> Mapping[str, tuple[int, ...]]:
    """The label values of each region that a chain makes masks of; empty where it makes none."""
    for transform in reversed((*chain.head, *chain.tail)):
        # A user's own class is tried out, which only a network that judges masks one by one is worth.
        if network.final_activation == "sigmoid" or isinstance(transform, ConvertToRegions | BratsConvertLabels):
            regions = transform.list_regions(facts.label_values)
            if regions:
                return regions
    return {}


def _read_preprocessing(transform: Transform) -> TransformSpec | None:
    """Describe what inference must repeat of a transform: changes of the image after loading and resampling."""
    args = transform.for_field("image") if transform.is_preprocessing else None
    if args is None:
        return None
    return TransformSpec(name=transform.component_name(), args=args, path=getattr(transform, "path", None))
