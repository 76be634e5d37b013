"""Prediction, engines, their comparison, the service and a training on a device; each also runs on the processor."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pytest
import torch

from tests.inference.models import UNET, build_seeded, save_unet, volume_spec
from tests.prediction.test_tensors import GRIDS, draw_volume, make_engine
from tests.serving.servers import run_service
from tests.training.conftest import volume_config, workflow_of, write_cube
from voxflow.datalist import Datalist
from voxflow.engines import FirstUseEngine, get_engine_kind, open_engine, write_onnx, write_torchscript
from voxflow.engines.first_use import WINDOWS
from voxflow.export import ExportOptions, export_model
from voxflow.geometry import Geometry
from voxflow.inference import InferenceCase, InferOptions, infer_cases
from voxflow.machine import use_device
from voxflow.prediction import PredictOptions, predict_logits, predict_prepared, prepare_image
from voxflow.tracking import NullTracker
from voxflow.training import DataFacts, TrainOptions, read_checkpoint, train
from voxflow.volumes import Volume, read_volume, write_volume

if TYPE_CHECKING:
    from pathlib import Path

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
GPU_ALONE = pytest.mark.gpu
WINDOWED = PredictOptions(plan="windows")


@pytest.fixture(autouse=True)
def _separate_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    """The same network for torch, TorchScript and ONNX Runtime."""
    folder = tmp_path / "export"
    folder.mkdir()
    save_unet(folder / "model.pt")
    write_torchscript(build_seeded(UNET), volume_spec(), folder / "model.ts")
    write_onnx(build_seeded(UNET), volume_spec(), folder / "model.onnx", 18)
    return folder


def write_noise(path: Path, size: tuple[int, int, int] = (40, 36, 20)) -> InferenceCase:
    image = np.random.default_rng(0).normal(size=size).astype(np.float32)
    write_volume(path, Volume(image, Geometry.from_parts(size, (1, 1, 2))))
    return InferenceCase(path.name.partition(".")[0], (path,))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("grid", GRIDS)
def test_masks_are_those_of_the_processor_but_for_ties(grid: str, device: str, tmp_path: Path) -> None:
    with use_device("cpu"):
        expected_engine = make_engine(tmp_path, 3)
    with use_device(device):
        engine = make_engine(tmp_path, 3)
    volume = draw_volume(grid)
    expected = predict_prepared(expected_engine, prepare_image([volume], engine.spec), WINDOWED)
    prepared = prepare_image([volume], engine.spec, device)
    assert isinstance(prepared.image, torch.Tensor)
    assert prepared.image.device.type == device
    received = predict_prepared(engine, prepared, WINDOWED)
    assert received.mask.array.dtype == expected.mask.array.dtype
    assert (received.mask.array != expected.mask.array).mean() < 1e-3
    assert expected.mask.array.mean() > 0


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", ["torch", "torchscript"])
def test_float32_is_float32_without_tf32(name: str, device: str, exported: Path) -> None:
    image = np.random.default_rng(0).normal(size=(1, 40, 36, 20)).astype(np.float32)
    expected = predict_logits(open_engine(exported, "torch", "cpu"), image, WINDOWED)
    received = predict_logits(open_engine(exported, name, device), image, WINDOWED)
    probabilities = [1 / (1 + np.exp(logits[0] - logits[1])) for logits in (expected, received)]
    assert np.abs(probabilities[0] - probabilities[1]).max() < 1e-5


@pytest.mark.parametrize("name", ["torch-fp16", "torch-bf16", "torchscript-fp16", "torchscript-bf16"])
@pytest.mark.parametrize("device", DEVICES)
def test_half_precision_is_near(name: str, device: str, exported: Path) -> None:
    windows = np.random.default_rng(0).normal(size=(WINDOWS, 1, 16, 16, 8)).astype(np.float32)
    expected = open_engine(exported, "torch", "cpu").run(windows)
    engine = open_engine(exported, name, device)
    candidate = engine._candidate if isinstance(engine, FirstUseEngine) else engine
    assert (device == "cpu") == (candidate is engine)
    received = candidate.run(windows)
    probabilities = [1 / (1 + np.exp(logits[:, 0] - logits[:, 1])) for logits in (expected, received)]
    difference = np.abs(probabilities[0] - probabilities[1]).max()
    assert 0 < difference < (2e-3 if name.endswith("fp16") else 2e-2)


@GPU_ALONE
def test_auto_compares_half_precision_once_and_then_takes_it(
    exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case = write_noise(tmp_path / "a.nii.gz")
    masks = []
    for number in range(2):
        engine = open_engine(exported)
        assert isinstance(engine, FirstUseEngine) == (number == 0)
        out = tmp_path / f"out{number}"
        out.mkdir()
        infer_cases(engine, [case], out, InferOptions(overlays=0))
        masks.append(read_volume(out / "a/a.nii.gz").array)
        assert engine.name == "torchscript-fp16"
    assert capsys.readouterr().err.count("torchscript-fp16 equals torchscript on its first") == 1
    (record,) = (tmp_path / "cache/voxflow").glob("compared-*.json")
    place = json.loads(record.read_text())
    assert place["gpu"] == torch.cuda.get_device_name()
    assert (masks[0] != masks[1]).mean() < 1e-3


@GPU_ALONE
def test_the_memory_of_one_image_stays_within_its_bound(tmp_path: Path) -> None:
    with use_device("cuda"):
        engine = make_engine(tmp_path, 40)
    size = (192, 192, 160)
    image = np.random.default_rng(0).normal(size=size).astype(np.float32)
    volume = Volume(100 * image, Geometry.from_parts(size, (1, 1.1, 1.4)))
    most_mb = 1024
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    prepared = prepare_image([volume], engine.spec, "cuda")
    predict_prepared(engine, prepared, PredictOptions(gpu_memory_mb=most_mb))
    assert torch.cuda.max_memory_allocated() - before < (most_mb + image.nbytes / 2**20) * 2**20


@pytest.mark.parametrize("device", DEVICES)
def test_exported_engines_pass_their_gate_and_say_what_on(device: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    case = write_noise(tmp_path / "a.nii.gz")
    with use_device(device):
        report = export_model(save_unet(tmp_path / "model.pt"), out, ExportOptions(engines=("torchscript",)), [case])
    report.require_published()
    place = report.metrics()["torchscript"]["compared_on"]
    assert place["device"] == ("cpu" if device == "cpu" else f"{torch.cuda.get_device_name()} (cuda)")
    assert ("driver" in place) == (device == "cuda")


@GPU_ALONE
@pytest.mark.parametrize("name", ["tensorrt", "tensorrt_rtx"])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_an_engine_of_tensorrt_equals_torch(name: str, precision: Any, tmp_path: Path) -> None:
    kind = get_engine_kind(name)
    reason = kind.explain_unavailable()
    if reason is not None:
        pytest.skip(reason)
    out = tmp_path / "out"
    out.mkdir()
    case = write_noise(tmp_path / "a.nii.gz")
    options = ExportOptions(engines=("onnx", "torchscript", str(kind.format)), tensorrt_precision=precision)
    try:
        report = export_model(save_unet(tmp_path / "model.pt"), out, options, [case])
    except Exception as error:
        if name == "tensorrt_rtx" and "compute capability" in str(error):
            pytest.skip(str(error))
        raise
    report.require_published()
    assert name in report.published_engines
    windows = np.random.default_rng(0).normal(size=(4, 1, 16, 16, 8)).astype(np.float32)
    received = kind.open_uncompared(out / kind.file).run(windows)
    assert np.abs(received - open_engine(out, "torchscript", "cpu").run(windows)).max() < 0.01


@GPU_ALONE
def test_every_gpu_can_be_chosen(exported: Path) -> None:
    windows = np.random.default_rng(0).normal(size=(2, 1, 16, 16, 8)).astype(np.float32)
    expected = open_engine(exported, "torch", "cpu").run(windows)
    for number in range(torch.cuda.device_count()):
        engine = open_engine(exported, "torch", f"cuda:{number}")
        assert engine.device == f"cuda:{number}"
        assert np.abs(engine.run(windows) - expected).max() < 1e-4


@pytest.mark.parametrize("device", DEVICES)
def test_the_service_answers_and_says_on_which_device(device: str, exported: Path, tmp_path: Path) -> None:
    case = write_noise(tmp_path / "a.nii.gz")
    engine = open_engine(exported, "torchscript", device)
    with run_service(engine) as (port, _), httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
        answer = client.post("/predict", content=case.images[0].read_bytes(), timeout=60)
        assert answer.status_code == 200
        assert client.get("/health").json()["device"].endswith("cpu" if device == "cpu" else "(cuda)")
    (tmp_path / "mask.nii.gz").write_bytes(answer.content)
    assert 0 < read_volume(tmp_path / "mask.nii.gz").array.mean() < 1


@pytest.mark.parametrize("device", DEVICES)
def test_a_training_learns_validates_and_leaves_a_model(device: Any, tmp_path: Path) -> None:
    cases = tuple(write_cube(tmp_path, f"cube{number}", number) for number in range(4))
    datalist = Datalist(tmp_path / "d.json", tmp_path, {"training": cases[:3], "validation": cases[3:]})
    facts = DataFacts(class_names=("background", "cube"), spacing_mm=(1, 1, 2), orientation="LPS", modality="CT")
    options = TrainOptions(accelerator=device, threads=1, workers=0, seed=3)
    workflow = workflow_of(volume_config(), tmp_path, epochs=2)
    result = train(workflow, datalist, options, tmp_path / "m", facts=facts, tracker=NullTracker())
    assert np.isfinite(result.train_loss)
    assert read_checkpoint(tmp_path / "m/model.pt")
    assert open_engine(tmp_path / "m/model.pt", device=device).run(np.zeros((1, 1, 16, 16, 16), np.float32)).ndim == 5
