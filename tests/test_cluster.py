"""Cases over a Dask cluster: every one once, lost ones named, and one clear line where there is no cluster."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from tests.cluster_jobs import die_at_three, double, fail_at_three, name_gpu, write_slowly
from tests.dask_cluster import start_two_workers
from tests.flows.repository import ROOT, environment
from tests.ports import reserve_port
from voxflow import cluster
from voxflow.cluster import Cluster, choose_cluster, open_executor
from voxflow.cluster_work import Identity
from voxflow.errors import ClusterError, ConfigError, DataError, MissingDependencyError
from voxflow.executor import Threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from voxflow.executor import Executor

OUT = Path("out")


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with start_two_workers(tmp_path_factory.mktemp("dask")) as running:
        yield running.scheduler_address


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    OUT.mkdir()


@pytest.fixture
def executor(scheduler: str) -> Iterator[Cluster]:
    with open_executor(scheduler) as opened:
        assert opened is not None
        yield opened


def run(executor: Executor, work: Callable[[int], int], count: int) -> dict[int, int | str]:
    return dict(executor.run(work, range(count), lost, into=OUT))


def lost(number: int, reason: str) -> int | str:
    return f"{number}: {reason}"


def test_every_case_is_done_as_threads_do_it(executor: Cluster) -> None:
    results = run(executor, double, 40)
    assert len({path.read_text() for path in OUT.iterdir()}) == 2
    assert len(list(OUT.iterdir())) == 40
    assert results == run(Threads(2), double, 40)


def test_a_case_that_fails_raises_what_it_would_here(executor: Cluster) -> None:
    with pytest.raises(DataError, match=r"^three\.nii: row 3: three is wrong$") as raised:
        run(executor, fail_at_three, 8)
    assert raised.value.where == "row 3"


def test_each_worker_of_this_machine_sees_one_gpu(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr(cluster, "list_gpus", lambda: ("GPU-1a", "GPU-2b"))
    with open_executor("local:2") as executor:
        assert executor is not None
        executor.prefer_gpus()
        assert executor._needs_gpu
        results = dict(executor.run(name_gpu, range(6), lambda number, reason: reason, into=OUT))
    assert set(results.values()) == {"GPU-1a", "GPU-2b"}
    assert "share" not in capsys.readouterr().err


def test_workers_without_a_gpu_are_passed_over_where_others_offer_one(executor: Cluster) -> None:
    executor.prefer_gpus()
    assert not executor._needs_gpu  # none of them offers one, and all of them work
    assert run(executor, double, 3) == {0: 0, 1: 2, 2: 4}
    executor._workers = {"a": {"resources": {}, "nthreads": 1}, "b": {"resources": {"GPU": 1}, "nthreads": 1}}
    executor.prefer_gpus()
    submitted: list[dict[str, object]] = []
    executor._client = SimpleNamespace(submit=lambda *_, **options: submitted.append(options))
    executor.submit(None, 1)  # type: ignore[arg-type]
    assert submitted[0]["resources"] == {"GPU": 1}


def test_the_loss_of_every_gpu_ends_the_run(executor: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    executor._needs_gpu = True
    monkeypatch.setattr(cluster, "POLL_S", 0)
    monkeypatch.setattr(cluster, "ALL_GONE_S", 0)
    with pytest.raises(ClusterError, match="has lost all of its workers that offer a GPU"):
        executor.check()


def test_a_case_that_kills_its_workers_is_named_and_the_others_are_done(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("distributed")
    with open_executor("local:2") as executor:
        assert executor is not None
        results = run(executor, die_at_three, 8)
    assert str(results.pop(3)).startswith("3: 4 Dask workers died at work on it, the last at tcp://127.0.0.1:")
    assert results == {number: 2 * number for number in range(8) if number != 3}
    assert sorted(path.name for path in OUT.iterdir()) == sorted(str(number) for number in results)
    assert "Traceback" not in capsys.readouterr().err


def test_whoever_stops_early_leaves_nobody_writing(executor: Cluster) -> None:
    running = executor.run(write_slowly, range(20), lost, into=OUT)
    next(running)
    running.close()
    begun = {path.name.partition("-")[2] for path in OUT.glob("begun-*")}
    assert len(begun) < 8
    time.sleep(0.5)
    assert {path.name for path in OUT.iterdir()} == {f"{event}-{n}" for event in ("begun", "ended") for n in begun}


def test_a_worker_that_sees_other_folders_is_named(executor: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "touch", lambda *_: None)
    with pytest.raises(ClusterError, match=r"the Dask worker tcp:.* does not see .*/out; workers need"):
        run(executor, double, 2)


def test_a_worker_with_other_code_is_named(executor: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    identity = Identity((("voxflow's code", "0123"), *Identity.of_this_process().parts[1:]))
    monkeypatch.setattr(Identity, "of_this_process", lambda: identity)
    with pytest.raises(ClusterError, match=r"with something else: voxflow's code is \w{12}, not 0123; renew"):
        run(executor, double, 2)


def test_a_scheduler_that_dies_ends_the_work() -> None:
    pytest.importorskip("distributed")
    address = f"tcp://127.0.0.1:{reserve_port()}"
    commands = [
        ["scheduler", "--host", "127.0.0.1", "--port", address.rpartition(":")[2], "--no-dashboard"],
        ["worker", address, "--nthreads", "1", "--no-nanny", "--death-timeout", "1", "--no-dashboard"],
    ]
    variables = environment() | {"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
    with contextlib.ExitStack() as stack:
        started = []
        for command in commands:
            program = [sys.executable, "-m", "dask", *command]
            started.append(stack.enter_context(subprocess.Popen(program, env=variables, stderr=subprocess.DEVNULL)))
            stack.callback(started[-1].kill)
        executor = stack.enter_context(open_executor(address))
        assert executor is not None
        running = executor.run(write_slowly, range(20), lost, into=OUT)
        next(running)
        started[0].kill()
        with pytest.raises(ClusterError, match=f"the connection to the Dask scheduler at {address} was lost"):
            list(running)


def test_a_scheduler_that_is_away_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "CONNECT_S", 0.5)
    with (
        pytest.raises(ClusterError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:9; start one with"),
        open_executor("tcp://127.0.0.1:9"),
    ):
        pass


@pytest.mark.parametrize("address", ["local:0", "10.0.0.1:8786", "tcp://host", "8"])
def test_an_address_of_another_form_is_wrong_input(address: str) -> None:
    with pytest.raises(ConfigError, match="expected tcp://HOST:PORT of a Dask scheduler"), open_executor(address):
        pass


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "find_spec", lambda _: None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'voxflow\[scale\]'"), open_executor("local:2"):
        pass


@pytest.mark.parametrize(
    ("variable", "params", "expected"),
    [
        (None, None, None),
        (None, "workspaces: {}", None),
        (None, "dask: null", None),
        (None, "dask: local:2", "local:2"),
        ("tcp://a:1", "dask: local:2", "tcp://a:1"),
        ("off", "dask: local:2", None),
        ("", "dask: local:2", "local:2"),
    ],
)
def test_the_variable_wins_over_the_parameter(
    variable: str | None, params: str | None, expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VOXFLOW_DASK", raising=False)
    if variable is not None:
        monkeypatch.setenv("VOXFLOW_DASK", variable)
    if params is not None:
        Path("params.yaml").write_text(params)
    assert choose_cluster() == expected
