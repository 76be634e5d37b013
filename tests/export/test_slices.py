"""A network of single slices (``configuration: 2d``) gives the same masks in every engine, whole and in windows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from tests.inference.models import build_seeded, volume_spec
from voxflow.components import Component
from voxflow.engines import open_engine
from voxflow.export import ExportOptions, export_model
from voxflow.prediction import PredictOptions, predict_volume
from voxflow.training import save_model
from voxflow.volumes import read_volume

if TYPE_CHECKING:
    from pathlib import Path

    from voxflow.inference import InferenceCase

ARGS = {"nf_enc": [4, 8, 8], "strides": [[2, 2, 1], [2, 2, 1]], "kernels": [[3, 3, 1]] * 3}


@pytest.mark.slow
def test_every_engine_computes_slices_as_the_network_does(case: InferenceCase, out: Path, tmp_path: Path) -> None:
    component = Component(name="PlainUnet", args={**ARGS, "in_channels": 1, "num_classes": 2})
    module = build_seeded(component)
    spec = volume_spec(window=(24, 20, 1), divisor=4, divisors=(4, 4, 1))
    save_model(tmp_path / "model.pt", module, component, spec=spec, epoch=1, metric=0.5)
    report = export_model(
        tmp_path / "model.pt", out, ExportOptions(engines=("torchscript", "onnx", "openvino")), [case]
    )
    report.require_published()
    assert [parity.engine for parity in report.measured] == ["torchscript", "onnxruntime", "openvino"]
    image = read_volume(case.images[0])
    # Of 21 x 18 voxels a slice is filled up to the window; each slice is computed alone.
    i, j, k = image.array.shape
    padded = np.zeros((k, 1, 24, 20, 1), np.float32)
    padded[:, 0, 1 : 1 + i, 1 : 1 + j, 0] = np.moveaxis(image.array, 2, 0)
    with torch.inference_mode():
        answers = module(torch.from_numpy(padded)).numpy().argmax(1)
    expected = np.moveaxis(answers[:, 1 : 1 + i, 1 : 1 + j, 0], 0, 2)
    assert 0 < expected.mean() < 1
    for name in ("torchscript", "onnxruntime", "openvino"):
        engine = open_engine(out, name)
        for plan in ("windows", "whole"):
            mask = predict_volume(engine, image, PredictOptions(plan=plan)).mask.array
            assert (mask != expected).mean() < 1e-3, (name, plan)
