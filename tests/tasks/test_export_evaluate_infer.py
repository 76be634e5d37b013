"""The stages export, evaluate and infer: one workspace from model.pt to masks, and what they end with."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import yaml

from tasks import evaluate, export, infer
from tasks.common.stage import Stage, main
from tests.inference.models import save_densenet, save_unet, volume_spec
from voxflow.dicom import ConvertOptions, Origin, SourceFiles
from voxflow.geometry import Geometry
from voxflow.tracking import NullTracker
from voxflow.volumes import Volume, read_volume, write_radiograph, write_volume

if TYPE_CHECKING:
    from collections.abc import Callable

GRID = Geometry.from_parts((24, 20, 10), (1, 1, 2))
STAGES: dict[str, Callable[[Stage], int]] = {"export": export.run, "evaluate": evaluate.run, "infer": infer.run}
COLUMNS = "case,patient,image,label,series_uid,source\n"


def stage(name: str, workspace: str = "ws") -> int:
    """Run a stage as its program would."""
    sys.argv = [f"tasks.{name}", workspace]
    return main(name, STAGES[name])


def prepare(root: Path, task: str, parts: dict[str, Any]) -> None:
    """Write what the stages before leave behind, without any image."""
    block = {
        "task": task,
        "source": "data/raw/ws",
        "export": {"engines": ["torchscript", "onnx", "openvino"], "parity_cases": 1},
        "evaluate": {},
        "infer": {},
    }
    (root / "params.yaml").write_text(yaml.safe_dump({"workspaces": {"ws": block}}))
    models = root / "mmars/ws/models/train"
    models.mkdir(parents=True)
    (models / "run.json").write_text('{"run_id": "", "experiment": "ws"}')
    content = {"label_format": [1, 1]} if task == "classification" else {}
    (root / "data/datalists/ws").mkdir(parents=True)
    (root / "data/datalists/ws/dataset_0.json").write_text(json.dumps(content | parts))


@pytest.fixture
def volumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A segmentation workspace with two labelled cases to test on and two without a label."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [])
    rng = np.random.default_rng(0)
    rows = []
    for name in ("seen", "t1", "t2", "u1", "u2"):
        image, label = rng.normal(size=GRID.size).astype(np.float32), np.zeros(GRID.size, np.uint8)
        label[6:14, 5:13, 3:7] = 1
        for folder in ("volumes", "resampled"):
            write_volume(Path(f"data/{folder}/ws/images/{name}.nii.gz"), Volume(image, GRID))
        write_volume(Path(f"data/volumes/ws/labels/{name}.nii.gz"), Volume(label, GRID))
        labelled = "" if name.startswith("u") else f"labels/{name}.nii.gz"
        rows.append(f"{name},{name},images/{name}.nii.gz,{labelled},,in/{name}.nii.gz\n")
    Path("data/volumes/ws/cases.csv").write_text(COLUMNS + "".join(rows))

    def entries(*names: str) -> list[dict[str, Any]]:
        return [{"image": f"images/{name}.nii.gz", "case": name, "patient": name} for name in names]

    seen_entries = [entry | {"label": f"labels/{entry['case']}.nii.gz"} for entry in entries("seen", "t1", "t2")]
    parts = {
        "training": [],
        "validation": seen_entries[:1],
        "testing": seen_entries[1:],
        "inference": entries("u1", "u2"),
    }
    prepare(tmp_path, "segmentation", parts)
    save_unet(Path("mmars/ws/models/train/model.pt"), volume_spec(spacing_mm=(1, 1, 2), orientation="LPS"))
    return tmp_path


def names_in(folder: str) -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir())


def read_json(path: str) -> Any:
    return json.loads(Path(path).read_text())


def test_a_workspace_goes_from_checkpoint_to_masks(volumes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert stage("export") == 0
    parity = read_json("mmars/ws/models/parity.json")
    assert parity["openvino"]["published"] == 1
    assert parity["openvino"]["max_probability_difference"] < 1e-5
    assert stage("evaluate") == 0
    assert read_json("data/metrics/ws/evaluate.json")["cases"] == 2
    assert len(list(Path("mmars/ws/eval/test/masks").iterdir())) == 2
    assert stage("infer") == 0
    assert read_json("data/metrics/ws/infer.json")["cases"] == 2
    assert read_volume(Path("mmars/ws/eval/infer/u1/u1.nii.gz")).geometry.is_close(GRID)
    printed = capsys.readouterr().err
    assert "export ws: torchscript, onnxruntime, openvino equal torch on 1 cases" in printed
    assert "evaluate ws: mean Dice " in printed
    assert "infer ws: masks for 2 of 2 cases (openvino) → mmars/ws/eval/infer" in printed


def test_bad_cases_end_with_3_and_none_good_with_1(volumes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert stage("export") == 0
    for name in ("t1", "u1"):
        Path(f"data/volumes/ws/images/{name}.nii.gz").write_bytes(b"broken")
    assert (stage("evaluate"), stage("infer")) == (3, 3)
    for path in ("mmars/ws/eval/test/failures.json", "mmars/ws/eval/infer/failures.json"):
        assert "unreadable image" in read_json(path)[0]["reason"]
    assert "1 failed (failures.json; the first, u1: " in capsys.readouterr().err
    for name in ("t2", "u2"):
        Path(f"data/volumes/ws/images/{name}.nii.gz").unlink()
    assert (stage("evaluate"), stage("infer")) == (1, 1)
    assert read_json("data/metrics/ws/infer.json") == {"cases": 0, "failed_cases": 2}


def test_a_full_disk_ends_with_one_line_and_leaves_nothing(
    volumes: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stage("export") == 0

    def full(path: Path, volume: Volume) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    for module in ("evaluation.segmentation", "inference.run"):
        monkeypatch.setattr(f"voxflow.{module}.write_volume", full)
    capsys.readouterr()
    for name in ("evaluate", "infer"):
        assert stage(name) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"{name} ws: error: [Errno 28] No space left on device")
    assert list(Path("mmars/ws/eval").iterdir()) == []
    assert not Path("data/metrics/ws/infer.json").exists()


KILLED = """
import os, signal, sys
from tasks import infer
from tasks.common.stage import main
from voxflow.inference import run

predict, seen = run.predict_prepared, []

def second_time_killed(*arguments):
    seen.append(1)
    if len(seen) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return predict(*arguments)

run.predict_prepared = second_time_killed
sys.exit(main("infer", infer.run))
"""


def kill_after_two(root: Path) -> None:
    """Run the stage infer on three cases, and kill it while it is at the last."""
    for name in ("u3", "u4"):
        shutil.copy("data/volumes/ws/images/u1.nii.gz", f"data/volumes/ws/images/{name}.nii.gz")
        with Path("data/volumes/ws/cases.csv").open("a") as table:
            table.write(f"{name},{name},images/{name}.nii.gz,,,in/{name}.nii.gz\n")
    datalist = Path("data/datalists/ws/dataset_0.json")
    content = json.loads(datalist.read_text())
    content["inference"] += [{"image": "images/u1.nii.gz", "case": name, "patient": name} for name in ("u3", "u4")]
    datalist.write_text(json.dumps(content))
    checkout = str(Path(__file__).parents[2])
    ended = subprocess.run(
        [sys.executable, "-c", KILLED, "ws"], cwd=root, env={**os.environ, "PYTHONPATH": f"{checkout}/src:{checkout}"},
        check=False,
    )  # fmt: skip
    assert ended.returncode == -signal.SIGKILL


@pytest.fixture
def predictions(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one at each case that the network is shown."""
    from voxflow.inference import run
    from voxflow.prediction import predict_prepared as predict

    calls: list[int] = []

    def count_predictions(*arguments: Any) -> Any:
        calls.append(1)
        return predict(*arguments)

    monkeypatch.setattr(run, "predict_prepared", count_predictions)
    return calls


def test_a_killed_inference_goes_on_and_leaves_what_one_run_would(
    volumes: Path, predictions: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert stage("export") == 0
    set_infer("extra_outputs: [stl, glb, statistics]")
    kill_after_two(volumes)
    assert not Path("mmars/ws/eval/infer").exists()
    assert stage("infer") == 0
    assert 1 <= len(predictions) < 4
    assert "infer ws: going on after " in capsys.readouterr().err
    resumed = contents("mmars/ws/eval/infer")
    assert {"u1/u1_statistics.json", "u3/u3.glb", "statistics.csv"} <= set(resumed)
    assert names_in("mmars/ws/eval") == ["infer"]
    shutil.rmtree("mmars/ws/eval")
    assert stage("infer") == 0
    assert contents("mmars/ws/eval/infer") == resumed


def set_infer(options: str) -> None:
    params = Path("params.yaml")
    params.write_text(params.read_text().replace("infer: {}", f"infer: {{{options}}}"))


def contents(folder: str) -> dict[str, bytes]:
    files = [path for path in Path(folder).rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_what_another_model_other_options_or_another_image_made_is_not_gone_on_from(
    volumes: Path, predictions: list[int]
) -> None:
    assert stage("export") == 0
    kill_after_two(volumes)
    params = Path("params.yaml").read_text()
    Path("params.yaml").write_text(params.replace("infer: {}", "infer: {blend: constant}"))
    assert stage("infer") == 0
    assert len(predictions) == 4
    assert names_in("mmars/ws/eval") == ["infer"]


def test_of_a_changed_image_or_a_case_that_is_listed_no_more_nothing_is_kept(
    volumes: Path, predictions: list[int]
) -> None:
    assert stage("export") == 0
    kill_after_two(volumes)
    shutil.copy("data/volumes/ws/images/seen.nii.gz", "data/volumes/ws/images/u1.nii.gz")
    datalist = Path("data/datalists/ws/dataset_0.json")
    content = json.loads(datalist.read_text())
    content["inference"] = [entry for entry in content["inference"] if entry["case"] == "u1"]
    datalist.write_text(json.dumps(content))
    assert stage("infer") == 0
    assert len(predictions) == 1
    assert {"u2", "u3"}.isdisjoint(names_in("mmars/ws/eval/infer"))


def test_an_interrupted_inference_says_what_it_keeps(
    volumes: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from voxflow.inference import infer as inference
    from voxflow.inference.channel_overlays import write_overlays

    noted: list[int] = []

    def interrupt(*arguments: Any, **named: Any) -> None:
        noted.append(1)
        if len(noted) == 2:
            raise KeyboardInterrupt
        write_overlays(*arguments, **named)

    assert stage("export") == 0
    monkeypatch.setattr(inference, "write_overlays", interrupt)
    assert stage("infer") == 130
    assert "infer ws: 1 of 2 cases are finished; the next run goes on from them" in capsys.readouterr().err


@pytest.mark.parametrize("part", [{"inference": []}, {}], ids=["empty", "absent"])
def test_nothing_to_infer_is_no_failure(
    part: dict[str, list[Any]], volumes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stage("export") == 0
    datalist = Path("data/datalists/ws/dataset_0.json")
    content = json.loads(datalist.read_text())
    del content["inference"]
    datalist.write_text(json.dumps(content | part))
    assert stage("infer") == 0
    assert "no case under 'inference', nothing to infer" in capsys.readouterr().err
    assert {"failures.json", "preds_outputs.csv", "preds.csv", "overlays"} == set(names_in("mmars/ws/eval/infer"))


def test_nothing_to_evaluate_on_is_wrong_input(volumes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert stage("export") == 0
    datalist = Path("data/datalists/ws/dataset_0.json")
    datalist.write_text(json.dumps(json.loads(datalist.read_text()) | {"testing": [], "other": []}))
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["workspaces"]["ws"]["evaluate"] = {"key": "other"}
    Path("params.yaml").write_text(yaml.safe_dump(params))
    assert stage("evaluate") == 2
    assert "dataset_0.json: other: no case to evaluate on" in capsys.readouterr().err


def test_a_model_without_test_cases_stays_unjudged_and_still_infers(
    volumes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stage("export") == 0
    datalist = Path("data/datalists/ws/dataset_0.json")
    datalist.write_text(json.dumps(json.loads(datalist.read_text()) | {"testing": []}))
    assert stage("evaluate") == 0
    assert "no labelled case under 'testing'" in capsys.readouterr().err
    assert json.loads(Path("data/metrics/ws/evaluate.json").read_text()) == {"cases": 0}
    assert json.loads(Path("mmars/ws/eval/test/trust.json").read_text()) == {}
    assert stage("infer") == 0


def test_an_engine_that_differs_ends_the_export(
    volumes: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from voxflow.engines import OpenVinoEngine

    whole = OpenVinoEngine.run
    monkeypatch.setattr(OpenVinoEngine, "run", lambda self, batch: whole(self, batch)[:, ::-1].copy())
    assert stage("export") == 1
    assert "error: not published: openvino: a probability differs by" in capsys.readouterr().err
    assert names_in("mmars/ws/models/export") == ["model.onnx", "model.ts"]
    assert read_json("mmars/ws/models/parity.json")["openvino"]["published"] == 0


def test_a_missing_checkpoint_and_a_misspelt_option_are_wrong_input(
    volumes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("mmars/ws/models/train/model.pt").unlink()
    assert stage("export") == 2
    assert "model.pt" in capsys.readouterr().err
    assert not Path("mmars/ws/models/export").exists()
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["workspaces"]["ws"]["evaluate"] = {"engnie": "auto"}
    Path("params.yaml").write_text(yaml.safe_dump(params))
    assert stage("evaluate") == 2
    assert "workspaces.ws.evaluate.engnie" in capsys.readouterr().err


def test_dicom_cases_get_a_segmentation_object(volumes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert stage("export") == 0
    table = Path("data/volumes/ws/cases.csv")
    table.write_text(table.read_text().replace("u1.nii.gz,,,in/u1.nii.gz", "u1.nii.gz,,1.2.3,"))
    requests: list[set[Origin]] = []
    files = SourceFiles((Path("data/raw/ws/slice"),))

    def found(source: Path, origins: set[Origin], options: ConvertOptions) -> dict[Origin, SourceFiles]:
        requests.append(origins)
        return dict.fromkeys(origins, files)

    def written(
        path: Path, mask: Volume, source: SourceFiles, names: dict[int, str], *, regions: None, description: str
    ) -> None:
        assert (mask.geometry.is_close(GRID), source, names, regions) == (True, files, {1: "organ"}, None)
        assert description == ""
        path.write_bytes(b"SEG")

    monkeypatch.setattr("voxflow.dicom.find_sources", found)
    monkeypatch.setattr("voxflow.dicom.write_segmentation", written)
    assert stage("infer") == 0
    assert requests == [{Origin("1.2.3")}]
    assert names_in("mmars/ws/eval/infer/u1") == ["u1.nii.gz", "u1_seg.dcm"]
    assert names_in("mmars/ws/eval/infer/u2") == ["u2.nii.gz"]


def test_radiographs_go_the_same_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [])
    rng = np.random.default_rng(0)
    names = ("v", "t1", "t2", "t3", "u1")
    for name in names:
        image = rng.integers(0, 4000, (50, 40)).astype(np.uint16)
        for folder in ("volumes", "resampled"):
            write_radiograph(Path(f"data/{folder}/ws/images/{name}.png"), image)
    rows = [f"{name},{name},images/{name}.png,,,\n" for name in names]
    Path("data/volumes/ws/cases.csv").write_text(COLUMNS + "".join(rows))
    labels = {"v": [0, 1], "t1": [1, 0], "t2": [0, 0], "t3": [1, 0]}
    entries = {name: {"image": f"images/{name}.png", "case": name, "label": label} for name, label in labels.items()}
    unknown = [{"image": "images/u1.png", "case": "u1"}]
    parts = {"validation": [entries["v"]], "testing": [entries[n] for n in ("t1", "t2", "t3")], "inference": unknown}
    prepare(tmp_path, "classification", parts)
    save_densenet(Path("mmars/ws/models/train/model.pt"))
    assert [stage(name) for name in STAGES] == [0, 0, 0]
    metrics = read_json("data/metrics/ws/evaluate.json")
    assert metrics["classes_without_auc"] == 1
    assert metrics["mean_auc"] == metrics["auc_mass"]
    assert "evaluate ws: mean AUC " in capsys.readouterr().err
    assert Path("mmars/ws/eval/infer/preds.csv").read_text().startswith("case,image,mass,nodule\nu1,u1.png,")


def test_the_training_run_is_continued(volumes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import contextlib

    artifacts: list[tuple[str, str]] = []

    class Record(NullTracker):
        """Notes what is kept."""

        def log_metrics(self, values: Any, step: int | None = None) -> None:
            artifacts.extend(("metric", name) for name in values)

        def log_artifact(self, path: Path, folder: str | None = None) -> None:
            assert path.exists()
            artifacts.append((folder or "", path.name))

        def log_model(self, path: Path, name: str = "model") -> str:
            artifacts.append((name, path.name))
            return ""

    Path("mmars/ws/models/train/run.json").write_text('{"run_id": "r1", "experiment": "ws"}')
    set_infer("extra_outputs: [statistics]")
    for module in (export, evaluate, infer):
        monkeypatch.setattr(module, "continue_run", lambda run_id: contextlib.nullcontext(Record(run_id)))
    assert [stage(name) for name in STAGES] == [0, 0, 0]
    assert {("export", "parity.json"), ("model", "model.onnx"), ("metric", "test/mean_dice")} <= set(artifacts)
    assert {("test", "per_case.csv"), ("test/overlays", "overlays"), ("infer", "preds_outputs.csv")} <= set(artifacts)
    assert {("infer", "statistics.csv"), ("infer", "statistics.json")} <= set(artifacts)
    # Masks of the test part let two models be compared by picture; those of inference stay in DVC.
    assert [folder for folder, name in artifacts if name == "masks"] == ["test/masks"]
