"""Finds what a person wants to look at: a case or a workspace by name, image files, a folder of them, or DICOM.

Files that a user names may be called after a patient, so that the page numbers them; the command says which is which.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from voxflow.errors import DataError
from voxflow.images import list_files
from voxflow.places import Places, read_workspaces
from voxflow.tables import read_rows
from voxflow.viewing.cases import PICTURE_SUFFIXES, ViewerCase, ViewerLayer
from voxflow.viewing.workspace import ConvertedCases, find_case, list_workspace_cases
from voxflow.volumes import VOLUME_SUFFIXES, strip_suffix

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

IMAGE_SUFFIXES = (*VOLUME_SUFFIXES, ".nhdr", *PICTURE_SUFFIXES)
MASK = "mask"
MOST_CASES = 24


@dataclass(frozen=True)
class ViewerInput:
    """What is to be shown.

    Attributes:
        title: heading of the page.
        cases: in order.
        files: which file each case is, where the page does not name it.
        refused: what can't be shown, with the reason.
        remark: a sentence for the page.
    """

    title: str
    cases: tuple[ViewerCase, ...]
    files: Mapping[str, str] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    remark: str = ""


def find_viewer_cases(source: str, mask: Path | None, modality: str, scratch: Path) -> ViewerInput:
    """Find the images and masks that a person names.

    Args:
        source: a path, or the name of a case or of a workspace of params.yaml.
        mask: a mask file, or a folder of masks called as their images; None: those that belong to the source.
        modality: DICOM's, of files that do not say it; empty where it is not known.
        scratch: an empty folder for what DICOM is converted to; must stay until the page is written.

    Raises:
        DataError: nothing is called so, or it holds no image.
    """
    path = Path(source)
    if mask is not None and not mask.exists():
        raise DataError("no such file or folder", path=mask)
    if not path.exists():
        if mask is not None:
            raise DataError("a mask needs an image file or a folder of images", path=path)
        return _find_by_name(source)
    if (path / "cases.csv").is_file() and mask is None:
        return _take_converted(ConvertedCases.read(path), "Converted cases")  # the folder may be called after a patient
    files = [path] if path.is_file() and _is_image(path) else _list_images(path)
    # A folder with both is converted as a whole, which lists what it does not take.
    if files and not _holds_dicom(path):
        return _take_files(path, files, mask, modality)
    return _take_dicom(path, mask, scratch)


def _find_by_name(name: str) -> ViewerInput:
    blocks = read_workspaces()
    places = {key: Places(key, block) for key, block in blocks.items() if isinstance(block, dict)}
    if name in places:
        answered = list_workspace_cases(places[name].volumes, places[name].evaluation, MOST_CASES)
        if answered:
            return ViewerInput(name, tuple(answered), remark="the lowest scores first")
        return _take_converted(ConvertedCases.read(places[name].volumes), name)
    case = find_case(name, [(place.volumes, place.evaluation) for place in places.values()])
    if case is None:
        hint = f"; workspaces: {', '.join(sorted(places))}" if places else ""
        raise DataError(f"{name!r} is no file, no folder, no workspace and no case of one{hint}")
    return ViewerInput(name, (case,))


def _take_converted(converted: ConvertedCases, title: str) -> ViewerInput:
    names = list(converted.rows)
    remark = _say_first(len(names))
    return ViewerInput(title, tuple(converted.open_case(name) for name in names[:MOST_CASES]), remark=remark)


def _take_files(source: Path, files: Sequence[Path], mask: Path | None, modality: str) -> ViewerInput:
    if mask is not None and mask.is_file() and len(files) > 1:
        raise DataError("one mask for several images; give the image, or a folder of masks", path=mask)
    if mask is not None and mask.is_file() and not _is_image(mask):
        raise DataError("a DICOM mask needs the DICOM series that it was drawn on", path=mask)
    cases, names = [], {}
    for number, file in enumerate(files[:MOST_CASES], start=1):
        case = f"image {number}"
        names[case] = str(file)
        layer = _find_mask(file, source, mask)
        layers = () if layer is None else (ViewerLayer(MASK, layer),)
        facts = {MASK: "none is called as this image"} if mask is not None and layer is None else {}
        cases.append(ViewerCase(case, (file,), layers, modalities=(modality,), facts=facts))
    return ViewerInput("Images", tuple(cases), names, remark=_say_first(len(files)))


def _find_mask(image: Path, source: Path, mask: Path | None) -> Path | None:
    """The mask of an image: of the same place or name, or as nnU-Net has it, without the channel's number."""
    if mask is None or mask.is_file():
        return mask
    place = image.relative_to(source) if source.is_dir() else Path(image.name)
    if (mask / place).is_file():
        return mask / place
    name = strip_suffix(place.name, IMAGE_SUFFIXES)
    names = (name, name.rpartition("_")[0])
    by_name = {strip_suffix(file.name, IMAGE_SUFFIXES): file for file in _list_images(mask)}
    return next((by_name[key] for key in names if key in by_name), None)


def _take_dicom(source: Path, mask: Path | None, scratch: Path) -> ViewerInput:
    """Convert DICOM as the stage convert does, labels drawn on it among them."""
    from voxflow.dicom import ConvertOptions, convert_folder

    folder = source
    masks: dict[str, Path] = {}
    if mask is not None and (mask.is_dir() or not _is_image(mask)):
        folder = _gather(scratch / "dicom", (source, mask))
    elif mask is not None:
        masks = {MASK: mask}
    if folder.is_file():
        folder = _gather(scratch / "dicom", (source,))
    convert_folder(folder, scratch / "volumes", ConvertOptions(mapping=False))
    converted = ConvertedCases.read(scratch / "volumes")
    if masks and len(converted.rows) > 1:
        raise DataError(f"one mask for {len(converted.rows)} images; give the folder of one series", path=mask)
    rows = read_rows(scratch / "volumes/conversion.csv") or []
    refused = {f"series {row['series']}": row.get("reason", "") for row in rows if row.get("verdict") == "quarantined"}
    cases = tuple(converted.open_case(name, masks) for name in list(converted.rows)[:MOST_CASES])
    skipped = Counter(row.get("reason", "") for row in rows if row.get("verdict") == "skipped")
    reasons = "; ".join(f"{count} {reason}" for reason, count in skipped.items())
    remarks = (_say_first(len(converted.rows)), f"skipped: {reasons}" if reasons else "")
    return ViewerInput("DICOM", cases, refused=refused, remark=", ".join(filter(None, remarks)))


def _gather(folder: Path, sources: Sequence[Path]) -> Path:
    """A folder that holds several files or folders, since conversion reads one."""
    folder.mkdir()
    for number, source in enumerate(sources):
        (folder / f"{number}{'' if source.is_dir() else '.dcm'}").symlink_to(source.resolve())
    return folder


def _list_images(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in list_files(folder) if _is_image(path) and not path.name.startswith("."))


def _holds_dicom(folder: Path) -> bool:
    """Whether a file below the folder begins as DICOM files do (PS3.10 7.1)."""
    for path in list_files(folder) if folder.is_dir() else ():
        if not _is_image(path) and path.is_file():
            with path.open("rb") as stream:
                if stream.read(132)[128:] == b"DICM":
                    return True
    return False


def _is_image(path: Path) -> bool:
    return path.name.lower().endswith(IMAGE_SUFFIXES)


def _say_first(count: int) -> str:
    return f"the first {MOST_CASES} of {count}" if count > MOST_CASES else ""
