"""Owns the files that a datalist names: whether they are there, what their headers say, who stands in two parts."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from voxflow.errors import DataError
from voxflow.lint.headers import RADIOGRAPHS, VOLUMES, Header, is_radiograph, is_volume, read_header

if TYPE_CHECKING:
    from collections.abc import Iterable

    from voxflow.findings import FindingCollector
    from voxflow.lint.listing import Item, Listing

THREADS = 16  # headers wait for the disk, not for the processor
SPACING_TOLERANCE = 1e-3


@dataclass
class Seen:
    """One file of a datalist.

    Attributes:
        header: None where it is missing, faulty or of a format without a known header.
        identity: device and inode: two names of one file have the same.
        fault: what is wrong with it; empty when it is all right.
        code: the finding's.
    """

    header: Header | None = None
    identity: tuple[int, int] | None = None
    fault: str = ""
    code: str = ""


@dataclass
class Images:
    """The headers of a datalist's files, by path."""

    seen: dict[Path, Seen] = field(default_factory=dict)

    def header(self, path: Path | tuple[int, ...] | None) -> Header | None:
        """The header of a file; None where it is not known."""
        return self.seen[path].header if isinstance(path, Path) and path in self.seen else None

    def of_images(self, items: Iterable[Item]) -> list[tuple[Item, Header]]:
        """Each case whose first image has a known header."""
        found = [(item, self.header(item.images[0])) for item in items if item.images]
        return [(item, header) for item, header in found if header]


def check_files(listing: Listing, keys: list[str], notes: FindingCollector) -> Images:
    """Look at every file under ``keys`` and note what is wrong; the headers are read several at a time."""
    parts = {key: listing.parts[key] for key in keys}
    files = {path for items in parts.values() for item in items for _, path in item.files}
    with ThreadPoolExecutor(THREADS) as pool:
        images = Images(dict(zip(files, pool.map(_look, files), strict=True)))
    _note_faults(parts, images, notes)
    _note_leaks(parts, images, notes)
    for key, items in parts.items():
        _note_repeats(key, items, notes)
        _note_labels(items, images, notes)
    _note_bits([item for items in parts.values() for item in items], images, notes)
    return images


def _look(path: Path) -> Seen:
    try:
        status = path.stat()
        seen = Seen(identity=(status.st_dev, status.st_ino))
        if path.is_dir():
            seen.fault, seen.code = "is a folder, expected an image file", "unreadable-image"
        elif not status.st_size:
            seen.fault, seen.code = "the file is empty", "unreadable-image"
        elif not (is_volume(path) or is_radiograph(path)):
            seen.fault, seen.code = f"unknown image format {path.suffix!r}", "image-format"
        else:
            seen.header = read_header(path)
        if seen.header and seen.header.missing:
            seen.fault = f"the file is cut off: {seen.header.missing} bytes are missing"
            seen.code = "unreadable-image"
    except FileNotFoundError:
        return Seen(fault="file not found", code="missing-file")
    except DataError as error:
        return Seen(fault=error.message, code="unreadable-image")
    except (OSError, ValueError) as error:  # a name that no file can have is a ValueError
        reason = error.strerror if isinstance(error, OSError) else error
        return Seen(fault=f"can't be read: {reason}", code="unreadable-image")
    return seen


_FIXES = {
    "missing-file": "correct the path or the data root",
    "unreadable-image": "write the file anew or take the case out",
    "image-format": f"convert it; known: {', '.join((*VOLUMES, *RADIOGRAPHS))}",
}


def _note_faults(parts: dict[str, list[Item]], images: Images, notes: FindingCollector) -> None:
    by_code = defaultdict(list)
    for items in parts.values():
        for item in items:
            for where, path in item.files:
                seen = images.seen[path]
                # One that leaves the root is noted already, whether it is there or not.
                if seen.fault and not notes.has(where):
                    by_code[seen.code].append((where, f"{seen.fault}: {path}", _FIXES[seen.code]))
    for code, found in by_code.items():
        notes.add_alike("error", code, found)


def _note_leaks(parts: dict[str, list[Item]], images: Images, notes: FindingCollector) -> None:
    """Images and patients that stand under two of the keys."""
    files: dict[tuple[int, int] | Path, str] = {}
    patients: dict[str, str] = {}
    leaks: dict[str, list[tuple[str, str, str]]] = {"leak": [], "patient-leak": []}
    for key, items in parts.items():
        for item in items:
            for where, path in item.files[: len(item.images)]:
                first = files.setdefault(images.seen[path].identity or path, item.where)
                if _part(first) != key:
                    message = f"{path.name} is {first}, too"
                    leaks["leak"].append((where, message, f"keep it in {_part(first)!r} or in {key!r} only"))
            first = patients.setdefault(item.patient, item.where) if item.patient else item.where
            if _part(first) != key and not any(place == f"{item.where}.image" for place, *_ in leaks["leak"]):
                message = f"the patient {item.patient!r} is in {first}, too"
                leaks["patient-leak"].append((f"{item.where}.patient", message, "keep a patient's cases in one part"))
    for code, found in leaks.items():
        notes.add_alike("error", code, found)


def _note_repeats(key: str, items: list[Item], notes: FindingCollector) -> None:
    first: dict[tuple[Path, ...], str] = {}
    masks: dict[Path, Item] = {}
    repeated, shared = [], []
    for item in items:
        if item.images and first.setdefault(item.images, item.where) != item.where:
            message = f"{item.images[0].name} is {first[item.images]}, too"
            repeated.append((item.where, message, "list each case once"))
        elif isinstance(item.label, Path) and masks.setdefault(item.label, item) is not item:
            message = f"{item.label.name} is the label of {masks[item.label].where}, too, which has another image"
            shared.append((f"{item.where}.label", message, "give each image its own label"))
    notes.add_alike("warning", "duplicate-case", repeated)
    notes.add_alike("warning", "shared-label", shared)
    if not items:
        notes.error("empty-part", key, "lists no cases", f"add cases to {key!r}")


def _note_labels(items: list[Item], images: Images, notes: FindingCollector) -> None:
    """Labels and channels that lie on another grid than their image."""
    sizes, spacings = [], []
    for item in items:
        grid = images.header(item.images[0]) if item.images else None
        others = [(place, path) for place, path in item.files[1:] if images.header(path)]
        for where, path in others:
            header = images.header(path)
            if grid is None or header is None or len(grid.size) != len(header.size):
                continue
            if header.size != grid.size:
                message = f"{_by(header.size)} voxels, the image has {_by(grid.size)}"
                sizes.append((where, message, "resample it to the image's grid"))
            elif any(abs(a - b) > SPACING_TOLERANCE for a, b in zip(header.spacing, grid.spacing, strict=True)):
                message = f"spacing {_mm(header.spacing)} mm, the image has {_mm(grid.spacing)} mm"
                spacings.append((where, message, "check that it belongs to this image"))
    notes.add_alike("error", "grid-mismatch", sizes)
    notes.add_alike("warning", "spacing-mismatch", spacings)


def _note_bits(items: list[Item], images: Images, notes: FindingCollector) -> None:
    pngs = [(item, header) for item, header in images.of_images(items) if header.colour]
    by_bits = Counter(header.bits for _, header in pngs if header.colour != "palette")
    if len(by_bits) > 1:
        told = " and ".join(f"{count} of {bits} bits" for bits, count in sorted(by_bits.items()))
        rare = min(by_bits, key=lambda bits: by_bits[bits])
        where = next(item.where for item, header in pngs if header.bits == rare)
        fix = "convert them to one depth, or centre each image on its own mean (CenterData without values)"
        notes.warning("png-depth", f"{where}.image", f"PNGs differ in depth: {told}", fix)
    palette = [
        (f"{item.where}.image", "a palette PNG: what it stores are places in a table of colours", "save it as grey")
        for item, header in pngs
        if header.colour == "palette"
    ]
    wide = [
        (f"{item.where}.image", f"{header.colour} of 16 bits is read with 8", "save it as grey of 16 bits")
        for item, header in pngs
        if header.colour in {"RGB", "RGBA", "grey and alpha"} and header.bits == 16
    ]
    notes.add_alike("warning", "png-depth", palette)
    notes.add_alike("warning", "png-depth", wide)


def is_folder(path: Path) -> bool:
    """Whether a folder is there; a path that no system would take is none."""
    try:
        return os.path.isdir(path)  # noqa: PTH112 (pathlib raises where the name is too long)
    except ValueError:
        return False


def _part(where: str) -> str:
    return where.rpartition("[")[0]


def _by(size: tuple[int, ...]) -> str:
    return " × ".join(map(str, size))


def _mm(spacing: tuple[float, ...]) -> str:
    return " × ".join(f"{step:g}" for step in spacing)
