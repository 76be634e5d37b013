"""Reads the graph from DVC: which stages a workspace has, and their order."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from voxflow.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Collection

    import networkx

GRAPH_FILE = Path("dvc.yaml")


@dataclass(frozen=True)
class Node:
    """One stage of one workspace.

    Attributes:
        address: how DVC calls it, such as ``train@spleen_demo``.
        upstream: the addresses of the stages that must have run before, in a stable order.
    """

    address: str
    upstream: tuple[str, ...]

    @property
    def name(self) -> str:
        """The stage without its workspace, such as ``train``."""
        return _name(self.address)


def read_graph(workspace: str, stages: Collection[str] = ()) -> tuple[Node, ...]:
    """Read from the current folder the stages that a workspace needs, every one after those that it needs itself.

    Args:
        workspace: a key of params.yaml that stages of dvc.yaml are instanced for.
        stages: names of stages; the others are left out, and what comes before them comes before what follows them.
            Empty: all.

    Raises:
        ConfigError: dvc.yaml is missing or wrong, it has no stage for this workspace, or none of these names.
    """
    nodes = _all_nodes(workspace)
    if not stages:
        return nodes
    known = list(dict.fromkeys(node.name for node in nodes))
    unknown = [name for name in stages if name not in known]
    if unknown:
        message = f"no stage {', '.join(unknown)} for workspace {workspace!r}; known: {', '.join(known)}"
        raise ConfigError(message, path=GRAPH_FILE)
    before: dict[str, frozenset[str]] = {}
    for node in nodes:
        chosen = {address for address in node.upstream if _name(address) in stages}
        before[node.address] = frozenset(chosen).union(
            *(before[address] for address in node.upstream if address not in chosen)
        )
    return tuple(Node(node.address, tuple(sorted(before[node.address]))) for node in nodes if node.name in stages)


def read_inputs(workspace: str, stages: Collection[str]) -> tuple[str, ...]:
    """The addresses of what these stages need of stages that are not among them.

    Raises:
        ConfigError: as :func:`read_graph`.
    """
    chosen = {node.address for node in read_graph(workspace, stages)}
    needed = {up for node in _all_nodes(workspace) if node.address in chosen for up in node.upstream}
    return tuple(sorted(needed - chosen))


def _all_nodes(workspace: str) -> tuple[Node, ...]:
    import networkx

    graph = _dependencies()
    mine = {address for address in graph if _workspace(address) == workspace}
    if not mine:
        known = ", ".join(sorted({_workspace(address) for address in graph} - {""})) or "none"
        raise ConfigError(f"no stage for workspace {workspace!r}; known: {known}", path=GRAPH_FILE)
    needed = mine.union(*(networkx.descendants(graph, address) for address in mine))
    order = networkx.lexicographical_topological_sort(graph.subgraph(needed).reverse())
    return tuple(Node(address, tuple(sorted(graph.successors(address)))) for address in order)


def _dependencies() -> networkx.DiGraph[str]:
    """The whole graph of DVC, addresses instead of objects; an edge goes from a stage to one that it needs."""
    import networkx
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    if not GRAPH_FILE.is_file():
        raise ConfigError("file not found; run from the root of the repository", path=GRAPH_FILE)
    try:
        with Repo() as repository:
            return networkx.relabel_nodes(repository.index.graph, lambda stage: str(stage.addressing))
    except DvcException as error:
        raise ConfigError(f"DVC can't read it: {error}", path=GRAPH_FILE) from error


def _name(address: str) -> str:
    return address.split("@", maxsplit=1)[0]


def _workspace(address: str) -> str:
    """The part after the @; empty for a stage that is not instanced, or for a fold, which its ensemble brings along."""
    stage, _, key = address.partition("@")
    return "" if stage.endswith("_fold") else key
