"""Inference by other processes: each opens the model once, takes one case at a time and writes its files."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from voxflow.engines import open_engine
from voxflow.errors import ClusterError
from voxflow.inference.cases import Failures, read_radiographs, read_volumes
from voxflow.inference.channel_overlays import write_overlays
from voxflow.inference.extra_outputs import ExtraOutputs, announce_extra_outputs
from voxflow.inference.infer import (
    mask_path,
    picture_path,
    require_reviewer,
    segment_and_write,
    summarise_inference,
    write_masks_table,
)
from voxflow.inference.reviewing import open_any_reviewer
from voxflow.inference.run import ClassifiedCase, classify_cases
from voxflow.inference.writing import SHEET_TILES, write_classes
from voxflow.prediction import open_ensemble
from voxflow.progress import track
from voxflow.trust import RadiographReviewer, Reviewer
from voxflow.volumes import read_volume

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from voxflow.engines import Device, Engine, EngineChoice
    from voxflow.executor import Executor
    from voxflow.inference.cases import InferenceCase
    from voxflow.inference.infer import InferenceResult, InferOptions
    from voxflow.spec import ModelSpec
    from voxflow.trust import AnyReviewer

# Stands for the images of cases beyond the first dozen, which no picture shows.
NO_PICTURE = np.zeros((1, 1), np.uint8)


@dataclass(frozen=True)
class ModelFolders:
    """What to open: one folder of exported models, or several that answer together.

    Attributes:
        folders: relative to the current folder, or absolute.
        engine: which engine.
        is_ensemble: an ensemble, even of one.
        device: where each process runs it; None: its first GPU, where it sees one.
    """

    folders: tuple[Path, ...]
    engine: EngineChoice = "auto"
    is_ensemble: bool = False
    device: Device | None = None

    def open(self) -> Engine:
        """Load the models; see :func:`voxflow.engines.open_engine`.

        Raises:
            DataError: a folder holds no model, or the models of an ensemble don't take or mean the same.
            InputError: a folder has no model for the engine.
        """
        if self.is_ensemble:
            return open_ensemble(self.folders, self.engine, self.device)
        return open_engine(self.folders[0], self.engine, self.device)


@dataclass(frozen=True)
class _CaseAnswer:
    """What becomes of one case: a mask's row, or a radiograph's probabilities and trust; the reasons of what failed."""

    result: dict[str, Any] | None
    failures: tuple[dict[str, str], ...] = ()


def infer_on_executor(
    executor: Executor, models: ModelFolders, cases: Sequence[InferenceCase], out: Path, options: InferOptions
) -> InferenceResult:
    """Do as :func:`voxflow.inference.infer_cases`, with the model where the executor's workers are.

    The first worker says which engine "auto" means; all take the same, so that no result depends on who made it.

    Args:
        executor: where the work is done, such as a Dask cluster.
        models: what each worker opens.
        cases: in order.
        out: an existing folder that all workers see.
        options: of the prediction, and what is written.

    Raises:
        InputError: the model can't be used; as :func:`voxflow.engines.open_engine` has it.
        MissingDependencyError: a worker lacks the engine.
        OSError: a result could not be written.
    """
    began = time.perf_counter()
    (out / "overlays").mkdir(exist_ok=True)
    # Workers keep a model open from case to case, and know by this whether it is still the same files.
    model_key = _ModelKey.of(models)
    name, spec, reviewer = _describe_on_worker(executor, model_key, out, options)
    announce_extra_outputs(cases, spec, options.extra_outputs)
    calibrator = reviewer if isinstance(reviewer, RadiographReviewer) else None
    reviewer = reviewer if isinstance(reviewer, Reviewer) else None
    work = partial(_segment_case, reviewer) if spec.task == "segmentation" else partial(_classify_case, calibrator)
    items = [(case, number < options.overlays) for number, case in enumerate(cases)]
    answers = _collect_answers(executor, partial(work, model_key.pin_engine(name), out, options), items, out)
    failures = Failures([row for answer in answers for row in answer.failures])
    results = {case.id: answer.result for case, answer in zip(cases, answers, strict=True) if answer.result is not None}
    if spec.task == "segmentation":
        _write_masks_tables(cases, results, spec, out, options, failures=failures, reviewer=reviewer)
    else:
        answered_cases = [case for case in cases if case.id in results]
        _write_radiographs(answered_cases, results, spec, out, options, reviewer=calibrator)
    return summarise_inference(len(results), failures, out, began, engine=name)


def _write_masks_tables(
    cases: Sequence[InferenceCase],
    results: Mapping[str, dict[str, Any]],
    spec: ModelSpec,
    out: Path,
    options: InferOptions,
    *,
    failures: Failures,
    reviewer: Reviewer | None,
) -> None:
    """Write what belongs to all segmented cases together: missing pictures, the tables of masks and measurements."""
    segmented_cases = [case for case in cases if case.id in results]
    _complete_pictures(segmented_cases[: options.overlays], spec, out)
    write_masks_table(results, cases, spec, out, failures, reviewer=require_reviewer(reviewer, options))
    ExtraOutputs(options.extra_outputs, spec, out, failures).write_tables(segmented_cases)


def _write_radiographs(
    cases: Sequence[InferenceCase],
    results: Mapping[str, dict[str, Any]],
    spec: ModelSpec,
    out: Path,
    options: InferOptions,
    *,
    reviewer: RadiographReviewer | None,
) -> None:
    """Write the tables of classified cases, and the sheet of the first ones, whose images are read again."""
    images = {case.id: read_radiographs(case)[0] for case in cases[:SHEET_TILES] if options.overlays}
    classes = [ClassifiedCase(case, images.get(case.id, NO_PICTURE), **results[case.id]) for case in cases]
    write_classes(classes, spec, out, options, reviewer=reviewer)


def _describe_on_worker(
    executor: Executor, model_key: _ModelKey, out: Path, options: InferOptions
) -> tuple[str, ModelSpec, AnyReviewer | None]:
    """Which engine and which model a worker has opened, and who sorts its masks."""
    with closing(executor.run(partial(_describe, options), [model_key], _raise_lost_model, into=out)) as answers:
        ((_, answer),) = answers
    return answer


def _collect_answers(
    executor: Executor,
    work: Callable[[tuple[InferenceCase, bool]], _CaseAnswer],
    items: Sequence[tuple[InferenceCase, bool]],
    out: Path,
) -> list[_CaseAnswer]:
    with closing(executor.run(work, items, _answer_lost_case, into=out)) as numbered:
        answers = dict(track(numbered, "inferring", total=len(items)))
    return [answers[number] for number in range(len(items))]


def _answer_lost_case(item: tuple[InferenceCase, bool], reason: str) -> _CaseAnswer:
    return _CaseAnswer(None, ({"case": item[0].id, "reason": reason},))


def _raise_lost_model(_model_key: _ModelKey, reason: str) -> tuple[str, ModelSpec, AnyReviewer | None]:
    raise ClusterError(f"the model can't be opened: {reason}")


def _complete_pictures(cases: Sequence[InferenceCase], spec: ModelSpec, out: Path) -> None:
    """Draw the pictures that stand in for those of failed cases."""
    for case in cases:
        path = picture_path(case.id, out)
        if not path.is_file():
            mask = read_volume(out / mask_path(case.id))
            write_overlays(path, read_volumes(case, spec), mask, spec, title=case.id)


@dataclass(frozen=True)
class _ModelKey:
    """Names a model for as long as its files are the same.

    Attributes:
        models: what to open.
        files: path, size and time of every file.
    """

    models: ModelFolders
    files: tuple[tuple[str, int, int], ...]

    @classmethod
    def of(cls, models: ModelFolders) -> _ModelKey:
        """Name the model as its files are now."""
        files = sorted(path for folder in models.folders for path in _list_files(folder))
        stats = [(path, path.stat()) for path in files]
        return cls(models, tuple((str(path.absolute()), stat.st_size, stat.st_mtime_ns) for path, stat in stats))

    def pin_engine(self, name: str) -> _ModelKey:
        """The same where "auto" means a certain engine."""
        return self if self.models.engine != "auto" else replace(self, models=replace(self.models, engine=name))


def _list_files(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_file()] if folder.is_dir() else [folder]


# One model at a time: another one takes the place of this one.
_OPEN_MODELS: dict[_ModelKey, Engine] = {}


def _open_once(model_key: _ModelKey) -> Engine:
    """The model, which a process opens once."""
    if model_key not in _OPEN_MODELS:
        _OPEN_MODELS.clear()
        _OPEN_MODELS[model_key] = model_key.models.open()
    return _OPEN_MODELS[model_key]


def _describe(options: InferOptions, model_key: _ModelKey) -> tuple[str, ModelSpec, AnyReviewer | None]:
    engine = _open_once(model_key)
    _OPEN_MODELS[model_key.pin_engine(engine.name)] = engine
    return engine.name, engine.spec, open_any_reviewer(engine, model_key.models.folders, options)


def _segment_case(
    reviewer: Reviewer | None,
    model_key: _ModelKey,
    out: Path,
    options: InferOptions,
    item: tuple[InferenceCase, bool],
) -> _CaseAnswer:
    case, with_picture = item
    failures = Failures()
    alone = options.model_copy(update={"overlays": int(with_picture)})
    rows = segment_and_write(_open_once(model_key), [case], out, alone, failures, reviewer=reviewer)
    return _CaseAnswer(rows.get(case.id), tuple(failures.rows))


def _classify_case(
    reviewer: RadiographReviewer | None,
    model_key: _ModelKey,
    _out: Path,
    options: InferOptions,
    item: tuple[InferenceCase, bool],
) -> _CaseAnswer:
    failures = Failures()
    results = list(classify_cases(_open_once(model_key), [item[0]], failures, options, reviewer))
    answers = [{"probabilities": result.probabilities, "trust": result.trust} for result in results]
    return _CaseAnswer(answers[0] if answers else None, tuple(failures.rows))
