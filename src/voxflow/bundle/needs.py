"""Which ids a stage needs of a bundle's configuration, which it replaces, and which params.yaml names in vain."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from voxflow.bundle.options import DEFAULT_EVALUATOR, BundleOptions
from voxflow.bundle.reading import SEPARATOR, get_item, has_item, split_id, walk, walk_texts
from voxflow.bundle.redirect import list_components, list_folder_places, list_parts, refers_to
from voxflow.bundle.references import EXPRESSION, TARGET, list_references
from voxflow.findings import Finding, nearest_name
from voxflow.places import PARAMS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from voxflow.bundle.references import StageReading
    from voxflow.bundle.targets import Target, TargetFinder
    from voxflow.findings import Severity

_MEANINGS = {
    "run_id": "what to run",
    "trainer": "the trainer",
    "evaluator": "what evaluates",
    "network": "the network to export",
    "outputs": "the folder to write to",
    "checkpoints": "the folder of checkpoints",
    "load_path": "the path of weights",
    "init_id": "what is done first",
    "final_id": "what is done last",
}


def _list_needs(stage: str, options: BundleOptions, content: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """The ids that a stage asks a configuration for: the option that names each, the id, and what it stands for.

    Where a configuration does not have the usual id of a folder, its components tell where they write.
    """
    is_training = stage == "train"
    names = ["run_id", *(["trainer", "network"] if is_training else ["evaluator"])]
    names += ["evaluator"] if is_training and options.evaluator else []
    if not _is_usual("outputs", options):
        names.append("outputs")
    if not _is_usual("checkpoints", options) or (is_training and not list_folder_places(content, of_checkpoints=True)):
        names.append("checkpoints")
    # Those that a configuration may lack, but not where params.yaml names them.
    names += [name for name in ("load_path", "init_id", "final_id") if name in options.model_fields_set]
    for name in names:
        yield name, getattr(options, name) or DEFAULT_EVALUATOR[stage], _MEANINGS[name]
    for option, name, part in list_parts(stage, options):
        yield option, name, f"the place for the cases of '{part}'"


def _is_usual(option: str, options: BundleOptions) -> bool:
    return bool(getattr(options, option) == BundleOptions.model_fields[option].default)


def check_needs(reading: StageReading, options: BundleOptions, place: str) -> None:
    """Note the ids that a stage needs and the configuration lacks.

    Args:
        reading: the configuration with its macros expanded.
        options: of the stage.
        place: the JSON path of the stage's options in params.yaml; empty where there are none.
    """
    _check_entry(reading, options)
    for option, name, meaning in _list_needs(reading.stage, options, reading.content):
        if has_item(reading.content, name) or name in options.set:
            continue
        message = f"no id {name!r}, {meaning} of the stage {reading.stage}"
        candidates = list(dict.fromkeys(_CANDIDATES.get(option, _list_data)(reading.content)))
        near = candidates[0] if len(candidates) == 1 else nearest_name(name, candidates)
        if near:
            fix = f"{reading.stage}.{option}: {near}"
        elif candidates:
            fix = f"name it by {reading.stage}.{option}: {', '.join(candidates[:8])}"
        else:
            fix = f"{reading.stage}.{option} names it where the bundle calls it otherwise"
        if option.endswith("_data"):
            fix += f"; or {reading.stage}.data: own"
        if place and option in options.model_fields_set:
            reading.findings.append(Finding("missing-id", "error", PARAMS, f"{place}.{option}", message, fix))
        else:
            # What only the export asks for stops no training.
            severity: Severity = "warning" if option == "network" else "error"
            reading.note(severity, "missing-id", name, message, fix)


def _check_entry(reading: StageReading, options: BundleOptions) -> None:
    """Note a stage that would train where it is to evaluate or to infer."""
    entry = options.set.get(options.run_id)
    if entry is None and has_item(reading.content, options.run_id):
        entry = get_item(reading.content, options.run_id)
    names = {name for _, text in walk_texts(entry) for name in list_references(text)}
    if reading.stage != "train" and options.trainer in names:
        entries = [name for name in _list_runs(reading.content) if name != options.run_id]
        fix = f"{reading.stage}.run_id names what the stage is to run{': ' if entries else ''}{', '.join(entries)}"
        message = f"runs {options.trainer!r}, which trains; this is the stage {reading.stage}"
        reading.note("error", "wrong-entry", options.run_id, message, fix)


def check_engine(reading: StageReading, options: BundleOptions, engine: str) -> None:
    """Note a stage whose engine is not among what it runs.

    Args:
        reading: the configuration, traced from what it runs.
        options: of the stage.
        engine: the id that the stage watches.
    """
    if engine not in reading.reached:
        option = "trainer" if reading.stage == "train" else "evaluator"
        message = f"does not run {engine!r}, which the stage {reading.stage} watches"
        reading.note("error", "wrong-entry", options.run_id, message, f"{reading.stage}.{option} names another")


def check_effects(reading: StageReading, targets: Mapping[str, Target], weights: Path | None) -> None:
    """Note a stage that would end without its result: no weights loaded, no checkpoint or mask written.

    Args:
        reading: the configuration, traced.
        targets: what its components name, by id.
        weights: the trained model that evaluation and inference load; None in training.
    """
    reached = {name: target for name, target in targets.items() if name in reading.reached}
    expressions = [(n, text) for n, text in reading.list_texts() if n in reading.reached and text[:1] == EXPRESSION]
    texts = [text for _, text in expressions]
    names = [target.path.rpartition(".")[2] for target in reached.values()]
    if not any(name.endswith(("Trainer", "Evaluator")) for name in names):
        return
    if any(target.origin != "library" for target in reached.values()):
        return  # code that is not known may do it
    loads = any("load_path" in get_item(reading.content, name) for name in reached)
    loading = [name for name, text in expressions if re.search(r"\bload\w*\(", text)]
    if weights and not loads and not any(refers_to(reading.content, name, [weights.as_posix()]) for name in loading):
        message = f"nothing that the stage {reading.stage} builds loads {weights.as_posix()}"
        fix = "give it a CheckpointLoader" + (
            f", or name the id of its path by {reading.stage}.load_path" * bool(loading)
        )
        reading.note("error", "no-weights", "", message, fix)
    saver = {"train": "CheckpointSaver", "infer": "SaveImaged"}.get(reading.stage, "")
    word = "Checkpoint" if reading.stage == "train" else "Save"
    if saver and not any(word in name for name in names) and not any("save" in text.lower() for text in texts):
        result = "a checkpoint" if reading.stage == "train" else "a result"
        message = f"nothing that the stage {reading.stage} builds writes {result}"
        reading.note("error", "no-result", "", message, f"give it a {saver}")


def _list_targets(content: dict[str, Any], *endings: str) -> Iterator[str]:
    for name, component in list_components(content):
        if component[TARGET].endswith(endings) and not component[TARGET].endswith("SummaryWriter"):
            yield name


def _list_runs(content: dict[str, Any]) -> Iterator[str]:
    """Top-level lists of expressions, or one expression, that call ``run()``."""
    for name, value in content.items():
        texts = value if isinstance(value, list) else [value]
        if any(isinstance(text, str) and text.startswith(EXPRESSION) and ".run(" in text for text in texts):
            yield name


def _list_networks(content: dict[str, Any]) -> Iterator[str]:
    """What an expression moves to a device; elsewhere, what has a network's name."""
    texts = [v for v in content.values() if isinstance(v, str) and v.startswith(EXPRESSION) and ".to(" in v]
    moved = [name for text in texts for name in list_references(text)[:1] if has_item(content, name)]
    yield from moved or (name for name in content if name in {"net", "model", "network"})


def _list_folders(content: dict[str, Any]) -> Iterator[str]:
    """Texts whose id says that they are a folder to write to."""
    for name, value in content.items():
        is_read = name.startswith(("data", "dataset", "bundle", "image", "label"))
        if isinstance(value, str) and name.endswith(("dir", "_path", "folder", "root")) and not is_read:
            yield name


def _list_data(content: dict[str, Any]) -> Iterator[str]:
    """The lists of data sets; a data set may be a list itself."""
    for name, value in walk(content):
        is_list = isinstance(value, list) and name.rpartition(SEPARATOR)[2] == "dataset"
        yield from [name] if is_list else []
    for name in _list_targets(content, "Dataset", "SmartCacheDataset"):
        if has_item(content, f"{name}{SEPARATOR}data"):
            yield f"{name}{SEPARATOR}data"


_CANDIDATES: dict[str, Callable[[dict[str, Any]], Iterator[str]]] = {
    "run_id": _list_runs,
    "trainer": lambda content: _list_targets(content, "Trainer"),
    "evaluator": lambda content: _list_targets(content, "Evaluator"),
    "network": _list_networks,
    "outputs": _list_folders,
    "checkpoints": _list_folders,
    "load_path": lambda content: (name for name, _ in walk(content) if name.endswith(f"{SEPARATOR}load_path")),
    "init_id": lambda content: (name for name in content if name.startswith("init")),
    "final_id": lambda content: (name for name in content if name.startswith("final")),
}


def find_vain_values(reading: StageReading, options: BundleOptions, finder: TargetFinder) -> dict[str, str]:
    """Find values of ``set`` that land where nothing reads them.

    Args:
        reading: the configuration as its files state it.
        options: of the stage.
        finder: knows the arguments of components.

    Returns:
        For each such id, what to write instead; empty where nothing is near.
    """
    references = {name for _, text in reading.list_texts() for name in list_references(text)}
    references |= {name for text in options.set.values() if isinstance(text, str) for name in list_references(text)}
    entries = {options.init_id, options.run_id, options.final_id, options.load_path, "imports"}
    vain: dict[str, str] = {}
    for key in options.set:
        *parents, last = split_id(key)
        parent, name = SEPARATOR.join(parents), SEPARATOR.join([*parents, last])
        if has_item(reading.content, name) or name in references | entries:
            continue
        holder = get_item(reading.content, parent) if has_item(reading.content, parent) else None
        if parents and isinstance(holder, dict) and (TARGET not in holder or _is_argument(last, holder, finder)):
            continue
        vain[key] = _suggest_id(parent, last, holder, reading.content)
    return vain


def _suggest_id(parent: str, last: str, holder: Any, content: dict[str, Any]) -> str:
    if isinstance(holder, dict):
        near = nearest_name(last, map(str, holder))
        return f"write {SEPARATOR.join([*filter(None, [parent]), near])!r}" if near else ""
    near = nearest_name(parent, [name for name, value in walk(content) if name and isinstance(value, dict | list)])
    return f"write {near + SEPARATOR + last!r}" if near else ""


def note_vain_values(reading: StageReading, vain: Mapping[str, str], place: str) -> None:
    """Note what params.yaml sets in vain.

    Args:
        reading: takes the findings.
        vain: ids with advice, as :func:`find_vain_values` gives them.
        place: the JSON path of the stage's options in params.yaml.
    """
    for key, fix in vain.items():
        message = f"no id {key!r} in the configuration of the stage {reading.stage}, and nothing refers to it"
        # A new id at the top harms nobody, and changes nothing.
        severity: Severity = "error" if len(split_id(key)) > 1 else "warning"
        reading.findings.append(Finding("unknown-id", severity, PARAMS, f"{place}.set.{key}", message, fix))


def _is_argument(name: str, component: dict[str, Any], finder: TargetFinder) -> bool:
    from voxflow.bundle.targets import find_argument_faults

    faults = find_argument_faults(finder.find(str(component[TARGET])), {**component, name: None})
    return not any(code == "unknown-argument" and argument == name for code, argument, _, _ in faults)
