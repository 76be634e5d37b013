"""Owns running a model over cases, for evaluation and inference alike: a bad case does not stop the others."""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from voxflow.errors import DataError
from voxflow.inference.cases import read_radiographs, read_volumes
from voxflow.prediction import expect, predict_prepared, predict_radiograph, prepare
from voxflow.progress import track
from voxflow.volumes import read_geometry, write_volume

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from concurrent.futures import Future
    from pathlib import Path

    from numpy.typing import NDArray

    from voxflow.engines import Engine
    from voxflow.inference.cases import Failures, InferenceCase
    from voxflow.prediction import Prediction, PredictOptions, Prepared
    from voxflow.volumes import Volume


# The share of the memory that a case may take for the next one to be read beside it.
ROOM = 1 / 8


@dataclass(frozen=True, eq=False)
class Segmented:
    """One case's first channel and its prediction, on one grid."""

    case: InferenceCase
    image: Volume
    prediction: Prediction


@dataclass(frozen=True, eq=False)
class Classified:
    """One case's first channel (rows, columns) and its probabilities by class."""

    case: InferenceCase
    image: NDArray[Any]
    chances: dict[str, float]


def segmented(
    engine: Engine, cases: Sequence[InferenceCase], options: PredictOptions, failures: Failures
) -> Iterator[Segmented]:
    """Segment every case that can be; the others go to ``failures``.

    The next case is read and brought to the network's grid while the network is at work on one, unless a case takes
    so much of the memory that two at a time would not fit.
    """

    def read(case: InferenceCase) -> tuple[Volume, Prepared]:
        with suppress(DataError):  # reading says the same
            expect(engine, read_geometry(case.images[0]), options)
        volumes = read_volumes(case)
        return volumes[0], prepare(volumes, engine.spec)

    def work(case: InferenceCase, reading: Future[tuple[Volume, Prepared]]) -> Segmented:
        image, prepared = reading.result()
        return Segmented(case, image, predict_prepared(engine, prepared, options))

    with ThreadPoolExecutor(1) as ahead:
        upcoming: deque[Future[tuple[Volume, Prepared]]] = deque()
        for number, case in enumerate(track(cases, "segmenting")):
            reading = upcoming.popleft() if upcoming else ahead.submit(read, case)
            # Only one image waits beside the one at work.
            if reading.exception() is not None or _leaves_room(*reading.result(), options):
                upcoming.extend(ahead.submit(read, each) for each in cases[number + 1 : number + 2])
            done = failures.attempt(case, partial(work, case, reading))
            del reading
            if done is not None:
                yield done


def _leaves_room(image: Volume, prepared: Prepared, options: PredictOptions) -> bool:
    return image.array.nbytes + prepared.image.nbytes < ROOM * options.memory_mb * 2**20


def written(done: Iterable[Segmented], path_of: Callable[[Segmented], Path]) -> Iterator[Segmented]:
    """Write each mask while the next case is at work, and hand the case on once its mask is on the disk.

    Raises:
        OSError: a mask could not be written.
    """
    with ThreadPoolExecutor(1) as behind:
        waiting: deque[tuple[Segmented, Future[None]]] = deque()
        for each in done:
            waiting.append((each, behind.submit(write_volume, path_of(each), each.prediction.mask)))
            if len(waiting) > 1:
                yield _finished(waiting)
        while waiting:
            yield _finished(waiting)


def _finished(waiting: deque[tuple[Segmented, Future[None]]]) -> Segmented:
    each, writing = waiting.popleft()
    writing.result()
    return each


def classified(engine: Engine, cases: Sequence[InferenceCase], failures: Failures) -> Iterator[Classified]:
    """Classify every case that can be; the others go to ``failures``."""

    def work(case: InferenceCase) -> Classified:
        images = read_radiographs(case)
        return Classified(case, images[0], predict_radiograph(engine, images))

    for case in track(cases, "classifying"):
        done = failures.attempt(case, partial(work, case))
        if done is not None:
            yield done
