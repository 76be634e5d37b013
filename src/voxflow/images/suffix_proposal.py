"""Proposes the channels of files that differ in the ends of their names alone: ``_ct`` and ``_pet``, ``_0000`` ..."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from voxflow.images.names import has_label_name, strip_suffix
from voxflow.layouts import CONTRASTS, split_channel
from voxflow.volumes import VOLUME_SUFFIXES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

# The words for contrasts and modalities that names end in, and what their channels are called.
ENDINGS: Mapping[str, str] = {
    **CONTRASTS,
    "t1w": "T1",
    "t2flair": "FLAIR",
    **{"ct": "CT", "pet": "PET", "pt": "PET", "mr": "MR", "mri": "MR", "adc": "ADC", "dwi": "DWI"},
}
TIMES = {"t1", "t2"}  # contrasts, or the first and second scan of a patient
MODALITIES = {"CT": "CT", "PET": "PT"}  # of channels; all others are of MR
UNKNOWN = "unknown"
LEAST_CASES = 2


@dataclass(frozen=True)
class SuffixProposal:
    """Channels that files of a folder seem to have.

    Attributes:
        suffixes: what the names of each channel's files end in, by the channel's name.
        modalities: of the channels, "unknown" where their names do not say.
        cases: their number, by the names of files.
        matching: of them, those that have a file for each channel.
    """

    suffixes: Mapping[str, str]
    modalities: tuple[str, ...]
    cases: int
    matching: int


def propose_suffixes(source: Path, files: Sequence[Path]) -> SuffixProposal | None:
    """Look for ends of names that more than half of the cases have, at least two each."""
    volumes = [file for file in files if file.name.lower().endswith(VOLUME_SUFFIXES) and not file.name.startswith(".")]
    endings_by_case: dict[Path, set[str]] = defaultdict(set)
    for file in volumes:
        if not has_label_name(file, source):
            case, ending = _split(strip_suffix(file.name))
            endings_by_case[file.parent / case].add(ending)
    counts = Counter(frozenset(endings) for endings in endings_by_case.values())
    endings, count = counts.most_common(1)[0] if counts else (frozenset[str](), 0)
    words = {ending.lstrip("-_. ") for ending in endings}
    if len(endings - {""}) < 2 or "" in endings or count < LEAST_CASES or count * 2 <= len(endings_by_case):
        return None
    if words <= TIMES:
        return None
    names = {ENDINGS.get(ending.lstrip("-_. "), f"channel_{ending[-1]}"): ending for ending in sorted(endings)}
    if len(names) < len(endings):  # t1c and t1ce, say
        return None
    order = [*dict.fromkeys(ENDINGS.values()), *names]
    suffixes = {name: names[name] for name in sorted(names, key=order.index)}
    modalities = [UNKNOWN if name.startswith("channel_") else MODALITIES.get(name, "MR") for name in suffixes]
    return SuffixProposal(suffixes, tuple(dict.fromkeys(modalities)), len(endings_by_case), count)


def _split(stem: str) -> tuple[str, str]:
    """What a name says before its channel, and the end that says it, in lower case; else all, and nothing."""
    if split := split_channel(stem):
        return split[0], f"_{split[1]:04d}"
    case, word = split_ending(stem)
    return case, stem[len(case) :].casefold() if word else ""


def split_ending(stem: str) -> tuple[str, str]:
    """Split the word of a contrast or modality from the end of a name.

    Example:
        >>> split_ending("p1_T1ce"), split_ending("ct"), split_ending("p1_subject")
        (('p1', 't1ce'), ('', 'ct'), ('p1_subject', ''))
    """
    for word in sorted(ENDINGS, key=len, reverse=True):
        case = stem[: -len(word)]
        if stem.casefold().endswith(word) and not case[-1:].isalnum():
            return case.rstrip("-_. "), word
    return stem, ""
