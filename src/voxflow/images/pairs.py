"""The pairs of image and label in a folder, the patient that each shows, and what is known of radiographs."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from voxflow.images.findings import RadiographFindings, read_findings, read_findings_from_folders
from voxflow.images.names import is_image_file, is_picture, parse_name
from voxflow.images.pairing import FilePairing, ImagePair

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from voxflow.images.options import ImageOptions

# NUMBER_NUMBER, patient and image, as ChestX-ray14 names its files.
NUMBERED = re.compile(r"^(\d+)_\d+$")


@dataclass(frozen=True)
class ImageFiles:
    """The images of a folder that are no DICOM.

    Attributes:
        source: the folder.
        pairs: ordered by their names.
        findings: of the radiographs among them.
    """

    source: Path
    pairs: tuple[ImagePair, ...]
    findings: RadiographFindings

    @property
    def file_count(self) -> int:
        """Number of files in all pairs."""
        return sum(len(pair.files) for pair in self.pairs)

    def path_of(self, pair: ImagePair) -> str:
        """The path of an image below the source, as a CSV of findings may name it."""
        return pair.image.relative_to(self.source).as_posix() if pair.image else pair.name

    def keys_of(self, pair: ImagePair) -> tuple[str, ...]:
        """What a CSV of findings may name an image by: its path, or its file's name where no other has it.

        Each with the suffix or without.
        """
        return (
            self.path_of(pair),
            pair.name,
            *(n for n in _list_short_names(pair) if self._counts_by_short_name[n] == 1),
        )

    def find_shared_name(self, pair: ImagePair) -> str:
        """The name by which the findings mean one of several images, this one among them; empty where there is none."""
        if self.findings.knows(*self.keys_of(pair)):
            return ""
        return next((name for name in _list_short_names(pair) if self.findings.knows(name)), "")

    @cached_property
    def _counts_by_short_name(self) -> Counter[str]:
        return Counter(name for pair in self.pairs for name in _list_short_names(pair))

    def findings_of(self, pair: ImagePair) -> tuple[int | None, ...]:
        """What is known of an image: 0, 1 or None for each finding."""
        return self.findings.look_up(*self.keys_of(pair))


def pair_files(
    source: Path,
    files: Sequence[Path],
    options: ImageOptions,
    *,
    describe: Callable[[Path], str] | None = None,
    has_cases: bool = False,
) -> ImageFiles:
    """Pair images with labels by their names, and read what is known of radiographs.

    Args:
        source: the folder that was searched.
        files: all files below it; others than images are left out.
        options: where a CSV of findings lies.
        describe: what a file is called in a reason; None: its path below the source.
        has_cases: DICOM made cases already. Beside them, or beside volumes, a picture is a radiograph only where the
            CSV of findings names it; else it is an illustration.

    Raises:
        DataError: the CSV of findings is wrong.
    """
    names = [parse_name(file, source) for file in files if is_image_file(file)]
    pairing = FilePairing(source, describe or (lambda path: path.relative_to(source).as_posix()))
    ordered = tuple(sorted(pairing.pair(names), key=lambda pair: (pair.name, pair.files)))
    if options.findings:
        findings = read_findings(source / options.findings)
    else:
        pictures = [pair for pair in ordered if pair.is_picture and not pair.reason]
        findings = read_findings_from_folders({pair.name: PurePosixPath(pair.name).parent.name for pair in pictures})
    paired_files = ImageFiles(source, ordered, findings)
    if options.findings:
        ordered = tuple(_refuse_shared_name(pair, paired_files.find_shared_name(pair)) for pair in ordered)
        paired_files = ImageFiles(source, ordered, findings)
    if not has_cases and all(is_picture(name.path) for name in names):
        return paired_files
    findings = findings if options.findings else RadiographFindings()
    kept_pairs = (_skip_illustration(pair, paired_files.keys_of(pair), findings) for pair in ordered)
    return ImageFiles(source, tuple(kept_pairs), findings)


def _list_short_names(pair: ImagePair) -> set[str]:
    return {pair.image.name, PurePosixPath(pair.name).name} if pair.image else set()


def _refuse_shared_name(pair: ImagePair, name: str) -> ImagePair:
    if not name or pair.reason:
        return pair
    reason = "the findings name it by its file's name, which other images have, too; write the path below the source"
    return replace(pair, reason=reason)


def _skip_illustration(pair: ImagePair, keys: Sequence[str], findings: RadiographFindings) -> ImagePair:
    if not pair.is_picture or pair.reason or findings.knows(*keys):
        return pair
    reason = "a picture beside volumes or DICOM; it is converted where the option findings names it, or alone"
    return replace(pair, reason=reason, is_skipped=True)


def find_patient(pair: ImagePair, pattern: str | None, dicom_patient: str = "") -> str:
    """Tell from a file's name which patient it shows.

    Args:
        pair: the files.
        pattern: a regular expression whose first group, found in the pair's name, names the patient. Without one, or
            where it does not match, the number before ``_`` names the patient of a PNG.
        dicom_patient: whose DICOM alone lies in the same folder; it counts before the number.

    Returns:
        A text that tells patients apart; a file of which nothing is known is a patient of its own.
    """
    match = re.search(pattern, pair.name) if pattern else None
    if match is None and dicom_patient:
        return dicom_patient
    if match is None and pair.is_picture:
        match = NUMBERED.match(PurePosixPath(pair.name).name)
    return f"file {match.group(1)}" if match else f"file {pair.name}"
