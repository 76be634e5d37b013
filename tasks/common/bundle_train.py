"""Trains a workspace of ``kind: bundle``.

Apart from export, evaluation and inference, so that what changes there never trains a bundle again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks.common.bundle import bundle_folder, list_labelled_items, read_bundle_options
from voxflow.bundle import train_bundle
from voxflow.datalist import Datalist
from voxflow.errors import EXIT_INTERRUPTED, EXIT_OK
from voxflow.files import write_json
from voxflow.progress import say
from voxflow.tracking import begin_run, write_run_file

if TYPE_CHECKING:
    from tasks.common.stage import Stage
    from voxflow.bundle import BundleItem

NOT_SCORES = ("epochs", "steps", "best_epoch", "seconds", "train_loss")  # the numbers that no validation made


def train(stage: Stage) -> int:
    """Train by the bundle's own configuration; loss and metrics go to MLflow."""
    options, datalist_file = read_bundle_options(stage), stage.datalist
    datalist = Datalist.read(datalist_file, stage.resampled)
    data: dict[str, list[BundleItem]] = {}
    if options.data == "split":
        data = {options.train_data: list_labelled_items(datalist, "training")}
        data[options.validate_data] = list_labelled_items(datalist, "validation")
    out, curves = stage.models / "train", stage.models / "curves.csv"
    with begin_run(stage.workspace, params=stage.block, datalist=datalist_file, part=stage.run_name or "") as tracker:
        write_run_file(out / "run.json", tracker, stage.workspace)
        tracker.log_artifact(bundle_folder(stage) / "configs", "config")
        result = train_bundle(bundle_folder(stage), out, options, data=data, tracker=tracker, curves=curves)
        tracker.log_artifact(curves)
        kinds = {name: "train" if name in NOT_SCORES else "best_validation" for name in result.numbers}
        tracker.log_metrics({f"{kinds[name]}/{name}": value for name, value in result.numbers.items()})
        if result.is_interrupted:
            tracker.mark_interrupted()
    write_json(stage.models / "train.json", result.numbers)
    best = f", best {result.key_metric} {result.numbers[result.key_metric]:.4f}" if result.key_metric else ""
    ended = " (interrupted)" if result.is_interrupted else ""
    summary = f"{result.numbers['epochs']:g} epochs{ended} of the bundle's own training{best}"
    say(f"train {stage.title}: {summary} → {out}")
    return EXIT_INTERRUPTED if result.is_interrupted else EXIT_OK
