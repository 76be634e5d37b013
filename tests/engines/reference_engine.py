"""An engine that Voxflow does not have: ONNX's own evaluator, in NumPy. It is slow, and needs no compiled library."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from voxflow.engines.files import is_local, read_spec
from voxflow.engines.protocol import Engine, EngineKind

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from voxflow.engines.source import ExportSource


class ReferenceKind(EngineKind):
    """Runs a copy of the ONNX file."""

    name: ClassVar[str] = "reference"
    title: ClassVar[str] = "ONNX's reference evaluator"
    file: ClassVar[str] = "model.reference"
    format: ClassVar[str | None] = "reference"
    package: ClassVar[str] = "onnx"
    is_optimised: ClassVar[bool] = True

    def open(self, file: Path, variant: str | None = None) -> ReferenceEngine:
        return ReferenceEngine(file)

    def write(self, source: ExportSource) -> None:
        shutil.copyfile(source.onnx_file, source.folder / self.file)


class ReferenceEngine(Engine):
    """Runs a batch operator by operator."""

    name = ReferenceKind.name

    def __init__(self, path: Path) -> None:
        import onnx
        from onnx.reference import ReferenceEvaluator

        model = onnx.load(path)
        texts = {entry.key: entry.value for entry in model.metadata_props}
        self.spec = read_spec(texts.get("voxflow_spec", ""), path)
        self.is_local = is_local(node.op_type for node in model.graph.node)
        self._evaluator = ReferenceEvaluator(model)

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(self._evaluator.run(None, {"image": batch})[0], dtype=np.float32)
