"""Many trainings write to one store at once: every number of each is there, and none had to wait for later."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from tests import postgresql

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PROCESSES, STEPS, PARAMS = 4, 250, 300
# As a training does: parameters at first, then a few metrics a step, and a file now and then.
PROGRAM = f"""
import sys
from pathlib import Path
from voxflow.tracking import begin_run, continue_run
name = sys.argv[1]
Path(name).write_text(name)
with begin_run("load", params={{"set": {{f"p{{n}}": n for n in range({PARAMS})}}}}, part=name) as tracker:
    for step in range({STEPS}):
        tracker.log_metrics({{"train_loss": step / 7, "mean_dice": step / {STEPS}}}, step=step)
        if step % 50 == 0:
            tracker.log_artifact(Path(name))
with continue_run(tracker.run_id) as later:
    later.log_tags({{"later": name}})
print(tracker.run_id)
"""


@pytest.fixture(params=["sqlite", "postgresql"])
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with ExitStack() as stack:
        if request.param == "sqlite":
            yield f"sqlite:///{tmp_path}/mlflow.db"
        else:
            yield stack.enter_context(postgresql.start_server()).url("mlflow", "psycopg2")


@pytest.mark.slow
def test_four_writers_at_once_lose_nothing(uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    names = [f"writer-{number}" for number in range(PROCESSES)]
    started = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, name],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in names
    ]
    ended = [process.communicate(timeout=500) for process in started]
    assert [errors for _, errors in ended] == [""] * PROCESSES
    assert not list((tmp_path / ".voxflow").rglob("*.jsonl"))
    for name, (run_id, _) in zip(names, ended, strict=True):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # MLflow's own use of SQLAlchemy
            run, losses = read_history(run_id.strip())
        assert (run.info.status, run.data.tags["later"]) == ("FINISHED", name)
        assert run.info.run_name.startswith(f"load {name} ")
        assert run.data.params == {f"set.p{n}": str(n) for n in range(PARAMS)}
        assert losses == [(step, step / 7) for step in range(STEPS)]


def read_history(run_id: str) -> tuple[Any, list[tuple[int, float]]]:
    from mlflow import MlflowClient

    client = MlflowClient()
    history = sorted((m.step, m.value) for m in client.get_metric_history(run_id, "train_loss"))
    assert len(client.get_metric_history(run_id, "mean_dice")) == STEPS
    assert len(client.list_artifacts(run_id)) == 1
    return client.get_run(run_id), history
