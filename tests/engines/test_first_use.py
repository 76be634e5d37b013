"""An engine that was built without its GPU is compared on the first windows that it is shown, once."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from tests.inference.models import UNET, ThresholdEngine, build_seeded, radiograph_spec, save_unet, volume_spec
from voxflow.engines import (
    FirstUseEngine,
    Limits,
    OnnxRuntimeEngine,
    TorchEngine,
    compare_at_first_use,
    explain_record,
    find_reference,
    name_record,
    open_engine,
    write_onnx,
    write_torchscript,
)
from voxflow.engines.first_use import MOST_WINDOWS, WINDOWS
from voxflow.engines.torch import list_half_precisions, take_variant
from voxflow.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from voxflow.engines import Engine
    from voxflow.spec import ModelSpec

SINGLE = Limits(max_abs_difference=0.01, min_dice=0.999)
HALF = Limits(max_abs_difference=None, min_dice=0.99)
PLACE = {"gpu": "NVIDIA L4", "driver": "580.1"}


class ShiftedEngine(ThresholdEngine):
    """Answers as the reference does, with something added to the logits of the last class."""

    name = "candidate"

    def __init__(self, shift: float, spec: ModelSpec | None = None, threshold: float = 0.5) -> None:
        super().__init__(spec, threshold)
        self.shift = shift

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        logits = super().run(batch).copy()
        logits[:, -1] += np.float32(self.shift)
        return logits


def draw_windows() -> NDArray[np.float32]:
    return np.random.default_rng(0).random((2, 1, 16, 16, 16)).astype(np.float32)


def wrap(candidate: Engine, tmp_path: Path, limits: Limits = SINGLE) -> FirstUseEngine:
    return FirstUseEngine(candidate, ThresholdEngine, limits=limits, record=tmp_path / "record.json", place=PLACE)


def test_the_reference_answers_until_the_candidate_has_passed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    windows = draw_windows()[..., :8]
    engine = wrap(ShiftedEngine(1e-4), tmp_path)
    expected = ThresholdEngine().run(windows)
    for _ in range(WINDOWS // 2):
        assert not (tmp_path / "record.json").exists()
        assert np.array_equal(engine.run(windows), expected)
    assert np.array_equal(engine.run(windows), ShiftedEngine(1e-4).run(windows))
    record = json.loads((tmp_path / "record.json").read_text())
    assert record["gpu"] == "NVIDIA L4"
    assert record["windows"] == WINDOWS
    assert 0 < record["max_probability_difference"] < 1e-4
    assert engine.name == "candidate"
    assert "candidate equals torch on its first 8 windows" in capsys.readouterr().err
    assert explain_record(tmp_path / "record.json", PLACE) is None


@pytest.mark.parametrize(
    ("candidate", "limits", "fault"),
    [
        (ShiftedEngine(0.5), SINGLE, "a probability differs by"),
        (ShiftedEngine(0, threshold=0.6), HALF, "masks agree to a Dice of"),
        (ShiftedEngine(np.nan), HALF, "its answers are no numbers"),
        (ShiftedEngine(np.nan), SINGLE, "a probability differs by inf"),
    ],
)
def test_a_candidate_that_differs_never_answers(
    candidate: Engine, limits: Limits, fault: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    windows = draw_windows()
    engine = wrap(candidate, tmp_path, limits)
    for _ in range(WINDOWS):
        assert np.array_equal(engine.run(windows), ThresholdEngine().run(windows))
    assert engine.name == "torch"
    assert f"candidate is not used, torch answers: on this machine {fault}" in capsys.readouterr().err
    assert fault in (explain_record(tmp_path / "record.json", PLACE) or "")


def test_findings_are_compared_by_their_share(tmp_path: Path) -> None:
    from voxflow.engines.first_use import Tally

    expected = np.array([[1.0, -1.0], [2.0, -3.0]], dtype=np.float32)
    received = np.array([[1.0, -1.0], [2.0, 3.0]], dtype=np.float32)
    tally = Tally(radiograph_spec())
    tally.add(received, expected)
    assert tally.min_dice == 0.75
    assert "0.75" in tally.explain_fault(HALF)


def test_a_comparison_is_made_once_and_belongs_to_the_file_and_the_machine(tmp_path: Path) -> None:
    engine_file = tmp_path / "model.rtx.engine"
    engine_file.write_bytes(b"an engine")
    write_onnx(build_seeded(UNET), volume_spec(), tmp_path / "model.onnx", 18)
    assert find_reference(engine_file) == tmp_path / "model.onnx"
    candidate = OnnxRuntimeEngine(tmp_path / "model.onnx")
    record = name_record(tmp_path, engine_file, PLACE)
    assert name_record(tmp_path, engine_file, PLACE | {"driver": "590.2"}) != record
    first = compare_at_first_use(candidate, engine_file, SINGLE, record, PLACE)
    assert isinstance(first, FirstUseEngine)
    first.run(np.zeros((WINDOWS, 1, 16, 16, 8), np.float32))
    assert compare_at_first_use(candidate, engine_file, SINGLE, record, PLACE) is candidate
    record.write_text(json.dumps(PLACE | {"windows": 8, "fault": "masks agree to a Dice of 0.1, needed 0.999"}))
    with pytest.raises(DataError, match=r"model\.rtx\.engine: on this machine masks agree to a Dice of 0\.1"):
        compare_at_first_use(candidate, engine_file, SINGLE, record, PLACE)


def test_without_the_file_that_it_was_built_from_it_does_not_run(tmp_path: Path) -> None:
    engine_file = tmp_path / "model.trt.rtx.engine"
    engine_file.write_bytes(b"an engine")
    with pytest.raises(DataError, match="no ONNX file lies beside it"):
        compare_at_first_use(ThresholdEngine(), engine_file, SINGLE, tmp_path / "record.json", PLACE)
    write_onnx(build_seeded(UNET), volume_spec(divisor=4), tmp_path / "model.fzn.onnx", 18)
    with pytest.raises(DataError, match=r"model\.fzn\.onnx beside it is another model"):
        compare_at_first_use(ThresholdEngine(), engine_file, SINGLE, tmp_path / "record.json", PLACE)


def test_torch_computes_in_half_precision_on_a_gpu_once_its_masks_were_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.get_device_name", lambda _: "NVIDIA L4")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    file = save_unet(tmp_path / "model.pt")
    engine = open_engine(file)
    assert take_variant(engine, file, list_half_precisions(engine, "torch-fp16", "torch-bf16")) is engine
    first = take_variant(on_gpu(file), file, ("torch-fp16",))
    assert isinstance(first, FirstUseEngine)
    # There is no GPU here: the processor computes in half precision in its place.
    assert first._reference is not None
    first._candidate.device = first._reference.device = "cpu"
    windows = np.random.default_rng(0).random((WINDOWS, 1, 16, 16, 8)).astype(np.float32)
    assert np.array_equal(first.run(windows), engine.run(windows))
    assert not np.array_equal(first.run(windows), engine.run(windows))
    half = take_variant(on_gpu(file), file, ("torch-fp16",))
    assert not isinstance(half, FirstUseEngine)
    assert half.name == "torch-fp16"
    (record,) = (tmp_path / "cache/voxflow").iterdir()
    content = json.loads(record.read_text())
    record.write_text(json.dumps(content | {"fault": "masks agree to a Dice of 0.5, needed 0.999"}))
    assert take_variant(on_gpu(file), file, ("torch-fp16",)).name == "torch"
    # What float16 can't hold may do in bfloat16, which is compared in its turn.
    following = take_variant(on_gpu(file), file, ("torch-fp16", "torch-bf16"))
    assert isinstance(following, FirstUseEngine)
    assert following.name == "torch-bf16"


@pytest.mark.parametrize("content", [
    "", "{", "[]", "null", "{}", '{"fault": ""}', '{"fault": null, "windows": 8}', '{"fault": "", "windows": 0}',
    '{"fault": "", "windows": "8"}', '{"fault": 1, "windows": 8}', '{"fault": "", "windows": 8, "gpu": "NVIDIA L4"}',
    '{"fault": "", "windows": 8, "gpu": "NVIDIA L4", "driver": "1.0"}', "\x00\xff",
])  # fmt: skip
def test_a_damaged_record_or_one_of_another_place_counts_as_none(content: str, tmp_path: Path) -> None:
    record = tmp_path / "record.json"
    record.write_bytes(content.encode("latin-1"))
    assert explain_record(record, PLACE) == ""
    record.unlink()
    record.mkdir()
    assert explain_record(record, PLACE) == ""


def test_air_alone_says_nothing_of_the_classes(tmp_path: Path) -> None:
    spec = volume_spec(window=(16, 16, 16))
    air, windows = np.zeros((2, 1, 16, 16, 16), np.float32), draw_windows()
    for shown, expected in (([air] * 4 + [windows], 10), ([air] * 40, MOST_WINDOWS)):
        record = tmp_path / f"{expected}.json"
        engine = FirstUseEngine(ShiftedEngine(1e-4, spec), ThresholdEngine, limits=SINGLE, record=record, place=PLACE)
        for batch in shown:
            engine.run(batch)
        assert json.loads(record.read_text())["windows"] == expected


class FailingEngine(ShiftedEngine):
    """Raises what a GPU's kernels may."""

    def __init__(self, error: Exception) -> None:
        super().__init__(0)
        self.error = error

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        raise self.error


def test_a_candidate_that_fails_leaves_the_answers_to_the_reference(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = wrap(FailingEngine(RuntimeError("CUDA error: no kernel image is available\nfor the device")), tmp_path)
    for _ in range(2):
        assert np.array_equal(engine.run(draw_windows()), ThresholdEngine().run(draw_windows()))
    said = "voxflow: candidate is not used, torch answers: it fails: CUDA error: no kernel image is available"
    assert capsys.readouterr().err.count("it fails") == 1, said
    assert engine.name == "torch"
    assert not (tmp_path / "record.json").exists()  # the next process may find it mended


@pytest.mark.parametrize("error", [
    torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("CUDA error: out of memory"),
    RuntimeError("The following operation failed in the TorchScript interpreter.\nRuntimeError: CUDA out of memory."),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"),
])  # fmt: skip
def test_want_of_memory_during_a_comparison_says_nothing_of_the_candidate(error: Exception, tmp_path: Path) -> None:
    engine = wrap(FailingEngine(error), tmp_path)
    with pytest.raises(RuntimeError):
        engine.run(draw_windows())
    assert engine.name == "candidate"
    assert engine._reference is not None


def test_a_cache_that_cannot_be_written_is_named_and_stops_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    record = tmp_path / "cache" / "voxflow" / "record.json"
    engine = FirstUseEngine(ShiftedEngine(1e-4), ThresholdEngine, limits=SINGLE, record=record, place=PLACE)
    for _ in range(WINDOWS // 2):
        engine.run(draw_windows())
    assert engine._reference is None
    assert f"candidate is compared again by each process: {record.parent}: " in capsys.readouterr().err


def test_of_two_processes_that_compare_at_once_the_fault_counts(tmp_path: Path) -> None:
    record = tmp_path / "record.json"
    first, second = wrap(ShiftedEngine(0.5), tmp_path), wrap(ShiftedEngine(1e-4), tmp_path)
    for engine in (first, second):
        for _ in range(WINDOWS // 2):
            engine.run(draw_windows())
    assert second.name == "torch"
    assert "a probability differs by" in (explain_record(record, PLACE) or "")


def test_a_whole_image_counts_as_the_windows_that_fit_into_it(tmp_path: Path) -> None:
    spec = volume_spec(window=(16, 16, 16))
    candidate, image = ShiftedEngine(1e-4, spec), np.tile(draw_windows()[:1], (1, 1, 2, 2, 2))
    engine = FirstUseEngine(candidate, ThresholdEngine, limits=SINGLE, record=tmp_path / "record.json", place=PLACE)
    engine.run(image)
    assert engine._reference is None


def test_what_a_gpu_has_no_memory_for_is_answered_by_the_reference_on_the_processor(tmp_path: Path) -> None:
    engine = wrap(ShiftedEngine(0.5), tmp_path)
    windows = draw_windows()
    assert np.array_equal(engine.on_processor().run(windows), ThresholdEngine().run(windows))
    file = save_unet(tmp_path / "model.pt")
    half = open_engine(file, "torch-fp16").on_processor()
    batch = np.random.default_rng(0).random((2, 1, 16, 16, 8)).astype(np.float32)
    assert np.array_equal(half.run(batch), open_engine(file).run(batch))


def test_only_tf32_is_switched_off_while_torch_computes_and_all_is_as_before(tmp_path: Path) -> None:
    engine = open_engine(save_unet(tmp_path / "model.pt"))
    assert isinstance(engine, TorchEngine)
    before = read_switches()
    seen: list[list[bool]] = []
    engine.module.register_forward_hook(lambda *_: seen.append(read_switches()))
    engine.run(np.zeros((1, 1, 16, 16, 8), np.float32))
    assert before[1:3] == [True, True]  # torch's defaults: convolutions in TF32, by cuDNN
    assert seen == [[False, False, *before[2:]]]
    assert read_switches() == before


def read_switches() -> list[bool]:
    cudnn = torch.backends.cudnn
    return [torch.backends.cuda.matmul.allow_tf32, cudnn.allow_tf32, cudnn.enabled, cudnn.benchmark]


def on_gpu(file: Path) -> Engine:
    """The engine as if its module lay on a GPU."""
    engine = open_engine(file)
    engine.device = "cuda"
    return engine


def test_half_precision_is_there_on_request(tmp_path: Path) -> None:
    file = save_unet(tmp_path / "model.pt")
    write_torchscript(build_seeded(UNET), volume_spec(), tmp_path / "model.ts")
    windows = np.random.default_rng(0).random((2, 1, 16, 16, 8)).astype(np.float32)
    expected = open_engine(file).run(windows)
    for name in ("torch-fp16", "torchscript-fp16"):
        received = open_engine(tmp_path, name).run(windows)
        assert received.dtype == np.float32
        assert 0 < np.abs(received - expected).max() < 0.02
