"""The typed model of a configuration: every dialect is read into it, and training builds nothing else."""

from dataclasses import field
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

from voxflow.components import Component
from voxflow.spec import Task


class Determinism(BaseModel):
    """Seeds as Clara names them; one that is left out falls back on the training option ``seed``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    python_seed: str | int | None = None
    random_seed: int | None = None
    numpy_seed: int | None = None
    tf_seed: int | None = None


class Globals(BaseModel):
    """The values that stand beside ``train`` and ``validate``.

    Attributes:
        use_amp: None: mixed precision where the processor has it; true and false decide.
        dynamic_input_shape: accepted; networks here are fully convolutional and always take any size.
        train_summary_recording_interval: steps between two points of the training curves; None: one an epoch.
        record_step: "every_epoch", "best_only", or epochs between two checkpoints besides best and final; None:
            those two only (TLT 2).
        continue_from_checkpoint_epoch: go on counting epochs where the checkpoint ended (TLT 2).
        num_label_channels: channels of the label once its transforms have run; None: whatever they make (TLT 2).
        description: what the configuration says of itself.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: PositiveInt = 1
    num_training_epoch_per_valid: PositiveInt = 1
    learning_rate: PositiveFloat = 1e-4
    multi_gpu: bool = False
    determinism: Determinism = Field(default_factory=Determinism)
    use_amp: bool | None = None
    dynamic_input_shape: bool = False
    train_summary_recording_interval: PositiveInt | None = None
    record_step: PositiveInt | Literal["every_epoch", "best_only"] | None = None
    continue_from_checkpoint_epoch: bool = False
    num_label_channels: PositiveInt | None = None
    description: str = ""


@dataclass(frozen=True)
class TrainSection:
    """What training is made of; disabled components are left out."""

    model: Component
    loss: Component
    optimizer: Component
    image_pipeline: Component
    lr_policy: Component | None = None
    pre_transforms: tuple[Component, ...] = ()
    aux_ops: tuple[Component, ...] = ()
    batch_transforms: tuple[Component, ...] = ()
    handlers: tuple[Component, ...] = ()


@dataclass(frozen=True)
class ValidateSection:
    """What validation is made of; disabled components are left out.

    Attributes:
        centre_crop: the crop that the file's image pipeline asks for though windows judge whole volumes; None: none.
    """

    image_pipeline: Component
    inferer: Component
    metrics: tuple[Component, ...] = ()
    pre_transforms: tuple[Component, ...] = ()
    batch_transforms: tuple[Component, ...] = ()
    handlers: tuple[Component, ...] = ()
    centre_crop: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Workflow:
    """One training configuration, read, substituted and checked.

    Attributes:
        task: what the model does, from PROCESSING_TASK or else from the kind of image pipeline.
        path: the file that it was read from.
        dialect: the language that the file is written in.
        start_weights: the checkpoint that the training is to begin from, as the file names it; empty: fresh weights.
        variables: DATA_ROOT, DATASET_JSON, MMAR_CKPT and the like, after configuration < environment < ``--set``.
    """

    task: Task
    path: Path
    globals: Globals
    train: TrainSection
    validate: ValidateSection
    dialect: str = "clara3"
    start_weights: str = ""
    variables: dict[str, Any] = field(default_factory=dict)


class EvaluationValues(BaseModel):
    """The plain values of a configuration of validation and inference; see :class:`Evaluation`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    batch_size: PositiveInt = 1
    do_validation: bool = True
    output_infer_result: bool = True
    multi_gpu: bool = False
    use_scanning_window: bool | None = None


@dataclass(frozen=True)
class MetricReports:
    """The CSV files that Clara 4's MetricsSaver writes.

    Attributes:
        folder: where they go; empty: the evaluation's own folder.
        metrics: names of the metrics in metrics.csv; None: none, () every one.
        details: names of those that get NAME_raw.csv; likewise.
        summaries: what NAME_summary.csv holds, such as ("mean", "90percentile"); () everything, None: no such file.
    """

    folder: str = ""
    metrics: tuple[str, ...] | None = ()
    details: tuple[str, ...] | None = None
    summaries: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Evaluation:
    """One configuration of validation and inference, read, substituted and checked.

    Attributes:
        task: what the model does, from PROCESSING_TASK or else from the components.
        path: the file that it was read from.
        batch_size: images that go through the model at once.
        model_loader: which file of the model; None: the command says.
        inferer: how an image goes through the model; None (TLT 2): the command's ``--setup`` says.
        transforms: of the image, before the model.
        label_transforms: of the label; not run for inference.
        post_transforms: of the model's answer, which holds probabilities under each of ``output_names``.
        val_metrics: what is measured; not for inference.
        writers: what is written.
        image_pipeline: how images are read; None: one after the other.
        input_name: the field that the model reads.
        output_names: the fields that the model's answer goes by: "model", and in TLT 2 the graph's own name of
            that node too.
        data_list_key: the datalist's key, from DATA_LIST_KEY.
        do_validation: compute the metrics.
        output_infer_result: run the writers.
        multi_gpu: share the images between processes.
        use_scanning_window: how an image goes through the model where no inferer says; None: the command says.
        answers_logits: ``output_names`` hold logits, which post_transforms turn into masks, as Clara 4 has it.
        network: the network that the file describes for the weights of a checkpoint; None: the model file's own.
        metric_reports: CSV files of the metrics; None: none.
        dialect: the language that the file is written in.
        variables: DATA_ROOT, DATASET_JSON, MMAR_CKPT_DIR and the like, after configuration < environment <
            ``--set``.
    """

    task: Task
    path: Path
    batch_size: PositiveInt = 1
    model_loader: Component | None = None
    inferer: Component | None = None
    transforms: tuple[Component, ...] = ()
    label_transforms: tuple[Component, ...] = ()
    post_transforms: tuple[Component, ...] = ()
    val_metrics: tuple[Component, ...] = ()
    writers: tuple[Component, ...] = ()
    image_pipeline: Component | None = None
    input_name: str = "image"
    output_names: tuple[str, ...] = ("model",)
    data_list_key: str = "validation"
    do_validation: bool = True
    output_infer_result: bool = True
    multi_gpu: bool = False
    use_scanning_window: bool | None = None
    answers_logits: bool = False
    network: Component | None = None
    metric_reports: MetricReports | None = None
    dialect: str = "clara3"
    variables: dict[str, Any] = field(default_factory=dict)
