"""A full disk under every stage: one line that names the file, exit code 1, and nothing half written.

Two kinds of it, both without a small disk: every place where a stage begins a file or a folder finds no room once, and
the system refuses to let any file grow beyond some bytes, which libraries in C++ meet as well.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tasks import report, resample, split, train, validate
from tasks.common.stage import main
from tests.tasks.cubes import write_cubes
from tests.tasks.demo_cases import run as run_demo
from tests.tasks.demo_cases import write_volumes
from tests.tasks.test_export_evaluate_infer import stage as run_stage
from tests.tasks.test_export_evaluate_infer import volumes  # noqa: F401 - a fixture
from voxflow.dicom import Origin, SourceFiles

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ADVICE = "make room and run the same command again: what was finished stays"
LEFTOVERS = (".partial-*", ".replaced-*")


@contextlib.contextmanager
def no_room_at(number: int) -> Iterator[list[int]]:
    """Let the n-th file or folder that is begun find a full disk; yields how many were begun."""
    begun: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        for name in ("mkstemp", "mkdtemp"):
            make: Callable[..., Any] = getattr(tempfile, name)

            def refuse(*arguments: Any, make: Callable[..., Any] = make, **options: Any) -> Any:
                if str(options.get("prefix", "")).startswith(".partial-"):
                    begun.append(len(begun))
                    if len(begun) == number + 1:
                        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(options["dir"]))
                return make(*arguments, **options)

            patch.setattr(tempfile, name, refuse)
        yield begun


@contextlib.contextmanager
def no_file_beyond(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond some bytes."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def list_outputs() -> set[str]:
    files = (path for root in ("data", "mmars") for path in Path(root).rglob("*") if path.is_file())
    return {
        path.as_posix()
        for path in files
        if not re.search(r"\.history/|/docs/|/events/|/\.unfinished-", path.as_posix())
    }


def list_leftovers() -> list[Path]:
    return [path for pattern in LEFTOVERS for path in Path().rglob(pattern)]


def require_no_room(run: Callable[[], int], capsys: pytest.CaptureFixture[str], most: int) -> None:
    """Run a stage that has run before, each time with another file that finds no room, and then once more."""
    outputs = list_outputs()
    for number in range(most):
        with no_room_at(number) as begun:
            code = run()
        said = capsys.readouterr().err
        if len(begun) <= number:
            break
        errors = [line for line in said.splitlines() if "error: " in line]
        assert code == 1, said
        assert len(errors) == 1, said
        assert "No space left on device: '" in errors[0]
        assert errors[0].endswith(ADVICE)
        assert "Traceback" not in said
        assert not list_leftovers()
        assert list_outputs() == outputs
    assert number > 0
    assert run() == 0
    assert list_outputs() == outputs
    # Finished cases that inference keeps for the next run are its own by now.
    assert not list(Path().rglob(".unfinished-*"))


@pytest.fixture
def demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.chdir(tmp_path)
    return monkeypatch


def test_validate(demo: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    write_volumes()
    assert run_demo(validate, demo) == 0
    require_no_room(lambda: run_demo(validate, demo), capsys, most=2)
    # Great Expectations logs a page that it can't write, and goes on.
    capsys.readouterr()
    with no_file_beyond(20_000):
        assert run_demo(validate, demo) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.strip()]
    assert line.startswith("validate demo: error: [Errno 27] File too large")
    assert not list_leftovers()


def test_resample(demo: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    write_volumes(cases=2)
    assert run_demo(resample, demo, {"spacing_mm": [2, 2, 3]}) == 0
    require_no_room(lambda: run_demo(resample, demo, {"spacing_mm": [2, 2, 3]}), capsys, most=9)


def test_split(demo: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    write_volumes(Path("data/resampled/demo"))
    options = {"seed": 7, "testing": 2, "validation": 1}
    assert run_demo(split, demo, options) == 0
    require_no_room(lambda: run_demo(split, demo, options), capsys, most=9)


def test_report(demo: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_demo(report, demo) == 0
    require_no_room(lambda: run_demo(report, demo), capsys, most=9)


def test_training_goes_on_or_ends_with_one_line(demo: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """What only continues a training is worth a warning; without the model's own files there is an error."""
    block = write_cubes(Path.cwd())
    demo.setattr(sys, "argv", ["train", "cubes"])

    def run() -> int:
        Path("params.yaml").write_text(f"workspaces: {{cubes: {block!r}}}\n".replace("'", '"'))
        return main("train", train.run)

    assert run() == 0
    outputs = list_outputs()
    codes = []
    for number in (0, 4):
        with no_room_at(number) as begun:
            codes.append(run())
        said = capsys.readouterr().err
        assert ("error: " in said, "Traceback" in said) == (codes[-1] != 0, False), said
        assert ("No space left on device" in said) == (len(begun) > number)
        assert not list_leftovers()
    assert 1 in codes
    assert run() == 0
    assert list_outputs() >= outputs


@pytest.mark.usefixtures("volumes")
@pytest.mark.parametrize("name", ["export", "evaluate", "infer"])
def test_stages_of_a_model(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    for before in ("export", name):
        assert run_stage(before) == 0
    require_no_room(lambda: run_stage(name), capsys, most=5)


@pytest.mark.usefixtures("volumes")
@pytest.mark.parametrize("size", [4_000, 40_000])
def test_libraries_that_meet_the_end_of_a_file_end_no_process(size: int, capsys: pytest.CaptureFixture[str]) -> None:
    """TorchScript, ONNX and OpenVINO write by themselves; the first of them used to abort."""
    assert run_stage("export") == 0
    outputs = list_outputs()
    with no_file_beyond(size):
        assert run_stage("export") == 1
    said = capsys.readouterr().err
    assert [line.partition(" '")[0] for line in said.splitlines() if "error: " in line] == [
        "export ws: error: [Errno 27] File too large:"
    ]
    assert not list_leftovers()
    assert list_outputs() == outputs


def export_with_source(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the stage export; the case u1 counts as made of DICOM from then on."""
    assert run_stage("export") == 0
    table = Path("data/volumes/ws/cases.csv")
    table.write_text(table.read_text().replace("u1.nii.gz,,,in/u1.nii.gz", "u1.nii.gz,,1.2.3,"))
    files = SourceFiles((Path("in/u1.dcm"),))
    monkeypatch.setattr("voxflow.dicom.find_sources", lambda *_: {Origin("1.2.3"): files})


@pytest.mark.usefixtures("volumes")
@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (AttributeError("'Dataset' has no 'FrameOfReferenceUID'"), "'Dataset' has no 'FrameOfReferenceUID'"),
        (TypeError("Doe^John"), "values that are not as DICOM asks for (TypeError)"),
        (FileNotFoundError(2, "No such file or directory", "in/Doe^John.dcm"), "can't be read: No such file"),
    ],
)
def test_a_dicom_seg_that_cannot_be_made_is_a_line_of_its_case(
    error: Exception, reason: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    export_with_source(monkeypatch)

    def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("voxflow.dicom.write_segmentation", refuse)
    assert run_stage("infer") == 3
    (row,) = json.loads(Path("mmars/ws/eval/infer/failures.json").read_text())
    failure = row["reason"]
    assert "the mask is there, its DICOM SEG is not: " in failure
    assert reason in failure
    assert Path("mmars/ws/eval/infer/u1/u1.nii.gz").is_file()
    assert Path("mmars/ws/eval/infer/u2/u2.nii.gz").is_file()
    assert "Doe" not in capsys.readouterr().err + failure


@pytest.mark.usefixtures("volumes")
def test_a_full_disk_under_a_dicom_seg_ends_the_work(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    export_with_source(monkeypatch)

    def refuse(path: Path, *_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr("voxflow.dicom.write_segmentation", refuse)
    assert run_stage("infer") == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "error: " in line]
    assert "u1_seg.dcm'" in line
    assert line.endswith(ADVICE)
