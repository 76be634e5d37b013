"""Agreement is the Dice of a model's answers with the mask: of folds, mirror images, or probabilities."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.inference.models import ThresholdEngine, volume_spec
from voxflow.geometry import Geometry
from voxflow.inference import InferOptions
from voxflow.prediction import AgreementMeter, Ensemble, PredictOptions, predict_volume
from voxflow.spec import ModelSpec
from voxflow.volumes import Volume

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from voxflow.prediction import Prediction

GRID = Geometry.from_parts((24, 20, 10), (1, 1, 2))
THREE = ModelSpec(task="segmentation", class_names=("background", "liver", "spleen"), activation="softmax")
REGIONS = ModelSpec(
    task="segmentation", class_names=("organ", "tumour"), activation="sigmoid", regions=((1, 300), (300,))
)


class HalfEngine(ThresholdEngine):
    """Sees what is bright, but for the first part of its window: a mirror image makes another mask."""

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        logits = super().run(batch)
        logits[:, 1, : batch.shape[2] // 2] -= 10
        return logits


def ramp() -> Volume:
    image = np.zeros(GRID.size, np.float32)
    image[4:20, 4:16, 2:8] = np.linspace(0.2, 1, 16, dtype=np.float32)[:, None, None]
    return Volume(image, GRID)


def dice(first: NDArray[Any], second: NDArray[Any]) -> float:
    return float(2 * (first & second).sum() / (first.sum() + second.sum()))


def predict(engine: Any, **options: Any) -> Prediction:
    return predict_volume(engine, ramp(), InferOptions(review_below=0.5, **options))


def test_nobody_who_does_not_ask_pays() -> None:
    assert predict_volume(ThresholdEngine(), ramp(), PredictOptions()).agreement is None
    assert predict_volume(ThresholdEngine(), ramp(), InferOptions()).agreement is None


@pytest.mark.parametrize("plan", ["whole", "windows"])
@pytest.mark.parametrize("back", ["labels", "probabilities"])
def test_folds_agree_by_the_dice_of_each_with_the_mask(plan: str, back: str) -> None:
    engines = [ThresholdEngine(threshold=value) for value in (0.4, 0.5, 0.9)]
    together = predict(Ensemble(engines), plan=plan, back=back)
    assert together.agreement is not None
    masks = [predict_volume(engine, ramp()).mask.array > 0 for engine in engines]
    mask = together.mask.array > 0
    pairs = sum(2 * (one & mask).sum() for one in masks), sum(one.sum() + mask.sum() for one in masks)
    assert together.agreement.signal == "folds"
    assert together.agreement.score == pytest.approx(pairs[0] / pairs[1])


def test_folds_that_are_one_agree_fully() -> None:
    agreement = predict(Ensemble([ThresholdEngine(), ThresholdEngine()])).agreement
    assert agreement is not None
    assert agreement.classes == {"organ": 1.0}


def test_mirror_images_agree_less_where_the_model_is_lopsided() -> None:
    same, lopsided = (
        predict(engine, flips=["i"], plan="whole").agreement for engine in (ThresholdEngine(), HalfEngine())
    )
    assert same is not None
    assert lopsided is not None
    assert (same.signal, same.score) == ("mirrors", 1.0)
    assert lopsided.score < 0.9 or math.isnan(lopsided.score)


def test_one_answer_is_compared_with_its_own_probabilities() -> None:
    agreement = predict(ThresholdEngine()).agreement
    assert agreement is not None
    probability = 1 / (1 + np.exp(-(ramp().array.astype(np.float64) - 0.5)))
    mask = ramp().array > 0.5
    counted = probability * (probability >= 0.1)
    expected = 2 * counted[mask].sum() / (counted.sum() + mask.sum())
    assert agreement.signal == "probabilities"
    assert agreement.score == pytest.approx(expected, rel=1e-5)


def test_sure_and_unsure_models_are_told_apart() -> None:
    rng = np.random.default_rng(0)
    label = np.zeros((16, 16, 16), bool)
    label[4:12, 4:12, 4:12] = True
    scores = []
    for strength in (8.0, 1.0):
        meter = AgreementMeter(volume_spec(), "probabilities")
        logit = np.where(label, strength, -strength) + rng.normal(0, 0.1, label.shape)
        meter.add_probabilities(np.stack([np.zeros_like(logit), logit]).astype(np.float32))
        scores.append(meter.measure().score)
    assert scores[0] > 0.99
    assert scores[1] < 0.7


@pytest.mark.parametrize("spec", [THREE, REGIONS])
@pytest.mark.parametrize("signal", ["folds", "probabilities"])
def test_tensors_agree_as_arrays_do(spec: ModelSpec, signal: Any) -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(1)
    answers = rng.normal(0, 2, (3, spec.out_channels, 6, 5, 4)).astype(np.float32)
    measured = []
    for convert in (np.asarray, torch.from_numpy):
        meter = AgreementMeter(spec, signal)
        if signal == "folds":
            meter.add_answers([convert(answer) for answer in answers[1:]], convert(answers[0]))
        else:
            meter.add_probabilities(convert(answers[0]))
        measured.append(meter.measure())
    assert measured[0].classes == pytest.approx(measured[1].classes, rel=1e-6)
    assert len(measured[0].classes) == 2


def test_classes_are_compared_one_by_one() -> None:
    mask = np.array([0, 1, 1, 2, 2, 2], np.uint8)
    answer = np.array([0, 1, 2, 2, 2, 0], np.uint8)
    meter = AgreementMeter(THREE, "folds")
    meter.add_labels(answer, mask)
    expected = {name: dice(answer == value, mask == value) for value, name in ((1, "liver"), (2, "spleen"))}
    assert meter.measure().classes == pytest.approx(expected)
    assert meter.measure().score == pytest.approx(sum(expected.values()) / 2)


def test_an_absent_class_is_left_out_and_an_empty_image_has_no_agreement() -> None:
    meter = AgreementMeter(THREE, "folds")
    meter.add_labels(np.array([0, 1], np.uint8), np.array([0, 1], np.uint8))
    assert meter.measure().classes == {"liver": 1.0}
    empty = AgreementMeter(THREE, "probabilities")
    empty.add_probabilities(np.stack([np.full((2, 2, 2), value, np.float32) for value in (9, -9, -9)]))
    assert math.isnan(empty.measure().score)
    broken = AgreementMeter(THREE, "probabilities")
    broken.add_probabilities(np.full((3, 2, 2, 2), np.nan, np.float32))
    assert math.isnan(broken.measure().score)
