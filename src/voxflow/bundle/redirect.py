"""Points what a bundle's configuration names at the stage, before anything runs: folders, cases, weights.

A stage does it to the configuration that it runs, and ``voxflow check`` to one that is only read, by the same code.
They differ in two things: whether expressions can be evaluated, and what becomes of a fault.
"""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxflow.bundle.reading import SEPARATOR, get_item, has_item, set_item, walk, walk_texts
from voxflow.bundle.references import EXPRESSION, TARGET, list_references
from voxflow.findings import show

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Protocol

    from voxflow.bundle.guard import StageBounds
    from voxflow.bundle.options import BundleOptions
    from voxflow.findings import Severity

    class Note(Protocol):
        """Takes what was replaced, and what is wrong."""

        def __call__(self, severity: Severity, code: str, name: str, message: str, fix: str = "") -> None:
            """Take one finding at an id."""


# Arguments of MONAI's handlers, transforms and of TensorBoard that name a folder to write to.
WRITING_ARGUMENTS = ("save_dir", "output_dir", "log_dir")
# Arguments that the stage sets: the path of weights, the folder that the masks' tree begins at, a data set's cache.
REPLACED_ARGUMENTS = ("load_path", "data_root_dir", "cache_dir")
IMAGE_SAVERS = ("SaveImage", "SaveImaged")
SET_IT = "set this id below `set`"
_PARTS = {
    "train": {"train_data": "training", "validate_data": "validation"},
    "evaluate": {"validate_data": "testing"},
    "infer": {"infer_data": "inference"},
}
_REPETITION = re.compile(r"\$?@([\w#:]+)")
_LOOKS = re.compile(r"\b(load|exists|isfile|is_file|glob)\b")


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


def list_components(content: Any) -> list[tuple[str, dict[str, Any]]]:
    """List all dictionaries of a configuration with a ``_target_``, each with its id.

    Example:
        >>> [name for name, _ in list_components({"net": {"_target_": "UNet"}, "all": [{"_target_": "Dataset"}]})]
        ['net', 'all#0']
    """
    parts = [(name, value) for name, value in walk(content) if isinstance(value, dict)]
    return [(name, value) for name, value in parts if isinstance(value.get(TARGET), str)]


def list_folder_places(content: Any, *, of_checkpoints: bool | None = None) -> list[str]:
    """List the ids of folders that components write to: those of checkpoints, those of all else, or (None) both."""
    return [
        f"{name}{SEPARATOR}{argument}"
        for name, component in list_components(content)
        if of_checkpoints in (None, _is_a(component, "CheckpointSaver")) and component.get("_disabled_") is not True
        for argument in WRITING_ARGUMENTS
        if component.get(argument)
    ]


def _is_a(component: Mapping[str, Any], *names: str) -> bool:
    return str(component[TARGET]).rpartition(".")[2] in names


@dataclass
class Redirection:
    """One stage's values on their way into one configuration.

    Attributes:
        content: the values by id, which are changed.
        options: of the stage.
        bounds: the folders that the stage writes to, its weights and where its images lie.
        note: takes findings; that of a stage raises errors.
        evaluate: computes the value of an id, None where it fails; left out: texts alone are known.
    """

    content: dict[str, Any]
    options: BundleOptions
    stage: str
    bounds: StageBounds
    note: Note
    evaluate: Any = None

    def put_set(self) -> list[str]:
        """Put what ``set`` says into the configuration, and return the ids that have no parent there."""
        lost = []
        for name, value in self.options.set.items():
            try:
                set_item(self.content, name, value)
            except KeyError:
                lost.append(name)
        return lost

    def put_folders(self, folders: Mapping[str, Path]) -> tuple[dict[str, Path], list[str]]:
        """Put the stage's folders in the place of the configuration's.

        Args:
            folders: where "checkpoints" and "outputs" lie, by these options; where both are one id, the last counts.

        Returns:
            The folders whose usual id the configuration lacks, which each component gets instead; and the options whose
            folder can be put nowhere.
        """
        lacking: dict[str, Path] = {}
        missing: list[str] = []
        if self.bounds.weights is None:
            self._keep_first_weights(self.options.checkpoints)
        for option, folder in folders.items():
            name, is_usual = getattr(self.options, option), option not in self.options.model_fields_set
            if has_item(self.content, name):
                self._replace(name, str(folder), folder.as_posix())
            elif is_usual and option == "checkpoints" and self.bounds.weights is not None:
                continue  # each CheckpointLoader is pointed at the weights, and an evaluation saves none
            elif is_usual and self._has_folders_to_replace(of_checkpoints=option == "checkpoints"):
                lacking[option] = folder
            else:
                missing.append(option)
        return lacking, missing

    def _keep_first_weights(self, folder: str) -> None:
        """Let a training begin with the weights that the bundle begins with, before their folder is replaced."""
        named = re.compile(rf"@{re.escape(folder)}\b")
        for name, component in list_components(self.content):
            if "load_path" in component and any(named.search(str(value)) for value in component.values()):
                for argument in ("load_path", "_disabled_"):
                    value = self._read(f"{name}#{argument}") if argument in component else None
                    if value is not None:
                        set_item(self.content, f"{name}#{argument}", value)
        for name, text in walk_texts(self.content):
            if named.search(text) and _LOOKS.search(text):
                if not self.evaluate and name.endswith(("#load_path", "#_disabled_")):
                    continue  # a stage has put the value there
                message = f"looks for files in {folder!r}, which is the stage's own folder"
                self.note("error", "outside-folder", name, message, "state the path by bundle_root")

    def _has_folders_to_replace(self, *, of_checkpoints: bool) -> bool:
        """Whether each component that writes states its folder, so that it can get another one."""
        places = list_folder_places(self.content, of_checkpoints=of_checkpoints)
        can_be_read = not self.evaluate or all(self._read_path(name) is not None for name in places)
        return can_be_read and bool(places or not of_checkpoints)

    def _read(self, name: str) -> Any:
        return self.evaluate(name) if self.evaluate else read_literal(self.content, name)

    def _read_list(self, name: str) -> list[Any]:
        """The values of an id that may be one or several."""
        place = [name, *_follow_repetitions(self.content, name)][-1]
        value = self.evaluate(name) if self.evaluate else get_item(self.content, place)
        if not self.evaluate and isinstance(value, list):
            return [read_literal(self.content, f"{place}{SEPARATOR}{n}") for n in range(len(value))]
        return list(value or ()) if isinstance(value, list | tuple) else [self._read(name)]

    def _read_path(self, name: str) -> Path | None:
        value = self._read(name)
        return Path(value) if isinstance(value, (str, os.PathLike)) else None

    def put_cases(self, lists: Mapping[str, list[Any]], fields: Sequence[str]) -> list[str]:
        """Put the stage's cases in the place of each list, and of what the list only repeats.

        Args:
            lists: cases by id.
            fields: the fields of a case; none where it is a path.

        Returns:
            The ids that are not there.
        """
        places = {name: items for name, items in lists.items() if name and name not in self.options.set}
        missing = [name for name in places if not has_item(self.content, name)]
        keys = {name: key for _, name, key in list_parts(self.stage, self.options)}
        sources: dict[str, list[str]] = {}
        for name in places.keys() - {*missing}:
            for source in _follow_repetitions(self.content, name):
                sources.setdefault(source, []).append(name)
        for source, names in sources.items():
            # A list that two parts are cut from stays: it can't be both.
            if len(names) == 1:
                set_item(self.content, source, places[names[0]])
        for name in places.keys() - {*missing}:
            self._replace(name, places[name], f"the cases of '{keys.get(name, name)}'")
        if fields and any(lists):
            self._check_fields(fields)
        return missing

    def _check_fields(self, fields: Sequence[str]) -> None:
        """Note images that are loaded from fields which no case has."""
        for name, component in list_components(self.content):
            if not _is_a(component, "LoadImaged") or component.get("allow_missing_keys"):
                continue
            values = self._read_list(f"{name}#keys") if "keys" in component else []
            # A case to infer has no label, and training's transforms may stand in the same file.
            missing = [str(key) for key in values if key is not None and str(key) not in {*fields, "label"}]
            if missing:
                message = f"loads {missing[0]!r}, and a case has {', '.join(fields)}"
                fix = f"{self.stage}.image_key and label_key name its fields"
                self.note("error", "wrong-field", f"{name}#keys", message, fix)

    def redirect_components(self, lacking: Mapping[str, Path]) -> None:
        """Point what loads weights, saves images and keeps caches at the stage.

        Args:
            lacking: of :meth:`put_folders`.
        """
        weights, options = self.bounds.weights, self.options
        if weights is not None and options.load_path and has_item(self.content, options.load_path):
            set_item(self.content, options.load_path, str(weights))
        for name, component in list_components(self.content):
            if weights is not None and "load_path" in component:
                # An expression may ask there whether the file exists (_disabled_: $not os.path.exists(@ckpt_path)).
                for source in _follow_repetitions(self.content, f"{name}#load_path"):
                    set_item(self.content, source, str(weights))
                self._replace(f"{name}#load_path", str(weights), f"{weights.as_posix()} to load")
            # An evaluation must not write over the checkpoints that it judges.
            if weights is not None and _is_a(component, "CheckpointSaver"):
                component["save_dir"] = str(self.bounds.folders[0])
            if (
                _is_a(component, *IMAGE_SAVERS)
                and component.get("data_root_dir")
                and self.bounds.image_root is not None
            ):
                self._replace(f"{name}#data_root_dir", str(self.bounds.image_root), "the folder of its images")
            if component.get("cache_dir") and "data" in component:
                self._replace(f"{name}#cache_dir", str(self.bounds.cache), "a folder that goes when it ends")
        for option, folder in lacking.items():
            for place in list_folder_places(self.content, of_checkpoints=option == "checkpoints"):
                self._replace(place, str(folder), folder.as_posix())
        self.put_set()  # what the user sets wins, and is held to the bounds all the same
        self._check_folders()

    def _replace(self, name: str, value: Any, words: str) -> None:
        if name in self.options.set:
            return
        with contextlib.suppress(KeyError):  # a key with "#" in it is the place of no id
            set_item(self.content, name, value)
            self.note("note", "replaced", name, f"the stage {self.stage} puts {words} here")

    def _check_folders(self) -> None:
        """Note components that write outside of the stage's folder, as far as that can be told."""
        places = self.bounds.folders
        folders = [str(folder) for folder in places]
        for name in list_folder_places(self.content):
            path = self._read_path(name)
            if path is None and not self.evaluate and not refers_to(self.content, name, folders):
                message = f"writes to {show(get_item(self.content, name))}, which takes no folder of the stage"
                self.note("error", "outside-folder", name, message, SET_IT)
            elif path is not None and not any(path.resolve().is_relative_to(folder.resolve()) for folder in places):
                place = path.resolve() if self.evaluate else path
                message = f"writes to {place}, which is not in the folder of the stage {self.stage}"
                self.note("error", "outside-folder", name, message, SET_IT)


def read_literal(content: Mapping[str, Any], name: str) -> Any:
    """The value of an id, or of the id that it only repeats; None where an expression makes it."""
    value = get_item(content, [name, *_follow_repetitions(content, name)][-1])
    return None if isinstance(value, str) and value.startswith((EXPRESSION, "@")) else value


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


def rename_fields(item: Mapping[str, Any], options: BundleOptions) -> Any:
    """Give a case the fields that the bundle loads; only the image's path where ``image_key`` is empty."""
    if not options.image_key:
        return item["image"]
    names = {"image": options.image_key, "label": options.label_key}
    return {names.get(name, name): value for name, value in item.items()}


def refers_to(content: Mapping[str, Any], name: str, paths: Sequence[str]) -> bool:
    """Whether an expression takes one of the stage's paths, by the ids that it refers to."""
    return any(text.startswith(tuple(paths)) for text in _list_texts_behind(content, name))


def _list_texts_behind(content: Mapping[str, Any], name: str) -> Iterator[str]:
    waiting, visited = [name], set[str]()
    while waiting:
        current = waiting.pop()
        if current in visited or not has_item(content, current):
            continue
        visited.add(current)
        texts = [text for _, text in walk_texts(get_item(content, current))]
        yield from texts
        waiting += [reference for text in texts for reference in list_references(text) if reference]
