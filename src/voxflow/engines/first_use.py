"""The comparison of an engine at its first use, where it could not be compared when it was built.

A file that is built without its GPU is compared on the first windows that it is shown, with the ONNX file that lies
beside it, run on the processor. Until it has passed, the answers are the ONNX file's. What came of it is kept in the
user's cache folder, by engine file, GPU and driver, so that it is done once.
"""

from __future__ import annotations

import hashlib
import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, ConfigDict
from typing_extensions import override

from voxflow.engines.onnxruntime import OnnxRuntimeEngine
from voxflow.engines.protocol import Engine
from voxflow.errors import DataError
from voxflow.files import read_json_or_none, write_json
from voxflow.machine import release_gpu_memory
from voxflow.progress import say

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import torch
    from numpy.typing import NDArray

    from voxflow.spec import ModelSpec

# How many windows are compared. They are the first of a real image, and a fault of a kernel shows in any of them.
WINDOWS = 8
# The corner of a CT is air, of which every precision says the same: as many windows are looked at for a class beside
# the background.
MOST_WINDOWS = 64
# A class of fewer voxels says nothing of an engine: a handful of them would decide its Dice.
LEAST_VOXELS = 1000


class Limits(BaseModel):
    """How far an engine's answers may be from the reference's.

    Attributes:
        max_abs_difference: of a probability; None: of no concern, as with models of less precision.
        min_dice: between both masks of a class, or share of findings on which both agree.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_abs_difference: float | None
    min_dice: float


class FirstUseEngine(Engine):
    """Answers with the reference until the candidate has passed, and then with the candidate.

    Args:
        candidate: the engine to compare.
        open_reference: opens the engine that it is compared with.
        limits: how far it may be from it.
        record: JSON file that keeps what came of it.
        place: what the comparison holds for, such as the GPU and its driver; it goes into the record.
    """

    def __init__(
        self,
        candidate: Engine,
        open_reference: Callable[[], Engine],
        *,
        limits: Limits,
        record: Path,
        place: dict[str, str],
    ) -> None:
        self.name, self.spec, self.is_local = candidate.name, candidate.spec, candidate.is_local
        self.smallest, self.largest, self.batch = candidate.smallest, candidate.largest, candidate.batch
        self.device, self.previous, self.parts = candidate.device, candidate.previous, candidate.parts
        self._candidate, self._limits, self._record, self._place = candidate, limits, record, place
        self._reference: Engine | None = open_reference()
        self._tally = Tally(self.spec)

    @override
    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        reference = self._reference
        if reference is None:
            return self._candidate.run(batch)
        expected = reference.run(batch).copy()
        try:
            received = self._candidate.run(batch)
        except Exception as error:
            if isinstance(error, RuntimeError) and release_gpu_memory(error):
                raise  # smaller windows, or the processor, may do
            self._give_up(
                reference, f"it fails: {str(error).strip().splitlines()[0] if str(error).strip() else error!r}"
            )
            return expected
        self._tally.add(received, expected)
        if self._candidate.name != self.name:
            # It has fallen back by itself, to the reference's own way.
            self.name, self._reference = self._candidate.name, None
        elif self._tally.windows >= (WINDOWS if self._tally.has_foreground else MOST_WINDOWS):
            self._decide(reference)
        return expected

    @override
    def run_tensor(self, batch: torch.Tensor) -> torch.Tensor:
        if self._reference is None and self._candidate.device is not None:
            return self._candidate.run_tensor(batch)
        import torch

        return torch.from_numpy(self.run(batch.cpu().numpy())).to(batch.device)

    @override
    def on_processor(self) -> Engine:
        return (self._reference or self._candidate).on_processor()

    def _decide(self, reference: Engine) -> None:
        # What another process has found meanwhile, on other images, counts too.
        fault = self._tally.explain_fault(self._limits) or explain_record(self._record, self._place)
        try:
            write_json(self._record, self._place | self._tally.metrics() | {"fault": fault or ""})
        except OSError as error:
            say(f"{self.name} is compared again by each process: {self._record.parent}: {error.strerror}")
        if fault:
            self._give_up(reference, f"on this machine {fault}")
            return
        say(f"{self.name} equals {reference.name} on its first {self._tally.windows} windows on this machine")
        self._reference = None

    def _give_up(self, reference: Engine, reason: str) -> None:
        say(f"{self.name} is not used, {reference.name} answers: {reason}")
        self.name, self._candidate, self._reference = reference.name, reference, None


class Tally:
    """How far two engines' answers agree, over all windows that were added.

    Args:
        spec: tells a segmentation from a classification, and the activation.

    Attributes:
        windows: how many were compared, of the training's size: a larger one counts as often as that fits into it.
    """

    def __init__(self, spec: ModelSpec) -> None:
        self.windows = 0
        self._spec, self._largest = spec, 0.0
        self._agreed: list[float] = []
        self._both = self._either = np.zeros(0, dtype=np.int64)

    def add(self, received: NDArray[np.float32], expected: NDArray[np.float32]) -> None:
        """Take in the logits (batch, class, ...) of both engines."""
        is_softmax = self._spec.activation == "softmax"
        difference = np.abs(_activate(received, is_softmax) - _activate(expected, is_softmax)).max()
        self._largest = max(self._largest, float(difference) if np.isfinite(difference) else float("inf"))
        voxels = math.prod(self._spec.window or expected.shape[2:])
        self.windows += len(expected) * max(1, math.prod(expected.shape[2:]) // max(1, voxels))
        if self._spec.task == "classification":
            decided = [logits.argmax(1) if is_softmax else logits > 0 for logits in (received, expected)]
            self._agreed.append(float((decided[0] == decided[1]).mean()))
            return
        both, either = _count_voxels(received, expected, is_softmax)
        self._both, self._either = (self._both + both, self._either + either) if self._both.size else (both, either)

    @property
    def has_foreground(self) -> bool:
        """Whether a class beside the background was seen, in more than a few voxels."""
        first = 1 if self._spec.activation == "softmax" and len(self._either) > 1 else 0
        return bool(self._agreed) or bool((self._either[first:] >= 2 * LEAST_VOXELS).any())

    @property
    def min_dice(self) -> float:
        """The least Dice of a class, or share of findings; small classes don't count."""
        counted = self._either >= 2 * LEAST_VOXELS
        return float(min([1.0, *self._agreed, *(2 * self._both[counted] / self._either[counted]).tolist()]))

    def explain_fault(self, limits: Limits) -> str:
        """Say what lies outside the limits; empty when nothing does."""
        if limits.max_abs_difference is not None and not self._largest <= limits.max_abs_difference:
            return f"a probability differs by {self._largest:.3g}, allowed {limits.max_abs_difference:g}"
        if not np.isfinite(self._largest):
            return "its answers are no numbers"
        if self.min_dice < limits.min_dice:
            return f"masks agree to a Dice of {self.min_dice:.5f}, needed {limits.min_dice:g}"
        return ""

    def metrics(self) -> dict[str, Any]:
        """Return the numbers of the comparison, for a JSON file."""
        largest = self._largest if np.isfinite(self._largest) else None
        return {"windows": self.windows, "max_probability_difference": largest, "min_dice": self.min_dice}


def compare_at_first_use(candidate: Engine, file: Path, limits: Limits, record: Path, place: dict[str, str]) -> Engine:
    """Wrap an engine that this machine has not compared yet.

    Args:
        candidate: loaded from the file.
        file: the engine's; the ONNX file that it was built from lies beside it.
        limits: how far its answers may be from that file's.
        record: the file that keeps what came of a comparison, by :func:`name_record`.
        place: GPU, driver and versions.

    Returns:
        The candidate itself where an earlier comparison passed.

    Raises:
        DataError: an earlier comparison failed, or there is no ONNX file of the same model.
    """
    fault = explain_record(record, place)
    if fault is None:
        return candidate
    if fault:
        raise DataError(f"on this machine {fault}", path=file)
    return FirstUseEngine(
        candidate, lambda: open_reference(file, candidate.spec), limits=limits, record=record, place=place
    )


def explain_record(record: Path, place: dict[str, str]) -> str | None:
    """Say what an earlier comparison came to: its fault, None where it passed, empty where there was none.

    Args:
        record: the file that keeps it. One that is damaged, or of another place, counts as none.
        place: GPU, driver and versions.
    """
    content = read_json_or_none(record)
    if not isinstance(content, dict) or {key: content.get(key) for key in place} != place:
        return ""
    windows, fault = content.get("windows"), content.get("fault")
    if not isinstance(windows, int) or windows < 1 or not isinstance(fault, str):
        return ""
    return fault or None


def find_reference(file: Path) -> Path | None:
    """Find the ONNX file beside an engine's file: model.onnx of a stage, model.fzn.onnx of an MMAR."""
    stem = file.name.partition(".")[0]
    return next((path for ending in (".onnx", ".fzn.onnx") if (path := file.with_name(stem + ending)).is_file()), None)


def name_record(folder: Path, file: Path, place: dict[str, str]) -> Path:
    """Name the record of an engine file's comparison.

    Args:
        folder: that holds all records.
        file: its bytes count, and not where it lies.
        place: GPU, driver and versions.
    """
    digest = hashlib.sha256(file.read_bytes() + json.dumps(place, sort_keys=True).encode())
    return folder / f"compared-{digest.hexdigest()[:32]}.json"


def open_reference(file: Path, spec: ModelSpec) -> Engine:
    """Open the ONNX file of the same model beside an engine's file, on the processor.

    Raises:
        DataError: there is none.
    """
    path = find_reference(file)
    if path is None:
        raise DataError("no ONNX file lies beside it to compare it with, or to run on the processor", path=file)
    reference = OnnxRuntimeEngine(path)
    if reference.spec != spec:
        raise DataError(f"{path.name} beside it is another model; export both again", path=file)
    return reference


def _activate(logits: NDArray[np.float32], is_softmax: bool) -> NDArray[np.float32]:
    """Probabilities of logits (batch, class, ...)."""
    if is_softmax:
        exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(exponents / exponents.sum(axis=1, keepdims=True))
    return np.asarray(1 / (1 + np.exp(-logits)))


def _count_voxels(
    received: NDArray[np.float32], expected: NDArray[np.float32], is_softmax: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Voxels of each class in both masks, and the sum of both masks' voxels."""
    classes = range(expected.shape[1])
    if is_softmax:
        first, second = received.argmax(1), expected.argmax(1)
        masks = [(first == number, second == number) for number in classes]
    else:
        masks = [(received[:, number] > 0, expected[:, number] > 0) for number in classes]
    both = [int((first & second).sum()) for first, second in masks]
    either = [int(first.sum()) + int(second.sum()) for first, second in masks]
    return np.array(both), np.array(either)
