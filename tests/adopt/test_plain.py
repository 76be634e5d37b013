"""Models that a specification describes: weights of a network, TorchScript and ONNX files."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import monai.networks.nets
import numpy as np
import onnx
import pytest
import torch
import yaml

from tests.adopt.folders import write_image
from voxflow.adopt import read_plain, write_adopted
from voxflow.cli.main import main
from voxflow.engines import TorchEngine, open_engine
from voxflow.errors import ConfigError, DataError
from voxflow.export import ExportOptions, export_model
from voxflow.inference import InferenceCase
from voxflow.prediction import predict_volume
from voxflow.training import load_model, read_weights
from voxflow.volumes import read_volume

ARGUMENTS = {"spatial_dims": 3, "channels": [4, 8], "strides": [2], "norm": "batch"}
WINDOW = (16, 16, 8)
SPEC: dict[str, Any] = {
    "spacing_mm": [1.0, 1.0, 2.0],
    "orientation": "RAS",
    "intensities": [
        {"name": "ScaleIntensityRange", "args": {"a_min": -400, "a_max": 500, "b_min": 0, "b_max": 1, "clip": True}}
    ],
    "window": list(WINDOW),
    "labels": ["background", "liver"],
    "activation": "softmax",
    "modality": "CT",
}
NETWORK = {"name": "UNet", "args": ARGUMENTS}


def make_network(classes: int = 2) -> torch.nn.Module:
    torch.manual_seed(0)
    network: torch.nn.Module = monai.networks.nets.UNet(in_channels=1, out_channels=classes, **ARGUMENTS)
    return network.eval()


def write_torchscript(path: Path, network: torch.nn.Module) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced: Any = torch.jit.trace(network, torch.zeros(1, 1, *WINDOW))  # type: ignore[no-untyped-call]
        torch.jit.save(traced, path)
    return path


def write_onnx(path: Path, network: torch.nn.Module, size: tuple[int, ...] = WINDOW, **options: Any) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (torch.zeros(1, 1, *size),),
            str(path),
            **({"input_names": ["scan"], "output_names": ["answer"]} | options),
            dynamo=False,
        )
    return path


def write_spec(folder: Path, file: str, **changes: Any) -> Path:
    content = {key: value for key, value in (SPEC | {"file": file} | changes).items() if value is not None}
    path = folder / "spec.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


@pytest.fixture(params=["state_dict", "torchscript", "onnx"])
def spec_file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    network = make_network()
    if request.param == "state_dict":
        torch.save({"state_dict": network.state_dict(), "epoch": 3}, tmp_path / "model.pth")
        return write_spec(tmp_path, "model.pth", network=NETWORK)
    if request.param == "torchscript":
        return write_spec(tmp_path, write_torchscript(tmp_path / "model.ts", network).name)
    return write_spec(tmp_path, write_onnx(tmp_path / "model.onnx", network).name)


def test_the_logits_are_those_of_the_original(spec_file: Path) -> None:
    model = read_plain(spec_file)
    write_adopted(model, spec_file.with_name("adopted.pt"))
    network, spec = load_model(spec_file.with_name("adopted.pt"))
    assert (spec.class_names, spec.window, spec.orientation) == (("background", "liver"), WINDOW, "RAS")
    image = torch.randn((2, 1, *WINDOW), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = make_network()(image)
        received = network(image)
    torch.testing.assert_close(received, expected, atol=1e-5, rtol=1e-4)


def test_a_case_has_the_mask_of_the_original(spec_file: Path) -> None:
    spec = yaml.safe_load(spec_file.read_text()) | {"spacing_mm": None, "orientation": None}
    spec_file.write_text(yaml.safe_dump(spec))
    model = read_plain(spec_file)
    volume = read_volume(write_image(spec_file.with_name("case.nii.gz"), size=WINDOW))
    mask = predict_volume(TorchEngine.wrap(model.network, model.spec), volume).mask
    values = np.clip((volume.array.astype(np.float32) + 400) / 900, 0, 1)
    with torch.inference_mode():
        expected = make_network()(torch.from_numpy(values)[None, None]).argmax(dim=1)[0].numpy()
    assert set(np.unique(expected)) == {0, 1}, "else the comparison says nothing"
    assert (mask.array == expected).mean() >= 0.9995


def test_exported_engines_give_the_same_masks(spec_file: Path) -> None:
    folder = spec_file.parent
    model = read_plain(spec_file)
    write_adopted(model, folder / "adopted.pt")
    image = write_image(folder / "case.nii.gz", size=(30, 28, 12))
    case = InferenceCase("case", (image,))
    (folder / "exported").mkdir()
    options = ExportOptions(engines=("onnx", "openvino"))
    export_model(folder / "adopted.pt", folder / "exported", options, [case]).require_published()
    expected = predict_volume(open_engine(folder / "adopted.pt", "torch"), read_volume(image)).mask.array
    for name in ("onnxruntime", "openvino"):
        mask = predict_volume(open_engine(folder / "exported", name), read_volume(image)).mask
        assert (mask.array == expected).mean() >= 0.999, name


def test_a_torchscript_file_is_exported_as_torchscript_and_an_onnx_file_says_that_it_is_not(tmp_path: Path) -> None:
    image = write_image(tmp_path / "case.nii.gz", size=(30, 28, 12))
    options = ExportOptions(engines=("torchscript",))
    for file in (write_torchscript(tmp_path / "m.ts", make_network()), write_onnx(tmp_path / "m.onnx", make_network())):
        write_adopted(read_plain(write_spec(tmp_path, file.name)), tmp_path / "adopted.pt")
        out = tmp_path / file.suffix[1:]
        out.mkdir()
        if file.suffix == ".onnx":
            with pytest.raises(Exception, match=r"ONNX file.*no TorchScript"):
                export_model(tmp_path / "adopted.pt", out, options, [InferenceCase("case", (image,))])
            continue
        export_model(tmp_path / "adopted.pt", out, options, [InferenceCase("case", (image,))]).require_published()
        spec = open_engine(out, "torchscript").spec
        assert spec.keeps_window


def test_the_command_makes_a_workspace(
    spec_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(spec_file.parent)
    Path("params.yaml").write_text("workspaces: {}\n")
    assert main(["adopt", "spec.yaml", "--name", "liver"]) == 0
    assert main(["check", "liver"]) == 0
    assert main(["adopt", "spec.yaml", "--name", "other", "--folds", "0"]) == 2
    (model,) = (path for path in Path().iterdir() if path.stem == "model")
    capsys.readouterr()
    assert main(["adopt", str(model), "--name", "other"]) == 2
    assert "YAML file that names it" in capsys.readouterr().err


def test_a_program_is_no_start_of_a_training(tmp_path: Path) -> None:
    write_onnx(tmp_path / "m.onnx", make_network())
    write_adopted(read_plain(write_spec(tmp_path, "m.onnx")), tmp_path / "adopted.pt")
    with pytest.raises(DataError, match="can't be trained further"):
        read_weights(tmp_path / "adopted.pt")


class Answering(torch.nn.Module):
    """A network whose answer a test chooses."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.network = make_network(3 if kind == "classes" else 2)

    def forward(self, image: torch.Tensor) -> Any:
        logits = self.network(image)
        if self.kind == "softmax":
            return logits.softmax(dim=1)
        if self.kind == "several":
            return logits, logits[..., ::2]
        if self.kind == "infinite":
            return logits * torch.inf
        return logits[..., ::2] if self.kind == "coarse" else logits


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("softmax", "answers with probabilities; export it without its last softmax"),
        ("several", "one tensor; export it without deep supervision"),
        ("infinite", "values that are no numbers"),
        ("coarse", "2 labels on its grid are"),
        ("classes", r"\[1, 3, 16, 16, 8\]; 2 labels"),
    ],
)
def test_answers_that_are_no_logits_of_the_window_are_refused(tmp_path: Path, kind: str, message: str) -> None:
    write_torchscript(tmp_path / "m.ts", Answering(kind))
    with pytest.raises(DataError, match=message):
        read_plain(write_spec(tmp_path, "m.ts"))


def test_weights_must_all_be_those_of_the_network(tmp_path: Path) -> None:
    weights = dict(make_network().state_dict())
    first = next(iter(weights))
    cases: list[tuple[dict[str, torch.Tensor], str]] = [
        ({name: value for name, value in weights.items() if name != first}, f"not in the file, so fresh: {first}"),
        (weights | {"extra.weight": torch.zeros(3)}, "not in the network, so unused: extra.weight"),
        (weights | {first: torch.zeros(2, 2)}, f"of another shape, so fresh: {first}"),
        (weights | {first: torch.full_like(weights[first], torch.nan)}, "no numbers"),
    ]
    for changed, message in cases:
        torch.save(changed, tmp_path / "model.pth")
        with pytest.raises(DataError, match=message):
            read_plain(write_spec(tmp_path, "model.pth", network=NETWORK))


def test_a_file_with_code_is_not_run(tmp_path: Path) -> None:
    class Writes:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "was_run",)

    torch.save({"state_dict": make_network().state_dict(), "x": Writes()}, tmp_path / "model.pth")
    with pytest.raises(DataError, match="runs no code"):
        read_plain(write_spec(tmp_path, "model.pth", network=NETWORK))
    assert not (tmp_path / "was_run").exists()


class OpensFiles(torch.nn.Module):
    """Reads a file of the machine."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image + torch.from_file("voxflow_test_from_file", False, 1)


def test_a_program_that_opens_files_is_not_run(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(OpensFiles()), tmp_path / "m.ts")
    with pytest.raises(DataError, match="opens files itself"):
        read_plain(write_spec(tmp_path, "m.ts"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"window": None}, "window: Field required"),
        ({"windw": [1, 2, 3]}, "windw.*'window'"),
        ({"window": [16, 16]}, "window"),
        ({"window": [16, 16, 0]}, "window"),
        ({"window": [100000, 16, 8]}, "window.0"),
        ({"intensities": [{"name": "Lambda", "args": {"func": "os.system"}}]}, "Lambda can't be run"),
        ({"orientation": "RAZ"}, "three letters"),
        ({"orientation": "RLS"}, "three letters"),
        ({"spacing_mm": [1, 1, -2]}, "spacing_mm"),
        ({"spacing_mm": [1, 1, float("nan")]}, "spacing_mm"),
        ({"activation": "none"}, "activation"),
        ({"labels": ["a", "a"]}, "name of its own"),
        ({"labels": []}, "labels"),
        ({"labels": ["background", "liver", "tumour"]}, "3 labels"),
        ({"overlap": 1.0}, "overlap"),
        ({"intensities": [{"name": "ScaleIntensityRnge"}]}, r"intensities\[0\].name: no transform"),
        ({"intensities": [{"name": "ScaleIntensityRange", "args": {"a_min": 0}}]}, r"intensities\[0\]"),
        ({"intensities": [{"name": "AddGaussianNoise"}]}, r"intensities\[0\]"),
        ({"intensities": [{"name": "RandFlip"}]}, r"intensities\[0\]"),
        ({"intensities": [{"name": "SpatialPad", "args": {"spatial_size": [32, 32, 32]}}]}, r"intensities\[0\]"),
        ({"intensities": [{"name": "Spacing", "args": {"pixdim": [1, 1, 1]}}]}, r"intensities\[0\]"),
        ({"network": {"name": "UNett"}}, "network.name: no network"),
        ({"network": NETWORK}, "leave the key network out"),
        ({"channels": ["T1", "T2"]}, "can't be run on a window of 2 × 16 × 16 × 8"),
        ({"file": "absent.ts"}, "file not found"),
        ({"file": "spec.yaml"}, "neither an ONNX file nor TorchScript"),
    ],
)
def test_a_wrong_specification_is_one_clear_line(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    write_torchscript(tmp_path / "m.ts", make_network())
    with pytest.raises((ConfigError, DataError), match=message):
        read_plain(write_spec(tmp_path, **({"file": "m.ts"} | changes)))


def test_shapes_and_names_of_an_onnx_file_are_checked(tmp_path: Path) -> None:
    file = write_onnx(tmp_path / "m.onnx", make_network(), (16, 16, 16))
    with pytest.raises(DataError, match=r"input scan: has the shape 1 × 1 × 16 × 16 × 16; .* batch × 1 × 16 × 16 × 8"):
        read_plain(write_spec(tmp_path, file.name))
    write_onnx(file, Answering("several"), input_names=["logits"], output_names=["image", "coarse"])
    with pytest.raises(DataError, match=r"several outputs.* image, coarse"):
        read_plain(write_spec(tmp_path, file.name))
    with pytest.raises(DataError, match="no output 'logits'"):
        read_plain(write_spec(tmp_path, file.name, output="logits"))
    model = read_plain(write_spec(tmp_path, file.name, output="image"))
    image = torch.randn(1, 1, *WINDOW)
    with torch.inference_mode():
        torch.testing.assert_close(model.network(image), make_network()(image), atol=1e-5, rtol=1e-4)
    content = onnx.load(str(file))
    content.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    onnx.save(content, str(file))
    with pytest.raises(DataError, match="float32"):
        read_plain(write_spec(tmp_path, file.name, output="image"))


def test_the_specifications_of_the_documentation_are_right(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs/adopt.md").read_text()
    blocks = [block for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL) if block.startswith("file:")]
    assert len(blocks) == 3
    for block in blocks:
        path = tmp_path / "spec.yaml"
        path.write_text(block)
        with pytest.raises(DataError, match="file not found"):
            read_plain(path)
        content = yaml.safe_load(block)
        content["window"] = [16, 16, 16]
        classes, channels = len(content["labels"]), len(content.get("channels", "1"))
        if "network" in content:
            network = monai.networks.nets.UNet(in_channels=1, out_channels=classes, **content["network"]["args"])
            torch.save(network.state_dict(), tmp_path / content["file"])
        else:
            network = torch.nn.Conv3d(channels, classes, 1)
            image = torch.zeros(1, channels, 16, 16, 16)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                if content["file"].endswith(".ts"):
                    traced: Any = torch.jit.trace(network, image)  # type: ignore[no-untyped-call]
                    torch.jit.save(traced, tmp_path / content["file"])
                else:
                    file = str(tmp_path / content["file"])
                    torch.onnx.export(network, (image,), file, output_names=["logits"], dynamo=False)
        path.write_text(yaml.safe_dump(content))
        assert len(read_plain(path).spec.preprocess) == 1
