"""Averages the probabilities of several models, such as those of the folds of a cross-validation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from voxflow.engines import Engine, open_engine
from voxflow.errors import DataError
from voxflow.prediction.blending import iterate_slabs
from voxflow.prediction.mirroring import MirroringEngine
from voxflow.prediction.probabilities import logits_to_probabilities
from voxflow.prediction.tensors import activate

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import torch
    from numpy.typing import NDArray

    from voxflow.engines import Device, EngineChoice
    from voxflow.prediction.agreement import AgreementMeter
    from voxflow.prediction.blending import Box, Values
    from voxflow.prediction.mirroring import Axis
    from voxflow.prediction.windows import WindowPlan
    from voxflow.spec import ModelSpec

LEAST = 1e-7  # keeps the logarithm of a probability finite


class Ensemble(Engine):
    """An engine that answers with the mean of several models' probabilities, written as logits.

    A volume's probabilities are the mean of what each model would say of the whole volume: its windows are blended
    first, as they are without an ensemble.

    Args:
        engines: one or more, of one specification.

    Raises:
        DataError: there is none, or they don't take or mean the same.
    """

    def __init__(self, engines: Sequence[Engine]) -> None:
        if not engines:
            raise DataError("an ensemble needs at least one model")
        self._members = tuple(engines)
        first = self._members[0]
        self.name, self.spec, self.parts = first.name, first.spec, first.parts
        if self.parts and len(engines) > 1:
            raise DataError("joined models can't be averaged; evaluate and infer with one of them")
        # The first stages of several cascades answer together, as nnU-Net's do.
        self.previous = tuple(engine for member in self._members for engine in member.previous)
        first_spec = self.spec.describe_use()
        for number, engine in enumerate(self._members[1:], 2):
            spec = engine.spec.describe_use()
            # Keys that only some models need are absent from the others.
            different = [name for name in {**first_spec, **spec} if first_spec.get(name) != spec.get(name)]
            if different:
                name = different[0]
                raise DataError(
                    f"the models of an ensemble must take and mean the same; number {number} differs from the first "
                    f"in {name}: {spec.get(name, ())!r} instead of {first_spec.get(name, ())!r}"
                )

        self.is_local = all(engine.is_local for engine in self._members)
        self.smallest = _combine_bounds([engine.smallest for engine in self._members], largest=True)
        self.largest = _combine_bounds([engine.largest for engine in self._members], largest=False)
        self.batch = min(engine.batch for engine in self._members)
        devices = {engine.device for engine in self._members}
        self.device = devices.pop() if len(devices) == 1 else None

    @property
    def members(self) -> tuple[Engine, ...]:
        """See :class:`voxflow.engines.Engine`."""
        return self._members

    def on_processor(self) -> Ensemble:
        """See :meth:`voxflow.engines.Engine.on_processor`; every model goes there."""
        return Ensemble([member.on_processor() for member in self._members])

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """See :class:`voxflow.engines.Engine`."""
        return np.stack([_average_logits(answers, self.spec) for answers in zip(*self._answers(batch), strict=True)])

    def _answers(self, batch: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
        # An engine may hand out the same memory at every call.
        return (engine.run(batch).copy() for engine in self._members)

    def expect(self, shape: tuple[int, ...]) -> None:
        """See :meth:`voxflow.engines.Engine.expect`; every model gets ready."""
        for member in self._members:
            member.expect(shape)

    def release_memory(self) -> None:
        """See :meth:`voxflow.engines.Engine.release_memory`; every model's."""
        for member in self._members:
            member.release_memory()


def open_ensemble(folders: Sequence[Path], engine: EngineChoice = "auto", device: Device | None = None) -> Ensemble:
    """Load one model a folder of exported models; see :func:`voxflow.engines.open_engine`.

    Raises:
        DataError: a folder holds no model, or the models don't take or mean the same.
        InputError: a folder has no model for the engine.
        MissingDependencyError: the engine asked for is not installed.
    """
    return Ensemble([open_engine(folder, engine, device) for folder in folders])


def iterate_logits(
    engine: Engine,
    image: Values,
    plan: WindowPlan,
    flips: Sequence[Axis] = (),
    *,
    block: slice | None = None,
    meter: AgreementMeter | None = None,
) -> Iterator[tuple[Box, Values]]:
    """Run one model, or several as one, over an image, and yield the blended logits part by part.

    Args:
        engine: a model or an ensemble.
        image: (channel, i, j, k), already preprocessed; an array or a tensor.
        plan: of windows, for this size.
        flips: axes along which the image is also shown mirrored; each model's logits are averaged over them.
        block: of the axis ``plan.across``, the voxels that are wanted; None: all.
        meter: measures how far the answers agree; None: nobody asks.

    Yields:
        A box of the image and its logits (class, part of i, j, k), as of
        :func:`voxflow.prediction.blending.iterate_slabs`.
    """
    mirrors_meter = meter if meter is not None and meter.signal == "mirrors" else None
    models = [MirroringEngine(member, flips, mirrors_meter) if flips else member for member in engine.members]
    parts = [iterate_slabs(model, image, plan, block) for model in models]
    if len(parts) == 1:
        for box, logits in parts[0]:
            if meter is not None and meter.signal == "probabilities":
                meter.add_probabilities(logits)
            yield box, logits
            del logits  # the next part's sums take the memory of these
        return
    # All models have one plan, so their slabs are the same; a slab at a time keeps the memory small.
    for together in zip(*parts, strict=True):
        answers = [logits for _, logits in together]
        mean = _average_logits(answers, engine.spec)
        if meter is not None:
            meter.add_answers(answers, mean)
        yield together[0][0], mean
        del answers, mean


def _average_logits(answers: Sequence[Values], spec: ModelSpec) -> Values:
    """Logits (class, ...) whose probabilities are the mean of those of each answer (class, ...).

    nnU-Net averages the logits themselves.
    """
    if spec.nnunet:
        return sum(answers[1:], answers[0]) / len(answers)
    if not isinstance(answers[0], np.ndarray):
        return _average_tensors(answers, spec)
    mean = sum(logits_to_probabilities(logits, spec) for logits in answers) / np.float32(len(answers))
    mean = np.clip(mean, LEAST, 1 - LEAST if spec.activation == "sigmoid" else None)
    logits = np.log(mean)
    return np.asarray(logits - np.log1p(-mean) if spec.activation == "sigmoid" else logits, dtype=np.float32)


def _average_tensors(answers: Sequence[torch.Tensor], spec: ModelSpec) -> torch.Tensor:
    total = activate(answers[0], spec)
    for answer in answers[1:]:
        total = total + activate(answer, spec)
    is_sigmoid = spec.activation == "sigmoid"
    mean = (total / len(answers)).clamp_(LEAST, 1 - LEAST if is_sigmoid else None)
    return mean.logit() if is_sigmoid else mean.log_()


def _combine_bounds(sizes: Sequence[tuple[int, ...] | None], *, largest: bool) -> tuple[int, ...] | None:
    """The sides that all models take: the largest of the least, or the least of the largest."""
    bounds = [size for size in sizes if size is not None]
    return tuple((max if largest else min)(sides) for sides in zip(*bounds, strict=True)) if bounds else None
