"""Chooses where an MMAR's runs are recorded: MLFLOW_TRACKING_URI, else its repository's store, else nowhere."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from voxflow.tracking import NullTracker, begin_run, continue_run, read_run_file, use_store, write_run_file
from voxflow.training import is_first_process

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from voxflow.mmar.folder import Mmar
    from voxflow.tracking import Tracker

RUN_FILE = "run.json"


@contextlib.contextmanager
def open_new_record(
    mmar: Mmar, datalist: Path, facts: Mapping[str, str], unfinished: str | None = None
) -> Iterator[Tracker]:
    """Begin a run named after the MMAR and note its id in the models folder, so that later commands continue it.

    Args:
        mmar: what is trained.
        datalist: its hash becomes a tag.
        facts: what is trained, such as the network.
        unfinished: id of the run that the training continues; None or empty: a new one.
    """
    with use_store(mmar.repository) as is_kept:
        if not is_kept or not is_first_process():
            yield NullTracker()
            return
        values = dict(mmar.settings)
        with begin_run(mmar.name, params=values, facts=facts, datalist=datalist, run_id=unfinished) as tracker:
            write_run_file(mmar.models / RUN_FILE, tracker, mmar.name)
            tracker.log_artifact(mmar.config, "config")
            yield tracker


@contextlib.contextmanager
def continue_record(models: Path, repository: Path | None) -> Iterator[Tracker]:
    """Continue the run that the training in ``models`` began.

    Args:
        models: the folder that training wrote; its run.json tells the run.
        repository: whose mlflow.db holds the record; None: none but MLFLOW_TRACKING_URI.

    Yields:
        The tracker; one that keeps nothing where the training kept no record.
    """
    file = models / RUN_FILE
    with (
        use_store(repository) as is_kept,
        continue_run(read_run_file(file) if is_kept and file.is_file() else "") as run,
    ):
        yield run
