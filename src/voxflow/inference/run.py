"""Owns running a model over cases, for evaluation and inference alike: a bad case does not stop the others."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from voxflow.inference.cases import read_radiographs, read_volumes
from voxflow.inference.predict import predict_radiograph, predict_volume
from voxflow.progress import track

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from voxflow.inference.cases import Failures, InferenceCase
    from voxflow.inference.engines import Engine
    from voxflow.inference.predict import Prediction, PredictOptions
    from voxflow.volumes import Volume


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
    """Segment every case that can be; the others go to ``failures``."""

    def work(case: InferenceCase) -> Segmented:
        volumes = read_volumes(case)
        return Segmented(case, volumes[0], predict_volume(engine, volumes, options))

    for case in track(cases, "segmenting"):
        done = failures.attempt(case, partial(work, case))
        if done is not None:
            yield done


def classified(engine: Engine, cases: Sequence[InferenceCase], failures: Failures) -> Iterator[Classified]:
    """Classify every case that can be; the others go to ``failures``."""

    def work(case: InferenceCase) -> Classified:
        images = read_radiographs(case)
        return Classified(case, images[0], predict_radiograph(engine, images))

    for case in track(cases, "classifying"):
        done = failures.attempt(case, partial(work, case))
        if done is not None:
            yield done
