"""An exported engine is the model that it came from, or it is not published."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.inference.models import UNET, build_seeded, radiograph_spec, save_densenet, save_unet, volume_spec
from voxflow.components import Component
from voxflow.engines import (
    get_engine_kind,
    open_engine,
    timing_cache_path,
    write_onnx,
    write_openvino,
    write_torchscript,
)
from voxflow.engines.tensorrt import _network_flags
from voxflow.errors import DataError, ParityError
from voxflow.export import ExportOptions, export_model
from voxflow.geometry import Geometry
from voxflow.inference import InferenceCase
from voxflow.volumes import Volume, write_radiograph, write_volume

if TYPE_CHECKING:
    from pathlib import Path

    from voxflow.engines import Precision

RNG = np.random.default_rng(0)


@pytest.fixture
def volume_case(tmp_path: Path) -> InferenceCase:
    path = tmp_path / "data" / "a.nii.gz"
    image = RNG.normal(size=(21, 18, 9)).astype(np.float32)
    write_volume(path, Volume(image, Geometry.from_parts(image.shape, (1, 1, 2))))
    return InferenceCase("a", (path,))


def test_every_engine_equals_torch(volume_case: InferenceCase, out: Path, tmp_path: Path) -> None:
    options = ExportOptions(engines=("torchscript", "onnx", "openvino"))
    report = export_model(save_unet(tmp_path / "model.pt"), out, options, [volume_case])
    report.require_published()
    assert sorted(path.name for path in out.iterdir()) == ["model.bin", "model.onnx", "model.ts", "model.xml"]
    assert [parity.engine for parity in report.measured] == ["torchscript", "onnxruntime", "openvino"]
    places = {name: report.metrics()[name]["compared_on"] for name in report.published_engines}
    assert list(places["onnxruntime"]) == ["device", "onnxruntime", "torch"]
    assert list(places["openvino"]) == ["device", "openvino", "torch"]
    assert all(all(place.values()) for place in places.values())
    assert max(parity.max_probability_difference for parity in report.measured) < 1e-5
    assert min(parity.min_dice for parity in report.measured) == 1
    assert report.metrics()["openvino"]["published"] == 1


def test_a_classifier_passes_the_same_gate(out: Path, tmp_path: Path) -> None:
    write_radiograph(tmp_path / "a.png", RNG.integers(0, 4000, (32, 32)).astype(np.uint16))
    options = ExportOptions(engines=("torchscript", "onnx", "openvino"))
    case = InferenceCase("a", (tmp_path / "a.png",))
    report = export_model(save_densenet(tmp_path / "model.pt"), out, options, [case])
    report.require_published()
    assert max(parity.max_probability_difference for parity in report.measured) < 1e-5


def test_a_damaged_engine_is_removed_and_named(
    volume_case: InferenceCase, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_damaged(_onnx_file: Path, *arguments: object, **named: object) -> None:
        """Write an OpenVINO model of a network with other weights."""
        import torch

        from tests.inference.models import UNET
        from voxflow.components import build_network

        torch.manual_seed(99)
        wrong_onnx = tmp_path / "other.onnx"
        write_onnx(build_network(UNET).eval(), volume_spec(), wrong_onnx, 18)
        write_openvino(wrong_onnx, *arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr("voxflow.engines.openvino.write_openvino", write_damaged)
    options = ExportOptions(engines=("onnx", "openvino"))
    report = export_model(save_unet(tmp_path / "model.pt"), out, options, [volume_case])
    assert sorted(path.name for path in out.iterdir()) == ["model.onnx"]
    assert report.metrics()["openvino"]["published"] == 0
    with pytest.raises(
        ParityError, match=r"not published: openvino: a probability differs by .* \(max_abs_difference\)"
    ):
        report.require_published()


def test_logits_that_are_not_numbers_never_pass(volume_case: InferenceCase) -> None:
    from tests.inference.models import ThresholdEngine
    from voxflow.export import Reference, measure_parity

    sick, sound = ThresholdEngine(threshold=np.nan), ThresholdEngine()
    parity = measure_parity(sick, Reference(sound, [np.ones((1, 16, 16, 8), np.float32)]))
    assert "a probability differs by inf" in parity.describe_faults(ExportOptions())


def test_tensorrt_is_left_out_with_a_line(
    volume_case: InferenceCase, out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if get_engine_kind("tensorrt").explain_unavailable() is None:
        pytest.skip("TensorRT can run here")
    options = ExportOptions(engines=("torchscript", "tensorrt"))
    report = export_model(save_unet(tmp_path / "model.pt"), out, options, [volume_case])
    report.require_published()
    assert "tensorrt" in report.left_out
    assert "TensorRT engine left out: " in capsys.readouterr().err
    assert sorted(path.name for path in out.iterdir()) == ["model.ts"]


def test_tensorrt_engine_equals_torch(volume_case: InferenceCase, out: Path, tmp_path: Path) -> None:
    reason = get_engine_kind("tensorrt").explain_unavailable()
    if reason is not None:
        pytest.skip(reason)
    options = ExportOptions(engines=("tensorrt",))
    report = export_model(save_unet(tmp_path / "model.pt"), out, options, [volume_case])
    report.require_published()
    assert open_engine(out).name == "tensorrt"


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_less_precision_is_published_where_its_masks_hold(
    precision: Precision, volume_case: InferenceCase, out: Path, tmp_path: Path
) -> None:
    if precision == "int8":
        pytest.importorskip("nncf")
    options = ExportOptions(engines=("openvino",), openvino_precision=precision, reduced_min_dice=0.9)
    report = export_model(save_unet(tmp_path / "model.pt"), out, options, [volume_case])
    report.require_published()
    assert report.published_engines == ["openvino", f"openvino-{precision}"]
    assert sorted(path.name for path in out.iterdir()) == ["model.bin", "model.xml"]
    text = (out / "model.xml").read_text()
    assert ('value="bf16"' in text) is (precision == "bf16")
    assert ('type="FakeQuantize"' in text) is (precision == "int8")
    assert open_engine(out).spec == volume_spec()


def test_less_precision_is_withheld_with_a_line_where_its_masks_do_not_hold(
    volume_case: InferenceCase,
    out: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def write_damaged(_kind: object, _source: object, target: Path, *_: object) -> None:
        component = Component(name="Unet", args={**UNET.args, "nf_enc": [6, 8]})
        write_onnx(build_seeded(component), volume_spec(), tmp_path / "other.onnx", 18)
        write_openvino(tmp_path / "other.onnx", volume_spec(), target, fp16_weights=False)

    monkeypatch.setattr("voxflow.engines.openvino.OpenVinoKind.write_reduced", write_damaged)
    options = ExportOptions(engines=("openvino",), openvino_precision="bf16")
    report = export_model(save_unet(tmp_path / "model.pt"), out, options, [volume_case])
    report.require_published()
    assert report.published_engines == ["openvino"]
    assert report.metrics()["openvino-bf16"]["published"] == 0
    line = capsys.readouterr().err
    assert "openvino-bf16 not published, float32 stays: masks agree to a Dice of" in line
    assert 'value="bf16"' not in (out / "model.xml").read_text()


def test_int8_without_nncf_is_left_out_with_a_line(
    volume_case: InferenceCase,
    out: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("voxflow.engines.openvino.find_spec", lambda name: None)
    options = ExportOptions(engines=("openvino",), openvino_precision="int8")
    report = export_model(save_unet(tmp_path / "model.pt"), out, options, [volume_case])
    report.require_published()
    assert report.left_out == {"openvino-int8": "nncf is not installed (pip install 'voxflow[int8]')"}
    assert "openvino-int8 left out, float32 stays: nncf is not installed" in capsys.readouterr().err


def test_int8_without_a_case_to_calibrate_on_is_left_out(
    out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("nncf")
    options = ExportOptions(engines=("openvino",), openvino_precision="int8")
    report = export_model(save_unet(tmp_path / "model.pt"), out, options, [], on_noise=True)
    assert report.published_engines == ["openvino"]
    assert "openvino-int8 left out, float32 stays: there is no case to calibrate it on" in capsys.readouterr().err


def test_no_case_to_compare_on_is_an_error(out: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no case to compare"):
        export_model(save_unet(tmp_path / "model.pt"), out, ExportOptions(), [])


def test_a_network_of_one_size_is_written_for_that_size(tmp_path: Path) -> None:
    import torch

    class Fixed(torch.nn.Module):
        """Its weights are as large as its input."""

        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(1, 1, 16, 16, 8))

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            if image.shape[2:] != self.weight.shape[2:]:
                return torch.cat([image, image], 1)
            return torch.cat([image * self.weight, image - self.weight], 1)

    assert not write_onnx(Fixed(), volume_spec(), tmp_path / "model.onnx", 18)
    engine = open_engine(tmp_path / "model.onnx")
    assert engine.smallest == engine.largest == (16, 16, 8)


@pytest.mark.parametrize(
    "component",
    [
        Component(name="SegResnet", args={"in_channels": 1, "num_classes": 2, "blocks_down": [1, 1], "blocks_up": [1]}),
        Component(name="Unet", args={"in_channels": 1, "num_classes": 2, "nf_enc": [4, 8, 8], "use_batch_norm": True}),
    ],
    ids=["SegResnet", "Unet with batch norm"],
)
def test_other_networks_export_with_open_axes(component: Component, tmp_path: Path) -> None:
    spec = volume_spec(divisor=4)
    module = build_seeded(component)
    assert write_onnx(module, spec, tmp_path / "model.onnx", 18)
    write_torchscript(module, spec, tmp_path / "model.ts")
    batch = RNG.normal(size=(1, 1, 24, 16, 12)).astype(np.float32)
    first, second = (open_engine(tmp_path / name).run(batch) for name in ("model.onnx", "model.ts"))
    assert np.abs(first - second).max() < 1e-3


def test_tensorrt_is_built_strongly_typed_by_the_names_of_each_version() -> None:
    from types import SimpleNamespace

    older = SimpleNamespace(__version__="10.13.3", NetworkDefinitionCreationFlag=SimpleNamespace(STRONGLY_TYPED=1))
    assert _network_flags(older) == 2
    assert _network_flags(SimpleNamespace(__version__="11.4.0.106")) == 0


def test_timings_are_kept_by_gpu_and_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    file = timing_cache_path({"tensorrt": "11.4.0.106", "gpu": "NVIDIA H100 80GB HBM3"})
    assert file == tmp_path / "voxflow" / "tensorrt-11.4.0.106-NVIDIA_H100_80GB_HBM3.timings"


def test_small_classes_and_undecided_findings_do_not_refuse_an_engine() -> None:
    from voxflow.export.parity import Agreement

    masks = Agreement(volume_spec())
    logits = np.zeros((2, 20, 20, 20), np.float32)
    logits[0] = 1
    speck = logits.copy()
    speck[1, 0, 0, 0] = 2
    masks.add(speck, logits)
    assert masks.least() > 0.999
    speck[1, :10] = 2
    masks.add(speck, logits)
    assert masks.least() == 0
    findings = Agreement(radiograph_spec())
    findings.add(np.array([0.001, 3], np.float32), np.array([-0.001, 3], np.float32))
    assert findings.least() == 1
    findings.add(np.array([1, 3], np.float32), np.array([-1, 3], np.float32))
    assert findings.least() == 0.5
