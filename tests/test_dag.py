"""dvc.yaml tells the truth: which program each stage runs, and on which digest of code it depends."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import networkx
import pytest
import yaml

from tasks.ops.graph import read_graph
from tasks.ops.reach import Code

ROOT = Path(__file__).resolve().parent.parent
STAGES: dict[str, Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
CODE = Code(ROOT)


def program_of(stage: str) -> str:
    """The program that a stage of dvc.yaml runs; folds and ensembles are arguments of it."""
    return stage.removesuffix("_fold").removesuffix("_ensemble")


@pytest.mark.parametrize("stage", STAGES)
def test_code_is_one_digest_a_stage(stage: str) -> None:
    deps = STAGES[stage]["do"].get("deps", [])
    code = [dep for dep in deps if dep.startswith(("src/", "tasks/"))]
    assert code == [f"tasks/digests/{program_of(stage)}.txt"]


def test_every_program_is_a_stage() -> None:
    assert {program_of(stage) for stage in STAGES} == set(CODE.stages)


def test_every_digest_is_of_a_stage() -> None:
    assert {path.stem for path in (ROOT / "tasks/digests").iterdir()} == set(CODE.stages)


def test_a_change_of_inference_trains_nothing_again() -> None:
    packages = {name.split(".")[1] for name in CODE.reach("train") if name.startswith("voxflow.")}
    assert not packages & {"inference", "prediction", "evaluation", "engines", "export", "dicom", "reporting"}


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_says_what_it_does(stage: str) -> None:
    assert STAGES[stage]["do"]["desc"]


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_runs_its_program(stage: str) -> None:
    command = STAGES[stage]["do"]["cmd"]
    assert command.startswith(f"python -m tasks.{program_of(stage)} ")
    assert ("--fold" in command) == stage.endswith("_fold")
    assert ("--ensemble" in command) == stage.endswith("_ensemble")


@pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning")  # pygtrie, which DVC uses
def test_the_readmes_picture_is_the_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    nodes = read_graph("spleen_demo")
    edges = [(up.partition("@")[0], node.name) for node in nodes for up in node.upstream]
    direct = networkx.transitive_reduction(networkx.DiGraph(edges)).edges
    picture = re.search(r"```mermaid\ngraph LR\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert picture
    chains = [re.findall(r"(\w+)(?:\[[^]]*\])?", line) for line in picture[1].splitlines()]
    picture_edges = {pair for chain in chains for pair in pairwise(chain)}
    assert picture_edges == set(direct)
