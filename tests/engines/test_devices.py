"""Which device a model computes on: the first GPU, the one that was asked for, or the processor where memory lacks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from pydantic import ValidationError

from tests.inference.models import UNET, build_seeded, save_unet, volume_spec
from voxflow import machine
from voxflow.engines import open_engine, write_onnx, write_torchscript
from voxflow.engines.torch import GPU_BATCH, TorchEngine
from voxflow.errors import InputError, MissingDependencyError
from voxflow.evaluation import EvaluateOptions
from voxflow.inference import InferOptions, compute_maker_digest
from voxflow.machine import explain_no_gpu, find_gpu, has_gpu, use_device

if TYPE_CHECKING:
    from pathlib import Path

    import torch


@pytest.fixture
def placed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A machine that seems to have two GPUs; the devices that modules were sent to."""
    devices: list[str] = []

    def send(module: torch.nn.Module, device: str) -> torch.nn.Module:
        devices.append(device)
        return module

    monkeypatch.setattr(machine, "_GPU_DEVICES", ("/dev/null",))
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda device: f"card of {device}")
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda including_emulation: True)
    monkeypatch.setattr("torch.cuda.empty_cache", lambda: None)
    monkeypatch.setattr("torch.nn.Module.to", send)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return devices


def test_a_block_chooses_the_device_and_no_longer(placed: list[str]) -> None:
    assert (has_gpu(), find_gpu(), explain_no_gpu()) == (True, "cuda", None)
    with use_device("cuda:1"):
        assert find_gpu() == "cuda:1"
        with use_device(None):
            assert find_gpu() == "cuda:1"
        with use_device("cpu"):
            assert (has_gpu(), find_gpu(), explain_no_gpu()) == (False, "", "the device is cpu")
    assert find_gpu() == "cuda"


@pytest.mark.parametrize(("device", "text"), [
    ("cuda:2", "device: cuda:2: there is no such GPU; torch sees cuda:0 to cuda:1"),
    ("cuda:99", "there is no such GPU"),
])  # fmt: skip
def test_a_gpu_that_is_not_there_is_named(device: str, text: str, placed: list[str], tmp_path: Path) -> None:
    with pytest.raises(MissingDependencyError, match=text):
        open_engine(save_unet(tmp_path / "model.pt"), device=device)
    assert find_gpu() == "cuda"


def test_without_a_gpu_none_is_taken_in_silence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_GPU_DEVICES", ())
    with pytest.raises(MissingDependencyError, match="device: cuda: torch sees no NVIDIA GPU"):
        open_engine(save_unet(tmp_path / "model.pt"), device="cuda")
    assert open_engine(tmp_path / "model.pt", device="cpu").device == "cpu"


def test_a_model_goes_to_the_gpu_that_was_asked_for(placed: list[str], tmp_path: Path) -> None:
    file = save_unet(tmp_path / "model.pt")
    engine = open_engine(file, "torch", "cuda:1")
    assert (engine.device, engine.batch, placed[-1]) == ("cuda:1", GPU_BATCH, "cuda:1")
    assert open_engine(file, "torch", "cpu").device == "cpu"
    # What is taken unasked is compared first, and on that very card.
    first = open_engine(file, device="cuda:1")
    assert first.name == "torch-fp16"
    assert first._place["gpu"] == "card of cuda:1"  # type: ignore[attr-defined]


def test_what_runs_on_the_processor_alone_is_not_taken_for_a_gpu(placed: list[str], tmp_path: Path) -> None:
    write_onnx(build_seeded(UNET), volume_spec(), tmp_path / "model.onnx", 18)
    for name in ("auto", "onnxruntime"):
        with pytest.raises(InputError, match="onnxruntime runs on the processor alone, and device asks for a GPU"):
            open_engine(tmp_path, name, "cuda")
    assert open_engine(tmp_path).name == "onnxruntime"
    save_unet(tmp_path / "model.pt")
    assert open_engine(tmp_path, device="cuda").name == "torch-fp16"
    assert open_engine(tmp_path, device="cpu").name == "onnxruntime"


@pytest.mark.parametrize("text", ["CUDA out of memory. Tried to allocate 2 GiB", "CUDA error: out of memory"])
def test_a_model_that_the_gpu_has_no_memory_for_runs_on_the_processor(
    text: str, placed: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def send(module: torch.nn.Module, device: str) -> torch.nn.Module:
        if device != "cpu":
            raise RuntimeError(text)
        return module

    monkeypatch.setattr("torch.nn.Module.to", send)
    save_unet(tmp_path / "model.pt")
    write_torchscript(build_seeded(UNET), volume_spec(), tmp_path / "model.ts")
    for name in ("auto", "torch", "torch-fp16"):
        engine = open_engine(tmp_path, name)
        assert engine.device == "cpu"
        assert engine.run(np.zeros((1, 1, 16, 16, 8), np.float32)).shape == (1, 2, 16, 16, 8)
        assert "the GPU has too little free memory for" in capsys.readouterr().err


def test_another_error_of_a_gpu_is_not_taken_for_want_of_memory(
    placed: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def send(*_: object) -> None:
        raise RuntimeError("CUDA error: device-side assert triggered")

    monkeypatch.setattr("torch.nn.Module.to", send)
    with pytest.raises(RuntimeError, match="device-side assert"):
        open_engine(save_unet(tmp_path / "model.pt"))


@pytest.mark.parametrize("options", [InferOptions, EvaluateOptions])
def test_a_configuration_names_the_device(options: Any) -> None:
    assert options().device is None
    assert options(device="cuda:1").device == "cuda:1"
    for wrong in ("gpu", "cuda:", "cuda:one", "cuda:-1", "CUDA", "", 0, "cuda:1\n"):
        with pytest.raises(ValidationError, match="expected cpu, cuda, or cuda:1 for the second GPU"):
            options(device=wrong)


def test_what_made_a_mask_does_not_depend_on_options_that_are_not_set(tmp_path: Path) -> None:
    engine = TorchEngine(save_unet(tmp_path / "model.pt"))
    digests = {
        compute_maker_digest(engine, [tmp_path / "model.pt"], InferOptions(**options))
        for options in ({}, {"device": "cpu"}, {"gpu_memory_mb": None})
    }
    assert len(digests) == 1
    engine.name = "torch-fp16"  # as "auto" leaves it on a GPU
    assert compute_maker_digest(engine, [tmp_path / "model.pt"], InferOptions()) not in digests
