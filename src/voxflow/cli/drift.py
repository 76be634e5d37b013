"""Runs ``voxflow drift``: compares incoming studies with a workspace's training data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from voxflow.cli.command import Command
from voxflow.errors import EXIT_ALERT, EXIT_OK
from voxflow.progress import say

if TYPE_CHECKING:
    import argparse


@dataclass(frozen=True)
class DriftCommand(Command):
    """Look for drift.

    Attributes:
        workspace: the workspace whose training data are the reference.
        folder: the incoming studies.
        predictions: preds_outputs.csv of them; None: predictions are not compared.
        out: folder for table and page; None: data/drift/WORKSPACE.
    """

    name: ClassVar[str] = "drift"
    help: ClassVar[str] = "compare incoming studies with a workspace's training data; exit code 4: they drifted"

    workspace: str
    folder: Path
    predictions: Path | None = None
    out: Path | None = None

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """Declare the flags."""
        parser.add_argument("workspace", help="a key below 'workspaces' in params.yaml")
        parser.add_argument("folder", type=Path, help="incoming studies: DICOM, NIfTI, PNG, or converted volumes")
        parser.add_argument("--predictions", type=Path, metavar="CSV", help="preds_outputs.csv of the same studies")
        parser.add_argument("--out", type=Path, help="folder for table and page (default: data/drift/WORKSPACE)")

    def run(self) -> int:
        """Compare, write drift.csv, drift.json and drift.html, and say what moved.

        Returns:
            0, or 4 when a feature moved.
        """
        from voxflow.drift import MonitorOptions, compare_samples, measure_incoming, measure_training_set, write_drift
        from voxflow.places import Places

        places = Places.of(self.workspace)
        options = places.options_of("monitor", MonitorOptions)
        reference = measure_training_set(places)
        out = self.out or places.drift
        incoming = measure_incoming(self.folder, places, self.predictions, page_folder=out, most_viewed=options.viewer)
        result = compare_samples(reference, incoming, options)
        write_drift(result, reference, incoming, out, self.workspace)
        say(f"drift {self.workspace}: {result.line()} → {out / 'drift.html'}")
        return EXIT_ALERT if result.moved_features else EXIT_OK
