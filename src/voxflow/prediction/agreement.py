"""Measures how far a model's answers to one image agree with the mask that comes out of them, while they are computed.

For each class it is a Dice: between the mask and what each fold's model says, or each mirror image; where a model
answers only once, between the mask and the model's own probabilities, which is the Dice that the model itself expects.
Nothing is held of the answers but a few counts. On windows that overlap, mirrored answers count once a window.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from voxflow.prediction.labels import class_values, first_label, logits_to_labels
from voxflow.prediction.probabilities import logits_to_probabilities
from voxflow.prediction.tensors import activate, is_tensor, pick_labels

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from voxflow.engines import Engine
    from voxflow.prediction.blending import Values
    from voxflow.spec import ModelSpec

Signal = Literal["folds", "mirrors", "probabilities"]
# Scores that are looked at at a time.
SCORES = 1 << 22
# Over a whole image the smallest probabilities would add up to an organ.
LEAST_PROBABILITY = 0.1


@dataclass(frozen=True)
class Agreement:
    """How far the answers to one image agree.

    Attributes:
        signal: which answers: those of the "folds", of the "mirrors", or the "probabilities".
        score: the mean over the classes that any answer has, 0 to 1; NaN where there is none.
        classes: of each of these classes.
    """

    signal: Signal
    score: float
    classes: dict[str, float]


def choose_signal(engine: Engine, flips: Sequence[str]) -> Signal:
    """Choose what is compared: the models of an ensemble, else mirror images, else the probabilities."""
    if len(engine.members) > 1:
        return "folds"
    return "mirrors" if flips else "probabilities"


class AgreementMeter:
    """Counts how far answers agree.

    Args:
        spec: of the model.
        signal: what is compared.

    Example:
        >>> from voxflow.spec import ModelSpec
        >>> spec = ModelSpec(task="segmentation", class_names=("background", "spleen"), activation="softmax")
        >>> meter = AgreementMeter(spec, "mirrors")
        >>> zero = np.zeros(4)
        >>> meter.add_answers([np.stack([zero, [1, 1, -1, -1]])], mean=np.stack([zero, [1, -1, -1, -1]]))
        >>> round(meter.measure().score, 3)
        0.667
    """

    def __init__(self, spec: ModelSpec, signal: Signal) -> None:
        self.signal = signal
        self._spec = spec
        self._classes = class_values(spec)
        values = sorted({value for values in self._classes.values() for value in values})
        # Label values as they are may be large, and a table of all pairs would be larger.
        self._places = np.zeros(max(values) + 1, dtype=np.int64)
        self._places[values] = np.arange(1, len(values) + 1)
        self._pairs = np.zeros((len(values) + 1, len(values) + 1), dtype=np.int64)
        self._common = np.zeros(len(self._classes))
        self._total = np.zeros(len(self._classes))

    def add_answers(self, answers: Sequence[Values], mean: Values) -> None:
        """Compare several answers with what they become together.

        Args:
            answers: the logits (class, ...) of each.
            mean: the logits (class, ...) that the mask is made of.
        """
        labels = self.find_labels(mean)
        for answer in answers:
            self.add_labels(self.find_labels(answer), labels)

    def find_labels(self, logits: Values) -> Values:
        """Map logits (class, ...) to label values (...)."""
        return pick_labels(logits, self._spec) if is_tensor(logits) else logits_to_labels(logits, self._spec)

    def add_labels(self, answer: Values, mask: Values) -> None:
        """Compare the label values of one answer with those of the mask; both of one shape."""
        count = len(self._pairs)
        if is_tensor(answer):
            import torch

            places = torch.from_numpy(self._places).to(answer.device)
            pairs = places[answer.long()] * count + places[mask.long()]
            counts = torch.bincount(pairs.reshape(-1), minlength=count * count).cpu().numpy()
            self._pairs += counts.reshape(count, count)
            return
        first, second = answer.reshape(-1), mask.reshape(-1)
        for start in range(0, first.size, SCORES):
            part = slice(start, start + SCORES)
            pairs = self._places[first[part]] * count + self._places[second[part]]
            self._pairs += np.bincount(pairs, minlength=count * count).reshape(count, count)

    def add_probabilities(self, logits: Values) -> None:
        """Compare an answer's probabilities with its own mask.

        Args:
            logits: (class, i, j, k).
        """
        for piece in _cut_pieces(logits):
            labels = self.find_labels(piece)
            probabilities: Any = (
                activate(piece, self._spec) if is_tensor(piece) else logits_to_probabilities(piece, self._spec)
            )
            for number, values in enumerate(self._classes.values()):
                channel = number if self._spec.regions else values[0] - first_label(self._spec)
                probability = probabilities[channel]
                counted = probability * (probability >= LEAST_PROBABILITY)
                inside = labels == values[0]
                for value in values[1:]:
                    inside |= labels == value
                # In double precision: millions of small numbers are added.
                if is_tensor(piece):
                    common, total = counted[inside].double().sum(), counted.double().sum() + inside.sum()
                else:
                    common, total = counted[inside].sum(dtype=np.float64), counted.sum(dtype=np.float64) + inside.sum()
                self._common[number] += 2 * float(common)
                self._total[number] += float(total)

    def measure(self) -> Agreement:
        """Return the agreement of all that was added."""
        common, total = self._common.copy(), self._total.copy()
        for number, values in enumerate(self._classes.values()):
            places = self._places[list(values)]
            common[number] += 2 * self._pairs[np.ix_(places, places)].sum()
            total[number] += self._pairs[places].sum() + self._pairs[:, places].sum()
        classes = {
            name: float(common[number] / total[number])
            for number, name in enumerate(self._classes)
            if total[number] > 0
        }
        score = sum(classes.values()) / len(classes) if classes else math.nan
        return Agreement(self.signal, score, classes)


def join_agreements(parts: Sequence[tuple[Agreement, Mapping[str, str]]]) -> Agreement:
    """Join how far the answers of each part of a joined model agree.

    Args:
        parts: of each the agreement, and the names that its classes have in the joined model; others are left out.

    Example:
        >>> organs, ribs = Agreement("mirrors", 0.5, {"1": 0.5}), Agreement("mirrors", 0.9, {"1": 0.9})
        >>> round(join_agreements([(organs, {"1": "liver"}), (ribs, {"1": "rib"})]).score, 3)
        0.7
    """
    classes = {
        names[name]: value for agreement, names in parts for name, value in agreement.classes.items() if name in names
    }
    score = sum(classes.values()) / len(classes) if classes else math.nan
    return Agreement(parts[0][0].signal, score, classes)


def take_least_agreement(pieces: Sequence[Agreement]) -> Agreement:
    """Take of each class the least agreement of the pieces that an image was divided into.

    Example:
        >>> take_least_agreement([Agreement("mirrors", 0.5, {"liver": 0.5}), Agreement("mirrors", 0.9, {"liver": 0.9})])
        Agreement(signal='mirrors', score=0.5, classes={'liver': 0.5})
    """
    classes: dict[str, float] = {}
    for piece in pieces:
        classes |= {name: min(value, classes.get(name, value)) for name, value in piece.classes.items()}
    score = sum(classes.values()) / len(classes) if classes else math.nan
    return Agreement(pieces[0].signal, score, classes)


def _cut_pieces(logits: Values) -> Iterator[Values]:
    """Parts of logits (class, i, j, k) along the first axis of the image, so small that their probabilities are few."""
    plane = logits.shape[0] * math.prod(logits.shape[2:])
    step = max(1, SCORES // max(1, plane))
    for start in range(0, logits.shape[1], step):
        yield logits[:, start : start + step]
