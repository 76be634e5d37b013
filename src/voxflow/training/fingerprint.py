"""Owns telling whether two trainings are the same: hashes of configuration, options, data and start weights."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxflow.components.custom.code import digest_of
from voxflow.errors import DataError
from voxflow.files import write_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from voxflow.config import Workflow
    from voxflow.datalist import Case
    from voxflow.training.options import DataFacts, TrainOptions

# Options that change what is computed; the others only say how fast, how often it is written down, or from where.
_DECISIVE = (
    *("seed", "precision", "freeze", "accumulate", "clip_norm", "ema", "schedule"),
    *("early_stopping", "stopping_metric"),
)
HASHING_THREADS = 8
HASHES = "hashes"
WORTH_NOTING = 1 << 20  # smaller files are hashed sooner than looked up


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

    plain = TypeAdapter(WorkflowModel).dump_python(workflow, mode="json")
    config = _without_places({key: value for key, value in plain.items() if key not in {"path", "variables"}})
    chosen = options.model_dump(mode="json", include=set(_DECISIVE))
    start = "" if options.checkpoint is None else content_hash(options.checkpoint)
    return {
        "configuration": text_hash([config, facts.model_dump(mode="json"), _own_code(plain)]),
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


def default_folder() -> Path:
    """``VOXFLOW_CACHE``, or ``voxflow`` in the user's cache folder: outside of any repository."""
    named = os.environ.get("VOXFLOW_CACHE")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "voxflow"


def content_hash(path: Path) -> str:
    """Hash a file's content; read once as long as the file is not touched, in later runs, too.

    Raises:
        DataError: the file can't be read.
    """
    try:
        state = path.stat()
        return _content_hash(path.absolute(), (state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino))
    except OSError as error:
        raise DataError(error.strerror or str(error), path=path) from error


@functools.cache
def _content_hash(path: Path, state: tuple[int, int, int, int]) -> str:
    noted = default_folder() / HASHES / text_hash([str(path), *state])
    if state[0] >= WORTH_NOTING:
        with contextlib.suppress(OSError):
            os.utime(noted)
            return noted.read_text(encoding="ascii")
    with path.open("rb") as stream:
        found = hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    if state[0] >= WORTH_NOTING:
        with contextlib.suppress(OSError):
            write_text(noted, found)
    return found


def _data(cases: Sequence[Case]) -> list[Any]:
    with ThreadPoolExecutor(HASHING_THREADS) as pool:
        return list(pool.map(lambda case: [case.id, *case_content(case)], cases))


def case_content(case: Case) -> list[Any]:
    """The content of a case's files, as hashes; a label that is no file as it is."""
    label = content_hash(case.label) if isinstance(case.label, Path) else case.label
    return [[content_hash(path) for path in case.image], label]


def _own_code(value: Any) -> str:
    """A hash of the code of the user's own components; empty where there is none."""
    if isinstance(value, dict):
        if value.get("path") and value.get("custom"):
            return digest_of(Path(value["custom"]))
        value = list(value.values())
    return max(map(_own_code, value), default="") if isinstance(value, list) else ""


def _without_places(value: Any) -> Any:
    if isinstance(value, dict):
        dropped = {"custom", "where", "data_list_file_path", "data_file_base_dir"}
        return {key: _without_places(item) for key, item in value.items() if key not in dropped}
    return [_without_places(item) for item in value] if isinstance(value, list) else value
