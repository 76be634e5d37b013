"""Converts ONNX models to half precision: a strongly typed TensorRT network computes in what its ONNX file says."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

# What sums or multiplies over so many values that half precision overflows or loses them.
KEPT = (
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
    exact = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
    made = _converted(model)
    _keep_exact(made.graph, exact)
    onnx.checker.check_model(made, full_check=True)
    onnx.save(made, str(target))


def _converted(model: Any) -> Any:
    path = list(sys.path)
    try:
        # Importing it puts its folder of many modules on the path, for all that is imported later.
        from onnxruntime.transformers import float16, onnx_model
    finally:
        sys.path[:] = path
    blocked = sorted({*KEPT, *float16.DEFAULT_OP_BLOCK_LIST})
    made = float16.convert_float_to_float16(model, keep_io_types=True, op_block_list=blocked)
    # The converter puts its casts last, which ONNX does not allow.
    onnx_model.OnnxModel.graph_topological_sort(made.graph)
    return made


def _hoist_constants(graph: Any) -> None:
    """Make initializers of what nodes only hand on, so that each operator is seen to have its own weights."""
    known = {each.name: each for each in graph.initializer}
    for node in list(graph.node):
        held = None
        if node.op_type == "Identity":
            held = known.get(node.input[0])
        elif node.op_type == "Constant" and node.attribute[0].name == "value":
            held = node.attribute[0].t
        if held is not None:
            made = graph.initializer.add()
            made.CopyFrom(held)
            made.name = node.output[0]
            known[made.name] = made
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
        and any(each.name == "to" and each.i == onnx.TensorProto.FLOAT for each in node.attribute)
    ]
    for node in widened:
        graph.initializer.append(numpy_helper.from_array(exact[node.input[0]], node.output[0]))
        graph.node.remove(node)
    used = {name for node in graph.node for name in node.input}
    for each in [each for each in graph.initializer if each.name not in used]:
        graph.initializer.remove(each)
