"""Configuration and datalist together: which datalist, which of its keys and which cases each section reads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxflow.config import read_switch
from voxflow.findings import suggest
from voxflow.lint.data import WorkspaceData
from voxflow.lint.files import check_files, is_folder, judge_repeats
from voxflow.lint.headers import is_radiograph, is_volume
from voxflow.lint.listing import LenientDatalist, read_leniently

if TYPE_CHECKING:
    from collections.abc import Mapping

    from voxflow.findings import FindingCollector
    from voxflow.lint.listing import ListedCase
    from voxflow.lint.reading import ConfigReading
    from voxflow.lint.report import CheckReport
    from voxflow.planning import Target

DEFAULT_KEY = "validation"


@dataclass(frozen=True)
class CaseSource:
    """Where a section's cases come from.

    Attributes:
        section: "train", "validate" or "evaluate".
        path: the datalist.
        root: what its paths are relative to.
        key: its key; empty where it is faulty.
        notes: where faults of the configuration that names the key go.
        key_path: the JSON path that names the key, or the variable DATA_LIST_KEY.
        is_named: the key was named, not left to the default.
    """

    section: str
    path: Path
    root: Path
    key: str
    notes: FindingCollector
    key_path: str
    is_named: bool = True


def read_data(
    readings: Mapping[str, ConfigReading | None], variables: Mapping[str, Any], target: Target, report: CheckReport
) -> WorkspaceData:
    """Read every datalist that the configurations name, and look at the files of the keys in use.

    Args:
        readings: the configuration of each section: "train", "validate" and "evaluate".
        variables: every variable, the winner of each.
        target: the workspace.
        report: takes the findings.
    """
    sources = _find_sources(readings, variables, target)
    data, listings = WorkspaceData(), dict[tuple[Path, Path], LenientDatalist | None]()
    for source in sources:
        place = (source.path, source.root)
        if place not in listings:
            listings[place] = _read_source(source, target, report)
        listing = listings[place]
        if listing is None:
            continue
        data.listing = data.listing or listing
        if source.key in listing.parts:
            data.sections[source.section] = listing.parts[source.key]
        elif source.key:
            _note_key(source, listing)
    allows_repeats = bool(read_switch(variables.get("allow_repeated_cases", target.allow_repeated_cases)))
    _note_same_key(sources, listings, allows_repeats=allows_repeats)
    for place, listing in listings.items():
        if listing and _has_root(place[1], sources, variables, target):
            used = {source.key for source in sources if (source.path, source.root) == place}
            keys = [key for key in listing.parts if key in used]
            images = check_files(listing, keys, report.at(listing.path), allows_repeats=allows_repeats)
            data.images.files |= images.files
    root = sources[0].root if sources else None
    data.read_classes(target.labels or (root / "labels.json" if root else None))
    return data


def _has_root(root: Path, sources: list[CaseSource], variables: Mapping[str, Any], target: Target) -> bool:
    """Whether the data root is there; where it is not, that is one finding and not one for each file."""
    if is_folder(root):
        return True
    data_root = variables.get("DATA_ROOT")
    if not (isinstance(data_root, str) and data_root and target.resolve(data_root) == root) and not target.make_command:
        source = next(source for source in sources if source.root == root)
        json_path = source.key_path.replace("data_list_key", "data_file_base_dir")
        source.notes.error("missing-file", json_path, f"no such folder: {root}", "give the folder of the images")
    return False


def _find_sources(
    readings: Mapping[str, ConfigReading | None], variables: Mapping[str, Any], target: Target
) -> list[CaseSource]:
    sources = []
    for section, reading in readings.items():
        if reading is None:
            continue
        pipeline = reading.part_of(section, "image_pipeline")
        args = pipeline.component.args if pipeline else {}
        path = args.get("data_list_file_path") or variables.get("DATASET_JSON")
        root = args.get("data_file_base_dir") or variables.get("DATA_ROOT")
        key = args.get("data_list_key")
        json_path, is_told = pipeline.argument("data_list_key") if pipeline and key else "DATA_LIST_KEY", True
        if section == "evaluate" and key is None:
            key = variables.get("DATA_LIST_KEY")
            is_told, key = key is not None, DEFAULT_KEY if key is None else key
        if not isinstance(path, str) or not path or "{" in path:
            continue
        datalist = target.resolve(path)
        base = target.resolve(root) if isinstance(root, str) and root and "{" not in root else datalist.parent
        if key is None and section in {"train", "validate"}:
            key = "training" if section == "train" else DEFAULT_KEY
        name = key if isinstance(key, str) else ""
        sources.append(CaseSource(section, datalist, base, name, reading.notes, json_path, is_told))
    return sources


def _read_source(source: CaseSource, target: Target, report: CheckReport) -> LenientDatalist | None:
    notes = report.at(source.path)
    try:
        is_file = source.path.is_file()
    except (OSError, ValueError):
        is_file = False
    if is_file:
        return read_leniently(source.path, source.root.absolute(), notes)
    if target.make_command:
        notes.warning("not-made-yet", "", "the datalist is not there yet", f"make it with: {target.make_command}")
    else:
        fix = "correct DATASET_JSON in the environment, or give it with --set"
        notes.error("missing-file", "", "the datalist is not there", fix)
    return None


def _note_key(source: CaseSource, listing: LenientDatalist) -> None:
    message = f"{listing.path.name} has no cases under {source.key!r}"
    near = suggest(source.key, listing.parts)
    fix = near.fix or "list cases under it"
    # Training goes on without validation, so that only a misspelt key is an error there.
    if source.section == "validate" and not near.nearest:
        source.notes.warning("unknown-part", source.key_path, f"{message}: nothing is validated", fix)
    elif source.is_named:
        source.notes.error("unknown-part", source.key_path, message, fix)
    else:
        source.notes.warning("unknown-part", source.key_path, message, f"set DATA_LIST_KEY in the environment; {fix}")


def _note_same_key(
    sources: list[CaseSource], listings: Mapping[tuple[Path, Path], LenientDatalist | None], *, allows_repeats: bool
) -> None:
    by_section = {source.section: source for source in sources}
    train, validate = by_section.get("train"), by_section.get("validate")
    if train and validate and train.key and (train.path, train.key) == (validate.path, validate.key):
        message = f"{validate.key!r} is what training learns from, too"
        listing = listings.get((validate.path, validate.root))
        severity, hint = judge_repeats(listing, allows_repeats=allows_repeats) if listing else ("error", "")
        fix = f"validate on cases of their own{hint}"
        validate.notes.add_alike(severity, "leak", [(validate.key_path, message, fix)])


def check_labels(data: WorkspaceData, task: str | None, section: str, notes: FindingCollector) -> None:
    """Note cases without a label, or with one of the other task's kind.

    Args:
        data: the workspace's data.
        task: "segmentation" or "classification"; None: nothing tells.
        section: whose cases are checked.
        notes: of the datalist.
    """
    absent, wrong = [], []
    for item in data.items(section):
        json_path = f"{item.json_path}.label"
        if item.label is None and not notes.has(json_path):
            absent.append((json_path, "the case has no label", "add it, or take the case out"))
        elif task == "segmentation" and isinstance(item.label, tuple):
            wrong.append((json_path, "a list of classes, but the task is segmentation", "give the path of a mask"))
        elif task == "classification" and isinstance(item.label, Path):
            wrong.append(
                (json_path, f"the file {item.label.name}, but the task is classification", "give a list of classes")
            )
    notes.add_alike("error", "missing-label", absent)
    notes.add_alike("error", "wrong-task", wrong)


def check_loaders(data: WorkspaceData, reading: ConfigReading, section: str, key: str) -> None:
    """Note a transform that loads another kind of file than the datalist names, such as LoadPng for volumes.

    Args:
        data: the workspace's data.
        reading: the configuration that holds the transforms.
        section: whose cases are checked.
        key: the field that holds the transforms.
    """
    files = {"image": _find_first(data.items(section), "image"), "label": _find_first(data.items(section), "label")}
    for part in reading.parts_of(section, key):
        if not part.name.startswith("Load") or part.model is None:
            continue
        for name in part.model.reads():
            path = files.get(name)
            wants_png = "Png" in part.name
            if path and (is_volume(path) if wants_png else is_radiograph(path)):
                kind = "a volume" if wants_png else "a flat image"
                fix = f"use {'LoadNifti' if wants_png else 'LoadPng'}"
                reading.notes.error("loader", f"{part.where}.name", f"{part.name} can't read {path.name}, {kind}", fix)


def _find_first(items: list[ListedCase], name: str) -> Path | None:
    for item in items:
        if name == "image" and item.images:
            return item.images[0]
        if name == "label" and isinstance(item.label, Path):
            return item.label
    return None
