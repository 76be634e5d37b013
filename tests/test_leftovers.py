"""What a killed process left half written is cleared away by the next one; what a live one writes stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from voxflow import files, leftovers
from voxflow.files import atomic_directory, atomic_path, name_partials, replace_folder, temporary_folder, write_text
from voxflow.leftovers import read_start, remove_leftovers, sign_process

ROOT = Path(__file__).resolve().parents[1]
HOLD = """
import sys
from pathlib import Path
from voxflow.files import atomic_directory, atomic_path
with atomic_directory(Path("volumes")) as folder, atomic_path(Path("scores.csv")) as file:
    (folder / "half").touch()
    print(folder.name, file.name, flush=True)
    sys.stdin.read()
"""


def start_writer(folder: Path) -> tuple[subprocess.Popen[str], set[str]]:
    """A process in the midst of writing a folder and a file; their temporary names."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    return process, set(process.stdout.readline().split())


def list_names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def make_folder(path: Path, word: str) -> Path:
    path.mkdir()
    (path / "word").write_text(word)
    return path


def sign_dead() -> str:
    """The signature of a process of this machine that has ended."""
    with subprocess.Popen(["true"]) as process:
        pass
    _, start, place = sign_process().split("-")
    return f"{process.pid}-{start}-{place}"


@pytest.mark.skipif(sys.platform != "linux", reason="kills processes and looks at /proc")
def test_a_live_writer_keeps_its_files_and_a_killed_one_does_not(tmp_path: Path) -> None:
    process, partials = start_writer(tmp_path)
    with process:
        assert len(partials) == 2
        assert all(name.startswith(f".partial-{process.pid}-") for name in partials)
        write_text(tmp_path / "other.txt", "x")
        remove_leftovers(tmp_path)
        assert list_names(tmp_path) == {*partials, "other.txt"}
        process.send_signal(signal.SIGKILL)
    remove_leftovers(tmp_path)
    assert list_names(tmp_path) == {"other.txt"}


@pytest.mark.skipif(sys.platform != "linux", reason="kills processes and looks at /proc")
def test_the_next_writer_clears_what_a_killed_one_left(tmp_path: Path) -> None:
    process, partials = start_writer(tmp_path)
    with process:
        process.send_signal(signal.SIGKILL)
    assert list_names(tmp_path) == partials
    with atomic_path(tmp_path / "scores.csv") as temporary:
        temporary.write_text("whole")
    assert list_names(tmp_path) == {"scores.csv"}


def test_a_process_that_got_the_number_of_a_dead_one_keeps_nothing_of_it(tmp_path: Path) -> None:
    _, start, place = sign_process().split("-")
    (tmp_path / f".partial-{os.getpid()}-{int(start) - 1}-{place}-abc.csv").touch()
    own = tmp_path / f"{name_partials()}abc.csv"
    own.touch()
    remove_leftovers(tmp_path)
    assert list_names(tmp_path) == {own.name}


def test_another_machines_file_goes_when_nobody_touched_it_for_a_day(tmp_path: Path) -> None:
    fresh, old, folder = (tmp_path / f".partial-1-2-0badcafe-{name}" for name in ("fresh", "old", "folder"))
    fresh.touch()
    old.touch()
    (folder / "images").mkdir(parents=True)
    long_ago = time.time() - leftovers.FOREIGN_S - 60
    os.utime(old, (long_ago, long_ago))
    os.utime(folder, (long_ago, long_ago))
    remove_leftovers(tmp_path)
    # The folder's own time is old, but something came into it just now.
    assert list_names(tmp_path) == {fresh.name, folder.name}


def test_names_of_earlier_versions_go_after_an_hour_and_others_never(tmp_path: Path) -> None:
    names = {".partial-abcd_123.nii.gz", ".partial-ingest", ".partial-shared-0123456789abcdef", ".partial-"}
    for name in names:
        (tmp_path / name).touch()
    remove_leftovers(tmp_path)
    assert list_names(tmp_path) == names
    long_ago = time.time() - leftovers.UNSIGNED_S - 60
    for name in names:
        os.utime(tmp_path / name, (long_ago, long_ago))
    remove_leftovers(tmp_path)
    assert list_names(tmp_path) == names - {".partial-abcd_123.nii.gz"}


def test_a_folder_that_stood_aside_comes_back_unless_the_new_one_is_there(tmp_path: Path) -> None:
    signature = sign_dead()
    make_folder(tmp_path / f".replaced-{signature}-a", "old")
    make_folder(tmp_path / f".replaced-{signature}-b", "old")
    make_folder(tmp_path / "b", "new")
    remove_leftovers(tmp_path)
    assert list_names(tmp_path) == {"a", "b"}
    assert (tmp_path / "a/word").read_text() == "old"
    assert (tmp_path / "b/word").read_text() == "new"


@pytest.mark.skipif(sys.platform != "linux", reason="forks, and counts Linux's own calls")
@pytest.mark.parametrize("how", ["swaps", "stands-aside"])
def test_a_kill_at_any_step_of_a_replacement_leaves_the_old_folder_or_the_new_one_whole(
    how: str, tmp_path: Path
) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "tests.killed_writer", str(tmp_path), how],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    moments = [line.split(" ") for line in result.stdout.splitlines()]
    # One before and one after each of: making, rights, renaming; and of the removal of twenty files and their folder.
    assert len(moments) > 2 * (3 + 20)
    allowed = {"old", "new"} if how == "swaps" else {"old", "new", "nothing"}
    assert {moment[0] for moment in moments} <= allowed
    assert {moment[1] for moment in moments} == {"old", "new"}
    assert {tuple(moment[2:]) for moment in moments} == {("next", "volumes")}


@pytest.mark.parametrize("can_swap", [True, False])
def test_a_folder_takes_the_place_of_another(can_swap: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not can_swap:
        monkeypatch.setattr(files, "exchange", lambda *_: False)
    make_folder(tmp_path / "volumes", "old")
    replace_folder(make_folder(tmp_path / "new", "new"), tmp_path / "volumes")
    assert list_names(tmp_path) == {"volumes"}
    assert (tmp_path / "volumes/word").read_text() == "new"


def test_a_replacement_that_fails_half_way_brings_the_old_folder_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "exchange", lambda *_: False)
    make_folder(tmp_path / "volumes", "old")
    new, replace = make_folder(tmp_path / "new", "new"), Path.replace

    def refuse(path: Path, target: Path) -> Path:
        if path == new:
            raise PermissionError(13, "Permission denied", str(path))
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(PermissionError):
        replace_folder(new, tmp_path / "volumes")
    assert (tmp_path / "volumes/word").read_text() == "old"


def test_a_link_to_a_folder_stays_a_link(tmp_path: Path) -> None:
    make_folder(tmp_path / "large_disk", "old")
    (tmp_path / "volumes").symlink_to(tmp_path / "large_disk")
    with atomic_directory(tmp_path / "volumes") as folder:
        (folder / "word").write_text("new")
    assert (tmp_path / "volumes").is_symlink()
    assert (tmp_path / "large_disk/word").read_text() == "new"
    assert list_names(tmp_path) == {"large_disk", "volumes"}


def test_a_file_in_the_place_of_a_folder_is_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "volumes").write_text("a file")
    with pytest.raises(NotADirectoryError, match="volumes"), atomic_directory(tmp_path / "volumes"):
        pytest.fail("the work began")
    assert (tmp_path / "volumes").read_text() == "a file"


def test_a_temporary_folder_is_gone_whatever_happens(tmp_path: Path) -> None:
    with temporary_folder(tmp_path / "out") as folder:
        (folder / "a").touch()
    with pytest.raises(ValueError, match="x"), temporary_folder(tmp_path / "out"):
        raise ValueError("x")
    assert list_names(tmp_path / "out") == set()


def test_a_process_knows_when_it_began() -> None:
    assert read_start(os.getpid()) == read_start(os.getpid())
    with subprocess.Popen(["true"]) as process:
        pass
    assert read_start(process.pid) is None
