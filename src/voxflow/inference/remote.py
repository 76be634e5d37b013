"""Owns inference by other processes: each opens the model once, takes one case at a time and writes its files."""

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
from voxflow.inference.infer import (
    mask_path,
    picture_path,
    segment,
    summed,
    write_classes,
    write_masks_table,
)
from voxflow.inference.overlays import write_overlay
from voxflow.inference.run import Classified, classified
from voxflow.inference.writing import SHEET_TILES
from voxflow.prediction import label_names, open_ensemble
from voxflow.progress import track
from voxflow.volumes import read_volume

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from voxflow.engines import Engine, EngineChoice
    from voxflow.executor import Executor
    from voxflow.inference.cases import InferenceCase
    from voxflow.inference.infer import Inference, InferOptions
    from voxflow.spec import ModelSpec

NO_PICTURE = np.zeros((1, 1), np.uint8)


@dataclass(frozen=True)
class Models:
    """What to open: one folder of exported models, or several that answer together.

    Attributes:
        folders: relative to the current folder, or absolute.
        engine: which engine.
        together: an ensemble, even of one.
    """

    folders: tuple[Path, ...]
    engine: EngineChoice = "auto"
    together: bool = False

    def open(self) -> Engine:
        """Load them; see :func:`voxflow.engines.open_engine`."""
        return open_ensemble(self.folders, self.engine) if self.together else open_engine(self.folders[0], self.engine)


@dataclass(frozen=True)
class _Answer:
    """What becomes of one case: a mask's row or the chance of each class, and the reasons of what failed."""

    result: dict[str, Any] | None
    failures: tuple[dict[str, str], ...] = ()


def infer_elsewhere(
    executor: Executor, models: Models, cases: Sequence[InferenceCase], out: Path, options: InferOptions
) -> Inference:
    """As :func:`voxflow.inference.infer_cases`, with the model where the executor's workers are.

    The first worker says which engine "auto" means; all take the same, so that no result depends on who made it.

    Raises:
        InputError: the model can't be used; as :func:`voxflow.engines.open_engine` has it.
        MissingDependencyError: a worker lacks the engine.
        OSError: a result could not be written.
    """
    began = time.perf_counter()
    (out / "overlays").mkdir(exist_ok=True)
    opened = _Opened.of(models)
    name, spec = _described(executor, opened, out)
    is_volume = spec.task == "segmentation"
    work = _segmented if is_volume else _classified
    items = [(case, number < options.overlays) for number, case in enumerate(cases)]
    answers = _answers(executor, partial(work, opened.pinned(name), out, options), items, out)
    failures = Failures([row for answer in answers for row in answer.failures])
    made = {case.id: each.result for case, each in zip(cases, answers, strict=True) if each.result is not None}
    if is_volume:
        _complete_pictures([case for case in cases if case.id in made][: options.overlays], spec, out)
        write_masks_table(made, cases, spec, out)
    else:
        done = [case for case in cases if case.id in made]
        images = {case.id: read_radiographs(case)[0] for case in done[:SHEET_TILES] if options.overlays}
        classes = [Classified(case, images.get(case.id, NO_PICTURE), made[case.id]) for case in done]
        write_classes(classes, spec, out, options)
    return summed(len(made), failures, out, began, engine=name)


def _described(executor: Executor, opened: _Opened, out: Path) -> tuple[str, ModelSpec]:
    """Which engine and which model a worker has opened."""
    with closing(executor.run(_describe, [opened], _lost_model, into=out)) as done:
        ((_, answer),) = done
    return answer


def _answers(
    executor: Executor,
    work: Callable[[tuple[InferenceCase, bool]], _Answer],
    items: Sequence[tuple[InferenceCase, bool]],
    out: Path,
) -> list[_Answer]:
    with closing(executor.run(work, items, _lost, into=out)) as done:
        made = dict(track(done, "inferring", total=len(items)))
    return [made[number] for number in range(len(items))]


def _lost(item: tuple[InferenceCase, bool], reason: str) -> _Answer:
    return _Answer(None, ({"case": item[0].id, "reason": reason},))


def _lost_model(_opened: _Opened, reason: str) -> tuple[str, ModelSpec]:
    raise ClusterError(f"the model can't be opened: {reason}")


def _complete_pictures(cases: Sequence[InferenceCase], spec: ModelSpec, out: Path) -> None:
    """Draw the pictures that stand in for those of failed cases."""
    names = label_names(spec)
    for case in cases:
        path = picture_path(case.id, out)
        if not path.is_file():
            write_overlay(path, read_volumes(case)[0], read_volume(out / mask_path(case.id)), names, title=case.id)


@dataclass(frozen=True)
class _Opened:
    """Names a model for as long as its files are the same.

    Attributes:
        models: what to open.
        files: path, size and time of every file.
    """

    models: Models
    files: tuple[tuple[str, int, int], ...]

    @classmethod
    def of(cls, models: Models) -> _Opened:
        """Name the model as its files are now."""
        files = sorted(path for folder in models.folders for path in _files(folder))
        stats = [(path, path.stat()) for path in files]
        return cls(models, tuple((str(path.absolute()), stat.st_size, stat.st_mtime_ns) for path, stat in stats))

    def pinned(self, name: str) -> _Opened:
        """The same where "auto" means a certain engine."""
        return self if self.models.engine != "auto" else replace(self, models=replace(self.models, engine=name))


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_file()] if folder.is_dir() else [folder]


# One model at a time: another one takes the place of this one.
_HELD: dict[_Opened, Engine] = {}


def _engine(opened: _Opened) -> Engine:
    """The model, which a process opens once."""
    if opened not in _HELD:
        _HELD.clear()
        _HELD[opened] = opened.models.open()
    return _HELD[opened]


def _describe(opened: _Opened) -> tuple[str, ModelSpec]:
    engine = _engine(opened)
    _HELD[opened.pinned(engine.name)] = engine
    return engine.name, engine.spec


def _segmented(opened: _Opened, out: Path, options: InferOptions, item: tuple[InferenceCase, bool]) -> _Answer:
    case, with_picture = item
    failures = Failures()
    alone = options.model_copy(update={"overlays": int(with_picture)})
    rows = segment(_engine(opened), [case], out, alone, failures)
    return _Answer(rows.get(case.id), tuple(failures.rows))


def _classified(opened: _Opened, _out: Path, _options: InferOptions, item: tuple[InferenceCase, bool]) -> _Answer:
    failures = Failures()
    done = list(classified(_engine(opened), [item[0]], failures))
    return _Answer(done[0].chances if done else None, tuple(failures.rows))
