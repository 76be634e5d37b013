"""Runs ``voxflow compare``: shows two models side by side on one page."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from voxflow.cli.command import Command
from voxflow.errors import EXIT_OK
from voxflow.progress import say

if TYPE_CHECKING:
    import argparse


@dataclass(frozen=True)
class CompareCommand(Command):
    """Compare two evaluated models.

    Attributes:
        old, new: each a run, a model version, or a folder that evaluate wrote.
        out: the page; None: mmars/WS/eval/compare.html, else compare.html here.
        workspace: the workspace whose images the pictures are drawn on; None: the runs'.
    """

    name: ClassVar[str] = "compare"
    help: ClassVar[str] = "compare two evaluated models case by case, on one HTML page"

    old: str
    new: str
    out: Path | None = None
    workspace: str | None = None

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """Declare the flags."""
        forms = "a run's id or name, a DVC experiment, MODEL@champion, MODEL/3, or a folder such as mmars/WS/eval/test"
        parser.add_argument("old", help=forms)
        parser.add_argument("new", help="the same for the other model; changes are those from old to new")
        parser.add_argument("--out", type=Path, help="file of the page (default: mmars/WS/eval/compare.html)")
        parser.add_argument("--workspace", help="workspace whose images the pictures show (default: the runs')")

    def run(self) -> int:
        """Write the page, and say the result in a line.

        Raises:
            DataError: a model is not found or was not evaluated, or both have no case in common.
        """
        from voxflow.comparing import open_sides, write_comparison
        from voxflow.tracking import use_store

        with use_store(Path.cwd()), tempfile.TemporaryDirectory() as scratch:
            old, new = open_sides(self.old, self.new, Path(scratch))
            workspace = self.workspace or new.workspace or old.workspace
            default_folder = Path("mmars") / workspace / "eval" if workspace else Path()
            page = self.out or default_folder / "compare.html"
            compared = write_comparison(old, new, page, Path("data/volumes") / workspace)
        change = f"{compared.gain:+.4f}, p = {compared.p_value:.3g}"
        score = f"{compared.metric} {compared.old:.4f} → {compared.new:.4f} ({change})"
        say(f"compare: {score}, {compared.wins} cases better and {compared.losses} worse → {page}")
        return EXIT_OK
