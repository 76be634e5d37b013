"""Finds which of our masks a label object is a version of, by UIDs alone, and whether a person made that version.

A reference to our mask says it for sure. A reference to the image alone is weaker: another program, an earlier label or
another Voxflow may have made the object. Then what it says of its algorithm and of its time decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from voxflow.errors import DicomError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from voxflow.corrections.facts import ObjectFacts
    from voxflow.corrections.results import OwnResult

# How an object is known as a version of ours, the surest first.
SAME_OBJECT, OUR_SERIES, OUR_MASK = "same object", "our series", "refers to our mask"
IMAGE, FRAME = "refers to our image", "frame of reference"
LINKS = (SAME_OBJECT, OUR_SERIES, OUR_MASK, IMAGE, FRAME)
VOXFLOW = "Voxflow"


@dataclass(frozen=True)
class Recognition:
    """A label object and the mask that it is a version of.

    Attributes:
        facts: of the object.
        result: our mask.
        link: how it was recognised, one of :data:`LINKS`.
    """

    facts: ObjectFacts
    result: OwnResult
    link: str


def recognise(facts: ObjectFacts, results: Sequence[OwnResult]) -> Recognition:
    """Find our mask that a label object is a version of.

    Args:
        facts: of the object.
        results: our masks.

    Raises:
        DicomError: it is none of ours.
    """
    near = [
        result
        for result in results
        if result.study_uid == facts.study_uid
        or facts.series_uid in result.own_series
        or facts.series & (result.own_series | result.image_series)
    ]
    if not near:
        raise DicomError("neither its study nor a series that it refers to has a mask of ours here")
    matches = [(LINKS.index(link), result) for result in near if (link := _find_link(facts, result))]
    if not matches:
        raise DicomError("it refers to a series of its study that has no mask of ours here")
    rank = min(rank for rank, _ in matches)
    best = [result for place, result in matches if place == rank]
    result = max(best, key=lambda result: (len(facts.images & result.facts.images), result.facts.moment))
    return Recognition(facts, result, LINKS[rank])


def _find_link(facts: ObjectFacts, result: OwnResult) -> str:
    """How an object is known as a version of one mask; empty where it is not."""
    mask = result.facts
    if facts.sop_uid == mask.sop_uid:
        return SAME_OBJECT
    if mask.sop_uid in facts.images:
        return OUR_MASK
    if facts.series_uid in result.own_series:
        return OUR_SERIES
    if facts.images & mask.images or (not facts.images and facts.series & result.image_series):
        return IMAGE
    # An object that names images of another series was drawn on those, though they share a frame of reference.
    is_silent = not facts.images and not facts.series
    is_same_frame = facts.study_uid == mask.study_uid and facts.frames_of_reference & mask.frames_of_reference
    return FRAME if is_silent and is_same_frame else ""


def explain_no_person(recognition: Recognition) -> str:
    """Say why no person's correction is behind an object; empty where one is."""
    facts, mask = recognition.facts, recognition.result.facts
    if recognition.link in (SAME_OBJECT, OUR_SERIES, OUR_MASK):
        return ""
    if facts.moment and mask.moment and facts.moment < mask.moment:
        return "it is older than the mask"
    if not facts.is_automatic or facts.person:
        return ""
    algorithms = {segment.algorithm for segment in facts.segments}
    if facts.manufacturer != VOXFLOW and not algorithms & {segment.algorithm for segment in mask.segments}:
        return "another program made it: all of its segments are AUTOMATIC, and it does not refer to our mask"
    is_untouched = facts.description == mask.description and facts.moment != mask.moment
    if facts.manufacturer == VOXFLOW and is_untouched:
        return "another run of Voxflow made it: its segments are AUTOMATIC, and nobody put a name or description on it"
    return ""
