"""Runs ``voxflow view``: shows images and masks in the browser, without a server and without a network."""

from __future__ import annotations

import tempfile
import webbrowser
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from voxflow.cli.command import Command
from voxflow.errors import EXIT_OK, EXIT_SOME_FAILED, DataError
from voxflow.progress import say

if TYPE_CHECKING:
    import argparse


@dataclass(frozen=True)
class ViewCommand(Command):
    """Look at images and masks.

    Attributes:
        source: a case of a workspace, a workspace, an image file, a folder of images, or DICOM.
        mask: a mask file, or a folder of masks that are called as their images are; of DICOM, SEG or RTSTRUCT.
        modality: of the images, where their files do not say it: "CT", "MR", "PT".
        out: where the page is written; None: a folder that only this user reads, and a browser opens it.
    """

    name: ClassVar[str] = "view"
    help: ClassVar[str] = "look at images and masks in the browser: slices, windows, 3D; needs no network"

    source: str
    mask: Path | None = None
    modality: str = ""
    out: Path | None = None

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """Declare the flags."""
        parser.add_argument("source", help="a case of a workspace, a workspace, an image, a folder of images, or DICOM")
        parser.add_argument("--mask", type=Path, help="mask file, or folder of masks named as their images")
        parser.add_argument("--modality", default="", choices=["CT", "MR", "PT"], help="of images that are no DICOM")
        parser.add_argument("--out", type=Path, help="write the page to this file and open no browser")

    def run(self) -> int:
        """Write the page, open it, and say where it is.

        Returns:
            0, or 3 where some of the cases can't be shown.

        Raises:
            DataError: nothing is called so, or none of it can be shown.
        """
        from voxflow.viewing import find_viewer_cases, write_viewer

        page = self.out or Path(tempfile.mkdtemp(prefix="voxflow-view-")) / "viewer.html"
        with tempfile.TemporaryDirectory() as scratch:
            content = find_viewer_cases(self.source, self.mask, self.modality, Path(scratch))
            failures = write_viewer(page, content.title, content.cases, remark=content.remark, refused=content.refused)
        for case, file in content.files.items():
            say(f"view: {case} is {file}")
        for case, reason in failures.items():
            say(f"view: {case} can't be shown: {reason}")
        count = sum(case.id not in failures for case in content.cases)
        if not count:
            raise DataError("no image of it can be shown", path=Path(self.source))
        is_open = self.out is None and webbrowser.open(page.absolute().as_uri())
        hint = "" if is_open else " (open it in a browser)"
        remark = f" ({content.remark})" if content.remark else ""
        say(f"view: {count} case(s){remark}, {page.stat().st_size / 1e6:.1f} MB → {page}{hint}")
        return EXIT_SOME_FAILED if failures else EXIT_OK
