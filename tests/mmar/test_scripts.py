"""The scripts of commands/ as a person runs them, and the older ones that start with mpirun."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mmar.conftest import QUICK
from voxflow.mmar.train import adopt_mpi_ranks

ROOT = Path(__file__).resolve().parents[2]
OLD_2GPU = """#!/usr/bin/env bash
my_dir="$(dirname "$0")"
. $my_dir/set_env.sh
mpirun -np 3 -H localhost:3 -bind-to none -map-by slot \\
  -x NCCL_DEBUG=INFO -x LD_LIBRARY_PATH -x PATH -mca pml ob1 \\
  -mca btl ^openib --allow-run-as-root \\
  python3 -u -m nvmidl.apps.train -m $MMAR_ROOT -c config/config_train.json --set multi_gpu=true
"""


def run(script: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """A script with the python of this test first in PATH."""
    paths = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": f"{ROOT / 'src'}",
        "OMP_NUM_THREADS": "1",
    }
    environment = os.environ | paths | variables
    command = ["bash", str(script), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)


def test_train_then_infer_scripts(segmentation: Path) -> None:
    process = run(segmentation / "commands" / "train.sh", "epochs=1", *QUICK)
    assert (process.returncode, process.stdout) == (0, f"MMAR_ROOT set to {segmentation}\n"), process.stderr
    assert "1 epochs" in process.stderr
    assert (segmentation / "models" / "train_stats.json").is_file()
    process = run(segmentation / "commands" / "infer.sh", "MMAR_EVAL_OUTPUT_PATH=masks")
    assert process.returncode == 0, process.stderr
    assert (segmentation / "masks" / "box3" / "box3_model.nii.gz").is_file()


@pytest.mark.slow
def test_two_processes_train_and_fine_tune(segmentation: Path) -> None:
    for script in ("train_2gpu.sh", "train_2gpu_finetune.sh"):
        process = run(segmentation / "commands" / script, "epochs=1", *QUICK)
        assert process.returncode == 0, process.stderr
        assert process.stderr.count("train clone: 1 epochs") == 1
    assert "15 of 15 weights taken" in process.stderr


def test_an_older_script_with_mpirun_starts_under_torchrun(segmentation: Path, tmp_path: Path) -> None:
    (segmentation / "commands" / "train_3gpu.sh").write_text(OLD_2GPU)
    stub = tmp_path / "bin" / "python3"
    stub.parent.mkdir()
    stub.write_text('#!/bin/sh\necho "$@"\n')
    stub.chmod(0o755)
    process = run(segmentation / "commands" / "train_3gpu.sh", PATH=f"{stub.parent}:/usr/bin:/bin")
    expected = f"-m nvmidl.apps.train -m {segmentation} -c config/config_train.json --set multi_gpu=true"
    assert process.stdout == f"-u -m torch.distributed.run --standalone --nproc_per_node 3 {expected}\n"


def test_ranks_of_a_real_mpirun_are_taken_over(monkeypatch: pytest.MonkeyPatch) -> None:
    names = (
        "RANK",
        "WORLD_SIZE",
        "LOCAL_RANK",
        "LOCAL_WORLD_SIZE",
        "MASTER_ADDR",
        "MASTER_PORT",
        "TORCHELASTIC_RUN_ID",
    )
    for name in names:
        monkeypatch.setenv(name, "")  # so that what is set below is undone
        monkeypatch.delenv(name)
    adopt_mpi_ranks()
    assert "RANK" not in os.environ
    for name, value in {"SIZE": "4", "RANK": "3", "LOCAL_RANK": "1", "LOCAL_SIZE": "2"}.items():
        monkeypatch.setenv(f"OMPI_COMM_WORLD_{name}", value)
    adopt_mpi_ranks()
    assert [os.environ[name] for name in names[:4]] == ["3", "4", "1", "2"]
    assert 20000 <= int(os.environ["MASTER_PORT"]) < 40000


@pytest.mark.parametrize("module", ["nvmidl", "medl"])
@pytest.mark.parametrize("app", ["train", "evaluate", "export"])
def test_both_module_names_run(module: str, app: str) -> None:
    command = [sys.executable, "-m", f"{module}.apps.{app}", "--help"]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    process = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert process.returncode == 0
    assert f"nvmidl.apps.{app}" in process.stdout
