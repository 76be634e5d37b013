"""What a file's path tells: its kind, whether it is an image or a label, what it is called, and its case's id."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Literal

from voxflow.naming import RESERVED_CASES, make_distinct_names
from voxflow.volumes import VOLUME_SUFFIXES
from voxflow.volumes import strip_suffix as strip_suffix_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

Role = Literal["image", "label"]

VOLUME_FILE_SUFFIXES = VOLUME_SUFFIXES
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".tif", ".tiff")
DATA_SUFFIXES = (".raw", ".zraw")
IMAGE_FOLDERS = ("images", "image", "imagestr", "imagests", "imagesval")
LABEL_FOLDERS = ("labels", "label", "masks", "mask", "labelstr", "labelsts", "labelsval")
# These say a role, too, but stay part of a case's name, as they always did.
OTHER_IMAGE_FOLDERS = ("img", "imgs", "volume", "volumes", "scan", "scans")
OTHER_LABEL_FOLDERS = ("seg", "segs", "segmentation", "segmentations", "annotation", "annotations", "gt", "groundtruth")
IMAGE_ENDS = ("_image", "_img", "_volume")
LABEL_ENDS = ("_label", "_mask", "_seg", "_segmentation", "-label")
IMAGE_WORDS = ("image", "img", "volume", "vol", "scan")
LABEL_WORDS = ("label", "labels", "mask", "masks", "seg", "segs", "segmentation", "annotation", "gt", "groundtruth")
_WORDS = re.compile(rf"(?:^|[-_. ])({'|'.join(IMAGE_WORDS + LABEL_WORDS)})(?=$|[-_. \d])", re.IGNORECASE)
# imagesTr, labels_test ... of many data sets; 1: what the folder holds, 2: of which part.
_SUBSET = re.compile(r"(images?|imgs?|labels?|masks?|segs?)[-_]?(train|test|tr|ts|valid|val|va)", re.IGNORECASE)
_SUBSETS = {"train": "tr", "tr": "tr", "test": "ts", "ts": "ts", "valid": "val", "val": "val", "va": "val"}
MAX_ID_LENGTH = 200  # an id becomes part of longer names, and a file system takes 255 bytes


@dataclass(frozen=True)
class FileName:
    """What the path of an image or a label tells.

    Attributes:
        path: the file.
        name: the folders, less images, labels and the like, and the stem, less an ending that says a role.
        full_name: the same folders, and the whole stem.
        full_key: the folders, less all that say a role, and the whole stem.
        key: the same, less all words that say a role; of ``case1/label.nii.gz`` it is ``case1``.
        subset: "tr", "ts" or "val" in a folder such as imagesTr; numbers start from 1 again in each.
        folder_role: what the folders say; empty where none says a role.
        word_role: what the last word of the stem that says a role says; empty where none does.
    """

    path: Path
    name: str
    full_name: str
    full_key: str
    key: str
    subset: str = ""
    folder_role: Role | Literal[""] = ""
    word_role: Role | Literal[""] = ""

    @property
    def folder(self) -> str:
        """The folders less those that say a role; empty at the top."""
        parent = PurePosixPath(self.full_key).parent.as_posix()
        return "" if parent == "." else parent

    @property
    def is_nameless(self) -> bool:
        """Whether the stem is nothing but a word such as ``label``."""
        return self.key == self.folder


def has_labelled_test_part(files: Iterable[Path], source: Path) -> bool:
    """Whether a folder of pairs keeps some for testing: folders such as imagesTs and labelsTs."""
    names = [parse_name(file, source) for file in files]
    return {name.folder_role for name in names if name.subset == "ts"} >= {"image", "label"}


def has_label_name(path: Path, source: Path) -> bool:
    """Whether a file is a label by its folder's name, or else by its own.

    Example:
        >>> from pathlib import Path
        >>> [has_label_name(Path(f"in/{name}.nii"), Path("in")) for name in ("labels/a", "a_seg", "images/a_seg")]
        [True, True, False]
    """
    name = parse_name(path, source)
    return (name.folder_role or name.word_role) == "label"


def parse_name(path: Path, source: Path) -> FileName:
    """Read a path.

    Args:
        path: a file below ``source``; a link's own path, wherever it leads to.
        source: the folder that was searched.

    Example:
        >>> from pathlib import Path
        >>> label = parse_name(Path("data/labelsTr/liver_3_seg.nii.gz"), Path("data"))
        >>> label.name, label.subset, label.folder_role, label.word_role
        ('liver_3', 'tr', 'label', 'label')
    """
    relative = path.relative_to(source)
    stem, folders = strip_suffix(path.name), relative.parts[:-1]
    named_folders = [folder for folder in folders if folder.lower() not in IMAGE_FOLDERS + LABEL_FOLDERS]
    key_folders = [folder for folder in named_folders if not _read_folder_role(folder)]
    words = [word.lower() for word in _WORDS.findall(stem)]
    subsets = [_SUBSETS[match[2].lower()] for folder in folders if (match := _SUBSET.fullmatch(folder))]
    return FileName(
        path=path,
        name=PurePosixPath(*named_folders, _strip_ending(stem)).as_posix(),
        full_name=PurePosixPath(*named_folders, stem).as_posix(),
        full_key=PurePosixPath(*key_folders, stem).as_posix(),
        key="/".join(part for part in (*key_folders, _strip_words(stem)) if part),
        subset=subsets[-1] if subsets else "",
        folder_role=_choose_folder_role(folders),
        word_role=("label" if words[-1] in LABEL_WORDS else "image") if words else "",
    )


def choose_case_ids(names: Sequence[str], other_ids: Collection[str] = ()) -> list[str]:
    """Make the case ids of file names; ids become file names, so that only ASCII letters, digits, ``_.-`` stay.

    Args:
        names: of the files, all different.
        other_ids: of other cases.

    Returns:
        An id for each name. Where several names would get one id, also where upper and lower case are the same, each
        of them that is not the id itself ends in a digest of the name.

    Example:
        >>> choose_case_ids(["liver 1", "liver_1", "spleen"])
        ['liver_1-59bf0e', 'liver_1', 'spleen']
    """
    ids = make_distinct_names(names, _replace_letters, (*RESERVED_CASES, *other_ids))
    return [ids[name] for name in names]


def is_image_file(path: Path) -> bool:
    """Whether a file's name says that it is a volume or a picture that can be read."""
    return path.name.lower().endswith(VOLUME_FILE_SUFFIXES + PICTURE_SUFFIXES)


def is_picture(path: Path) -> bool:
    """Whether a file's name says that it is a picture of two dimensions."""
    return path.name.lower().endswith(PICTURE_SUFFIXES)


def list_data_files(path: Path) -> list[Path]:
    """The files of voxels that lie beside a header of the same name (.mhd); of another image, none."""
    if path.suffix.lower() != ".mhd":
        return []
    return [file for suffix in DATA_SUFFIXES if (file := path.with_suffix(suffix)).is_file()]


def strip_suffix(name: str) -> str:
    """A file's name without the suffix of an image, in any case."""
    return strip_suffix_of(name, (*VOLUME_FILE_SUFFIXES, *PICTURE_SUFFIXES))


def _strip_ending(stem: str) -> str:
    # A name that is nothing but an ending keeps it.
    endings = (e for e in IMAGE_ENDS + LABEL_ENDS if stem.lower().endswith(e) and len(stem) > len(e))
    return stem[: -len(ending)] if (ending := next(endings, "")) else stem


def _strip_words(stem: str) -> str:
    return _WORDS.sub("", stem).strip("-_. ") if _WORDS.search(stem) else stem


def _choose_folder_role(folders: Sequence[str]) -> Role | Literal[""]:
    if any(folder.lower() in LABEL_FOLDERS for folder in folders):
        return "label"
    # The nearest: a folder "segmentation" may hold images and labels.
    return next((role for folder in reversed(folders) if (role := _read_folder_role(folder))), "")


def _read_folder_role(folder: str) -> Role | Literal[""]:
    match = _SUBSET.fullmatch(folder)
    if match:
        return "image" if match[1].lower().startswith("im") else "label"
    if folder.lower() in LABEL_FOLDERS + OTHER_LABEL_FOLDERS:
        return "label"
    return "image" if folder.lower() in IMAGE_FOLDERS + OTHER_IMAGE_FOLDERS else ""


def _replace_letters(name: str) -> str:
    case_id = re.sub(r"[^A-Za-z0-9.-]+", "_", name)
    # Hidden files begin with a dot, and options of commands with a dash.
    case_id = re.sub(r"^[.-]", "_", case_id)[:MAX_ID_LENGTH].rstrip(".")
    return case_id or "_"
