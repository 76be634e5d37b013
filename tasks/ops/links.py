"""Where the pages of a workspace's last results are: the report, its MLflow run, the flow run that made them.

Links to a flow run stand in MLflow and in a file of their own, never in what DVC keeps: that would no longer be the
same for the same data, code and parameters.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from voxflow.errors import VoxflowError
from voxflow.files import write_json
from voxflow.places import LAST_FLOW_RUNS
from voxflow.tracking import FLOW_RUN, FLOW_RUN_PAGE, find_run_pages, read_run_file

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["FLOW_RUN", "FLOW_RUN_PAGE", "Link", "find_links", "remember"]


@dataclass(frozen=True)
class Link:
    """A page.

    Attributes:
        title: what it is.
        address: its URL.
        note: what else a reader should know of it, in Markdown.
    """

    title: str
    address: str
    note: str = ""


def find_links(workspace: str, say: Callable[[str], None]) -> list[Link]:
    """Where the report and the MLflow run of a workspace's training are.

    Args:
        workspace: a key of params.yaml.
        say: gets one line where the store of runs can't be asked.
    """
    folder = Path("mmars") / workspace
    report = (folder / "eval" / "report.html").resolve()
    note = f"`{report}` on the machine that ran the flow"
    links = [Link(f"Report of {workspace}", report.as_uri(), note)] if report.is_file() else []
    try:
        run_id = read_run_file(folder / "models" / "train" / "run.json")
        pages = find_run_pages(run_id) if run_id else None
    except VoxflowError as error:
        say(f"no link to MLflow: {error}")
        return links
    if pages is None:
        return links
    if pages.report and report.is_file():
        # A browser follows no link from a served page to a file.
        links = [Link(f"Report of {workspace}", pages.report, note)]
    links.append(Link("MLflow run", pages.run, f"run `{run_id}`"))
    if pages.experiment:
        links.append(Link(f"All MLflow runs of {workspace}", pages.experiment))
    return links


def remember(workspace: str, links: list[Link], variables: Mapping[str, str]) -> None:
    """Keep where the last flow run and its results are, for the index.

    Args:
        workspace: a key of params.yaml.
        links: of :func:`find_links`.
        variables: what the flow told its stages.
    """
    flow_links = (
        [Link("Last flow run", variables[FLOW_RUN_PAGE], variables[FLOW_RUN])] if FLOW_RUN_PAGE in variables else []
    )
    served = [link for link in [*flow_links, *links] if link.address.startswith(("http://", "https://"))]
    # The index of any version reads the file: its keys stay.
    entries = [{"title": link.title, "address": link.address, "about": link.note} for link in served]
    write_json(LAST_FLOW_RUNS / f"{workspace}.json", entries)
