"""Joins series to cases of several channels: by the rules of ``convert.channels``, or by the user's table.

Each study (or patient) makes one case, or its series say why not. A series that is no channel is left out with its
reason, as any other: nothing that was looked at vanishes.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from voxflow.dicom.channels import ChannelMatch, match_channels
from voxflow.dicom.traits import read_part_traits

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from voxflow.dicom.group import SeriesPart
    from voxflow.dicom.options import ConvertOptions

RADIOGRAPH = "a radiograph, and channels are volumes"


@dataclass(frozen=True)
class ChannelCase:
    """The series of one case.

    Attributes:
        parts: in the order of the channels.
        remark: what the user should know of the case.
        name: what the user's table calls it; empty where rules made it.
        labels: files of the label objects that the user's table names for it; None where it has no such column.
        labelled: the case-folded names of the classes that it says were labelled; None: it does not say.
    """

    parts: tuple[SeriesPart, ...]
    remark: str = ""
    name: str = ""
    labels: frozenset[Path] | None = None
    labelled: frozenset[str] | None = None


@dataclass(frozen=True)
class ChannelPlan:
    """What becomes of the parts of a folder.

    Attributes:
        channels: names of the channels, in the model's order.
        cases: ordered by their first channel.
        others: all other parts; an image among them is left out, with the reason.
        refused: why rows of the user's table make no case.
    """

    channels: tuple[str, ...]
    cases: tuple[ChannelCase, ...]
    others: tuple[SeriesPart, ...]
    refused: tuple[str, ...] = ()

    @property
    def all_parts(self) -> list[SeriesPart]:
        """The channels of each case, one after the other, and then the others."""
        return [*(part for case in self.cases for part in case.parts), *self.others]

    @property
    def several(self) -> tuple[str, ...]:
        """The names of the channels; none where a case is one image."""
        return self.channels if len(self.channels) > 1 else ()

    def list_label_places(self, channel: str | None) -> list[int]:
        """List which of :attr:`all_parts` labels lie on that do not say so: all of one channel, or of the only one."""
        names = self.channels if len(self.channels) == 1 else (channel,)
        parts = [name for _ in self.cases for name in self.channels]
        return [n for n, name in enumerate(parts) if name in names]


def join_channels(parts: Sequence[SeriesPart], options: ConvertOptions) -> ChannelPlan:
    """Join the volumes of each study to a case by the rules of ``options.channels``."""
    rules = options.channels or {}
    studies: dict[tuple[str, str], list[SeriesPart]] = defaultdict(list)
    others: list[SeriesPart] = []
    for part in parts:
        if part.kind == "volume" or (part.kind == "unreadable" and part.first.modality and part.first.plane.rows):
            studies[_identify_study(part, options)].append(part)
        elif part.kind == "radiograph":
            others.append(replace(part, kind="skipped", reason=RADIOGRAPH))
        else:
            others.append(part)
    cases = []
    for members in studies.values():
        traits = [read_part_traits(part) for part in members]
        match = match_channels(rules, traits, any_frame_of_reference=options.frame_of_reference == "any")
        used = set() if match.reason else set(match.members.values())
        if used:
            cases.append(ChannelCase(tuple(members[n] for n in match.members.values()), match.remark))
        fitting = [any(rule.fits(item) for rule in rules.values()) for item in traits]
        # Where none fits, all of the asked modalities tell what is missing.
        is_asked = [any(rule.modality in (None, item.modality) for rule in rules.values()) for item in traits]
        tells = fitting if any(fitting) else is_asked
        others += [_leave_out(part, match, n, is_candidate=tells[n]) for n, part in enumerate(members) if n not in used]
    return ChannelPlan(tuple(rules), tuple(sorted(cases, key=lambda case: case.parts[0].key)), tuple(others))


def _identify_study(part: SeriesPart, options: ConvertOptions) -> tuple[str, str]:
    """What the series of one case have in common; without patient and study, a frame of reference still tells."""
    first = part.first
    if not first.patient_id and not first.study_uid:
        return "", first.frame_of_reference or first.series_uid or str(first.path)
    return first.patient, first.study_uid if options.channels_of == "study" else ""


def _leave_out(part: SeriesPart, match: ChannelMatch, number: int, *, is_candidate: bool) -> SeriesPart:
    """A part that became no channel, with the reason."""
    if part.kind == "unreadable":
        return part
    if number in match.duplicates:
        reason = (
            f"fits the channel {match.duplicates[number]}, too, but is derived (ImageType), and an original is here"
        )
        return replace(part, kind="skipped", reason=reason)
    if match.reason and is_candidate:
        return replace(part, kind="unreadable", reason=f"no case: {match.reason}")
    return replace(part, kind="skipped", reason="fits the rule of no channel")
