"""An engine that Voxflow does not have takes one module and one entry of the catalogue, and then works everywhere."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import numpy as np
import pytest
import uvicorn
from pydantic import ValidationError

from tests.engines.reference_engine import ReferenceEngine, ReferenceKind
from tests.inference.models import save_unet, volume_spec
from tests.mmar.workspaces import segmentation_mmar
from voxflow.cli.main import main
from voxflow.engines import catalogue, is_machine_bound, open_engine, rank_kinds
from voxflow.executor import Threads
from voxflow.export import ExportOptions, export_model
from voxflow.geometry import Geometry
from voxflow.inference import InferenceCase, InferOptions, ModelFolders, infer_cases, infer_on_executor
from voxflow.serving.app import make_app
from voxflow.volumes import Volume, read_volume, write_volume

if TYPE_CHECKING:
    from voxflow.engines import EngineKind, ExportSource

ROOT = Path(__file__).resolve().parents[2]
GRID = Geometry.from_parts((20, 18, 10), (1, 1, 2))


@pytest.fixture(autouse=True)
def _catalogue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "CATALOGUE", [*catalogue.CATALOGUE, ReferenceKind()])


@pytest.fixture
def case(tmp_path: Path) -> InferenceCase:
    path = tmp_path / "images" / "a.nii.gz"
    write_volume(path, Volume(np.random.default_rng(0).normal(size=GRID.size).astype(np.float32), GRID))
    return InferenceCase("a", (path,))


@pytest.fixture
def exported(case: InferenceCase, tmp_path: Path) -> Path:
    """A folder with the models of the own engine and of OpenVINO."""
    folder = tmp_path / "export"
    folder.mkdir()
    options = ExportOptions(engines=("openvino", "reference"))
    export_model(save_unet(tmp_path / "model.pt"), folder, options, [case]).require_published()
    return folder


def folder(path: Path) -> Path:
    path.mkdir()
    return path


def test_it_is_exported_and_passes_the_gate(case: InferenceCase, tmp_path: Path) -> None:
    out = folder(tmp_path / "out")
    report = export_model(save_unet(tmp_path / "model.pt"), out, ExportOptions(engines=("reference",)), [case])
    report.require_published()
    assert report.published_engines == ["reference"]
    assert report.metrics()["reference"]["max_probability_difference"] < 1e-5
    assert [path.name for path in out.iterdir()] == ["model.reference"]


def test_the_gate_refuses_it_where_it_answers_otherwise(
    case: InferenceCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = ReferenceEngine.run
    monkeypatch.setattr(ReferenceEngine, "run", lambda engine, batch: run(engine, batch)[:, ::-1])
    out = folder(tmp_path / "out")
    report = export_model(save_unet(tmp_path / "model.pt"), out, ExportOptions(engines=("reference",)), [case])
    assert list(report.refused) == ["reference"]
    assert list(out.iterdir()) == []


def test_it_is_left_out_where_it_cannot_run(
    case: InferenceCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ReferenceKind, "package", "not_there")
    options = ExportOptions(engines=("onnx", "reference"))
    report = export_model(save_unet(tmp_path / "model.pt"), folder(tmp_path / "out"), options, [case])
    assert report.left_out == {"reference": "not_there is not installed (pip install not_there)"}
    assert "ONNX's reference evaluator engine left out: not_there is not" in capsys.readouterr().err


def test_a_precision_of_its_own_goes_the_way_of_every_other(
    case: InferenceCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples: list[tuple[int, ...]] = []

    def write(_kind: EngineKind, source: ExportSource, file: Path, precision: str, inputs: list[np.ndarray]) -> None:
        samples.extend(sample.shape for sample in inputs)
        shutil.copyfile(source.onnx_file, file)

    monkeypatch.setattr(ReferenceKind, "read_precision", lambda kind, options: "int4")
    monkeypatch.setattr(ReferenceKind, "is_calibrated", lambda kind, precision: True)
    monkeypatch.setattr(ReferenceKind, "write_reduced", write)
    options = ExportOptions(engines=("reference",))
    report = export_model(save_unet(tmp_path / "model.pt"), folder(tmp_path / "out"), options, [case])
    assert report.published_engines == ["reference", "reference-int4"]
    assert samples == [(1, 1, 16, 16, 8)]


def test_auto_takes_it_by_its_place_in_the_catalogue(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert open_engine(exported).name == "reference"
    monkeypatch.setattr(catalogue, "CATALOGUE", [ReferenceKind(), *catalogue.CATALOGUE[:-1]])
    assert open_engine(exported).name == "openvino"
    monkeypatch.setattr(ReferenceKind, "uses_gpu", lambda kind: True)
    assert open_engine(exported).name == "reference"


def test_a_file_that_does_not_fit_the_machine_is_passed_over(
    exported: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ReferenceKind, "explain_unfit", lambda kind, file: "made for another machine")
    assert open_engine(exported).name == "openvino"
    assert "model.reference: passed over: made for another machine" in capsys.readouterr().err


def test_configurations_may_name_it_and_are_refused_as_before() -> None:
    assert InferOptions.model_validate({"engine": "reference"}).engine == "reference"
    assert "reference" in ExportOptions().engines
    with pytest.raises(ValidationError, match=r"'auto', 'torch', .* 'tensorrt' or 'reference'"):
        InferOptions.model_validate({"engine": "referense"})
    with pytest.raises(
        ValidationError, match="should be 'torchscript', 'onnx', 'openvino', 'tensorrt_rtx', 'tensorrt' or 'reference'"
    ):
        ExportOptions.model_validate({"engines": ["onnxruntime"]})


def test_a_file_that_is_bound_to_a_machine_is_not_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [Path(name) for name in ("model.engine", "model.rtx.engine", "model.xml", "model.reference", "notes.txt")]
    assert [is_machine_bound(name) for name in names] == [True, False, False, False, False]
    monkeypatch.setattr(ReferenceKind, "is_portable", False)
    assert [is_machine_bound(name) for name in names] == [True, False, False, True, False]


def test_every_door_gives_the_mask_that_openvino_gives(case: InferenceCase, exported: Path, tmp_path: Path) -> None:
    options = InferOptions(overlays=0)
    expected = folder(tmp_path / "expected")
    infer_cases(open_engine(exported, "openvino"), [case], expected, options)
    mask = read_volume(expected / "a/a.nii.gz").array
    assert 0 < mask.mean() < 1
    in_process, on_worker, command = (folder(tmp_path / name) for name in ("here", "there", "command"))
    assert infer_cases(open_engine(exported), [case], in_process, options).engine == "reference"
    assert infer_on_executor(Threads(1), ModelFolders((exported,)), [case], on_worker, options).engine == "reference"
    assert main(["infer", str(exported), "--images", str(case.images[0]), "--out", str(command)]) == 0
    for out in (in_process, on_worker, command):
        assert np.array_equal(read_volume(out / "a/a.nii.gz").array, mask)
    assert np.array_equal(ask_service(exported, case.images[0], tmp_path), mask)


def ask_service(model: Path, image: Path, tmp_path: Path) -> np.ndarray:
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(make_app(open_engine(model)), log_level="warning"))
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    while not server.started:
        time.sleep(0.01)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/predict"
    reply = httpx.post(url, content=image.read_bytes(), timeout=60, trust_env=False)
    server.should_exit = True
    thread.join()
    listener.close()
    (tmp_path / "reply.nii.gz").write_bytes(reply.content)
    return read_volume(tmp_path / "reply.nii.gz").array


def test_an_mmar_exports_it_as_the_optimised_model_and_infers_with_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mmar = segmentation_mmar(tmp_path / "mmar")
    save_unet(mmar / "models/model.pt", volume_spec(class_names=("background", "box")))
    assert main(["export", str(mmar), "--set", 'engines=["reference"]']) == 0
    assert (mmar / "models/model.trt.reference").is_file()
    capsys.readouterr()
    assert main(["infer", str(mmar)]) == 0
    assert "(reference)" in capsys.readouterr().err
    assert read_volume(mmar / "eval/box2/box2_model.nii.gz").geometry.size == (24, 24, 24)


def test_its_results_are_resumed_until_its_file_changes(case: InferenceCase, exported: Path, tmp_path: Path) -> None:
    command = ["infer", str(exported), "--images", str(case.images[0]), "--out", str(tmp_path / "out")]
    assert main(command) == 0
    mask = tmp_path / "out/a/a.nii.gz"
    written = mask.stat().st_mtime_ns
    assert main([*command, "--no_overwrite"]) == 0
    assert mask.stat().st_mtime_ns == written
    with (exported / "model.reference").open("ab") as stream:
        stream.write(b"\x7a\x00")  # an empty field of the message: another file of the same network
    assert main([*command, "--no_overwrite"]) != 0
    assert "another model" in json.loads((tmp_path / "out/failures.json").read_text())[0]["reason"]


FOLLOWED = """
import sys
from pathlib import Path
from tests.inference.models import save_unet
from voxflow.cli.main import main
from voxflow.export import ExportOptions, export_model
out = Path("export")
out.mkdir()
options = ExportOptions(engines=("reference",))
export_model(save_unet(Path("model.pt")), out, options, [], on_noise=True).require_published()
sys.exit(main(["infer", "export", "--images", sys.argv[1], "--out", "out"]))
"""


def test_what_contributing_says_is_enough(case: InferenceCase, tmp_path: Path) -> None:
    """Follow the steps in a copy of the source, and export and infer there."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    section = text.partition("## Add an engine\n")[2].partition("\n## ")[0]
    example, module, listing = re.findall(r"`((?:src|tests)/\S+\.py)`", section)[:3]
    import_line, entry = re.findall(r"^ *(from voxflow\.engines\S+ import \w+|\w+\(\)),?$", section, re.MULTILINE)
    copy = tmp_path / "copy"
    shutil.copytree(ROOT / "src", copy / "src", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / example, copy / module)
    source = (copy / listing).read_text(encoding="utf-8")
    source = source.replace("from voxflow.errors import", f"{import_line}\nfrom voxflow.errors import", 1)
    (copy / listing).write_text(re.sub(r"^\]$", f"    {entry},\n]", source, count=1, flags=re.MULTILINE))
    environment = os.environ | {"PYTHONPATH": f"{copy / 'src'}:{ROOT}"}
    command = [sys.executable, "-c", FOLLOWED, str(case.images[0])]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "(reference)" in result.stderr
    assert (tmp_path / "out/a/a.nii.gz").is_file()


def test_without_a_gpu_the_order_is_that_of_the_catalogue(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("torch", "torchscript"):
        monkeypatch.setattr(f"voxflow.engines.{module}.has_gpu", lambda: False)
    assert ranked()[:7] == ["tensorrt", "tensorrt_rtx", "reference", "openvino", "onnxruntime", "torchscript", "torch"]


def test_with_a_gpu_what_uses_it_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("torch", "torchscript"):
        monkeypatch.setattr(f"voxflow.engines.{module}.has_gpu", lambda: True)
    assert ranked() == ["tensorrt", "tensorrt_rtx", "torchscript", "torch", "reference", "openvino", "onnxruntime"]


def ranked() -> list[str]:
    return [kind.name for kind in rank_kinds()]
