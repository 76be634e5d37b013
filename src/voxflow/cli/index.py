"""``voxflow index``: writes one page with links to all other pages."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from voxflow.errors import EXIT_OK
from voxflow.progress import say

if TYPE_CHECKING:
    import argparse

    from voxflow.reporting import PageLink

PAGE = Path("data/index.html")


@dataclass(frozen=True)
class IndexCommand:
    """Write the index.

    Attributes:
        out: the page.
    """

    name: ClassVar[str] = "index"
    help: ClassVar[str] = "write one page that leads to every report, comparison, drift and data check"

    out: Path = PAGE

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """Declare the flags."""
        parser.add_argument("--out", type=Path, default=PAGE, help="the page (default: %(default)s)")

    @classmethod
    def read(cls, arguments: argparse.Namespace) -> IndexCommand:
        """Take the parsed flags."""
        return cls(arguments.out)

    def run(self) -> int:
        """Write it, and say where."""
        from voxflow.places import read_workspaces
        from voxflow.reporting import write_index

        count = write_index(Path(), self.out, read_workspaces(), list_services())
        say(f"index: {count} pages → {self.out}")
        return EXIT_OK


def list_services() -> list[PageLink]:
    """Where Prefect and MLflow are: as the environment says, else as ``make serve`` starts them."""
    from voxflow.reporting import PageLink
    from voxflow.tracking import find_pages_address

    prefect = os.environ.get("PREFECT_API_URL", "").removesuffix("/").removesuffix("/api")
    prefect = prefect or f"http://127.0.0.1:{os.environ.get('PREFECT_PORT', '4200')}"
    mlflow = find_pages_address() or f"http://127.0.0.1:{os.environ.get('MLFLOW_PORT', '5000')}"
    return [
        PageLink("Prefect", prefect, "runs, schedules, logs"),
        PageLink("MLflow", mlflow, "trainings, parameters, cases side by side"),
        PageLink("MLflow models", f"{mlflow}/#/models", "versions, champion and challenger, decisions"),
    ]
