"""Reading a datalist leniently: what is wrong with it is noted, and all that can be read is kept."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxflow.datalist import SPLIT_MARK, Datalist, FaultyDatalistError, join_listed_path
from voxflow.errors import DataError
from voxflow.files import forgive_json, read_text
from voxflow.findings import show, suggest
from voxflow.layouts import IGNORE
from voxflow.naming import name_classes
from voxflow.texts import decode_json
from voxflow.volumes import HIGHEST_LABEL

if TYPE_CHECKING:
    from voxflow.findings import FindingCollector

METADATA = (
    "channels",
    "description",
    "ignore",
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
    "regions",
    "relase",  # as the Decathlon spells it
    "release",
    "tensorImageSize",
)
PARTS = ("training", "validation", "testing", "test", "inference")
MAX_FAULTS = 20  # of the form of its cases; more of them have one reason
ITEM = ("image", "label", "case", "patient", "labelled")


@dataclass(frozen=True)
class ListedCase:
    """One case as far as it could be read.

    Attributes:
        json_path: its place, such as ``training[3]``.
        images: image files; empty where the item has none.
        label: the label file, or the classes; None where there is none.
        patient: who it belongs to; empty when not told.
        is_partial: voxels of its label, or classes in it, may not be labelled.
    """

    json_path: str
    images: tuple[Path, ...]
    label: Path | tuple[int, ...] | None
    patient: str
    is_partial: bool = False

    @property
    def files(self) -> list[tuple[str, Path]]:
        """Each file with its JSON path."""
        several = len(self.images) > 1
        named = enumerate(self.images)
        images = [(f"{self.json_path}.image[{n}]" if several else f"{self.json_path}.image", path) for n, path in named]
        return [*images, (f"{self.json_path}.label", self.label)] if isinstance(self.label, Path) else images


@dataclass(frozen=True)
class LenientDatalist:
    """A datalist as far as it could be read.

    Attributes:
        path: the file.
        root: what its paths are relative to.
        parts: cases by key.
        label_format: classification: the highest value a position.
        labels: names by label value, from its metadata.
        modality: such as "CT"; empty when not told.
        is_split: a split has made it; a person wrote any other.
    """

    path: Path
    root: Path
    parts: dict[str, list[ListedCase]]
    label_format: tuple[int, ...] = ()
    labels: dict[int, str] = field(default_factory=dict)
    modality: tuple[str, ...] = ()
    is_split: bool = False


def read_leniently(path: Path, root: Path, notes: FindingCollector) -> LenientDatalist | None:
    """Read a datalist and note all that is wrong with its form; what can be read is kept.

    Args:
        path: the file.
        root: the folder that its paths are relative to.
        notes: of the datalist.

    Returns:
        None where it is no datalist at all.
    """
    content = _read_object(path, notes)
    if content is None:
        return None
    _check_keys(content, notes)
    names = content.get("labels")
    has_ignore = content.get(IGNORE) is not None or (
        isinstance(names, dict) and any(IGNORE in (value, name) for value, name in names.items())
    )
    parts = {
        key: [_read_case(item, f"{key}[{n}]", root, notes, has_ignore=has_ignore) for n, item in enumerate(value)]
        for key, value in content.items()
        if isinstance(value, list) and (key in PARTS or any(isinstance(item, dict) for item in value))
    }
    declared_format = content.get("label_format")
    label_format = tuple(n for n in declared_format if isinstance(n, int)) if isinstance(declared_format, list) else ()
    is_split = str(content.get("description", "")).endswith(SPLIT_MARK)
    listing = LenientDatalist(
        path, root, parts, label_format, _read_labels(content, notes), _read_modality(content, notes), is_split
    )
    _check_counts(content, listing, notes)
    _check_rules(path, root, notes)
    return listing


def _read_object(path: Path, notes: FindingCollector) -> dict[str, Any] | None:
    try:
        plain, comments, commas = forgive_json(read_text(path))
        if comments or commas:
            message = f"forgave {comments} comment(s) and {commas} trailing comma(s)"
            notes.warning("syntax", "", message, "take them out: JSON has neither")
        content = decode_json(plain)
    except json.JSONDecodeError as error:
        line = next(iter(error.doc.splitlines()[error.lineno - 1 :]), "").strip()
        place = f"line {error.lineno}, column {error.colno}"
        notes.error("syntax", place, f"not valid JSON: {error.msg}, at {show(line)}", "mend the JSON there")
        return None
    except (OSError, DataError) as error:
        reason = error.message if isinstance(error, DataError) else error
        notes.error("unreadable-file", "", f"unreadable: {reason}", "give a datalist in UTF-8")
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


def _read_case(item: Any, json_path: str, root: Path, notes: FindingCollector, *, has_ignore: bool) -> ListedCase:
    if isinstance(item, str):
        return ListedCase(json_path, (join_listed_path(root, item),), None, "")
    if not isinstance(item, dict):
        fix = 'write {"image": ..., "label": ...}'
        notes.error("datalist-form", json_path, f"expected an object, received {show(item)}", fix)
        return ListedCase(json_path, (), None, "")
    for key in item.keys() - set(ITEM):
        notes.warning(
            "unknown-key", f"{json_path}.{key}", f"unknown key {key!r}; it is not read", suggest(key, ITEM).fix
        )
    image = item.get("image")
    names = [image] if isinstance(image, str) else image if isinstance(image, list) else []
    images = tuple(join_listed_path(root, name) for name in names if isinstance(name, str) and name)
    label = item.get("label")
    read: Path | tuple[int, ...] | None = None
    if isinstance(label, str) and label:
        read = join_listed_path(root, label)
    elif isinstance(label, list):
        read = tuple(n for n in label if isinstance(n, int))
    is_partial = isinstance(read, Path) and (has_ignore or item.get("labelled") is not None)
    return ListedCase(json_path, images, read, str(item["patient"]) if "patient" in item else "", is_partial)


def _read_labels(content: dict[str, Any], notes: FindingCollector) -> dict[int, str]:
    declared = content.get("labels")
    if declared is None:
        return {}
    if isinstance(declared, list) and content.get("label_format") is not None:
        return {n: str(name) for n, name in enumerate(declared)}
    try:
        names = {int(value): str(name) for value, name in declared.items() if IGNORE not in (value, name)}
    except (AttributeError, TypeError, ValueError):
        fix = 'write {"0": "background", "1": "spleen"}'
        notes.warning("datalist-labels", "labels", f"names no label values: {show(declared)}", fix)
        return {}
    if max(names, default=0) > HIGHEST_LABEL:
        message = f"names the value {show(max(names))}"
        notes.error("datalist-labels", "labels", message, f"label values go up to {HIGHEST_LABEL}")
        return {}
    gaps = sorted(set(range(max(names, default=0) + 1)) - names.keys())
    if (gaps and not content.get("regions")) or min(names, default=0) < 0:
        message = f"names the values {sorted(names)}; {gaps or 'negative ones'} would be a class without a name"
        notes.warning("datalist-labels", "labels", message, "name every value from 0 on")
    _check_label_names(dict(sorted(names.items())), notes)
    return names


def _check_label_names(names: dict[int, str], notes: FindingCollector) -> None:
    for (value, name), distinct in zip(names.items(), name_classes(list(names.values())), strict=True):
        if distinct != name:
            message = f"value {value} is called {name!r}, which is no name of its own; tables will say {distinct!r}"
            notes.warning("datalist-labels", f"labels.{value}", message, "give each value another name")


def _read_modality(content: dict[str, Any], notes: FindingCollector) -> tuple[str, ...]:
    declared = content.get("modality", "")
    if isinstance(declared, str):
        return (declared,) if declared else ()
    if isinstance(declared, dict) and all(isinstance(name, str) for name in declared.values()):
        return tuple(declared.values())
    fix = 'write "CT" or {"0": "CT"}'
    notes.warning("datalist-modality", "modality", f"expected a name or one a channel, received {show(declared)}", fix)
    return ()


def _check_counts(content: dict[str, Any], listing: LenientDatalist, notes: FindingCollector) -> None:
    count = {part: len(cases) for part, cases in listing.parts.items()}
    for key, parts in _COUNTS.items():
        declared, counts = content.get(key), [count[part] for part in parts if part in count]
        # The Decathlon counts the cases that validation was split from among those of training.
        if isinstance(declared, int) and parts[0] in count and declared not in {counts[0], sum(counts)}:
            message = f"{declared}, but {parts[0]!r} lists {counts[0]}"
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
