"""An MMAR's inferer becomes the window plan of every other inference, or is called as it is."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from monai.inferers import sliding_window_inference

from tests.inference.models import UNET, build_seeded, save_unet, volume_spec
from voxflow.components import Component
from voxflow.engines import TorchEngine
from voxflow.errors import ConfigError, DataError
from voxflow.mmar.passage import Passage

if TYPE_CHECKING:
    from voxflow.engines import Engine

IMAGE = np.random.default_rng(0).normal(size=(1, 25, 18, 11)).astype(np.float32)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return TorchEngine(save_unet(tmp_path_factory.mktemp("passage") / "model.pt"))


def passage_of(engine: Engine, name: str = "", /, setup: Any = None, **args: Any) -> Passage:
    dialect = "" if name.startswith("TF") else "monai:"
    inferer = Component(name=dialect + name, args=args) if name else None
    evaluation: Any = SimpleNamespace(inferer=inferer, path=None, use_scanning_window=None)
    return Passage.build(evaluation, engine, setup)


def monais_logits(roi: tuple[int, ...], **arguments: Any) -> np.ndarray:
    network = build_seeded(UNET)
    with torch.inference_mode():
        logits = sliding_window_inference(torch.from_numpy(IMAGE)[None], roi, 1, network, **arguments)
    return np.asarray(logits[0])


@pytest.mark.parametrize(
    ("inferer", "args", "expected"),
    [
        ("TFScanWindowInferer", {"overlap": 0.5, "batch_size": 2}, {"overlap": 0.5, "mode": "gaussian"}),
        ("SlidingWindowInferer", {}, {"overlap": 0.25, "mode": "constant"}),
        ("SlidingWindowInferer", {"mode": "gaussian", "overlap": 0.5}, {"overlap": 0.5, "mode": "gaussian"}),
    ],
)
def test_windows_are_those_of_monai(
    engine: Engine, inferer: str, args: dict[str, Any], expected: dict[str, Any]
) -> None:
    passage = passage_of(engine, inferer, roi_size=[16, 16, 8], **args)
    assert passage.inferer is None
    np.testing.assert_allclose(passage.compute_logits(IMAGE), monais_logits((16, 16, 8), **expected), atol=1e-4)


@pytest.mark.parametrize("inferer", ["TFSimpleInferer", "SimpleInferer"])
def test_the_whole_image_goes_through_at_once(engine: Engine, inferer: str) -> None:
    passage = passage_of(engine, inferer)
    even = IMAGE[:, :24, :, :10]
    with torch.inference_mode():
        expected = build_seeded(UNET)(torch.from_numpy(even.copy())[None])[0].numpy()
    np.testing.assert_allclose(passage.compute_logits(np.ascontiguousarray(even)), expected, atol=1e-5)
    assert passage.compute_logits(IMAGE).shape == (2, 25, 18, 11)


def test_what_a_plan_can_not_say_is_left_to_monai(engine: Engine) -> None:
    passage = passage_of(engine, "SlidingWindowInferer", roi_size=[16, 16, 8], padding_mode="reflect")
    assert passage.inferer is not None
    expected = monais_logits((16, 16, 8), padding_mode="reflect")
    np.testing.assert_allclose(passage.compute_logits(IMAGE), expected, atol=1e-4)


def test_without_an_inferer_windows_are_those_of_the_training(engine: Engine) -> None:
    spec = passage_of(engine).spec
    assert spec is not None
    assert (spec.window, spec.overlap) == (volume_spec().window, volume_spec().overlap)
    assert passage_of(engine, setup="standard").options.plan == "whole"


@pytest.mark.parametrize("inferer", ["TFScanWindowInferer", "SlidingWindowInferer"])
def test_a_window_that_the_file_does_not_take_is_named(
    engine: Engine, inferer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "smallest", (16, 16, 8))
    monkeypatch.setattr(engine, "largest", (16, 16, 8))
    with pytest.raises(ConfigError, match=r"\[32, 32, 8\], but the torch engine takes \[16, 16, 8\]"):
        passage_of(engine, inferer, roi_size=[32, 32, 8])


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.full_like(IMAGE, np.nan), "the image holds NaN or infinite values"),
        (np.concatenate([IMAGE, IMAGE]), r"the network takes 1 channel\(s\), the image has 2"),
    ],
)
def test_images_that_no_network_takes_are_refused(engine: Engine, image: np.ndarray, message: str) -> None:
    for passage in (passage_of(engine, "TFSimpleInferer"), passage_of(engine, "SliceInferer", roi_size=[16, 16])):
        with pytest.raises(DataError, match=message):
            passage.compute_logits(image)
