"""Proposes rules for ``convert.channels`` by what the studies of a folder hold, and says how many of them fit.

Plan: for each kind of series that models use (T1, T2, CT ...) there are a few rules, the simplest first; the one that
most studies have exactly one series for is taken. Kinds that more than half of the studies have become channels.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, Any

from voxflow.dicom.channels import ChannelRule, match_channels
from voxflow.dicom.group import group_headers
from voxflow.dicom.headers import read_dataset
from voxflow.dicom.options import ConvertOptions
from voxflow.dicom.scan import scan_folder
from voxflow.dicom.traits import read_part_traits
from voxflow.images import join_by_suffix, propose_suffixes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from voxflow.dicom.channels import ChannelMatch
    from voxflow.dicom.scan import FolderScan
    from voxflow.dicom.traits import SeriesTraits

_Rule = dict[str, Any]
# In the order of the channels; of each kind, the rules to try. Without descriptions, as anonymisers leave series, the
# times tell the contrasts of spin echoes apart.
KINDS: Mapping[str, tuple[_Rule, ...]] = {
    "T1": (
        {"modality": "MR", "description": "t1", "contrast": False},
        {"modality": "MR", "contrast": False, "sequence": {"not": "IR", "echo_time_ms": [None, 30]}},
    ),
    "T1c": (
        {"modality": "MR", "description": "t1", "contrast": True},
        {"modality": "MR", "contrast": True, "sequence": {"not": "IR", "echo_time_ms": [None, 30]}},
    ),
    "T2": (
        {"modality": "MR", "description": "t2", "not": "flair"},
        {"modality": "MR", "sequence": {"not": "IR", "echo_time_ms": [60, None]}},
    ),
    "FLAIR": (
        {"modality": "MR", "description": "flair", "not": "t1"},
        {"modality": "MR", "sequence": {"inversion_time_ms": [1500, None], "echo_time_ms": [60, None]}},
    ),
    "ADC": ({"modality": "MR", "description": "adc"}, {"modality": "MR", "image_type": "ADC"}),
    "CT": ({"modality": "CT"},),
    "PET": ({"modality": "PT"}, {"modality": "PT", "not": ["nac", "uncorrected", "no ac"]}),
}
# What may be added where several series of a study fit.
_NARROWINGS: tuple[_Rule, ...] = ({}, {"plane": "axial"}, {"contrast": False}, {"contrast": True})
MOST = 0.5  # of the studies must have a kind of series that becomes a channel


@dataclass(frozen=True)
class ChannelProposal:
    """Rules that fit what a folder holds.

    Attributes:
        rules: as they stand in params.yaml, by channel; none where most studies have no two kinds of series.
        modalities: of the channels.
        studies: their number.
        matching: of them, those that have exactly one series for each channel.
        lines: what was found, for a person.
        has_overlaps: a segmentation says that its segments overlap.
        unit: what is counted: studies of DICOM, or cases of other files.
    """

    rules: Mapping[str, _Rule]
    modalities: tuple[str, ...]
    studies: int
    matching: int
    lines: tuple[str, ...]
    has_overlaps: bool = False
    unit: str = "studies"


def propose_channels(source: Path, *, of_files: bool = True, scan: FolderScan | None = None) -> ChannelProposal | None:
    """Look through a folder, and propose rules for the series that most of its studies have.

    Args:
        source: the folder.
        of_files: look at the names of files that are no DICOM, too.
        scan: its files; None: they are looked for.

    Returns:
        None where no study has several volumes in DICOM, or no two files are channels of a case by the ends of their
        names.
    """
    scan = scan or scan_folder(source)
    if not scan.headers:
        return _propose_suffixes(source, scan.other_files) if of_files else None
    studies: dict[tuple[str, str], list[SeriesTraits]] = defaultdict(list)
    parts = group_headers(scan.headers, ConvertOptions())
    for part in parts:
        if part.kind == "volume":
            studies[part.first.patient, part.first.study_uid].append(read_part_traits(part))
    if not any(len(series) > 1 for series in studies.values()):
        return None
    proposal = _propose(list(studies.values()), source)
    if of_files:
        proposal = _add_suffixes(proposal, source, scan.other_files)
    labels = [part.first.path for part in parts if part.kind == "label" and part.first.modality == "SEG"]
    if not any(map(_segments_overlap, labels)):
        return proposal
    line = "  segments of its DICOM SEG overlap: `overlap: regions` keeps each of them whole"
    return replace(proposal, lines=(*proposal.lines, line), has_overlaps=True)


def _add_suffixes(proposal: ChannelProposal, source: Path, files: Sequence[Path]) -> ChannelProposal:
    """Let rules for series say, too, what the files of the same channels beside them end in."""
    of_files = propose_suffixes(source, files) if proposal.rules else None
    if of_files is None or of_files.suffixes.keys() != proposal.rules.keys():
        return proposal
    rules = {name: {**rule, "suffix": of_files.suffixes[name]} for name, rule in proposal.rules.items()}
    ends = ", ".join(of_files.suffixes[name] for name in rules)
    line = (
        f"  {of_files.matching} cases of files beside them have the same channels, by the ends of their names: {ends}"
    )
    counts = _count_labels(source, files, of_files.suffixes)
    return replace(proposal, rules=rules, lines=(*proposal.lines, line, *counts))


def _propose_suffixes(source: Path, files: Sequence[Path]) -> ChannelProposal | None:
    """Propose the ends of names by which files are the channels of a case."""
    proposal = propose_suffixes(source, files)
    if proposal is None:
        return None
    channels = ", ".join(f"{name} ({suffix})" for name, suffix in proposal.suffixes.items())
    share = f"{proposal.matching} of {proposal.cases} cases have a file for each"
    title = f"{source}: files that differ in the ends of their names"
    lines = (title, f"  channels: {channels}: {share}", *_count_labels(source, files, proposal.suffixes))
    rules = {name: {"suffix": suffix} for name, suffix in proposal.suffixes.items()}
    return ChannelProposal(rules, proposal.modalities, proposal.cases, proposal.matching, lines, unit="cases")


def _count_labels(source: Path, files: Sequence[Path], suffixes: Mapping[str, str]) -> tuple[str, ...]:
    """Say how many cases of files have a label, and how many files make no case, by reason."""
    layout = join_by_suffix(source, files, suffixes)
    labelled = sum(bool(case.labels) for case in layout.cases)
    reasons = Counter(layout.unplaced.values())
    lines = [f"  label files: {labelled} of {len(layout.cases)} cases have one"]
    return (*lines, *(f"  left out: {count} file(s) ({reason})" for reason, count in reasons.items()))


def _segments_overlap(path: Path) -> bool:
    """Whether a DICOM SEG says so itself, by SegmentsOverlap (0062,0013)."""
    try:
        return str(read_dataset(path, tags=["SegmentsOverlap"]).get("SegmentsOverlap", "")) == "YES"
    except (ValueError, OSError):
        return False  # conversion says what is wrong with it


def _propose(studies: Sequence[Sequence[SeriesTraits]], source: Path) -> ChannelProposal:
    rules = {kind: rule for kind, options in KINDS.items() if (rule := _choose_rule(options, studies)) is not None}
    counts = _count_kinds(rules, studies)
    lines = [
        f"{source}: DICOM, {len(studies)} studies with {sum(map(len, studies))} volumes (CT, MR, PT)",
        f"  series by kind: {', '.join(f'{kind} {count}' for kind, count in counts.items())}",
    ]
    if len(rules) < 2:
        lines.append("  no two kinds of series that most studies have, so each series is a case of its own")
        return ChannelProposal({}, (), len(studies), 0, tuple(lines))
    parsed = {kind: ChannelRule.model_validate(rule) for kind, rule in rules.items()}
    matches = [match_channels(parsed, series) for series in studies]
    matching = sum(not match.reason for match in matches)
    share = f"{matching} of {len(studies)} studies have exactly one series for each"
    lines += [f"  channels: {', '.join(rules)}: {share}", *_describe_misfits(parsed, studies, matches)]
    modalities = tuple(dict.fromkeys(str(rule["modality"]) for rule in rules.values()))
    return ChannelProposal(rules, modalities, len(studies), matching, tuple(lines))


def _describe_misfits(
    rules: Mapping[str, ChannelRule], studies: Sequence[Sequence[SeriesTraits]], matches: Sequence[ChannelMatch]
) -> list[str]:
    """Say which channels are missing, or there twice, in how many studies."""
    lines = []
    for kind, rule in rules.items():
        lacking = [match for match, series in zip(matches, studies, strict=True) if not _count_fitting(rule, series)]
        unclear = sum(kind not in match.members for match in matches) - len(lacking)
        lines += [*_describe_count(len(lacking), f"lack {kind}"), *_describe_count(unclear, f"have several {kind}")]
    misplaced = sum(bool(match.reason) and len(match.members) == len(rules) for match in matches)
    return [*lines, *_describe_count(misplaced, "have channels of one series, or of different frames of reference")]


def _choose_rule(rules: Sequence[_Rule], studies: Sequence[Sequence[SeriesTraits]]) -> _Rule | None:
    """The rule, narrowed where that helps, that most studies have exactly one series for; None where few have any."""
    best, most = None, MOST * len(studies)
    for rule, narrowing in product(rules, _NARROWINGS):
        narrowed = narrowing | rule
        if narrowing and narrowing.keys() <= rule.keys():
            continue
        parsed = {"": ChannelRule.model_validate(narrowed)}
        count = sum("" in match_channels(parsed, series).members for series in studies)
        if count > most:
            best, most = narrowed, count
    if best is not None:
        return best
    first = ChannelRule.model_validate(rules[0])
    present = sum(_count_fitting(first, series) > 0 for series in studies)
    return dict(rules[0]) if present > MOST * len(studies) else None


def _count_fitting(rule: ChannelRule, series: Sequence[SeriesTraits]) -> int:
    return sum(rule.fits(item) and rule.fits_contrast(item) for item in series)


def _count_kinds(rules: Mapping[str, _Rule], studies: Sequence[Sequence[SeriesTraits]]) -> dict[str, int]:
    """The number of series of each kind, by the rules that are proposed or else the first; others by their modality."""
    parsed = {kind: ChannelRule.model_validate(rules.get(kind, options[0])) for kind, options in KINDS.items()}
    counts: Counter[str] = Counter()
    for item in (item for series in studies for item in series):
        kinds = [kind for kind, rule in parsed.items() if _count_fitting(rule, [item])]
        counts.update(kinds or [f"other {item.modality}"])
    return {kind: counts[kind] for kind in [*parsed, *sorted(counts.keys() - parsed.keys())] if counts[kind]}


def _describe_count(count: int, text: str) -> list[str]:
    """A line that says of how many studies something holds; none where of no one."""
    singular = text.replace("lack", "lacks", 1).replace("have", "has", 1)
    return [f"  {count} studies {text}" if count > 1 else f"  1 study {singular}"] if count else []
