"""Defines the training stage's options and what it is told of its data."""

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from voxflow.naming import name_classes

Configuration = Literal["full", "2d", "residual"]


class CacheOptions(BaseModel):
    """The folder of cases after their deterministic transforms, and how long they are kept there.

    Attributes:
        folder: None: the folder that VOXFLOW_CACHE names, else ``voxflow`` in the user's cache folder
            (``~/.cache``, or XDG_CACHE_HOME). It holds the images' content: keep it where the images may lie.
        max_days: cases that no training used for longer are removed.
        max_gb: the longest unused cases are removed until the rest is no larger; those in use stay.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    folder: Path | None = None
    max_days: PositiveFloat = 30.0
    max_gb: PositiveFloat = 200.0


class TrainOptions(BaseModel):
    """The key ``train`` of a workspace in params.yaml.

    Attributes:
        config: the training configuration, relative to the MMAR.
        environment: the environment file, relative to the MMAR; it may be missing.
        set: values that win over both (``epochs: 20``, ``train.optimizer.name: AdamW``).
        plan: "auto": network, patch, batch, scaling of intensities and how often is validated follow from the data's
            fingerprint and this machine, and win over the configuration; ``set`` wins over both. "config": the
            configuration alone decides.
        configuration: what "auto" lays out: "full": one plain U-Net on patches of three dimensions; "2d": one on single
            slices, across the axis of the thickest voxels; "residual": nnU-Net's residual encoder of the preset (M, L
            or XL) that fills the GPU's memory.
        previous: of the second of two stages, the workspace of the first, whose masks the network is shown beside the
            images (docs/two-stages.md); None: there is one stage.
        regions: learn the regions of case_form.json, each judged by itself; false: the values of the label map, as
            classes that exclude each other.
        seed: decides every random choice; the configuration's ``determinism`` wins over it.
        precision: "auto" computes in bfloat16 where the processor has instructions for it, unless the
            configuration says ``use_amp: false``.
        accelerator: "auto" takes a GPU where there is one.
        threads: number of CPU threads; None: all that this process may use.
        workers: threads that prepare batches ahead; None: one where a second core is free, four for a GPU.
        augment_on: where random transforms are applied as they were drawn: "auto" on the GPU where one trains, and
            else on the processor.
        gpu_cache_mb: memory of the GPU that prepared cases may take; None: four tenths of what is free when the
            training begins. Those that find no room are copied patch by patch.
        max_minutes: the training ends cleanly after this long, whatever ``epochs`` says.
        schedule: what the learning-rate policy goes by: the epochs, or "minutes": its whole course fits into
            ``max_minutes``, however fast the machine is.
        checkpoint: a file of weights to start from: a model.pt or model_final.pt, or any file of a plain torch
            state_dict. What does not fit by name and shape starts fresh, and is said.
        pretrained: radiographs with ``plan: auto``: a torch file of ImageNet weights under torchvision's names (a
            DenseNet or a ResNet); the network is the one that they were made of, and begins from them.
        freeze: parameters that stay as they are, by name: ``["encoder.*", "model.0"]``.
        resume: go on with a run of the same configuration, data and start weights that was killed or interrupted.
        state_minutes: how often, at least, all that a continuation needs is written down.
        state_epochs: how often state.pt is written, in epochs; None: after each validation.
        accumulate: batches whose gradients make one step of the optimizer.
        clip_norm: longest gradient (L2 norm over all parameters); None: as it is.
        ema: decay of a running average of the weights (0.999, say), which is then validated and kept instead of
            the weights themselves; "polynomial": an average over the same share of any training; None: none.
        keep: which state becomes model.pt: the "best" by the key metric, the "last" that was validated, or "auto": the
            last where fewer than five cases could choose, since they would choose by chance.
        compile: hand the network to torch.compile. "auto": on a GPU, in a training of 15 minutes and more; on the CPUs
            measured it did not pay (docs/training.md).
        deterministic: let torch use no operation whose result may differ from run to run; slower on a GPU. On a CPU
            trainings are repeatable without it.
        early_stopping: end after this many validations without a better ``stopping_metric``; None: never.
        stopping_metric: name of a metric; None: the key metric.
        peer_timeout_minutes: with several processes, how long one waits for the others before it gives up.
        allow_repeated_cases: a case in two parts of a datalist that a person wrote is a warning, not an error; the
            split stage's own datalist never has one.
        on_bad_case: a case that can't be read or transformed stops the training, or is named and left out.
        cache: folder and limits of the prepared cases.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    config: str = "config/config_train.json"
    environment: str = "config/environment.json"
    set: dict[str, Any] = Field(default_factory=dict)
    plan: Literal["config", "auto"] = "config"
    configuration: Configuration = "full"
    previous: str | None = None
    regions: bool = True
    seed: NonNegativeInt = 0
    precision: Literal["auto", "bf16", "fp16", "fp32"] = "auto"
    accelerator: Literal["auto", "cpu", "cuda"] = "auto"
    threads: PositiveInt | None = None
    workers: NonNegativeInt | None = None
    augment_on: Literal["auto", "processor", "device"] = "auto"
    gpu_cache_mb: NonNegativeInt | None = None
    max_minutes: PositiveFloat | None = None
    schedule: Literal["epochs", "minutes"] = "epochs"
    checkpoint: Path | None = None
    pretrained: Path | None = None
    freeze: tuple[str, ...] = ()
    resume: bool = True
    state_minutes: PositiveFloat = 10.0
    state_epochs: PositiveInt | None = None
    accumulate: PositiveInt = 1
    clip_norm: PositiveFloat | None = None
    ema: float | Literal["polynomial"] | None = None
    keep: Literal["best", "last", "auto"] = "best"
    compile: bool | Literal["auto"] = "auto"
    deterministic: bool = False
    early_stopping: PositiveInt | None = None
    stopping_metric: str | None = None
    peer_timeout_minutes: PositiveFloat = 30.0
    allow_repeated_cases: bool = False
    on_bad_case: Literal["stop", "skip"] = "stop"
    cache: CacheOptions = CacheOptions()

    @field_validator("ema", mode="before")
    @classmethod
    def _check_average(cls, value: Any) -> Any:
        if value not in (None, "polynomial") and not (isinstance(value, float) and 0 < value < 1):
            raise ValueError("a decay between 0 and 1, or polynomial")
        return value

    @model_validator(mode="after")
    def _require_minutes(self) -> Self:
        if self.schedule == "minutes" and self.max_minutes is None:
            raise ValueError("schedule: minutes needs max_minutes")
        if self.pretrained is not None and self.plan != "auto":
            raise ValueError("pretrained needs plan: auto; with plan: config, pretrain_weight_name of the network")
        if self.configuration != "full" and self.plan != "auto":
            raise ValueError(f"configuration: {self.configuration} needs plan: auto")
        return self


CHANNEL_KEYS = ("channels", "rules", "onto", "modalities", "profile", "convert")


class DataFacts(BaseModel):
    """What earlier stages know of the data and the model file must remember; see ``ModelSpec``.

    Attributes:
        class_names: names of the classes or findings; a column of several classes may have one name for all.
        label_format: classification: the datalist's, where it is known.
        label_values: segmentation: the values that a label may hold, with the background's; empty where that is not
            known.
        channels, rules, onto, modalities, profile: of cases of several images.
        convert: options of the conversion that new DICOM needs, too.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    class_names: tuple[str, ...]
    label_format: tuple[int, ...] = ()
    # What a training is known by has the values already: as the class names.
    label_values: tuple[int, ...] = Field(default=(), exclude=True)
    spacing_mm: tuple[float, float, float] | None = None
    orientation: str | None = None
    interpolation: Literal["linear", "nearest", "bspline"] = "linear"
    extent: Literal["faces", "centres"] = "faces"
    antialias: bool = False
    size: tuple[int, int] | None = None
    modality: str = ""
    channels: tuple[str, ...] = ()
    rules: tuple[dict[str, Any], ...] = ()
    onto: str = ""
    modalities: tuple[str, ...] = ()
    profile: dict[str, Any] = {}
    convert: dict[str, Any] = {}

    @model_serializer(mode="wrap")
    def _leave_out_single(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # A training of one image a case has the digest that it had before these keys, and so goes on.
        content: dict[str, Any] = serialise(self)
        return {key: value for key, value in content.items() if value or key not in CHANNEL_KEYS}

    @field_validator("class_names")
    @classmethod
    def _name_classes(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return name_classes(names)
