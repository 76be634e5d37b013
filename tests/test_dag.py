"""dvc.yaml tells the truth: every stage's deps are the modules that it imports, no more and no fewer."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import grimp
import networkx
import pytest
import yaml

from tasks.ops.graph import read_graph

ROOT = Path(__file__).resolve().parent.parent
STAGES: dict[str, Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
# Each of these is one unit of change: a stage that imports a part of it depends on the whole folder.
PACKAGES = sorted(path.parent.name for path in (ROOT / "src/voxflow").glob("*/__init__.py"))


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("voxflow", "tasks", "flows", exclude_type_checking_imports=True, cache_dir=None)


def needed(graph: grimp.ImportGraph, stage: str) -> set[str]:
    """Files and folders that a stage's program imports, directly or not, as dvc.yaml writes them."""
    module = f"tasks.{stage}"
    return {unit(name) for name in {module} | graph.find_upstream_modules(module)} - {"tasks/__init__.py"}


def unit(module: str) -> str:
    top, *rest = module.split(".")
    if top == "tasks":
        return f"tasks/{rest[0] if rest else '__init__'}.py"
    if not rest:
        return "src/voxflow/__init__.py"
    return f"src/voxflow/{rest[0]}" + ("" if rest[0] in PACKAGES else ".py")


@pytest.mark.parametrize("stage", STAGES)
def test_deps_name_the_imported_modules(stage: str, graph: grimp.ImportGraph) -> None:
    deps = STAGES[stage]["do"].get("deps", [])
    code = {dep for dep in deps if dep.startswith(("src/", "tasks/"))}
    expected = needed(graph, stage)
    assert code == expected, f"{stage}: add {sorted(expected - code)}, remove {sorted(code - expected)}"


def test_a_change_of_inference_trains_nothing_again(graph: grimp.ImportGraph) -> None:
    later = {
        f"src/voxflow/{name}" for name in ("prediction", "evaluation", "inference", "export", "dicom", "reporting")
    }
    assert not needed(graph, "train") & later


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_says_what_it_does(stage: str) -> None:
    assert STAGES[stage]["do"]["desc"]


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_has_a_program(stage: str) -> None:
    assert (ROOT / "tasks" / f"{stage}.py").is_file()
    assert STAGES[stage]["do"]["cmd"].startswith(f"python -m tasks.{stage} ")


@pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning")  # pygtrie, which DVC uses
def test_the_readmes_picture_is_the_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    nodes = read_graph("spleen_demo")
    edges = [(up.partition("@")[0], node.name) for node in nodes for up in node.upstream]
    direct = networkx.transitive_reduction(networkx.DiGraph(edges)).edges
    picture = re.search(r"```mermaid\ngraph LR\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert picture
    chains = [re.findall(r"(\w+)(?:\[[^]]*\])?", line) for line in picture[1].splitlines()]
    drawn = {pair for chain in chains for pair in pairwise(chain)}
    assert drawn == set(direct)
