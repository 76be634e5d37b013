"""Puts a stage's folders, cases and weights into a configuration that is only read, as the stage itself will do it."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING, Any

from voxflow.bundle.reading import SEPARATOR, get_item, has_item, set_item, walk
from voxflow.bundle.redirect import IMAGE_SAVERS, WRITING_ARGUMENTS, list_components
from voxflow.bundle.references import EXPRESSION, TARGET, list_references
from voxflow.findings import show

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from voxflow.bundle.options import BundleOptions
    from voxflow.bundle.references import StageReading

_PARTS = {
    "train": {"train_data": "training", "validate_data": "validation"},
    "evaluate": {"validate_data": "testing"},
    "infer": {"infer_data": "inference"},
}
_REPETITION = re.compile(r"\$?@([\w#:]+)")


def list_parts(stage: str, options: BundleOptions) -> list[tuple[str, str, str]]:
    """List where a stage puts its cases.

    Returns:
        Of each part: the option, the id that it names, and the datalist's key; none with ``data: own``.

    Example:
        >>> from voxflow.bundle import BundleOptions
        >>> list_parts("evaluate", BundleOptions())
        [('validate_data', 'validate#dataset#data', 'testing')]
    """
    parts = _PARTS[stage].items() if options.data == "split" else ()
    named = [
        (option, getattr(options, option), (options.key if stage != "train" else "") or key) for option, key in parts
    ]
    return [part for part in named if part[1]]


def list_folder_places(content: Mapping[str, Any], *, of_checkpoints: bool) -> list[str]:
    """List the ids of the folders that components write to: those of checkpoints, or those of all else."""
    return [
        f"{name}{SEPARATOR}{argument}"
        for name, component in list_components(content)
        if _is_a(component, "CheckpointSaver") == of_checkpoints and component.get("_disabled_") is not True
        for argument in WRITING_ARGUMENTS
        if component.get(argument)
    ]


def _is_a(component: Mapping[str, Any], *names: str) -> bool:
    return str(component[TARGET]).rpartition(".")[2] in names


def put_set(reading: StageReading, options: BundleOptions) -> None:
    """Put what ``set`` says into the configuration; what is set in vain is noted elsewhere."""
    for name, value in {"bundle_root": str(reading.bundle), **options.set}.items():
        with contextlib.suppress(KeyError):
            set_item(reading.content, name, value)


def replace_values(
    reading: StageReading, options: BundleOptions, folders: Mapping[str, Path], weights: Path | None = None
) -> None:
    """Put the stage's own values into the configuration, and note what they replace.

    Args:
        reading: the configuration with its macros expanded.
        options: of the stage.
        folders: where "checkpoints" and "outputs" lie; where both are one id, the last counts.
        weights: the trained model that evaluation and inference load; None in training.
    """
    texts = [folder.as_posix() for folder in folders.values()]
    for option, folder in folders.items():
        name, is_for_checkpoints = getattr(options, option), option == "checkpoints"
        if has_item(reading.content, name):
            _replace(reading, options, name, folder.as_posix(), folder.as_posix())
        elif not (is_for_checkpoints and weights):
            for place in list_folder_places(reading.content, of_checkpoints=is_for_checkpoints):
                _replace(reading, options, place, folder.as_posix(), folder.as_posix())
    _replace_cases(reading, options)
    if weights and options.load_path and has_item(reading.content, options.load_path):
        set_item(reading.content, options.load_path, weights.as_posix())
    for name, component in list(list_components(reading.content)):
        if weights and "load_path" in component:
            for source in _follow_repetitions(reading.content, f"{name}#load_path"):
                set_item(reading.content, source, weights.as_posix())
            _replace(reading, options, f"{name}#load_path", weights.as_posix(), f"{weights.as_posix()} to load")
        if weights and _is_a(component, "CheckpointSaver") and "outputs" in folders:
            component["save_dir"] = folders["outputs"].as_posix()
        if _is_a(component, *IMAGE_SAVERS) and component.get("data_root_dir"):
            _replace(reading, options, f"{name}#data_root_dir", "", "the folder of its images")
        if component.get("cache_dir") and "data" in component:
            _replace(reading, options, f"{name}#cache_dir", "", "a folder that goes when it ends")
    put_set(reading, options)
    _check_folders(reading, texts)
    if options.image_key and list_parts(reading.stage, options):
        _check_fields(reading, options)


def _check_folders(reading: StageReading, folders: list[str]) -> None:
    """Note components that write to another folder than the stage's, as far as their texts tell."""
    for of_checkpoints in (True, False):
        for name in list_folder_places(reading.content, of_checkpoints=of_checkpoints):
            value = read_literal(reading.content, name)
            fix = "set this id below `set`"
            if value is None and not refers_to(reading.content, name, folders):
                message = f"writes to {show(get_item(reading.content, name))}, which takes no folder of the stage"
                reading.note("error", "outside-folder", name, message, fix)
            elif value is not None and not value.startswith(tuple(folders)):
                message = f"writes to {value!r}, which is not in the folder of the stage {reading.stage}"
                reading.note("error", "outside-folder", name, message, fix)


def read_literal(content: Mapping[str, Any], name: str) -> str | None:
    """The text of an id, or of the id that it only repeats; None where an expression makes it."""
    places = [name, *_follow_repetitions(content, name)]
    value = get_item(content, places[-1])
    return value if isinstance(value, str) and not value.startswith((EXPRESSION, "@")) else None


def refers_to(content: Mapping[str, Any], name: str, paths: list[str]) -> bool:
    """Whether an expression takes one of the stage's paths, by the ids that it refers to."""
    waiting, visited = [name], set[str]()
    while waiting:
        current = waiting.pop()
        if current in visited or not has_item(content, current):
            continue
        visited.add(current)
        texts = [text for _, text in walk(get_item(content, current)) if isinstance(text, str)]
        if any(text.startswith(tuple(paths)) for text in texts):
            return True
        waiting += [reference for text in texts for reference in list_references(text) if reference]
    return False


def _check_fields(reading: StageReading, options: BundleOptions) -> None:
    """Note images that are loaded from fields which no case has."""
    fields = [options.image_key, *([options.label_key] if reading.stage != "infer" else [])]
    for name, component in list_components(reading.content):
        if not _is_a(component, "LoadImaged") or component.get("allow_missing_keys"):
            continue
        keys = component.get("keys")
        count = len(keys) if isinstance(keys, list) else 0
        places = [f"{name}#keys#{n}" for n in range(count)] if isinstance(keys, list) else [f"{name}#keys"]
        literals = [read_literal(reading.content, place) for place in places if has_item(reading.content, place)]
        # A case to infer has no label, and training's transforms may stand in the same file.
        missing = [key for key in literals if key is not None and key not in {*fields, "label"}]
        if missing:
            message = f"loads {missing[0]!r}, and a case has {', '.join(fields)}"
            fix = f"{reading.stage}.image_key and label_key name its fields"
            reading.note("error", "wrong-field", f"{name}#keys", message, fix)


def _replace(reading: StageReading, options: BundleOptions, name: str, value: Any, words: str) -> None:
    if name in options.set:
        return
    with contextlib.suppress(KeyError):  # a key with "#" in it is the place of no id
        set_item(reading.content, name, value)
        reading.note("note", "replaced", name, f"the stage {reading.stage} puts {words} here")


def _replace_cases(reading: StageReading, options: BundleOptions) -> None:
    """Put cases in the place of each list, and of what the list only repeats; one that two parts share stays."""
    parts = [part for part in list_parts(reading.stage, options) if has_item(reading.content, part[1])]
    sources = [source for _, name, _ in parts for source in _follow_repetitions(reading.content, name)]
    for source in sources:
        if sources.count(source) == 1:
            set_item(reading.content, source, [])
    for _, name, key in parts:
        _replace(reading, options, name, [], f"the cases of '{key}'")


def _follow_repetitions(content: Mapping[str, Any], name: str) -> list[str]:
    """The ids that a value only repeats: of ``dataset#data: "@datalist"``, ``datalist``, and so on."""
    sources: list[str] = []
    while has_item(content, name):
        value = get_item(content, name)
        match = _REPETITION.fullmatch(value.strip()) if isinstance(value, str) else None
        name = match[1].replace("::", SEPARATOR) if match else ""
        if not name or name in sources or not has_item(content, name):
            break
        sources.append(name)
    return sources
