"""Each engine opens its own file, "auto" takes the fastest that is there, wrong files are named."""

from __future__ import annotations

import math
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from torch._dynamo.exc import BackendCompilerFailed

from tests.inference.models import UNET, build_seeded, save_unet, volume_spec
from voxflow.components import Component
from voxflow.engines import (
    OpenVinoEngine,
    TorchEngine,
    get_engine_kind,
    open_engine,
    write_onnx,
    write_openvino,
    write_torchscript,
)
from voxflow.errors import DataError, InputError, MissingDependencyError
from voxflow.training import save_model

if TYPE_CHECKING:
    from concurrent.futures import Future

BATCH = np.random.default_rng(0).normal(size=(2, 1, 20, 18, 10)).astype(np.float32)
ENGINES: tuple[str, ...] = ("torchscript", "onnxruntime", "openvino")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export")
    module = build_seeded(UNET)
    save_unet(folder / "model.pt")
    write_torchscript(module, volume_spec(), folder / "model.ts")
    assert write_onnx(module, volume_spec(), folder / "model.onnx", opset=18)
    write_openvino(folder / "model.onnx", volume_spec(), folder / "model.xml", fp16_weights=False)
    return folder


@pytest.mark.parametrize("name", ENGINES)
def test_engines_return_torchs_logits_at_any_size_and_batch(name: str, exported: Path) -> None:
    engine = open_engine(exported, name)
    expected = open_engine(exported, "torch").run(BATCH)
    received = engine.run(BATCH)
    assert (engine.name, engine.spec, received.dtype.name) == (name, volume_spec(), "float32")
    assert np.abs(received - expected).max() < 1e-4


def test_openvino_compiled_for_one_size_after_the_other_answers_as_torch_does(
    exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = BATCH[:1]
    monkeypatch.setattr("voxflow.engines.openvino.COMPILED_SIZE_VOXELS", math.prod(large.shape[2:]))
    engine, torch = open_engine(exported, "openvino"), open_engine(exported, "torch")
    small, wide = large[:, :, :16], np.concatenate([large, large], 2)
    for batch in (large, small, wide, small, large):
        assert np.abs(engine.run(batch) - torch.run(batch)).max() < 1e-4


def test_openvino_compiles_ahead_what_it_is_told_to_expect(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    large = BATCH[:1]
    wide = np.concatenate([large, large], 2)
    monkeypatch.setattr("voxflow.engines.openvino.COMPILED_SIZE_VOXELS", math.prod(large.shape[2:]))
    engine, torch = OpenVinoEngine(exported / "model.xml"), open_engine(exported, "torch")
    compiled: list[tuple[int, ...]] = []
    compile_really = engine._compile

    def note_and_compile(shape: tuple[int, ...]) -> Future[Any]:
        compiled.append(shape)
        return compile_really(shape)

    monkeypatch.setattr(engine, "_compile", note_and_compile)
    for _ in range(2):
        engine.expect(large.shape)
    assert compiled == [large.shape]
    assert np.abs(engine.run(large) - torch.run(large)).max() < 1e-4
    engine.expect(large.shape)
    engine.expect(wide.shape)
    for batch in (large, wide, wide):
        assert np.abs(engine.run(batch) - torch.run(batch)).max() < 1e-4
    assert compiled == [large.shape, wide.shape]


def test_bfloat16_is_near_and_never_the_same(exported: Path) -> None:
    expected = open_engine(exported, "torch").run(BATCH)
    received = open_engine(exported, "torch-bf16").run(BATCH)
    assert received.dtype == np.float32
    assert 0 < np.abs(received - expected).max() < 0.05 * np.abs(expected).max()


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch compiles with a C++ compiler, and there is none")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, while it compiles
def test_a_compiled_network_is_compared_and_then_answers(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    engine, reference = open_engine(exported, "torch-compiled"), open_engine(exported, "torch")
    windows = np.random.default_rng(1).normal(size=(8, 1, 16, 16, 8)).astype(np.float32)
    assert np.array_equal(engine.run(windows), reference.run(windows))
    assert "torch-compiled equals torch on its first" in capsys.readouterr().err
    engine = open_engine(exported, "torch-compiled")
    assert isinstance(engine, TorchEngine)
    # A last batch of fewer windows is filled up, and not compiled anew.
    for batch in (windows, windows[:3]):
        assert np.abs(engine.run(batch) - reference.run(batch)).max() < 1e-4
    assert engine._compiled._batches == {(1, 16, 16, 8): 8}
    assert engine.name == "torch-compiled"


def test_without_a_compiler_one_line_says_so_and_torch_answers(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from torch._inductor.exc import InvalidCxxCompiler

    def missing(*_: object) -> None:
        raise BackendCompilerFailed("inductor", InvalidCxxCompiler(), None)

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("voxflow.engines.torch.CompiledModule.__call__", missing)
    engine, reference = open_engine(exported, "torch-compiled"), open_engine(exported, "torch")
    for _ in range(5):
        assert np.array_equal(engine.run(BATCH), reference.run(BATCH))
    assert engine.name == "torch"
    said = "torch-compiled is not used, torch answers: the network can't be compiled here: "
    assert capsys.readouterr().err.count(said) == 1
    assert not list(tmp_path.rglob("compared-*"))


@pytest.mark.parametrize(("name", "batch"), [("torch", 2), ("torchscript", 2), ("onnxruntime", 1), ("openvino", 1)])
def test_on_a_processor_torch_alone_is_given_windows_in_pairs(name: str, batch: int, exported: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("torch takes the GPU here")
    assert open_engine(exported, name).batch == batch


@pytest.mark.parametrize("name", ["torch", *ENGINES])
def test_instance_norm_is_found_in_every_format(name: str, exported: Path) -> None:
    assert not open_engine(exported, name).is_local


@pytest.mark.parametrize("group_norm", [False, True])
def test_batch_norm_leaves_a_network_local_and_group_norm_does_not(group_norm: bool, tmp_path: Path) -> None:
    sizes = {"in_channels": 1, "num_classes": 2, "blocks_down": [1, 1], "blocks_up": [1]}
    component = Component(name="SegResnet", args=sizes | {"use_groupnorm": group_norm})
    module = build_seeded(component)
    save_model(tmp_path / "model.pt", module, component, spec=volume_spec(), epoch=1, metric=0.5)
    write_torchscript(module, volume_spec(), tmp_path / "model.ts")
    write_onnx(module, volume_spec(), tmp_path / "model.onnx", opset=18)
    write_openvino(tmp_path / "model.onnx", volume_spec(), tmp_path / "model.xml", fp16_weights=False)
    assert {open_engine(tmp_path, name).is_local for name in ("torch", *ENGINES)} == {not group_norm}


def test_auto_takes_the_fastest_that_is_there(exported: Path, tmp_path: Path) -> None:
    assert open_engine(exported).name == "openvino"
    for file in ("model.pt", "model.ts"):
        shutil.copy(exported / file, tmp_path / file)
    assert open_engine(tmp_path).name == "torchscript"


def test_a_file_names_its_engine_and_no_gpu_is_looked_for(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        type(get_engine_kind("torch")), "uses_gpu", lambda _: pytest.fail("looking for a GPU imports torch")
    )
    assert open_engine(exported / "model.xml").name == "openvino"


def test_auto_passes_over_an_engine_that_cannot_run(exported: Path, tmp_path: Path) -> None:
    if get_engine_kind("tensorrt").explain_unavailable() is None:
        pytest.skip("TensorRT can run here")
    (tmp_path / "model.engine").write_bytes(b"")
    shutil.copy(exported / "model.onnx", tmp_path / "model.onnx")
    assert open_engine(tmp_path).name == "onnxruntime"
    with pytest.raises(MissingDependencyError, match="tensorrt can't run here"):
        open_engine(tmp_path, "tensorrt")


@pytest.mark.parametrize("name", ["model.ts", "model.onnx", "model.xml", "model.pt"])
def test_a_damaged_file_is_named(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"not a model")
    with pytest.raises(DataError, match=name):
        open_engine(tmp_path / name)


def test_a_file_without_a_spec_is_refused(exported: Path, tmp_path: Path) -> None:
    import onnx

    model = onnx.load(exported / "model.onnx")
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(DataError, match="carries no Voxflow spec"):
        open_engine(tmp_path / "model.onnx")


def test_an_engine_without_its_file_is_named(exported: Path, tmp_path: Path) -> None:
    shutil.copy(exported / "model.onnx", tmp_path / "model.onnx")
    with pytest.raises(InputError, match="no model for the engine 'openvino'; there is onnxruntime"):
        open_engine(tmp_path, "openvino")
    with pytest.raises(DataError, match="no such model file or folder"):
        open_engine(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="a model file ends in one of"):
        open_engine(Path(__file__))


PLAIN = """
import sys, numpy as np
sys.modules["voxflow"] = None
sys.modules["openvino_telemetry"] = None
batch, expected = np.load("batch.npy"), np.load("expected.npy")
import torch, onnxruntime, openvino
torchscript = torch.jit.load("model.ts")(torch.from_numpy(batch)).detach().numpy()
onnx = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"]).run(None, {"image": batch})[0]
core = openvino.Core()
ir = core.compile_model(core.read_model("model.xml"), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(batch)[0]
sys.exit(max(float(np.abs(each - expected).max()) for each in (torchscript, onnx, ir)) > 1e-4)
"""


def test_files_load_without_voxflow(exported: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(exported, tmp_path / "plain")
    np.save(folder / "batch.npy", BATCH)
    np.save(folder / "expected.npy", open_engine(exported, "torch").run(BATCH))
    result = subprocess.run(
        [sys.executable, "-I", "-c", PLAIN], cwd=folder, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


def test_openvino_loads_without_its_telemetry(exported: Path) -> None:
    code = (
        "import sys; from voxflow.engines import open_engine; from pathlib import Path; "
        f"open_engine(Path({str(exported / 'model.xml')!r})); "
        "sys.exit(sys.modules['openvino_telemetry'] is not None)"
    )
    path = str(Path(__file__).parents[2] / "src")
    assert subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": path}, check=False).returncode == 0


SIGNALLED = """
import os, signal, sys, threading
from pathlib import Path
from voxflow.engines import open_engine
held = [open_engine(Path(sys.argv[1]), "openvino")]
signal.signal(signal.SIGTERM, lambda *_: sys.exit(5))
thread = threading.Thread(target=held.clear)
thread.start()
thread.join()
os.kill(os.getpid(), signal.SIGTERM)
"""


def test_a_signal_is_handled_once_a_thread_has_dropped_openvinos_model(exported: Path) -> None:
    path = str(Path(__file__).parents[2] / "src")
    command = [sys.executable, "-c", SIGNALLED, str(exported / "model.xml")]
    assert subprocess.run(command, env={"PYTHONPATH": path}, check=False).returncode == 5
