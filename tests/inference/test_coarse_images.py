"""An image of few voxels that are huge: its grid at the model's spacing is refused before memory is taken."""

from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.inference.models import ThresholdEngine, volume_spec
from voxflow.components import Component, build_transform
from voxflow.errors import DataError
from voxflow.geometry import Geometry
from voxflow.inference import InferenceCase, InferOptions, infer_cases
from voxflow.prediction import predict_volume
from voxflow.serving.limits import RefusedError, ServeLimits
from voxflow.serving.work import answer_request
from voxflow.volumes import ResampleOptions, Volume, write_volume

if TYPE_CHECKING:
    from pathlib import Path

REASON = r"32 × 32 × 32 voxels would become .*at most [\d,]+ are taken \(limits\.(upsampling|voxels) in params\.yaml\)"


def make_image(spacing: float) -> Volume:
    array = np.random.default_rng(0).integers(0, 2, (32, 32, 32)).astype(np.uint8)
    return Volume(array, Geometry.from_parts(array.shape, (spacing,) * 3))


@pytest.mark.parametrize("spacing", [25, 60, 100])
def test_prediction_refuses_it_before_memory_is_taken(spacing: float) -> None:
    engine = ThresholdEngine(volume_spec(spacing_mm=(1.0, 1.0, 1.0)))
    tracemalloc.start()
    with pytest.raises(DataError, match=REASON):
        predict_volume(engine, make_image(spacing))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50e6


def test_a_coarse_case_is_one_row_and_the_service_says_422(tmp_path: Path) -> None:
    engine = ThresholdEngine(volume_spec(spacing_mm=(1.0, 1.0, 1.0)))
    write_volume(tmp_path / "good.nii.gz", make_image(1))
    write_volume(tmp_path / "coarse.nii.gz", make_image(25))
    cases = [InferenceCase(name, (tmp_path / f"{name}.nii.gz",)) for name in ("coarse", "good")]
    (tmp_path / "out").mkdir()
    result = infer_cases(engine, cases, tmp_path / "out", InferOptions(overlays=0))
    assert result.failures.cases == {"coarse"}
    assert "limits.upsampling in params.yaml" in result.failures.rows[0]["reason"]
    assert (tmp_path / "out/good/good.nii.gz").is_file()
    (tmp_path / "request").mkdir()
    (tmp_path / "coarse.nii.gz").rename(tmp_path / "request/upload")
    with pytest.raises(RefusedError, match=REASON) as caught:
        answer_request(engine, tmp_path / "request", InferOptions(overlays=0), ServeLimits(), "nifti")
    assert caught.value.status == 422


def test_the_stage_resample_and_transforms_refuse_it() -> None:
    image = make_image(25)
    with pytest.raises(DataError, match=REASON):
        ResampleOptions(spacing_mm=1.0).choose_grid(image.geometry)
    scale = build_transform(
        Component(name="ScaleByResolution", args={"fields": ["image"], "target_resolution": [1.0, 1.0, 1.0]})
    )
    sample = {"image": image.array[None].astype(np.float32), "image_affine": image.geometry.affine}
    with pytest.raises(DataError, match=REASON):
        scale(sample)
