"""``voxflow plan`` on a workspace of small cubes: what it says, what it writes, what it refuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tasks import resample, split
from tests.tasks.demo_cases import run as run_stage
from tests.tasks.demo_cases import write_volumes
from voxflow.cli.main import main
from voxflow.config import read_json
from voxflow.workspace import create_workspace

ROOT = Path(__file__).parents[2]
CONFIG = Path("mmars/demo/config/config_train.json")


@pytest.fixture(autouse=True)
def _workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What ``voxflow new --template auto`` and the stages up to split leave."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VOXFLOW_CACHE", str(tmp_path / "cache"))
    write_volumes()
    assert run_stage(resample, monkeypatch, {"spacing_mm": "auto", "orientation": "LPS"}) == 0
    assert run_stage(split, monkeypatch, {"testing": 0.2, "validation": 0.2}) == 0
    Path("params.yaml").write_text("workspaces: {}\n")
    Path("raw").mkdir()
    create_workspace("demo", Path("raw"), "auto")


def plan(*flags: str) -> int:
    return main(["plan", "demo", *flags])


def answer(capsys: pytest.CaptureFixture[str], *flags: str) -> dict[str, Any]:
    assert plan("--json", *flags) == 0
    return dict(json.loads(capsys.readouterr().out))


def test_the_stage_chose_a_spacing_and_left_a_fingerprint() -> None:
    written = json.loads(Path("data/resampled/demo/resample.json").read_text())
    assert written["spacing_mm"] == [1.0, 1.0, 3.0]
    metrics = json.loads(Path("data/metrics/demo/resample.json").read_text())
    assert (metrics["labelled"], metrics["size_i"], metrics["class_1_ml"]) == (7, 12, pytest.approx(0.18))


def test_it_says_what_a_training_takes(capsys: pytest.CaptureFixture[str]) -> None:
    assert plan() == 0
    rows = dict(line.split(None, 1) for line in capsys.readouterr().out.splitlines())
    assert rows["cases"] == "8, 7 labelled; 1 channel(s)"
    assert rows["patch"] == "12 × 10 × 6"  # the image as it is: its two longer axes are halved once
    assert "measured" in rows["step"]
    assert rows["cache"].endswith("on disk")


def test_a_few_steps_are_really_timed(capsys: pytest.CaptureFixture[str]) -> None:
    measured = answer(capsys)["measured"]
    assert measured["step_seconds"] > 0
    assert measured["epoch_seconds"] == pytest.approx(measured["step_seconds"] * measured["steps_an_epoch"])
    sizes = sorted(path.stat().st_size for path in Path("cache").rglob("*.case"))
    assert len(sizes) == 5  # of five to learn from four, and the one to validate on, which is the smallest
    parts = read_json(Path("data/datalists/demo/dataset_0.json"))
    learnt, validated = (len(parts[key]) for key in ("training", "validation"))
    assert measured["cache_gb"] * 1e9 == pytest.approx(learnt * sum(sizes[1:]) / 4 + validated * sizes[0])


def run_alone(*command: str) -> tuple[str, int]:
    """What a program of its own printed, and the most bytes that it held."""
    with subprocess.Popen([sys.executable, "-m", *command], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return output, usage.ru_maxrss * 1024


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="counts memory in kibibytes")
def test_the_training_holds_no_more_memory_than_was_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(str(ROOT / part) for part in ("src", "")))
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["workspaces"]["demo"]["train"] |= {"max_minutes": 0.5, "accelerator": "cpu"}
    Path("params.yaml").write_text(yaml.safe_dump(params))
    said = json.loads(run_alone("voxflow.cli.main", "plan", "demo", "--json")[0])["measured"]["memory_gb"] * 1e9
    _, held = run_alone("tasks.train", "demo")
    assert 0.7 * said < held <= said


def test_quick_trains_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert answer(capsys, "--quick")["measured"] is None
    assert not list(Path("cache").rglob("*.case"))


def test_two_stages_are_no_option_for_single_slices(capsys: pytest.CaptureFixture[str]) -> None:
    fingerprint, params = Path("data/resampled/demo/fingerprint.json"), Path("params.yaml")
    content = json.loads(fingerprint.read_text())
    content["size"]["median"][2] = content["size"]["most"][2] = 60
    fingerprint.write_text(json.dumps(content))
    params.write_text(params.read_text().replace("plan: auto\n", "plan: auto\n      configuration: 2d\n"))
    assert plan("--quick") == 0
    output = capsys.readouterr().out
    assert "slices across k" in output
    assert "two stages" not in output


def test_apply_writes_the_configuration_that_auto_would_have(capsys: pytest.CaptureFixture[str]) -> None:
    before = answer(capsys, "--quick")
    after = answer(capsys, "--quick", "--apply")
    assert (before["plan"], after["plan"]) == ("auto", "config")
    assert after["configured"] == before["configured"]
    assert read_json(CONFIG)["train"]["model"]["args"]["nf_enc"] == before["layout"]["filters"]
    assert yaml.safe_load(Path("params.yaml").read_text())["workspaces"]["demo"]["train"]["plan"] == "config"
    assert after["changed"][-1] == "params.yaml"


def test_apply_keeps_another_network_and_its_strides(capsys: pytest.CaptureFixture[str]) -> None:
    content = read_json(CONFIG)
    content["train"]["model"] = {"name": "Unet", "args": {"nf_enc": [4, 8, 8, 8, 8]}}
    CONFIG.write_text(json.dumps(content))
    params = Path("params.yaml")
    params.write_text(params.read_text().replace("plan: auto", "plan: config"))
    after = answer(capsys, "--quick", "--apply")
    assert after["configured"]["patch"] == [16, 16, 16]
    assert read_json(CONFIG)["train"]["model"] == content["train"]["model"]


@pytest.mark.parametrize(
    ("name", "line"),
    [("dmo", "voxflow plan: error: no folder and no workspace of params.yaml is called 'dmo'; did you mean 'demo'?")],
)
def test_a_name_that_is_none_is_one_line(name: str, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", name]) == 2
    assert capsys.readouterr().err.splitlines() == [line]


def test_images_that_are_not_there_yet_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    Path("data/datalists/demo/dataset_0.json").unlink()
    assert plan() == 2
    assert capsys.readouterr().err.splitlines() == [
        "voxflow plan: error: data/datalists/demo/dataset_0.json: no datalist there, so that there is no image to "
        "measure; dvc repro split@demo makes it"
    ]


def test_a_damaged_fingerprint_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    Path("data/resampled/demo/fingerprint.json").write_text("{")
    assert plan() == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("voxflow plan: error: data/resampled/demo/fingerprint.json: no fingerprint:")
