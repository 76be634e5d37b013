"""Runs a bundle's configurations: training, evaluation, inference, each in its own folders."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sized
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from voxflow.bundle.guard import StageBounds, list_input_files
from voxflow.bundle.images import check_images
from voxflow.bundle.options import DEFAULT_EVALUATOR
from voxflow.bundle.parts import get_part, has_id, open_bundle, run_workflow
from voxflow.bundle.reading import use_bundle
from voxflow.bundle.watch import TrainingWatch, is_number
from voxflow.errors import ConfigError, DataError
from voxflow.files import write_json

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from voxflow.bundle.options import BundleOptions
    from voxflow.bundle.parts import BundleItem
    from voxflow.tracking import Tracker

MODEL = "model.pt"


@dataclass(frozen=True)
class BundleResult:
    """What a run of a bundle came to.

    Attributes:
        numbers: flat and finite, as ``dvc metrics`` wants them.
        key_metric: name of the metric that decides; empty when there is none.
        is_interrupted: a person ended it early.
        failures: the images that could not be used: file and reason.
    """

    numbers: dict[str, float] = field(default_factory=dict)
    key_metric: str = ""
    is_interrupted: bool = False
    failures: tuple[dict[str, str], ...] = ()


def train_bundle(
    bundle: Path,
    out: Path,
    options: BundleOptions,
    *,
    data: Mapping[str, list[BundleItem]],
    tracker: Tracker,
    curves: Path,
) -> BundleResult:
    """Train by the bundle's own configuration.

    Args:
        bundle: its folder, which holds configs/.
        out: folder for its checkpoints and event files; an older run's are removed.
        options: which configurations, what wins.
        data: cases by id.
        tracker: gets loss and metrics by epoch.
        curves: the CSV of the same.

    Raises:
        ConfigError: a configuration is missing, or has no such id.
        DataError: an image or label can't be used, or the configuration wrote no checkpoint.
        TrainingError: the loss is not a number.
    """
    from voxflow.training import Interruption, Recorder

    _clear_folder(out)
    # One id may be both: checkpoints then decide, since the stages after this one look for them.
    folders = {options.outputs: out / "events", options.checkpoints: out}
    with (
        use_bundle(bundle),
        check_images(data) as checked,
        open_bundle(
            bundle, "train", options, folders=folders, data=checked, bounds=_bound_training(bundle, out, checked)
        ) as workflow,
        Interruption() as interruption,
    ):
        recorder = Recorder(out / "events", curves, tracker)
        name = options.evaluator or DEFAULT_EVALUATOR["train"]
        evaluator = get_part(workflow, name) if has_id(workflow.parser, name) else None
        trainer = get_part(workflow, options.trainer)
        watch = TrainingWatch(trainer, evaluator, recorder, interruption)
        run_workflow(workflow)
        is_interrupted = interruption.is_requested
    watch.require()
    _name_best(out, is_needed=not is_interrupted)
    return _summarise_training(trainer, watch, is_interrupted=is_interrupted)


def _bound_training(bundle: Path, out: Path, data: Mapping[str, list[BundleItem]]) -> StageBounds:
    inputs = list_input_files(data)
    return StageBounds((out,), inputs=inputs, protected=(bundle, *{path.parent for path in inputs}))


def _summarise_training(trainer: Any, watch: TrainingWatch, *, is_interrupted: bool) -> BundleResult:
    best, epoch = watch.best
    counts = {"epochs": int(trainer.state.epoch), "steps": watch.steps, "best_epoch": epoch}
    values = {"seconds": round(watch.seconds, 1), "train_loss": watch.train_loss, **watch.metrics}
    numbers = counts | {name: value for name, value in values.items() if math.isfinite(value)}
    return BundleResult(numbers, watch.key if not math.isnan(best) else "", is_interrupted)


def evaluate_bundle(
    bundle: Path, model: Path, out: Path, options: BundleOptions, *, data: Mapping[str, list[BundleItem]]
) -> BundleResult:
    """Judge a trained bundle by its own configuration.

    Args:
        bundle: its folder.
        model: the folder of its checkpoints.
        out: an existing folder for what it writes.
        options: which configurations, what wins.
        data: cases by id.

    Raises:
        ConfigError: a configuration is missing, or has no such id.
        DataError: there is no trained model, or no image can be used.
    """
    failures: list[dict[str, str]] = []
    with check_images(data, failures) as checked:
        engine = _run(bundle, "evaluate", model, out, options=options, data=checked)
        count = _count_cases(checked, engine, bundle)
    _write_failures(failures, out)
    metrics = {name: float(value) for name, value in engine.state.metrics.items() if is_number(value)}
    key = str(getattr(engine.state, "key_metric_name", None) or next(iter(metrics), ""))
    return BundleResult({**metrics, **_count(count, failures)}, key, failures=tuple(failures))


def infer_bundle(
    bundle: Path, model: Path, out: Path, options: BundleOptions, *, data: Mapping[str, list[BundleItem]]
) -> BundleResult:
    """Run a trained bundle on cases without a label; see :func:`evaluate_bundle`."""
    failures: list[dict[str, str]] = []
    with check_images(data, failures) as checked:
        engine = _run(bundle, "infer", model, out, options=options, data=checked)
        count = _count_cases(checked, engine, bundle)
    _write_failures(failures, out)
    return BundleResult(_count(count, failures), failures=tuple(failures))


def _write_failures(failures: list[dict[str, str]], out: Path) -> None:
    if failures:
        write_json(out / "failures.json", failures)


def _count(cases: int, failures: list[dict[str, str]]) -> dict[str, float]:
    return {"cases": cases, **({"failed_cases": len(failures)} if failures else {})}


def _run(
    bundle: Path, stage: str, model: Path, out: Path, *, options: BundleOptions, data: Mapping[str, list[BundleItem]]
) -> Any:
    if not (model / MODEL).is_file():
        raise DataError("file not found; train first", path=model / MODEL)
    # Where the configuration has no folder of checkpoints, its loader names the file itself.
    weights = options.set | {options.load_path: str((model / MODEL).resolve())}
    # One id may be both: nothing may be written where the trained model lies.
    folders = {options.checkpoints: model, options.outputs: out}
    inputs = list_input_files(data)
    bounds = StageBounds(
        (out,),
        weights=(model / MODEL).resolve(),
        inputs=inputs,
        protected=(bundle, model, *{path.parent for path in inputs}),
    )
    with (
        use_bundle(bundle),
        open_for_weights(
            bundle, stage, options, folders=folders, weights=weights, data=data, bounds=bounds
        ) as workflow,
    ):
        engine = get_part(workflow, options.evaluator or DEFAULT_EVALUATOR[stage])
        run_workflow(workflow)
    if not bounds.load_count:
        raise ConfigError(
            f"the configuration loaded no weights, so that {bounds.weights} was not judged; give it a CheckpointLoader",
            path=bundle,
        )
    return engine


def open_for_weights(
    bundle: Path,
    stage: str,
    options: BundleOptions,
    *,
    folders: dict[str, Path],
    weights: dict[str, Any],
    data: Mapping[str, list[BundleItem]],
    bounds: StageBounds,
) -> Any:
    """Open a configuration that reads trained weights, from a folder or by a path of its own.

    Args:
        bundle: its folder.
        stage: "evaluate" or "infer".
        options: which configurations, what wins.
        folders: paths by id.
        weights: ``options.set``, and the path of the weights by the id that the loader has for it.
        data: lists of items by id.
        bounds: what the run may load, read and write.
    """
    from monai.bundle import ConfigParser

    from voxflow.bundle.options import list_config_files

    files = [str(file) for file in list_config_files(bundle, stage, options) if file.is_file()]
    stated = ConfigParser()
    stated.read_config(files)
    if has_id(stated, options.load_path):
        options = options.model_copy(update={"set": {options.load_path: weights[options.load_path], **options.set}})
        if not has_id(stated, options.checkpoints):
            folders = {name: path for name, path in folders.items() if name != options.checkpoints}
    return open_bundle(bundle, stage, options, folders=folders, data=data, bounds=bounds)


def _count_cases(data: Mapping[str, list[BundleItem]], engine: Any, bundle: Path) -> int:
    """How many cases went through: those of the engine's data set, which must be the ones that were put in."""
    dataset = getattr(getattr(engine, "data_loader", None), "dataset", None)
    count = len(dataset) if isinstance(dataset, Sized) else int(engine.state.iteration)
    expected = sum(len(cases) for cases in data.values())
    if data and count != expected:
        message = f"the evaluator went through {count} cases, and the stage has {expected}: it reads other data"
        raise ConfigError(message, path=bundle)
    return count


def _clear_folder(out: Path) -> None:
    """Remove what an older run left."""
    out.mkdir(parents=True, exist_ok=True)
    for old in (*out.glob("*.pt"), *out.glob("*.pth")):
        old.unlink()
    shutil.rmtree(out / "events", ignore_errors=True)


def _name_best(out: Path, *, is_needed: bool) -> None:
    """Let model.pt be the best checkpoint, whatever the configuration called it."""
    if (out / MODEL).is_file():
        return
    # CheckpointSaver's own names: the key metric's first, then the final one, then by epoch.
    checkpoints = [
        path
        for pattern in ("*key_metric*.pt", "*best*.pt", "*final*.pt", "*.pt")
        for path in sorted(out.glob(pattern), key=lambda file: file.stat().st_mtime, reverse=True)
    ]
    if checkpoints:
        shutil.copyfile(checkpoints[0], out / MODEL)
    elif is_needed:
        raise DataError("the bundle's configuration wrote no checkpoint; give it a CheckpointSaver", path=out)
