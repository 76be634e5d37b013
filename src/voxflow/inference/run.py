"""Runs a model over cases, for evaluation and inference: reads ahead, writes behind, and no bad case stops others."""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from voxflow.errors import DataError
from voxflow.inference.cases import check_channel_order, read_radiographs, read_volumes
from voxflow.machine import count_cores
from voxflow.prediction import (
    announce_image,
    choose_device,
    predict_members,
    predict_prepared,
    predict_radiograph,
    prepare_image,
)
from voxflow.progress import say, track
from voxflow.trust import measure_images
from voxflow.volumes import describe_forms, read_geometry, write_volume

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from concurrent.futures import Future
    from pathlib import Path

    from numpy.typing import NDArray

    from voxflow.engines import Engine
    from voxflow.inference.cases import Failures, InferenceCase
    from voxflow.prediction import Prediction, PredictOptions, PreparedImage
    from voxflow.trust import RadiographReviewer, RadiographTrust
    from voxflow.volumes import Volume


C = TypeVar("C")
R = TypeVar("R")

# The share of the memory that a case may take for the next one to be read beside it.
ROOM = 1 / 8
# Threads beside a GPU that read, and as many that write.
MOST_HELPERS = 4


@dataclass(frozen=True, eq=False)
class SegmentedCase:
    """One case and what a model says of it.

    Attributes:
        case: the case.
        image: its first channel, or the one that gives the grid.
        prediction: the mask, on the grid of ``image``.
        remark: what tables say of the case; empty: nothing.
        features: what its images are like, where the agreement of the model's answers is measured; else nothing.
    """

    case: InferenceCase
    image: Volume
    prediction: Prediction
    remark: str = ""
    features: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class ClassifiedCase:
    """One case and what a model says of it.

    Attributes:
        case: the case.
        image: its first channel (rows, columns).
        probabilities: by class name; calibrated where the model is.
        trust: how far they can be trusted; None where the model is not calibrated, or nobody asks.
    """

    case: InferenceCase
    image: NDArray[Any]
    probabilities: Mapping[str, float]
    trust: RadiographTrust | None = None


def segment_cases(
    engine: Engine, cases: Sequence[InferenceCase], options: PredictOptions, failures: Failures
) -> Iterator[SegmentedCase]:
    """Segment every case that can be; the others go to ``failures``.

    The next case is read and brought to the network's grid while the network is at work on one, unless a case takes
    so much of the memory that two at a time would not fit. Where the network is on a GPU, several are, by other cores.

    Args:
        engine: the model.
        cases: in order.
        options: of the prediction.
        failures: gets the cases that could not be used.
    """

    def read(case: InferenceCase) -> tuple[Volume, PreparedImage, str, dict[str, float]]:
        with suppress(DataError):  # reading says the same
            file = case.images[min(engine.spec.reference, len(case.images) - 1)]
            announce_image(engine, read_geometry(file, has_channels=True), options)
        volumes = read_volumes(case, engine.spec)
        remark = check_channel_order(volumes, engine.spec, options.swapped_channels)
        image = volumes[min(engine.spec.reference, len(volumes) - 1)]
        for note in filter(None, (describe_forms(image.geometry), remark)):
            say(f"warning: case {case.id}: {note}")
        features = measure_images(volumes, engine.spec.channels) if options.measures_agreement else {}
        return image, prepare_image(volumes, engine.spec, choose_device(engine)), remark, features

    def work(case: InferenceCase, content: tuple[Volume, PreparedImage, str, dict[str, float]]) -> SegmentedCase:
        image, prepared, remark, features = content
        return SegmentedCase(case, image, predict_prepared(engine, prepared, options), remark, features)

    def leaves_room(content: tuple[Volume, PreparedImage, str, dict[str, float]]) -> bool:
        return int(content[0].array.nbytes + content[1].image.nbytes) < ROOM * options.memory_mb * 2**20

    ahead = count_helpers(engine)
    yield from read_ahead(cases, read, work, failures, leaves_room=leaves_room, doing="segmenting", ahead=ahead)


def count_helpers(engine: Engine) -> int:
    """Count the threads that read cases ahead of an engine, and those that write masks behind it.

    One each beside a network on the processor, which needs all cores; beside a GPU half of the cores, at most four:
    unpacking and packing take longer there than the network.
    """
    return 1 if choose_device(engine) is None else max(1, min(MOST_HELPERS, count_cores() // 2))


def read_ahead(
    cases: Sequence[InferenceCase],
    read: Callable[[InferenceCase], C],
    work: Callable[[InferenceCase, C], R],
    failures: Failures,
    *,
    leaves_room: Callable[[C], bool],
    doing: str,
    ahead: int = 1,
) -> Iterator[R]:
    """Do every case's work, and read the next cases meanwhile; a bad case does not stop the others.

    Args:
        cases: in order.
        read: what needs no network, done in a thread of its own.
        work: what is made of a case and its content; not None.
        failures: gets the cases whose reading or work raised.
        leaves_room: whether a case takes so little memory that the next ones may be read beside it.
        doing: what the progress line calls the work, such as "segmenting".
        ahead: how many cases at most wait beside the one at work, each read by a thread of its own.

    Yields:
        What ``work`` returned, in the order of the cases.
    """

    def attempt(case: InferenceCase, reading: Future[C]) -> R:
        return work(case, reading.result())

    with ThreadPoolExecutor(ahead) as readers:
        upcoming: deque[Future[C]] = deque()
        for number, case in enumerate(track(cases, doing)):
            reading = upcoming.popleft() if upcoming else readers.submit(read, case)
            if reading.exception() is not None or leaves_room(reading.result()):
                following = cases[number + 1 + len(upcoming) : number + 1 + ahead]
                upcoming.extend(readers.submit(read, next_case) for next_case in following)
            result = failures.attempt(case, partial(attempt, case, reading))
            del reading
            if result is not None:
                yield result


def write_masks_behind(
    segmented_cases: Iterable[SegmentedCase], path_of: Callable[[SegmentedCase], Path], behind: int = 1
) -> Iterator[SegmentedCase]:
    """Write each mask while the next case is at work, and hand the case on once its mask is on the disk.

    Args:
        segmented_cases: as they become ready; one is asked for while the mask of the one before is written.
        path_of: where a case's mask is written.
        behind: how many masks are written at a time.

    Raises:
        OSError: a mask could not be written.
    """
    with ThreadPoolExecutor(behind) as writers:
        waiting: deque[tuple[SegmentedCase, Future[None]]] = deque()
        for segmented_case in segmented_cases:
            waiting.append(
                (segmented_case, writers.submit(write_volume, path_of(segmented_case), segmented_case.prediction.mask))
            )
            if len(waiting) > behind:
                yield _finish_writing(waiting)
        while waiting:
            yield _finish_writing(waiting)


def _finish_writing(waiting: deque[tuple[SegmentedCase, Future[None]]]) -> SegmentedCase:
    segmented_case, writing = waiting.popleft()
    writing.result()
    return segmented_case


def classify_cases(
    engine: Engine,
    cases: Sequence[InferenceCase],
    failures: Failures,
    options: PredictOptions | None = None,
    reviewer: RadiographReviewer | None = None,
) -> Iterator[ClassifiedCase]:
    """Classify every case that can be; the others go to ``failures``.

    Args:
        engine: a classification model.
        cases: radiographs.
        failures: gets the cases that can't be classified.
        options: of which ``flips`` counts here; None: no mirror images.
        reviewer: who calibrates the answers; None: they stay as the model gives them.
    """
    flips = options.list_flips(engine.spec) if options else ()

    def work(case: InferenceCase) -> ClassifiedCase:
        images = read_radiographs(case)
        if reviewer is None:
            return ClassifiedCase(case, images[0], predict_radiograph(engine, images, flips))
        trust = reviewer.assess(predict_members(engine, images, flips))
        return ClassifiedCase(case, images[0], trust.probabilities, trust)

    for case in track(cases, "classifying"):
        result = failures.attempt(case, partial(work, case))
        if result is not None:
            yield result
