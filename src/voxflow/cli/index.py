"""Runs ``voxflow index``: writes the page with links to all others."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from voxflow.cli.command import Command
from voxflow.errors import EXIT_OK, ConfigError
from voxflow.progress import say

if TYPE_CHECKING:
    import argparse

    from voxflow.reporting import PageLink

PAGE = Path("data/index.html")


@dataclass(frozen=True)
class IndexCommand(Command):
    """Write the index.

    Attributes:
        out: the page.
    """

    name: ClassVar[str] = "index"
    help: ClassVar[str] = "write one page with links to all reports, comparisons, drift pages and data checks"

    out: Path = PAGE

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """Declare the flags."""
        parser.add_argument("--out", type=Path, default=PAGE, help="file of the page (default: %(default)s)")

    def run(self) -> int:
        """Write the page, and say where it is.

        Raises:
            ConfigError: the present folder is no repository with workspaces.
        """
        from voxflow.places import PARAMS, read_workspaces
        from voxflow.reporting import write_index

        if not PARAMS.is_file():
            message = (
                "file not found; the index shows the workspaces of a repository: run it in the repository's folder"
            )
            raise ConfigError(message, path=PARAMS)
        count = write_index(Path(), self.out, read_workspaces(), list_services())
        say(f"index: {count} pages → {self.out}")
        return EXIT_OK


def list_services() -> list[PageLink]:
    """List the pages of Prefect and MLflow.

    Returns:
        Addresses as ``PREFECT_API_URL`` and the tracking store say, else as ``make serve`` starts the servers.
    """
    from voxflow.reporting import PageLink
    from voxflow.tracking import TRAININGS_QUERY, find_pages_address

    prefect = os.environ.get("PREFECT_API_URL", "").removesuffix("/").removesuffix("/api")
    prefect = prefect or f"http://127.0.0.1:{os.environ.get('PREFECT_PORT', '4200')}"
    mlflow = find_pages_address() or f"http://127.0.0.1:{os.environ.get('MLFLOW_PORT', '5000')}"
    return [
        PageLink("Prefect", prefect, "runs, schedules, logs"),
        PageLink("MLflow", f"{mlflow}/#/experiments?{TRAININGS_QUERY}", "trainings, parameters, cases side by side"),
        PageLink("MLflow models", f"{mlflow}/#/models", "versions, champion and challenger, decisions"),
    ]
