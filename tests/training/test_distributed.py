"""Two processes under torchrun, on one machine or two, learn what one would, and a lost one ends the other."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import psutil
import pytest

from tests.ports import reserve_port
from tests.tables import read_table
from tests.training.conftest import volume_config, workflow_of
from voxflow.errors import ConfigError
from voxflow.files import write_json
from voxflow.tracking import NullTracker
from voxflow.training import TrainOptions, train
from voxflow.training.distributed import World

if TYPE_CHECKING:
    from voxflow.datalist import Datalist
    from voxflow.training import DataFacts

ROOT = Path(__file__).resolve().parent.parent.parent
OPTIONS = {"accelerator": "cpu", "threads": 1, "workers": 0, "seed": 3, "precision": "fp32"}


def config(batch: int, epochs: int) -> dict[str, Any]:
    content = volume_config() | {"epochs": epochs, "num_training_epoch_per_valid": 1, "multi_gpu": True}
    content["train"]["image_pipeline"]["args"]["output_batch_size"] = batch
    return content


def torchrun(cubes: Path, folder: Path, configuration: dict[str, Any], **options: Any) -> subprocess.Popen[str]:
    """Start two processes; they write below ``folder``/two."""
    write_json(folder / "two.json", configuration)
    program = ["-m", "tests.training.program", str(cubes), str(folder / "two.json"), str(folder / "two")]
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    return subprocess.Popen(
        [sys.executable, *launcher, *program, json.dumps(OPTIONS | options)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )


def two_nodes(cubes: Path, folder: Path, configuration: dict[str, Any], **options: Any) -> list[subprocess.Popen[str]]:
    """Start torchrun as on two machines: each with its own copy of the data, its own cache and its own folder."""
    write_json(folder / "two.json", configuration)
    address = ["--nnodes=2", "--nproc-per-node=1", "--master-addr=127.0.0.1", f"--master-port={reserve_port()}"]
    nodes = []
    for rank in (0, 1):
        node_folder = folder / f"node{rank}"
        shutil.copytree(cubes, node_folder / "data")
        program = [
            "-m",
            "tests.training.program",
            str(node_folder / "data"),
            str(folder / "two.json"),
            str(node_folder / "out"),
        ]
        launcher = ["-m", "torch.distributed.run", *address, f"--node-rank={rank}"]
        variables = {
            "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}",
            "OMP_NUM_THREADS": "1",
            "VOXFLOW_CACHE": str(node_folder / "cache"),
        }
        command = [sys.executable, *launcher, *program, json.dumps(OPTIONS | options)]
        nodes.append(subprocess.Popen(command, cwd=ROOT, env=os.environ | variables, stderr=subprocess.PIPE, text=True))
    return nodes


def test_two_machines_learn_what_one_process_does_and_the_first_writes(
    tmp_path: Path, cubes: Datalist, facts: DataFacts
) -> None:
    nodes = two_nodes(cubes.root, tmp_path, config(batch=2, epochs=3))
    outputs = [node.communicate(timeout=500)[1] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], outputs
    workflow = workflow_of(config(batch=4, epochs=3), tmp_path)
    options = TrainOptions.model_validate(OPTIONS)
    train(workflow, cubes, options, tmp_path / "one", facts=facts, tracker=NullTracker())
    for name in ("train_loss", "mean_dice"):
        two, single = (
            [float(row[name]) for row in read_table(tmp_path / n / "curves.csv")] for n in ("node0/out", "one")
        )
        assert two == pytest.approx(single, rel=1e-4)
    assert (tmp_path / "node0/out/model.pt").is_file()
    assert not (tmp_path / "node1/out").exists()
    prepared = [len(list((tmp_path / node / "cache").rglob("*.case"))) for node in ("node0", "node1")]
    assert prepared[0] == prepared[1] > 0


@pytest.mark.slow
def test_a_killed_machine_ends_the_other_with_a_reason(tmp_path: Path, cubes: Datalist) -> None:
    first, second = two_nodes(cubes.root, tmp_path, config(batch=2, epochs=5000), peer_timeout_minutes=0.2)
    wait_for(tmp_path / "node0/out/state.pt", first)
    for child in [*psutil.Process(second.pid).children(recursive=True), psutil.Process(second.pid)]:
        child.kill()
    killed = time.monotonic()
    second.communicate(timeout=60)
    _, output = first.communicate(timeout=60)
    assert first.returncode != 0
    assert time.monotonic() - killed < 45
    assert "another process of this training has ended or does not answer" in output
    assert "the same command goes on from the last state.pt" in output
    assert (tmp_path / "node0/out/state.pt").is_file()


class Pair(World):
    """Two processes, of which the other one says what the test has it say."""

    second: ClassVar[dict[str, str]] = {"configuration": "a", "data": "c", "start weights": ""}

    def gather(self, value: Any) -> list[Any]:
        return [value, self.second]


def test_a_machine_with_other_data_is_named() -> None:
    Pair(size=2).require_same(Pair.second)
    with pytest.raises(ConfigError, match="process 1 of this training has other data than the first; bring its mach"):
        Pair(size=2).require_same(Pair.second | {"data": "b"})


def test_two_processes_learn_what_one_does_with_the_same_global_batch(
    tmp_path: Path, cubes: Datalist, facts: DataFacts
) -> None:
    with torchrun(cubes.root, tmp_path, config(batch=2, epochs=3)) as process:
        _, output = process.communicate(timeout=500)
    assert process.returncode == 0, output
    workflow = workflow_of(config(batch=4, epochs=3), tmp_path)
    options = TrainOptions.model_validate(OPTIONS)
    train(workflow, cubes, options, tmp_path / "one", facts=facts, tracker=NullTracker())
    for name in ("train_loss", "mean_dice"):
        two, single = ([float(row[name]) for row in read_table(tmp_path / n / "curves.csv")] for n in ("two", "one"))
        assert two == pytest.approx(single, rel=1e-4)
    assert len(re.findall("^epoch 1: loss", output, re.MULTILINE)) == 1


def test_a_killed_process_ends_the_other_with_a_reason(tmp_path: Path, cubes: Datalist) -> None:
    with torchrun(cubes.root, tmp_path, config(batch=2, epochs=5000), peer_timeout_minutes=0.2) as process:
        wait_for(tmp_path / "two" / "state.pt", process)
        workers = [child for child in psutil.Process(process.pid).children(recursive=True) if is_worker(child)]
        second = next(child for child in workers if child.environ()["RANK"] == "1")
        second.send_signal(signal.SIGKILL)
        killed = time.monotonic()
        _, output = process.communicate(timeout=60)
    assert process.returncode != 0
    assert time.monotonic() - killed < 45
    assert "another process of this training has ended or does not answer" in output
    assert not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in workers)


def is_worker(process: psutil.Process) -> bool:
    return "tests.training.program" in process.cmdline() and "RANK" in process.environ()


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert process.poll() is None, process.stderr and process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_multi_gpu_on_one_device_is_one_line(
    tmp_path: Path, cubes: Datalist, facts: DataFacts, capsys: pytest.CaptureFixture[str]
) -> None:
    workflow = workflow_of(config(batch=4, epochs=1), tmp_path)
    options = TrainOptions.model_validate(OPTIONS)
    result = train(workflow, cubes, options, tmp_path / "one", facts=facts, tracker=NullTracker())
    assert result.ending == "finished"
    assert "multi_gpu: there is one device here, training goes on with it" in capsys.readouterr().err
