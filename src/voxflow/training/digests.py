"""Tells whether two trainings are the same, by digests of configuration, options, data and start weights.

A digest of an image file costs a reading of the whole file. So it is noted in the user's cache folder under the file's
path, size, times and inode, and read again only when one of these has changed.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxflow.components import digest_custom_code
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
DIGEST_THREADS = 8
DIGESTS = "hashes"  # the folder's name; caches of earlier versions have it
LEAST_NOTED_BYTES = 1 << 20  # smaller files are hashed sooner than looked up


def digest_training(
    workflow: Workflow, cases: Iterable[Case], options: TrainOptions, facts: DataFacts
) -> dict[str, str]:
    """Return one digest for each part that decides what a training computes.

    Args:
        workflow: its file's place and the places of components in it don't count.
        cases: the cases in the order of the datalist; their images and labels count by content, wherever they lie.
        options: those that change the result.
        facts: class names and grid of the data.

    Returns:
        Digests of "configuration", "options", "data" and "start weights"; the last is empty where there are none.

    Raises:
        DataError: an image, a label or the start weights can't be read.
    """
    from pydantic import TypeAdapter

    from voxflow.config import Workflow as WorkflowModel

    plain = TypeAdapter(WorkflowModel).dump_python(workflow, mode="json")
    # "variables" hold the places of data and models; what of them decides stands in the components already.
    config = _without_places({key: value for key, value in plain.items() if key not in {"path", "variables"}})
    # A training of before the option has the digest that it had, and so goes on.
    newer = {"keep"} if options.keep != "best" else set()
    decisive = options.model_dump(mode="json", include=newer.union(_DECISIVE))
    start = "" if options.checkpoint is None else digest_file(options.checkpoint)
    return {
        "configuration": digest_values([config, facts.model_dump(mode="json"), _digest_custom_code(plain)]),
        "options": digest_values(decisive),
        "data": digest_values(_digest_cases(list(cases))),
        "start weights": start,
    }


def list_differences(first: dict[str, str], second: dict[str, str]) -> list[str]:
    """Name the parts that differ.

    Args:
        first: digests by part, as :func:`digest_training` returns them.
        second: digests of another training; a part that one of them lacks differs.

    Example:
        >>> list_differences({"data": "1f", "options": "a0"}, {"data": "2e", "options": "a0"})
        ['data']
    """
    return [name for name in {**first, **second} if first.get(name) != second.get(name)]


def digest_values(value: Any) -> str:
    """Digest plain values by their JSON; the order of a mapping's keys does not count.

    Example:
        >>> digest_values({"a": 1, "b": [2]}) == digest_values({"b": [2], "a": 1})
        True
    """
    return hashlib.blake2b(json.dumps(value, sort_keys=True, default=str).encode(), digest_size=16).hexdigest()


def cache_folder() -> Path:
    """``VOXFLOW_CACHE``, or ``voxflow`` in the user's cache folder: outside of any repository."""
    folder = os.environ.get("VOXFLOW_CACHE")
    if folder:
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "voxflow"


def digest_file(path: Path) -> str:
    """Digest a file's content; it is read once as long as the file is not touched, in later runs, too.

    Raises:
        DataError: the file can't be read.
    """
    try:
        # The time of the last change and the inode tell a file that was replaced by one of the same size and date.
        state = path.stat()
        return _digest_content(path.absolute(), (state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino))
    except OSError as error:
        raise DataError(error.strerror or str(error), path=path) from error


@functools.cache
def _digest_content(path: Path, state: tuple[int, int, int, int]) -> str:
    note = cache_folder() / DIGESTS / digest_values([str(path), *state])
    if state[0] >= LEAST_NOTED_BYTES:
        with contextlib.suppress(OSError):
            os.utime(note)  # so that pruning sees that it is in use
            return note.read_text(encoding="ascii")
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    if state[0] >= LEAST_NOTED_BYTES:
        with contextlib.suppress(OSError):
            write_text(note, digest)
    return digest


def _digest_cases(cases: Sequence[Case]) -> list[Any]:
    with ThreadPoolExecutor(DIGEST_THREADS) as pool:
        return list(pool.map(lambda case: [case.id, *digest_case(case)], cases))


def digest_case(case: Case) -> list[Any]:
    """List the digests of a case's files: those of its images, then its label's; findings stand as they are.

    The mask of a first stage comes last, where there is one.
    """
    label = digest_file(case.label) if isinstance(case.label, Path) else case.label
    is_whole = case.ignore is None and case.labelled is None
    further: list[Any] = [] if is_whole else [case.ignore, case.labelled]
    if case.previous is not None:
        further.append({"previous": digest_file(case.previous)})
    return [[digest_file(path) for path in case.image], label, *further]


def _digest_custom_code(value: Any) -> str:
    """A digest of the code of the user's own components; empty where there is none."""
    if isinstance(value, dict):
        if value.get("path") and value.get("custom"):
            return digest_custom_code(Path(value["custom"]))
        value = list(value.values())
    return max(map(_digest_custom_code, value), default="") if isinstance(value, list) else ""


def _without_places(value: Any) -> Any:
    if isinstance(value, dict):
        place_keys = {"custom", "where", "data_list_file_path", "data_file_base_dir"}
        return {key: _without_places(item) for key, item in value.items() if key not in place_keys}
    return [_without_places(item) for item in value] if isinstance(value, list) else value
