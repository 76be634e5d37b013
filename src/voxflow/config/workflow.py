"""Owns the one typed model that every dialect is read into and that alone is ever built."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

from voxflow.components.component import Component
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
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: PositiveInt = 1
    num_training_epoch_per_valid: PositiveInt = 1
    learning_rate: PositiveFloat = 1e-4
    multi_gpu: bool = False
    determinism: Determinism = Field(default_factory=Determinism)
    use_amp: bool | None = None
    dynamic_input_shape: bool = False


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


@dataclass(frozen=True)
class ValidateSection:
    """What validation is made of; disabled components are left out."""

    image_pipeline: Component
    inferer: Component
    metrics: tuple[Component, ...] = ()
    pre_transforms: tuple[Component, ...] = ()


@dataclass(frozen=True)
class Workflow:
    """One training configuration, read, substituted and checked.

    Attributes:
        task: what the model does, from PROCESSING_TASK or else from the kind of image pipeline.
        path: the file that it was read from.
    """

    task: Task
    path: Path
    globals: Globals
    train: TrainSection
    validate: ValidateSection
