"""Finds which segment of a correction is which class of our mask: by label, by coded meaning, else by place.

Viewers number segments anew and people rename them, so that numbers say nothing.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from voxflow.corrections.facts import Segment

ANY_STRUCTURE = ("91723000", "SCT")
SAME_PLACE = 0.5  # Dice from which on a segment of another name is the class that lies there


@dataclass
class ClassMatch:
    """Which segments of a correction make which class.

    Attributes:
        numbers: segments by class; a class that the correction lacks has none.
        remarks: what the user should know. Labels are people's own words, so that segments are named by number.
    """

    numbers: dict[str, list[int]]
    remarks: list[str] = field(default_factory=list)

    @property
    def missing(self) -> list[str]:
        """The classes that the correction has no segment of."""
        return [name for name, numbers in self.numbers.items() if not numbers]


def match_classes(
    mask_segments: Sequence[Segment], segments: Sequence[Segment], measure_dice: Callable[[int, int], float]
) -> ClassMatch:
    """Find the class of each segment.

    Args:
        mask_segments: those of our mask; their labels are the classes.
        segments: those of the correction that can be read.
        measure_dice: of one of ours and one of theirs, by number.
    """
    match = ClassMatch({segment.label: [] for segment in mask_segments})
    classes_by_name = {normalise_label(segment.label): segment.label for segment in mask_segments}
    nameless = []
    for segment in segments:
        name = classes_by_name.get(normalise_label(segment.label))
        if name is None:
            nameless.append(segment)
        else:
            match.numbers[name].append(segment.number)
    free = [segment for segment in mask_segments if not match.numbers[segment.label]]
    codes, free_codes = _find_unique_codes(nameless), _find_unique_codes(free)
    for segment in nameless:
        near = [s for s in free if segment in codes and s in free_codes and _has_same_code(s, segment)]
        reason = "by its code"
        if not near:
            near = [s for s in free if measure_dice(s.number, segment.number) >= SAME_PLACE]
            reason = "by its place: it is called otherwise"
        if len(near) == 1:
            match.numbers[near[0].label].append(segment.number)
            match.remarks.append(f"segment {segment.number} is {near[0].label} {reason}")
        else:
            match.remarks.append(f"segment {segment.number} is no class of the model, and is left out")
    for name, numbers in match.numbers.items():
        if len(numbers) > 1:
            match.remarks.append(f"segments {', '.join(map(str, numbers))} are {name} together")
    return match


def normalise_label(label: str) -> str:
    """A label as it is compared: letters and digits alone.

    Example:
        >>> normalise_label(" Left_Kidney "), normalise_label("left kidney")
        ('left kidney', 'left kidney')
    """
    return re.sub(r"[\W_]+", " ", label.casefold()).strip()


def _find_unique_codes(segments: Iterable[Segment]) -> list[Segment]:
    """The segments whose code says which they are: that of no other, and not "anatomical structure"."""
    members = list(segments)
    counts = Counter(segment.code for segment in members)
    return [s for s in members if s.code and s.code != ANY_STRUCTURE and counts[s.code] == 1]


def _has_same_code(first: Segment, second: Segment) -> bool:
    """Whether two codes mean the same; SRT, as older viewers write, has other values than SCT."""
    from pydicom.sr.coding import Code

    return bool(first.code and second.code and Code(*first.code, "") == Code(*second.code, ""))
