"""Runs ``voxflow convert``: converts a folder of images to volumes, labels and a case table, without a workspace."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from voxflow.cli.command import Command
from voxflow.cli.options import describe_flags
from voxflow.errors import EXIT_OK, EXIT_SOME_FAILED, ConfigError, DataError
from voxflow.layouts import TITLES
from voxflow.progress import say

if TYPE_CHECKING:
    import argparse

# Flag, choices (the first is the default), what is chosen. Written out, since the parser must not import the library.
CHOICES = (
    ("several-volumes", ("each", "first"), "which volumes to take of a series that holds several"),
    ("gantry-tilt", ("shear", "quarantine"), "what to do with series of a tilted gantry"),
    ("irregular-spacing", ("quarantine", "resample"), "what to do with series of uneven slice spacing"),
    ("label-grid", ("resample", "quarantine"), "what to do with a SEG on another grid than its image"),
    ("absent-labels", ("empty", "unlabelled"), "what a class means that a labelled case has no label of"),
    ("overlap", ("last", "first", "listed", "channels", "regions"), "which segment to keep where several overlap"),
    ("pet", ("suv", "stated"), "values of PET"),
    ("channels-of", ("study", "patient"), "where the series of a case of several channels are looked for"),
    ("frame-of-reference", ("same", "any"), "which frames of reference the channels of a case may have"),
    ("volume-format", (".nii.gz", ".nii", ".mha", ".mhd", ".nrrd"), "file format of the volumes and labels"),
)


@dataclass(frozen=True)
class ConvertCommand(Command):
    """Convert a folder.

    Attributes:
        source: any folder tree with DICOM, NIfTI, MetaImage, NRRD or pictures.
        target: the folder to make.
        force: replace the target when it is there.
        options: the fields of ConvertOptions that were given.
    """

    name: ClassVar[str] = "convert"
    help: ClassVar[str] = "convert a folder of DICOM to NIfTI images, labels and tables, without a workspace"

    source: Path
    target: Path
    force: bool
    options: dict[str, Any]

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """Declare the flags; what is not given keeps the default of ConvertOptions."""
        parser.add_argument("source", type=Path, help="folder tree with DICOM, NIfTI, MetaImage, NRRD or PNG images")
        parser.add_argument("target", type=Path, help="folder to write")
        parser.add_argument("-f", "--force", action="store_true", help="replace TARGET if it exists")
        parser.add_argument(
            "--modalities", nargs="+", metavar="CT", help="which of CT, MR, PT, CR and DX to convert (default: all)"
        )
        parser.add_argument("--labels", nargs="+", metavar="NAME=VALUE", help="segments or ROIs to read (default: all)")
        parser.add_argument("--findings", metavar="CSV", help="table of findings, a file below SOURCE")
        parser.add_argument(
            "--patient-pattern", metavar="REGEX", help="regular expression whose first group is the patient of a file"
        )
        layout = "read SOURCE as a data set of this layout (default: pair images and labels by their names)"
        parser.add_argument("--layout", choices=tuple(TITLES), help=layout)
        no_mapping = "no file that leads from pseudonyms back to patients"
        parser.add_argument("--no-mapping", dest="mapping", action="store_false", default=None, help=no_mapping)
        parser.add_argument("--keep-names", action="store_true", default=None, help="use file names as case ids")
        parser.add_argument(
            "--spacing-tolerance-mm", type=float, metavar="MM", help="tolerance of the slices' positions (default: 0.1)"
        )
        parser.add_argument("--min-slices", type=int, metavar="N", help="fewest slices of a volume (default: 3)")
        threshold = (
            "from which value on a voxel of a probability map is of the class (default: such labels are refused)"
        )
        parser.add_argument("--label-threshold", type=float, metavar="VALUE", help=threshold)
        for flag, choices, subject in CHOICES:
            parser.add_argument(f"--{flag}", choices=choices, help=f"{subject} (default: {choices[0]})")
        channels = "which series are the channels of a case: YAML, such as {T1: {description: t1}}, or a file of it"
        parser.add_argument("--channels", metavar="RULES", help=channels)
        cases = "table below SOURCE that names the series of each case: columns case, one a channel, and label"
        parser.add_argument("--cases", metavar="CSV", help=cases)
        labels_on = "the channel whose labels count (default: the one that they are drawn on)"
        parser.add_argument("--labels-on", metavar="CHANNEL", help=labels_on)
        window = "intensity window of radiographs: two numbers, or 'stated' (default: none)"
        parser.add_argument("--window", nargs="+", metavar="CENTRE WIDTH", help=window)
        parser.add_argument("--radiograph-bits", type=int, choices=(16, 8), help="bits of the PNG files (default: 16)")
        parser.add_argument("--workers", type=int, metavar="N", help="number of processes (default: one per core)")

    @classmethod
    def read(cls, arguments: argparse.Namespace) -> ConvertCommand:
        """Take the parsed flags.

        Raises:
            ConfigError: a label is not NAME=VALUE.
        """
        not_options = {"source", "target", "force", "labels", "command", "debug", "read"}
        options = {key: value for key, value in vars(arguments).items() if key not in not_options and value is not None}
        if arguments.window == ["stated"]:
            options["window"] = "stated"
        if arguments.labels:
            options["labels"] = dict(_parse_label(text) for text in arguments.labels)
        if arguments.channels:
            options["channels"] = _parse_rules(arguments.channels)
        return cls(arguments.source, arguments.target, arguments.force, options)

    def run(self) -> int:
        """Convert, and say what became of the images.

        Returns:
            0, or 3 when something was quarantined.

        Raises:
            ConfigError: an option has a wrong value.
            DataError: the target is there already, or would replace the source.
        """
        from pydantic import ValidationError

        from voxflow.dicom import ConvertOptions, convert_folder

        try:
            options = ConvertOptions.model_validate(self.options)
        except ValidationError as error:
            raise ConfigError(describe_flags(error)) from error
        self._check_target()
        summary = convert_folder(self.source, self.target, options)
        *reasons, counts = summary.format_lines(self.target)
        for reason in reasons:
            say(reason)
        say(f"convert: {counts}")
        return EXIT_SOME_FAILED if summary.quarantined else EXIT_OK

    def _check_target(self) -> None:
        source, target = self.source.resolve(), self.target.resolve()
        if target == source or target in source.parents:
            raise DataError("the target would replace the source", path=self.target)
        if self.target.exists() and not self.force:
            raise DataError("is there already; --force replaces it", path=self.target)


def _parse_rules(text: str) -> Any:
    from voxflow.files import read_text
    from voxflow.texts import parse_yaml

    path = Path(text)
    return parse_yaml(text, Path("--channels")) if text.lstrip().startswith("{") else parse_yaml(read_text(path), path)


def _parse_label(text: str) -> tuple[str, str]:
    name, equals, value = text.rpartition("=")
    if not equals or not name:
        raise ConfigError(f"--labels: expected NAME=VALUE, received {text!r}")
    return name, value
