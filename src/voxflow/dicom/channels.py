"""The channels of a case: the rules of ``convert.channels``, and the series of a study that they mean.

A rule says what a series must say of itself (modality, words of its description, contrast, sequence). Exactly one
series of a study must fit each channel; anything else is a reason, and no guess.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import combinations
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from voxflow.errors import join_names
from voxflow.findings import suggest
from voxflow.naming import check_channel_names

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from voxflow.dicom.traits import SeriesTraits

CHANNEL_MODALITIES = ("CT", "MR", "PT")
# Parts of ImageType (0008,0008) of what was computed from another series (PS3.3 C.8.13.3.1, C.8.16.1, vendors' own): no
# channel, unless its rule names the word.
COMPUTED = (
    *("ADC", "EADC", "FA", "TENSOR", "SUB", "SUBTRACTION", "MPR", "MIP", "MINIP", "MAX_IP", "MIN_IP", "MEAN_IP"),
    *("PROJECTION", "CPR", "REFORMATTED", "VRT", "PJN", "PJN3D", "LOCALIZER", "SCREEN"),
)
WAYS_OUT = (
    "let its rule say more (`description`, `not`, `contrast`, `plane`, `image_type`, `sequence`), or name the series "
    "of each case in a table (`cases`)"
)


def _split_words(value: Any) -> Any:
    """Words as one text, or as a list of texts."""
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
        raise ValueError("expected a word, or a list of words: [t1, mprage]")
    return tuple(word for text in texts for word in text.split())


def _check_range(value: tuple[float | None, float | None]) -> tuple[float | None, float | None]:
    lowest, highest = value
    if lowest is None and highest is None:
        raise ValueError("expected [lowest, highest], of which one may be null")
    if lowest is not None and highest is not None and lowest > highest:
        raise ValueError(f"expected [lowest, highest], received {lowest:g} above {highest:g}")
    return value


Rule = TypeVar("Rule")
Words = Annotated[tuple[str, ...], BeforeValidator(_split_words)]
Range = Annotated[tuple[float | None, float | None], AfterValidator(_check_range)]


class _Rule(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", serialize_by_alias=True)
    _example: ClassVar[str] = "{modality: MR, description: t1}"

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            raise ValueError(f"expected keys and values, such as {cls._example}")
        names = [field.alias or name for name, field in cls.model_fields.items()]
        unknown = [str(key) for key in value if key not in names]
        if unknown:
            raise ValueError(f"unknown key {unknown[0]!r}{suggest(unknown[0], names)}")
        if all(item is None for item in value.values()):
            raise ValueError(f"a rule without a word fits everything: it needs one of {', '.join(names)}")
        return value


class SequenceRule(_Rule):
    """How a series was acquired.

    Attributes:
        type: codes that ScanningSequence (0018,0020) holds: SE, IR, GR, EP, RM.
        variant: codes that SequenceVariant (0018,0021) holds, such as SK or MP.
        without: codes that neither of them holds; the key ``not``.
        echo_time_ms, inversion_time_ms, repetition_time_ms: lowest and highest value, null where one is open.
        b_value: of diffusion, s/mm².
    """

    _example: ClassVar[str] = "{type: SE, echo_time_ms: [5, 20]}"

    type: Words = ()
    variant: Words = ()
    without: Words = Field(default=(), alias="not")
    echo_time_ms: Range | None = None
    inversion_time_ms: Range | None = None
    repetition_time_ms: Range | None = None
    b_value: Range | None = None

    def fits(self, series: SeriesTraits) -> bool:
        """Whether a series was acquired like this; what it does not state does not fit."""
        codes = {*series.sequence, *series.variants}
        ranges = {
            "EchoTime": self.echo_time_ms,
            "InversionTime": self.inversion_time_ms,
            "RepetitionTime": self.repetition_time_ms,
            "DiffusionBValue": self.b_value,
        }
        return (
            {code.upper() for code in self.type} <= set(series.sequence)
            and {code.upper() for code in self.variant} <= set(series.variants)
            # Where nothing is stated, nothing is excluded either.
            and not (self.without and (not codes or codes & {code.upper() for code in self.without}))
            and all(_lies_within(series.numbers.get(keyword), limits) for keyword, limits in ranges.items() if limits)
        )


class ChannelRule(_Rule):
    """What a series must say of itself to be a channel.

    Attributes:
        modality: Modality (0008,0060): CT, MR or PT.
        description: words that all stand in SeriesDescription (0008,103E), upper and lower case alike. Where a series
            has none, ProtocolName (0018,1030) counts.
        without: words of which none stands there; the key ``not``.
        contrast: whether a contrast agent was given.
        plane: that its slices are nearest to: axial, sagittal or coronal.
        image_type: words that all stand in ImageType (0008,0008), such as ADC.
        sequence: how it was acquired.
        suffix: what the names of its files end in, where images are no DICOM.
    """

    modality: str | None = None
    description: Words = ()
    without: Words = Field(default=(), alias="not")
    contrast: bool | None = None
    plane: Literal["axial", "sagittal", "coronal"] | None = None
    image_type: Words = ()
    sequence: SequenceRule | None = None
    suffix: str | None = Field(default=None, min_length=1)

    @field_validator("modality")
    @classmethod
    def _known_modality(cls, value: str | None) -> str | None:
        usual = {"PET": "PT", "MRI": "MR", "MRT": "MR"}
        if value is None or value.upper() in CHANNEL_MODALITIES:
            return value and value.upper()
        hint = f"; did you mean '{usual[value.upper()]}'?" if value.upper() in usual else ""
        raise ValueError(f"unknown modality {value!r}{hint or '; known: ' + ', '.join(CHANNEL_MODALITIES)}")

    def fits(self, series: SeriesTraits) -> bool:
        """Whether a series fits, its contrast aside; none fits what says of files alone."""
        if self.suffix and self.model_fields_set <= {"suffix"}:
            return False
        words = {word.casefold() for word in (*self.description, *self.image_type)}
        image_type = {part for text in series.image_type for part in (text, *re.split(r"[\s_]+", text))}
        text = series.description or series.protocol
        return (
            self.modality in (None, series.modality)
            and self.plane in (None, series.plane)
            and all(holds_word(text, word) for word in self.description)
            and not any(holds_word(text, word) for word in self.without)
            and {word.upper() for word in self.image_type} <= image_type
            and not any(word in image_type and word.casefold() not in words for word in COMPUTED)
            and (self.sequence is None or self.sequence.fits(series))
        )

    def fits_contrast(self, series: SeriesTraits) -> bool:
        """Whether its contrast is as asked; of a series that contradicts itself it never is."""
        return self.contrast in (None, series.contrast)


def check_channels(rules: dict[str, Rule]) -> dict[str, Rule]:
    """Check the names of channels.

    Raises:
        ValueError: one can't be a channel's, or two are alike; see :func:`voxflow.naming.check_channel_names`.
    """
    check_channel_names(list(rules))
    suffixes = [rule.suffix.casefold() for rule in rules.values() if isinstance(rule, ChannelRule) and rule.suffix]
    if suffixes and (len(suffixes) < len(rules) or len(set(suffixes)) < len(suffixes)):
        raise ValueError("each channel needs a `suffix` of its own, or none has one")
    return rules


ChannelRules = Annotated[dict[str, ChannelRule], Field(min_length=1), AfterValidator(check_channels)]


@dataclass(frozen=True)
class ChannelMatch:
    """Which series are the channels of a case.

    Attributes:
        members: the place of each channel's series in the list, in the order of the rules; of the channels that one
            series fits, where ``reason`` says that there is no case.
        reason: why there is no case; empty where there is one.
        remark: what the user should know of the case.
        duplicates: places of series that would fit a channel, and are left out since they were derived (ImageType)
            and an original is there; with the channel's name.
    """

    members: dict[str, int]
    reason: str = ""
    remark: str = ""
    duplicates: dict[int, str] = field(default_factory=dict)


def match_channels(
    rules: Mapping[str, ChannelRule], series: Sequence[SeriesTraits], *, any_frame_of_reference: bool = False
) -> ChannelMatch:
    """Find the series of each channel among those of one study.

    Args:
        rules: by the channel's name, in the model's order.
        series: of the study.
        any_frame_of_reference: take channels of several frames of reference, where the user says that they fit.

    Example:
        >>> from voxflow.dicom.traits import SeriesTraits
        >>> rules = {"T1": ChannelRule(description="t1"), "T2": ChannelRule(description="t2")}
        >>> series = [SeriesTraits(description="AX T2 TSE", series_number="4"), SeriesTraits(description="t1_mprage")]
        >>> match_channels(rules, series).members
        {'T1': 1, 'T2': 0}
        >>> match_channels(rules, series[:1]).reason
        'lacks the channel T1 of T1, T2: no series fits its rule'
    """
    members: dict[str, int] = {}
    duplicates: dict[int, str] = {}
    problems: list[str] = []
    for channel, rule in rules.items():
        fitting = [n for n, item in enumerate(series) if rule.fits(item)]
        usable = [n for n in fitting if not series[n].fault and rule.fits_contrast(series[n])]
        originals = [n for n in usable if "DERIVED" not in series[n].image_type]
        duplicates |= {n: channel for n in usable if len(originals) == 1 and n not in originals}
        usable = originals if len(originals) == 1 else usable
        if len(usable) == 1:
            members[channel] = usable[0]
        elif usable:
            names = join_names([item.name for item in sorted((series[n] for n in usable), key=_sort_by_number)])
            problems.append(f"{len(usable)} series fit the channel {channel} ({names}): {WAYS_OUT}")
        else:
            why = _explain_missing(rule, [series[n] for n in fitting], series)
            problems.append(f"lacks the channel {channel} of {', '.join(rules)}: {why}")
    problems += _find_shared(members, series)
    frames = {name: series[n].frame_of_reference for name, n in members.items()}
    if not problems and not any_frame_of_reference:
        problems = compare_frames(frames)
    is_stated = any_frame_of_reference or all(frames.values()) or len(frames) == 1
    remark = "" if is_stated else "not all channels state a frame of reference (0020,0052): taken as they lie"
    duplicates = {n: channel for n, channel in duplicates.items() if n not in members.values()}
    return ChannelMatch(members, "; ".join(problems), remark, duplicates)


def _sort_by_number(series: SeriesTraits) -> tuple[int, str]:
    return len(series.series_number), series.series_number


def _find_shared(members: Mapping[str, int], series: Sequence[SeriesTraits]) -> list[str]:
    """What is wrong where one series fits two channels."""
    return [
        f"{series[members[first]].name} fits the channels {first} and {second}: their rules must exclude each other"
        for first, second in combinations(members, 2)
        if members[first] == members[second]
    ]


def holds_word(text: str, word: str) -> bool:
    """Whether a word stands in a description, upper and lower case alike.

    A hyphen, a blank and an underscore are the same. A word may be part of a longer one (``t1`` in AxT1W), but not one
    of two letters (``ir`` in FLAIR), and a number not of a longer number (``t1`` in T10).

    Example:
        >>> holds_word("AxT1W_SE", "t1"), holds_word("T2 FLAIR", "ir"), holds_word("non contrast", "Non-Contrast")
        (True, False, True)
    """
    parts = [re.escape(part) for part in re.split(r"[-_]+", word.casefold()) if part]
    if not parts:
        return word in text
    pattern = r"[-_\s]*".join(parts)
    if len(word) <= 2 and word.isalpha():
        pattern = rf"(?<![^\W\d_]){pattern}(?![^\W\d_])"
    before = r"(?<!\d)" if word[0].isdigit() else ""
    after = r"(?!\d)" if word[-1].isdigit() else ""
    return re.search(before + pattern + after, text.casefold()) is not None


def _explain_missing(rule: ChannelRule, fitting: Sequence[SeriesTraits], series: Sequence[SeriesTraits]) -> str:
    """Why no series can be a channel, by those that fit it nearly."""
    damaged = [item for item in fitting if item.fault]
    if damaged:
        return f"{damaged[0].name} can't be used: {damaged[0].fault}"
    unclear = [item for item in fitting if rule.contrast is not None and item.contrast is None]
    if unclear:
        return f"{unclear[0].name} contradicts itself about contrast, by ContrastBolusAgent (0018,0010) and description"
    of_any_modality = rule.model_copy(update={"modality": None})
    others = [item for item in series if of_any_modality.fits(item)]
    if others and not fitting and rule.modality and of_any_modality.model_dump(exclude_defaults=True):
        names = join_names([f"{item.name} ({item.modality})" for item in sorted(others, key=_sort_by_number)])
        return f"its rule asks for {rule.modality}; all else fits {names}"
    return "no series fits its rule"


def compare_frames(frames: Mapping[str, str]) -> list[str]:
    """Say what is wrong with channels whose frames of reference differ; nothing where they may lie in one.

    Args:
        frames: FrameOfReferenceUID (0020,0052) by channel; empty where none is stated.
    """
    first, *others = frames
    apart = [name for name in others if frames[name] and frames[first] and frames[name] != frames[first]]
    if not apart:
        return []
    return [
        f"{join_names(apart)} and {first} have different frames of reference (0020,0052), so nothing says how they lie "
        "to each other: register them, or set `frame_of_reference: any` where their positions fit as they are"
    ]


def _lies_within(value: float | None, limits: tuple[float | None, float | None]) -> bool:
    lowest, highest = limits
    return value is not None and (lowest is None or value >= lowest) and (highest is None or value <= highest)
