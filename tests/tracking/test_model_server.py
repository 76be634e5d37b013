"""``mlflow models serve`` answers with the logits of the model that an export registered."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.inference.models import UNET, build_seeded, volume_spec
from tests.ports import reserve_port
from voxflow.engines import open_engine, write_onnx
from voxflow.tracking import begin_run

if TYPE_CHECKING:
    from pathlib import Path

READY_S = 300


def query_server(url: str, body: bytes | None = None) -> bytes:
    headers = {"Content-Type": "application/json"}
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(urllib.request.Request(url, body, headers), timeout=60) as answer:  # noqa: S310 - loopback
        return bytes(answer.read())


@pytest.mark.slow
def test_the_registered_model_is_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    write_onnx(build_seeded(UNET), volume_spec(), tmp_path / "model.onnx", 18)
    with begin_run("spleen") as tracker:
        uri = tracker.log_model(tmp_path / "model.onnx")
    version = mlflow.register_model(uri, "spleen").version
    port = reserve_port()
    # fmt: off
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", f"models:/spleen/{version}",
               "--env-manager", "local", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    # fmt: on
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | {"NO_PROXY": "*"})
        try:
            until = time.monotonic() + READY_S
            while True:
                try:
                    query_server(f"http://127.0.0.1:{port}/ping")
                    break
                except OSError:
                    assert server.poll() is None, (tmp_path / "log").read_text()
                    assert time.monotonic() < until, (tmp_path / "log").read_text()
                    time.sleep(0.5)
            batch = np.random.default_rng(0).normal(size=(1, 1, 16, 18, 8)).astype(np.float32)
            body = json.dumps({"inputs": {"image": batch.tolist()}}).encode()
            answer = json.loads(query_server(f"http://127.0.0.1:{port}/invocations", body))
        finally:
            server.terminate()
            server.wait(30)
    logits = np.asarray(answer["predictions"]["logits"], dtype=np.float32)
    assert np.abs(logits - open_engine(tmp_path / "model.onnx").run(batch)).max() < 1e-4
