"""Every stage on a real disk that is full: one line, exit code 1, nothing half written, and done once there is room."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.stress.pipeline import ROOT, STAGES, Pipeline, describe_table, drop_own

if TYPE_CHECKING:
    from collections.abc import Iterator

NAMESPACE = ("unshare", "--user", "--map-root-user", "--mount")
SIZE_MB = 160
# Left free: nothing, what takes a few small files, and what takes some of the stage's own.
ROOMS_KB = (0, 60, 1500)


def fill(folder: Path, room_kb: int) -> Path:
    """Fill a disk with one file until so much is free."""
    filler = folder / "filler"
    free = shutil.disk_usage(folder).free - room_kb * 1024
    with filler.open("wb") as stream:
        while free > 0:
            size = min(free, 1 << 20)
            try:
                stream.write(bytes(size))
                stream.flush()
            except OSError:
                break
            free -= size
    return filler


def starve(pipeline: Pipeline, stage: str) -> Iterator[dict[str, Any]]:
    """Run a stage on a disk with hardly any room, and then with enough; yields what came of each run."""
    for room in ROOMS_KB:
        before = drop_own(stage, pipeline.outputs())
        filler = fill(pipeline.root, room)
        result = pipeline.run(stage)
        filler.unlink()
        after = pipeline.outputs()
        errors = [line for line in result.stderr.splitlines() if line.startswith(f"{stage} ") and "error: " in line]
        yield {
            "stage": stage,
            "room": room,
            "code": result.returncode,
            "errors": errors,
            "traceback": "Traceback" in result.stderr,
            "lost": sorted(name for name, digest in before.items() if after.get(name) != digest),
            "left": pipeline.leftovers(),
            "said": result.stderr[-1500:],
        }
    result = pipeline.run(stage)
    left, said = pipeline.leftovers(), result.stderr[-1500:]
    yield {"stage": stage, "room": -1, "code": result.returncode, "left": left, "said": said}


def main(folder: Path) -> None:
    """Run all stages on the small disk that is mounted here; prints a row of JSON for each."""
    pipeline = Pipeline.make(folder)
    for stage in STAGES:
        for row in starve(pipeline, stage):
            sys.stdout.write(json.dumps(row) + "\n")
            sys.stdout.flush()


def find_faults(row: dict[str, Any]) -> list[str]:
    """What a stage on a full disk should not have done."""
    if row["room"] == -1:
        is_wrong = row["code"] not in (0, 3) or row["left"]
        return [f"{row['stage']} with room again: {row['said']}"] if is_wrong else []
    names = {"traceback": "a traceback", "lost": "lost", "left": "left behind"}
    faults = [f"{names[key]}: {row[key]}" for key in names if row[key]]
    if row["code"] not in (0, 1, 3) or (row["code"] == 1 and len(row["errors"]) != 1):
        faults.append(f"exit code {row['code']} with {row['errors']}")
    if row["code"] == 1 and not any("No space left on device: '" in line for line in row["errors"]):
        faults.append(f"the line does not name what is full: {row['errors']}")
    if row["code"] != 1 and row["room"] == 0:
        faults.append("it ended well on a full disk")
    return [f"{row['stage']} with {row['room']} kB: {fault}; {row['said']}" for fault in faults]


@pytest.mark.slow
@pytest.mark.timeout(5400)
def test_a_full_disk_under_every_stage_loses_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mount = f'mount -t tmpfs -o size={SIZE_MB}m tmpfs "$1" || exit 99; shift; exec "$@"'
    program = [sys.executable, "-m", "tests.stress.test_full_disks", str(small)]
    result = subprocess.run(
        [*NAMESPACE, "sh", "-c", mount, "sh", str(small), *program],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=5000,
    )
    if result.returncode == 99 or "unshare" in result.stderr.partition(":")[0]:
        pytest.skip(f"this machine lets no user mount a disk: {result.stderr.strip()}")
    assert result.returncode == 0, result.stderr[-2000:]
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    table = [("stage", "kB free", "exit code", "lost", "left behind")]
    for row in rows:
        room = "enough again" if row["room"] == -1 else str(row["room"])
        cells = (", ".join(row.get(key, ())) or "nothing" for key in ("lost", "left"))
        table.append((row["stage"], room, str(row["code"]), *cells))
    with capsys.disabled():
        print(describe_table("Full disks", table))  # noqa: T201 - the table is what the test is run for
    assert {row["stage"] for row in rows} == set(STAGES)
    assert [fault for row in rows for fault in find_faults(row)] == []


if __name__ == "__main__":
    main(Path(sys.argv[1]))
