"""Runs ``voxflow new``: makes a workspace for a folder of images, or one of the model zoo."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, cast

from voxflow.cli.command import Command
from voxflow.errors import EXIT_OK, ConfigError, DataError
from voxflow.layouts import TITLES
from voxflow.progress import say

if TYPE_CHECKING:
    import argparse

    from voxflow.dicom import ChannelProposal
    from voxflow.layouts import Layout, LayoutName


@dataclass(frozen=True)
class NewCommand(Command):
    """Make a workspace.

    Attributes:
        workspace: its name, the folder below mmars/ and the key in params.yaml; None to list the templates.
        source: the folder of images; None where the MMAR stands alone.
        template: the template that its configuration starts from.
        variant: of a template of the zoo: "published" or "cpu".
        layout: the layout to read the source by; None: what it is recognised as; "none": pairs of images and labels.
        may_be_empty: make it although the source holds no image yet.
        lists: say what templates there are and make nothing.
        in_two_stages: make a second workspace of a low resolution, whose masks the first one's network is shown.
    """

    name: ClassVar[str] = "new"
    help: ClassVar[str] = "start with your own images: look into their folder, and make a workspace for it"

    workspace: str | None
    source: Path | None
    template: str
    variant: str
    layout: str | None
    may_be_empty: bool
    lists: bool
    in_two_stages: bool = False

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """Declare the flags."""
        parser.add_argument("workspace", nargs="?", help="name of the workspace, such as liver_2026")
        source = "folder with DICOM, NIfTI or PNG images; required in a repository, elsewhere it becomes DATA_ROOT"
        parser.add_argument("--source", type=Path, help=source)
        template = "template of the workspace; --list shows all (default: %(default)s)"
        parser.add_argument("--template", default="segmentation", help=template)
        variant = "variant of a model of the zoo: published, or cpu for a small network (default: %(default)s)"
        parser.add_argument("--variant", default="published", help=variant)
        layout = "layout of the source (default: what it is recognised as); none: pair images and labels by their names"
        parser.add_argument("--layout", choices=[*TITLES, "none"], help=layout)
        empty = "make the workspace although the folder holds no image yet, since they come later"
        parser.add_argument("--empty", action="store_true", dest="may_be_empty", help=empty)
        stages = "template auto: make NAME_low, too, a first stage of a low resolution (docs/two-stages.md)"
        parser.add_argument("--two-stage", action="store_true", dest="in_two_stages", help=stages)
        parser.add_argument("--list", action="store_true", dest="lists", help="list the templates and make nothing")

    def run(self) -> int:
        """Look into the source, write the workspace into the present folder, and say what comes next.

        Raises:
            ConfigError: no name, a name that is taken, or an unknown template.
            DataError: the source is no folder, or holds no image.
        """
        if self.lists:
            return _list_templates()
        if self.workspace is None:
            raise ConfigError("a workspace needs a name, such as liver_2026; --list shows the templates")
        from voxflow.locks import hold_file
        from voxflow.places import PARAMS, read_workspaces
        from voxflow.workspace import check_request, create_workspace, join_stages

        check_request(self.workspace, self.template, self.variant, Path())
        layout, template, channels = self._recognise_layout(), self.template, None
        if layout is None and PARAMS.is_file():
            template, channels = self._look_into_source()
        first = self._name_first_stage(template)
        with hold_file(PARAMS, say) if PARAMS.is_file() else nullcontext():
            for name in filter(None, (first, self.workspace)):
                folder = create_workspace(
                    name, self.source, template, variant=self.variant, layout=layout, channels=channels
                )
            if first:
                join_stages(PARAMS, self.workspace, first)
        if first:
            say(f"new {first}: the first stage, of a low resolution; {self.workspace} is shown its folds' masks")
        if self.workspace in read_workspaces():
            say(f"new {self.workspace}: made {folder} and a block in params.yaml; look through both, then run")
            say(f"  dvc repro report@{self.workspace}")
        else:
            say(f"new {self.workspace}: made {folder}; its docs/Readme.md says how to name your images; then run")
            say(f"  {folder}/commands/train.sh")
        return EXIT_OK

    def _name_first_stage(self, template: str) -> str | None:
        """The name of the first stage's workspace, if it can be made; None: there is one stage."""
        from voxflow.places import PARAMS
        from voxflow.workspace import check_request, name_first_stage

        if not self.in_two_stages:
            return None
        if template != "auto" or not PARAMS.is_file():
            raise ConfigError("--two-stage goes with --template auto, for volumes, in a repository")
        first = name_first_stage(str(self.workspace))
        check_request(first, template, self.variant, Path())
        return first

    def _look_into_source(self) -> tuple[str, ChannelProposal | None]:
        """The template, and rules for the channels of a source without a layout.

        What the source holds, and what will be lost, has been said then.
        """
        from voxflow.dicom import propose_channels, scan_folder
        from voxflow.workspace import choose_template, describe_source, read_template_block, takes_channels

        template = self.template
        if self.source is None or not self.source.is_dir():
            return template, None
        try:
            scan = scan_folder(self.source)
            template = choose_template(template, self.source, scan)
            block = read_template_block(template)
            modalities = (block.get("convert") or {}).get("modalities")
            proposal = propose_channels(self.source, of_files=self.layout != "none", scan=scan)
            is_taken = proposal is not None and takes_channels(template, proposal)
            needs_labels = block.get("task", "segmentation") == "segmentation"
            # Files that are joined by their names' ends are no pairs; the proposal counts them.
            is_joined = is_taken and proposal is not None and proposal.unit == "cases"
            lines = (
                []
                if is_joined
                else describe_source(self.source, scan, modalities=modalities, needs_labels=needs_labels)
            )
        except DataError as error:
            if self.may_be_empty:
                return template, None
            hint = "--empty makes the workspace all the same, for images that come later"
            raise DataError(f"{error.message}; {hint}", path=error.path) from error
        for line in lines:
            say(line)
        if template != self.template:
            say(f"  radiographs: made from the template {template}")
        if proposal is None:
            return template, None
        for line in proposal.lines:
            say(line)
        if is_taken:
            say("  the rules stand in params.yaml, below convert.channels: look through them, or take them out")
        elif proposal.rules:
            own = f"the template {template} has channels of its own, or takes one series a case"
            say(f"  {own}; --template auto takes all of these channels")
        return template, proposal

    def _recognise_layout(self) -> Layout | None:
        """The source's layout, after saying what it is; nothing is copied or read but descriptions and names."""
        from voxflow.workspace import recognise_source

        if self.source is None or self.layout == "none" or not _holds_files(self.source):
            return None
        try:
            layout = recognise_source(self.source, cast("LayoutName | None", self.layout))
        except DataError as error:
            hint = "" if self.layout else "; --layout none pairs images and labels by their names"
            raise DataError(f"{error.message}{hint}", path=error.path, where=error.where) from error
        if layout is not None:
            for line in layout.format_lines():
                say(line)
            say("  another layout: --layout NAME; images and labels by their names alone: --layout none")
        return layout


def _holds_files(folder: Path) -> bool:
    """Whether a folder is there and holds a file that is looked at: hidden ones are not."""
    from voxflow.images import list_files

    try:
        return folder.is_dir() and bool(list_files(folder))
    except DataError:
        return False


def _list_templates() -> int:
    """One line a template."""
    import sys

    from voxflow.workspace import list_templates

    rows = list_templates()
    width = max(map(len, rows))
    # The list is the command's answer, so it goes where a pipe reads it.
    sys.stdout.writelines(f"{name:{width}}  {line}\n" for name, line in rows.items())
    return EXIT_OK
