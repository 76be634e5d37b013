"""The stages sample and convert as programs: their files, their last line, their exit codes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tasks import convert, sample
from tasks.common.stage import main

if TYPE_CHECKING:
    from collections.abc import Callable

CONVERT = {"modalities": ["CT"], "pseudonym_key": "synthetic", "workers": 1}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Run a stage of workspace ``demo`` in an empty folder with some params."""
    monkeypatch.chdir(tmp_path)

    def stage(program: Any, options: dict[str, Any] | None = None) -> int:
        block = {"task": "segmentation", "source": "data/raw/demo", "convert": CONVERT | (options or {})}
        samples = {"demo": {"kind": "abdominal_ct", "patients": 6, "seed": 1}}
        Path("params.yaml").write_text(yaml.safe_dump({"workspaces": {"demo": block}, "samples": samples}))
        name = program.__name__.rsplit(".", 1)[-1]
        monkeypatch.setattr(sys, "argv", [name, "demo"])
        return main(name, program.run, key="samples" if program is sample else "workspaces")

    return stage


def test_sampled_patients_convert_and_the_broken_series_is_reported(
    run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(sample) == 0
    assert run(convert) == 3
    printed = capsys.readouterr().err
    metrics = json.loads(Path("data/metrics/demo/convert.json").read_text())
    assert (metrics["cases"], metrics["labelled"], metrics["quarantined"], metrics["skipped"]) == (6, 4, 1, 2)
    assert "1 slice(s) missing" in printed
    assert "convert demo: 10 of 13 series converted, 1 quarantined, 2 skipped; 6 cases of 6 patients" in printed
    assert "DEMO" not in printed


def test_an_empty_source_is_one_line_and_exit_code_2(
    run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("data/raw/demo").mkdir(parents=True)
    assert run(convert) == 2
    assert capsys.readouterr().err == (
        "convert demo: error: data/raw/demo: the folder is empty; expected DICOM, NIfTI (or MHA, NRRD) or PNG files\n"
    )
    assert not Path("data/volumes/demo").exists()


def test_a_source_of_text_files_is_one_line_and_exit_code_2(
    run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("data/raw/demo").mkdir(parents=True)
    Path("data/raw/demo/readme.txt").write_text("hello")
    assert run(convert) == 2
    assert "1 file(s), and none of them is DICOM, NIfTI, MetaImage, NRRD or PNG" in capsys.readouterr().err


def test_misspelt_options_are_named(run: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(convert, {"modality": "CT"}) == 2
    assert "workspaces.demo.convert.modality: Extra inputs are not permitted" in capsys.readouterr().err
