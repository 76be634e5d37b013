"""Points what a bundle's configuration names at the stage, before anything runs: folders, cases, weights."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxflow.bundle.reading import walk
from voxflow.errors import ConfigError
from voxflow.findings import suggest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from voxflow.bundle.guard import StageBounds
    from voxflow.bundle.options import BundleOptions

# Arguments of MONAI's handlers, transforms and of TensorBoard that name a folder to write to.
WRITING_ARGUMENTS = ("save_dir", "output_dir", "log_dir")
# Arguments that the stage sets: the path of weights, the folder that the masks' tree begins at, a data set's cache.
REPLACED_ARGUMENTS = ("load_path", "data_root_dir", "cache_dir")
IMAGE_SAVERS = ("SaveImage", "SaveImaged")
_REFERENCE = re.compile(r"\$?@([\w#:]+)")


def list_components(value: Any, name: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """List all dictionaries of a configuration with a ``_target_``, each with its id.

    Example:
        >>> [name for name, _ in list_components({"net": {"_target_": "UNet"}, "all": [{"_target_": "Dataset"}]})]
        ['net', 'all#0']
    """
    if isinstance(value, dict):
        if isinstance(value.get("_target_"), str):
            yield name, value
        children = value.items()
    elif isinstance(value, list):
        children = enumerate(value)  # type: ignore[assignment]
    else:
        return
    for key, child in children:
        yield from list_components(child, f"{name}#{key}" if name else str(key))


def has_id(parser: Any, name: str) -> bool:
    """Whether a configuration states an id."""
    return name in parser


def put_folders(
    parser: Any, config: Path, options: BundleOptions, folders: Mapping[str, Path], bounds: StageBounds
) -> dict[str, Path]:
    """Put the stage's folders in the place of the configuration's.

    Args:
        parser: MONAI's ConfigParser.
        config: the configuration, for messages.
        options: which ids name folders.
        folders: a path by id.
        bounds: of the stage.

    Returns:
        The folders whose usual id the configuration lacks, by id: each component gets them instead.

    Raises:
        ConfigError: there is no such id, and nothing that the folder could be given to.
    """
    if bounds.weights is None:
        _keep_first_weights(parser, config, options.checkpoints)
    lacking: dict[str, Path] = {}
    usual = {type(options).model_fields[name].default for name in ("checkpoints", "outputs")}
    for name, folder in folders.items():
        is_for_checkpoints = name == options.checkpoints
        if has_id(parser, name):
            parser[name] = str(folder.resolve())
        elif name in usual and is_for_checkpoints and bounds.weights is not None:
            continue  # each CheckpointLoader is pointed at the weights, and an evaluation saves none
        elif name not in usual or not _has_folders_to_replace(parser, is_for_checkpoints):
            # No advice: another folder's id, since both would be one, and a folder that the bundle reads from.
            used = {*folders, options.checkpoints, options.outputs}
            ids = [key for key in parser.get() if key.endswith("dir") and not key.startswith(("data", "bundle"))]
            near = suggest(name, set(ids) - used)
            raise ConfigError(f"no id {name!r} that Voxflow could put its folder in{near}", path=config)
        else:
            lacking[name] = folder
    return lacking


def _keep_first_weights(parser: Any, config: Path, folder: str) -> None:
    """Let a training begin with the weights that the bundle begins with, before the folder they lie in is replaced.

    Raises:
        ConfigError: an expression looks into the folder for weights.
    """
    named = re.compile(rf"@{re.escape(folder)}\b")
    for name, component in list(list_components(parser.get())):
        if REPLACED_ARGUMENTS[0] in component and any(named.search(str(value)) for value in component.values()):
            for argument in (REPLACED_ARGUMENTS[0], "_disabled_"):
                if argument in component:
                    parser[f"{name}#{argument}"] = parser.get_parsed_content(f"{name}#{argument}")
    for name, text in walk(parser.get()):
        if isinstance(text, str) and named.search(text) and re.search(r"\b(load|exists|isfile|is_file|glob)\b", text):
            message = f"looks for files in {folder!r}, which is the stage's own folder; state the path by bundle_root"
            raise ConfigError(message, path=config, where=name)


def _has_folders_to_replace(parser: Any, is_for_checkpoints: bool) -> bool:
    """Whether each component that writes states its folder, so that it can get another one."""
    places = list(_list_folder_ids(parser, is_for_checkpoints))
    return all(_read_path(parser, name) is not None for name in places) and bool(places or not is_for_checkpoints)


def _list_folder_ids(parser: Any, is_for_checkpoints: bool | None = None) -> Iterator[str]:
    """The ids of folders that components write to: those of checkpoints, those of all else, or (None) both."""
    for name, component in list_components(parser.get()):
        is_saver = _is_a(component, "CheckpointSaver")
        if is_for_checkpoints in (None, is_saver) and component.get("_disabled_") is not True:
            yield from (f"{name}#{argument}" for argument in WRITING_ARGUMENTS if component.get(argument))


def _is_a(component: dict[str, Any], *names: str) -> bool:
    return str(component["_target_"]).rsplit(".", 1)[-1] in names


def _read_value(parser: Any, name: str) -> Any:
    try:
        return parser.get_parsed_content(name)
    except Exception:  # noqa: BLE001 - an expression that fails now fails in the run, too, which then says why
        return None


def _read_path(parser: Any, name: str) -> Path | None:
    value = _read_value(parser, name)
    return Path(value) if isinstance(value, (str, os.PathLike)) else None


def put_cases(parser: Any, config: Path, options: BundleOptions, data: Mapping[str, list[Any]]) -> None:
    """Put the stage's cases in the place of the configuration's.

    Args:
        parser: MONAI's ConfigParser.
        config: the configuration, for messages.
        options: which fields the cases have.
        data: lists of items by id; an empty id says that the bundle has no such part.

    Raises:
        ConfigError: there is no such id, or images are loaded from other fields.
    """
    lists = {name: [rename_fields(item, options) for item in items] for name, items in data.items() if name}
    sources: dict[str, list[str]] = {}
    for name in lists:
        if name in options.set:
            continue
        if not has_id(parser, name):
            ids = [f"{place}#data" for place, component in list_components(parser.get()) if "data" in component]
            # A data set may be the list itself, or an expression that takes the list from an id.
            parent = name.removesuffix("#data")
            dataset = parser.get(parent, "")
            ids += [parent] if isinstance(dataset, list) else []
            ids += [id_ for id_ in re.findall(r"@([\w#]+)", str(dataset)) if has_id(parser, id_)]
            message = (
                f"no id {name!r} that the split's cases could be put in{suggest(name, ids)}; name it by train_data, "
                f"validate_data or infer_data (here: {', '.join(ids) or 'none'}), or say data: own"
            )
            raise ConfigError(message, path=config)
        for source in _follow_references(parser, name):
            sources.setdefault(source, []).append(name)
    for source, names in sources.items():
        # A list that two parts are cut from stays: it can't be both.
        if len(names) == 1:
            parser[source] = lists[names[0]]
    for name, items in lists.items():
        if name not in options.set:
            parser[name] = items
    if lists:
        _check_fields(parser, config, next((items[0] for items in lists.values() if items), None))


def rename_fields(item: Mapping[str, Any], options: BundleOptions) -> Any:
    """Give a case the fields that the bundle loads; only the image's path where ``image_key`` is empty."""
    if not options.image_key:
        return item["image"]
    names = {"image": options.image_key, "label": options.label_key}
    return {names.get(name, name): value for name, value in item.items()}


def _follow_references(parser: Any, name: str) -> Iterator[str]:
    """The ids that a value only repeats: of ``dataset#data: "@datalist"``, ``datalist``, and so on."""
    names = {name}
    while (match := _REFERENCE.fullmatch(str(parser[name]).strip())) and match[1] not in names:
        name = match[1]
        if not has_id(parser, name):
            return
        names.add(name)
        yield name


def _check_fields(parser: Any, config: Path, item: Any) -> None:
    """Refuse a transform that loads a field which no case has."""
    if not isinstance(item, dict):
        return
    for name, component in list_components(parser.get()):
        if not _is_a(component, "LoadImaged") or component.get("allow_missing_keys"):
            continue
        keys = _read_value(parser, f"{name}#keys") or ()
        missing = [str(key) for key in ([keys] if isinstance(keys, str) else keys) if str(key) not in item]
        # A case to infer has no label, and training's transforms may stand in the same file.
        if [key for key in missing if key != "label"]:
            message = f"loads {missing[0]!r}, and a case has {', '.join(item)}: image_key and label_key name its fields"
            raise ConfigError(message, path=config, where=f"{name}#keys")


def redirect_components(
    parser: Any, config: Path, bounds: StageBounds, options: BundleOptions, lacking: Mapping[str, Path]
) -> None:
    """Point what loads weights and what saves images at the stage, and refuse what writes to another folder.

    Args:
        parser: MONAI's ConfigParser, with the stage's folders and cases in it.
        config: the configuration, for messages.
        bounds: of the stage.
        options: which ids name folders.
        lacking: of :func:`put_folders`.

    Raises:
        ConfigError: a component writes outside of the stage's folder; the message names its id.
    """
    if bounds.weights is not None and options.load_path and has_id(parser, options.load_path):
        parser[options.load_path] = str(bounds.weights)
    path, root, cache = REPLACED_ARGUMENTS
    for name, component in list(list_components(parser.get())):
        if bounds.weights is not None and path in component:
            _point_at_weights(parser, f"{name}#{path}", bounds.weights)
        # An evaluation must not write over the checkpoints that it judges.
        if bounds.weights is not None and _is_a(component, "CheckpointSaver"):
            parser[f"{name}#save_dir"] = str(bounds.folders[0])
        if _is_a(component, *IMAGE_SAVERS) and component.get(root) and bounds.image_root is not None:
            parser[f"{name}#{root}"] = str(bounds.image_root)
        if component.get(cache) and "data" in component:
            parser[f"{name}#{cache}"] = str(bounds.cache)
    for name, folder in lacking.items():
        for place in list(_list_folder_ids(parser, name == options.checkpoints)):
            parser[place] = str(folder.resolve())


def check_folders(parser: Any, config: Path, bounds: StageBounds) -> None:
    """Refuse a component that writes outside of the stage's folder.

    Raises:
        ConfigError: there is one; the message names its id.
    """
    for name in _list_folder_ids(parser):
        folder = _read_path(parser, name)
        if folder is not None and not bounds.may_write(folder):
            message = (
                f"writes to {folder.resolve()}; the stage's folder is {bounds.folders[0]}: set this id below `set`"
            )
            raise ConfigError(message, path=config, where=name)


def _point_at_weights(parser: Any, name: str, weights: Path) -> None:
    """Let a loader load the stage's weights; an id that its path only repeats is set, too.

    An expression may ask there whether the file exists (``_disabled_: $not os.path.exists(@ckpt_path)``).
    """
    for source in _follow_references(parser, name):
        parser[source] = str(weights)
    parser[name] = str(weights)
