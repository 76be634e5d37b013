"""The file case_form.json: what makes a case more than one image with classes that exclude each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from voxflow.errors import DataError
from voxflow.files import read_text, write_json
from voxflow.layouts import IGNORE
from voxflow.naming import check_channel_names, fold_name
from voxflow.texts import parse_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

CASE_FORM = "case_form.json"
CONVERSION = "convert"  # the key


def write_case_form(
    folder: Path,
    channels: Sequence[str],
    regions: Mapping[str, Sequence[int]],
    rules: Mapping[str, Mapping[str, Any]] | None = None,
    ignore: int | None = None,
    *,
    conversion: Mapping[str, Any] | None = None,
) -> None:
    """Write the form beside labels.json, where one is needed.

    Args:
        folder: the conversion's target.
        channels: names of the channels, in the model's order; none of a single one.
        regions: the label values of each class, where a voxel may belong to several; else none.
        rules: by channel, how its series is chosen among those of a study.
        ignore: the label value of voxels that nobody labelled; None where there is none.
        conversion: the options that a model must know to make the same images of new DICOM.
    """
    form = {
        "channels": list(channels),
        "rules": {name: dict(rule) for name, rule in (rules or {}).items()},
        "regions": {name: list(values) for name, values in regions.items()},
        IGNORE: ignore,
        CONVERSION: dict(conversion or {}),
    }
    content = {key: value for key, value in form.items() if value}
    if content:
        write_json(folder / CASE_FORM, content)


def read_regions(folder: Path) -> dict[str, tuple[int, ...]]:
    """Read the label values of each region.

    Args:
        folder: that holds labels.json.

    Returns:
        Values by name, in the order of the model's channels; none where classes exclude each other.

    Raises:
        DataError: the file has another form.
    """
    try:
        regions = _read_form(folder).get("regions", {})
        return {str(name): tuple(int(value) for value in values) for name, values in regions.items()}
    except (AttributeError, TypeError, ValueError) as error:
        expected = 'expected label values by name: {"tumour": [1, 2]}'
        raise DataError(expected, path=folder / CASE_FORM, where="regions") from error


def read_channel_rules(folder: Path) -> dict[str, dict[str, Any]]:
    """Read the channels of each case, and by which rule each one's series was chosen.

    Args:
        folder: that holds labels.json.

    Returns:
        A rule by name, in the order of the model's channels, empty where the channels were files; none for cases of one
        image.

    Raises:
        DataError: the file has another form.
    """
    form = _read_form(folder)
    try:
        names, rules = [str(name) for name in form.get("channels", [])], form.get("rules", {})
        channels = {name: dict(rules.get(name, {})) for name in names}
    except (AttributeError, TypeError, ValueError) as error:
        raise DataError("expected names of channels, and rules by name", path=folder / CASE_FORM) from error
    try:
        check_channel_names(names)
    except ValueError as error:
        message = f"{error}; run the stage convert again"
        raise DataError(message, path=folder / CASE_FORM, where="channels") from error
    return channels


def describe_reordered_channels(names: Sequence[str], folder: Path) -> str:
    """Say that cases have been converted with the same channels in another order, which DVC does not see.

    Args:
        names: of the channels, in the order that params.yaml has now.
        folder: that holds labels.json.

    Returns:
        What is wrong and what would be right; empty where the order is the same, or the channels are others.
    """
    converted = list(read_channel_rules(folder)) if len(names) > 1 else []
    before, now = [[fold_name(name) for name in order] for order in (converted, names)]
    if before == now or sorted(before) != sorted(now):
        return ""
    return f"the order is {', '.join(names)}; the cases were converted in the order {', '.join(converted)}"


def read_ignore(folder: Path) -> int | None:
    """Read the label value of voxels that nobody labelled.

    Args:
        folder: that holds labels.json.

    Returns:
        None where every voxel is labelled.

    Raises:
        DataError: the file has another form.
    """
    value = _read_form(folder).get(IGNORE)
    if value is not None and (type(value) is not int or value < 1):
        raise DataError("expected a label value above 0, such as 255", path=folder / CASE_FORM, where=IGNORE)
    return value


def read_conversion(folder: Path) -> dict[str, Any]:
    """Read the options that a model must know to make the same images of new DICOM.

    Args:
        folder: that holds labels.json.

    Returns:
        As ``convert`` in params.yaml has them; none where all that matters are the defaults.

    Raises:
        DataError: the file has another form.
    """
    options = _read_form(folder).get(CONVERSION, {})
    if not isinstance(options, dict):
        raise DataError("expected options of conversion", path=folder / CASE_FORM, where=CONVERSION)
    return options


def find_channel_modalities(rules: Mapping[str, Mapping[str, Any]], modality: str) -> dict[str, str]:
    """Tell each channel's modality: by its rule, by that of all cases, or for a CT by its name, as nnU-Net does.

    Args:
        rules: by channel, of :func:`read_channel_rules`.
        modality: of the cases; that of cases of several is no channel's.

    Example:
        >>> find_channel_modalities({"CT": {}, "PET": {"modality": "PT"}}, "CT;PT")
        {'CT': 'CT', 'PET': 'PT'}
    """
    only = "" if ";" in modality else modality
    return {
        name: str(rule.get("modality") or only or ("CT" if name.upper() == "CT" else ""))
        for name, rule in rules.items()
    }


def _read_form(folder: Path) -> dict[str, Any]:
    """The content of the file; nothing where there is none."""
    path = folder / CASE_FORM
    content = parse_json(read_text(path), path) if path.is_file() else {}
    if not isinstance(content, dict):
        raise DataError("expected an object", path=path)
    return content
