"""The way to a TensorRT engine and back, by the names of the real bindings; the kernels themselves need a GPU."""

from __future__ import annotations

import json
import shutil
import sys
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from tests.export import fake_tensorrt
from tests.inference.models import DENSENET, UNET, build_seeded, radiograph_spec, save_unet, volume_spec
from voxflow.components import Component
from voxflow.engines import TensorRtEngine, open_engine, read_platform, timing_cache_path, write_half, write_onnx
from voxflow.errors import DataError, InputError, VoxflowError
from voxflow.export import ExportOptions, export_model

if TYPE_CHECKING:
    from pathlib import Path

    from voxflow.inference import InferenceCase

FP32 = ExportOptions(engines=("onnx", "tensorrt"))
NORMS = {"use_groupnorm": True, "in_channels": 1, "num_classes": 2, "blocks_down": [1, 1], "blocks_up": [1]}


@pytest.fixture(autouse=True)
def _tensorrt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that seems to have TensorRT and a GPU."""
    monkeypatch.setitem(sys.modules, "tensorrt", fake_tensorrt)
    monkeypatch.setattr("voxflow.engines.tensorrt.TensorRtKind.explain_unavailable", lambda kind: None)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda _: "NVIDIA H100")
    monkeypatch.setattr("torch.cuda.current_stream", lambda: fake_tensorrt.STREAM)
    monkeypatch.setattr(TensorRtEngine, "device", "cpu")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_an_engine_is_built_compared_and_published(case: InferenceCase, out: Path, tmp_path: Path) -> None:
    report = export_model(save_unet(tmp_path / "model.pt"), out, FP32, [case])
    report.require_published()
    assert report.published_engines == ["onnxruntime", "tensorrt"]
    engine = open_engine(out)
    assert (engine.name, engine.spec, engine.is_local) == ("tensorrt", volume_spec(), False)
    assert (engine.smallest, engine.largest, engine.batch) == ((16, 16, 8), (32, 32, 16), 4)
    config = fake_tensorrt.built.config
    assert fake_tensorrt.BuilderFlag.TF32 in config._cleared
    assert config._pools == {fake_tensorrt.MemoryPoolType.WORKSPACE: 4096 << 20}
    assert config._profiles[0]._shapes["image"][2] == (4, 1, 32, 32, 16)
    with pytest.raises(VoxflowError, match=r"TensorRT refused: input of shape \(1, 1, 64, 16, 8\); sizes from"):
        engine.run(np.zeros((1, 1, 64, 16, 8), np.float32))


def test_half_precision_takes_the_place_of_single_where_its_masks_hold(
    case: InferenceCase, out: Path, tmp_path: Path
) -> None:
    options = ExportOptions(engines=("tensorrt",), tensorrt_precision="fp16")
    report = export_model(save_unet(tmp_path / "model.pt"), out, options, [case])
    report.require_published()
    assert report.published_engines == ["tensorrt", "tensorrt-fp16"]
    assert sorted(path.name for path in out.iterdir()) == ["model.engine", "model.engine.json"]
    half = next(parity for parity in report.measured if parity.engine == "tensorrt-fp16")
    assert 0 < half.max_probability_difference < 0.01
    assert onnx.TensorProto.FLOAT16 in weights_of(onnx.load_from_string(fake_tensorrt.built.onnx)).values()


def weights_of(model: onnx.ModelProto) -> dict[str, int]:
    return {weights.name: weights.data_type for weights in model.graph.initializer}


@pytest.mark.parametrize(
    ("component", "norm_type"),
    [(UNET, "InstanceNormalization"), (Component(name="SegResnet", args=NORMS), "InstanceNormalization"),
     (DENSENET, "BatchNormalization")],
    ids=["Unet", "SegResnet", "DenseNet"],
)  # fmt: skip
def test_norms_stay_in_single_precision_with_their_own_weights(
    component: Component, norm_type: str, tmp_path: Path
) -> None:
    spec = radiograph_spec() if component is DENSENET else volume_spec(divisor=4)
    write_onnx(build_seeded(component), spec, tmp_path / "single.onnx", 18)
    write_half(tmp_path / "single.onnx", tmp_path / "half.onnx")
    model = onnx.load(tmp_path / "half.onnx")
    types = weights_of(model)
    inputs = {node.op_type: node.input for node in model.graph.node}
    assert {types[name] for name in inputs["Conv"][1:] if name in types} == {onnx.TensorProto.FLOAT16}
    assert {types[name] for name in inputs[norm_type][1:]} == {onnx.TensorProto.FLOAT}
    single = onnx.load(tmp_path / "single.onnx").graph
    constants = [node.attribute[0].t for node in single.node if node.op_type == "Constant"]
    before = [numpy_helper.to_array(weights) for weights in (*single.initializer, *constants)]
    norms = [numpy_helper.to_array(weights) for weights in model.graph.initializer if weights.name in inputs[norm_type]]
    assert norms
    assert all(any(np.array_equal(norm, weights) for weights in before) for norm in norms)
    elements = {value.type.tensor_type.elem_type for value in (*model.graph.input, *model.graph.output)}
    assert elements == {onnx.TensorProto.FLOAT}
    batch = np.random.default_rng(0).normal(size=(1, 1, *(spec.size or (16, 16, 8)))).astype(np.float32)
    exact, rounded = (open_engine(tmp_path / name).run(batch) for name in ("single.onnx", "half.onnx"))
    assert 0 < np.abs(exact - rounded).max() < 0.01


def test_the_path_of_python_stays_as_it_was(tmp_path: Path) -> None:
    write_onnx(build_seeded(UNET), volume_spec(), tmp_path / "single.onnx", 18)
    before = list(sys.path)
    write_half(tmp_path / "single.onnx", tmp_path / "half.onnx")
    assert sys.path == before


def test_timings_are_kept_for_the_next_build_and_damaged_ones_replaced(
    case: InferenceCase, out: Path, tmp_path: Path
) -> None:
    model, timings = save_unet(tmp_path / "model.pt"), timing_cache_path(read_platform())
    for expected in (b"measured ", b"measured measured "):
        export_model(model, out, FP32, [case])
        assert timings.read_bytes() == expected
    timings.write_bytes(b"damaged")
    export_model(model, out, FP32, [case])
    assert timings.read_bytes() == b"measured "


def test_an_engine_of_another_machine_is_refused_by_name_and_passed_over_by_auto(
    case: InferenceCase, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    export_model(save_unet(tmp_path / "model.pt"), out, FP32, [case])
    monkeypatch.setattr("torch.cuda.get_device_name", lambda _: "NVIDIA L4")
    reason = "built for tensorrt 11.4.0.106 and gpu NVIDIA H100, this machine has tensorrt 11.4.0.106 and gpu NVIDIA L4"
    with pytest.raises(DataError, match=reason):
        open_engine(out, "tensorrt")
    with pytest.raises(InputError, match=f"no usable model; tensorrt: {reason}"):
        open_engine(out / "model.engine")
    capsys.readouterr()
    assert open_engine(out).name == "onnxruntime"
    assert f"model.engine: passed over: {reason}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "description is missing"), ("{", "no description of an engine"), ("{}", "no description of an engine")],
)
def test_an_engine_without_a_whole_description_is_named(
    content: str | None, message: str, case: InferenceCase, out: Path, tmp_path: Path
) -> None:
    export_model(save_unet(tmp_path / "model.pt"), out, FP32, [case])
    if content is None:
        (out / "model.engine.json").unlink()
    else:
        (out / "model.engine.json").write_text(content)
    with pytest.raises(DataError, match=message):
        open_engine(out, "tensorrt")


def test_a_damaged_engine_is_named(case: InferenceCase, out: Path, tmp_path: Path) -> None:
    export_model(save_unet(tmp_path / "model.pt"), out, FP32, [case])
    (out / "model.engine").write_bytes(b"damaged")
    with pytest.raises(DataError, match=r"model\.engine: TensorRT can't read this engine"):
        open_engine(out, "tensorrt")


def test_a_file_that_tensorrt_cannot_parse_is_told_with_its_reasons(tmp_path: Path) -> None:
    from voxflow.engines import write_tensorrt

    (tmp_path / "model.onnx").write_bytes(b"no")
    with pytest.raises(VoxflowError, match="TensorRT can't parse the ONNX file: no ONNX"):
        write_tensorrt(tmp_path / "model.onnx", volume_spec(), tmp_path / "model.engine", ExportOptions())


def test_the_description_alone_says_how_to_feed_the_engine(case: InferenceCase, out: Path, tmp_path: Path) -> None:
    export_model(save_unet(tmp_path / "model.pt"), out, FP32, [case])
    described = json.loads((out / "model.engine.json").read_text())
    assert described["spec"]["class_names"] == ["background", "organ"]
    shutil.copy(out / "model.engine", tmp_path / "spleen.engine")
    shutil.copy(out / "model.engine.json", tmp_path / "spleen.engine.json")
    assert open_engine(tmp_path / "spleen.engine").spec == volume_spec()
