"""Finds the image of each label by the names of their files.

Plan: say of every file whether it is an image or a label; look for each label's image by one rule after the other, the
strictest first; then take out what can't be told apart, and name the cases. A file that no rule places becomes a pair
of its own with the reason, so that it has a row in conversion.csv and never stops the others.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from voxflow.errors import join_names
from voxflow.images.names import FileName, is_picture, strip_suffix
from voxflow.naming import fold_name

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
    from pathlib import Path

SUBSET_ORDER = ("", "tr", "val", "ts")
ANY_SUBSET = "any"
NO_IMAGE = "a label without an image of the same name"
FIX = "give image and label one name, in the folders images and labels"
# nnU-Net's number of an image's channel.
_CHANNEL = re.compile(r"_\d{4}$")
_MODALITY = re.compile(
    r"[-_. ](ct|cbct|cect|mr|mri|pet|pt|suv|t1|t1c|t1ce|t1w|t1gd|t2|t2w|flair|adc|dwi|us)$", re.IGNORECASE
)


@dataclass(frozen=True)
class ImagePair:
    """An image file and its label file, where it has one; or a file that becomes no case.

    Attributes:
        name: what image and label have in common: the path below the source without suffix and role.
        image, label: the files; None where there is none.
        reason: why the files can't become a case; empty where they can.
        is_skipped: the reason is no fault of the files.
    """

    name: str
    image: Path | None = None
    label: Path | None = None
    reason: str = ""
    is_skipped: bool = False

    @property
    def is_picture(self) -> bool:
        """Whether it is a radiograph; anything else is a volume."""
        return any(is_picture(file) for file in self.files)

    @property
    def is_lone_label(self) -> bool:
        """Whether it is a label, and no file is its image."""
        return self.reason.startswith(NO_IMAGE)

    @property
    def files(self) -> tuple[Path, ...]:
        """The image's file, then the label's."""
        return tuple(file for file in (self.image, self.label) if file)


class FilePairing:
    """Pairs the files of one folder.

    Args:
        source: the folder.
        describe: what a file is called in a reason.
    """

    def __init__(self, source: Path, describe: Callable[[Path], str]) -> None:
        self._source = source
        self._describe = describe
        self._refused: list[ImagePair] = []

    def pair(self, names: Sequence[FileName]) -> list[ImagePair]:
        """Make pairs of files; each file is in one of them."""
        images, labels = self._tell_roles(self._skip_files(names))
        images = self._skip_copies(images)
        labels_by_image = self._match(images, labels)
        pairs = []
        images = self._refuse_equal_names(images, labels_by_image)
        for image, name in zip(images, self._choose_names(images), strict=True):
            image_labels = [label.path for label in labels_by_image.get(image.path, [])]
            if len(image_labels) > 1:
                reason = f"{len(image_labels)} files are the label of {self._list([image.path])}: "
                self._refuse(image, "image", f"{reason}{self._list(image_labels)}; keep one")
                for label in labels_by_image[image.path]:
                    self._refuse(label, "label", f"{reason}{self._list(image_labels)}; keep one")
            else:
                pairs.append(ImagePair(name, image.path, image_labels[0] if image_labels else None))
        return pairs + self._refused

    def _refuse(self, file: FileName, role: str, reason: str, *, is_skipped: bool = False) -> None:
        image, label = (None, file.path) if role == "label" else (file.path, None)
        self._refused.append(ImagePair(file.name, image, label, reason, is_skipped))

    def _list(self, files: Iterable[Path]) -> str:
        return join_names(sorted(self._describe(file) for file in files))

    def _skip_files(self, names: Sequence[FileName]) -> list[FileName]:
        """Leave out hidden files, masks of radiographs, and names that can't be passed on."""
        remaining = []
        for file in names:
            role = file.folder_role or file.word_role
            if file.path.name.startswith("."):
                self._refuse(file, role, "a hidden file: its name begins with a dot; rename it", is_skipped=True)
            elif not _is_utf8(file.path):
                # SimpleITK ends the whole process on such a name.
                self._refuse(file, role, "its name or folder's name is no valid UTF-8; rename it")
            elif is_picture(file.path) and role == "label":
                reason = "a mask of a radiograph is not read: radiographs are classified, by their findings"
                self._refuse(file, role, reason, is_skipped=True)
            else:
                remaining.append(file)
        return remaining

    def _tell_roles(self, names: Sequence[FileName]) -> tuple[list[FileName], list[FileName]]:
        """Images and labels; the folder says more than a file's name, since people name labels after their images."""
        named_labels = {file.full_key for file in names if file.folder_role == "label"}
        named_images = {key for file in names if file.word_role != "label" for key in (file.full_key, file.name)}
        images, labels = [], []
        for file in names:
            is_doubtful = file.folder_role == "image" and file.word_role == "label"
            if file.folder_role == "label" or (file.word_role == "label" and not is_doubtful):
                labels.append(file)
            elif not is_doubtful or file.full_key in named_labels:
                images.append(file)
            elif file.key in named_images:
                labels.append(file)
            else:
                reason = "its folder says image and its name says label; rename it, or put it into a folder labels"
                self._refuse(file, "label", reason)
        return images, labels

    def _skip_copies(self, images: Sequence[FileName]) -> list[FileName]:
        """Leave out further names (links) of one file: a second case of one image would leak into the test part."""
        names_by_file: dict[Hashable, list[FileName]] = defaultdict(list)
        for image in images:
            names_by_file[_identify(image.path)].append(image)
        remaining = []
        for names in names_by_file.values():
            first, *copies = sorted(names, key=lambda name: (name.folder_role != "image", name.path))
            remaining.append(first)
            for copy in copies:
                reason = f"the same file as {self._describe(first.path)}, by a link"
                self._refuse(copy, "image", reason, is_skipped=True)
        return sorted(remaining, key=lambda name: name.path)

    def _match(self, images: Sequence[FileName], labels: Sequence[FileName]) -> dict[Path, list[FileName]]:
        """Labels by the path of their image; a label without an image is refused."""
        matches: dict[Path, list[FileName]] = defaultdict(list)
        pending = list(labels)
        for rule in _RULES:
            candidates: dict[Hashable, list[FileName]] = defaultdict(list)
            for image in images:
                # What a strict rule gave away is no candidate of a loose one.
                for key in rule(image, False) if rule in _STRICT_RULES or image.path not in matches else ():
                    candidates[key].append(image)
            unmatched = []
            for label in pending:
                images_found = {image.path: image for key in rule(label, True) for image in candidates.get(key, ())}
                if len({(image.subset, image.full_name) for image in images_found.values()}) > 1:
                    count, names = len(images_found), self._list(images_found)
                    self._refuse(label, "label", f"it may be the label of {count} images: {names}; {FIX}")
                elif images_found:
                    matches[next(iter(images_found))].append(label)
                else:
                    unmatched.append(label)
            pending = unmatched
        for label in pending:
            self._refuse(label, "label", f"{NO_IMAGE}; {FIX}")
        return matches

    def _refuse_equal_names(
        self, images: Sequence[FileName], labels_by_image: Mapping[Path, Sequence[FileName]]
    ) -> list[FileName]:
        """Take out images of one name, such as a.nii and a.nii.gz, with their labels: one of them is a copy."""
        by_name: dict[Hashable, list[FileName]] = defaultdict(list)
        for image in images:
            by_name[image.subset, image.full_name].append(image)
        remaining = []
        for namesakes in by_name.values():
            if len(namesakes) == 1:
                remaining += namesakes
                continue
            files = self._list(image.path for image in namesakes)
            reason = f"{len(namesakes)} files are the image of one name: {files}; keep one, or rename them"
            for image in namesakes:
                self._refuse(image, "image", reason)
                for label in labels_by_image.get(image.path, []):
                    self._refuse(label, "label", reason)
        return remaining

    def _choose_names(self, images: Sequence[FileName]) -> list[str]:
        """Name the images; where two would get one name, as 001 of imagesTr and of imagesTs, the folder is added."""
        names: dict[Path, str] = {}
        used_names: set[str] = set()
        for image in sorted(
            images, key=lambda image: (SUBSET_ORDER.index(image.subset), image.full_name != image.name)
        ):
            path = image.path.relative_to(self._source).as_posix()
            choices = (image.name, image.full_name, strip_suffix(path), path)
            names[image.path] = next(name for name in choices if name not in used_names)
            used_names.add(names[image.path])
        return [names[image.path] for image in images]


def _by_whole_name(file: FileName, is_label: bool) -> list[Hashable]:
    return [(file.subset, file.full_key)] if file.folder_role == "label" or not is_label else []


def _by_name(file: FileName, is_label: bool) -> list[Hashable]:
    return [(file.subset, file.name)]


def _by_key(file: FileName, is_label: bool) -> list[Hashable]:
    return [(file.subset, file.key)]


def _by_folded_key(file: FileName, is_label: bool) -> list[Hashable]:
    return _spread(file, file.key, is_label)


def _by_channel(file: FileName, is_label: bool) -> list[Hashable]:
    return _spread(file, file.key if is_label else _CHANNEL.sub("", file.key), is_label)


def _by_modality(file: FileName, is_label: bool) -> list[Hashable]:
    return _spread(file, _MODALITY.sub("", file.key), is_label)


def _by_folder(file: FileName, is_label: bool) -> list[Hashable]:
    return [file.folder] if file.folder and (file.is_nameless or not is_label) else []


# The keys of an image and of a label by each rule; one in common makes a pair.
_STRICT_RULES: tuple[Callable[[FileName, bool], list[Hashable]], ...] = (_by_whole_name, _by_name)
_RULES = (*_STRICT_RULES, _by_key, _by_folded_key, _by_channel, _by_modality, _by_folder)


def _spread(file: FileName, key: str, is_label: bool) -> list[Hashable]:
    """A key for each subset: imagesTs/1 is another patient than labelsTr/1, but a plain folder goes with each."""
    if is_label:
        subsets: Sequence[str] = [file.subset or ANY_SUBSET]
    else:
        subsets = [file.subset, ANY_SUBSET] if file.subset else [*SUBSET_ORDER, ANY_SUBSET]
    return [(fold_name(key), subset) for subset in subsets]


def _is_utf8(path: Path) -> bool:
    try:
        return bool(str(path).encode())
    except UnicodeEncodeError:
        return False


def _identify(path: Path) -> Hashable:
    try:
        status = path.stat()
    except OSError:  # a link to nothing
        return path
    return status.st_dev, status.st_ino
