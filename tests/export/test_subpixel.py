"""A transposed convolution of few channels is written as a plain one, and gives the same numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from voxflow.engines import import_openvino
from voxflow.engines.subpixel import use_subpixels

if TYPE_CHECKING:
    from pathlib import Path


def model_of(module: torch.nn.Module, path: Path, example: torch.Tensor) -> Any:
    """What OpenVINO reads of the module's ONNX file, of any size."""
    axes = {"x": {0: "batch", **{n: f"axis{n}" for n in range(2, example.ndim)}}}
    torch.onnx.export(module.eval(), (example,), str(path), input_names=["x"], dynamic_axes=axes, dynamo=False)
    return import_openvino().Core().read_model(str(path))


def answer(model: Any, batch: torch.Tensor) -> np.ndarray:
    ov = import_openvino()
    compiled = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return np.asarray(compiled([batch.numpy()])[0])


def kinds(model: Any) -> list[str]:
    return [op.get_type_name() for op in model.get_ordered_ops()]


def up(cin: int, cout: int, side: int, stride: int, padding: int = 0, *, extra: int = 0, flat: bool = False) -> Any:
    layer = torch.nn.ConvTranspose2d if flat else torch.nn.ConvTranspose3d
    return layer(cin, cout, side, stride, padding, output_padding=extra)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the exporter's own, of its age
@pytest.mark.parametrize(
    "layers",
    [
        (up(4, 2, 3, 2, 1, extra=1),),
        (up(4, 3, 2, 2), torch.nn.BatchNorm3d(3), torch.nn.PReLU()),
        (up(4, 1, 4, 2, 1), torch.nn.PReLU(1), torch.nn.Conv3d(1, 2, 3, padding=1)),
        (up(4, 2, 5, 2, 2, extra=1), torch.nn.BatchNorm3d(2), torch.nn.ReLU()),
        (up(4, 1, 3, 3), torch.nn.PReLU()),
        (up(4, 3, 4, 2, 1, flat=True), torch.nn.BatchNorm2d(3), torch.nn.PReLU(3)),
    ],
)
def test_the_numbers_stay(layers: tuple[torch.nn.Module, ...], tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = torch.nn.Sequential(*layers)
    for part in module.modules():
        for values in (*part.parameters(recurse=False), *part.buffers(recurse=False)):
            values.data = torch.rand_like(values) + 0.1 if values.is_floating_point() else values
    batch = torch.randn(2, 4, *(7, 6, 5)[: layers[0].weight.ndim - 2])  # type: ignore[operator]
    model = model_of(module, tmp_path / "model.onnx", batch)
    assert use_subpixels(model) == 1
    assert "ConvolutionBackpropData" not in kinds(model)
    expected = module(batch).detach().numpy()
    received = answer(model, batch)
    assert received.shape == expected.shape
    assert np.abs(received - expected).max() < 1e-5 * np.abs(expected).max()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    "layer",
    [
        up(4, 5, 2, 2),  # many channels
        up(4, 2, 3, 2),  # an output that is no multiple of its input
        up(4, 2, 3, 1, 1),  # no larger than its input
        torch.nn.ConvTranspose3d(4, 2, (2, 2, 1), (2, 2, 1)),
        torch.nn.ConvTranspose3d(4, 2, 2, 2, groups=2),
    ],
)
def test_what_is_fast_or_other_stays(layer: torch.nn.Module, tmp_path: Path) -> None:
    model = model_of(layer, tmp_path / "model.onnx", torch.randn(1, 4, 5, 5, 5))
    before = kinds(model)
    assert use_subpixels(model) == 0
    assert kinds(model) == before
