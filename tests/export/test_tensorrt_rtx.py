"""TensorRT-RTX parses and builds without a GPU; the way to a GPU and back is run by the names of its bindings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.export import fake_tensorrt
from tests.inference.models import build_seeded, radiograph_spec, save_unet, volume_spec
from voxflow.components import Component, complete_network, list_component_names
from voxflow.engines import (
    TensorRtRtxEngine,
    explain_unusable,
    get_engine_kind,
    open_engine,
    write_half,
    write_onnx,
    write_tensorrt_rtx,
)
from voxflow.errors import DataError, MissingDependencyError, VoxflowError
from voxflow.export import ExportOptions, export_model

if TYPE_CHECKING:
    from voxflow.inference import InferenceCase
    from voxflow.spec import ModelSpec

bindings = pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT-RTX is not installed")
ROOT = Path(__file__).resolve().parents[2]
VERSION = {"tensorrt_rtx": bindings.__version__}


def has_no_gpu() -> bool:
    return get_engine_kind("tensorrt_rtx").explain_unavailable() is not None


@pytest.mark.skipif(not has_no_gpu(), reason="there is a GPU")
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_an_engine_is_built_without_a_gpu_and_is_not_called_equal(
    precision: Any, case: InferenceCase, out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ExportOptions(engines=("openvino", "tensorrt_rtx"), tensorrt_precision=precision)
    report = export_model(save_unet(tmp_path / "model.pt"), out, options, [case])
    report.require_published()
    assert report.published_engines == ["openvino"]
    assert report.uncompared == {"tensorrt_rtx": "torch sees no NVIDIA GPU"}
    assert report.metrics()["tensorrt_rtx"] == {"published": 1, "compared": 0, "reason": "torch sees no NVIDIA GPU"}
    assert "the TensorRT-RTX engine is compared at its first use: torch sees no NVIDIA GPU" in capsys.readouterr().err
    # The ONNX file was not asked for, and stays to be compared with.
    files = ["model.bin", "model.onnx", "model.rtx.engine", "model.rtx.engine.json", "model.xml"]
    assert sorted(path.name for path in out.iterdir()) == files
    described = json.loads((out / "model.rtx.engine.json").read_text())
    assert described["built_for"] == VERSION
    exact = {"max_abs_difference": 0.01, "min_dice": 0.999}
    assert described["limits"] == (exact if precision == "fp32" else {"max_abs_difference": None, "min_dice": 0.99})
    assert open_engine(out).name == "openvino"
    with pytest.raises(MissingDependencyError, match="tensorrt_rtx can't run here: torch sees no NVIDIA GPU"):
        open_engine(out, "tensorrt_rtx")


NNUNET = {
    "features_per_stage": [8, 12, 16],
    "kernel_sizes": [[3, 3, 3]] * 3,
    "strides": [[1, 1, 1], [2, 2, 2], [2, 2, 2]],
    "n_conv_per_stage_decoder": [1, 1],
}
RADIOGRAPHS = {"init_features": 4, "growth_rate": 4, "block_config": [2, 2]}


NETWORKS: list[tuple[str, dict[str, Any]]] = [
    ("Unet", {"nf_enc": "4,8,16"}),
    ("Unet", {"nf_enc": [4, 8, 16], "strides": [[2, 2, 1], 2], "use_batch_norm": True}),
    ("Unet", {"nf_enc": [8, 8], "nf_dec": [8], "use_group_norm": True, "residual_units": 0}),
    ("Unet", {"nf_enc": "4,4", "nf_dec": "4,4,4,4,2"}),
    ("PlainUnet", {"nf_enc": [4, 8, 8], "strides": [[2, 2, 1], 2], "kernels": [[3, 3, 1], 3, 3]}),
    ("PlainUnet", {"nf_enc": "4,8", "down": [2, 1], "up": [2], "norm": "instance"}),
    ("SegResnet", {"init_filters": 4, "blocks_down": [1, 1], "blocks_up": [1]}),
    ("SegResnet", {"init_filters": 2, "blocks_down": "1,1,1", "blocks_up": "1,1", "use_group_normG": 8}),
    ("PlainConvUNet", {**NNUNET, "n_conv_per_stage": [1, 2, 1]}),
    ("ResidualEncoderUNet", {**NNUNET, "n_blocks_per_stage": [1, 2, 1]}),
    ("ResidualUNet", {**NNUNET, "n_blocks_per_stage": [1, 1, 1]}),
    ("DenseNet", RADIOGRAPHS),
    ("ResNet", {"layers": [1, 1, 1, 1], "filters": [4, 4, 8, 8], "members": 2}),
]
LARGE_NETWORKS = [("SegAhnet", 64), ("DenseNet121", 224)]


# What another program wrote as a file has no layers that an engine could lack; several networks are run by torch.
PROGRAMS = {"TorchScriptProgram", "OnnxProgram", "NnunetCascade", "NnunetParts", "TrainedCascade"}


def test_every_network_of_the_registry_is_tried() -> None:
    assert {name for name, _ in (*NETWORKS, *LARGE_NETWORKS)} == set(list_component_names("network")) - PROGRAMS


def build_engine(component: Component, spec: ModelSpec, is_half: bool, folder: Path) -> tuple[float, list[str]]:
    """The size of an engine in sizes of the ONNX file that it is built of, and the class names that it states."""
    network = complete_network(component, in_channels=spec.in_channels, num_classes=spec.out_channels)
    write_onnx(build_seeded(network), spec, folder / "model.onnx", 18)
    if is_half:
        write_half(folder / "model.onnx", folder / "half.onnx")
    source, engine = folder / ("half.onnx" if is_half else "model.onnx"), folder / "model.rtx.engine"
    write_tensorrt_rtx(source, spec, engine, ExportOptions(), is_reduced=is_half)
    names = json.loads((folder / "model.rtx.engine.json").read_text())["spec"]["class_names"]
    return engine.stat().st_size / source.stat().st_size, names


@pytest.mark.parametrize("is_half", [False, True], ids=["fp32", "fp16"])
@pytest.mark.parametrize(("name", "args"), NETWORKS)
def test_networks_of_the_registry_are_built(name: str, args: dict[str, Any], is_half: bool, tmp_path: Path) -> None:
    is_radiograph = name in ("DenseNet", "ResNet")
    spec = radiograph_spec() if is_radiograph else volume_spec(divisor=4, in_channels=2, class_names=("a", "b", "c"))
    size, names = build_engine(Component(name=name, args=args), spec, is_half, tmp_path)
    assert size > 0.5, "it holds the weights"
    assert names == list(spec.class_names)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "side"), LARGE_NETWORKS)
def test_large_networks_of_the_registry_are_built(name: str, side: int, tmp_path: Path) -> None:
    spec = (
        radiograph_spec(size=(side, side))
        if name == "DenseNet121"
        else volume_spec(window=(side, side, 32), divisor=32)
    )
    size, names = build_engine(Component(name=name, args={}), spec, False, tmp_path)
    assert size > 0.5, "it holds the weights"
    assert names == list(spec.class_names)


@pytest.mark.parametrize("workspace", ["spleen_demo", "chestxray_demo"])
def test_the_networks_of_the_demos_are_built(workspace: str, tmp_path: Path) -> None:
    config = json.loads((ROOT / "mmars" / workspace / "config/config_train.json").read_text())
    args = {name: value for name, value in config["train"]["model"]["args"].items() if name != "final_activation"}
    component = Component(name=config["train"]["model"]["name"], args=args)
    spec = volume_spec(window=(32, 32, 16), divisor=8) if workspace == "spleen_demo" else radiograph_spec(size=(64, 64))
    size, names = build_engine(component, spec, True, tmp_path)
    assert size > 0.5, "it holds the weights"
    assert names == list(spec.class_names)


def test_the_sizes_that_an_engine_takes_are_those_of_the_options(tmp_path: Path) -> None:
    """What the library really parsed has open axes, which the profile bounds."""
    from voxflow.engines.tensorrt import EngineBuild

    spec = volume_spec(divisor=4)
    network = complete_network(Component(name="Unet", args={"nf_enc": "4,8"}), in_channels=1, num_classes=2)
    write_onnx(build_seeded(network), spec, tmp_path / "model.onnx", 18)
    options = ExportOptions(tensorrt_batch=3, tensorrt_scale=4)
    flag = 1 << int(bindings.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    build = EngineBuild(bindings, tmp_path / "model.onnx", spec, options, network_flags=flag)
    assert tuple(build._network.get_input(0).shape) == (-1, 1, -1, -1, -1)
    assert build.config.num_optimization_profiles == 1
    assert not build.config.get_flag(bindings.BuilderFlag.TF32)
    assert build._network.get_flag(bindings.NetworkDefinitionCreationFlag.STRONGLY_TYPED)


def test_the_onnx_file_stays_beside_an_engine_that_other_machines_compare(
    case: InferenceCase, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a machine that can run the engine, and so compares it at once; here ONNX Runtime stands for it."""
    kind = type(get_engine_kind("tensorrt_rtx"))
    monkeypatch.setattr(kind, "explain_unavailable", lambda _: None)
    monkeypatch.setattr(kind, "open_uncompared", lambda _, file: open_engine(file.with_name("model.onnx")))
    report = export_model(save_unet(tmp_path / "model.pt"), out, ExportOptions(engines=("tensorrt_rtx",)), [case])
    report.require_published()
    assert not report.uncompared
    assert sorted(path.name for path in out.iterdir()) == ["model.onnx", "model.rtx.engine", "model.rtx.engine.json"]


def test_what_it_cannot_parse_is_told(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no")
    with pytest.raises(VoxflowError, match="TensorRT can't parse the ONNX file: "):
        write_tensorrt_rtx(tmp_path / "model.onnx", volume_spec(), tmp_path / "model.rtx.engine", ExportOptions())
    capfd.readouterr()


class RtxConfig:
    """IRuntimeConfig with its cache of kernels."""

    def __init__(self, engine: RtxEngine) -> None:
        self._engine = engine

    def create_runtime_cache(self) -> RtxCache:
        return RtxCache()

    def set_runtime_cache(self, cache: RtxCache) -> bool:
        self._engine.cache = cache
        return True


class RtxCache:
    """IRuntimeCache that counts how often it was used."""

    content = b""

    def deserialize(self, blob: bytes) -> bool:
        self.content = blob
        return True

    def serialize(self) -> bytes:
        return self.content + b"kernel "


class RtxEngine(fake_tensorrt.ICudaEngine):
    """ICudaEngine, with a context that takes the configuration of the runtime."""

    cache: RtxCache

    def create_runtime_config(self) -> RtxConfig:
        return RtxConfig(self)

    def create_execution_context(self, runtime_config: Any = None) -> Any:
        assert isinstance(runtime_config, RtxConfig)
        return super().create_execution_context()


class RtxRuntime(fake_tensorrt.Runtime):
    """Runtime whose engines are run by ONNX Runtime, and which may refuse them."""

    answer: tuple[Any, int] = (bindings.EngineValidity.VALID, 0)

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> Any:
        engine: Any = super().deserialize_cuda_engine(serialized_engine)
        return engine and RtxEngine(engine._session, engine._shapes)

    def get_engine_validity(self, buffer: bytes) -> tuple[Any, int]:
        return self.answer


@pytest.fixture
def engine_file(case: InferenceCase, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine that seems to have a GPU, and an engine that was exported on one without."""
    options = ExportOptions(engines=("onnx", "tensorrt_rtx"))
    export_model(save_unet(tmp_path / "model.pt"), out, options, [case])
    for name, cls in (
        ("IRuntimeConfig", RtxConfig),
        ("IRuntimeCache", RtxCache),
        ("ICudaEngine", RtxEngine),
        ("Runtime", RtxRuntime),
    ):
        assert all(
            hasattr(getattr(bindings, name), member)
            for member in vars(cls)
            if not member.startswith("_") and callable(getattr(cls, member))
        )
    head = json.dumps({"image": [[1, 1, 16, 16, 8], [1, 1, 16, 16, 8], [4, 1, 32, 32, 16]]}).encode()
    (out / "model.rtx.engine").write_bytes(head + b"\n" + (out / "model.onnx").read_bytes())
    monkeypatch.setattr(bindings, "Runtime", RtxRuntime)
    monkeypatch.setattr("voxflow.engines.tensorrt_rtx.explain_no_gpu", lambda: None)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda _: "NVIDIA L4")
    monkeypatch.setattr("torch.cuda.current_stream", lambda: fake_tensorrt.STREAM)
    monkeypatch.setattr(TensorRtRtxEngine, "device", "cpu")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return out / "model.rtx.engine"


def test_on_a_gpu_it_is_compared_once_and_keeps_its_kernels(
    engine_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    windows = np.random.default_rng(1).normal(size=(4, 1, 16, 16, 8)).astype(np.float32)
    expected = open_engine(engine_file.with_name("model.onnx")).run(windows)
    engine = open_engine(engine_file.parent)
    assert (engine.name, engine.batch, engine.largest) == ("tensorrt_rtx", 4, (32, 32, 16))
    for _ in range(3):
        assert np.array_equal(engine.run(windows), expected)
    (record,) = (tmp_path / "cache/voxflow").glob("compared-*.json")
    kept = json.loads(record.read_text())
    assert (kept["gpu"], kept["fault"], kept["min_dice"]) == ("NVIDIA L4", "", 1)
    (kernels,) = (tmp_path / "cache/voxflow").glob("tensorrt_rtx-*.kernels")
    assert kernels.read_bytes() == b"kernel "
    again = open_engine(engine_file.parent)
    assert isinstance(again, TensorRtRtxEngine)
    again.run(windows)
    assert kernels.read_bytes() == b"kernel kernel "


def test_a_gpu_that_it_refuses_is_named_with_what_to_use_instead(
    engine_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    refusal = (bindings.EngineValidity.INVALID, int(bindings.EngineInvalidityDiagnostics.UNSUPPORTED_CC))
    monkeypatch.setattr(RtxRuntime, "answer", refusal)
    assert open_engine(engine_file.parent).name == "onnxruntime"
    assert "can't run it because of this GPU's compute capability; TensorRT itself serves it" in capsys.readouterr().err


def test_an_engine_of_another_version_is_passed_over(engine_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    description = engine_file.with_name("model.rtx.engine.json")
    description.write_text(description.read_text().replace(bindings.__version__, "1.2.3"))
    assert open_engine(engine_file.parent).name == "onnxruntime"
    assert "built for tensorrt_rtx 1.2.3, this machine has" in capsys.readouterr().err
    with pytest.raises(DataError, match=r"built for tensorrt_rtx 1\.2\.3"):
        open_engine(engine_file.parent, "tensorrt_rtx")


def test_an_engine_that_failed_its_comparison_is_passed_over(engine_file: Path) -> None:
    from voxflow.engines.tensorrt_rtx import _name_record, _read_place

    record = _name_record(engine_file)
    record.parent.mkdir(parents=True)
    fault = {"windows": 8, "fault": "a probability differs by 0.3, allowed 0.01"}
    record.write_text(json.dumps(_read_place() | fault))
    assert open_engine(engine_file.parent).name == "onnxruntime"
    engine_file.with_name("model.onnx").unlink()
    record.unlink()
    kind = get_engine_kind("tensorrt_rtx")
    assert explain_unusable(kind, engine_file) == "no ONNX file lies beside it to compare it with at its first use"


def test_a_damaged_engine_is_named(engine_file: Path) -> None:
    engine_file.write_bytes(b"damaged")
    with pytest.raises(DataError, match=r"model\.rtx\.engine: TensorRT can't read this engine"):
        open_engine(engine_file.parent, "tensorrt_rtx")
