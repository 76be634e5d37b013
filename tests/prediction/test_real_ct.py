"""A full-size CT: its organ's mask goes to the network's grid and back, and lies where the expert drew it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tests.inference.models import ThresholdEngine, volume_spec
from voxflow.evaluation.overlap import measure_overlap
from voxflow.prediction import PredictOptions, predict_volume
from voxflow.volumes import Volume, read_volume

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def test_an_experts_mask_survives_the_way_there_and_back(real_data: Callable[[str], Path]) -> None:
    label = read_volume(real_data("ct_spleen") / "spleen_8_label.nii.gz")
    image = Volume(label.array.astype(np.float32), label.geometry)
    spec = volume_spec(spacing_mm=(1.0, 1.0, 4.0), orientation="RAS", window=(96, 96, 16), divisor=16)
    for plan in ("whole", "windows"):
        overlap = predict_volume(ThresholdEngine(spec), image, PredictOptions.model_validate({"plan": plan}))
        measured = measure_overlap(overlap.mask, label, 1)
        assert measured.dice > 0.98
        assert measured.hd95_mm < 1.0
