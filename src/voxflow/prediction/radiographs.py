"""Predicts one radiograph: shows it to a classifier, mirrored where that is asked for, and returns probabilities."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from voxflow.errors import DataError
from voxflow.machine import release_gpu_memory
from voxflow.prediction.mirroring import run_mirrored
from voxflow.prediction.preparation import prepare_radiograph
from voxflow.prediction.probabilities import logits_to_probabilities
from voxflow.progress import say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from voxflow.engines import Engine
    from voxflow.prediction.mirroring import Axis


def predict_radiograph(
    engine: Engine, image: NDArray[Any] | Sequence[NDArray[Any]], flips: Sequence[Axis] = ()
) -> dict[str, float]:
    """Classify a radiograph.

    Args:
        engine: a classification model.
        image: (rows, columns), values as stored; several for a network of several channels.
        flips: axes along which the image is also shown mirrored, i (rows) and j (columns); logits are averaged over
            every combination.

    Returns:
        Probability by class name.

    Raises:
        DataError: the wrong number of channels, an axis that radiographs don't have, or a model that does not classify.
    """
    logits = _run_radiograph(engine, _prepare_for(engine, image, flips), flips)
    probabilities = logits_to_probabilities(logits.T, engine.spec)[:, 0]
    return {name: float(probability) for name, probability in zip(engine.spec.class_names, probabilities, strict=True)}


def predict_members(
    engine: Engine, image: NDArray[Any] | Sequence[NDArray[Any]], flips: Sequence[Axis] = ()
) -> NDArray[np.float32]:
    """Classify a radiograph by each model of an ensemble.

    Args:
        engine: a classification model, or several.
        image: as of :func:`predict_radiograph`.
        flips: as there; each model's logits are averaged over every combination.

    Returns:
        Logits (model, finding).

    Raises:
        DataError: as of :func:`predict_radiograph`.
    """
    batch = _prepare_for(engine, image, flips)
    return np.concatenate([_run_radiograph(member, batch, flips).copy() for member in engine.members])


def _prepare_for(
    engine: Engine, image: NDArray[Any] | Sequence[NDArray[Any]], flips: Sequence[Axis]
) -> NDArray[np.float32]:
    """A batch of one radiograph (1, channel, rows, columns) for a model that classifies."""
    if engine.spec.task != "classification":
        raise DataError(f"the model does {engine.spec.task}, a radiograph needs a classification model")
    if "k" in flips:
        raise DataError("flips: a radiograph has the axes i (rows) and j (columns), and no k")
    images = (image,) if isinstance(image, np.ndarray) else tuple(image)
    return prepare_radiograph(images, engine.spec)[None]


def _run_radiograph(engine: Engine, batch: NDArray[np.float32], flips: Sequence[Axis]) -> NDArray[np.float32]:
    """Logits (1, finding), on the processor where the GPU's memory is not enough."""
    try:
        return run_mirrored(engine, batch, flips)
    except RuntimeError as error:
        if engine.device in (None, "cpu") or not release_gpu_memory(error):
            raise
    say("the GPU has too little free memory for an image: trying again on the processor")
    return run_mirrored(engine.on_processor(), batch, flips)
