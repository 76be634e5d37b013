"""Look for drift in a workspace's inbox and count its new labels: ``python -m tasks.ops.monitor WORKSPACE``."""

from __future__ import annotations

import sys
from pathlib import Path

from tasks.common.stage import Stage, main
from voxflow.drift import (
    DriftResult,
    MonitorOptions,
    compare_samples,
    count_new_labelled_cases,
    list_reasons_to_retrain,
    measure_incoming,
    measure_training_set,
    write_drift,
)
from voxflow.errors import EXIT_ALERT, EXIT_OK, DataError
from voxflow.files import write_json
from voxflow.places import Places
from voxflow.progress import say


def run(stage: Stage) -> int:
    """Compare the inbox with the training data, and count the labels that no training has seen.

    Writes data/drift/WS/monitor.json, and drift.html where there is an inbox.

    Returns:
        4, the alert, where a feature has moved.
    """
    places, options = Places(stage.workspace, stage.block), stage.options(MonitorOptions)
    drift = _measure_drift(places, options)
    labelled = count_new_labelled_cases(places)
    reasons = list_reasons_to_retrain(drift, labelled, options.retrain)
    line = drift.line() if drift else f"no study in {options.inbox}" if options.inbox else "no inbox to look at"
    alert = drift is not None and bool(drift.moved_features)
    summary = {"workspace": stage.workspace, "alert": alert, "line": line, "new_labelled": labelled, "retrain": reasons}
    write_json(places.drift / "monitor.json", summary)
    due = f"; a training is due: {'; '.join(reasons)}" if reasons else ""
    say(f"monitor {stage.workspace}: {line}; {labelled} new labelled cases{due}")
    return EXIT_ALERT if alert else EXIT_OK


def _measure_drift(places: Places, options: MonitorOptions) -> DriftResult | None:
    """Compare the inbox; None where there is none, or nothing lies in it."""
    if options.inbox is None:
        return None
    inbox = Path(options.inbox)
    if not inbox.is_dir():
        raise DataError("no such folder", path=inbox, where="monitor.inbox")
    if not any(path.is_file() for path in inbox.rglob("*")):
        return None
    reference = measure_training_set(places)
    incoming = measure_incoming(inbox, places, page_folder=places.drift, most_viewed=options.viewer)
    drift = compare_samples(reference, incoming, options)
    write_drift(drift, reference, incoming, places.drift, places.workspace)
    return drift


def program() -> int:
    """Run as a program."""
    return main("monitor", run)


if __name__ == "__main__":
    sys.exit(program())
