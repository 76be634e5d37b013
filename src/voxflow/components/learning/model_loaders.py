"""How a validation configuration names its model: a checkpoint, or an exported file."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Literal

from pydantic import Field

from voxflow.components.registry import ComponentModel, register


class ModelLoader(ComponentModel, ABC):
    """Names a model's file; nodes of a graph have no meaning here.

    Attributes:
        input_node_names: accepted; a network here has one input.
        output_node_names: accepted; a network here has one output.
        infer_in_training_mode: must stay false.
    """

    input_node_names: dict[str, str] | None = None
    output_node_names: dict[str, str] | None = None
    infer_in_training_mode: Literal[False] = False

    @property
    @abstractmethod
    def path(self) -> Path:
        """The file as the configuration names it."""


@register("model_loader")
class FrozenGraphModelLoader(ModelLoader):
    """An exported model: ``.trt.pb`` means the optimised one, any other name the regular one."""

    model_file_path: str = Field(min_length=1)

    @property
    def path(self) -> Path:
        """The file as the configuration names it."""
        return Path(self.model_file_path)


@register("handler")
@register("model_loader")
class CheckpointLoader(ModelLoader):
    """A training's checkpoint.

    Attributes:
        checkpoint_dir: its folder.
        checkpoint_file_prefix: its name; model.ckpt means model.pt.
    """

    checkpoint_dir: str = Field(min_length=1)
    checkpoint_file_prefix: str = "model.ckpt"

    @property
    def path(self) -> Path:
        """The file as the configuration names it."""
        return Path(self.checkpoint_dir) / self.checkpoint_file_prefix
