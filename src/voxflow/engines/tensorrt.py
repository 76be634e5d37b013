"""Owns running TensorRT engines; written against the Python API of TensorRT 10 and 11.

An engine file belongs to one TensorRT version and one GPU model, so that ``model.engine.json`` beside it names
both, with the spec.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict

from voxflow.components import find_custom_folder
from voxflow.errors import DataError, VoxflowError
from voxflow.spec import ModelSpec

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from voxflow.engines.protocol import EngineName

INPUT_NAME = "image"
OUTPUT_NAME = "logits"


def unusable_reason() -> str | None:
    """Why TensorRT can't be used on this machine, and what would help; None when it can."""
    try:
        import tensorrt  # noqa: F401
    except (ImportError, OSError):
        return "tensorrt is not installed (pip install 'voxflow[tensorrt]'; it needs an NVIDIA GPU and CUDA 13)"
    import torch

    return None if torch.cuda.is_available() else "torch sees no NVIDIA GPU"


def sidecar(path: Path) -> Path:
    """The JSON file beside an engine file."""
    return path.with_name(path.name + ".json")


def built_for() -> dict[str, str]:
    """What an engine file built here is tied to."""
    import tensorrt
    import torch

    return {"tensorrt": str(tensorrt.__version__), "gpu": torch.cuda.get_device_name()}


class Description(BaseModel):
    """What stands in the file beside an engine.

    Attributes:
        spec: what the model takes and means.
        is_local: see :class:`voxflow.engines.Engine`.
        built_for: the TensorRT version and the GPU that it runs on.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    spec: ModelSpec
    is_local: bool
    built_for: dict[str, str]

    @classmethod
    def beside(cls, path: Path) -> Description:
        """Read the description of an engine file.

        Raises:
            DataError: it is not there, or no such description.
        """
        file = sidecar(path)
        if not file.is_file():
            raise DataError("the engine's description is missing beside it", path=file)
        try:
            return cls.model_validate_json(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise DataError("no description of an engine; export it again", path=file) from error

    @property
    def elsewhere(self) -> str | None:
        """Why the engine can't run on this machine; None when it can."""
        here = built_for()
        if self.built_for == here:
            return None
        return f"built for {_told(self.built_for)}, this machine has {_told(here)}; export it here"


class TensorRtEngine:
    """Runs model.engine on the GPU; torch holds the device memory."""

    name: ClassVar[EngineName] = "tensorrt"
    device: ClassVar[str] = "cuda"

    def __init__(self, path: Path) -> None:
        import tensorrt

        described = Description.beside(path)
        reason = described.elsewhere
        if reason is not None:
            raise DataError(reason, path=path)
        self.spec = described.spec.at(find_custom_folder(path))
        self.is_local = described.is_local
        # The logger and the runtime must outlive the engine.
        self._logger = tensorrt.Logger(tensorrt.Logger.WARNING)
        self._runtime = tensorrt.Runtime(self._logger)
        self._engine = self._runtime.deserialize_cuda_engine(path.read_bytes())
        if self._engine is None:
            raise DataError("TensorRT can't read this engine", path=path)
        self._context = self._engine.create_execution_context()
        least, _, most = self._engine.get_tensor_profile_shape(INPUT_NAME, 0)
        self.smallest, self.largest = tuple(least)[2:], tuple(most)[2:]
        self.batch = int(most[0])

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """See :class:`voxflow.engines.Engine`."""
        import torch

        image = torch.from_numpy(np.ascontiguousarray(batch)).to(self.device)
        self._check(self._context.set_input_shape(INPUT_NAME, tuple(image.shape)), f"input of shape {batch.shape}")
        shape = tuple(self._context.get_tensor_shape(OUTPUT_NAME))
        logits = torch.empty(shape, dtype=torch.float32, device=self.device)
        self._context.set_tensor_address(INPUT_NAME, image.data_ptr())
        self._context.set_tensor_address(OUTPUT_NAME, logits.data_ptr())
        stream = torch.cuda.current_stream()
        self._check(self._context.execute_async_v3(stream.cuda_stream), "execution")
        stream.synchronize()
        return np.asarray(logits.cpu().numpy())

    def _check(self, done: Any, what: str) -> None:
        if not done:
            raise VoxflowError(f"TensorRT refused: {what}; sizes from {self.smallest} to {self.largest} fit")


def _told(tied_to: dict[str, str]) -> str:
    return " and ".join(f"{what} {which}" for what, which in tied_to.items())
