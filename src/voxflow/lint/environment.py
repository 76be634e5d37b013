"""The check of environment.json and ``--set``: unused or misspelt variables, and paths that do not exist."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from voxflow.config import CLARA_VARIABLES
from voxflow.findings import nearest_name, show
from voxflow.lint.files import is_folder

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from voxflow.findings import FindingCollector
    from voxflow.planning import Target

_VARIABLE = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
TASKS = ("segmentation", "classification")
TEXTS = (
    "DATA_ROOT",
    "DATASET_JSON",
    "DATA_LIST_KEY",
    "MMAR_CKPT",
    "MMAR_CKPT_DIR",
    "MMAR_EVAL_OUTPUT_PATH",
)
WORDS = ("do_validation", "output_infer_result")


def find_variables(text: str) -> set[str]:
    """Find the names of the variables that a text uses as ``{NAME}``.

    Example:
        >>> sorted(find_variables('{"file": "{DATA_ROOT}/{NAME}.json", "size": [96, 96]}'))
        ['DATA_ROOT', 'NAME']
    """
    return set(_VARIABLE.findall(text))


def check_environment(
    environment: Mapping[str, Any], used: set[str], configurable: Iterable[str], notes: FindingCollector
) -> None:
    """Note variables that no configuration uses, and values of the wrong type.

    Args:
        environment: the file's content.
        used: names that a configuration uses as ``{NAME}``.
        configurable: every other name that a configuration may leave to the environment.
        notes: of the environment file.
    """
    names = {*CLARA_VARIABLES, *used, *configurable, *WORDS}
    for key, value in environment.items():
        if key not in names and key != key.lower():
            near = nearest_name(key, names, cutoff=0.7)
            fix = f"write {near!r}" if near else "leave it out"
            notes.warning("unused-variable", key, f"no configuration uses the variable {key!r}", fix)
        if key in TEXTS and not isinstance(value, str):
            notes.error("wrong-type", key, f"expected text, received {show(value)}", "put it in quotes")
    task = environment.get("PROCESSING_TASK")
    if task is not None and task not in TASKS and not notes.has("PROCESSING_TASK"):
        near = nearest_name(str(task).lower(), TASKS)
        fix = f"write {near!r}" if near else f"write {' or '.join(map(repr, TASKS))}"
        notes.error("wrong-value", "PROCESSING_TASK", f"unknown task {show(task)}", fix)


def check_paths(target: Target, variables: Mapping[str, Any], notes: FindingCollector, start: str) -> None:
    """Note a data root, weights and a checkpoint that do not exist; the datalist is looked for where it is read.

    Args:
        target: the workspace, which resolves relative paths.
        variables: every variable, the winner of each.
        notes: of the environment file, or of the configuration where there is none.
        start: the checkpoint that training begins from; empty: none.
    """
    root = variables.get("DATA_ROOT")
    # Where the stages make the data, that the datalist is not there yet says it all.
    if isinstance(root, str) and root and not target.make_command and not is_folder(target.resolve(root)):
        message = f"no such folder: {target.resolve(root)}"
        fix = "correct DATA_ROOT in the environment, or give it with --set"
        notes.error("missing-file", "DATA_ROOT", message, fix)
    weights = variables.get("PRETRAIN_WEIGHTS_FILE")
    if isinstance(weights, str) and weights and not _is_file(target.resolve(weights)):
        message = f"file not found: {weights}; training begins from fresh weights"
        notes.warning("missing-file", "PRETRAIN_WEIGHTS_FILE", message, "give a file that is there, or an empty text")
    if start and not _has_checkpoint(target.resolve(start)):
        path = target.resolve(start)
        is_foreign = any(_is_file(path.with_name(path.name + ending)) for ending in (".index", ".meta"))
        message = f"{start} is TensorFlow's, which can't be read" if is_foreign else f"file not found: {start}"
        notes.error("missing-file", "MMAR_CKPT", message, "give the checkpoint to start from, or an empty text")


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _has_checkpoint(path: Path) -> bool:
    """A checkpoint of TensorFlow's name (model.ckpt) means the one of that role."""
    if _is_file(path) or _is_file(path.with_suffix(".pt")):
        return True
    return is_folder(path.parent) and any(path.parent.glob(f"{path.stem}*.pt")) if path.name else False
