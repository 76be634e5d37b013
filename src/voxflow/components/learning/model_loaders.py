"""Finding the model that a validation configuration names, by its role: checkpoint, export or optimised engine."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Literal

from pydantic import Field

from voxflow.components.registry import ComponentModel, register
from voxflow.errors import DataError

Role = Literal["checkpoint", "regular", "optimised"]
# What may stand for each role, the most fitting first; {} is the name before the first dot.
FILES: dict[Role, tuple[str, ...]] = {
    "checkpoint": ("{}.pt",),
    "regular": ("{}.fzn.*", "{}.frn.*", "{}.ts", "{}.onnx"),
    "optimised": ("{}.trt.*", "{}.engine", "{}.plan", "{}.xml"),
}
# An export that is missing is stood in for by what it is made from.
INSTEAD: dict[Role, tuple[Role, ...]] = {
    "checkpoint": ("checkpoint",),
    "regular": ("regular", "checkpoint"),
    "optimised": ("optimised", "regular", "checkpoint"),
}


class ModelLoader(ComponentModel, ABC):
    """Names a model by role; nodes of a graph have no meaning here.

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

    @property
    @abstractmethod
    def role(self) -> Role:
        """What it is for."""

    def find_file(self, root: Path = Path()) -> Path:
        """The model's file, of the best kind that is there.

        Args:
            root: what a relative path begins in.

        Raises:
            DataError: there is none; names what was looked for.
        """
        file = root / self.path
        if file.is_file():
            return file
        stem = file.name.partition(".")[0]
        patterns = [pattern.format(stem) for role in INSTEAD[self.role] for pattern in FILES[role]]
        matches = (
            match
            for pattern in patterns
            for match in sorted(file.parent.glob(pattern))
            if match.suffix not in (".bin", ".json")
        )
        path = next(matches, None)
        if path is None:
            raise DataError(f"no model there: looked for {', '.join(patterns)}", path=file.parent)
        return path


@register("model_loader")
class FrozenGraphModelLoader(ModelLoader):
    """An exported model: ``.trt.pb`` means the optimised one, any other name the regular one."""

    model_file_path: str = Field(min_length=1)

    @property
    def path(self) -> Path:
        """The file as the configuration names it."""
        return Path(self.model_file_path)

    @property
    def role(self) -> Role:
        """Optimised or regular."""
        return "optimised" if ".trt" in self.path.name else "regular"


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

    @property
    def role(self) -> Role:
        """Always a checkpoint."""
        return "checkpoint"
