"""Slow clients, many connections, stops and kills: who is in a hurry is served, and nothing is left behind."""

from __future__ import annotations

import os
import resource
import signal
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.inference.models import ThresholdEngine, save_unet
from tests.serving.servers import (
    SMALL,
    ServiceProcess,
    SlowEngine,
    ask,
    connect,
    list_uploads,
    read_answer,
    run_service,
)
from voxflow.geometry import Geometry
from voxflow.serving import limits as serving_limits
from voxflow.serving.connections import BACKLOG, RESERVE, count_allowed_connections, open_listeners
from voxflow.serving.requestlog import RareNotes
from voxflow.serving.scratch import PREFIX, ScratchFolder
from voxflow.volumes import Volume, write_volume

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TOKEN = "a-token-of-many-characters"  # noqa: S105 - of these tests


@pytest.fixture(scope="module")
def body(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("body") / "a.nii.gz"
    write_volume(path, Volume(np.ones((16, 16, 8), np.float32), Geometry.from_parts((16, 16, 8), (1, 1, 1))))
    return path.read_bytes()


def post(body: bytes, headers: bytes = b"") -> bytes:
    return b"POST /predict HTTP/1.1\r\nHost: a\r\n%sContent-Length: %d\r\n\r\n%s" % (headers, len(body), body)


def get(page: str) -> bytes:
    return f"GET {page} HTTP/1.1\r\nHost: a\r\n\r\n".encode()


def test_slow_senders_keep_nobody_waiting(body: bytes) -> None:
    order: list[str] = []

    def send_slowly(connection: socket.socket) -> None:
        connection.sendall(post(body)[:-10])
        for byte in body[-10:]:
            is_hurried.wait(0.3)
            connection.sendall(bytes([byte]))
        assert read_answer(connection)[0] == 200
        order.append("slow")

    is_hurried = threading.Event()
    limits = SMALL.model_copy(update={"waiting": 10})
    with (
        run_service(ThresholdEngine(), limits) as (port, service),
        ExitStack() as stack,
        ThreadPoolExecutor(10) as pool,
    ):
        assert ask(port, post(body))[0] == 200
        senders = [pool.submit(send_slowly, stack.enter_context(connect(port))) for _ in range(10)]
        while len(service._receiving) < 10:
            time.sleep(0.01)
        assert ask(port, get("/ready"))[1] == {"status": "ready", "waiting": 0}
        assert b"voxflow_requests_receiving 10\n" in ask(port, get("/metrics"))[1]
        assert ask(port, post(body))[0] == 200
        order.append("hurried")
        is_hurried.set()
        for sender in senders:
            sender.result()
    # Each has its answer, after the one in a hurry.
    assert order == ["hurried", *["slow"] * 10]


def test_a_body_that_comes_too_slowly_is_given_up(body: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("voxflow.serving.app.GRACE_SECONDS", 0.3)
    with run_service(ThresholdEngine()) as (port, _):
        status, answer = ask(port, post(body)[:-10])
        assert (status, "too slow" in answer["error"]) == (408, True)
    assert serving_limits.GRACE_SECONDS > 10  # honest clients may well pause


def test_uploads_together_are_bounded(body: bytes) -> None:
    limits = SMALL.model_copy(update={"waiting": 1})
    with run_service(ThresholdEngine(), limits) as (port, service), ExitStack() as stack:
        for _ in range(4):
            connection = stack.enter_context(connect(port))
            connection.sendall(post(bytes(800_000))[:-10])
        while len(service._receiving) < 2 or service.upload_bytes < 1_500_000:
            time.sleep(0.01)
        assert service.upload_bytes <= 2 << 20


class GatedEngine(SlowEngine):
    """Begins when it may, so that the second request is there while the first is computed, however busy the machine."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()

    def run(self, batch: np.ndarray) -> np.ndarray:
        assert self.gate.wait(60)
        return super().run(batch)


def test_health_readiness_and_metrics_are_right_while_the_engine_is_busy(body: bytes) -> None:
    engine, begun = GatedEngine(), time.perf_counter()
    with run_service(engine, SMALL.model_copy(update={"waiting": 1})) as (port, service):
        with ThreadPoolExecutor(2) as pool:
            first = pool.submit(ask, port, post(body))
            while service.accepted < 1:
                time.sleep(0.01)
            assert ask(port, get("/ready"))[1] == {"status": "ready", "waiting": 1}
            second = pool.submit(ask, port, post(body))
            while service.accepted < 2:
                time.sleep(0.01)
            status, answer = ask(port, get("/ready"))
            assert (status, answer["error"]) == (503, "2 requests are waiting; come back later")
            assert ask(port, get("/health"))[1]["waiting"] == 2
            engine.gate.set()
            assert [first.result()[0], second.result()[0]] == [200, 200]
        assert service.wait_seconds >= SlowEngine.seconds  # the second one's
        assert ask(port, post(b"hello"))[0] == 415
        lines = ask(port, get("/metrics"))[1].decode().splitlines()
        seconds = next(float(line.split()[1]) for line in lines if line.startswith("voxflow_inference_seconds_total"))
        # Two inferences, neither the time in the queue nor what was refused.
        assert 2 * SlowEngine.seconds <= seconds < time.perf_counter() - begun
        assert 'voxflow_requests_total{status="415"} 1' in lines


def test_idle_connections_go_for_those_that_ask(body: bytes) -> None:
    with run_service(ThresholdEngine(), SMALL.model_copy(update={"connections": 5})) as (port, _), ExitStack() as stack:
        idle = [stack.enter_context(connect(port)) for _ in range(30)]
        assert ask(port, post(body))[0] == 200
        assert idle[0].recv(1) == b""


def test_where_all_connections_are_at_work_others_are_told_to_come_back(body: bytes) -> None:
    with (
        run_service(ThresholdEngine(), SMALL.model_copy(update={"connections": 3})) as (port, service),
        ExitStack() as s,
    ):
        for _ in range(3):
            s.enter_context(connect(port)).sendall(post(body)[:-10])
        while len(service._receiving) < 3:
            time.sleep(0.01)
        assert ask(port, b"")[0] == 503


def test_connections_end_before_descriptors_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 256))
    monkeypatch.setattr(resource, "setrlimit", lambda *_: None)
    assert 0 < count_allowed_connections(1000) <= 256 - BACKLOG - RESERVE
    monkeypatch.setattr(resource, "getrlimit", lambda _: (64, 64))
    with pytest.raises(Exception, match="ulimit -n"):
        count_allowed_connections(1000)


def test_faults_that_repeat_are_said_seldom(caplog: pytest.LogCaptureFixture) -> None:
    notes = RareNotes()
    for _ in range(2000):
        notes.add("error: OSError at accept")
    assert caplog.text.count("OSError") == 1


def test_a_port_in_use_is_an_error_and_a_missing_kind_of_address_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    (first,) = open_listeners("127.0.0.1", 0)
    with first, pytest.raises(OSError, match="in use"):
        open_listeners("127.0.0.1", first.getsockname()[1])
    infos = [(socket.AF_INET, 1, 6, "", (host, 0)) for host in ("203.0.113.7", "127.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: infos)
    (second,) = open_listeners("localhost", 0)
    second.close()


def test_a_client_that_does_not_read_its_answer_is_given_up(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    volume = Volume(rng.random((300, 300, 40)).astype(np.float32), Geometry.from_parts((300, 300, 40), (1, 1, 1)))
    write_volume(tmp_path / "a.nii", volume)
    limits = SMALL.model_copy(update={"upload_mb": 20, "unpacked_mb": 20, "send_seconds": 0.3})
    with run_service(ThresholdEngine(), limits) as (port, service), socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", port))
        connection.sendall(post((tmp_path / "a.nii").read_bytes()))
        ends = time.monotonic() + 20  # sooner than an idle connection would go
        while (service.connections or list_uploads(service)) and time.monotonic() < ends:
            time.sleep(0.02)
        assert not service.connections
        assert not list_uploads(service)


def test_a_token_is_asked_for(body: bytes) -> None:
    with run_service(ThresholdEngine(), token=TOKEN) as (port, _):
        right = b"Authorization: Bearer %s\r\n" % TOKEN.encode()
        for headers in (
            b"",
            b"Authorization: Bearer\r\n",
            b"Authorization: Bearer x%s\r\n" % TOKEN.encode(),
            b"Authorization: Bearer %s\r\n" % TOKEN[:-1].encode(),
            b"Authorization: Basic %s\r\n" % TOKEN.encode(),
            b"Authorization: Bearer \xff\xfe\r\n",
            right * 2,
        ):
            with connect(port) as connection:
                connection.sendall(post(body, headers))
                stream = connection.makefile("rb")
                assert stream.readline() == b"HTTP/1.1 401 Unauthorized\r\n"
                assert any(
                    line.lower().startswith(b"www-authenticate: bearer") for line in iter(stream.readline, b"\r\n")
                )
        assert ask(port, post(body, right))[0] == 200
        assert ask(port, post(body, right.replace(b"Bearer", b"bearer")))[0] == 200
        assert [ask(port, get(page))[0] for page in ("/health", "/ready", "/metrics", "/nothing")] == [
            200,
            200,
            401,
            401,
        ]


def test_the_folder_of_a_dead_server_is_removed_and_never_that_of_a_live_one(tmp_path: Path) -> None:
    live = ScratchFolder(tmp_path)
    (live.make_folder() / "upload").touch()
    dead = tmp_path / f"{PREFIX}dead"
    (dead / "request").mkdir(parents=True)
    (dead / "request" / "upload").touch()
    (tmp_path / f"{PREFIX}link").symlink_to(tmp_path / "other")
    (tmp_path / "other").mkdir()
    another = ScratchFolder(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {live.path.name, another.path.name, f"{PREFIX}link", "other"}
    live.close()
    another.close()
    assert not live.path.exists()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_unet(tmp_path_factory.mktemp("model") / "model.pt")


@pytest.fixture
def started(tmp_path: Path) -> Iterator[list[ServiceProcess]]:
    processes: list[ServiceProcess] = []
    yield processes
    for process in processes:
        process.end()


SERVE = ["-m", "voxflow.cli.main", "serve"]


def test_the_command_keeps_its_token_and_its_clients_secret(
    started: list[ServiceProcess], model: Path, tmp_path: Path, body: bytes
) -> None:
    log = tmp_path / "logs" / "serve.log"
    command = [*SERVE, str(model), "--port", "0", "--host", "0.0.0.0", "--log", str(log)]  # noqa: S104 - a test
    service = ServiceProcess(command, tmp_path, VOXFLOW_SERVE_TOKEN=TOKEN)
    started.append(service)
    bearer = b"Authorization: Bearer %s\r\n" % TOKEN.encode()
    assert ask(service.port, post(body, bearer))[0] == 200
    assert ask(service.port, get("/Doe%0d%0aJohn?token=" + TOKEN))[0] == 401
    assert ask(service.port, post(body))[0] == 401
    # Accepted work is answered before the end; a body that is still coming is not waited for.
    with connect(service.port) as slow, connect(service.port) as quick:
        slow.sendall(post(body, bearer)[:-10])
        quick.sendall(post(body, bearer))
        time.sleep(0.2)
        service.process.send_signal(signal.SIGTERM)
        assert read_answer(quick)[0] == 200
        assert read_answer(slow) == (503, {"error": "the service is stopping"})
    assert service.process.wait(60) == -signal.SIGTERM
    assert service.list_scratch() == []
    lines = log.read_text().splitlines()
    assert sorted(line.split()[2:5] for line in lines if "/health" not in line) == [
        ["GET", "-", "401"],
        ["POST", "/predict", "200"],
        ["POST", "/predict", "200"],
        ["POST", "/predict", "401"],
        ["POST", "/predict", "503"],
    ]
    everything = "\n".join([*lines, service.errors.read_text()])
    assert TOKEN not in everything
    assert "Doe" not in everything
    assert "warning" not in everything


@pytest.mark.slow
def test_a_killed_server_is_cleared_away_by_the_next_one_and_idle_sockets_write_no_log(
    started: list[ServiceProcess], model: Path, tmp_path: Path, body: bytes
) -> None:
    first = ServiceProcess([*SERVE, str(model), "--port", "0"], tmp_path)
    started.append(first)
    with connect(first.port) as slow:
        slow.sendall(post(body)[:-10])
        ends = time.monotonic() + 30
        while not list(first.scratch.glob("*/*/upload")) and time.monotonic() < ends:
            time.sleep(0.02)
        assert len(first.list_scratch()) == 1
        first.process.kill()
        first.process.wait()
    left = first.list_scratch()
    assert len(left) == 1
    shell = (
        f"import resource, os; resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256)); os.execv({sys.executable!r}, "
    )
    second = ServiceProcess(["-c", f"{shell}{[sys.executable, *SERVE, str(model), '--port', '0']!r})"], tmp_path)
    started.append(second)
    assert not left[0].exists()
    with ExitStack() as stack:
        for _ in range(300):
            stack.enter_context(connect(second.port))
        assert ask(second.port, post(body))[0] == 200
    assert len(second.errors.read_bytes()) < 10_000


def test_what_is_no_token_is_refused_and_not_repeated(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from voxflow.cli.main import main
    from voxflow.serving import load_token

    for text in ("", "secret", "secret secret secret", "s" * 20 + "é"):
        (tmp_path / "token").write_text(text, encoding="utf-8")
        assert main(["serve", str(model), "--token-file", str(tmp_path / "token")]) == 2
        error = capsys.readouterr().err
        assert "16 or more letters" in error
        assert "secret" not in error
    assert main(["serve", str(model), "--token-file", str(tmp_path / "none")]) == 2
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    monkeypatch.setenv("VOXFLOW_SERVE_TOKEN", "of-the-environment")
    assert load_token(tmp_path / "token") == TOKEN
    assert "VOXFLOW_SERVE_TOKEN" not in os.environ
    assert load_token(None) is None
