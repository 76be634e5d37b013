"""Which file is an image, which one is its label, and which patient both show, as their names tell."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Literal

from voxflow.errors import DataError
from voxflow.images.findings import RadiographFindings, read_findings, read_findings_from_folders
from voxflow.volumes import VOLUME_SUFFIXES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from voxflow.images.options import ImageOptions

SUFFIXES = (*VOLUME_SUFFIXES, ".png")
IMAGE_FOLDERS = ("images", "image", "imagestr", "imagests", "imagesval")
LABEL_FOLDERS = ("labels", "label", "masks", "mask", "labelstr", "labelsts", "labelsval")
IMAGE_ENDS = ("_image", "_img", "_volume")
LABEL_ENDS = ("_label", "_mask", "_seg", "_segmentation", "-label")
# NUMBER_NUMBER, patient and image, as ChestX-ray14 names its files.
NUMBERED = re.compile(r"^(\d+)_\d+$")


@dataclass(frozen=True)
class ImagePair:
    """An image file and its label file, where it has one.

    Attributes:
        name: what image and label have in common: the path below the source without suffix and role.
        image, label: the files; None where there is none.
    """

    name: str
    image: Path | None = None
    label: Path | None = None

    @property
    def is_png(self) -> bool:
        """Whether it is a radiograph; anything else is a volume."""
        return self.image is not None and self.image.name.lower().endswith(".png")


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
        return sum((pair.image is not None) + (pair.label is not None) for pair in self.pairs)

    def path_of(self, pair: ImagePair) -> str:
        """The path of an image below the source, as a CSV of findings may name it."""
        return pair.image.relative_to(self.source).as_posix() if pair.image else pair.name

    def keys_of(self, pair: ImagePair) -> tuple[str, ...]:
        """What a CSV of findings may name an image by: its path or its file's name, each with or without the suffix."""
        file_name = pair.image.name if pair.image else ""
        return self.path_of(pair), file_name, PurePosixPath(pair.name).name, pair.name

    def findings_of(self, pair: ImagePair) -> tuple[int | None, ...]:
        """What is known of an image: 0, 1 or None for each finding."""
        return self.findings.look_up(*self.keys_of(pair))


def pair_files(source: Path, files: Sequence[Path], options: ImageOptions) -> ImageFiles:
    """Pair images with labels by their names, and read what is known of radiographs.

    Args:
        source: the folder that was searched.
        files: all files below it; others than images are left out.
        options: where a CSV of findings lies.

    Raises:
        DataError: no image among the files, or the CSV of findings is wrong.
    """
    pairs: dict[str, ImagePair] = {}
    for file in files:
        if file.name.lower().endswith(SUFFIXES):
            role, name = parse_role_and_name(file.relative_to(source))
            pair = pairs.setdefault(name, ImagePair(name))
            if getattr(pair, role) is not None:
                raise DataError(f"two files are the {role} of {name!r}: {getattr(pair, role).name}, {file.name}")
            pairs[name] = replace(pair, image=file) if role == "image" else replace(pair, label=file)
    if not pairs:
        raise DataError(f"{len(files)} file(s), and none of them is DICOM, NIfTI, MetaImage, NRRD or PNG", path=source)
    ordered = tuple(pairs[name] for name in sorted(pairs))
    return ImageFiles(source, ordered, _read_known_findings(source, ordered, options))


def parse_role_and_name(path: Path) -> tuple[Literal["image", "label"], str]:
    """Tell from a path whether a file is an image or a label, and the name that it shares with the other.

    Args:
        path: below the source folder. A folder such as ``labelsTr`` or ``masks``, or an ending such as ``_seg``,
            makes a label; anything else is an image.

    Example:
        >>> from pathlib import Path
        >>> parse_role_and_name(Path("imagesTr/liver_3.nii.gz")), parse_role_and_name(Path("labelsTr/liver_3.nii.gz"))
        (('image', 'liver_3'), ('label', 'liver_3'))
        >>> parse_role_and_name(Path("day1/ct_mask.nrrd"))
        ('label', 'day1/ct')
    """
    stem, folders = _strip_suffix(path.name), path.parts[:-1]
    in_labels = any(folder.lower() in LABEL_FOLDERS for folder in folders)
    role: Literal["image", "label"] = "label" if in_labels else "image"
    # An ending says more than the folder, and a name that is nothing but an ending keeps it.
    for ending in IMAGE_ENDS + LABEL_ENDS:
        if stem.lower().endswith(ending) and len(stem) > len(ending):
            role = "label" if ending in LABEL_ENDS else "image"
            stem = stem[: -len(ending)]
            break
    folder_names = [folder for folder in folders if folder.lower() not in IMAGE_FOLDERS + LABEL_FOLDERS]
    return role, PurePosixPath(*folder_names, stem).as_posix()


def find_patient(pair: ImagePair, pattern: str | None) -> str:
    """Tell from a file's name which patient it shows.

    Args:
        pair: the files.
        pattern: a regular expression whose first group, found in the pair's name, names the patient. Without one, or
            where it does not match, the number before ``_`` names the patient of a PNG.

    Returns:
        A text that tells patients apart; a file of which nothing is known is a patient of its own.
    """
    match = re.search(pattern, pair.name) if pattern else None
    if match is None and pair.is_png:
        match = NUMBERED.match(PurePosixPath(pair.name).name)
    return f"file {match.group(1)}" if match else f"file {pair.name}"


def _read_known_findings(source: Path, pairs: Iterable[ImagePair], options: ImageOptions) -> RadiographFindings:
    pictures = [pair for pair in pairs if pair.is_png]
    if options.findings:
        return read_findings(source / options.findings)
    if not pictures:
        return RadiographFindings()
    return read_findings_from_folders({pair.name: PurePosixPath(pair.name).parent.name for pair in pictures})


def _strip_suffix(name: str) -> str:
    for suffix in SUFFIXES:
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return name
