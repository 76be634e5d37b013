"""Owns the engine onnxruntime: model.onnx on the CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from voxflow.engines.files import fixed_size, is_local, onnx_operators, read_spec
from voxflow.errors import DataError
from voxflow.machine import count_cores

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from voxflow.engines.protocol import EngineName

# The ONNX metadata that holds the ModelSpec's JSON.
SPEC_KEY = "voxflow_spec"


class OnnxRuntimeEngine:
    """Runs model.onnx on the CPU."""

    name: ClassVar[EngineName] = "onnxruntime"
    batch: ClassVar[int] = 1

    def __init__(self, path: Path) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = count_cores()
        # A failure raises; its lines on stderr would only say it twice.
        options.log_severity_level = 4
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise DataError(f"no ONNX model: {str(error).splitlines()[0]}", path=path) from error
        self.spec = read_spec(self._session.get_modelmeta().custom_metadata_map.get(SPEC_KEY, ""), path)
        self.is_local = is_local(onnx_operators(path))
        self._input = self._session.get_inputs()[0]
        self.smallest = self.largest = fixed_size(self._input.shape[2:])

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """See :class:`voxflow.engines.Engine`."""
        return np.asarray(self._session.run(None, {self._input.name: np.ascontiguousarray(batch)})[0])
