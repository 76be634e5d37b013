"""What a series says of itself, as far as the rules of ``convert.channels`` ask: words, contrast, sequence, numbers.

Texts of DICOM may hold names, so they are compared here and never shown: a series is named by its number.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from voxflow.dicom.enhanced import find_functional_group
from voxflow.dicom.headers import PARSE_ERRORS, read_dataset

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from voxflow.dicom.group import SeriesPart
    from voxflow.dicom.headers import DicomAttributes

TRAIT_TAGS = (
    "Modality",
    "SeriesNumber",
    "SeriesDescription",
    "ProtocolName",
    "ImageType",
    "ContrastBolusAgent",
    "ContrastBolusAgentSequence",
    "ScanningSequence",
    "SequenceVariant",
    "EchoTime",
    "InversionTime",
    "RepetitionTime",
    "DiffusionBValue",
    "ImageOrientationPatient",
)
PLANES = ("sagittal", "coronal", "axial")
# Numbers of a frame of an enhanced object: the functional group, and the keyword there (PS3.3 C.8.13.5).
_FRAME_NUMBERS = {
    "EchoTime": ("MREchoSequence", "EffectiveEchoTime"),
    "InversionTime": ("MRModifierSequence", "InversionTimes"),
    "RepetitionTime": ("MRTimingAndRelatedParametersSequence", "RepetitionTime"),
    "DiffusionBValue": ("MRDiffusionSequence", "DiffusionBValue"),
}
_AGENT = r"(?:contrast\w*|gd|gad\w*|km|ce|c)"
_WITHOUT_CONTRAST = re.compile(
    rf"(?<!\w)(?:pre(?:[ -]?{_AGENT})?|(?:no|non|w/?o|without|ohne|sans)[ -]*(?:iv )?{_AGENT}|w/?o|native?|plain"
    r"|unenhanced|-c|c-)(?!\w)"
)
# "post" may be posterior, or after an operation; phase contrast needs no agent.
_WITH_CONTRAST = re.compile(
    r"(?<!\w)(?:post(?! ?(?:fossa|op|proc|rt|treat|therap|surg))|post[ -]?(?:gd|gad\w*|contrast)|t1[ -]?(?:c|ce|gd)"
    r"|(?<!phase )contrast\w*|gd|gad\w*|km|d?ce|c\+|\+ ?(?:c|gd|gad\w*|km))(?!\w)"
)
_NO_AGENT = ("", "0", "no", "none", "n/a", "na", "without", "no contrast")


@dataclass(frozen=True)
class SeriesTraits:
    """What one volume of a series says of itself.

    Attributes:
        modality: Modality (0008,0060).
        description: SeriesDescription (0008,103E).
        protocol: ProtocolName (0018,1030).
        image_type: ImageType (0008,0008), upper case.
        contrast: whether an agent was given: by ContrastBolusAgent (0018,0010) and the usual words of the description;
            None where these contradict each other.
        sequence: ScanningSequence (0018,0020), such as SE or IR.
        variants: SequenceVariant (0018,0021).
        numbers: EchoTime, InversionTime, RepetitionTime (ms) and DiffusionBValue (s/mm²) by keyword, as far as stated.
        series_number: SeriesNumber (0020,0011); empty where it is missing or no number.
        plane: "axial", "sagittal" or "coronal", to which its slices are nearest; empty where that is not stated.
        volume: its number in the series, from 1.
        frame_of_reference: FrameOfReferenceUID (0020,0052).
        fault: why the volume can't be used; empty where it can.
    """

    modality: str = ""
    description: str = ""
    protocol: str = ""
    image_type: tuple[str, ...] = ()
    contrast: bool | None = False
    sequence: tuple[str, ...] = ()
    variants: tuple[str, ...] = ()
    numbers: dict[str, float] = field(default_factory=dict)
    series_number: str = ""
    plane: str = ""
    volume: int = 1
    frame_of_reference: str = ""
    fault: str = ""

    @property
    def name(self) -> str:
        """How reasons call it, without any text of DICOM's.

        Example:
            >>> SeriesTraits(series_number="7").name, SeriesTraits(series_number="7", volume=2).name
            ('series 7', 'volume 2 of series 7')
        """
        series = f"series {self.series_number}" if self.series_number else "a series without a number"
        return series if self.volume == 1 else f"volume {self.volume} of {series}"

    @classmethod
    def read(cls, attributes: DicomAttributes, **more: Any) -> SeriesTraits:
        """Read what a data set, or an archive's answer about a series, says.

        Args:
            attributes: of one object of the series, by keyword.
            more: fields that are known already; they count in place of what would be read.
        """
        texts = {keyword: _read_text(attributes, keyword) for keyword in ("SeriesDescription", "ProtocolName")}
        number = _read_text(attributes, "SeriesNumber")
        fields = {
            "modality": _read_text(attributes, "Modality").upper(),
            "description": texts["SeriesDescription"],
            "protocol": texts["ProtocolName"],
            "image_type": _read_codes(attributes, "ImageType"),
            "contrast": judge_contrast(
                texts["SeriesDescription"] or texts["ProtocolName"], has_agent=_has_agent(attributes)
            ),
            "sequence": _read_codes(attributes, "ScanningSequence"),
            "variants": _read_codes(attributes, "SequenceVariant"),
            "numbers": _read_numbers(attributes),
            "plane": _name_plane(_list_values(attributes, "ImageOrientationPatient")),
            "series_number": number if re.fullmatch(r"\d{1,12}", number) else "",
        }
        return cls(**{**fields, **more})


def read_part_traits(part: SeriesPart) -> SeriesTraits:
    """Read what a volume says of itself, from one of its objects; nothing where that can't be read."""
    first = part.first
    more: dict[str, Any] = {
        "volume": part.number,
        "frame_of_reference": first.frame_of_reference,
        "modality": first.modality,
        "fault": part.reason if part.kind == "unreadable" else "",
    }
    try:
        dataset = read_dataset(first.path, tags=None if first.is_multiframe else list(TRAIT_TAGS))
        traits = SeriesTraits.read(dataset, **more)
        if first.is_multiframe:
            frame = part.frames[0] if part.frames else 0
            more["numbers"] = traits.numbers | _read_frame_numbers(dataset, frame)
            orientation = find_functional_group(dataset, frame, "PlaneOrientationSequence")
            if orientation is not None:
                more["plane"] = _name_plane(_list_values(orientation, "ImageOrientationPatient"))
            more["sequence"] = traits.sequence or _read_frame_sequence(dataset, frame)
            traits = SeriesTraits.read(dataset, **more)
    except PARSE_ERRORS:
        return SeriesTraits(**more)
    return traits


def judge_contrast(text: str, *, has_agent: bool) -> bool | None:
    """Tell whether a contrast agent was given; None where the text and the agent contradict each other.

    Args:
        text: SeriesDescription (0008,103E).
        has_agent: whether the object names an agent.

    Example:
        >>> judge_contrast("AX T1 POST GAD", has_agent=False), judge_contrast("t1_mprage_pre", has_agent=False)
        (True, False)
        >>> judge_contrast("T1 pre", has_agent=True) is None
        True
    """
    words = re.sub(r"[_\s,;()]+", " ", text.casefold())
    rest = _WITHOUT_CONTRAST.sub(" ", words)
    says_without, says_with = rest != words, bool(_WITH_CONTRAST.search(rest))
    if says_without and (says_with or has_agent):
        return None
    return says_with or has_agent


def _name_plane(orientation: list[Any]) -> str:
    """The plane that slices are nearest to, by the largest component of their normal in LPS."""
    try:
        rows, columns = np.array(orientation, np.float64).reshape(2, 3)
    except (TypeError, ValueError):
        return ""
    normal = np.abs(np.cross(rows, columns))
    return PLANES[int(normal.argmax())] if np.isfinite(normal).all() and normal.any() else ""


def _has_agent(attributes: DicomAttributes) -> bool:
    agent = _read_text(attributes, "ContrastBolusAgent").casefold()
    return agent not in _NO_AGENT or bool(attributes.get("ContrastBolusAgentSequence"))


def _read_value(attributes: DicomAttributes, keyword: str) -> Any:
    try:
        return attributes.get(keyword)
    except PARSE_ERRORS:
        return None


def _read_text(attributes: DicomAttributes, keyword: str) -> str:
    value = _read_value(attributes, keyword)
    return "" if value is None else str(value).strip()


def _list_values(attributes: DicomAttributes, keyword: str) -> list[Any]:
    value = _read_value(attributes, keyword)
    is_list = hasattr(value, "__iter__") and not isinstance(value, str | bytes)
    return [item for item in (value if is_list else [value]) if item not in (None, "")]


def _read_codes(attributes: DicomAttributes, keyword: str) -> tuple[str, ...]:
    return tuple(str(value).strip().upper() for value in _list_values(attributes, keyword))


def _read_numbers(attributes: DicomAttributes) -> dict[str, float]:
    numbers = {}
    for keyword in _FRAME_NUMBERS:
        for value in _list_values(attributes, keyword)[:1]:
            try:
                numbers[keyword] = float(value)
            except (TypeError, ValueError):
                continue
    return numbers


def _read_frame_numbers(dataset: Dataset, frame: int) -> dict[str, float]:
    """The numbers of one frame of an enhanced object."""
    numbers = {}
    for keyword, (group_name, name) in _FRAME_NUMBERS.items():
        group = find_functional_group(dataset, frame, group_name)
        for value in _list_values(group, name)[:1] if group is not None else ():
            numbers[keyword] = float(value)
    return numbers


def _read_frame_sequence(dataset: Dataset, frame: int) -> tuple[str, ...]:
    """ScanningSequence of an enhanced object, which says the same by other attributes (PS3.3 C.8.13)."""
    echo = {"SPIN": ("SE",), "GRADIENT": ("GR",), "BOTH": ("SE", "GR")}.get(
        _read_text(dataset, "EchoPulseSequence"), ()
    )
    modifier = find_functional_group(dataset, frame, "MRModifierSequence")
    is_inverted = modifier is not None and _read_text(modifier, "InversionRecovery") == "YES"
    is_planar = _read_text(dataset, "EchoPlanarPulseSequence") == "YES"
    return (*echo, *(["IR"] if is_inverted else []), *(["EP"] if is_planar else []))
