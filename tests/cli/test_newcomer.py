"""What somebody meets in the first ten minutes: each friction that was named is a test here that shows it gone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from tasks.common.stage import ROOT
from tasks.ops import ingest as ingest_stage
from tests.dicom.objects import Series, random_values
from voxflow.cli.apps import TrainCommand
from voxflow.cli.main import COMMANDS, main
from voxflow.cli.mmar_path import find_mmar
from voxflow.errors import ConfigError
from voxflow.pacs import DropFolder, IngestOptions, IngestResult, parse_settings
from voxflow.places import load_params

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one workspace."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text("workspaces:\n  liver_2026: {task: segmentation, source: raw}\n")
    (tmp_path / "mmars/liver_2026/config").mkdir(parents=True)
    return tmp_path


def write_series(folder: Path, modality: str, patient: str, slices: int = 3) -> None:
    Series(abs(random_values((3, 4, slices), 1)), patient=patient, changes={"Modality": modality}).write(folder)


def test_new_says_what_the_folder_holds_and_what_will_be_lost(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(2):
        write_series(root / f"raw/p{number}/ct", "CT", f"DOE^{number}")
    write_series(root / "raw/p0/mr", "MR", "DOE^0")
    (root / "raw/scan.zip").write_bytes(b"PK")
    (root / "raw/notes.txt").write_text("DOE^0")
    assert main(["new", "mine", "--source", "raw", "--template", "segmentation_ct"]) == 0
    said = capsys.readouterr().err
    assert "raw: 2 DICOM images of 2 patients (CT 2); labels: none" in said
    assert "a training needs labels: DICOM SEG, RTSTRUCT, or a mask file for each image" in said
    assert "left out: 1 series (modality MR is not among CT)" in said
    assert "left out: 1 file(s) (an image or an archive that is not read (.zip): unpack it)" in said
    assert ".txt" not in said
    assert "DOE" not in said


def test_new_counts_pairs_of_files(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("images/a.nii.gz", "images/b.nii.gz", "labels/a.nii.gz"):
        (root / "raw" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "raw" / name).touch()
    assert main(["new", "mine", "--source", "raw", "--template", "segmentation_ct", "--layout", "none"]) == 0
    assert "raw: 2 image files; labels: 1 mask files" in capsys.readouterr().err


@pytest.mark.parametrize("files", [(), ("notes.txt",), ("scan.zip", "table.csv"), (".hidden",)])
def test_new_refuses_a_folder_without_an_image(
    root: Path, capsys: pytest.CaptureFixture[str], files: tuple[str, ...]
) -> None:
    (root / "raw").mkdir()
    for name in files:
        (root / "raw" / name).write_text("x")
    assert main(["new", "mine", "--source", "raw", "--template", "segmentation_ct"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("voxflow new: error: raw: ")
    assert "--empty makes the workspace all the same" in said
    assert said.count("\n") == 1
    assert not (root / "mmars/mine").exists()
    assert main(["new", "mine", "--source", "raw", "--template", "segmentation_ct", "--empty"]) == 0
    assert (root / "mmars/mine").is_dir()


def test_new_refuses_a_taken_name_before_it_looks(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "raw").mkdir()
    assert main(["new", "liver_2026", "--source", "raw"]) == 2
    assert "exists already" in capsys.readouterr().err


def test_commands_of_models_take_a_workspaces_name(root: Path) -> None:
    assert find_mmar(Path("liver_2026")) == Path("mmars/liver_2026")
    assert find_mmar(Path("mmars/liver_2026")) == Path("mmars/liver_2026")
    with pytest.raises(ConfigError, match="no folder and no workspace is called 'liver'; did you mean 'liver_2026'"):
        find_mmar(Path("liver"))
    (root / "params.yaml").unlink()
    assert find_mmar(Path("liver")) == Path("liver")


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "liver_2025"],
        ["evaluate", "liver_2025"],
        ["infer", "liver_2025"],
        ["infer", "liver_2025", "--images", "x", "--out", "y"],
        ["export", "liver_2025"],
    ],
)
def test_a_wrong_name_has_a_suggestion(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert "did you mean 'liver_2026'?" in said
    assert said.count("\n") == 1


def test_train_opens_the_folder_of_the_name(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Path] = []

    def stop(mmar: Path, *_: object) -> None:
        opened.append(mmar)
        raise ConfigError("enough")

    monkeypatch.setattr("voxflow.mmar.Mmar.open", stop)
    with pytest.raises(ConfigError, match="enough"):
        TrainCommand(Path("liver_2026")).run()
    assert opened == [Path("mmars/liver_2026")]


def list_fixes(capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """What `voxflow check` proposes for each place of params.yaml."""
    assert main(["check", "liver_2026", "--json"]) == 2
    findings = json.loads(capsys.readouterr().out)["findings"]
    return {finding["path"]: finding["fix"] for finding in findings if finding["file"] == "params.yaml"}


def test_wrong_keys_at_the_top_have_a_suggestion(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    params = root / "params.yaml"
    params.write_text(f"{params.read_text()}pac: {{}}\nworkspace: {{}}\nzzz: 1\n")
    write_configuration(root)
    fixes = list_fixes(capsys)
    assert fixes["pac"] == "write 'pacs'"
    assert "'workspaces' is there already" in fixes["workspace"]
    assert fixes["zzz"].startswith("known: ")


KEYS = {
    "trian": "'train' is there already",
    "promote.flor": "write 'floor'",
    "train.st": "write 'set'",
    "export.engine": "write 'engines'",
    "report.overlay": "write 'overlays'",
    "ingest.modality": "write 'modalities'",
    "answer.sned": "write 'send'",
    "monitor.inbx": "write 'inbox'",
    "convert.modalitis": "write 'modalities'",
    "validate.zzz": "known: ",
    "resample.spacing": "write 'spacing_mm'",
    "split.test": "write 'testing'",
    "evaluate.engin": "write 'engine'",
    "infer.dicomseg": "write 'dicom_seg'",
}


def test_every_wrong_key_of_a_workspace_has_a_suggestion(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blocks = [f"    {stage}: {{{key}: 1}}" for stage, _, key in (name.partition(".") for name in KEYS) if key]
    lines = ["workspaces:", "  liver_2026:", "    task: segmentation", "    source: raw", "    trian: {}", *blocks]
    (root / "params.yaml").write_text("\n".join(lines) + "\n")
    write_configuration(root)
    fixes = list_fixes(capsys)
    for key, fix in KEYS.items():
        assert fix in fixes[f"workspaces.liver_2026.{key}"], key


def write_configuration(root: Path) -> None:
    (root / "mmars/liver_2026/config/config_train.json").write_text("{}")


def test_a_wrong_key_of_a_pacs_has_a_suggestion() -> None:
    with pytest.raises(ConfigError, match=r"pacs\.a\.adress.*did you mean|pacs\.a\.adress.*known: "):
        parse_settings({"a": {"protocol": "dicomweb", "url": "http://x", "adress": 1}}, "a")


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize("name", ["liver_206", "mmars/liver_2026"])
def test_a_stage_suggests_the_nearest_workspace(name: str) -> None:
    with pytest.raises(ConfigError, match=r"no workspace .*; did you mean 'liver_2026'\? known: liver_2026"):
        load_params("workspaces", name)


@pytest.mark.parametrize("module", ["tasks.validate", "tasks.ops.ingest", "tasks.sample", "flows.retrain"])
def test_a_stage_outside_the_root_says_where_to_go(tmp_path: Path, module: str) -> None:
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"}
    command = [sys.executable, "-m", module, "liver"]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert f"params.yaml is not here; go to the root of the repository first: cd {ROOT}\n" in result.stderr
    assert result.stderr.count("\n") == 1


def test_stages_and_flows_are_found_from_any_folder() -> None:
    """Installed in place, they are packages beside voxflow; else Python itself would say that there is no module."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {name: ROOT / folder for name, folder in settings["package-dir"].items()}
    assert {name: (folders[name] / "__init__.py").is_file() for name in ("tasks", "flows")} == {
        "tasks": True,
        "flows": True,
    }
    names = {path.parent.name for path in (ROOT / "src").glob("*/__init__.py")} | {"tasks", "flows"}
    assert {name.removesuffix("*") for name in settings["packages"]["find"]["include"]} == names


def test_help_speaks_of_what_a_user_wants(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    text = capsys.readouterr().out
    assert "Begin with your own images:\n  voxflow new liver --source /data/liver" in text
    assert max(map(len, text.splitlines())) <= 120
    assert all(f"\n  {command.name} " in text for command in COMMANDS)
    assert "MMAR" not in text.partition("migrate")[0]


def test_the_index_does_not_write_where_there_is_no_workspace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["index"]) == 2
    assert "params.yaml: file not found; the index shows the workspaces of a repository" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def explain(tmp_path: Path) -> Callable[..., list[str]]:
    def explain(result: IngestResult, quiet_s: float = 60, **options: object) -> list[str]:
        archive = DropFolder(tmp_path / "drop", quiet_s=quiet_s)
        list(archive.find(SimpleNamespace(modalities=(), days=None)))  # type: ignore[arg-type]
        values = {"folder": "drop", "settle_s": 60, **options}
        return ingest_stage._explain_waiting(archive, result, IngestOptions.model_validate(values))

    (tmp_path / "drop").mkdir()
    return explain


def test_ingest_says_what_it_waits_for(tmp_path: Path, explain: Callable[..., list[str]]) -> None:
    write_series(tmp_path / "drop/a", "CT", "P1")
    lines = explain(IngestResult(waiting=["1.2.3"]))
    assert lines == [
        f"3 file(s) in {tmp_path / 'drop'} were written less than 60 s (ingest.settle_s) ago, and may still grow",
        "1 series are taken once they have not grown for 60 s (ingest.settle_s)",
        "run it again in 60 s, or write ingest.settle_s: 0 if nothing grows any more",
    ]
    long_ago = time.time() - 3600
    for file in (tmp_path / "drop/a").iterdir():
        os.utime(file, (long_ago, long_ago))
    assert explain(IngestResult(known_count=1)) == []


def test_ingest_says_what_it_looks_for_where_nothing_is(explain: Callable[..., list[str]]) -> None:
    (line,) = explain(IngestResult(), modalities=["CT"])
    assert line.endswith(
        "has no series that the key ingest of params.yaml asks for: modalities ['CT'], days 7, min_instances 1"
    )
