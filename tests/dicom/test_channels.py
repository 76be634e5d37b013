"""Which series of a study is which channel of a case, by the rules of ``convert.channels``."""

from __future__ import annotations

import re
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError
from pydicom.dataset import Dataset

from voxflow.dicom.channels import ChannelRules, holds_word, match_channels
from voxflow.dicom.traits import SeriesTraits, judge_contrast

BRAIN = {
    "T1": {"modality": "MR", "description": "t1", "contrast": False},
    "T1c": {"modality": "MR", "description": "t1", "contrast": True},
    "T2": {"modality": "MR", "description": "t2", "not": "flair"},
    "FLAIR": {"modality": "MR", "description": "flair"},
}
PARSER = TypeAdapter[Any](ChannelRules)


def series(number: int, description: str = "", **more: Any) -> SeriesTraits:
    dataset = Dataset()
    dataset.SeriesNumber, dataset.SeriesDescription = number, description
    attributes = {"Modality": "MR", "FrameOfReferenceUID": "1.2"} | more
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return SeriesTraits.read(dataset, frame_of_reference=str(dataset.FrameOfReferenceUID))


STUDY = [
    series(9, "Ax FLAIR T2"),
    series(3, "t1_mprage_pre"),
    series(7, "AxT1W post", ContrastBolusAgent="Gadovist"),
    series(5, "T2W_TSE"),
]
OTHER_FRAME = series(7, "T1", ContrastBolusAgent="Gd", FrameOfReferenceUID="1.3")


def test_the_channels_stand_in_the_order_of_the_rules() -> None:
    match = match_channels(PARSER.validate_python(BRAIN), STUDY)
    assert list(match.members.items()) == [("T1", 1), ("T1c", 2), ("T2", 3), ("FLAIR", 0)]
    assert not match.reason
    assert not match.remark


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        (STUDY[1:], "lacks the channel FLAIR of T1, T1c, T2, FLAIR: no series fits its rule"),
        ([*STUDY, series(11, "t2 sag")], r"2 series fit the channel T2 \(series 5, series 11\): let its rule say more"),
        (
            [*STUDY[:2], OTHER_FRAME, STUDY[3]],
            "T1c and T1 have different",
        ),
        ([STUDY[0], series(3, "t1 pre", ContrastBolusAgent="Gd"), *STUDY[2:]], "series 3 contradicts itself"),
        ([STUDY[0], series(3, "t1 t2"), *STUDY[2:3]], "series 3 fits the channels T1 and T2: their rules must exclude"),
    ],
    ids=["missing", "several", "other-frame", "contradiction", "shared"],
)
def test_what_is_no_case_has_a_reason(changed: list[SeriesTraits], reason: str) -> None:
    match = match_channels(PARSER.validate_python(BRAIN), changed)
    assert re.search(reason, match.reason)
    # Descriptions may hold names.
    assert "mprage" not in match.reason
    assert "TSE" not in match.reason


def test_a_damaged_series_is_the_reason_of_its_channel() -> None:
    damaged = SeriesTraits(modality="MR", description="flair", series_number="9", fault="cut off")
    match = match_channels(PARSER.validate_python(BRAIN), [damaged, *STUDY[1:]])
    assert match.reason == "lacks the channel FLAIR of T1, T1c, T2, FLAIR: series 9 can't be used: cut off"


def test_what_was_computed_from_another_series_is_no_channel_unless_its_rule_says_so() -> None:
    t2 = series(2, "t2 tse", ImageType=["ORIGINAL", "PRIMARY", "M"])
    derived = [
        series(3, "t2 tse cor", ImageType=["DERIVED", "SECONDARY", "MPR", "CSA MPR"]),
        series(4, "t2 tse", ImageType=["DERIVED", "PRIMARY", "M", "DIS2D"]),
        series(6, "dwi adc t2", ImageType=["DERIVED", "PRIMARY", "ADC", "NORM"]),
    ]
    rules = PARSER.validate_python({"T2": {"description": "t2"}, "ADC": {"description": "adc"}})
    match = match_channels(rules, [*derived, t2])
    assert match.members == {"T2": 3, "ADC": 2}
    assert match.duplicates == {1: "T2"}
    # A derived one alone is a channel: research data often is.
    assert match_channels(rules, derived[1:]).members == {"T2": 0, "ADC": 1}


def test_a_protocol_counts_only_where_nothing_is_described() -> None:
    rules = PARSER.validate_python({"T1": {"description": "t1"}})
    assert match_channels(rules, [series(1, "", ProtocolName="T1 brain")]).members == {"T1": 0}
    assert not match_channels(rules, [series(1, "FLAIR", ProtocolName="T1 brain")]).members


@pytest.mark.parametrize(
    ("rule", "numbers"),
    [
        ({"type": "IR", "echo_time_ms": [60, None]}, {1}),
        ({"type": ["SE"], "not": "IR"}, {0}),
        ({"inversion_time_ms": [2000, 3000]}, {1}),
        ({"variant": "mp"}, {2}),
        ({"repetition_time_ms": [None, 30]}, {2}),
    ],
)
def test_a_sequence_is_told_by_what_was_measured(rule: dict[str, Any], numbers: set[int]) -> None:
    study = [
        series(1, ScanningSequence="SE", EchoTime=90, RepetitionTime=4000),
        series(2, ScanningSequence=["SE", "IR"], EchoTime=120, InversionTime=2500, RepetitionTime=9000),
        series(3, ScanningSequence="GR", SequenceVariant=["SK", "MP"], EchoTime=3, RepetitionTime=8),
    ]
    rules = PARSER.validate_python({"X": {"sequence": rule}})
    assert set(match_channels(rules, study).members.values()) == numbers


def test_frames_of_reference_that_differ_are_taken_where_the_user_says_so() -> None:
    rules = PARSER.validate_python({"CT": {"modality": "CT"}, "PET": {"modality": "PT"}})
    study = [series(1, Modality="CT"), series(2, Modality="PT", FrameOfReferenceUID="9")]
    assert "different frames of reference" in match_channels(rules, study).reason
    assert not match_channels(rules, study, any_frame_of_reference=True).reason
    unstated = [study[0], series(2, Modality="PT", FrameOfReferenceUID="")]
    assert "taken as they lie" in match_channels(rules, unstated).remark


@pytest.mark.parametrize(
    ("text", "has_agent", "contrast"),
    [
        ("T1 MPRAGE", False, False),
        ("T1 MPRAGE", True, True),
        ("t1_tse_tra_KM", False, True),
        ("AX T1 +C", False, True),
        ("T1 C+ SAG", False, True),
        ("Ax T1 W/O CONTRAST", False, False),
        ("abdomen non-contrast", False, False),
        ("T1 pre and post Gd", False, None),
        ("T1 pre", True, None),
        ("T2 POST FOSSA", False, False),
        ("PHASE CONTRAST", False, False),
        ("T1ce", False, True),
        ("C-SPINE T1", False, False),
        ("SPACE T1", False, False),
    ],
)
def test_contrast_is_told_by_agent_and_usual_words(text: str, has_agent: bool, contrast: bool | None) -> None:
    assert judge_contrast(text, has_agent=has_agent) is contrast


@pytest.mark.parametrize(
    ("text", "word", "is_there"),
    [
        ("T10 map", "t1", False),
        ("ep2d_diff_1000", "100", False),
        ("FLAIR", "ir", False),
        ("IR_SE", "ir", True),
        ("t1-mprage", "T1_MPRAGE", True),
        ("Schädel T1", "schädel", True),
        ("T1 (post)", "(post", True),
    ],
)
def test_words(text: str, word: str, is_there: bool) -> None:
    assert holds_word(text, word) is is_there


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"T1": {"descripton": "t1"}}, "unknown key 'descripton'; did you mean 'description'?"),
        ({"T1": {}}, "fits everything"),
        ({"T1": "t1"}, "expected keys and values, such as {modality: MR, description: t1}"),
        ({"T1": True}, "expected keys and values, such as {modality: MR, description: t1}"),
        ({"T1": {"sequence": "SE"}}, "expected keys and values, such as {type: SE, echo_time_ms: [5, 20]}"),
        ({"PET": {"modality": "PET"}}, "did you mean 'PT'"),
        ({"T1": {"description": "t1"}, "t1": {"description": "x"}}, "differ in upper and lower case alone"),
        ({"T1": {"sequence": {"echo_time_ms": [9, 3]}}}, "9 above 3"),
        ({"T1": {"sequence": {"echo_time": [3, 9]}}}, "did you mean 'echo_time_ms'"),
        ({"T1": {"description": [1]}}, "expected a word"),
        ({}, "at least 1"),
        ({"a\nb": {"description": "t1"}}, "printable"),
        ({"T1;T2": {"description": "t1"}}, "none of ; / \\, without blanks around them, got 'T1;T2'"),
        ({"T1/T2": {"description": "t1"}}, "got 'T1/T2'"),
        ({"T1\\T2": {"description": "t1"}}, "got 'T1\\\\T2'"),
        ({" T1": {"description": "t1"}}, "got ' T1'"),
        ({"": {"description": "t1"}}, "got ''"),
        ({"u\u0308": {"description": "t1"}, "\u00fc": {"description": "x"}}, "differ in upper and lower case alone"),
    ],
)
def test_a_wrong_rule_is_told_with_what_would_be_right(rules: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(message)):
        PARSER.validate_python(rules)


def test_rules_survive_being_written_and_read() -> None:
    rules = PARSER.validate_python(BRAIN)
    assert PARSER.validate_python(PARSER.dump_python(rules, mode="json")) == rules
