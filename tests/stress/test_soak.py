"""Eight clients and as many attackers at one service for a minute: nothing that was accepted is lost, nothing stays.

Every kind of hostile upload must have had its own refusal at least once: its status, and its reason in one line. It
ends with a table of what was sent and what became of it, which pytest shows even where nothing failed.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import numpy as np
import psutil
import pytest

from tests.dicom.objects import Series, random_values
from tests.inference.models import save_unet
from tests.ports import reserve_port
from tests.stress.hostile import (
    RAW,
    RAW_STATUS,
    REFUSALS,
    make_uploads,
    read_refusal,
    send_raw,
    write_nifti,
    zip_dicom,
)
from voxflow.engines import open_engine
from voxflow.geometry import Geometry
from voxflow.prediction import PredictOptions, predict_volume
from voxflow.volumes import Volume, read_volume

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.slow
SECONDS = float(os.environ.get("VOXFLOW_SOAK_SECONDS", "60"))
CLIENTS, SLOW_SENDERS, IDLE_SOCKETS = 8, 10, 60
MAX_GROWTH = 1 << 30  # of memory; measured on two cores: below a third of it
RIGHT, BUSY, CUT, LOST = "answered rightly", "told to come back", "hung up on", "lost"
OUTCOMES = (RIGHT, BUSY, CUT, LOST)


@dataclass
class Soak:
    """The service under load, and what became of each request.

    Attributes:
        url: of the service.
        port: likewise.
        process: the service.
        scratch: the folder of its temporary files.
        ends: when nobody begins a new request any more.
        outcomes: how often each outcome was, by kind of request; a refusal is its status and what it says.
        faults: what should not have been.
    """

    url: str
    port: int
    process: psutil.Process
    scratch: Path
    ends: float = 0.0
    outcomes: dict[str, Counter[str]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    largest: int = 0

    def note(self, kind: str, outcome: str, fault: str = "") -> None:
        with self.lock:
            self.outcomes.setdefault(kind, Counter())[outcome] += 1
            if fault:
                self.faults.append(f"{kind}: {fault}")

    @property
    def is_on(self) -> bool:
        return time.monotonic() < self.ends

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=120, trust_env=False)


@pytest.fixture
def soak(tmp_path: Path) -> Iterator[Soak]:
    """A service as people start it, with a folder of its own for temporary files."""
    model, port, scratch = save_unet(tmp_path / "model.pt"), reserve_port(), tmp_path / "scratch"
    scratch.mkdir()
    command = [sys.executable, "-c", "import sys; from voxflow.cli.main import main; sys.exit(main())", "serve"]
    environment = os.environ | {"TMPDIR": str(scratch), "OMP_NUM_THREADS": "1"}
    with (tmp_path / "log.txt").open("wb") as log:
        process = subprocess.Popen(
            [*command, str(model), "--port", str(port)], env=environment, stdout=log, stderr=log, cwd=tmp_path
        )
    try:
        soak = Soak(f"http://127.0.0.1:{port}", port, psutil.Process(process.pid), scratch)
        with soak.client() as client:
            wait_until(lambda: answers(client), 60, "the service does not begin")
            yield soak
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) in (0, -signal.SIGTERM)
        assert list_files(scratch) == []
        assert "Traceback" not in (tmp_path / "log.txt").read_text()
        assert (tmp_path / "log.txt").stat().st_size < 5_000_000
    finally:
        process.kill()
        process.wait()


def answers(client: httpx.Client) -> bool:
    try:
        return client.get("/health").status_code == 200
    except httpx.TransportError:
        return False


def wait_until(is_so: Callable[[], bool], seconds: float, message: str) -> None:
    ends = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < ends, message
        time.sleep(0.2)


def list_files(folder: Path) -> list[Path]:
    """What requests left: the service's own folder may stay, empty; one that goes meanwhile is no fault."""
    return [Path(place) / name for place, _, names in os.walk(folder) for name in names]


def make_images(folder: Path) -> list[tuple[bytes, np.ndarray]]:
    """Sound images with the masks that the model makes of them."""
    engine = open_engine(folder / "model.pt")
    images = []
    for seed in range(4):
        array = np.random.default_rng(seed).normal(0, 1, (24 + 4 * seed, 20, 12)).astype(np.float32)
        volume = Volume(array, Geometry.from_parts(array.shape, (1.0, 1.0, 1.0)))
        mask = predict_volume(engine, volume, PredictOptions()).mask.array
        images.append((write_nifti(folder, array), np.asarray(mask)))
    return images


def send_sound(soak: Soak, images: list[tuple[bytes, np.ndarray]], number: int, folder: Path) -> None:
    """One client: one image after the other, and each answer is the right mask."""
    path = folder / f"mask{number}.nii.gz"
    with soak.client() as client:
        for turn in range(1_000_000):
            if not soak.is_on:
                return
            body, expected = images[(number + turn) % len(images)]
            try:
                answer = client.post("/predict?format=nifti", content=body)
            except httpx.TransportError as error:
                soak.note("image", LOST, f"no answer: {error!r}")
                continue
            if answer.status_code == 503:
                soak.note("image", BUSY)
                time.sleep(0.1)
            elif answer.status_code != 200:
                soak.note("image", LOST, f"{answer.status_code}: {answer.text[:200]}")
            else:
                path.write_bytes(answer.content)
                is_right = np.array_equal(read_volume(path).array, expected)
                soak.note("image", RIGHT if is_right else LOST, "" if is_right else "another mask")


def send_study(soak: Soak, study: bytes) -> None:
    """A client that sends DICOM."""
    with soak.client() as client:
        while soak.is_on:
            answer = client.post("/predict", content=study)
            if answer.status_code == 503:
                soak.note("study", BUSY)
                time.sleep(0.1)
                continue
            is_seg = answer.status_code == 200 and answer.content[128:132] == b"DICM"
            soak.note("study", RIGHT if is_seg else LOST, "" if is_seg else f"{answer.status_code} {answer.text[:200]}")


def send_hostile(soak: Soak, uploads: dict[str, bytes], first: int) -> None:
    """An attacker: every kind in turn, each until it is refused, by its own status and reason."""
    kinds = list(uploads)
    with soak.client() as client:
        for turn in range(1_000_000):
            kind = kinds[(first + turn) % len(kinds)]
            while soak.is_on and not is_refused(soak, client, kind, uploads[kind]):
                time.sleep(0.1)
            if not soak.is_on:
                return


def is_refused(soak: Soak, client: httpx.Client, kind: str, body: bytes) -> bool:
    """Send a hostile upload once; False where the service has no place, or hung up before the answer could be read."""
    try:
        answer = client.post("/predict", content=body)
    except (httpx.WriteError, httpx.ReadError):
        soak.note(kind, CUT)
        return False
    except httpx.TransportError as error:
        soak.note(kind, LOST, f"no answer: {error!r}")
        return True
    if answer.status_code == 503:
        soak.note(kind, BUSY)
        return False
    status, reason = REFUSALS[kind]
    if answer.status_code == status and reason in read_refusal(answer.text):
        soak.note(kind, f"{status} {reason}")
    else:
        soak.note(kind, LOST, f"{answer.status_code}: {answer.text[:200]}")
    return True


def send_no_http(soak: Soak) -> None:
    """Bytes that are no request, and requests that end early."""
    while soak.is_on:
        for kind, data in RAW.items():
            line = send_raw(soak.port, data)
            status = line.split(" ")[1] if line.startswith("HTTP/1.1 ") else ""
            if status == str(RAW_STATUS[kind]):
                soak.note(kind, line.removeprefix("HTTP/1.1 "))
            elif status in ("", "503"):
                soak.note(kind, BUSY if status else CUT)
            else:
                soak.note(kind, LOST, line)
        time.sleep(0.2)


def send_slowly(soak: Soak) -> None:
    """A body of one byte a second, which never ends."""
    while soak.is_on:
        try:
            with socket.create_connection(("127.0.0.1", soak.port), timeout=5) as connection:
                connection.sendall(b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n")
                while soak.is_on:
                    connection.sendall(b"\x1f")
                    time.sleep(1)
        except OSError:
            soak.note("slow sender", CUT)
            time.sleep(0.5)


def watch_memory(soak: Soak) -> None:
    """The largest memory that the service and its children had."""
    while soak.is_on:
        total = 0
        for process in [soak.process, *soak.process.children(recursive=True)]:
            try:
                total += process.memory_info().rss
            except psutil.NoSuchProcess:
                continue
        soak.largest = max(soak.largest, total)
        time.sleep(0.2)


def list_refusals(counts: Counter[str]) -> list[str]:
    return [outcome for outcome in counts if outcome not in OUTCOMES]


def make_table(soak: Soak, before: int, seconds: float) -> str:
    widths = (36, 10, 10, 10, 6, 9)
    heads = ("kind", "answered", "busy", "hung up", "lost", "refused", "with")
    rows: list[tuple[str, ...]] = [heads]
    for kind, counts in soak.outcomes.items():
        refusals = list_refusals(counts)
        numbers = (*(counts[name] for name in OUTCOMES), sum(counts[name] for name in refusals))
        rows.append((kind, *map(str, numbers), "; ".join(refusals)))
    lines = ["".join(cell.ljust(n) for cell, n in zip(row[:-1], widths, strict=True)) + row[-1] for row in rows]
    lost = sum(counts[LOST] for counts in soak.outcomes.values())
    grown = f"memory {before >> 20} MB at rest, at most {soak.largest >> 20} MB"
    lines += [f"{seconds:.0f} s, {CLIENTS} clients, {SLOW_SENDERS} slow senders, {IDLE_SOCKETS} idle sockets; {grown}"]
    lines += ["", f"lost: {lost or 'nothing'}", *soak.faults[:20]]
    return "\n".join(lines)


def test_nothing_is_lost_under_a_crowd_and_hostile_uploads(
    soak: Soak, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    images, uploads = make_images(tmp_path), make_uploads(tmp_path)
    study = zip_dicom(Series(random_values((6, 20, 24)).clip(0)))
    with soak.client() as client:
        for body, _ in images:  # the engine's own buffers are there from now on
            assert client.post("/predict", content=body).status_code == 200
    before, begun = soak.process.memory_info().rss, time.monotonic()
    soak.ends = begun + SECONDS
    idle = [socket.create_connection(("127.0.0.1", soak.port)) for _ in range(IDLE_SOCKETS)]
    work: list[tuple[Callable[..., None], tuple[object, ...]]] = [
        *((send_sound, (soak, images, number, tmp_path)) for number in range(CLIENTS - 1)),
        (send_study, (soak, study)),
        *((send_hostile, (soak, uploads, 7 * number)) for number in range(4)),
        *((send_slowly, (soak,)) for _ in range(SLOW_SENDERS)),
        (send_no_http, (soak,)),
        (watch_memory, (soak,)),
    ]
    with ThreadPoolExecutor(len(work)) as pool:
        running = [pool.submit(function, *arguments) for function, arguments in work]
        for future in running:
            future.result()
    for connection in idle:
        connection.close()
    with capsys.disabled():
        sys.stdout.write("\n" + make_table(soak, before, time.monotonic() - begun) + "\n")

    assert not soak.faults
    assert soak.process.is_running()
    assert all(soak.outcomes[kind][RIGHT] for kind in ("image", "study")), "the crowd shut the clients out"
    unrefused = [kind for kind in (*uploads, *RAW) if not list_refusals(soak.outcomes.get(kind, Counter()))]
    assert unrefused == ["body cut short"], "each kind has a refusal of its own"
    assert soak.outcomes["slow sender"][CUT], "who sends a byte a second is not waited for"
    assert "POST /predict 400 received=200" in (tmp_path / "log.txt").read_text(), "a body that is cut off is counted"
    assert soak.largest - before < MAX_GROWTH
    with soak.client() as client:
        wait_until(lambda: client.get("/health").json()["waiting"] == 0, 30, "a request never ended")
        assert client.post("/predict", content=images[0][0]).status_code == 200
    wait_until(lambda: not list_files(soak.scratch), 30, "files were left behind")
