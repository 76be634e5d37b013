"""Owns reading a datalist leniently: what is wrong with it is noted, and all that can be read is kept."""

from __future__ import annotations

import json
import os.path
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxflow.datalist import Datalist, FaultyDatalistError
from voxflow.findings import show, suggest

if TYPE_CHECKING:
    from voxflow.findings import FindingCollector

METADATA = (
    "description",
    "labels",
    "label_format",
    "licence",
    "license",
    "modality",
    "name",
    "numTest",
    "numTraining",
    "numValidation",
    "reference",
    "relase",  # as the Decathlon spells it
    "release",
    "tensorImageSize",
)
PARTS = ("training", "validation", "testing", "test", "inference")
MAX_FAULTS = 20  # of the form of its cases; more of them have one reason
ITEM = ("image", "label", "case", "patient")


@dataclass(frozen=True)
class Item:
    """One case as far as it could be read.

    Attributes:
        where: its JSON path, such as ``training[3]``.
        images: image files; empty where the item has none.
        label: the label file, or the classes; None where there is none.
        patient: who it belongs to; empty when not told.
    """

    where: str
    images: tuple[Path, ...]
    label: Path | tuple[int, ...] | None
    patient: str

    @property
    def files(self) -> list[tuple[str, Path]]:
        """Each file with its JSON path."""
        several = len(self.images) > 1
        named = enumerate(self.images)
        images = [(f"{self.where}.image[{n}]" if several else f"{self.where}.image", path) for n, path in named]
        return [*images, (f"{self.where}.label", self.label)] if isinstance(self.label, Path) else images


@dataclass(frozen=True)
class Listing:
    """A datalist as far as it could be read.

    Attributes:
        path: the file.
        root: what its paths are relative to.
        parts: cases by key.
        label_format: classification: the highest value a position.
        labels: names by label value, from its metadata.
        modality: such as "CT"; empty when not told.
    """

    path: Path
    root: Path
    parts: dict[str, list[Item]]
    label_format: tuple[int, ...] = ()
    labels: dict[int, str] = field(default_factory=dict)
    modality: tuple[str, ...] = ()


def read_listing(path: Path, root: Path, notes: FindingCollector) -> Listing | None:
    """Read a datalist and note all that is wrong with its form; None where it is no datalist at all."""
    content = _parse(path, notes)
    if content is None:
        return None
    _check_keys(content, notes)
    parts = {
        key: [_item(item, f"{key}[{n}]", root, notes) for n, item in enumerate(value)]
        for key, value in content.items()
        if isinstance(value, list) and (key in PARTS or any(isinstance(item, dict) for item in value))
    }
    given = content.get("label_format")
    label_format = tuple(n for n in given if isinstance(n, int)) if isinstance(given, list) else ()
    listing = Listing(path, root, parts, label_format, _labels(content, notes), _modality(content, notes))
    _check_counts(content, listing, notes)
    _check_rules(path, root, notes)
    return listing


def _parse(path: Path, notes: FindingCollector) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        line = next(iter(error.doc.splitlines()[error.lineno - 1 :]), "").strip()
        where = f"line {error.lineno}, column {error.colno}"
        notes.error("syntax", where, f"not valid JSON: {error.msg}, at {show(line)}", "mend the JSON there")
        return None
    except (OSError, UnicodeDecodeError, RecursionError) as error:
        notes.error("unreadable-file", "", f"unreadable: {error}", "give a datalist in UTF-8")
        return None
    if isinstance(content, dict):
        return content
    form = '{"training": [{"image": ..., "label": ...}], "validation": [...]}'
    notes.error("datalist-form", "", f"expected an object, received {show(content)}", f"write {form}")
    return None


def _check_keys(content: dict[str, Any], notes: FindingCollector) -> None:
    for key, value in content.items():
        if key in METADATA or key in PARTS or key.startswith("__"):
            continue
        holds_cases = isinstance(value, list) and any(isinstance(item, dict) for item in value)
        near = suggest(key, (*PARTS, *METADATA))
        if near.nearest:
            notes.warning("unknown-key", key, f"unknown key {key!r}", near.fix)
        elif not holds_cases:
            notes.warning("unknown-key", key, f"{key!r} is neither metadata nor a list of cases", "leave it out")


def _item(item: Any, where: str, root: Path, notes: FindingCollector) -> Item:
    if isinstance(item, str):
        return Item(where, (root / item,), None, "")
    if not isinstance(item, dict):
        fix = 'write {"image": ..., "label": ...}'
        notes.error("datalist-form", where, f"expected an object, received {show(item)}", fix)
        return Item(where, (), None, "")
    for key in item.keys() - set(ITEM):
        notes.warning("unknown-key", f"{where}.{key}", f"unknown key {key!r}; it is not read", suggest(key, ITEM).fix)
    given = item.get("image")
    names = [given] if isinstance(given, str) else given if isinstance(given, list) else []
    images = tuple(_join(root, name) for name in names if isinstance(name, str) and name)
    label = item.get("label")
    read: Path | tuple[int, ...] | None = None
    if isinstance(label, str) and label:
        read = _join(root, label)
    elif isinstance(label, list):
        read = tuple(n for n in label if isinstance(n, int))
    return Item(where, images, read, str(item["patient"]) if "patient" in item else "")


def _labels(content: dict[str, Any], notes: FindingCollector) -> dict[int, str]:
    given = content.get("labels")
    if given is None:
        return {}
    if isinstance(given, list) and content.get("label_format") is not None:
        return {n: str(name) for n, name in enumerate(given)}
    try:
        names = {int(value): str(name) for value, name in given.items()}
    except (AttributeError, TypeError, ValueError):
        fix = 'write {"0": "background", "1": "spleen"}'
        notes.warning("datalist-labels", "labels", f"names no label values: {show(given)}", fix)
        return {}
    gaps = sorted(set(range(max(names, default=0) + 1)) - names.keys())
    if gaps or min(names, default=0) < 0:
        message = f"names the values {sorted(names)}; {gaps or 'negative ones'} would be a class without a name"
        notes.warning("datalist-labels", "labels", message, "name every value from 0 on")
    return names


def _modality(content: dict[str, Any], notes: FindingCollector) -> tuple[str, ...]:
    given = content.get("modality", "")
    if isinstance(given, str):
        return (given,) if given else ()
    if isinstance(given, dict) and all(isinstance(name, str) for name in given.values()):
        return tuple(given.values())
    fix = 'write "CT" or {"0": "CT"}'
    notes.warning("datalist-modality", "modality", f"expected a name or one a channel, received {show(given)}", fix)
    return ()


def _check_counts(content: dict[str, Any], listing: Listing, notes: FindingCollector) -> None:
    count = {part: len(cases) for part, cases in listing.parts.items()}
    for key, parts in _COUNTS.items():
        told, counts = content.get(key), [count[part] for part in parts if part in count]
        # The Decathlon counts the cases that validation was split from among those of training.
        if isinstance(told, int) and parts[0] in count and told not in {counts[0], sum(counts)}:
            message = f"{told}, but {parts[0]!r} lists {counts[0]}"
            notes.warning("datalist-count", key, message, f"write {counts[0]}")


def _check_rules(path: Path, root: Path, notes: FindingCollector) -> None:
    """The datalist's own reader decides; its faults are kept word for word."""
    try:
        Datalist.read(path, root)
    except FaultyDatalistError as error:
        # What is no object has no image either; that was said.
        for fault in [fault for fault in error.faults[:MAX_FAULTS] if not notes.has(fault.where)]:
            notes.error(fault.code, fault.where, fault.message, fault.fix)
    except (TypeError, ValueError, AttributeError, KeyError, RecursionError) as error:
        notes.error("datalist-form", "", f"its form can't be read: {error}", "see docs/your-own-data.md")


_COUNTS = {
    "numTraining": ("training", "validation"),
    "numTest": ("testing", "test"),
    "numValidation": ("validation",),
}


def _join(root: Path, name: str) -> Path:
    return Path(os.path.normpath(root / name))
