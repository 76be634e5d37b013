"""What one volume takes stays within ``memory_mb``, however many classes there are."""

from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.inference.models import ThresholdEngine, volume_spec
from voxflow.geometry import Geometry
from voxflow.prediction import PredictOptions, planes, predict_prepared, predict_volume, prepare_image
from voxflow.volumes import Volume

if TYPE_CHECKING:
    from numpy.typing import NDArray


class ManyClasses(ThresholdEngine):
    """Answers with one class of many where the image is bright."""

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        self.shapes.append(batch.shape)
        logits = np.full((1, self.spec.out_channels, *batch.shape[2:]), -1, dtype=np.float32)
        logits[:, 0] = 0
        np.subtract(batch[:, 0], self.threshold, out=logits[:, -1])
        return logits


def blank(size: tuple[int, int, int]) -> Volume:
    return Volume(np.zeros(size, np.float32), Geometry.from_parts(size, (0.8, 0.8, 1.0)))


# A CT of 512 × 512 × 1000 voxels in 8 GB, each side an eighth, the windows' too.
SIZE, WINDOW, BUDGET_MB = (64, 64, 125), (16, 16, 16), 16


@pytest.mark.parametrize(
    ("classes", "overlap", "restoring", "local"),
    [(2, 0.5, "labels", False), (100, 0.25, "labels", True), (100, 0.5, "probabilities", False)],
)
def test_the_budget_holds(classes: int, overlap: float, restoring: str, local: bool) -> None:
    names = ("background", *(f"organ {n}" for n in range(1, classes)))
    engine = ManyClasses(volume_spec(class_names=names, window=WINDOW, overlap=overlap))
    engine.is_local = local
    image = np.random.default_rng(0).random(SIZE, dtype=np.float32)
    prepared = prepare_image([Volume(image, blank(SIZE).geometry)], engine.spec)
    options = PredictOptions.model_validate({"memory_mb": BUDGET_MB, "bytes_per_voxel": 4, "back": restoring})
    predict_volume(engine, blank((8, 8, 8)), options)  # imports are no memory of the volume
    tracemalloc.start()
    mask = predict_prepared(engine, prepared, options).mask
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak + prepared.image.nbytes < BUDGET_MB * 2**20
    clear = np.abs(image - 0.5) > 0.01
    assert np.array_equal(mask.array[clear], np.where(image > 0.5, classes - 1, 0)[clear])


@pytest.mark.parametrize("classes", [2, 100])
def test_it_holds_where_probabilities_come_back_from_another_grid(
    classes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("MAP_VOXELS", "SCORES", "VOXELS_AT_A_TIME"):
        monkeypatch.setattr(planes, name, getattr(planes, name) // 8**3)
    names = ("background", *(f"organ {n}" for n in range(1, classes)))
    engine = ManyClasses(volume_spec(class_names=names, window=WINDOW, overlap=0.5, spacing_mm=(0.9, 0.9, 1.1)))
    engine.is_local = False
    image = np.random.default_rng(0).random(SIZE, dtype=np.float32)
    prepared = prepare_image([Volume(image, blank(SIZE).geometry)], engine.spec)
    options = PredictOptions(memory_mb=BUDGET_MB, bytes_per_voxel=4)
    predict_volume(engine, Volume(image[:8, :8, :8], blank((8, 8, 8)).geometry), options)  # imports, once more
    tracemalloc.start()
    mask = predict_prepared(engine, prepared, options).mask
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak + prepared.image.nbytes < BUDGET_MB * 2**20
    assert set(np.unique(mask.array)) == {0, classes - 1}
