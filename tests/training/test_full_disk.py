"""A disk that is full, a real one of two megabytes: training goes on, ends with one line, and is continued later."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from tests.training.conftest import volume_config
from voxflow.files import write_json
from voxflow.training import read_checkpoint

if TYPE_CHECKING:
    from voxflow.datalist import Datalist

ROOT = Path(__file__).resolve().parents[2]
NAMESPACE = ("unshare", "--user", "--map-root-user", "--mount")
OPTIONS = {"accelerator": "cpu", "threads": 1, "workers": 0, "seed": 3, "precision": "fp32", "state_epochs": 1}
# $1 the folder of the small disk, $2 where what is kept goes; then the program.
FILLED_WHILE_IT_TRAINS = """
mount -t tmpfs -o size=2m tmpfs "$1" || exit 99
small=$1; kept=$2; shift 2
"$@" & pid=$!
while [ ! -e "$small/m/state.pt" ] && kill -0 $pid; do sleep 0.02; done
dd if=/dev/zero of="$small/filler" bs=4k 2>/dev/null
wait $pid; echo $? > "$kept/code"; ls -A "$small/m" > "$kept/left"
rm "$small/filler"
"$@"; echo $? > "$kept/second"
cp "$small"/m/model*.pt "$kept"
"""
FULL_FROM_THE_BEGINNING = """
mount -t tmpfs -o size=64k tmpfs "$1" || exit 99
small=$1; kept=$2; shift 2
"$@"; echo $? > "$kept/code"; find "$small" -name '.partial-*' > "$kept/left"
"""


def on_a_small_disk(script: str, tmp_path: Path, cubes: Datalist, cache: Path) -> str:
    """Train in a namespace of its own, where ``tmp_path``/small is a small disk; return what was said."""
    if subprocess.run([*NAMESPACE, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine lets no user mount a disk in a namespace of its own")
    small, saved = tmp_path / "small", tmp_path / "kept"
    small.mkdir()
    saved.mkdir()
    config = volume_config() | {"epochs": 8, "num_training_epoch_per_valid": 1}
    write_json(tmp_path / "config.json", config)
    program = [sys.executable, "-m", "tests.training.program", str(cubes.root), str(tmp_path / "config.json")]
    options: dict[str, Any] = OPTIONS | {"cache": {"folder": str(cache)}}
    result = subprocess.run(
        [*NAMESPACE, "sh", "-c", script, "sh", str(small), str(saved), *program, str(small / "m"), json.dumps(options)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=1200,
    )
    if result.returncode == 99:
        pytest.skip(f"this machine lets no user mount a disk: {result.stderr.strip()}")
    return result.stderr


def read(path: Path) -> list[str]:
    return path.read_text().split()


def weights(path: Path) -> torch.Tensor:
    return torch.cat([value.flatten().double() for value in read_checkpoint(path)["state_dict"].values()])


@pytest.mark.slow
def test_a_disk_that_fills_up_does_not_end_training_and_a_continuation_ends_in_the_same_weights(
    tmp_path: Path, cubes: Datalist
) -> None:
    output = on_a_small_disk(FILLED_WHILE_IT_TRAINS, tmp_path, cubes, tmp_path / "cache")
    assert "epoch 8: loss" in output.partition("error: ")[0]
    assert output.count("warning: the curves could not be written, training goes on: [Errno 28]") == 1
    assert "warning: state.pt could not be written, training goes on" in output
    assert re.search(r"error: .*No space left on device: '.*model_final.pt'", output)
    assert "Traceback" not in output
    assert read(tmp_path / "kept/code") == ["1"]
    remaining = read(tmp_path / "kept/left")
    assert {"model.pt", "state.pt"} <= set(remaining)
    assert not [name for name in remaining if name.startswith(".partial-")]
    assert read(tmp_path / "kept/second") == ["0"]
    assert "continuing the run in" in output
    (tmp_path / "whole").mkdir()
    undisturbed = tmp_path / "whole/m"
    program = [sys.executable, "-m", "tests.training.program", str(cubes.root), str(tmp_path / "config.json")]
    options = json.dumps(OPTIONS | {"cache": {"folder": str(tmp_path / "cache")}})
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "OMP_NUM_THREADS": "1"}
    subprocess.run([*program, str(undisturbed), options], cwd=ROOT, env=environment, capture_output=True, check=True)
    for name in ("model.pt", "model_final.pt"):
        assert torch.equal(weights(tmp_path / "kept" / name), weights(undisturbed / name))


def test_a_disk_without_room_for_the_cases_is_one_line(tmp_path: Path, cubes: Datalist) -> None:
    output = on_a_small_disk(FULL_FROM_THE_BEGINNING, tmp_path, cubes, tmp_path / "small/cache")
    assert read(tmp_path / "kept/code") == ["1"]
    assert read(tmp_path / "kept/left") == []
    (line,) = [line for line in output.splitlines() if line.startswith("error: ")]
    assert "[Errno 28] No space left on device" in line
    assert str(tmp_path / "small/cache") in line
    assert "Traceback" not in output
