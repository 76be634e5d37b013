"""Reads nnU-Net's dataset.json: channels, classes, regions. TotalSegmentator's folders have one, too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from voxflow.adopt.plans import read_object, require_value
from voxflow.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

BACKGROUND, IGNORE = "background", "ignore"


@dataclass(frozen=True)
class NnunetLabels:
    """What a network of nnU-Net takes and answers.

    Attributes:
        channels: names of the images of a case, in order.
        names: of each channel of the answer.
        regions: the label values of each, where they overlap; else empty.
        region_values: the value that each region writes, one after the other.
        file_ending: of images and masks, such as ".nii.gz".
    """

    channels: tuple[str, ...]
    names: tuple[str, ...]
    regions: tuple[tuple[int, ...], ...]
    region_values: tuple[int, ...]
    file_ending: str

    @property
    def values(self) -> tuple[int, ...]:
        """The label values of a mask, without the background."""
        if self.regions:
            return tuple(sorted({value for region in self.regions for value in region} - {0}))
        return tuple(range(1, len(self.names)))


def read_labels(path: Path) -> NnunetLabels:
    """Read a dataset.json.

    Raises:
        DataError: it is damaged, or its labels are none that nnU-Net trains with.
    """
    content = read_object(path)
    key = "channel_names" if "channel_names" in content else "modality"
    names = require_value(content, key, dict, path, key)
    expected = [str(number) for number in range(len(names))]
    if not names or sorted(names, key=_as_number) != expected:
        raise DataError(f"channels are numbered from 0, received {', '.join(names)}", path=path, where=key)
    channels = tuple(require_value(names, number, str, path, f"{key}.{number}") for number in expected)
    labels = dict(require_value(content, "labels", dict, path, "labels"))
    ending = require_value({"file_ending": ".nii.gz", **content}, "file_ending", str, path, "file_ending")
    values = {name: _read_values(name, value, path) for name, value in labels.items()}
    if values.get(BACKGROUND) != (0,):
        raise DataError("background is 0", path=path, where=f"labels.{BACKGROUND}")
    values.pop(IGNORE, None)
    if any(isinstance(value, list) and len(value) > 1 for name, value in labels.items() if name != IGNORE):
        return _read_regions(content, values, channels, ending, path)
    by_value = sorted((value[0], name) for name, value in values.items())
    if [value for value, _ in by_value] != list(range(len(by_value))):
        message = f"values of classes are 0, 1, 2 and so on, received {[value for value, _ in by_value]}"
        raise DataError(message, path=path, where="labels")
    return NnunetLabels(channels, tuple(name for _, name in by_value), (), (), ending)


def _read_regions(
    content: dict[str, Any],
    values: dict[str, tuple[int, ...]],
    channels: tuple[str, ...],
    ending: str,
    path: Path,
) -> NnunetLabels:
    regions = {name: members for name, members in values.items() if set(members) != {0}}
    order = require_value(content, "regions_class_order", list, path, "regions_class_order")
    if len(order) != len(regions) or not all(_is_label(value) for value in order):
        message = f"needs a label value for each of {len(regions)} regions, received {order}"
        raise DataError(message, path=path, where="regions_class_order")
    return NnunetLabels(channels, tuple(regions), tuple(regions.values()), tuple(order), ending)


def _read_values(name: str, value: Any, path: Path) -> tuple[int, ...]:
    members = value if isinstance(value, list) else [value]
    if not members or not all(_is_label(member) for member in members):
        message = f"needs a label value, or a list of such, from 0 to 65535, received {value!r}"
        raise DataError(message, path=path, where=f"labels.{name}")
    return tuple(members)


def _is_label(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 16


def _as_number(text: str) -> tuple[int, str]:
    return (int(text), "") if text.isdecimal() else (1 << 30, text)
