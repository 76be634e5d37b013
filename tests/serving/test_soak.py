"""Eight clients for a minute, with every hostile request between theirs: each has its answer, and nothing is left."""

from __future__ import annotations

import itertools
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import psutil
import pytest

from tests.inference.models import ThresholdEngine
from tests.serving.servers import ask, run_service
from tests.serving.test_hostile_requests import LIMITS, REQUESTS, post, wait_until_empty
from voxflow.geometry import Geometry
from voxflow.volumes import Volume, read_volume, write_volume

if TYPE_CHECKING:
    from pathlib import Path

SECONDS = 60
CLIENTS = 8
GRID = Geometry.from_parts((24, 20, 10), (1, 1, 5))


@pytest.mark.slow
def test_eight_clients_lose_nothing_among_hostile_ones_and_memory_stays(tmp_path: Path) -> None:
    arrays = [np.random.default_rng(n).random(GRID.size).astype(np.float32) for n in range(CLIENTS)]
    for n, array in enumerate(arrays):
        write_volume(tmp_path / f"sent{n}.nii.gz", Volume(array, GRID))
    ends = time.monotonic() + SECONDS
    process = psutil.Process()
    counts: Counter[str] = Counter()

    def keep_sending(n: int, port: int) -> None:
        request = post((tmp_path / f"sent{n}.nii.gz").read_bytes())
        while time.monotonic() < ends:
            counts[f"client {n}: sent"] += 1
            status, body = ask(port, request)
            assert status == 200, body
            (tmp_path / f"got{n}.nii.gz").write_bytes(body)
            assert np.array_equal(read_volume(tmp_path / f"got{n}.nii.gz").array, arrays[n] > 0.5)
            counts[f"client {n}: answered"] += 1

    def keep_attacking(port: int) -> None:
        for name in itertools.cycle(REQUESTS):
            if time.monotonic() > ends:
                return
            request, status, _ = REQUESTS[name]
            counts["hostile: sent"] += 1
            assert ask(port, request)[0] == status, name
            counts["hostile: answered"] += 1

    with run_service(ThresholdEngine(), LIMITS.model_copy(update={"waiting": CLIENTS})) as (port, service):
        with ThreadPoolExecutor(CLIENTS + 1) as pool:
            running = [pool.submit(keep_sending, n, port) for n in range(CLIENTS)]
            running.append(pool.submit(keep_attacking, port))
            time.sleep(SECONDS / 3)
            early = process.memory_info().rss
            for future in running:
                future.result()
        wait_until_empty(service)
    sys.stdout.write("\n".join(f"{name} {count}" for name, count in sorted(counts.items())))
    for name in [*(f"client {n}" for n in range(CLIENTS)), "hostile"]:
        assert counts[f"{name}: sent"] == counts[f"{name}: answered"] > 5
    assert process.memory_info().rss < early * 1.2
