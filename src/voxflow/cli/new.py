"""Owns ``voxflow new``: a workspace for one's own folder of images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from voxflow.errors import EXIT_OK
from voxflow.progress import say

if TYPE_CHECKING:
    import argparse


@dataclass(frozen=True)
class New:
    """Make a workspace.

    Attributes:
        workspace: its name, the folder below mmars/ and the key in params.yaml.
        source: the folder of images.
        template: the template that its configuration starts from.
    """

    name: ClassVar[str] = "new"
    help: ClassVar[str] = "make a workspace (an MMAR and a block in params.yaml) for a folder of images"

    workspace: str
    source: Path
    template: str

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """Declare the flags."""
        parser.add_argument("workspace", help="name of the workspace, such as liver_2026")
        parser.add_argument("--source", type=Path, required=True, help="folder with DICOM, NIfTI or PNG images")
        parser.add_argument("--template", default="segmentation", help="what to start from (default: %(default)s)")

    @classmethod
    def read(cls, given: argparse.Namespace) -> New:
        """Take the parsed flags."""
        return cls(given.workspace, given.source, given.template)

    def run(self) -> int:
        """Write the workspace into the present folder and say what comes next."""
        from voxflow.workspace import new_workspace

        folder = new_workspace(self.workspace, self.source, self.template)
        say(f"new {self.workspace}: made {folder} and a block in params.yaml; look through both, then run")
        say(f"  dvc repro report@{self.workspace}")
        return EXIT_OK
