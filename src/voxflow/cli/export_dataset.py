"""Runs ``voxflow export-dataset``: writes a workspace's cases in another tool's layout."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from voxflow.cli.command import Command
from voxflow.errors import EXIT_OK, EXIT_SOME_FAILED
from voxflow.progress import say

if TYPE_CHECKING:
    import argparse

    from voxflow.layouts import DatasetForm
    from voxflow.workspace import ExportStage


@dataclass(frozen=True)
class ExportDatasetCommand(Command):
    """Write a workspace's cases, labels and split for others' tools.

    Attributes:
        workspace: a key of params.yaml.
        form: the layout to write.
        output: the folder to make; None: one below data/datasets.
        stage: whose cases.
    """

    name: ClassVar[str] = "export-dataset"
    help: ClassVar[str] = "write a workspace's cases, labels and split as nnU-Net's raw data or a task of the Decathlon"

    workspace: str
    form: DatasetForm
    output: Path | None
    stage: ExportStage

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """Declare the flags."""
        parser.add_argument("workspace", help="a key below 'workspaces' in params.yaml")
        parser.add_argument("--to", dest="form", choices=["nnunet", "msd"], required=True, help="the layout to write")
        output = "the folder to make (default: data/datasets/Dataset001_WORKSPACE or Task01_WORKSPACE)"
        parser.add_argument("--output", type=Path, metavar="FOLDER", help=output)
        stage = "cases as they were converted, or as they were resampled (default: %(default)s)"
        parser.add_argument("--from", dest="stage", choices=["volumes", "resampled"], default="volumes", help=stage)

    def run(self) -> int:
        """Write the data set, and say what it has.

        Raises:
            ConfigError, DataError: as of :func:`voxflow.workspace.export_dataset`.
        """
        from voxflow.locks import hold_workspace
        from voxflow.places import Places
        from voxflow.workspace import export_dataset

        places = Places.of(self.workspace)
        with hold_workspace(self.workspace, self.name, say):
            export = export_dataset(places, self.form, self.output, self.stage)
        for remark in export.remarks:
            say(f"  {remark}")
        say(f"export-dataset {self.workspace}: {export.line()}")
        return EXIT_SOME_FAILED if export.left_out else EXIT_OK
