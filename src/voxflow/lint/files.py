"""Checks the image files of a datalist: whether they exist, what their headers say, and who is in two parts."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from voxflow.errors import DataError
from voxflow.files import describe_special_file
from voxflow.lint.headers import RADIOGRAPHS, VOLUMES, ImageHeader, is_radiograph, is_volume, read_header
from voxflow.volumes import describe_forms, describe_mismatch, describe_turn, read_channels, read_geometry

if TYPE_CHECKING:
    from collections.abc import Iterable

    from voxflow.findings import FindingCollector, Severity
    from voxflow.geometry import Geometry
    from voxflow.lint.listing import LenientDatalist, ListedCase

THREADS = 16  # headers wait for the disk, not for the processor


@dataclass
class ImageFile:
    """One file of a datalist.

    Attributes:
        header: None where it is missing, faulty or of a format without a known header.
        geometry: of a volume, the grid of its voxels; None where it is not known.
        identity: device and inode: two names of one file have the same.
        fault: what is wrong with it; empty when it is all right.
        code: the finding's.
    """

    header: ImageHeader | None = None
    geometry: Geometry | None = None
    identity: tuple[int, int] | None = None
    fault: str = ""
    code: str = ""


@dataclass
class ImageHeaders:
    """The headers of a datalist's files, by path."""

    files: dict[Path, ImageFile] = field(default_factory=dict)

    def header(self, path: Path | tuple[int, ...] | None) -> ImageHeader | None:
        """The header of a file; None where it is not known."""
        return self.files[path].header if isinstance(path, Path) and path in self.files else None

    def geometry(self, path: Path) -> Geometry | None:
        """The grid of a volume; None where it is not known."""
        return self.files[path].geometry if path in self.files else None

    def list_first_headers(self, items: Iterable[ListedCase]) -> list[tuple[ListedCase, ImageHeader]]:
        """Each case whose first image has a known header."""
        first_headers = [(item, self.header(item.images[0])) for item in items if item.images]
        return [(item, header) for item, header in first_headers if header]


def check_files(
    listing: LenientDatalist, keys: list[str], notes: FindingCollector, *, allows_repeats: bool = False
) -> ImageHeaders:
    """Look at every file under some keys of a datalist and note what is wrong.

    Headers are read by several threads: on a network disk they wait for the disk, not for the processor.

    Args:
        listing: the datalist.
        keys: those that a section reads.
        notes: of the datalist.
        allows_repeats: a case under two keys is a warning, unless a split has made the datalist.
    """
    parts = {key: listing.parts[key] for key in keys}
    files = {path for items in parts.values() for item in items for _, path in item.files}
    with ThreadPoolExecutor(THREADS) as pool:
        images = ImageHeaders(dict(zip(files, pool.map(_inspect_file, files), strict=True)))
    _note_faults(parts, images, notes)
    _note_leaks(parts, images, notes, listing, allows_repeats=allows_repeats)
    for key, items in parts.items():
        _note_repeats(key, items, notes)
        _note_grids(items, images, notes)
    _note_forms(parts, images, notes)
    _note_bits([item for items in parts.values() for item in items], images, notes)
    return images


def _inspect_file(path: Path) -> ImageFile:
    try:
        status = path.stat()
        file = ImageFile(identity=(status.st_dev, status.st_ino))
        if path.is_dir():
            file.fault, file.code = "is a folder, expected an image file", "unreadable-image"
        elif special := describe_special_file(path):
            file.fault, file.code = f"is {special}, expected an image file", "unreadable-image"
        elif not status.st_size:
            file.fault, file.code = "the file is empty", "unreadable-image"
        elif not (is_volume(path) or is_radiograph(path)):
            file.fault, file.code = f"unknown image format {path.suffix!r}", "image-format"
        else:
            file.header = read_header(path)
            if is_volume(path):
                file.geometry = read_geometry(path, has_channels=True)
        if file.header and file.header.is_doubtful:
            read_channels(path)
        if file.header and file.header.missing:
            file.fault = f"the file is cut off: {file.header.missing} bytes are missing"
            file.code = "unreadable-image"
    except FileNotFoundError:
        return ImageFile(fault="file not found", code="missing-file")
    except DataError as error:
        return ImageFile(fault=error.message, code="unreadable-image")
    except (OSError, ValueError) as error:  # a name that no file can have is a ValueError
        reason = error.strerror if isinstance(error, OSError) else error
        return ImageFile(fault=f"can't be read: {reason}", code="unreadable-image")
    return file


_FIXES = {
    "missing-file": "correct the path or the data root",
    "unreadable-image": "write the file anew or take the case out",
    "image-format": f"convert it; known: {', '.join((*VOLUMES, *RADIOGRAPHS))}",
}


def _note_faults(parts: dict[str, list[ListedCase]], images: ImageHeaders, notes: FindingCollector) -> None:
    by_code = defaultdict(list)
    for items in parts.values():
        for item in items:
            for json_path, path in item.files:
                file = images.files[path]
                # One that leaves the root is noted already, whether it is there or not.
                if file.fault and not notes.has(json_path):
                    by_code[file.code].append((json_path, f"{file.fault}: {path}", _FIXES[file.code]))
    for code, faults in by_code.items():
        notes.add_alike("error", code, faults)


def _note_leaks(
    parts: dict[str, list[ListedCase]],
    images: ImageHeaders,
    notes: FindingCollector,
    listing: LenientDatalist,
    *,
    allows_repeats: bool,
) -> None:
    """Images and patients that stand under two of the keys."""
    severity, hint = judge_repeats(listing, allows_repeats=allows_repeats)
    files: dict[tuple[int, int] | Path, str] = {}
    patients: dict[str, str] = {}
    leaks: dict[str, list[tuple[str, str, str]]] = {"leak": [], "patient-leak": []}
    for key, items in parts.items():
        for item in items:
            for json_path, path in item.files[: len(item.images)]:
                first = files.setdefault(images.files[path].identity or path, item.json_path)
                if _part_name(first) != key:
                    message = f"{path.name} is {first}, too"
                    fix = f"keep it in {_part_name(first)!r} or in {key!r} only{hint}"
                    leaks["leak"].append((json_path, message, fix))
            first = patients.setdefault(item.patient, item.json_path) if item.patient else item.json_path
            if _part_name(first) != key and not any(place == f"{item.json_path}.image" for place, *_ in leaks["leak"]):
                message = f"the patient {item.patient!r} is in {first}, too"
                leaks["patient-leak"].append(
                    (f"{item.json_path}.patient", message, "keep a patient's cases in one part")
                )
    for code, overlaps in leaks.items():
        notes.add_alike(severity, code, overlaps)


def judge_repeats(listing: LenientDatalist, *, allows_repeats: bool) -> tuple[Severity, str]:
    """How bad a case in two parts is, and what ends the advice.

    Args:
        listing: the datalist; a split never makes one.
        allows_repeats: ``allow_repeated_cases`` is set.
    """
    if listing.is_split:
        return "error", ""
    if allows_repeats:
        return "warning", ": allow_repeated_cases is set, and its score says nothing of other patients"
    return "error", ", or set allow_repeated_cases to true if it is meant"


def _note_repeats(key: str, items: list[ListedCase], notes: FindingCollector) -> None:
    first: dict[tuple[Path, ...], str] = {}
    masks: dict[Path, ListedCase] = {}
    repeated, shared = [], []
    for item in items:
        if item.images and first.setdefault(item.images, item.json_path) != item.json_path:
            message = f"{item.images[0].name} is {first[item.images]}, too"
            repeated.append((item.json_path, message, "list each case once"))
        elif isinstance(item.label, Path) and masks.setdefault(item.label, item) is not item:
            message = f"{item.label.name} is the label of {masks[item.label].json_path}, too, which has another image"
            shared.append((f"{item.json_path}.label", message, "give each image its own label"))
    notes.add_alike("warning", "duplicate-case", repeated)
    notes.add_alike("warning", "shared-label", shared)
    if not items:
        notes.error("empty-part", key, "lists no cases", f"add cases to {key!r}")


def _note_grids(items: list[ListedCase], images: ImageHeaders, notes: FindingCollector) -> None:
    """Labels and channels whose voxels are not their image's."""
    mismatches, turns = [], []
    for item in items:
        image = images.geometry(item.images[0]) if item.images else None
        for json_path, path in item.files[1:]:
            grid = images.geometry(path)
            if image is None or grid is None:
                continue
            if grid.find_axes(image) is None:
                message = f"{path.name}: {describe_mismatch(grid, image)}"
                mismatches.append((json_path, message, "resample it to the image's grid"))
            elif turn := describe_turn(grid, image):
                turns.append((json_path, f"{path.name}: {turn}", "check that it belongs to this image"))
    notes.add_alike("error", "grid-mismatch", mismatches)
    notes.add_alike("warning", "turned-axes", turns)


def _note_forms(parts: dict[str, list[ListedCase]], images: ImageHeaders, notes: FindingCollector) -> None:
    """NIfTI files whose header states two places."""
    files = dict(reversed([pair for items in parts.values() for item in items for pair in item.files]))
    differing = [
        (json_path, f"{path.name}: {note}", "check where the image lies, and state one place")
        for json_path, path in files.items()
        if (grid := images.geometry(path)) and (note := describe_forms(grid))
    ]
    notes.add_alike("warning", "two-places", differing[::-1])


def _note_bits(items: list[ListedCase], images: ImageHeaders, notes: FindingCollector) -> None:
    pngs = [(item, header) for item, header in images.list_first_headers(items) if header.colour]
    by_bits = Counter(header.bits for _, header in pngs if header.colour != "palette")
    if len(by_bits) > 1:
        counts = " and ".join(f"{count} of {bits} bits" for bits, count in sorted(by_bits.items()))
        rare = min(by_bits, key=lambda bits: by_bits[bits])
        json_path = next(item.json_path for item, header in pngs if header.bits == rare)
        fix = "convert them to one depth, or centre each image on its own mean (CenterData without values)"
        notes.warning("png-depth", f"{json_path}.image", f"PNGs differ in depth: {counts}", fix)
    palette = [
        (f"{item.json_path}.image", "a palette PNG: what it stores are places in a table of colours", "save it as grey")
        for item, header in pngs
        if header.colour == "palette"
    ]
    wide = [
        (f"{item.json_path}.image", f"{header.colour} of 16 bits is read with 8", "save it as grey of 16 bits")
        for item, header in pngs
        if header.colour in {"RGB", "RGBA", "grey and alpha"} and header.bits == 16
    ]
    notes.add_alike("warning", "png-depth", palette)
    notes.add_alike("warning", "png-depth", wide)


def is_folder(path: Path) -> bool:
    """Whether a folder exists; a path that no system would take, such as one with a NUL, is none."""
    try:
        return os.path.isdir(path)  # noqa: PTH112 (pathlib raises where the name is too long)
    except ValueError:
        return False


def _part_name(json_path: str) -> str:
    return json_path.rpartition("[")[0]
