"""The stages convert, resample and infer over two worker processes, one of them killed: all as this process does it."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pydicom
import pytest
import yaml

from tasks import convert, infer, resample, sample
from tasks.common.stage import main
from tests.dask_cluster import kill_one_worker, start_two_workers
from tests.inference.models import save_unet, volume_spec
from tests.test_dag import STAGES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

BLOCK: dict[str, Any] = {
    "task": "segmentation",
    "source": "data/raw/demo",
    "convert": {"modalities": ["CT"], "pseudonym_key": "synthetic"},
    "resample": {"spacing_mm": [1.5, 1.5, 3.0], "orientation": "LPS"},
    "infer": {"engine": "torch", "overlays": 3},
}
PLACES = {
    "convert": Path("data/volumes/demo"),
    "resample": Path("data/resampled/demo"),
    "infer": Path("mmars/demo/eval/infer"),
}


def run(program: ModuleType, monkeypatch: pytest.MonkeyPatch, cluster: str = "off") -> int:
    """Run a stage as its program would."""
    name = program.__name__.rpartition(".")[2]
    monkeypatch.setattr(sys, "argv", [name, "demo"])
    monkeypatch.setenv("VOXFLOW_DASK", cluster)
    return main(name, program.run, key="samples" if program is sample else "workspaces")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with start_two_workers(tmp_path_factory.mktemp("dask")) as running:
        yield running


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What conversion and resampling make in one process."""
    root = tmp_path_factory.mktemp("workspace")
    before = Path.cwd()
    os.chdir(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VOXFLOW_MAPPING_FOLDER", str(root / "mapping"))
        samples = {"demo": {"kind": "abdominal_ct", "patients": 6, "seed": 1}}
        Path("params.yaml").write_text(yaml.safe_dump({"workspaces": {"demo": BLOCK}, "samples": samples}))
        assert run(sample, patch) == 0
        assert run(convert, patch) == 3
        assert run(resample, patch) == 0
        os.chdir(before)
        yield root


def prepare_inference() -> None:
    """A model, and a datalist of every case and of one that is broken."""
    save_unet(Path("mmars/demo/models/export/model.pt"), volume_spec(window=(32, 32, 16)))
    Path("mmars/demo/models/train").mkdir()
    Path("mmars/demo/models/train/run.json").write_text('{"run_id": "", "experiment": "demo"}')
    cases = sorted(path.name.removesuffix(".nii.gz") for path in Path("data/resampled/demo/images").iterdir())
    Path(f"data/volumes/demo/images/{cases[1]}.nii.gz").write_bytes(b"no image")
    entries = [{"image": f"images/{case}.nii.gz", "case": case} for case in cases]
    Path("data/datalists/demo").mkdir(parents=True)
    Path("data/datalists/demo/dataset_0.json").write_text(json.dumps({"inference": entries}))


# Three processes import torch and MONAI for the last one.
@pytest.mark.parametrize(
    ("program", "code"), [(convert, 3), (resample, 0), pytest.param(infer, 3, marks=pytest.mark.slow)]
)
def test_a_stage_makes_the_same_though_a_worker_is_killed(
    program: ModuleType,
    code: int,
    *,
    workspace: Path,
    cluster: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    place = PLACES[program.__name__.rpartition(".")[2]]
    shutil.copytree(workspace, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    if program is infer:
        prepare_inference()
        assert run(infer, monkeypatch) == code
    shutil.move(place, tmp_path / "expected")
    begun = place.parent.absolute()
    with kill_one_worker(cluster, lambda: any(begun.glob(".partial-*/*/*.nii.gz"))):
        assert run(program, monkeypatch, cluster.scheduler_address) == code
    same(tmp_path / "expected", place)
    assert "is gone; another one works on its cases" in capsys.readouterr().err


def same(expected: Path, actual: Path) -> None:
    """Two folders hold the same files, byte by byte; a DICOM SEG has new UIDs and times each time."""
    files = {path.relative_to(expected) for path in expected.rglob("*") if path.is_file()}
    assert {path.relative_to(actual) for path in actual.rglob("*") if path.is_file()} == files
    for file in files:
        if file.suffix == ".dcm":
            expected_bytes, actual_bytes = (pydicom.dcmread(folder / file).PixelData for folder in (expected, actual))
        else:
            expected_bytes, actual_bytes = (folder.joinpath(file).read_bytes() for folder in (expected, actual))
        assert expected_bytes == actual_bytes, file


def test_the_parameter_is_no_part_of_any_stages_hash() -> None:
    named = [name for stage in STAGES.values() for name in stage["do"].get("params", [])]
    assert named
    assert not [name for name in named if name.startswith("dask")]
