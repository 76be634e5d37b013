"""Runs a bundle's configurations: training, evaluation, inference, each in its own folders."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from voxflow.bundle.guard import StageBounds, list_input_files
from voxflow.bundle.images import check_images
from voxflow.bundle.options import DEFAULT_EVALUATOR
from voxflow.bundle.parts import open_bundle, require_engine, run_workflow
from voxflow.bundle.reading import use_bundle
from voxflow.bundle.verify import EngineProof, check_dataset, count_cases, find_built, meet_engine, require_unchanged
from voxflow.bundle.watch import TrainingWatch, is_number
from voxflow.errors import ConfigError, DataError, VoxflowError
from voxflow.files import write_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from voxflow.bundle.options import BundleOptions
    from voxflow.bundle.parts import BundleItem
    from voxflow.tracking import Tracker
    from voxflow.training import Interruption, Recorder

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
    folders = {"outputs": out / "events", "checkpoints": out}
    with use_bundle(bundle), check_images(data) as checked, _withdraw_checkpoints(out):
        bounds = StageBounds((out,), inputs=list_input_files(checked), protected=(bundle,))
        with (
            require_unchanged(bounds),
            open_bundle(bundle, "train", options, folders=folders, data=checked, bounds=bounds) as workflow,
            Interruption() as interruption,
        ):
            require_engine(workflow, options.trainer)
            recorder = Recorder(out / "events", curves, tracker)
            training = _Training(workflow.parser, options, checked, bounds, recorder, interruption)
            with meet_engine(workflow.parser, options.trainer, training.begin):
                run_workflow(workflow, bounds)
            watch = training.require()
    is_interrupted = interruption.is_requested
    _name_best(out, is_needed=not is_interrupted)
    return _summarise_training(watch, is_interrupted=is_interrupted)


@dataclass
class _Training:
    """Begins to watch a training once its trainer runs."""

    parser: Any
    options: BundleOptions
    data: Mapping[str, list[BundleItem]]
    bounds: StageBounds
    recorder: Recorder
    interruption: Interruption
    watch: TrainingWatch | None = None

    def __post_init__(self) -> None:
        self.proof = EngineProof(self.options.trainer, self.bounds)

    def begin(self, trainer: Any) -> None:
        """Watch the trainer and its evaluator, which must go through the cases of their parts."""
        options, name = self.options, self.options.evaluator or DEFAULT_EVALUATOR["train"]
        evaluator = find_built(self.parser, name)
        self._check_cases(trainer, options.trainer, options.train_data, "training")
        self._check_cases(evaluator, name, options.validate_data, "validation")
        self.proof.attach(trainer)
        self.watch = TrainingWatch(trainer, evaluator, self.recorder, self.interruption)

    def _check_cases(self, engine: Any, name: str, data_name: str, part: str) -> None:
        # A list that `set` puts there is the user's own.
        if engine is not None and data_name in self.data and data_name not in self.options.set:
            check_dataset(engine, self.data[data_name], name, self.bounds, part=part)

    def require(self) -> TrainingWatch:
        """Require that the trainer ran."""
        watch = self.watch
        if watch is not None:
            watch.require()
            self.proof.has_ended |= self.interruption.is_requested
        self.proof.require()
        return cast("TrainingWatch", watch)


@contextlib.contextmanager
def _withdraw_checkpoints(out: Path) -> Iterator[None]:
    """Give no checkpoint out as the stage's result where the run is refused; it is kept by another name."""
    try:
        yield
    except VoxflowError:
        for checkpoint in (*out.glob("*.pt"), *out.glob("*.pth")):
            checkpoint.rename(checkpoint.with_name(f"{checkpoint.name}.refused"))
        raise


def _summarise_training(watch: TrainingWatch, *, is_interrupted: bool) -> BundleResult:
    best, epoch = watch.best
    counts = {"epochs": int(watch.trainer.state.epoch), "steps": watch.steps, "best_epoch": epoch}
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
    engine, numbers, failures = _run(bundle, "evaluate", model, out, options=options, data=data)
    state = getattr(engine, "state", None)
    metrics = {name: float(value) for name, value in getattr(state, "metrics", {}).items() if is_number(value)}
    key = str(getattr(state, "key_metric_name", None) or next(iter(metrics), ""))
    return BundleResult({**metrics, **numbers}, key, failures=failures)


def infer_bundle(
    bundle: Path, model: Path, out: Path, options: BundleOptions, *, data: Mapping[str, list[BundleItem]]
) -> BundleResult:
    """Run a trained bundle on cases without a label; see :func:`evaluate_bundle`."""
    _, numbers, failures = _run(bundle, "infer", model, out, options=options, data=data)
    return BundleResult(numbers, failures=failures)


def _run(
    bundle: Path, stage: str, model: Path, out: Path, *, options: BundleOptions, data: Mapping[str, list[BundleItem]]
) -> tuple[Any, dict[str, float], tuple[dict[str, str], ...]]:
    """Run a stage on trained weights: its engine, how many cases it went through, and the images that failed."""
    weights = (model / MODEL).resolve()
    if not weights.is_file():
        raise DataError("file not found; train first", path=model / MODEL)
    name = options.evaluator or DEFAULT_EVALUATOR[stage]
    # One id may be both: nothing may be written where the trained model lies.
    folders = {"checkpoints": model, "outputs": out}
    images = list_input_files(data, "image")
    failures: list[dict[str, str]] = []
    with use_bundle(bundle), check_images(data, failures) as checked, _withdraw_results(out):
        bounds = StageBounds(
            (out,),
            weights=weights,
            inputs=list_input_files(checked),
            protected=(bundle, model),
            image_root=Path(os.path.commonpath([path.parent for path in images])) if images else None,
        )
        with (
            require_unchanged(bounds),
            open_bundle(bundle, stage, options, folders=folders, data=checked, bounds=bounds) as workflow,
        ):
            require_engine(workflow, name)
            items = [item for id_, part in checked.items() for item in part if id_ not in options.set]
            proof = EngineProof(name, bounds, items)
            with meet_engine(workflow.parser, name, proof.attach, proof.attach_to_other):
                run_workflow(workflow, bounds)
            proof.require()
        numbers: dict[str, float] = {
            "cases": count_cases(proof.engine, {} if set(checked) & set(options.set) else checked, name)
        }
        if stage == "infer" and not any(path.is_file() for path in out.rglob("*")):
            raise ConfigError(f"the bundle's inference wrote nothing to {out}; give it a SaveImaged", path=bundle)
    if failures:
        write_json(out / "failures.json", failures)
        numbers["failed_cases"] = len(failures)
    return proof.engine, numbers, tuple(failures)


@contextlib.contextmanager
def _withdraw_results(out: Path) -> Iterator[None]:
    """Leave nothing of a run that was refused: a part of the masks looks like all of them."""
    before = set(out.rglob("*"))
    try:
        yield
    except Exception:
        for path in sorted(set(out.rglob("*")) - before, reverse=True):
            path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
        raise


def _clear_folder(out: Path) -> None:
    """Remove what an older run left."""
    out.mkdir(parents=True, exist_ok=True)
    for old in (*out.glob("*.pt"), *out.glob("*.pth"), *out.glob("*.refused")):
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
