"""Exports a bundle's network to engines other than TorchScript, by the code that exports every other model.

It stands for ``python -m monai.bundle trt_export``: a TensorRT engine, built where its GPU is, or one of TensorRT-RTX,
built anywhere; ONNX and OpenVINO come by the same way. The bundle's own inference goes on with TorchScript.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import PositiveInt  # noqa: TC002 - pydantic reads it

from voxflow.engines import ExportFormat, TorchEngine
from voxflow.errors import ConfigError
from voxflow.export import ExportOptions, export_engine
from voxflow.spec import ModelSpec

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import torch

    from voxflow.export import ParityReport

# An export by MONAI writes this one.
ALWAYS = "torchscript"
# The greatest stride that a network is taken to have; a network takes sizes that are multiples of it.
MOST_STRIDE = 32


class BundleExportOptions(ExportOptions):
    """The key ``export`` of a workspace of ``kind: bundle``.

    Attributes:
        engines: the formats to make beside TorchScript.
        input_size: voxels (i, j, k) of one window; None: the size that metadata.json states.
    """

    engines: tuple[ExportFormat, ...] = ()
    input_size: tuple[PositiveInt, PositiveInt, PositiveInt] | None = None


def export_bundle_engines(
    network: torch.nn.Module, shape: Sequence[int], out: Path, options: BundleExportOptions
) -> ParityReport | None:
    """Write a network's engines, and compare each with torch on noise.

    Args:
        network: with the weights that were trained.
        shape: an input (1, channel, *space) that metadata.json allows.
        out: an existing folder; gets the files.
        options: which formats.

    Returns:
        What came of it; None where no engine was asked for.

    Raises:
        ConfigError: the network does not map one volume to logits on its grid.
        ParityError: an engine differs from torch.
    """
    formats = tuple(name for name in options.engines if name != ALWAYS)
    if not formats:
        return None
    space = options.input_size or tuple(shape[2:])
    spec = _describe_network(network.eval(), int(shape[1]), space)
    engine = TorchEngine.wrap(network, spec)
    report = export_engine(engine, [], out, options.model_copy(update={"engines": formats}))
    report.require_published()
    return report


def _describe_network(network: torch.nn.Module, channels: int, space: Sequence[int]) -> ModelSpec:
    """What a network takes and gives, by its answer to an empty volume."""
    import torch

    answer: Any = None
    if len(space) == 3:
        with torch.inference_mode():
            answer = network(torch.zeros((1, channels, *space)))
    if not isinstance(answer, torch.Tensor) or tuple(answer.shape[2:]) != tuple(space):
        text = f"engines are made of networks that answer a volume with logits on its grid; here {list(space)} gives "
        given = list(answer.shape[2:]) if isinstance(answer, torch.Tensor) else type(answer).__name__
        raise ConfigError(text + ("no volume" if len(space) != 3 else str(given)), where="export.engines")
    classes = int(answer.shape[1])
    return ModelSpec(
        task="segmentation",
        in_channels=channels,
        class_names=tuple(f"class_{number}" for number in range(classes)),
        activation="softmax" if classes > 1 else "sigmoid",
        window=(space[0], space[1], space[2]),
        divisor=_find_stride(space),
    )


def _find_stride(space: Sequence[int]) -> int:
    """The greatest power of two, up to a bound, that all sides are multiples of.

    Example:
        >>> _find_stride((96, 96, 96)), _find_stride((128, 96, 24)), _find_stride((5, 8, 8))
        (32, 8, 1)
    """
    stride = 1
    while stride < MOST_STRIDE and all(side % (2 * stride) == 0 for side in space):
        stride *= 2
    return stride
