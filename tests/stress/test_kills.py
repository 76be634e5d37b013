"""Every stage killed with -9 at two moments: what was finished stays, and the next run ends as if it never was."""

from __future__ import annotations

import random
import signal
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.stress.pipeline import STAGES, Pipeline, describe_table, drop_own
from tests.tasks.demo_cases import write_volumes

if TYPE_CHECKING:
    from pathlib import Path

OK = {"convert": 3}  # the sample holds a faulty series
pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="kills processes")


def list_lost(before: dict[str, str], after: dict[str, str]) -> list[str]:
    return sorted(name for name, digest in before.items() if after.get(name) != digest)


def require_end(pipeline: Pipeline, stage: str) -> None:
    result = pipeline.run(stage)
    assert result.returncode == OK.get(stage, 0), result.stderr[-2000:]


def test_a_stage_that_is_killed_at_two_moments_ends_as_if_it_never_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the midst of its files, and right after its folder is there."""
    monkeypatch.chdir(tmp_path)
    write_volumes(cases=3)
    block = {"task": "segmentation", "source": "raw", "resample": {"spacing_mm": [2, 2, 3]}}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump({"workspaces": {"demo": block}}))
    pipeline = Pipeline(tmp_path, "demo")
    steps = int(pipeline.run("resample", -1).stdout.rpartition("steps: ")[2])
    finished = pipeline.outputs()
    for moment in (steps, 2 * steps - 5):
        assert pipeline.run("resample", moment).returncode == -signal.SIGKILL
        assert list_lost(finished, pipeline.outputs()) == []
        assert pipeline.leftovers()
        require_end(pipeline, "resample")
        assert (pipeline.outputs(), pipeline.leftovers()) == (finished, [])


@pytest.mark.slow
@pytest.mark.timeout(5400)
def test_twenty_kills_over_the_whole_graph_lose_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pipeline, seed = Pipeline.make(tmp_path), random.randrange(2**32)
    chance = random.Random(seed)
    steps = {}
    for stage in STAGES:
        result = pipeline.run(stage, -1)
        assert result.returncode == OK.get(stage, 0), result.stderr[-2000:]
        steps[stage] = int(result.stdout.rpartition("steps: ")[2])
    finished = pipeline.outputs()
    rows: list[tuple[str, ...]] = [
        ("stage", "killed at", "lost at the kill", "other after the next run", "left behind")
    ]
    faults = []
    for stage in STAGES:
        total = 2 * steps[stage]
        for moment in sorted({chance.randrange(total // 2), chance.randrange(total // 2, total)}):
            killed = pipeline.run(stage, moment)
            if killed.returncode != -signal.SIGKILL:
                # A run that finds more done takes fewer steps.
                rows.append((stage, f"{moment} of {total}", "ended before", "", ""))
                continue
            lost = list_lost(drop_own(stage, finished), pipeline.outputs())
            require_end(pipeline, stage)
            names = (lost, list_lost(finished, pipeline.outputs()), pipeline.leftovers())
            rows.append((stage, f"{moment} of {total}", *(", ".join(part) or "nothing" for part in names)))
            faults += [f"{stage} at {moment}: {part}" for part in names if part]
    with capsys.disabled():
        print(describe_table(f"Kills (seed {seed})", rows))  # noqa: T201 - the table is what the test is run for
    assert faults == []
    assert sum(row[2] != "ended before" for row in rows[1:]) >= 15
