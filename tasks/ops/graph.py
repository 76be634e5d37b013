"""Reads the graph from DVC: which stages one workspace has, and which come before which."""

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
        return _stage_name(self.address)


def read_graph(workspace: str, stages: Collection[str] = ()) -> tuple[Node, ...]:
    """Read from the current folder the stages that a workspace needs, every one after those that it needs itself.

    Args:
        workspace: a key of params.yaml that stages of dvc.yaml are instanced for.
        stages: names of stages; the others are left out, and what comes before them comes before what follows them.
            Empty: all.

    Raises:
        ConfigError: dvc.yaml is missing or wrong, it has no stage for this workspace, or none of these names.
    """
    nodes = _read_nodes(workspace)
    if not stages:
        return nodes
    names = list(dict.fromkeys(node.name for node in nodes))
    unknown_names = [name for name in stages if name not in names]
    if unknown_names:
        message = f"no stage {', '.join(unknown_names)} for workspace {workspace!r}; known: {', '.join(names)}"
        raise ConfigError(message, path=GRAPH_FILE)
    before: dict[str, frozenset[str]] = {}
    for node in nodes:
        upstream = {address for address in node.upstream if _stage_name(address) in stages}
        before[node.address] = frozenset(upstream).union(
            *(before[address] for address in node.upstream if address not in upstream)
        )
    return tuple(Node(node.address, tuple(sorted(before[node.address]))) for node in nodes if node.name in stages)


def read_inputs(workspace: str, stages: Collection[str]) -> tuple[str, ...]:
    """The addresses of what these stages need of stages that are not among them.

    Raises:
        ConfigError: as :func:`read_graph`.
    """
    addresses = {node.address for node in read_graph(workspace, stages)}
    needed = {up for node in _read_nodes(workspace) if node.address in addresses for up in node.upstream}
    return tuple(sorted(needed - addresses))


def _read_nodes(workspace: str) -> tuple[Node, ...]:
    import networkx

    graph = _read_dependencies()
    addresses = {address for address in graph if _workspace_name(address) == workspace}
    if not addresses:
        workspaces = ", ".join(sorted({_workspace_name(address) for address in graph} - {""})) or "none"
        raise ConfigError(f"no stage for workspace {workspace!r}; known: {workspaces}", path=GRAPH_FILE)
    needed = addresses.union(*(networkx.descendants(graph, address) for address in addresses))
    order = networkx.lexicographical_topological_sort(graph.subgraph(needed).reverse())
    return tuple(Node(address, tuple(sorted(graph.successors(address)))) for address in order)


def _read_dependencies() -> networkx.DiGraph[str]:
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


def _stage_name(address: str) -> str:
    return address.split("@", maxsplit=1)[0]


def _workspace_name(address: str) -> str:
    """The part after the @; empty for a stage that is not instanced, or for a fold, which its ensemble brings along."""
    stage, _, key = address.partition("@")
    return "" if stage.endswith("_fold") else key
