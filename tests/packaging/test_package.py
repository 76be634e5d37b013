"""A package runs from its own folder, equals what was exported, and holds no model that nothing vouches for."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import httpx
import numpy as np
import onnx
import pytest

from tests.inference.models import save_densenet, save_unet
from tests.serving.servers import ServiceProcess
from voxflow.cli.main import main, make_parser
from voxflow.engines import open_engine
from voxflow.errors import DataError
from voxflow.export import ExportOptions, check_triton_config, export_model
from voxflow.files import write_json
from voxflow.geometry import Geometry
from voxflow.inference import InferOptions, digest_exported_models, open_reviewer
from voxflow.trust import Observation, build_calibration
from voxflow.volumes import Volume, read_volume, write_volume

# Only what requirements.txt pins can be imported, as in the container.
LEASH = """
import importlib.abc, runpy, sys
BARRED = set({barred!r})
class Barrier(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BARRED:
            raise ModuleNotFoundError(f"{{name}} is in no requirement", name=name)
sys.meta_path.insert(0, Barrier())
sys.path[:] = [path for path in sys.path if path and not path.endswith("src")]
sys.argv = {argv!r}
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def export_workspace(root: Path, *, engines: tuple[str, ...] = ("torchscript", "onnx"), is_volume: bool = True) -> Path:
    """An MMAR with an exported model, as the stage export leaves it."""
    models = root / "models"
    (models / "train").mkdir(parents=True)
    (models / "export").mkdir()
    checkpoint = models / "train" / "model.pt"
    (save_unet if is_volume else save_densenet)(checkpoint)
    report = export_model(checkpoint, models / "export", ExportOptions(engines=engines), [], on_noise=True)
    write_json(models / "parity.json", {"cases": 0} | {p.engine: {"published": 1} for p in report.measured})
    (root / "docs").mkdir()
    (root / "docs" / "license.txt").write_text("As you like.\n")
    return root


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_workspace(tmp_path_factory.mktemp("mmars") / "organ")


@pytest.fixture(scope="module")
def package(workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("packages") / "organ"
    assert main(["package", str(workspace), "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def repository(workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model repository of Triton."""
    out = tmp_path_factory.mktemp("triton") / "out"
    assert main(["package", str(workspace), "--format", "triton", "--out", str(out)]) == 0
    return out / "models"


def digest_files(folder: Path) -> dict[str, str]:
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def test_the_service_runs_from_the_folder_with_the_pinned_packages_alone(package: Path, tmp_path: Path) -> None:
    before = digest_files(package)
    image = np.random.default_rng(0).normal(size=(20, 18, 10)).astype(np.float32)
    write_volume(tmp_path / "image.nii.gz", Volume(image, Geometry.from_parts(image.shape, (1, 1, 2))))
    pinned = {line.partition("==")[0] for line in (package / "requirements.txt").read_text().splitlines()}
    names = {top: {n.lower().replace("_", "-") for n in dists} for top, dists in packages_distributions().items()}
    barred = sorted(top for top, dists in names.items() if not dists & pinned and top not in ("voxflow", "_virtualenv"))
    assert {"mlflow", "dvc", "prefect"} <= set(barred)
    argv = [str(package / "run.py"), "serve", "--port", "0", "--device", "cpu"]
    service = ServiceProcess(["-c", LEASH.format(barred=barred, argv=argv)], tmp_path, PYTHONPATH="")
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{service.port}", timeout=60, trust_env=False) as client:
            assert client.get("/health").json()["classes"] == ["background", "organ"]
            answer = client.post("/predict", content=(tmp_path / "image.nii.gz").read_bytes())
    finally:
        service.end()
    assert answer.status_code == 200, answer.text
    (tmp_path / "mask.nii.gz").write_bytes(answer.content)
    expected = tmp_path / "expected"
    export = package / "models" / "organ"
    assert main(["infer", str(export), "--images", str(tmp_path / "image.nii.gz"), "--out", str(expected)]) == 0
    mask = read_volume(next(expected.rglob("*.nii.gz"))).array
    assert np.array_equal(read_volume(tmp_path / "mask.nii.gz").array, mask)
    assert digest_files(package) == before


def test_the_folder_is_complete_and_its_checksums_hold(package: Path) -> None:
    lines = [line.partition("  ") for line in (package / "SHA256SUMS").read_text().splitlines()]
    sums = {name: digest for digest, _, name in lines}
    digests = digest_files(package)
    del digests["SHA256SUMS"]
    assert sums == digests
    assert {"Dockerfile", "app.json", "pkg.json", "README.md", "MODEL_CARD.md", "LICENCES.txt"} <= set(sums)
    assert {"models/organ/model.onnx", "models/organ/model.ts", "models/organ/parity.json"} <= set(sums)
    assert "As you like." in (package / "LICENCES.txt").read_text()
    assert not [name for name in sums if "__pycache__" in name]
    assert "@" not in (package / "Dockerfile").read_text()
    assert all("==" in line and "+" not in line for line in (package / "requirements.txt").read_text().splitlines())


def test_the_dockerfile_has_a_user_a_health_check_and_both_variants(package: Path) -> None:
    lines = (package / "Dockerfile").read_text().splitlines()
    steps = [line.split()[0] for line in lines if line and line[0].isupper()]
    assert steps.index("USER") < steps.index("CMD")
    assert "HEALTHCHECK" in steps
    assert {"FROM base AS torch-cpu", "FROM base AS torch-gpu", "FROM torch-${VARIANT}", "EXPOSE 8080"} <= set(lines)


def test_the_manifests_name_what_is_there(package: Path) -> None:
    application, manifest = (json.loads((package / name).read_text()) for name in ("app.json", "pkg.json"))
    assert application["type"] == "application"
    program, script, command, *flags = application["command"].split()
    assert (program, script) == ("python", f"{manifest['applicationRoot']}/run.py")
    make_parser().parse_args([command, "models/organ", *flags])
    models = package / Path(manifest["modelRoot"]).relative_to(manifest["applicationRoot"])
    assert all((models / model["path"] / "model.onnx").is_file() for model in manifest["models"])


def test_two_packages_of_one_model_are_equal(workspace: Path, package: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert main(["package", str(workspace), "--out", str(tmp_path / "empty")]) == 0
    assert digest_files(tmp_path / "empty") == digest_files(package)


def calibrate(root: Path) -> Path:
    """Calibrate an exported workspace, as its stage evaluate does."""
    settings = {"plan": "auto", "blend": "gaussian", "skip_empty": False, "back": "probabilities", "flips": []}
    settings["clean"] = InferOptions().clean.model_dump(mode="json")
    observations = [Observation(f"p{n}", 0.7, 0.9, False) for n in range(20)]
    models = digest_exported_models([root / "models" / "export"])
    calibration = build_calibration(
        observations, signal="probabilities", models=models, settings=settings, part="testing"
    )
    path = root / "eval" / "test" / "trust.json"
    calibration.write(path)
    return path


@pytest.mark.parametrize("engine", ["onnxruntime", "torchscript"])
def test_a_packaged_model_sorts_cases_by_its_calibration(workspace: Path, tmp_path: Path, engine: str) -> None:
    root = shutil.copytree(workspace, tmp_path / "organ")
    path = calibrate(root)
    assert main(["package", str(root), "--out", str(tmp_path / "out")]) == 0
    model = tmp_path / "out" / "models" / "organ"
    assert (model / "trust.json").read_bytes() == path.read_bytes()
    assert "models/organ/trust.json" in (tmp_path / "out" / "SHA256SUMS").read_text()
    opened = open_engine(model, engine)
    reviewer = open_reviewer(opened, [model], InferOptions(review_below=0.8))
    assert reviewer is not None
    assert (reviewer.absence, reviewer.calibration is not None) == ("", True)
    # A package of the packaged model has it, too: it lies beside the files there.
    assert main(["package", str(model), "--out", str(tmp_path / "again"), "--model_name", "organ"]) == 0
    assert (tmp_path / "again" / "models" / "organ" / "trust.json").read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    ("change", "reason"),
    [("of another model", "the calibration is of another model"), ("damaged", "it can't be used")],
)
def test_a_calibration_of_other_files_stays_behind_with_a_warning(
    workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: str, reason: str
) -> None:
    root = shutil.copytree(workspace, tmp_path / "organ")
    path = calibrate(root)
    if change == "damaged":
        path.write_text('{"format": 1}')
    else:
        content = json.loads(path.read_text())
        content["models"][0]["model.onnx"] = "0" * 64
        path.write_text(json.dumps(content))
    assert main(["package", str(root), "--out", str(tmp_path / "out")]) == 0
    assert f"trust.json is left out: {reason}" in capsys.readouterr().err
    assert not list((tmp_path / "out").rglob("trust.json"))


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_is_there_is_not_overwritten(
    workspace: Path, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    (out if kind == "file" else (out.mkdir(), out / "mine")[1]).write_text("mine")  # type: ignore[func-returns-value]
    assert main(["package", str(workspace), "--out", str(out)]) == 2
    assert "is there already" in capsys.readouterr().err
    assert (out if kind == "file" else out / "mine").read_text() == "mine"


def test_a_folder_that_torch_would_import_is_not_made(
    workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "triton"
    assert main(["package", str(workspace), "--format", "triton", "--out", str(out)]) == 2
    assert "choose another one, such as model_repository" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"cases": 1, "onnxruntime": {"published": 0}, "torchscript": {"published": 1}}, "onnxruntime differed"),
        ({"cases": 1, "torchscript": {"published": 1}}, "does not name onnxruntime"),
        (None, "no parity.json"),
    ],
)
def test_a_model_that_nothing_vouches_for_is_refused(
    workspace: Path,
    tmp_path: Path,
    record: dict[str, object] | None,
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = shutil.copytree(workspace, tmp_path / "organ")
    (root / "models" / "parity.json").unlink()
    if record is not None:
        write_json(root / "models" / "parity.json", record)
    assert main(["package", str(root), "--out", str(tmp_path / "out")]) in (1, 2)
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_model_without_exports_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "organ" / "models").mkdir(parents=True)
    save_unet(tmp_path / "organ" / "models" / "model.pt")
    assert main(["package", str(tmp_path / "organ"), "--out", str(tmp_path / "out")]) == 2
    assert "export first" in capsys.readouterr().err


def test_without_docker_a_line_says_how_to_build(
    workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["package", str(workspace), "--out", str(tmp_path / "out"), "--build", "gpu"]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "docker is not installed here" in line
    assert "docker build --build-arg VARIANT=gpu --tag organ:1-gpu" in line
    assert (tmp_path / "out" / "Dockerfile").is_file()


@pytest.mark.parametrize("is_volume", [True, False])
def test_tritons_configuration_fits_the_onnx_file(tmp_path: Path, is_volume: bool) -> None:
    root = export_workspace(tmp_path / "net", engines=("onnx",), is_volume=is_volume)
    assert main(["package", str(root), "--format", "triton", "--out", str(tmp_path / "out")]) == 0
    place = tmp_path / "out" / "models" / "net"
    text = (place / "config.pbtxt").read_text()
    for part in ('backend: "onnxruntime"', "max_batch_size: 4", 'name: "image"', 'name: "logits"', "zero_data: true"):
        assert part in text
    assert text.count("dims: -1") == (6 if is_volume else 2)
    check_triton_config(place / "config.pbtxt", place / "1" / "model.onnx")
    assert (place / "1" / "model.onnx").read_bytes() == (root / "models" / "export" / "model.onnx").read_bytes()
    compile((tmp_path / "out" / "client.py").read_text(), "client.py", "exec")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('name: "image"', 'name: "picture"'),
        ('name: "logits"', 'name: "answer"'),
        ("data_type: TYPE_FP32", "data_type: TYPE_FP16"),
        ("  dims: -1\n", ""),
        ("max_batch_size: 4", "max_batch_size: 0"),
        ('name: "organ"', 'name: "other"'),
        ("backend:", "back_end:"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(repository: Path, tmp_path: Path, old: str, new: str) -> None:
    place = shutil.copytree(repository / "organ", tmp_path / "organ")
    config = place / "config.pbtxt"
    assert old in config.read_text()
    config.write_text(config.read_text().replace(old, new, 1))
    with pytest.raises(DataError):
        check_triton_config(config, place / "1" / "model.onnx")


def test_tritons_warmup_is_an_input_that_the_model_takes(repository: Path) -> None:
    import onnxruntime

    place = repository / "organ"
    warmup = (place / "config.pbtxt").read_text().partition("model_warmup")[2]
    sizes = [int(line.split()[1]) for line in warmup.splitlines() if "dims:" in line]
    session = onnxruntime.InferenceSession(place / "1" / "model.onnx", providers=["CPUExecutionProvider"])
    assert session.run(None, {"image": np.zeros((1, *sizes), np.float32)})[0].shape[2:] == tuple(sizes[1:])
    assert onnx.load(place / "1" / "model.onnx").graph.input[0].name == "image"


def test_a_name_with_blanks_and_umlauts_becomes_one_that_all_tools_take(workspace: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main(["package", str(workspace), "--format", "triton", "--out", str(out), "--model_name", "Größe 1/x"]) == 0
    assert [path.name for path in (out / "models").iterdir()] == ["Groe-1-x"]


def test_the_start_program_needs_no_installed_voxflow(package: Path) -> None:
    code = f"import sys; sys.path.insert(0, {str(package / 'app')!r}); import voxflow; print(voxflow.__file__)"
    shown = subprocess.run([sys.executable, "-c", code], env={"PATH": ""}, capture_output=True, text=True, check=True)
    assert Path(shown.stdout.strip()).is_relative_to(package)


TRITON_STAND_IN = """
import numpy, onnxruntime, sys
class InferInput:
    def __init__(self, name, shape, kind):
        assert (name, kind) == ("image", "FP32")
    def set_data_from_numpy(self, array):
        self.array = array
class Result:
    def __init__(self, array):
        self.array = array
    def as_numpy(self, name):
        assert name == "logits"
        return self.array
class InferenceServerClient:
    def __init__(self, address, **_):
        self.session = onnxruntime.InferenceSession(address, providers=["CPUExecutionProvider"])
    def infer(self, model, inputs):
        return Result(self.session.run(None, {"image": inputs[0].array})[0])
"""


def test_tritons_client_gives_the_masks_of_voxflow_infer(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "tritonclient").mkdir()
    (tmp_path / "tritonclient" / "__init__.py").write_text("")
    (tmp_path / "tritonclient" / "http.py").write_text(TRITON_STAND_IN)
    image = np.random.default_rng(1).normal(size=(20, 18, 10)).astype(np.float32)
    write_volume(tmp_path / "image.nii.gz", Volume(image, Geometry.from_parts(image.shape, (1, 1, 2))))
    file = repository / "organ" / "1" / "model.onnx"
    command = [
        sys.executable,
        str(repository.parent / "client.py"),
        *map(str, (tmp_path / "image.nii.gz", tmp_path / "masks", file)),
    ]
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    shown = subprocess.run(command, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, check=False)
    assert shown.returncode == 0, shown.stderr
    assert main(["infer", str(file), "--images", str(tmp_path / "image.nii.gz"), "--out", str(tmp_path / "own")]) == 0
    received, expected = (read_volume(next((tmp_path / name).rglob("*.nii.gz"))).array for name in ("masks", "own"))
    assert np.array_equal(received, expected)
