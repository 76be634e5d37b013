"""Owns telling whether two trainings are the same: hashes of configuration, options, data and start weights."""

from __future__ import annotations

import functools
import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxflow.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from voxflow.config import Workflow
    from voxflow.datalist import Case
    from voxflow.training.options import DataFacts, TrainOptions

# Options that change what is computed; the others only say how fast, how often it is written down, or from where.
_DECISIVE = ("seed", "precision", "freeze", "accumulate", "clip_norm", "ema", "early_stopping", "stopping_metric")
HASHING_THREADS = 8


def fingerprint(workflow: Workflow, cases: Iterable[Case], options: TrainOptions, facts: DataFacts) -> dict[str, str]:
    """Return one hash a part that decides what a training computes.

    Args:
        workflow: its file's place and the places of components in it don't count.
        cases: in the order of the datalist; images and labels count by content, wherever they lie.
        options: those that change the result.
        facts: of the data.
    """
    from pydantic import TypeAdapter

    from voxflow.config import Workflow as WorkflowModel

    config = _without_places(TypeAdapter(WorkflowModel).dump_python(workflow, mode="json"))
    chosen = options.model_dump(mode="json", include=set(_DECISIVE))
    start = "" if options.checkpoint is None else content_hash(options.checkpoint)
    return {
        "configuration": text_hash([config, facts.model_dump(mode="json")]),
        "options": text_hash(chosen),
        "data": text_hash(_data(list(cases))),
        "start weights": start,
    }


def differences(one: dict[str, str], other: dict[str, str]) -> list[str]:
    """The names of the parts that differ."""
    return [name for name in {**one, **other} if one.get(name) != other.get(name)]


def text_hash(value: Any) -> str:
    """Hash plain values by their JSON."""
    return hashlib.blake2b(json.dumps(value, sort_keys=True, default=str).encode(), digest_size=16).hexdigest()


def content_hash(path: Path) -> str:
    """Hash a file's content; read once as long as its size and time of change stay the same.

    Raises:
        DataError: the file can't be read.
    """
    try:
        state = path.stat()
        return _content_hash(path.absolute(), state.st_size, state.st_mtime_ns)
    except OSError as error:
        raise DataError(error.strerror or str(error), path=path) from error


@functools.cache
def _content_hash(path: Path, size: int, changed: int) -> str:
    del size, changed
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def _data(cases: Sequence[Case]) -> list[Any]:
    with ThreadPoolExecutor(HASHING_THREADS) as pool:
        return list(pool.map(case_identity, cases))


def case_identity(case: Case) -> list[Any]:
    """What makes a case this case: its id and the content of its files."""
    label = content_hash(case.label) if isinstance(case.label, Path) else case.label
    return [case.id, [content_hash(path) for path in case.image], label]


def _without_places(value: Any) -> Any:
    if isinstance(value, dict):
        dropped = {"path", "where", "data_list_file_path", "data_file_base_dir"}
        return {key: _without_places(item) for key, item in value.items() if key not in dropped}
    return [_without_places(item) for item in value] if isinstance(value, list) else value
