"""Converts ONNX models to half precision: a strongly typed TensorRT network computes in what its ONNX file says."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

# Operators that sum or multiply so many values that half precision overflows, beyond 65504, or loses them.
SINGLE_PRECISION = (
    "BatchNormalization",
    "Exp",
    "GlobalAveragePool",
    "GroupNormalization",
    "InstanceNormalization",
    "LayerNormalization",
    "Log",
    "MeanVarianceNormalization",
    "Pow",
    "ReduceL2",
    "ReduceMean",
    "ReduceSum",
    "Softmax",
)


def write_half(source: Path, target: Path) -> None:
    """Write an ONNX model whose weights and arithmetic are float16, with float32 in and out.

    Norms, reductions and powers stay in float32, between casts. The metadata goes along.

    Args:
        source: an ONNX model in float32.
        target: the new one.
    """
    import onnx
    from onnx import numpy_helper

    model = onnx.load(str(source))
    _hoist_constants(model.graph)
    exact = {weights.name: numpy_helper.to_array(weights) for weights in model.graph.initializer}
    half = _convert(model)
    _keep_exact(half.graph, exact)
    onnx.checker.check_model(half, full_check=True)
    onnx.save(half, str(target))


def _convert(model: Any) -> Any:
    path = list(sys.path)
    try:
        # Importing it puts its folder of many modules on the path, for all that is imported later.
        from onnxruntime.transformers import float16, onnx_model
    finally:
        sys.path[:] = path
    blocked = sorted({*SINGLE_PRECISION, *float16.DEFAULT_OP_BLOCK_LIST})
    half = float16.convert_float_to_float16(model, keep_io_types=True, op_block_list=blocked)
    # The converter puts its casts last, which ONNX does not allow.
    onnx_model.OnnxModel.graph_topological_sort(half.graph)
    return half


def _hoist_constants(graph: Any) -> None:
    """Make initializers of what nodes only hand on, so that each operator is seen to have its own weights."""
    initializers = {initializer.name: initializer for initializer in graph.initializer}
    for node in list(graph.node):
        tensor = None
        if node.op_type == "Identity":
            tensor = initializers.get(node.input[0])
        elif node.op_type == "Constant" and node.attribute[0].name == "value":
            tensor = node.attribute[0].t
        if tensor is not None:
            copy = graph.initializer.add()
            copy.CopyFrom(tensor)
            copy.name = node.output[0]
            initializers[copy.name] = copy
            graph.node.remove(node)


def _keep_exact(graph: Any, exact: dict[str, Any]) -> None:
    """Give operators in float32 their weights as they were, and not rounded, cast back and no longer constant."""
    import onnx
    from onnx import numpy_helper

    widened = [
        node
        for node in graph.node
        if node.op_type == "Cast"
        and node.input[0] in exact
        and any(entry.name == "to" and entry.i == onnx.TensorProto.FLOAT for entry in node.attribute)
    ]
    for node in widened:
        graph.initializer.append(numpy_helper.from_array(exact[node.input[0]], node.output[0]))
        graph.node.remove(node)
    used = {name for node in graph.node for name in node.input}
    for weights in [weights for weights in graph.initializer if weights.name not in used]:
        graph.initializer.remove(weights)
