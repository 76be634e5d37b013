"""What the stages do for a workspace of ``kind: bundle``: a MONAI bundle's own configurations run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from voxflow.bundle import BundleOptions, evaluate_bundle, export_bundle, infer_bundle, train_bundle
from voxflow.bundle.parts import items, require
from voxflow.datalist import Datalist
from voxflow.errors import EXIT_INTERRUPTED, EXIT_OK, DataError
from voxflow.files import atomic_directory, write_json
from voxflow.inference import metric_name, native_cases
from voxflow.progress import say
from voxflow.tracking import begin_run, continue_run, read_run_file, write_run_file

if TYPE_CHECKING:
    from pathlib import Path

    from tasks.stage import Stage
    from voxflow.bundle import BundleResult
    from voxflow.bundle.parts import Item
    from voxflow.tracking import Tracker

KIND = "bundle"


def is_bundle(stage: Stage) -> bool:
    """Whether a workspace is a MONAI bundle; its files lie in mmars/WORKSPACE/config."""
    return stage.block.get("kind") == KIND


def train(stage: Stage) -> int:
    """Train by the bundle's own configuration; loss and metrics go to MLflow."""
    options, listed = _options(stage), stage.datalists / "dataset_0.json"
    datalist = Datalist.read(listed, stage.resampled)
    data: dict[str, list[Item]] = {}
    if options.data == "split":
        data = {"train#dataset#data": _items(datalist, "training")}
        data["validate#dataset#data"] = _items(datalist, "validation")
    out, curves = stage.models / "train", stage.models / "curves.csv"
    with begin_run(stage.workspace, params=stage.block, datalist=listed) as tracker:
        write_run_file(out / "run.json", tracker, stage.workspace)
        tracker.artifact(_folder(stage) / "configs", "config")
        result = train_bundle(_folder(stage), out, options, data=data, tracker=tracker, curves=curves)
        tracker.artifact(curves)
        tracker.metrics({f"train/{metric_name(name)}": value for name, value in result.numbers.items()})
        if result.is_interrupted:
            tracker.interrupted()
    write_json(stage.metrics, result.numbers)
    best = f", best {result.key_metric} {result.numbers[result.key_metric]:.4f}" if result.key_metric else ""
    ended = " (interrupted)" if result.is_interrupted else ""
    done = f"{result.numbers['epochs']:g} epochs{ended} of the bundle's own training{best}"
    say(f"train {stage.workspace}: {done} → {out}")
    return EXIT_INTERRUPTED if result.is_interrupted else EXIT_OK


def export(stage: Stage) -> int:
    """Export by monai.bundle, and compare with torch."""
    options = _options(stage, "train")
    with continue_run(read_run_file(stage.models / "train" / "run.json")) as tracker:
        with atomic_directory(stage.models / "export") as out:
            numbers = export_bundle(_folder(stage), stage.models / "train", out, options)
        write_json(stage.models / "parity.json", numbers)
        tracker.artifact(stage.models / "parity.json", "export")
        tracker.metrics({f"parity/{name}": value for name, value in numbers.items()})
    say(f"export {stage.workspace}: torchscript equals torch → {stage.models / 'export'}")
    return EXIT_OK


def evaluate(stage: Stage) -> int:
    """Judge the trained bundle by its own configuration on the datalist's unseen cases."""
    options = _options(stage)
    data = {"validate#dataset#data": _needed(stage, options.key or "testing")} if options.data == "split" else {}
    with continue_run(read_run_file(stage.models / "train" / "run.json")) as tracker:
        with atomic_directory(stage.evaluation / "test") as out:
            result = evaluate_bundle(_folder(stage), stage.models / "train", out, options, data=data)
        _record(stage, result, tracker, "test")
    score = f"{result.key_metric} {result.numbers[result.key_metric]:.4f}" if result.key_metric else "no metric"
    say(f"evaluate {stage.workspace}: {score} on {result.numbers['cases']:g} cases → {stage.evaluation / 'test'}")
    return EXIT_OK


def infer(stage: Stage) -> int:
    """Run the trained bundle by its own configuration on the datalist's cases without a label."""
    options = _options(stage)
    data = {"dataset#data": _native(stage, options.key or "inference")} if options.data == "split" else {}
    target = stage.evaluation / "infer"
    if data and not data["dataset#data"]:
        with atomic_directory(target):
            pass
        write_json(stage.metrics, {"cases": 0})
        say(f"infer {stage.workspace}: the datalist has no case to infer → {target}")
        return EXIT_OK
    with continue_run(read_run_file(stage.models / "train" / "run.json")) as tracker:
        with atomic_directory(target) as out:
            result = infer_bundle(_folder(stage), stage.models / "train", out, options, data=data)
        _record(stage, result, tracker, "infer")
    say(f"infer {stage.workspace}: {result.numbers['cases']:g} cases by the bundle's own inference → {target}")
    return EXIT_OK


def _options(stage: Stage, name: str | None = None) -> BundleOptions:
    """The stage's options, once the bundle may run at all."""
    require(trust=stage.block.get("trust") is True, where=f"workspaces.{stage.workspace}.trust")
    return type(stage)(stage.workspace, name or stage.name, stage.block).options(BundleOptions)


def _folder(stage: Stage) -> Path:
    return stage.mmar / "config"


def _items(datalist: Datalist, key: str) -> list[Item]:
    labelled = [case for case in datalist.parts.get(key, ()) if case.label is not None]
    datalist.check_files([key] if labelled else [])
    return items(labelled)


def _needed(stage: Stage, key: str) -> list[Item]:
    datalist = Datalist.read(stage.datalists / "dataset_0.json", stage.resampled)
    found = _items(datalist, key)
    if not found:
        raise DataError("no case to evaluate on", path=datalist.path, where=key)
    return found


def _native(stage: Stage, key: str) -> list[Item]:
    """Images as they came, since a bundle's own inference resamples them and returns masks on their own grid."""
    datalist = Datalist.read(stage.datalists / "dataset_0.json", stage.resampled)
    cases = native_cases([(case.id, None) for case in datalist.parts.get(key, ())], stage.volumes, is_mask=False)
    paths = [[str(image.resolve()) for image in case.images] for case in cases]
    return [{"image": each[0] if len(each) == 1 else each} for each in paths]


def _record(stage: Stage, result: BundleResult, tracker: Tracker, name: str) -> None:
    write_json(stage.metrics, result.numbers)
    tracker.metrics({f"{name}/{metric_name(key)}": value for key, value in result.numbers.items()})
    for path in sorted((stage.evaluation / name).glob("*.csv")):
        tracker.artifact(path, name)
