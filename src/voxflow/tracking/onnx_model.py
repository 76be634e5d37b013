"""Keeps an exported ONNX file as an MLflow model: with a signature, so that it can be registered, served and loaded."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


def log_onnx(path: Path, name: str) -> str:
    """Log an ONNX file to the active MLflow run.

    Args:
        path: the ONNX file.
        name: of the logged model, such as "model".

    Returns:
        The model's URI, such as ``models:/m-0123...``.
    """
    with warnings.catch_warnings():
        # MLflow warns of type hints in its own modules when it loads them.
        warnings.simplefilter("ignore")
        import mlflow.onnx
        import numpy as np
        import onnx

        model = onnx.load(str(path))
        needed = [*mlflow.onnx.get_default_pip_requirements(), f"numpy=={np.__version__}"]
        info = mlflow.onnx.log_model(model, name=name, signature=_read_signature(model), pip_requirements=needed)
    return str(info.model_uri)


def _read_signature(model: Any) -> Any:
    """Read the signature from the ONNX graph's inputs and outputs; -1 where a size may vary."""
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec
    from onnx.helper import tensor_dtype_to_np_dtype

    def spec(value: Any) -> TensorSpec:
        tensor = value.type.tensor_type
        shape = tuple(d.dim_value if d.HasField("dim_value") else -1 for d in tensor.shape.dim)
        return TensorSpec(tensor_dtype_to_np_dtype(tensor.elem_type), shape, value.name)

    return ModelSignature(Schema([spec(v) for v in model.graph.input]), Schema([spec(v) for v in model.graph.output]))
