"""Owns writing TorchScript, ONNX and OpenVINO files; each returns logits and carries its ModelSpec."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from voxflow.engines import SPEC_FILE, SPEC_KEY, SPEC_RT_INFO, import_openvino
from voxflow.errors import VoxflowError
from voxflow.export.subpixel import use_subpixels
from voxflow.files import atomic_path

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from voxflow.spec import ModelSpec

INPUT_NAME = "image"
OUTPUT_NAME = "logits"
AXES = ("i", "j", "k")
LEAST_SIDE = 32
# How far a second size may be from torch before the file is taken to be bound to the size it was traced at.
SAME_MODEL = 1e-3


def write_torchscript(module: torch.nn.Module, spec: ModelSpec, path: Path) -> None:
    """Write model.ts: scripted where the network's code allows, so that any size is right; else traced."""
    import torch

    with warnings.catch_warnings():
        # The format stays a deliverable while torch, pinned exactly, still writes it.
        warnings.filterwarnings("ignore", r"`torch\.jit\.\w+` is deprecated", DeprecationWarning)
        try:
            scripted: Any = torch.jit.script(module)
        except Exception:  # noqa: BLE001 - the compiler raises whatever the network's code leads it to
            warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)  # type: ignore[attr-defined]
            scripted = torch.jit.trace(module, example_input(spec))  # type: ignore[no-untyped-call]
        with atomic_path(path) as temporary:
            torch.jit.save(scripted, str(temporary), _extra_files={SPEC_FILE: spec.model_dump_json()})


def write_onnx(module: torch.nn.Module, spec: ModelSpec, path: Path, opset: int) -> bool:
    """Write model.onnx and return whether its spatial size is open.

    Batch and space are open axes; where the file then gives other logits than torch at a second size, it is written
    for the training window alone.

    Raises:
        VoxflowError: the network can't be expressed in ONNX.
    """
    with atomic_path(path) as temporary:
        _export_onnx(module, spec, temporary, opset, is_open=True)
        is_open = _holds_at_second_size(module, spec, temporary)
        if not is_open:
            _export_onnx(module, spec, temporary, opset, is_open=False)
        _finish_onnx(temporary, spec)
    return is_open


def write_openvino(onnx_file: Path, spec: ModelSpec, path: Path, *, fp16_weights: bool) -> None:
    """Write model.xml and model.bin from an ONNX file."""
    ov = import_openvino()
    model = ov.Core().read_model(str(onnx_file))
    use_subpixels(model)
    model.set_rt_info(spec.model_dump_json(), list(SPEC_RT_INFO))
    ov.save_model(model, str(path), compress_to_fp16=fp16_weights)


def example_input(spec: ModelSpec, *, larger: int = 0) -> torch.Tensor:
    """A fixed random batch of one training window, each axis ``larger`` strides longer."""
    import torch

    sides = spec.window or spec.size or (LEAST_SIDE,) * (3 if spec.task == "segmentation" else 2)
    size = [-(-side // spec.divisor) * spec.divisor + larger * max(spec.divisor, 8) for side in sides]
    generator = torch.Generator().manual_seed(0)
    return torch.randn((1, spec.in_channels, *size), generator=generator)


def _export_onnx(module: torch.nn.Module, spec: ModelSpec, path: Path, opset: int, *, is_open: bool) -> None:
    import torch

    example = example_input(spec)
    axes: dict[str, dict[int, str]] = {INPUT_NAME: {0: "batch"}, OUTPUT_NAME: {0: "batch"}}
    if is_open:
        space = {n + 2: axis for n, axis in enumerate(AXES[: example.ndim - 2])}
        axes[INPUT_NAME] |= space
        if spec.task == "segmentation":
            axes[OUTPUT_NAME] |= space
    with warnings.catch_warnings():
        # The tracer warns of every branch on a size, the exporter of its age. Both are answered: the file is held
        # against torch at a second size, and the newer exporter is slower (27 s against 1 s for a DenseNet) and
        # needs a package more.
        warnings.simplefilter("ignore")
        try:
            torch.onnx.export(
                module,
                (example,),
                str(path),
                input_names=[INPUT_NAME],
                output_names=[OUTPUT_NAME],
                opset_version=opset,
                dynamic_axes=axes,
                dynamo=False,
            )
        except (RuntimeError, torch.onnx.errors.OnnxExporterError) as error:
            raise VoxflowError(f"the network can't be exported to ONNX: {str(error).splitlines()[0]}") from error


def _holds_at_second_size(module: torch.nn.Module, spec: ModelSpec, path: Path) -> bool:
    import onnxruntime
    import torch

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    other = example_input(spec, larger=1)
    with torch.inference_mode():
        expected = module(other).numpy()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    try:
        received = session.run(None, {INPUT_NAME: other.numpy()})[0]
    except Exception:  # noqa: BLE001 - onnxruntime's own errors share no base but this
        return False
    scale = max(1.0, float(np.abs(expected).max()))
    return received.shape == expected.shape and bool(np.abs(received - expected).max() <= SAME_MODEL * scale)


def _finish_onnx(path: Path, spec: ModelSpec) -> None:
    import onnx

    model = onnx.load(str(path))
    onnx.helper.set_model_props(model, {SPEC_KEY: spec.model_dump_json()})
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(path))
