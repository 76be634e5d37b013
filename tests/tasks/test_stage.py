"""What every stage program shares: parameters, exit codes, one line a fault, no traceback."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pydantic import BaseModel, ConfigDict

from tasks.common.stage import Stage, main
from voxflow.errors import ConfigError, DataError, QualityError
from voxflow.places import load_params

if TYPE_CHECKING:
    from collections.abc import Callable

PARAMS = "workspaces: {demo: {task: segmentation, source: raw, split: {seed: 3}}}\n"


class Options(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = 0
    testing: float = 0.2


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Run a stage program around some work, with arguments."""
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(PARAMS)

    def run(work: Callable[[Stage], int], *arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["split", *(arguments or ("demo",))])
        return main("split", work)

    return run


ADVICE = "make room and run the same command again: what was finished stays"


def raising(error: BaseException) -> Callable[[Stage], int]:
    def work(stage: Stage) -> int:
        del stage
        raise error

    return work


@pytest.mark.parametrize("code", [0, 3])
def test_the_works_exit_code_is_the_programs(code: int, start: Callable[..., int]) -> None:
    assert start(lambda _: code) == code


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (DataError("no slices", path="a.nii"), 2, "split demo: error: a.nii: no slices"),
        (QualityError("leakage"), 1, "split demo: error: leakage"),
        (OSError(28, "No space left on device"), 1, f"split demo: error: [Errno 28] No space left on device; {ADVICE}"),
        (KeyboardInterrupt(), 130, "split demo: interrupted, nothing half done was left"),
    ],
)
def test_an_error_is_one_line_and_an_exit_code(
    error: BaseException, code: int, line: str, start: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert start(raising(error)) == code
    assert capsys.readouterr() == ("", line + "\n")


def test_debug_shows_the_traceback(start: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert start(raising(DataError("no slices")), "demo", "--debug") == 2
    assert "Traceback" in capsys.readouterr().err


def test_a_bug_is_not_hidden(start: Callable[..., int]) -> None:
    with pytest.raises(ZeroDivisionError, match="a bug"):
        start(raising(ZeroDivisionError("a bug")))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "params.yaml is not here; go to the root of the repository first: cd /"),
        ("workspaces: [", "params.yaml: not valid YAML"),
        ("", "params.yaml: workspaces: no workspace 'demo'; known: none"),
        ("workspaces: {other: {}}", "params.yaml: workspaces: no workspace 'demo'; known: other"),
    ],
)
def test_wrong_params_are_wrong_input(
    text: str | None, message: str, start: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("params.yaml").unlink() if text is None else Path("params.yaml").write_text(text)
    assert start(lambda _: 0) == 2
    assert message in capsys.readouterr().err


def test_options_are_the_stages_own_key() -> None:
    stage = Stage("demo", "split", {"split": {"seed": 3}, "train": {"seed": 9}})
    assert stage.options(Options) == Options(seed=3)
    assert Stage("demo", "split", {}).options(Options) == Options()
    assert Stage("demo", "split", {"split": None}).options(Options) == Options()


def test_every_wrong_option_is_named_at_once() -> None:
    stage = Stage("demo", "split", {"split": {"sed": 3, "testing": "many"}})
    with pytest.raises(ConfigError, match=r"2 wrong parameter\(s\)") as caught:
        stage.options(Options)
    assert [line.partition(": ")[2].partition(":")[0] for line in caught.value.findings] == [
        "workspaces.demo.split.testing",
        "workspaces.demo.split.sed",
    ]
    assert "got 'many'" in str(caught.value)


def test_params_are_read_below_their_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text("samples: {demo: {seed: 1}}")
    assert load_params("samples", "demo") == {"seed": 1}


def test_folders_are_named_after_the_workspace() -> None:
    stage = Stage("demo", "split", {"task": "segmentation", "source": "raw"})
    assert stage.metrics == Path("data/metrics/demo/split.json")
    assert (stage.volumes, stage.models) == (Path("data/volumes/demo"), Path("mmars/demo/models"))


@pytest.mark.parametrize("name", ["serve", "ingest", "answer", "champion", "monitor", "carry", "backup"])
def test_programs_of_operators_answer_to_their_former_names(name: str) -> None:
    """Units of systemd and crontabs hold these names."""
    specification = find_spec(f"tasks.{name}")
    assert specification is not None
    assert str(specification.origin).endswith(f"tasks/ops/{name}.py")
