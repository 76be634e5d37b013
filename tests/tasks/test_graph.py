"""The graph is what DVC says it is, one workspace at a time."""

from pathlib import Path

import pytest

from tasks.ops.graph import read_graph
from tests.flows.repository import make_repository
from voxflow.errors import ConfigError

# DVC's own use of pygtrie.
pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning")


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_repository(tmp_path_factory.mktemp("graph"))


def test_stages_come_after_those_that_they_need(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(repository)
    nodes = read_graph("chestxray_demo")
    assert [(node.name, node.upstream) for node in nodes] == [
        ("sample", ()),
        ("left", ("sample@chestxray_demo",)),
        ("right", ("sample@chestxray_demo",)),
        ("report", ("left@chestxray_demo", "right@chestxray_demo")),
    ]


def test_unknown_workspace_names_the_known_ones(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(repository)
    with pytest.raises(ConfigError, match="'spleen'; known: bad, chestxray_demo, endless, spleen_demo"):
        read_graph("spleen")


def test_a_folder_without_a_graph_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"dvc\.yaml: file not found"):
        read_graph("spleen_demo")


def test_a_graph_that_dvc_refuses_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = make_repository(tmp_path / "broken")
    (broken / "params.yaml").write_text("workspaces: {}\nworkspaces: [")
    monkeypatch.chdir(broken)
    with pytest.raises(ConfigError, match=r"DVC can't read it: .*params\.yaml"):
        read_graph("spleen_demo")
