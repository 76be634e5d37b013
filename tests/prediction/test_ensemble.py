"""Several models answer with the mean of their probabilities; the reference is MONAI's and torch's own arithmetic."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from monai.inferers import sliding_window_inference
from monai.transforms import MeanEnsemble

from tests.inference.models import UNET, BrightnessEngine, ThresholdEngine, volume_spec
from voxflow.components import build_network
from voxflow.errors import DataError
from voxflow.geometry import Geometry
from voxflow.prediction import (
    Ensemble,
    PredictOptions,
    logits_to_probabilities,
    open_ensemble,
    plan_image,
    predict_radiograph,
    predict_volume,
)
from voxflow.prediction.ensemble import iterate_logits
from voxflow.prediction.windows import plan_windows
from voxflow.training import save_model
from voxflow.volumes import Volume

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from voxflow.prediction.mirroring import Axis
    from voxflow.spec import ModelSpec

SIZE = (23, 18, 12)


def networks() -> list[torch.nn.Module]:
    """Three networks of one shape, far enough from each other that their mean is nobody's own answer."""
    modules = []
    for seed in range(3):
        torch.manual_seed(seed)
        network = build_network(UNET).eval()
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.mul_(2)
        modules.append(network)
    return modules


def folders(out: Path, spec: ModelSpec) -> list[Path]:
    for number, network in enumerate(networks()):
        (out / str(number)).mkdir()
        save_model(out / str(number) / "model.pt", network, UNET, spec=spec, epoch=1, metric=0.5)
    return [out / str(number) for number in range(3)]


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
@pytest.mark.parametrize("flips", [(), ("i", "k")])
def test_a_volumes_probabilities_are_the_mean_of_each_models(
    activation: str, flips: Sequence[Axis], tmp_path: Path
) -> None:
    spec = volume_spec(activation=activation, overlap=0.5)
    ensemble = open_ensemble(folders(tmp_path, spec))
    image = np.random.default_rng(1).normal(size=(1, *SIZE)).astype(np.float32)
    plan = plan_windows(SIZE, ensemble, "windows")
    received = np.full((ensemble.spec.out_channels, *SIZE), np.nan, dtype=np.float32)
    for box, logits in iterate_logits(ensemble, image, plan, flips):
        received[:, *box] = logits
    expected = MeanEnsemble()([of_monai(network, image, flips, activation) for network in networks()])
    assert plan.count > 1
    assert np.abs(logits_to_probabilities(received, spec) - np.asarray(expected)).max() < 1e-5
    assert np.ptp(np.asarray(expected)) > 0.5


def test_its_models_share_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ensemble = open_ensemble(folders(tmp_path, volume_spec()))
    budgets: list[int] = []
    plan_windows = "voxflow.prediction.planning.plan_windows"
    monkeypatch.setattr(plan_windows, lambda *_, memory_mb, **__: budgets.append(memory_mb))
    for engine in (ensemble, ensemble.members[0]):
        plan_image(np.zeros((1, 96, 96, 96), dtype=np.float32), engine, PredictOptions(memory_mb=125))
    # Of 125 MB the image and its labels take 5 bytes a voxel, rounded up to 5 MB.
    assert budgets == [40, 120]


def of_monai(network: torch.nn.Module, image: np.ndarray, flips: Sequence[Axis], activation: str) -> torch.Tensor:
    """Blended logits, the mean over flips, then probabilities."""
    axes = ["ijk".index(axis) - 3 for axis in flips]
    sets = [[], *([axis] for axis in axes), *([axes] if len(axes) > 1 else [])]

    def predictor(window: torch.Tensor) -> torch.Tensor:
        return torch.stack([network(window.flip(windows)).flip(windows) for windows in sets]).mean(0)

    with torch.inference_mode():
        probabilities = sliding_window_inference(
            torch.from_numpy(image[None]), (16, 16, 8), 1, predictor, overlap=0.5, mode="gaussian"
        )
    logits = torch.as_tensor(probabilities)[0]
    return logits.softmax(0) if activation == "softmax" else logits.sigmoid()


def test_a_mask_is_that_of_the_mean_not_of_the_majority() -> None:
    """Two models see the organ barely, the third is sure that there is none: the mean follows the third."""
    engines = [ThresholdEngine(threshold=-0.2), ThresholdEngine(threshold=-0.2), ThresholdEngine(threshold=9)]
    image = Volume(np.zeros((20, 20, 12), dtype=np.float32), Geometry.from_parts((20, 20, 12), (1, 1, 1)))
    assert predict_volume(Ensemble(engines[:2]), image).mask.array.all()
    assert not predict_volume(Ensemble(engines), image, PredictOptions(back="probabilities")).mask.array.any()


def test_a_classification_is_the_mean_of_each_models() -> None:
    class Gloomy(BrightnessEngine):
        def run(self, batch: np.ndarray) -> np.ndarray:
            return np.full((len(batch), 2), -2, dtype=np.float32)

    image = np.full((32, 32), 130.0)
    apart = [predict_radiograph(engine, image) for engine in (BrightnessEngine(), Gloomy())]
    received = predict_radiograph(Ensemble([BrightnessEngine(), Gloomy()]), image)
    assert received == pytest.approx({name: (apart[0][name] + apart[1][name]) / 2 for name in received}, abs=1e-6)


def test_a_window_fits_all_models() -> None:
    small, large = ThresholdEngine(), ThresholdEngine()
    small.largest, large.smallest = (24, 24, 24), (16, 16, 16)
    large.is_local = False
    ensemble = Ensemble([small, large])
    assert (ensemble.smallest, ensemble.largest, ensemble.is_local) == ((16, 16, 16), (24, 24, 24), False)


def test_models_that_mean_something_else_are_refused() -> None:
    spec = ThresholdEngine(volume_spec(class_names=("background", "tumour")))
    with pytest.raises(DataError, match=r"number 2 differs from the first in class_names: \['background', 'tumour'\]"):
        Ensemble([ThresholdEngine(), spec])
    with pytest.raises(DataError, match="at least one model"):
        Ensemble([])
